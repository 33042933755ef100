"""A line whose waiters move to the end of a mutex's line: what ``FUTEX_CMP_REQUEUE`` is to futexes.

Locks are taken in one order, the condvar's before the mutex's. Nobody enters here by being admitted: a notification,
a cancellation or the end of a timeout moves a ticket to the mutex's line, where it waits like any other.

What a ticket carries as its request says whether its notification is to be passed on: the condvar after
`notify_one`, nothing after `notify_all` or a cancellation.
"""

from __future__ import annotations

from typing import Any

from asynclocks._engine.mutex_state import MutexState
from asynclocks._engine.synchronizer import (
    GRANTED,
    QUEUED,
    QueuedSynchronizer,
    Reentered,
    Ticket,
    being_closed,
)


class RequeuingLine(QueuedSynchronizer):
    """The waiters of a Condvar, and the way from its line to its mutex's."""

    __slots__ = ("_mutex",)

    def __init__(self) -> None:
        super().__init__()
        self._mutex: MutexState[Any] | None = None

    # The engine's questions: a notification moves the ticket to the mutex's line.
    def _join(self, ticket: Ticket) -> bool:
        self._append(ticket)
        return False

    def _serve(self) -> None:
        return None

    # Changes, inside the internal lock.
    def _bind(self, mutex: MutexState[Any]) -> None:
        if self._mutex is None:
            self._mutex = mutex

    def _notify_one(self, _: None) -> bool:
        ticket = self._head
        if ticket is None:
            return False
        self._move(ticket, self)
        return True

    def _notify_all(self, _: None) -> list[Ticket]:
        return self._move_oldest(self._waiting, None)

    def _notify_oldest(self, n: int) -> list[Ticket]:
        return self._move_oldest(n, self)

    def _move_oldest(self, n: int, request: RequeuingLine | None) -> list[Ticket]:
        notified: list[Ticket] = []
        mutex: Any = self._mutex  # known since somebody waits
        try:
            self._take_oldest(n, request, notified)
            mutex._give(self._append_to_mutex, notified)
        except BaseException:
            mutex._give_from_finalizer(self._append_to_mutex, notified)
            raise
        return notified

    def _take_oldest(self, n: int, request: RequeuingLine | None, notified: list[Ticket]) -> None:
        while len(notified) < n and (ticket := self._head) is not None:
            notified.append(ticket)
            self._unlink(ticket)
            ticket.synchronizer = self._mutex
            ticket.request = request

    def _expire(self, ticket: Ticket) -> bool:
        """Take the mutex back without a notification. False: one had come."""
        if ticket.synchronizer is not self:
            return False
        self._move(ticket, None)
        return True

    def _give_up(self, ticket: Ticket) -> None:
        """Take the mutex back. A notification that had come goes to the next, if it was for one."""
        if not self._expire(ticket) and ticket.request is self:
            self._notify_one(None)
            ticket.request = None

    def _leave(self, ticket: Ticket) -> None:
        """The waiter is gone: its place, or its lock, goes on."""
        if ticket.synchronizer is self:
            self._withdraw(ticket)
        else:
            ticket.synchronizer._give_from_finalizer(self._leave_mutex, ticket)

    def _leave_mutex(self, ticket: Ticket) -> None:
        """Inside the mutex's lock: leave its line, or give it back. The notification goes on."""
        queued = ticket.state is QUEUED
        ticket.synchronizer._withdraw(ticket)
        if queued and ticket.request is self:  # else see Mutex._retract
            self._give_from_finalizer(self._notify_one, None)

    def _move(self, ticket: Ticket, request: RequeuingLine | None) -> None:
        mutex: Any = self._mutex
        self._unlink(ticket)
        ticket.synchronizer = mutex
        ticket.request = request
        try:
            if being_closed():
                mutex._give_from_finalizer(self._append_to_mutex, [ticket])
                return
            try:
                granted = mutex._stand_in_line(ticket)
            except Reentered:
                mutex._deferred.append((self._append_to_mutex, [ticket]))
                return
            if granted:
                mutex._wake(ticket)
                if mutex._deferred:
                    mutex._catch_up()
        except BaseException:
            if ticket.state is GRANTED:
                mutex._wake(ticket)
                mutex._catch_up()
            else:
                mutex._give_from_finalizer(self._append_to_mutex, [ticket])
            raise

    def _append_to_mutex(self, tickets: list[Ticket]) -> None:
        """Inside the mutex's lock. Those that stand in its line already, or in the condvar's still, stay there."""
        for ticket in tickets:
            mutex = ticket.synchronizer
            if ticket.state is QUEUED and ticket.before is None and mutex._head is not ticket:
                mutex._append(ticket)
