"""RwLock: many readers or one writer, plus parking_lot's upgradable read (after ``tokio::sync::RwLock``).

One line for all: whoever is at its head enters when the present holders allow, and nobody behind enters
before. So a reader that arrives behind a queued writer waits for it, and a writer that is cancelled lets the
readers behind it in. An upgrade stands at the head: it needs only the readers to leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from operator import index
from typing import Any, Generic, TypeVar, overload

import attrs

from asynclocks._guards import Acquisition, LooseGuard
from asynclocks._places import PlacingSynchronizer
from asynclocks._synchronizer import GRANTED, RELEASED, WITHDRAWN, Ticket, weakly
from asynclocks.backends import running_task
from asynclocks.exceptions import GuardReleasedError, TryLockError
from asynclocks.mutex import MappedGuard

T = TypeVar("T")
R = TypeVar("R")
G = TypeVar("G", bound="_RwGuard[Any]")

MAX_READERS = 0x1FFF_FFFF  # tokio's


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


@attrs.frozen
class RwLockStatistics:
    """An RwLock at one moment."""

    readers: int
    writer: bool
    upgradable: bool
    waiting_readers: int
    waiting_writers: int


class _RwGuard(LooseGuard, Generic[T]):
    """What the three guards share."""

    __slots__ = ("__weakref__", "_hold")

    _hold: Ticket

    def __init__(self, hold: Ticket) -> None:
        self._hold = hold

    @property
    def value(self) -> T:
        """The lock's value. Raises GuardReleasedError after the release."""
        hold = self._hold
        if hold.state is not GRANTED:
            self._refuse()
        value: T = hold.synchronizer._value
        return value

    def _become(self, kind: type[G], mode: Mode) -> G:
        """Another kind of guard, for the same task, with nobody in between."""
        lock: RwLock[T] = self._hold.synchronizer
        hold = lock._transact(lock._change_mode, (self._hold, mode))
        if hold is None:
            self._refuse()
        return kind(hold)


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
        return type(self)(self._turn())


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
        return self._become(ReadGuard, READ)

    def downgrade_to_upgradable(self) -> UpgradableReadGuard[T]:
        """Go on as the upgradable reader; no writer gets in between. Consumes this guard."""
        return self._become(UpgradableReadGuard, UPGRADABLE)


class UpgradableReadGuard(_RwGuard[T]):
    """The upgradable reader's hold."""

    __slots__ = ()

    def upgrade(self) -> Acquisition[WriteGuard[T]]:
        """Wait for the readers to leave, ahead of all queued writers; no new reader enters meanwhile.

        Consumes this guard when granted. Cancelled, it leaves this guard held.

        Raises:
            GuardReleasedError: it let go already.
            RuntimeError: an upgrade of it waits already.
            DeadlockError: waiting here could never end (the task is one of the readers).
        """
        return Acquisition(self._hold.synchronizer, "upgrade()", self._upgrade)

    def try_upgrade(self) -> WriteGuard[T]:
        """Upgrade now.

        Raises:
            TryLockError: there are readers; this guard stays held.
            GuardReleasedError: it let go already.
            RuntimeError: an upgrade of it waits already.
        """
        hold = self._hold
        lock: RwLock[T] = hold.synchronizer
        upgraded = lock._acquire_now(Upgrade(hold), hold.owner)
        if upgraded is None:
            raise TryLockError(f"{lock!r} has other readers; wait with upgrade(), or try later")
        return WriteGuard(upgraded)

    def downgrade(self) -> ReadGuard[T]:
        """Go on as a plain reader. Consumes this guard."""
        return self._become(ReadGuard, READ)

    async def _upgrade(self) -> WriteGuard[T]:
        return WriteGuard(await self._hold.synchronizer._acquire(Upgrade(self._hold)))


class RwLock(PlacingSynchronizer, Generic[T]):
    """Many readers or one writer, first come, first served.

    At most `max_readers` readers at once. One upgradable reader at a time; it coexists with readers and counts as
    one. Read and write guards are followed for deadlocks as Mutex guards are.

    Raises:
        ValueError: `max_readers` is less than 1.

    >>> import asyncio
    >>> async def main():
    ...     config = RwLock({"debug": False})
    ...     async with config.write() as guard:
    ...         guard.value = {"debug": True}
    ...     async with config.read() as guard:
    ...         return guard.value
    >>> asyncio.run(main())
    {'debug': True}
    """

    __slots__ = ("_max_readers", "_reading", "_upgradable", "_value", "_writer")

    kind = "RwLock"
    _value: T

    @overload
    def __init__(self: RwLock[None], *, max_readers: int = ..., name: str | None = None) -> None: ...
    @overload
    def __init__(self, value: T, *, max_readers: int = ..., name: str | None = None) -> None: ...
    def __init__(self, value: Any = None, *, max_readers: int = MAX_READERS, name: str | None = None) -> None:
        if index(max_readers) < 1:
            raise ValueError(f"RwLock(max_readers={max_readers}): at least 1 must be able to read")
        super().__init__(name)
        self._value = value
        self._max_readers = max_readers
        # Never a writer beside anybody else; at most `max_readers` of `_reading` and `_upgradable` together.
        self._reading: dict[Ticket, None] = {}
        self._upgradable: Ticket | None = None
        self._writer: Ticket | None = None

    def read(self) -> Acquisition[ReadGuard[T]]:
        """Wait until it may be read beside others.

        Raises:
            DeadlockError: waiting here could never end.
        """
        return self._acquisition("read()", ReadGuard, READ)

    def write(self) -> Acquisition[WriteGuard[T]]:
        """Wait until it may be written alone.

        Raises:
            DeadlockError: waiting here could never end.
        """
        return self._acquisition("write()", WriteGuard, WRITE)

    def write_owned(self) -> Acquisition[WriteGuard[T]]:
        """`write` for a guard that is meant to be handed to another task or thread: not followed for deadlocks."""
        return self._acquisition("write_owned()", WriteGuard, WRITE, tracked=False)

    def upgradable_read(self) -> Acquisition[UpgradableReadGuard[T]]:
        """Wait until it may be read beside others, with the right to become the writer.

        Raises:
            DeadlockError: waiting here could never end.
        """
        return self._acquisition("upgradable_read()", UpgradableReadGuard, UPGRADABLE)

    def try_read(self) -> ReadGuard[T]:
        """Read now, from any thread. Raises TryLockError where waiting would be needed."""
        return self._take_now(ReadGuard, READ)

    def try_write(self) -> WriteGuard[T]:
        """Write now, from any thread. Raises TryLockError where waiting would be needed."""
        return self._take_now(WriteGuard, WRITE)

    def try_upgradable_read(self) -> UpgradableReadGuard[T]:
        """Read upgradably now, from any thread. Raises TryLockError where waiting would be needed."""
        return self._take_now(UpgradableReadGuard, UPGRADABLE)

    def blocking_read(self, timeout: float | None = None) -> ReadGuard[T]:
        """Park this thread until it may read, at most `timeout` seconds; zero or less tries once.

        Raises:
            TimeoutError: the time is over; nothing is held.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        return ReadGuard(self._acquire_blocking("blocking_read()", READ, timeout))

    def blocking_write(self, timeout: float | None = None) -> WriteGuard[T]:
        """`blocking_read`, to write."""
        return WriteGuard(self._acquire_blocking("blocking_write()", WRITE, timeout))

    def blocking_upgradable_read(self, timeout: float | None = None) -> UpgradableReadGuard[T]:
        """`blocking_read`, upgradable."""
        return UpgradableReadGuard(self._acquire_blocking("blocking_upgradable_read()", UPGRADABLE, timeout))

    def into_inner(self) -> T:
        """The value, when nobody holds the lock or waits for it. The lock stays usable.

        Raises:
            TryLockError: it is held or awaited.
        """
        with self.try_write() as guard:
            return guard.value

    def statistics(self) -> RwLockStatistics:
        """Who holds it, and how many wait for what."""
        return self._transact(self._count, None)

    def _acquisition(self, what: str, kind: type[G], mode: Mode, *, tracked: bool = True) -> Acquisition[G]:
        return Acquisition(self, what, partial(self._acquire_guard, kind, mode, tracked))

    async def _acquire_guard(self, kind: type[G], mode: Mode, tracked: bool) -> G:
        return kind(await self._acquire(mode, tracked=tracked))

    def _take_now(self, kind: type[G], mode: Mode) -> G:
        task = running_task()
        hold = self._acquire_now(mode, None if task is None else weakly(task))
        if hold is None:
            raise TryLockError(f"{self!r} cannot be taken now; wait with `async with`, or try later")
        return kind(hold)

    # The engine's questions.
    def _join(self, ticket: Ticket) -> bool:
        if type(ticket.request) is not Upgrade:
            return super()._join(ticket)
        self._check_upgrade(ticket.request)
        head = self._head
        if head is None:
            return super()._join(ticket)
        if self._admit(ticket):
            ticket.state = GRANTED
            return True
        self._link_before(head, ticket)
        return False

    def _join_or_leave(self, ticket: Ticket) -> bool:
        if type(ticket.request) is not Upgrade:
            return super()._join_or_leave(ticket)
        self._check_upgrade(ticket.request)
        if not self._admit(ticket):  # whoever queues comes after it
            return False
        ticket.state = GRANTED
        return True

    def _admit(self, ticket: Ticket) -> bool:
        mode = ticket.request
        if type(mode) is Upgrade:
            if self._reading:
                return False
            # The new hold comes out of the guard's, and goes back to it if nobody takes up the grant.
            mode.hold.state = RELEASED
            mode.hold.request = ticket
            self._replace(mode.hold, ticket)
        elif self._writer is not None:
            return False
        elif mode is WRITE:
            if self._reading or self._upgradable is not None:
                return False
            self._writer = ticket
        elif len(self._reading) + (self._upgradable is not None) >= self._max_readers:
            return False
        elif mode is READ:
            self._reading[ticket] = None
        elif self._upgradable is not None:
            return False
        else:
            self._upgradable = ticket
        return True

    def _retract(self, ticket: Ticket) -> None:
        if ticket.state is WITHDRAWN and type(ticket.request) is Upgrade:
            hold = ticket.request.hold
            hold.request, hold.state = UPGRADABLE, GRANTED
            self._replace(ticket, hold)
        else:
            self._remove(ticket)

    def _release(self, ticket: Ticket) -> bool:
        self._check_no_upgrade(ticket)
        return super()._release(ticket)

    def _replace(self, old: Ticket, new: Ticket) -> None:
        self._remove(old)
        self._enter(new)

    def _owners(self, ticket: Ticket) -> Iterator[Any]:
        mode = ticket.request
        holds = [self._writer, ticket.before]  # who stands before us must have had its turn
        if mode is not READ:
            holds.append(self._upgradable if type(mode) is not Upgrade else None)
        if mode is not READ and mode is not UPGRADABLE:
            holds += list(self._reading)
        return (hold.owner for hold in holds if hold is not None and hold.owner is not None)

    # Changes, inside the internal lock.
    def _change_mode(self, what: tuple[Ticket, Mode]) -> Ticket | None:
        old, mode = what
        self._check_no_upgrade(old)
        new = self._make_over(old)
        if new is not None:
            self._remove(new)
            new.request = mode
            self._enter(new)
        return new

    def _remove(self, hold: Ticket) -> None:
        if hold is self._writer:
            self._writer = None
        elif hold is self._upgradable:
            self._upgradable = None
        else:
            del self._reading[hold]

    def _enter(self, hold: Ticket) -> None:
        if hold.request is READ:
            self._reading[hold] = None
        elif hold.request is UPGRADABLE:
            self._upgradable = hold
        else:
            self._writer = hold

    def _check_upgrade(self, upgrade: Upgrade) -> None:
        self._check_no_upgrade(upgrade.hold)
        if upgrade.hold.state is not GRANTED:
            raise GuardReleasedError(f"the upgradable guard of {self} let go already; acquire again")

    def _check_no_upgrade(self, hold: Ticket) -> None:
        head = self._head
        if head is not None and type(head.request) is Upgrade and head.request.hold is hold:
            raise RuntimeError(f"an upgrade of this guard of {self} waits: cancel it first, or use what it gives")

    def _count(self, _: None) -> RwLockStatistics:
        waiting = {True: 0, False: 0}
        ticket = self._head
        while ticket is not None:
            waiting[ticket.request in (READ, UPGRADABLE)] += 1
            ticket = ticket.after
        return RwLockStatistics(
            len(self._reading), self._writer is not None, self._upgradable is not None, waiting[True], waiting[False]
        )

    def _describe(self) -> str:
        holders = [f"{len(self._reading)} reading"] if self._reading else []
        holders += ["1 reading upgradably"] if self._upgradable is not None else []
        holders += ["written"] if self._writer is not None else []
        holders += [f"{self._waiting} waiting"] if self._waiting else []
        return ", ".join(holders) or "free"
