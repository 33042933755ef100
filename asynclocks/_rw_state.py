"""Who is in an RwLock, who may enter next, and who is in the way of a waiter.

One line for all: the ticket at its head enters when the present holders allow, and nobody behind enters before. An
upgrade stands at the head: it needs only the readers to leave.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Generic, TypeVar

from asynclocks._engine.deadlock import waits
from asynclocks._engine.places import PlacingSynchronizer
from asynclocks._engine.synchronizer import GRANTED, QUEUED, RELEASED, WITHDRAWN, Ticket
from asynclocks._engine.ticket import up_to
from asynclocks.backends.seam import LoopBackend, uninterrupted
from asynclocks.exceptions import GuardReleasedError

T = TypeVar("T")

_join = PlacingSynchronizer._join  # quicker than super()

OWNER: Callable[[Ticket], Any] = attrgetter("owner")
MOST_ASKED = 8  # readers of whom one who comes asks whether they sleep: there may be thousands


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
    # `_reading` and `_upgradable` together. Entered inside the lock, left also without (`_claim`).
    _queued_writers: int  # of those in line; an upgrade counts as one
    _queued_upgradables: int
    _reading: dict[Ticket, None]
    _upgradable: dict[Ticket, None]
    _writing: dict[Ticket, None]

    def __init__(self, value: Any, max_readers: int, name: str | None) -> None:
        super().__init__(name)
        self._value = value
        self._max_readers = max_readers
        self._queued_writers = self._queued_upgradables = 0
        self._reading = {}
        self._upgradable = {}
        self._writing = {}
        self._nothing = self._fill_in(Ticket(), None, None)

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

    # In and out where nobody is in the way: what is usual, in one go.
    @uninterrupted
    def _enter_now(self, hold: Ticket) -> bool:
        """Let this in, unless somebody queues or is in the way."""
        lock = self._lock
        try:
            if not lock._is_owned():
                lock.acquire()
                if self._head is not None or self._writing:
                    pass
                elif hold.request is READ and not self._upgradable and len(self._reading) < self._max_readers:
                    self._reading[hold] = None
                    hold.state = GRANTED
                elif self._admit(hold):
                    hold.state = GRANTED
                lock.release()
                if self._deferred:
                    self._catch_up()
        except BaseException:
            self._mend(None)
            self._give(self._withdraw, hold)
            raise
        return hold.state is GRANTED

    @uninterrupted
    def _leave_now(self, hold: Ticket) -> bool:
        """Release without the lock. False: an upgrade may be in the way, or it is in no more."""
        try:
            # Whoever takes the hold out of the table has released it. An arrival stands in line first and looks at
            # the table then, and we look at the line last: one of us sees the other.
            if hold.request is READ:
                del self._reading[hold]
            elif hold.request is WRITE:
                del self._writing[hold]
            elif hold.request is UPGRADABLE and self._head is None:  # no upgrade of it waits
                del self._upgradable[hold]
            else:
                return False
        except KeyError:  # let go early, or turned into another guard
            return False
        hold.state = RELEASED
        head = self._head
        if head is not None and (not self._reading or head.request is READ or head.request is UPGRADABLE):
            try:
                self._hand_on()  # while somebody reads, none but a reader can be let in
            except BaseException:
                self._hand_on()
                raise
        return True

    # Who is in the way, for deadlocks.
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

    def _held_up_by(self, ticket: Ticket) -> list[Ticket] | None:
        present = len(self._reading) + len(self._upgradable)
        asks = ticket.request
        if asks is WRITE or type(asks) is Upgrade or self._writing or (asks is UPGRADABLE and self._upgradable):
            return None
        if present == self._max_readers == 1:
            return None
        upgradable = bool(self._upgradable)
        return [one for one in up_to(ticket.before) if _writes(one) or (upgradable and _is_upgradable(one))]

    def _is_behind(self, ticket: Ticket, kind: Callable[[Ticket], bool], count: int) -> bool:
        """Is it itself, or somebody before it in line, of this kind, of which there are `count` in the whole line?"""
        if count == 0 or ticket is self._tail:
            return count > 0
        head = self._head
        return (head is not None and kind(head)) or any(map(kind, up_to(ticket)))

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


def _writes(ticket: Ticket) -> bool:
    return ticket.request is not READ and ticket.request is not UPGRADABLE


def _is_upgradable(ticket: Ticket) -> bool:
    return ticket.request is UPGRADABLE
