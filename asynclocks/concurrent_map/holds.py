"""What an entry and a ref have in common: a hold on a key of a ConcurrentMap, and a block around one."""

from __future__ import annotations

import warnings
from collections.abc import Coroutine, Generator, Hashable, Iterable
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar
from weakref import ref

from asynclocks import backends
from asynclocks._engine.acquisition import Acquisition, new_object
from asynclocks._engine.deadline import Deadline, deadline_of
from asynclocks._engine.guards import Guard, LooseGuard, give_back
from asynclocks._engine.synchronizer import GRANTED, RELEASED, Ticket
from asynclocks.backends import thread_local
from asynclocks.backends.seam import uninterrupted
from asynclocks.concurrent_map.flights import Outcome
from asynclocks.concurrent_map.keys import EXCLUSIVE, GONE, UNCHANGED, UNUSED, KeyLock, LoneHold, Mark
from asynclocks.concurrent_map.steps import SteppingDict

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class KeyGuard(Guard, Generic[K, V]):
    """The hold on one key."""

    # There are two kinds. What `async with map.entry(key)` gives is a `KeyBlock`; all others are `LooseKeyGuard` s.
    __slots__ = ()

    _request: ClassVar[Any]  # what it asks of the key

    _map: SteppingDict[K, V]
    _key: K
    _staged: Any  # the value to be, or UNCHANGED, MISSING (to be removed), GONE (let go)
    _hold: Any  # the ticket; None of a block that stands in the map's table itself

    @property
    def key(self) -> K:
        """The key it holds, or held."""
        return self._key

    @property
    def _idle(self) -> bool:
        # As a KeyLock's, for the map's table: one that let go and is still there is as good as none.
        return self._staged is GONE

    @property
    def released(self) -> bool:
        return self._staged is GONE or self._staged is UNUSED

    @uninterrupted
    def _finish(self, commit: bool) -> bool:
        """End it and let go. False: it had let go already."""
        committed: Any = UNCHANGED
        old: Any = None  # what the map drops, it drops when the lock is free
        try:
            committed, old = self._map._inside(self._end, commit)
        finally:
            hold: Ticket | None = self._hold
            if committed is not GONE and hold is not None and hold.state is GRANTED:
                try:
                    self._hand_back(committed)
                except BaseException:
                    self._hand_back(committed)
                    raise
        del old
        return committed is not GONE

    def _end(self, commit: bool) -> tuple[Any, Any]:
        """Commit and leave the table; what was committed, GONE if it had ended before, and what that replaced."""
        staged = self._staged
        if staged is GONE or staged is UNUSED:
            return GONE, None
        self._staged = GONE
        hold = self._hold
        if hold is None:
            self._map._remove_from_table(self._key)
        elif hold.synchronizer is None:
            hold.state = RELEASED
            self._map._remove_from_table(self._key)
        if not commit or staged is UNCHANGED:
            return UNCHANGED, None
        return staged, self._map._put(self._key, staged)

    def _hand_back(self, committed: Any) -> None:
        hold: Ticket = self._hold
        line = hold.synchronizer
        if line is None:
            self._map._end_hold(hold)
            return
        flight = line.flight
        if flight is not None and not flight.over and committed.__class__ is not Mark:
            flight.end(Outcome(committed))  # those who wait for a value here have it
        give_back(hold)

    def _disown(self) -> None:
        self._map._inside(self._leave_to_others)

    def _leave_to_others(self) -> None:
        if self._hold is not None:
            self._hold.owner = None

    def _let_go(self) -> bool:
        return self._finish(commit=True)

    def _roll_back(self, exc_type: object) -> None:
        if exc_type is not GeneratorExit:
            self._finish(commit=False)
        elif not self.released:  # perhaps the collector destroys the block: wait for nobody
            self._staged = GONE
            self._map._clean_up_surely(self)

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            self._finish(commit=True)
        else:
            self._roll_back(exc[0])

    def _of(self) -> object:
        return self._map._name_of_key(self._key)

    def _check(self) -> None:
        """Raise if what it has just taken is not as it should be."""


class LooseKeyGuard(KeyGuard[K, V], LooseGuard):
    """Every guard but those of ``async with map.entry(key)`` and ``ref(key)``: it stands on its ticket."""

    __slots__ = ("__weakref__", "_hold", "_key", "_map", "_staged")

    def __init__(self, of: SteppingDict[K, V], key: K) -> None:
        # What it is to hold comes by `_hold =`, right from who granted it: no Ctrl-C can get in between.
        self._map = of
        self._key = key
        self._staged = UNUSED
        self._hold = None

    @uninterrupted
    def _take_alone(self, owner: Any) -> bool:
        """Take the key if nobody holds it. False: the key has a line, or that cannot be told."""
        self._hold = hold = LoneHold(self._key, self._request, owner)
        if not self._map._stand_alone(hold):
            return False
        self._staged = UNCHANGED
        self._check()
        return True

    def _begun(self) -> Self:
        """It holds now, by a line."""
        self._key = self._hold.synchronizer.key
        self._staged = UNCHANGED
        self._check()
        return self

    def _give_up(self, hold: Ticket) -> None:
        self._map._drop_hold(hold)

    def __del__(self) -> None:
        # One that let go is perhaps still to be cleared away: no reason to complain.
        if getattr(self, "_staged", GONE) is not GONE:
            super().__del__()


class KeyBlock(KeyGuard[K, V], Acquisition[Any]):  # type: ignore[misc]  # `_of` is the guard's
    """What ``map.entry(key)`` and ``map.ref(key)`` return; entered by ``async with``, it is itself the guard.

    On asyncio, if nobody holds the key, it then stands in the map's table by itself, without a line, until somebody
    else asks for the key; then it gets a ticket there.
    """

    __slots__ = ("_deadline", "_hold", "_key", "_map", "_owner", "_staged")

    _loose: ClassVar[type[LooseKeyGuard[Any, Any]]]
    _deadline: Deadline | None
    _owner: Any  # as a ticket's, while it has none

    def _owners(self) -> Iterable[Any]:
        # As a KeyLock's.
        return (self._owner,)

    def stand_in(self, line: KeyLock) -> None:
        """Have this line: somebody else asks for the key. Inside the map's lock."""
        self._hold = line.hold_for(self._request, self._owner)

    def _leave_to_others(self) -> None:
        self._owner = _nobody
        super()._leave_to_others()

    def _use(self) -> None:
        """Once only."""
        if self._staged is not UNUSED:
            raise RuntimeError(f"{self!r} was awaited or entered already; ask the map for a new one")
        self._staged = GONE

    def _is_unused(self) -> bool:
        return self._staged is UNUSED

    def _begin(self) -> Coroutine[Any, Any, Any]:
        self._use()
        return self._drive_on()

    @uninterrupted
    async def _drive_on(self) -> Any:
        guard = self._now()
        return await self._later() if guard is None else guard

    @uninterrupted
    def __await__(self) -> Generator[Any, Any, Any]:  # a generator spares a coroutine and its wrapper
        self._use()
        guard = self._now()
        if guard is None:
            guard = yield from self._later().__await__()
        return guard

    def _now(self) -> Any:
        """The guard, if nobody holds the key."""
        if thread_local.name is not None:
            return None
        try:
            task = backends.hint()
        except RuntimeError:  # not asyncio
            return None
        if task is None:
            return None
        guard = self._loose(self._map, self._key)
        return guard if guard._take_alone(self._map._weakly(task)) else None

    @uninterrupted
    async def _later(self) -> Any:
        guard = self._loose(self._map, self._key)
        guard._hold = await self._map._take(self._key, self._request, self._deadline)
        return guard._begun()

    @uninterrupted
    async def __aenter__(self) -> Any:  # noqa: C901  # a call more would show in each block
        if self._staged is not UNUSED:
            self._use()
        try:
            task = backends.hint()
        except RuntimeError:  # not asyncio
            task = None
        of = self._map
        if task is not None:
            # The map keeps the reference: the task's next entry finds it made.
            owner = of._owner
            if owner() is not task:
                owner = of._owner = ref(task)
            self._owner = owner
            self._staged = UNCHANGED
            token = of._token
            _in_map: Any = of
            try:
                del token[0]
            except IndexError:
                _in_map = None
                present = self._enter_table()
            else:
                try:
                    try:
                        present = of._held.setdefault(self._key, self)
                    finally:
                        token += (_in_map := (None,))
                        if of._deferred:
                            of._catch_up()
                except BaseException:
                    self._staged = GONE  # in the table perhaps, and as good as none
                    raise
            if present is self:
                if self._request is not EXCLUSIVE:
                    self._check()
                return self
        self._staged = GONE
        self._hold = await of._take(self._key, self._request, self._deadline)
        self._staged = UNCHANGED
        self._check()
        return self

    def _enter_table(self) -> Any:
        of = self._map
        try:
            return of._inside(of._held.setdefault, self._key, self)
        except BaseException:
            self._staged = GONE  # in the table perhaps, and as good as none
            raise

    def _refuse(self) -> NoReturn:
        if self._staged is UNUSED:
            raise RuntimeError(f"{self!r} holds nothing yet; enter it with `async with`, or await it")
        super()._refuse()

    def __repr__(self) -> str:
        return f"<{self._what} of {self._of()}>" if self._staged is UNUSED else super().__repr__()

    def __del__(self) -> None:
        staged = getattr(self, "_staged", GONE)  # Ctrl-C may come before `entry()` is through
        if staged is UNUSED:
            warnings.warn(f"{self!r} was never awaited", RuntimeWarning, stacklevel=2, source=self)
        elif staged is not GONE and self._hold is not None:  # or before its block's exit began
            self._staged = GONE
            self._map._clean_up(self)


def key_block(kind: type[KeyBlock[Any, Any]], of: SteppingDict[Any, Any], key: Any, timeout: float | None) -> Any:
    """A new one.

    Raises:
        TypeError: `timeout` is no number.
        ValueError: `timeout` is not a number (NaN).
    """
    deadline = None if timeout is None else deadline_of(timeout)
    block: KeyBlock[Any, Any] = new_object(kind)
    block._map = of
    block._key = key
    block._staged = UNUSED
    block._hold = None
    block._deadline = deadline
    return block


def _nobody() -> None:
    """In place of a weak reference to an owner."""
