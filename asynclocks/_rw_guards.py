"""The guards of an RwLock, and the blocks that are guards themselves."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from functools import partial
from gc import is_finalized
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar
from weakref import ref

from asynclocks import backends
from asynclocks._engine.deadline import Deadline, deadline_of
from asynclocks._engine.guards import Acquisition, LooseGuard, shown_as
from asynclocks._engine.places import PlacingSynchronizer
from asynclocks._engine.synchronizer import GRANTED, RELEASED, WITHDRAWN, Ticket
from asynclocks.backends.seam import uninterrupted
from asynclocks.exceptions import TryLockError
from asynclocks.mutex import MappedGuard

T = TypeVar("T")
R = TypeVar("R")
G = TypeVar("G", bound="_RwGuard[Any]")


class Mode(Enum):
    """What a ticket asks for, and what it holds."""

    READ = "beside other readers"
    UPGRADABLE = "beside readers, but alone of its kind"
    WRITE = "alone"


READ, UPGRADABLE, WRITE = Mode


class Upgrade:
    """The request of an upgradable reader to become the writer."""

    __slots__ = ("hold",)

    def __init__(self, hold: Ticket) -> None:
        self.hold = hold


async def _never_called() -> None: ...


class ReadWriteState(PlacingSynchronizer, Generic[T]):
    """Who is in an RwLock, and its value: what its guards work on."""

    __slots__ = (
        "_max_readers",
        "_nothing",
        "_queued_upgradables",
        "_queued_writers",
        "_reading",
        "_upgradable",
        "_value",
        "_writing",
    )

    _value: T
    _max_readers: int
    _nothing: Ticket  # what a block holds that was not entered yet
    # Who is in. Never a writer beside anybody else, one writer, one upgradable; at most `_max_readers` of
    # `_reading` and `_upgradable` together. Entered inside the lock, left also without (`RwLock._claim`).
    _queued_writers: int  # of those in line; an upgrade counts as one
    _queued_upgradables: int
    _reading: dict[Ticket, None]
    _upgradable: dict[Ticket, None]
    _writing: dict[Ticket, None]

    def _change_mode(self, what: tuple[Ticket, Mode]) -> Ticket | None:
        raise NotImplementedError


class _RwGuard(LooseGuard, Generic[T]):
    """What the three guards share. Of each there are two kinds: what a block gives (`_Block`), and a loose one.

    A guard keeps the one it was turned into: in a block that one holds though nobody looks at it. Of a long line of
    them, as in a loop of upgrades and downgrades, the first keeps the last, and nobody those between.
    """

    __slots__ = ()

    _turned_into: _RwGuard[Any]
    _first: ref[_RwGuard[Any]]  # of all that were turned into this one; not set on that one itself

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


class _MappableGuard(_RwGuard[T]):
    __slots__ = ()

    def map(self, project: Callable[[T], R]) -> MappedGuard[R]:
        """Narrow the guard to a part of the value. Consumes this guard; the lock stays held.

        `project` is called at once; if it raises, this guard stays as it was.

        Raises:
            GuardReleasedError: it let go already.
        """
        return MappedGuard(project(self.value), self._made_over())

    def _made_over(self) -> _RwGuard[T]:
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


class UpgradableReadGuard(_RwGuard[T]):
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


class _Loose(_RwGuard[T]):
    # What it is to hold comes by `_hold =`, right from who granted it: no Ctrl-C can get in between.
    __slots__ = ("__weakref__", "_first", "_hold", "_turned_into")


class LooseReadGuard(_Loose[T], ReadGuard[T]):
    """The guard of everything but ``async with lock.read()``."""

    __slots__ = ()


class LooseWriteGuard(_Loose[T], WriteGuard[T]):
    """The guard of everything but ``async with lock.write()``."""

    __slots__ = ()


class LooseUpgradableReadGuard(_Loose[T], UpgradableReadGuard[T]):
    """The guard of everything but ``async with lock.upgradable_read()``."""

    __slots__ = ()


class _Block(_RwGuard[Any], Acquisition[Any]):
    """What ``read()``, ``write()``, … return; entered by ``async with``, it is itself the guard.

    One object less, and nobody in the way costs no frame of the engine's.
    """

    __slots__ = ("_deadline", "_hold", "_lock", "_turned_into")

    _loose: ClassVar[Any]
    _mode: ClassVar[Mode]
    _tracked: ClassVar[bool] = True
    _name: ClassVar[str]

    def __init__(self, lock: ReadWriteState[Any], deadline: Deadline | None) -> None:
        self._deadline = deadline
        self._lock = lock
        self._hold = lock._nothing
        self._take = _never_called  # as long as it was neither awaited nor entered

    def _begin(self) -> Coroutine[Any, Any, Any]:
        self._use()
        return self._await()

    def _use(self) -> None:
        if self._take is None:
            raise RuntimeError(f"{self!r} was awaited or entered already; ask the lock for a new one")
        self._take = None

    @uninterrupted
    async def _await(self) -> Any:
        guard = type(self)._loose()
        guard._hold = await self._lock._acquire(self._mode, tracked=self._tracked, deadline=self._deadline)
        return guard

    @uninterrupted
    async def __aenter__(self) -> Self:  # noqa: C901  # in one go
        if self._take is None:
            self._use()
        self._take = None
        lock = self._lock
        try:
            task = backends.hint()
        except RuntimeError:  # not asyncio
            task = None
        if task is not None and lock._head is None and not lock._writing:
            hold = Ticket()
            hold.synchronizer = lock
            hold.request = mode = self._mode
            hold.owner = ref(task) if self._tracked else None
            hold.state = WITHDRAWN
            inner = lock._lock
            try:
                if not inner._is_owned():
                    inner.acquire()
                    # What is usual, in one go; the rest is `_acquire`.
                    if lock._head is not None or lock._writing:
                        pass
                    elif mode is READ and not lock._upgradable and len(lock._reading) < lock._max_readers:
                        lock._reading[hold] = None
                        hold.state = GRANTED
                        self._hold = hold
                    elif lock._admit(hold):
                        hold.state = GRANTED
                        self._hold = hold
                    inner.release()
                    if lock._deferred:
                        lock._catch_up()
            except BaseException:
                lock._mend(None)
                lock._give(lock._withdraw, hold)
                raise
            if hold.state is GRANTED:
                return self
        self._hold = await lock._acquire(self._mode, tracked=self._tracked, task=task, deadline=self._deadline)
        return self

    @uninterrupted
    async def __aexit__(  # type: ignore[override]  # quicker than *exc
        self, exc_type: object = None, exc: object = None, traceback: object = None
    ) -> None:
        hold = self._hold
        lock = self._lock
        try:
            # Whoever takes the hold out of the table has released it. An arrival stands in line first and looks at
            # the table then, and we look at the line last: one of us sees the other.
            if hold.request is READ:
                del lock._reading[hold]
            elif hold.request is WRITE:
                del lock._writing[hold]
            else:
                self._leave_block()
                return
        except KeyError:  # let go early, or turned into another guard
            self._leave_block()
            return
        hold.state = RELEASED
        head = lock._head
        if head is not None and (not lock._reading or head.request is READ or head.request is UPGRADABLE):
            try:
                lock._hand_on()  # while somebody reads, none but a reader can be let in
            except BaseException:
                lock._hand_on()
                raise

    def _of(self) -> object:  # type: ignore[override]  # the guard's one
        return self._lock

    def __repr__(self) -> str:
        if self._hold is self._lock._nothing:
            return f"<{self._what} of {self._lock}>"
        return f"<{self._name} of {self._lock}{', released' if self.released else ''}>"

    def _refuse(self) -> NoReturn:
        if self._hold is self._lock._nothing:
            raise RuntimeError(f"{self!r} holds nothing yet; enter it with `async with`, or await it")
        super()._refuse()

    def __del__(self) -> None:
        if self._take is not None:
            Acquisition.__del__(self)
        elif self._hold.state is GRANTED:
            _RwGuard.__del__(self)


class ReadBlock(_Block, ReadGuard[T]):
    """``async with lock.read()``."""

    __slots__ = ()

    _loose, _mode, _what, _name = LooseReadGuard, READ, "read()", "ReadGuard"


class WriteBlock(_Block, WriteGuard[T]):
    """``async with lock.write()``."""

    __slots__ = ()

    _loose, _mode, _what, _name = LooseWriteGuard, WRITE, "write()", "WriteGuard"


class OwnedWriteBlock(WriteBlock[T]):
    """``async with lock.write_owned()``."""

    __slots__ = ()

    _tracked, _what = False, "write_owned()"


class UpgradableReadBlock(_Block, UpgradableReadGuard[T]):
    """``async with lock.upgradable_read()``."""

    __slots__ = ()

    _loose, _mode, _what, _name = LooseUpgradableReadGuard, UPGRADABLE, "upgradable_read()", "UpgradableReadGuard"


shown_as("ReadGuard", LooseReadGuard, ReadBlock)
shown_as("WriteGuard", LooseWriteGuard, WriteBlock, OwnedWriteBlock)
shown_as("UpgradableReadGuard", LooseUpgradableReadGuard, UpgradableReadBlock)
