"""The guards of an RwLock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from gc import is_finalized
from typing import Any, Generic, TypeVar
from weakref import ref

from asynclocks._engine.acquisition import Acquisition
from asynclocks._engine.deadline import Deadline, deadline_of
from asynclocks._engine.guards import LooseGuard, MappedGuard, give_back, shown_as
from asynclocks._engine.synchronizer import GRANTED, RELEASED, Ticket
from asynclocks._rw_state import READ, UPGRADABLE, WRITE, Mode, ReadWriteState, Upgrade
from asynclocks.backends.seam import uninterrupted
from asynclocks.exceptions import TryLockError

T = TypeVar("T")
R = TypeVar("R")
G = TypeVar("G", bound="RwGuard[Any]")


class RwGuard(LooseGuard, Generic[T]):
    """What the three guards share. Of each there are two kinds: what a block gives (`_rw_blocks`), and a loose one.

    A guard keeps the one it was turned into: in a block that one holds though nobody looks at it. Of a long line of
    them, as in a loop of upgrades and downgrades, the first keeps the last, and nobody those between.
    """

    __slots__ = ()

    _turned_into: RwGuard[Any]
    _first: ref[RwGuard[Any]]  # of all that were turned into this one; not set on that one itself

    @property
    def value(self) -> T:
        """The lock's value. Raises GuardReleasedError after the release."""
        hold = self._hold
        if hold.state is not GRANTED:
            self._refuse()
        value: T = hold.synchronizer._value
        return value

    @uninterrupted
    def _become(self, kind: Callable[[], G], mode: Mode) -> G:
        """Another kind of guard, for the same task, with nobody in between."""
        old = self._hold
        lock: ReadWriteState[T] = old.synchronizer
        guard = kind()
        try:
            guard._hold = hold = lock._transact(lock._change_mode, (old, mode))  # type: ignore[assignment]
        except BaseException:
            if old.state is RELEASED and isinstance(old.request, Ticket):  # changed, and then Ctrl-C came
                lock._give(lock._release, old.request)
            raise
        if hold is None:
            self._refuse()
        return self._turn_into(guard)

    def _turn_into(self, guard: G) -> G:
        self._turned_into = guard  # type: ignore[misc]  # the subclasses have the slots
        guard._first = getattr(self, "_first", None) or ref(self)
        first = guard._first()
        if first is not None and first is not self:
            first._turned_into, first._hold.request = guard, guard._hold
        return guard


class _MappableGuard(RwGuard[T]):
    __slots__ = ()

    def map(self, project: Callable[[T], R]) -> MappedGuard[R]:
        """Narrow the guard to a part of the value. Consumes this guard; the lock stays held.

        `project` is called at once; if it raises, this guard stays as it was.

        Raises:
            GuardReleasedError: it let go already.
        """
        return MappedGuard(project(self.value), self._made_over())

    def _made_over(self) -> RwGuard[T]:
        mode: Mode = self._hold.request
        return self._become(LooseReadGuard if mode is READ else LooseWriteGuard, mode)


class ReadGuard(_MappableGuard[T]):
    """A reader's hold."""

    __slots__ = ()


class WriteGuard(_MappableGuard[T]):
    """The writer's hold: the value can be set."""

    __slots__ = ()

    @property
    def value(self) -> T:
        """The lock's value. Raises GuardReleasedError after the release."""
        value: T = super().value
        return value

    @value.setter
    def value(self, value: T) -> None:
        if self.released:
            self._refuse()
        self._hold.synchronizer._value = value

    def downgrade(self) -> ReadGuard[T]:
        """Go on as a reader; no writer gets in between. Consumes this guard."""
        return self._become(LooseReadGuard, READ)

    def downgrade_to_upgradable(self) -> UpgradableReadGuard[T]:
        """Go on as the upgradable reader; no writer gets in between. Consumes this guard."""
        return self._become(LooseUpgradableReadGuard, UPGRADABLE)


class UpgradableReadGuard(RwGuard[T]):
    """The upgradable reader's hold."""

    __slots__ = ()

    def upgrade(self, timeout: float | None = None) -> Acquisition[WriteGuard[T]]:
        """Wait for the readers to leave, ahead of all queued writers; no new reader enters meanwhile.

        Consumes this guard when granted. Cancelled, or after `timeout` seconds, it leaves this guard held.

        Raises:
            TimeoutError: there were readers for `timeout` seconds (zero or less tries once).
            GuardReleasedError: it let go already.
            RuntimeError: an upgrade of it waits already.
            DeadlockError: waiting here could never end (the task is one of the readers).
        """
        return Acquisition(self._hold.synchronizer, "upgrade()", partial(self._upgrade, deadline_of(timeout)))

    @uninterrupted
    def try_upgrade(self) -> WriteGuard[T]:
        """Upgrade now.

        Raises:
            TryLockError: there are readers; this guard stays held.
            GuardReleasedError: it let go already.
            RuntimeError: an upgrade of it waits already.
        """
        hold = self._hold
        lock: ReadWriteState[T] = hold.synchronizer
        guard: LooseWriteGuard[T] = LooseWriteGuard()
        guard._hold = upgraded = lock._acquire_now(Upgrade(hold), hold.owner)
        if upgraded is None:
            raise TryLockError(f"{lock!r} has other readers; wait with upgrade(), or try later")
        upgraded.request = WRITE  # nothing to go back to any more; and the old hold refers to this one
        return self._turn_into(guard)

    def downgrade(self) -> ReadGuard[T]:
        """Go on as a plain reader. Consumes this guard."""
        return self._become(LooseReadGuard, READ)

    @uninterrupted
    async def _upgrade(self, deadline: Deadline | None) -> WriteGuard[T]:
        hold = self._hold
        lock: ReadWriteState[T] = hold.synchronizer
        guard: LooseWriteGuard[T] = LooseWriteGuard()
        try:
            guard._hold = await lock._acquire(Upgrade(hold), tracked=hold.owner is not None, deadline=deadline)
        except GeneratorExit:
            if is_finalized(self):  # collected together, the guard first, which held nothing then: what it has back
                lock._give_from_finalizer(lock._release, hold)
            raise
        guard._hold.request = WRITE  # as in `try_upgrade`
        return self._turn_into(guard)


class _Loose(RwGuard[T]):
    # What it is to hold comes by `_hold =`, right from who granted it: no Ctrl-C can get in between.
    __slots__ = ("__weakref__", "_first", "_hold", "_turned_into")

    def _let_go(self) -> bool:
        hold = self._hold
        return hold.synchronizer._leave_now(hold) or give_back(hold)

    def __exit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:
        if not self._hold.synchronizer._leave_now(self._hold):
            self._leave_block()


class LooseReadGuard(_Loose[T], ReadGuard[T]):
    """The guard of everything but ``async with lock.read()``."""

    __slots__ = ()


class LooseWriteGuard(_Loose[T], WriteGuard[T]):
    """The guard of everything but ``async with lock.write()``."""

    __slots__ = ()


class LooseUpgradableReadGuard(_Loose[T], UpgradableReadGuard[T]):
    """The guard of everything but ``async with lock.upgradable_read()``."""

    __slots__ = ()


class _Quiet(_Loose[T]):
    """Its user's users know no guards: it gives back what it holds without a word when it is collected.

    Only the guard itself can do that. The collector may come to it before it comes to what refers to it.
    """

    __slots__ = ()

    def _tell_dropped(self) -> None: ...


class QuietReadGuard(_Quiet[T], LooseReadGuard[T]):
    """That of a drop-in module."""

    __slots__ = ()


class QuietWriteGuard(_Quiet[T], LooseWriteGuard[T]):
    """That of a drop-in module."""

    __slots__ = ()

    def downgrade(self) -> ReadGuard[T]:
        return self._become(QuietReadGuard, READ)


shown_as("ReadGuard", LooseReadGuard, QuietReadGuard)
shown_as("WriteGuard", LooseWriteGuard, QuietWriteGuard)
shown_as("UpgradableReadGuard", LooseUpgradableReadGuard)
