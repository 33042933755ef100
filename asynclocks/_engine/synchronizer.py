"""The one algorithm: a state, a first-in-first-out line of tickets, hand-over and withdrawal.

After Java's AbstractQueuedSynchronizer and tokio's ``batch_semaphore``. A primitive supplies its state
transitions only:

``_admit(ticket)``
    may this request enter in the present state? If so, change the state.
``_retract(ticket)``
    take back what was admitted.

Both run inside the internal lock and run no code of the user's. Everything that touches the state goes
through one door, `_transact`: change the state, serve the line, leave the lock, then wake. Ownership is
handed over before anybody wakes, so nobody can overtake.

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
ends, where a loop turns. Whoever is inside then is struck by that exception, and mends what it left before the
exception goes on: see docs/decisions/whoever-is-struck-mends.md. What must hold at each of those places: between two
of them a change is made whole; and what is made again after a strike is made once.
"""

from __future__ import annotations

import math
import sys
from _thread import RLock
from collections.abc import Callable, Hashable, Iterable
from sys import getrefcount
from time import monotonic
from typing import Any, ClassVar, TypeVar
from weakref import ref

from asynclocks._engine.deadline import Deadline, over
from asynclocks._engine.deadlock import Look, awaited_by_a_holder, check as check_deadlock, key_of, waits, waits_now
from asynclocks._engine.ticket import State, Ticket
from asynclocks._forks import tell_in_child
from asynclocks.backends import blocking_parker, native, owner_here, sleeps, thread_here, thread_local, whose_turn
from asynclocks.backends.seam import LoopBackend, uninterrupted, weakly

__all__ = ["GRANTED", "QUEUED", "RELEASED", "WITHDRAWN", "QueuedSynchronizer", "Reentered", "Ticket", "weakly"]

QUEUED, GRANTED, WITHDRAWN, RELEASED = State.QUEUED, State.GRANTED, State.WITHDRAWN, State.RELEASED

A = TypeVar("A")
R = TypeVar("R")


SOON, SELDOM = 0.001, 1.0  # seconds between two looks


class Reentered(RuntimeError):
    """This thread is inside the internal lock already: a finalizer or signal handler interrupted it there."""


REENTERED = "{} was used by a finalizer or signal handler in the middle of its own work; use it later"


class QueuedSynchronizer:
    """Base of every primitive. See the module's text."""

    __slots__ = ("__weakref__", "_deferred", "_head", "_lock", "_name", "_struck", "_tail", "_waiting")

    kind: ClassVar[str]
    _followed: ClassVar[bool] = True  # for deadlocks
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

    def _owners(self, ticket: Ticket) -> Iterable[Any]:
        """Whom this waiting ticket waits for, as weak references to tasks. Asked of those that are `_followed`."""
        raise NotImplementedError

    def _holder_sleeps(self, ticket: Ticket, backend: LoopBackend) -> bool:
        """Does an owner of what this ticket waits for wait for anything? Only then it can be for this ticket's task."""
        return any(task is not None and backend.sleeps(task) for task in (owner() for owner in self._owners(ticket)))

    def _takers(self, ticket: Ticket) -> Iterable[Any]:
        """`_owners`, and those that are not followed for deadlocks but known."""
        return self._owners(ticket)

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
            granted = None
            try:
                if not lock.acquire(False):
                    return
                if self._deferred:  # else somebody was quicker, a finalizer between these lines perhaps
                    change, argument = self._deferred[0]
                    del self._deferred[0]
                    try:
                        change(argument)
                    except BaseException:
                        change(argument)  # nobody else would make it
                        raise
                    granted = self._serve()
                lock.release()
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
        if not self._join(ticket) and type(self)._unlink is QueuedSynchronizer._unlink:
            self._unlink(ticket)
            ticket.state = QUEUED
            ticket.after = head = self._head
            self._head = ticket
            self._waiting += 1
            if head is None:
                self._tail = ticket
            else:
                head.before = ticket

    def _release(self, ticket: Ticket) -> bool:
        """Give back what was granted. False: it was given back before."""
        if ticket.state is not GRANTED:
            return False
        self._retract(ticket)
        ticket.state = RELEASED
        return True

    def _release_dropped(self, ticket: Ticket) -> None:
        """Give back what a guard held that was dropped. It must not raise: whoever is inside the lock performs it."""
        self._release(ticket)

    def _make_over(self, old: Ticket) -> Ticket | None:
        """A new ticket that holds what the old one held. None: that held nothing any more."""
        if old.state is not GRANTED:
            return None
        new: Ticket = self._fill_in(Ticket(), old.request, old.owner)
        self._replace(old, new)
        old.state, new.state = RELEASED, GRANTED
        old.request = new
        return new

    def _replace(self, old: Ticket, new: Ticket) -> None:
        """The hold is `new`'s now: for primitives that remember their holders."""

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

    # Acquiring.
    @uninterrupted
    async def _acquire(  # noqa: C901  # a second coroutine would show in each wait
        self,
        request: Any = None,
        *,
        tracked: bool = True,
        task: Any = None,
        backend: LoopBackend = native,
        deadline: Deadline | None = None,
    ) -> Any:
        """Wait until admitted; the ticket that was granted.

        Who knows the running task tells it, with its backend, and has looked for its cancellation already.

        Raises:
            TimeoutError: it was not admitted by the deadline; nothing is held.
        """
        if task is None or (backend is native and thread_local.name is not None):
            backend, task = whose_turn()
            if backend.checkpoints:
                await backend.checkpoint_if_cancelled()
        ticket: Any = backend.parker()
        ticket.synchronizer = self
        ticket.request = request
        ticket.owner = (ref(task) if backend is native and task is not None else weakly(task)) if tracked else None
        ticket.state = WITHDRAWN  # until it joins
        if deadline is not None:
            return await self._acquire_by(deadline, ticket, backend)
        noted = None
        try:
            if self._stand_in_line(ticket):
                ticket.settle()
                if backend.checkpoints:
                    await backend.cancel_shielded_checkpoint()
                return ticket
            # A task that holds nothing need not be followed, unless somebody awaits it, who sleeps then. Whatever it
            # holds refers to it by the one weak reference that its ticket has, so a ticket that has it alone tells
            # (docs/decisions).
            if self._followed and (
                not (getrefcount(ticket.owner) == ALONE and type(ticket.owner) is ref)
                or (self._holder_sleeps(ticket, backend) and awaited_by_a_holder(task, ticket))
            ):
                noted = self._note(task, ticket)
                await self._park_looking(task, ticket, backend)
            else:
                await ticket.park()
            if ticket.state is QUEUED:
                await self._park_on(ticket)
            if noted is not None:
                waits.pop(noted, None)
        except BaseException:
            self._deferred.append((self._withdraw, ticket))  # in one step: whatever strikes now, it is withdrawn
            try:
                ticket.leave()
                if noted is not None:
                    waits.pop(noted, None)
            finally:
                self._catch_up()
            raise
        return ticket

    async def _park_on(self, ticket: Any) -> None:
        """Park again: a park may return without reason."""
        # A loop of its own: CPython's `try` does not include where a loop turns, and there Ctrl-C may come.
        while ticket.state is QUEUED:
            await ticket.park()

    async def _park_until(self, ticket: Any, end: float) -> None:
        while ticket.state is QUEUED:
            if not await ticket.park_until(end):
                self._transact(self._expire, ticket)  # unless the grant came first

    @uninterrupted
    async def _acquire_by(self, deadline: Deadline, ticket: Any, backend: LoopBackend) -> Any:
        """`_acquire` with a deadline. Such a wait ends by itself, so it is not followed for deadlocks."""
        end = deadline.at(backend)  # also where it need not wait: a loop without timers says so always
        try:
            if self._transact(self._join_or_leave, ticket) if deadline.tries_once else self._stand_in_line(ticket):
                ticket.settle()
            if backend.checkpoints and ticket.state is not QUEUED:
                await backend.cancel_shielded_checkpoint()
            if ticket.state is QUEUED:
                await self._park_until(ticket, end)
            if ticket.state is WITHDRAWN:
                raise over(repr(self), deadline.seconds)  # noqa: TRY301  # it leaves as a cancellation does
        except BaseException:
            self._deferred.append((self._withdraw, ticket))
            try:
                ticket.leave()
            finally:
                self._catch_up()
            raise
        return ticket

    def _note(self, task: Any, ticket: Ticket) -> Hashable | None:
        """Let others see what this task or thread waits for. The key of the note in `waits`."""
        if task is None:  # a callback may drive a coroutine, in no task
            return None
        key = key_of(task)
        waits[key] = ticket
        return key

    def _look(self, task: Any, ticket: Ticket) -> Look:
        """See whether somebody whom this task waits for waits for it.

        Raises:
            DeadlockError: somebody does.
        """
        for owner in self._owners(ticket):
            other = owner()
            if other is not None and (other is task or waits_now(other) is not None or sleeps(other)):
                return check_deadlock(task, ticket)
        return Look.NO_CYCLE

    async def _park_looking(self, task: Any, ticket: Any, backend: LoopBackend) -> None:
        """`_look`, then park. As long as the owner may come to await this task, look again now and then.

        Raises:
            DeadlockError: as there.
        """
        look = Look.NO_CYCLE if task is None else self._look(task, ticket)
        if look is not Look.AGAIN:
            await ticket.park()
        pause = SOON
        while look is Look.AGAIN and ticket.state is QUEUED:
            await ticket.park_until(backend.now() + pause)
            pause = min(2 * pause, SELDOM)
            look = check_deadlock(task, ticket)

    def _acquire_now(self, request: Any = None, owner: Any = None) -> Any:
        """The granted ticket, or None where waiting would be needed."""
        ticket = self._fill_in(Ticket(), request, owner)
        try:
            return ticket if self._transact(self._join_or_leave, ticket) else None
        except Reentered:
            return None
        except BaseException:
            self._deferred.append((self._withdraw, ticket))
            self._catch_up()
            raise

    def _acquire_blocking(self, what: str, request: Any, timeout: float | None, *, anywhere: bool = False) -> Any:
        """`_acquire` for plain threads, or `anywhere`: then it blocks the loop that runs in this thread.

        Raises:
            TimeoutError: it was not admitted in time; nothing is held.
            RuntimeError: a loop runs in this thread.
        """
        parker = blocking_parker(f"{what} of {self}", anywhere=anywhere)
        owner = owner_here() if anywhere else thread_here()
        ticket = self._fill_in(parker, request, owner)
        deadline = math.inf if timeout is None else monotonic() + timeout
        try:
            admitted = self._transact(self._join if deadline > monotonic() else self._join_or_leave, ticket)
            if not (admitted or (ticket.state is not WITHDRAWN and self._park_blocking(ticket, deadline))):
                raise over(f"{what} of {self!r}", timeout)  # noqa: TRY301  # it leaves as KeyboardInterrupt does
        except BaseException:
            self._deferred.append((self._withdraw, ticket))
            self._catch_up()
            raise
        return ticket

    def _park_blocking(self, ticket: Any, deadline: float) -> bool:
        noted = None
        try:
            if deadline == math.inf and self._followed and ticket.owner is not None:
                task = ticket.owner()
                noted = self._note(task, ticket)
                self._look(task, ticket)
            return self._park_thread(ticket, deadline)
        finally:
            if noted is not None:
                waits.pop(noted, None)

    def _park_thread(self, ticket: Any, deadline: float) -> bool:
        while ticket.state is QUEUED:
            left = deadline - monotonic()
            if not ticket.park_blocking(None if left == math.inf else left):
                return not self._transact(self._expire, ticket)
        return True

    def _give_back(self, hold: Ticket) -> bool:
        """Release. False: it was released before."""
        return self._give(self._release, hold)

    def _expire(self, ticket: Ticket) -> bool:
        """Leave the line because the time is over. False: the grant came first."""
        if ticket.state is GRANTED:
            return False
        self._withdraw(ticket)
        return True

    def _fill_in(self, ticket: Any, request: Any, owner: Any) -> Any:
        ticket.synchronizer = self
        ticket.request = request
        ticket.owner = owner
        ticket.state = WITHDRAWN  # until it joins
        ticket.before = ticket.after = None
        return ticket

    # For people.
    def _way_out(self, ticket: Ticket) -> str:
        """What to do where waiting with this ticket is part of a deadlock."""
        return "call disown() on a guard that somebody else will release"

    def _title_without_values(self) -> str:
        """What to call it where no value may be named, a key of a map say."""
        return str(self)

    def __repr__(self) -> str:
        return f"<{self} {self._describe()}>"

    def __str__(self) -> str:
        return f"{self.kind} {self._name!r}" if self._name is not None else f"{self.kind} at {id(self):#x}"

    def _describe(self) -> str:
        raise NotImplementedError

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle or copy {self}: tasks of this process wait for it; pass the object itself")


def being_closed() -> bool:
    """Is a coroutine being closed? Perhaps it is the collector that destroys it: then this is a finalizer."""
    return isinstance(sys.exception(), GeneratorExit)


def _references_to_the_owner_of_a_ticket() -> int:
    ticket = Ticket()
    ticket.owner = object()
    return getrefcount(ticket.owner)


ALONE = _references_to_the_owner_of_a_ticket()  # that nothing else refers to
