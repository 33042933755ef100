"""A first-in-first-out line of tickets with hand-over and withdrawal, and the short lock around its state.

Everything that touches the state goes through one door, `_transact`: change the state, serve the line, leave the lock,
then wake. Ownership is handed over before anybody wakes, so nobody can overtake. `_engine.synchronizer` stands on
this, and parks; nothing here sleeps.

Invariants, whenever the internal lock is free:
1. While the line is not empty, its head is not admissible.
2. A ticket leaves QUEUED once, inside the lock, for GRANTED or WITHDRAWN.
3. A granted ticket that had to wait is unparked exactly once.
4. Entering and leaving the line is O(1) anywhere in it and leaves nothing behind.

The lock knows its owner only to notice re-entry: the collector may run a finalizer that gives a guard back, or a
signal handler may run, while this thread is inside. Then the change is put into `_deferred`, and the thread performs
it on leaving. A finalizer also must not block, or two threads inside two locks could wait for each other:
`_give_from_finalizer` leaves its change to whoever is inside.

A signal handler may also raise (Ctrl-C), wherever CPython looks for signals: where a function begins, where a call
ends, where a loop turns. The thread that is inside then is struck by that exception, and mends what it left before the
exception goes on: see docs/decisions/whoever-is-struck-mends.md. What must hold at each of those places: between two
of them a change is made whole; and what is made again after a strike is made once.
"""

from __future__ import annotations

import sys
from _thread import RLock
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from asynclocks._engine.ticket import GRANTED, QUEUED, WITHDRAWN, Ticket
from asynclocks._forks import tell_in_child
from asynclocks.backends.seam import uninterrupted

A = TypeVar("A")
R = TypeVar("R")


class Reentered(RuntimeError):
    """This thread is inside the internal lock already: a finalizer or signal handler interrupted it there."""


REENTERED = "{} was used by a finalizer or signal handler in the middle of its own work; use it later"


class TicketQueue:
    """The line, and the one door to the state. See the module's text."""

    __slots__ = ("__weakref__", "_deferred", "_head", "_lock", "_name", "_struck", "_tail", "_waiting")

    kind: ClassVar[str]
    _told_of_forks: ClassVar[bool] = True  # by itself; else by whoever has it

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        self._lock: Any = RLock()  # typeshed has no `_is_owned`
        self._deferred: list[tuple[Callable[[Any], object], Any]] = []
        self._head: Ticket | None = None
        self._tail: Ticket | None = None
        self._waiting = 0
        if self._told_of_forks:
            tell_in_child(self)
        self._struck: Ticket | None = None  # the granted, chained, whom a struck thread has still to wake

    # What a primitive supplies.
    def _admit(self, ticket: Ticket) -> bool:
        raise NotImplementedError

    def _retract(self, ticket: Ticket) -> None:
        raise NotImplementedError

    # The one door.
    @uninterrupted
    def _transact(self, change: Callable[[A], R], argument: A) -> R:
        """Change the state inside the lock, serve the line, and wake outside.

        Raises:
            Reentered: this thread is inside already.
        """
        lock = self._lock
        if lock._is_owned():
            raise Reentered(REENTERED.format(self))
        granted = None
        try:
            lock.acquire()
            while self._deferred:  # what this thread left to others comes before what it does now
                self._make_deferred()
                lock.acquire()
            result = change(argument)
            granted = self._serve()
            lock.release()
            if granted is not None:
                self._wake(granted)
            if self._deferred:
                self._catch_up()
        except BaseException:
            self._mend(granted)
            raise
        return result

    @uninterrupted
    def _hand_on(self) -> None:
        """Serve the line after something came back without the lock (see `free_mutex`)."""
        lock = self._lock
        if lock._is_owned():
            self._deferred.append((self._serve_only, None))
            return
        granted = None
        try:
            if not lock.acquire(False):
                if being_closed():
                    self._deferred.append((self._serve_only, None))
                    self._catch_up()
                    return
                lock.acquire()
            granted = self._serve()
            lock.release()
            if granted is not None:
                self._wake(granted)
            if self._deferred:
                self._catch_up()
        except BaseException:
            self._mend(granted)
            raise

    def _hand_on_again(self) -> None:
        """`_hand_on` where nobody else would."""
        try:
            self._hand_on()
        except BaseException:
            self._hand_on()
            raise

    def _mend(self, granted: Ticket | None) -> None:
        """An exception cut a transaction short, its change's own or a signal handler's: make it whole.

        Afterwards the lock is free, the line is served, and whoever was granted something is awake. `granted` are those
        whom the transaction was about to wake.
        """
        lock = self._lock
        if lock._is_owned():
            struck, more = self._struck, None
            try:
                if struck is not None:
                    self._struck = None
                    self._end_grants()
                more = self._serve()
            finally:
                lock.release()
            self._wake(struck)
            self._wake(more)
        self._wake(granted)
        if self._deferred:
            self._catch_up()

    def _give(self, change: Callable[[A], object], argument: A) -> bool:
        """`_transact` for a change that gives something back and must not be refused. False: the change says no."""
        if being_closed():
            self._give_from_finalizer(change, argument)
            return True
        try:
            return self._transact(change, argument) is not False
        except Reentered:
            self._deferred.append((change, argument))
            return True

    def _give_from_finalizer(self, change: Callable[[A], object], argument: A) -> None:
        """`_give` where blocking is forbidden: whoever is inside the lock performs the change on leaving."""
        self._deferred.append((change, argument))
        self._catch_up()

    @uninterrupted
    def _catch_up(self) -> None:
        # Whoever is inside looks at `_deferred` after leaving, so not getting in here loses nothing.
        lock = self._lock
        while self._deferred and not lock._is_owned():
            try:
                if not lock.acquire(False):
                    return
                self._make_deferred()
            except BaseException:
                self._mend(None)
                raise

    @uninterrupted
    def _make_deferred(self) -> None:
        """Inside the lock: make the first of the changes that were put off, serve the line, leave the lock, wake."""
        granted = None
        try:
            if self._deferred:  # else somebody was quicker, a finalizer between these lines perhaps
                change, argument = self._deferred[0]
                del self._deferred[0]
                try:
                    change(argument)
                except BaseException:
                    change(argument)  # nobody else would make it
                    raise
                granted = self._serve()
            self._lock.release()
            self._wake(granted)
        except BaseException:
            self._mend(granted)
            raise

    def _serve(self) -> Ticket | None:
        """Grant heads while they are admitted; the granted, chained as they stood in line. Inside the lock."""
        first = self._head
        if first is None or not self._admit(first):
            return None
        first.state = GRANTED
        self._waiting -= 1
        self._head = ticket = first.after
        if ticket is None:
            self._tail = None
            return first
        self._struck = first  # as long as there may be more to come: a handler's exception in here is not caught here
        while ticket is not None and self._admit(ticket):
            ticket.state = GRANTED
            self._waiting -= 1
            self._head = ticket = ticket.after
        self._end_grants()
        self._struck = None
        return first

    def _end_grants(self) -> None:
        """Let the line begin after the granted."""
        head = self._head
        if head is None:
            self._tail = None
        elif head.before is not None:
            head.before.after = None
            head.before = None

    def _let_all_go(self) -> Ticket | None:
        """Grant the whole line, whatever it asks for; the granted, chained as they stood. Inside the lock."""
        first = ticket = self._head
        while ticket is not None:
            ticket.state = GRANTED
            ticket = ticket.after
        self._head = self._tail = None
        self._waiting = 0
        return first

    def _wake(self, ticket: Ticket | None) -> None:
        """Unpark the granted, chained by `_serve`; `_catch_up` must follow. To do so twice does no harm."""
        if ticket is None:
            return
        tickets = [ticket]
        while (ticket := ticket.after) is not None:
            tickets.append(ticket)
        try:
            self._unpark(tickets)
        except BaseException:
            self._unpark(tickets)
            raise

    def _unpark(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            ticket.before = ticket.after = None
            if not ticket.unpark():
                self._pass_on([ticket])

    def _pass_on(self, dead: list[Ticket]) -> None:
        """Let what was granted to these go on, by `_catch_up`: their loops are closed."""
        self._deferred += [(self._withdraw, ticket) for ticket in dead]

    # After a fork.
    def _after_fork(self) -> None:
        """In the child: free the internal lock, and let those leave the line who waited in other threads.

        What was held stays held: nobody knows whether who holds it has come along.
        """
        lock = self._lock
        if not lock._is_owned():  # else the thread that forked is inside, and goes on
            lock._at_fork_reinit()
        self._give_from_finalizer(self._forget_other_threads, None)

    def _forget_other_threads(self, _: None) -> None:
        if self._struck is not None:
            self._struck = None
            self._end_grants()
        gone = []
        before, ticket = None, self._head
        self._waiting = 0
        while ticket is not None:  # perhaps another thread was about to append, to the chain from the head on first
            self._waiting += 1
            ticket.before = before
            if not ticket.is_here():
                gone.append(ticket)
            before, ticket = ticket, ticket.after
        self._tail = before
        for ticket in gone:
            self._withdraw(ticket)

    # Changes, for `_transact`.
    def _join(self, ticket: Ticket) -> bool:
        """Admit if nobody is queued; else queue.

        Queue, then try: what was given back without the lock (see `free_mutex`) before we stood in line is seen here,
        and who gives back later sees us.
        """
        self._append(ticket)
        if self._head is not ticket or not self._admit(ticket):
            return False
        ticket.state = GRANTED
        self._head = self._tail = None  # it stands there alone
        self._waiting = 0
        return True

    def _append(self, ticket: Ticket) -> None:
        """Queue without trying: `_transact` serves the line, and wakes who parks with this ticket."""
        ticket.state = QUEUED
        ticket.after = None
        ticket.before = tail = self._tail
        self._tail = ticket
        self._waiting += 1
        if tail is None:
            self._head = ticket
        else:
            tail.after = ticket

    @uninterrupted
    def _stand_in_line(self, ticket: Ticket) -> bool:
        """`_join` as a transaction of its own: whether it was admitted, it leaves nobody to serve."""
        lock = self._lock
        if lock._is_owned():
            raise Reentered(REENTERED.format(self))
        try:
            lock.acquire()
            admitted = self._join(ticket)
            lock.release()
            if self._deferred:
                self._catch_up()
        except BaseException:
            self._mend(None)
            raise
        return admitted

    def _join_or_leave(self, ticket: Ticket) -> bool:
        """Admit at once or not at all."""
        if self._head is None and self._admit(ticket):
            ticket.state = GRANTED
            return True
        return False

    def _withdraw(self, ticket: Ticket) -> None:
        """Leave the line, or pass on what was granted and cannot be used."""
        if ticket.state is QUEUED:
            self._unlink(ticket)
            ticket.state = WITHDRAWN
        elif ticket.state is GRANTED:  # woken and cancelled in the same tick
            ticket.state = WITHDRAWN
            try:
                self._retract(ticket)
            except BaseException:
                self._retract(ticket)
                raise

    def _come_back(self, ticket: Ticket) -> None:
        """Let in, or queue at the head, a sleeper that was withdrawn because it seemed to be gone.

        Who minds what leaves the middle of the line has marks in it: there it stays where it joined.
        """
        if not self._join(ticket) and type(self)._unlink is TicketQueue._unlink:
            self._unlink(ticket)
            ticket.state = QUEUED
            ticket.after = head = self._head
            self._head = ticket
            self._waiting += 1
            if head is None:
                self._tail = ticket
            else:
                head.before = ticket

    def _serve_only(self, _: None) -> None:
        """No change of its own: `_transact` serves the line."""

    def _unlink(self, ticket: Ticket) -> None:
        before, after = ticket.before, ticket.after
        if before is None:
            self._head = after
        else:
            before.after = after
        if after is None:
            self._tail = before
        else:
            after.before = before
        ticket.before = ticket.after = None
        self._waiting -= 1

    def __str__(self) -> str:
        return f"{self.kind} {self._name!r}" if self._name is not None else f"{self.kind} at {id(self):#x}"


def being_closed() -> bool:
    """Is a coroutine being closed? Perhaps it is the collector that destroys it: then this is a finalizer."""
    return isinstance(sys.exception(), GeneratorExit)
