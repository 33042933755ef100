"""The permits of a Semaphore: what is free, and what is held by which guard.

Free permits are tokens in a list, to be taken and given back one at a time without the internal lock
(`_engine.free_mutex` says why that leaves nobody asleep), and a number beside it, inside the lock, for all that is
larger. The number is negative while permits are still to be taken away as they come back (`Semaphore.resize`): then
nobody takes a token, and tokens that come back are first added to that number.
"""

from __future__ import annotations

from contextlib import suppress
from operator import index
from typing import Any, Self

from asynclocks._engine.guards import Guard, shown_as, warn_dropped
from asynclocks._engine.synchronizer import GRANTED, QueuedSynchronizer, Ticket
from asynclocks.backends.seam import HAS_GIL, uninterrupted
from asynclocks.exceptions import ClosedError

TOKEN = None  # one free permit; that it is in the list is all that matters
NO_PARTS: tuple[()] = ()  # nothing was split off in this block yet
MOST_TOKENS = 64  # of a new semaphore; more appear as permits come back


class PermitState(QueuedSynchronizer):
    """A Semaphore without its public methods."""

    __slots__ = ("_closed", "_entered", "_entrant", "_free", "_tokens", "_total")

    _followed = False  # nobody can say which holder would end a wait

    def __init__(self, permits: int, name: str | None) -> None:
        super().__init__(name)
        # Whenever the internal lock is free: `_total` is the number of all tokens, `_free`, and what is held.
        self._total = permits
        self._tokens = [TOKEN] * min(permits, MOST_TOKENS)
        self._free = permits - len(self._tokens)
        self._closed = False
        # The permits of running `async with` blocks by their task's id. (A task's id and not the task: nothing
        # here may keep alive a task that its closed loop let go of.)
        self._entered: dict[int, Permit] = {}
        self._entrant: Any = None  # the last one: as a permit's

    def _take_free(self) -> LoosePermit | None:
        """A permit, if one is free and nobody queues, else None; without the internal lock."""
        permit = LoosePermit()
        permit._semaphore = self
        permit._count = 1
        permit._parts = None
        permit._live = False
        try:
            del self._tokens[-1]  # no call: from here to the `return` no signal handler can come between
        except IndexError:  # none is there
            return None
        if self._head is None and self._free >= 0 and not self._closed:
            permit._live = True
            return permit
        self._tokens.append(TOKEN)
        self._hand_on_again()
        return None

    def _permit_of(self, ticket: Ticket) -> Permit:
        self._check_open(ticket)
        return make_permit(LoosePermit, self, ticket.request)

    def _check_open(self, ticket: Ticket) -> None:
        if ticket.request is None:
            raise ClosedError(f"{self} is closed")

    def _take_token_now(self) -> bool:
        """Take a free token, unless somebody queues: they go first."""
        try:
            del self._tokens[-1]  # no call: from here to the `return` no signal handler can come between
        except IndexError:  # none is there
            return False
        if self._head is None and self._free >= 0 and not self._closed:
            return True
        self._tokens.append(TOKEN)
        self._hand_on_again()
        return False

    @uninterrupted
    def _hand_over(self, permit: Permit) -> None:
        """Give one permit to the head of the line, in one go, without a token's way round by `_hand_on`."""
        lock = self._lock
        ticket = None
        try:
            if not lock._is_owned() and lock.acquire(False):
                head = self._head
                if head is not None and head.request == 1 and self._free >= 0:
                    permit._live = False
                    ticket = head
                    ticket.state = GRANTED
                    self._waiting -= 1
                    self._head = following = ticket.after
                    if following is None:
                        self._tail = None
                    else:
                        following.before = ticket.after = None
                    lock.release()
                    if not ticket.unpark():  # its loop is closed
                        self._pass_on([ticket])
                    if self._deferred:
                        self._catch_up()
                    return
                lock.release()
        except BaseException:
            self._mend(ticket)
            raise
        permit._live = False
        self._tokens.append(TOKEN)
        self._hand_on()

    def _put_back(self) -> None:
        self._tokens.append(TOKEN)
        self._hand_on()

    # The engine's questions.
    def _takers(self, ticket: Ticket) -> list[Any]:
        return [permit._entrant for permit in list(self._entered.values())]

    def _join(self, ticket: Ticket) -> bool:
        return self._ask_for_nothing(ticket) or super()._join(ticket)

    def _join_or_leave(self, ticket: Ticket) -> bool:
        return self._ask_for_nothing(ticket) or super()._join_or_leave(ticket)

    def _ask_for_nothing(self, ticket: Ticket) -> bool:
        if ticket.request != 0:
            return False
        ticket.state = GRANTED
        return self._admit(ticket)

    def _admit(self, ticket: Ticket) -> bool:
        if self._closed:  # everybody is let in, to be told
            ticket.request = None
            return True
        while self._free < ticket.request:
            try:
                del self._tokens[-1]
            except IndexError:
                return False
            self._free += 1
        self._free -= ticket.request
        return True

    def _retract(self, ticket: Ticket) -> None:
        self._free += ticket.request or 0

    # Changes, inside the internal lock.
    def _add(self, permits: int) -> None:
        self._free += permits
        self._total += permits

    def _forget(self, permits: int) -> int:
        if self._head is not None:
            return 0
        self._call_in_tokens()
        gone = min(permits, max(0, self._free))
        self._add(-gone)
        return gone

    def _resize(self, permits: int) -> None:
        self._call_in_tokens()
        self._add(permits - self._total)

    def _destroy(self, permit: Permit) -> bool:
        if not permit._live:
            return False
        permit._live = False
        self._total -= permit._count
        return True

    def _call_in_tokens(self) -> None:
        with suppress(IndexError):
            while True:
                del self._tokens[-1]
                self._free += 1

    def _close(self, _: None) -> None:
        self._closed = True

    def _take_back(self, permit: Permit) -> bool:
        if not permit._live:
            return False
        permit._live = False
        if permit._count == 1:
            self._tokens.append(TOKEN)  # for the next one to take the short way
        else:
            self._free += permit._count
        return True

    # For people.
    def _available(self) -> int:
        return 0 if self._head is not None else max(0, self._free + len(self._tokens))

    def _describe(self) -> str:
        if self._closed:
            return "closed"
        available = f"{self._available()} of {self._total} available"
        head = self._head
        if head is None:
            return available
        too_much = f", the first for {head.request}: more than there are" if head.request > self._total else ""
        return f"{available}, {self._waiting} waiting{too_much}"


class Permit(Guard):
    """The hold on some of a semaphore's permits, given back together."""

    __slots__ = ("_count", "_entrant", "_live", "_parts", "_semaphore")

    _semaphore: PermitState
    _count: int
    _live: bool
    _entrant: Any  # of an `async with` block: a weak reference to the task that entered it, None without one
    # What was split off in the block that this permit, or its origin, was entered by. None: it is in no block, or in an
    # ``async with semaphore``, where it holds one permit then: nothing was split off yet, and nothing merged into it.
    _parts: list[Permit] | tuple[()] | None

    @property
    def count(self) -> int:
        """How many permits it holds; 0 once it let go."""
        return self._count if self._live else 0

    @property
    def released(self) -> bool:
        return not self._live

    def forget(self) -> None:
        """Let go without giving back: these permits never come back.

        Raises:
            GuardReleasedError: it let go already.
        """
        semaphore = self._semaphore
        if not semaphore._give(semaphore._destroy, self):
            self._refuse()

    @uninterrupted
    def split(self, permits: int) -> Permit:
        """Make over some of the permits to a new Permit.

        In a block (``async with`` or ``with``) the new one is released with this one at the block's end, if
        it still holds then.

        Raises:
            ValueError: `permits` is negative or more than `count`.
            GuardReleasedError: it let go already.
        """
        permits = checked(permits, "split()")
        self._check_live()
        if permits > self._count:
            raise ValueError(f"split({permits}) of {self!r}: it holds {self._count} only")
        parts = self._block_parts()
        part = make_permit(LoosePermit, self._semaphore, 0, parts)
        self._count -= permits
        part._count = permits
        if parts is not None:
            parts.append(part)
        return part

    @uninterrupted
    def merge(self, other: Permit) -> None:
        """Take over another permit of the same semaphore. Consumes `other`.

        Raises:
            ValueError: `other` is of another semaphore, or this very permit.
            GuardReleasedError: one of them let go already.
        """
        self._check_live()
        if other is self or other._semaphore is not self._semaphore:
            raise ValueError(f"cannot merge {other!r} into {self!r}: it must be another permit of the same semaphore")
        other._check_live()
        self._block_parts()  # the end of the block looks no further than whether there are any
        other._live = False
        self._count += other._count

    def _block_parts(self) -> list[Permit] | None:
        if not isinstance(self._parts, list):
            self._parts = []
        return self._parts

    def _check_live(self) -> None:
        if not self._live:
            self._refuse()

    def _disown(self) -> None:
        """Nothing: nobody is taken for its owner (see `Semaphore._followed`)."""

    def _let_go(self) -> bool:
        semaphore = self._semaphore
        return semaphore._give(semaphore._take_back, self)

    def _leave_block(self) -> None:
        for permit in (self, *(self._parts or ())):
            permit._let_go()

    def _of(self) -> object:
        return self._semaphore

    def __enter__(self) -> Self:
        super().__enter__()
        if self._parts is None:
            self._parts = NO_PARTS
        return self

    def __repr__(self) -> str:
        return f"<{self.count or 'no'} permit{'s' * (self.count != 1)} of {self._semaphore}>"


class LoosePermit(Permit):
    """The permit of everything but ``async with semaphore``."""

    __slots__ = ("__weakref__",)

    def _block_parts(self) -> list[Permit] | None:
        return super()._block_parts() if self._parts is not None else None

    @uninterrupted
    def _let_go(self) -> bool:
        semaphore = self._semaphore
        if not (HAS_GIL and self._live and self._count == 1 and semaphore._head is None):
            return super()._let_go()
        self._live = False  # no call since the look at it: of two threads that let go one comes here
        try:
            semaphore._tokens.append(TOKEN)
            if semaphore._head is not None:  # pragma: no cover - as in `Semaphore.give`
                semaphore._hand_on()
        except BaseException:
            semaphore._hand_on()
            raise
        return True

    def __del__(self) -> None:
        try:
            live = self._live
        except AttributeError:  # Ctrl-C came before it was made
            return
        if live:
            semaphore = self._semaphore
            semaphore._give_from_finalizer(semaphore._take_back, self)
            warn_dropped(self)


class NestedPermit(Permit):
    """The permit of an ``async with`` inside another one of the same task on the same semaphore."""

    __slots__ = ("_outer",)

    _outer: Permit


shown_as("Permit", LoosePermit, NestedPermit)


def make_permit(kind: type[Permit], semaphore: PermitState, count: int, parts: list[Permit] | None = None) -> Permit:
    permit = kind()
    permit._semaphore = semaphore
    permit._count = count
    permit._parts = parts
    permit._live = True
    return permit


def checked(permits: int, what: str) -> int:
    permits = index(permits)
    if permits < 0:
        raise ValueError(f"{what} of {permits} permits: must not be negative")
    return permits
