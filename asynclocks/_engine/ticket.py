"""Tickets: one request each, first in a line, then as the hold on what was granted."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any
from weakref import WeakSet


class State(Enum):
    """Where a ticket stands. It leaves QUEUED once, and only under its synchronizer's internal lock."""

    QUEUED = "waiting in line"
    GRANTED = "admitted: it owns what it asked for"
    WITHDRAWN = "left the line, or passed its grant on, before it could use it"
    RELEASED = "gave back what it was granted"


QUEUED, GRANTED, WITHDRAWN, RELEASED = State


class Ticket:
    """One request for a synchronizer: waiting in line first, then the hold on what was granted.

    The backends' parkers extend it, so that a wait is one object beside the loop's own.
    """

    __slots__ = ("after", "before", "owner", "request", "state", "synchronizer")

    if not TYPE_CHECKING:
        recovered = False  # of tickets that cannot be; others have a slot

    synchronizer: Any
    request: Any  # what it asks for; once the hold was made over to another ticket, that ticket
    owner: Any  # what returns the task when called (a weak reference), or None: untracked
    state: State
    before: Ticket | None
    after: Ticket | None
    recovered: bool  # did who held it before die without releasing?

    def unpark(self) -> bool:
        """Wake who waits with this ticket. Nobody waits with a bare one."""
        raise NotImplementedError

    def pass_on(self) -> None:
        """Give what was granted to the next: the wake was lost with its loop, which was closed."""
        synchronizer = getattr(self, "synchronizer", None)
        if synchronizer is not None:  # else it sleeps on a `Place`, which is given up when the coroutine is collected
            synchronizer._give_from_finalizer(synchronizer._withdraw, self)

    def park_until(self, end: float) -> Awaitable[bool]:
        """`park`, at most until `end` on the clock of its loop. False: the time is over."""
        raise NotImplementedError

    def is_here(self) -> bool:
        """Has whoever waits with this ticket come along, in a child process that was just forked?"""
        return True

    def gives_up(self) -> bool:
        """Is whoever parked with this being cancelled, so that the wait will end by itself?"""
        return False

    def whose(self) -> Any:
        """Who sleeps with this, a task or a thread; None where that cannot be told."""
        return None

    def settle(self) -> None:
        """It was admitted at once and will not park."""

    def leave(self) -> None:
        """Its sleeper was cancelled or is being closed, and will not park again."""


def up_to(ticket: Ticket | None) -> Iterator[Ticket]:
    """The ticket and those before it in the line, the latest first."""
    while ticket is not None:
        yield ticket
        ticket = ticket.before


class RecoveredTicket(Ticket):
    """A ticket that found out later."""

    __slots__ = ()
    if not TYPE_CHECKING:
        recovered = True


def look_after(asleep: Iterable[Ticket]) -> None:
    """In a child process that was just forked: of those who slept in the parent, see to those who were granted.

    Who has come along is woken: perhaps another thread was about to. What the others had not woken up for goes on.
    """
    for ticket in asleep:
        if getattr(ticket, "state", None) is State.GRANTED:  # one that sleeps on a `Place` has none
            if ticket.is_here():
                ticket.unpark()
            else:
                ticket.pass_on()


# What dead tasks held and nobody waited for: the first hold whose guard asks is told.
unawaited: WeakSet[Any] = WeakSet()
