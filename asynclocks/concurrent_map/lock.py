"""The one short lock of a ConcurrentMap: a token in a list, and what is left to whoever is inside.

Taking the token is one step of the interpreter's (``del``), giving it back another (``+=``); a lock of the threads'
takes more than twice as long, and a write to the map little else. Who finds no token looks whether this very thread is
inside: a key's own ``__eq__``, the collector or a signal handler may have interrupted it there. Then it goes on, as
with a re-entrant lock. Else it leaves a bell in `_deferred` and sleeps until somebody leaves.

Whoever is inside has `_in_map` in its frame. It is set right before the ``del`` and taken back right before the
``+=``, because nothing can interrupt a thread there: CPython looks for signals and garbage where functions begin,
where calls end and where loops turn (3.11 besides where it allocates). So an interrupted frame has the mark if and
only if it has the token, and nothing need be known of the thread. Neither is a call: not even an exception that a
signal handler raises (Ctrl-C) comes between the ``del`` and the ``try`` behind it, and 3.11, which allocates for every
call that it traces, allocates for none here. Mark and ``+=`` share a line, so that no debugger stops between
them. See docs/decisions/a-maps-lock-is-a-token.md.
"""

from __future__ import annotations

import sys
from _thread import LockType, allocate_lock
from collections.abc import Callable, Hashable
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol, TypeVar, cast
from weakref import ref

from asynclocks._engine.guards import give_back
from asynclocks._engine.synchronizer import GRANTED, RELEASED, WITHDRAWN, QueuedSynchronizer, Ticket
from asynclocks._forks import tell_in_child
from asynclocks.backends.seam import uninterrupted
from asynclocks.concurrent_map.keys import LoneHold

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R")

MOMENT = 0.1  # s


class TableItem(Protocol):
    """What can stand in the table of held keys: a key's line, or what holds a key and met nobody."""

    @property
    def key(self) -> Any: ...
    @property
    def _idle(self) -> bool: ...


class LockedDict(dict[K, V]):
    """A dict with a lock, and with a table of the keys that somebody holds."""

    __slots__ = ("__weakref__", "_deferred", "_held", "_owner", "_token")

    def __init__(self, items: Any = (), /) -> None:
        super().__init__(items)
        self._token: list[None] = [None]  # empty while somebody is inside
        # The table. A key's line, or the entry that met nobody there: see `keys`.
        self._held: dict[K, Any] = {}
        self._owner: Any = _nobody  # of the last entry: a weak reference to its task
        # What let go, for whoever leaves the lock to clear away; and the bells of those who want to get in.
        self._deferred: list[TableItem | LockType] = []
        tell_in_child(self)

    @uninterrupted
    def _inside(self, change: Callable[..., R], *args: Any) -> R:
        """Do this inside the lock."""
        token = self._token
        while True:
            _in_map: Any = self
            try:
                del token[0]
                break
            except IndexError:
                _in_map = None
            if self._is_inside():
                return change(*args)
            self._wait()
        try:
            return change(*args)
        finally:
            token += (_in_map := (None,))
            if self._deferred:
                self._catch_up()

    # Holds that meet nobody.
    @uninterrupted
    def _stand_alone(self, hold: LoneHold) -> bool:
        """Let this hold its key, without a line. False: the key has a line, or somebody is inside the lock."""
        token = self._token
        _in_map: Any = self
        try:
            del token[0]
        except IndexError:
            _in_map = None
            return False
        try:
            try:
                hold.state = GRANTED
                present = self._held.setdefault(hold.key, hold)
            finally:
                token += (_in_map := (None,))
                if self._deferred:
                    self._catch_up()
        except BaseException:
            hold.state = WITHDRAWN  # in the table perhaps, and as good as none
            raise
        if present is hold:
            return True
        hold.state = WITHDRAWN
        return False

    @uninterrupted
    def _end_alone(self, hold: LoneHold) -> bool | None:
        """Let go of what has no line. False: it had let go before; None: it has a line by now, and still holds."""
        token = self._token
        _in_map: Any = self
        try:
            del token[0]
        except IndexError:  # wait for nobody: this is a finalizer perhaps
            _in_map = None
            if hold.state is not GRANTED:
                return False
            hold.state = RELEASED  # from now on it is as good as none, unless it gets a line in this moment
            self._clean_up_surely(hold)
            return True
        try:
            return self._leave_table(hold)
        finally:
            token += (_in_map := (None,))
            if self._deferred:
                self._catch_up()

    def _end_hold(self, hold: Ticket) -> bool:
        """Let go, with or without a line. False: it had let go before."""
        if hold.synchronizer is None:
            ended = self._end_alone(cast(LoneHold, hold))
            if ended is not None:
                return ended
        return give_back(hold)

    def _drop_hold(self, hold: Ticket) -> None:
        """The same in a finalizer."""
        line = hold.synchronizer
        if line is None:
            self._clean_up(cast(LoneHold, hold))
        else:
            line._give_from_finalizer(line._release_dropped, hold)

    def _after_fork(self) -> None:
        """In the child: free the lock, unless the thread that forked is inside, and the lines of the keys."""
        if not self._is_inside():
            self._token[:] = (None,)
        for item in list(self._held.values()):
            if isinstance(item, QueuedSynchronizer):
                item._after_fork()
        self._catch_up()

    def _is_inside(self) -> bool:
        """Is this thread inside the lock?"""
        frame: FrameType | None = None if self._token else sys._getframe(1)
        while frame is not None:
            if "_in_map" in frame.f_code.co_varnames and frame.f_locals.get("_in_map") is self:
                return True
            frame = frame.f_back
        return False

    def _wait(self) -> None:
        """Sleep until somebody leaves, for a moment, or for no time at all."""
        bell = allocate_lock()
        bell.acquire()
        self._deferred.append(bell)
        if not self._token:  # whoever leaves from now on finds the bell
            bell.acquire(True, MOMENT)  # but Ctrl-C may have come before they rang it

    def _clean_up(self, item: TableItem) -> None:
        """Clear away what let go: from the table, or a hold; whoever is inside the lock does it on leaving."""
        self._deferred.append(item)
        self._catch_up()

    def _clean_up_surely(self, item: TableItem) -> None:
        """The same of what is marked as gone already: nobody else would."""
        try:
            self._clean_up(item)
        except BaseException:
            self._clean_up(item)
            raise

    def _catch_up(self) -> None:
        """Ring the bells, and clear away what can be cleared away now.

        What was done is taken out afterwards: who is struck on the way (Ctrl-C) leaves it to the next, and to do it
        twice does no harm.
        """
        deferred = self._deferred
        while deferred:
            for item in [*deferred]:
                if isinstance(item, LockType):
                    with suppress(RuntimeError):  # rung by another thread at the same moment
                        item.release()
                elif not self._clear_away(item):
                    if not self._token:  # whoever is inside looks here after leaving: perhaps this very thread
                        return
                    continue
                with suppress(ValueError):  # taken out by another thread at the same moment
                    deferred.remove(item)

    @uninterrupted
    def _clear_away(self, item: TableItem) -> bool:
        """False: somebody is inside, perhaps this very thread, and nothing must vanish from under it."""
        token = self._token
        _in_map: Any = self
        try:
            del token[0]
        except IndexError:
            return False
        try:
            hold = self._drop(item)
        finally:
            token += (_in_map := (None,))
        if hold is not None:
            line = hold.synchronizer
            line._give_from_finalizer(line._withdraw if hold.state is GRANTED else line._retract, hold)
        return True

    def _weakly(self, task: Any) -> Any:
        """What refers to the running task weakly. The map keeps it: the task's next hold finds it made."""
        owner = self._owner
        if owner() is not task:
            owner = self._owner = ref(task)
        return owner

    # Inside the lock.
    def _drop(self, item: TableItem) -> Ticket | None:
        """Drop an idle item from the table; the hold that is still to be given back, if there is one."""
        hold: Ticket | None = getattr(item, "_hold", None)  # of a guard; None of a block that nobody else came to
        if hold is not None:
            if hold.synchronizer is not None:
                return hold
            hold.state = RELEASED
            item = cast(LoneHold, hold)
        # A key may raise as it is looked up: that is no concern of whoever leaves the lock, and what is idle and stays
        # is as good as gone. It may also use the map there, so that only after the look it is known to be idle.
        with suppress(Exception):
            if self._held.get(item.key) is item and item._idle:
                self._remove_from_table(item.key)
        return None

    def _leave_table(self, hold: LoneHold) -> bool | None:
        if hold.synchronizer is not None:
            return None
        if hold.state is not GRANTED:
            return False
        hold.state = RELEASED  # from now on it is as good as none
        try:  # noqa: SIM105  # quicker
            self._remove_from_table(hold.key)
        except Exception:  # noqa: BLE001, S110  # the key's own, as it is looked up: see `_drop`
            pass
        return True

    def _is_held(self, key: K) -> bool:
        item = self._held.get(key)
        if item is None:
            return False
        if item._idle:
            self._remove_from_table(key)
            return False
        return True

    def _remove_from_table(self, key: K) -> None:
        if len(self._held) == 1:
            self._held.clear()  # which frees a table that was large once
        else:
            self._held.pop(key, None)


def _nobody() -> None:
    """Stands in for a weak reference to nothing."""
