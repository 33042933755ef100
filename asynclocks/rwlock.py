"""RwLock: many readers or one writer, plus parking_lot's upgradable read (after ``tokio::sync::RwLock``).

One line for all: whoever is at its head enters when the present holders allow, and nobody behind enters
before. So a reader that arrives behind a queued writer waits for it, and a writer that is cancelled lets the
readers behind it in. An upgrade stands at the head: it needs only the readers to leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice
from operator import attrgetter, index
from typing import TYPE_CHECKING, Any, TypeVar, overload

import attrs

from asynclocks._engine.absent import Absent
from asynclocks._engine.deadline import deadline_of
from asynclocks._engine.deadlock import waits
from asynclocks._engine.guards import Acquisition, LooseGuard
from asynclocks._engine.places import PlacingSynchronizer
from asynclocks._engine.synchronizer import GRANTED, QUEUED, RELEASED, WITHDRAWN, Ticket
from asynclocks._rw_guards import (
    READ,
    UPGRADABLE,
    WRITE,
    LooseReadGuard,
    LooseUpgradableReadGuard,
    LooseWriteGuard,
    Mode,
    OwnedWriteBlock,
    ReadBlock,
    ReadGuard,
    ReadWriteState,
    UpgradableReadBlock,
    UpgradableReadGuard,
    Upgrade,
    WriteBlock,
    WriteGuard,
)
from asynclocks.backends import owner_here
from asynclocks.backends.seam import LoopBackend, uninterrupted
from asynclocks.exceptions import GuardReleasedError, TryLockError

__all__ = ["ReadGuard", "RwLock", "RwLockStatistics", "UpgradableReadGuard", "WriteGuard"]

T = TypeVar("T")
G = TypeVar("G", bound=LooseGuard)

_join = PlacingSynchronizer._join  # quicker than super()

MAX_READERS = 0x1FFF_FFFF  # tokio's
OWNER: Callable[[Ticket], Any] = attrgetter("owner")
MOST_ASKED = 8  # readers of whom one who comes asks whether they sleep: there may be thousands


@attrs.frozen
class RwLockStatistics:
    """An RwLock at one moment."""

    readers: int
    writer: bool
    upgradable: bool
    waiting_readers: int
    waiting_writers: int


class RwLock(ReadWriteState[T]):
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

    __slots__ = ()

    kind = "RwLock"

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
        self._queued_writers = self._queued_upgradables = 0
        self._reading = {}
        self._upgradable = {}
        self._writing = {}
        self._nothing = self._fill_in(Ticket(), None, None)

    if not TYPE_CHECKING:
        acquire = Absent("use read() or write()")
        lock = Absent("use read() or write()")
        reader = Absent("use read(); asynclocks.drop_in.aiorwlock.RWLock has this spelling")
        reader_lock = Absent("use read(); asynclocks.drop_in.aiorwlock.RWLock has this spelling")
        writer = Absent("use write(); asynclocks.drop_in.aiorwlock.RWLock has this spelling")
        writer_lock = Absent("use write(); asynclocks.drop_in.aiorwlock.RWLock has this spelling")
        release = Absent("the guard that read() or write() returned releases")

    def read(self, timeout: float | None = None) -> Acquisition[ReadGuard[T]]:
        """Wait until it may be read beside others, at most `timeout` seconds.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            DeadlockError: waiting here could never end.
        """
        return ReadBlock(self, None if timeout is None else deadline_of(timeout))

    def write(self, timeout: float | None = None) -> Acquisition[WriteGuard[T]]:
        """Wait until it may be written alone, at most `timeout` seconds.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            DeadlockError: waiting here could never end.
        """
        return WriteBlock(self, None if timeout is None else deadline_of(timeout))

    def write_owned(self, timeout: float | None = None) -> Acquisition[WriteGuard[T]]:
        """`write` for a guard that is meant to be handed to another task or thread: not followed for deadlocks."""
        return OwnedWriteBlock(self, None if timeout is None else deadline_of(timeout))

    def upgradable_read(self, timeout: float | None = None) -> Acquisition[UpgradableReadGuard[T]]:
        """Wait until it may be read beside others, with the right to become the writer, at most `timeout` seconds.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            DeadlockError: waiting here could never end.
        """
        return UpgradableReadBlock(self, None if timeout is None else deadline_of(timeout))

    def try_read(self) -> ReadGuard[T]:
        """Read now, from any thread. Raises TryLockError where waiting would be needed."""
        return self._take_now(LooseReadGuard, READ)

    def try_write(self) -> WriteGuard[T]:
        """Write now, from any thread. Raises TryLockError where waiting would be needed."""
        return self._take_now(LooseWriteGuard, WRITE)

    def try_upgradable_read(self) -> UpgradableReadGuard[T]:
        """Read upgradably now, from any thread. Raises TryLockError where waiting would be needed."""
        return self._take_now(LooseUpgradableReadGuard, UPGRADABLE)

    def blocking_read(self, timeout: float | None = None) -> ReadGuard[T]:
        """Park this thread until it may read, at most `timeout` seconds; zero or less tries once.

        Raises:
            TimeoutError: the time is over; nothing is held.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        guard: LooseReadGuard[T] = LooseReadGuard()
        guard._hold = self._acquire_blocking("blocking_read()", READ, timeout)
        return guard

    def blocking_write(self, timeout: float | None = None) -> WriteGuard[T]:
        """`blocking_read`, to write."""
        guard: LooseWriteGuard[T] = LooseWriteGuard()
        guard._hold = self._acquire_blocking("blocking_write()", WRITE, timeout)
        return guard

    def blocking_upgradable_read(self, timeout: float | None = None) -> UpgradableReadGuard[T]:
        """`blocking_read`, upgradable."""
        guard: LooseUpgradableReadGuard[T] = LooseUpgradableReadGuard()
        guard._hold = self._acquire_blocking("blocking_upgradable_read()", UPGRADABLE, timeout)
        return guard

    def into_inner(self) -> T:
        """The value, when nobody holds the lock or waits for it. The lock stays usable.

        Raises:
            TryLockError: it is held or awaited.
        """
        with self.try_write() as guard:
            return guard.value

    def locked(self) -> bool:
        """Is it held by anybody, to read or to write?"""
        return bool(self._writing or self._upgradable or self._reading)

    def statistics(self) -> RwLockStatistics:
        """Who holds it, and how many wait for what."""
        return self._transact(self._count, None)

    @uninterrupted
    def _take_now(self, kind: Callable[[], G], mode: Mode) -> G:
        guard = kind()
        guard._hold = hold = self._acquire_now(mode, owner_here())
        if hold is None:
            raise TryLockError(f"{self!r} cannot be taken now; wait with `async with`, or try later")
        return guard

    # The engine's questions.
    def _join(self, ticket: Ticket) -> bool:
        if type(ticket.request) is not Upgrade:
            return _join(self, ticket)
        self._check_upgrade(ticket.request)
        head = self._head
        if head is None:
            return _join(self, ticket)
        if self._admit(ticket):
            ticket.state = GRANTED
            return True
        self._link_before(head, ticket)
        self._queued_writers += 1
        return False

    def _append(self, ticket: Ticket) -> None:
        super()._append(ticket)
        # No call from there on: it is counted if and only if it stands in line, also if a signal handler raises.
        if ticket.request is UPGRADABLE:
            self._queued_upgradables += 1
        elif ticket.request is not READ:
            self._queued_writers += 1

    def _withdraw(self, ticket: Ticket) -> None:
        queued = ticket.state is QUEUED
        super()._withdraw(ticket)
        if queued and ticket.request is UPGRADABLE:
            self._queued_upgradables -= 1
        elif queued and ticket.request is not READ:
            self._queued_writers -= 1

    def _join_or_leave(self, ticket: Ticket) -> bool:
        if type(ticket.request) is not Upgrade:
            return super()._join_or_leave(ticket)
        self._check_upgrade(ticket.request)
        if not self._admit(ticket):  # whoever queues comes after it
            return False
        ticket.state = GRANTED
        return True

    def _admit(self, ticket: Ticket) -> bool:
        queued = ticket.state is QUEUED
        if not self._let_in(ticket):
            return False
        if queued and ticket.request is UPGRADABLE:  # as in `_append`
            self._queued_upgradables -= 1
        elif queued and ticket.request is not READ:
            self._queued_writers -= 1
        return True

    def _let_in(self, ticket: Ticket) -> bool:
        mode = ticket.request
        if self._writing:
            return False
        if mode is READ:
            if len(self._reading) + len(self._upgradable) >= self._max_readers:
                return False
            self._reading[ticket] = None
        elif mode is WRITE:
            if self._reading or self._upgradable:
                return False
            self._writing[ticket] = None
        elif mode is UPGRADABLE:
            if self._upgradable or len(self._reading) >= self._max_readers:
                return False
            self._upgradable[ticket] = None
        else:
            return self._admit_upgrade(ticket)
        return True

    def _admit_upgrade(self, ticket: Ticket) -> bool:
        if self._reading:
            return False
        # The new hold comes out of the guard's, and goes back to it if nobody takes up the grant. From the `del` on no
        # signal handler can come between.
        hold = ticket.request.hold
        try:  # noqa: SIM105  # with no call in between, see above
            del self._upgradable[hold]
        except KeyError:  # pragma: no cover - its block ended without the lock in another thread
            pass
        hold.state = RELEASED
        hold.request = ticket
        self._writing[ticket] = None
        return True

    def _retract(self, ticket: Ticket) -> None:
        self._claim(ticket)  # where it was claimed before, no harm is done
        if ticket.state is WITHDRAWN and type(ticket.request) is Upgrade:
            hold = ticket.request.hold
            hold.request, hold.state = UPGRADABLE, GRANTED
            self._upgradable[hold] = None

    def _release(self, ticket: Ticket) -> bool:
        self._check_no_upgrade(ticket)
        if not self._claim(ticket):
            return False
        ticket.state = RELEASED
        return True

    def _release_dropped(self, ticket: Ticket) -> None:
        if not self._is_upgrading(ticket):  # else the upgrade is being closed as well, and then gives it back
            self._release(ticket)

    def _holder_sleeps(self, ticket: Ticket, backend: LoopBackend) -> bool:
        try:
            for hold in self._writing or islice(chain(self._upgradable, self._reading), MOST_ASKED):
                owner = hold.owner
                task = None if owner is None else owner()
                if task is not None and backend.sleeps(task):
                    return True
        except RuntimeError:  # somebody came or went in another thread
            return True
        return False

    def _owners(self, ticket: Ticket) -> list[Any]:
        # Holders only. Whoever stands before us waits for the same ones, and will be found among them when its
        # turn has come; following the line instead would make each arrival look at the whole of it.
        owners = [*map(OWNER, [*self._writing] or self._in_the_way(ticket))]
        if len(owners) > MOST_ASKED:
            # Of so many readers some will do, and those that wait for a lock themselves, this ticket's task included.
            with suppress(TypeError):  # one that is gone cannot be looked up
                owners = [*owners[:MOST_ASKED], *(waits.keys() & owners)]
        return [owner for owner in owners if owner is not None]

    def _in_the_way(self, ticket: Ticket) -> list[Ticket]:
        """The readers that must leave, all of them, before this ticket's turn; nobody writes now."""
        readers, upgradable = [*self._reading], [*self._upgradable]
        if type(ticket.request) is Upgrade:
            return readers
        if self._is_behind(ticket, _writes, self._queued_writers) or len(readers) + len(upgradable) == 1:
            return readers + upgradable
        # `max_readers` are in, and any of them may leave; or a second one wants to be upgradable.
        return upgradable if self._is_behind(ticket, _is_upgradable, self._queued_upgradables) else []

    def _is_behind(self, ticket: Ticket, kind: Callable[[Ticket], bool], count: int) -> bool:
        """Is it itself, or somebody before it in line, of this kind, of which there are `count` in the whole line?"""
        if count == 0 or ticket is self._tail:
            return count > 0
        head = self._head
        return (head is not None and kind(head)) or any(map(kind, _before(ticket)))

    # Changes, inside the internal lock.
    def _change_mode(self, what: tuple[Ticket, Mode]) -> Ticket | None:
        old, mode = what
        self._check_no_upgrade(old)
        new: Ticket = self._fill_in(Ticket(), mode, old.owner)
        table = self._table(mode)
        if not self._claim(old):  # from where it returns to our own return no signal handler can come between
            return None
        old.state, new.state = RELEASED, GRANTED
        old.request = new
        table[new] = None
        return new

    def _claim(self, hold: Ticket) -> bool:
        """Take it out of where it is in. False: it is in no more, somebody was quicker."""
        table = self._table(hold.request)
        try:
            del table[hold]
        except KeyError:
            return False
        return True

    def _table(self, mode: Any) -> dict[Ticket, None]:
        return self._reading if mode is READ else self._upgradable if mode is UPGRADABLE else self._writing

    def _check_upgrade(self, upgrade: Upgrade) -> None:
        self._check_no_upgrade(upgrade.hold)
        if upgrade.hold.state is not GRANTED:
            raise GuardReleasedError(f"the upgradable guard of {self} let go already; acquire again")

    def _is_upgrading(self, hold: Ticket) -> bool:
        head = self._head
        return head is not None and type(head.request) is Upgrade and head.request.hold is hold

    def _check_no_upgrade(self, hold: Ticket) -> None:
        if self._is_upgrading(hold):
            raise RuntimeError(f"an upgrade of this guard of {self} waits: cancel it first, or use what it gives")

    def _count(self, _: None) -> RwLockStatistics:
        writers = self._queued_writers
        return RwLockStatistics(
            len(self._reading), bool(self._writing), bool(self._upgradable), self._waiting - writers, writers
        )

    def _describe(self) -> str:
        holders = [f"{len(self._reading)} reading"] if self._reading else []
        holders += ["1 reading upgradably"] if self._upgradable else []
        holders += ["written"] if self._writing else []
        holders += [f"{self._waiting} waiting"] if self._waiting else []
        return ", ".join(holders) or "free"


def _writes(ticket: Ticket) -> bool:
    return ticket.request is not READ and ticket.request is not UPGRADABLE


def _is_upgradable(ticket: Ticket) -> bool:
    return ticket.request is UPGRADABLE


def _before(ticket: Ticket | None) -> Iterator[Ticket]:
    """The ticket and those before it in the line."""
    while ticket is not None:
        yield ticket
        ticket = ticket.before
