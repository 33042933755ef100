"""The one algorithm: a state, a first-in-first-out line of tickets, hand-over and withdrawal.

After Java's AbstractQueuedSynchronizer and tokio's ``batch_semaphore``. A primitive supplies its state
transitions only:

``_admit(ticket)``
    may this request enter in the present state? If so, change the state.
``_retract(ticket)``
    take back what was admitted.

Both run inside the internal lock and run no code of the user's. The lock, the line and who is woken when are in
`_engine.ticket_queue`. Here is how a request waits: on a loop, in a thread, until a deadline, or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from sys import getrefcount
from time import monotonic
from typing import Any, ClassVar
from weakref import ref

from asynclocks._engine.deadline import Deadline, over
from asynclocks._engine.deadlock import (
    Look,
    awaited_by_a_holder,
    check as check_deadlock,
    is_stuck,
    key_of,
    limited,
    look_again,
    waits,
    waits_now,
)
from asynclocks._engine.ticket import GRANTED, QUEUED, RELEASED, WITHDRAWN, Ticket
from asynclocks._engine.ticket_queue import Reentered, TicketQueue, being_closed
from asynclocks.backends import blocking_parker, native, owner_here, sleeps, thread_here, thread_local, whose_turn
from asynclocks.backends.seam import LoopBackend, uninterrupted, weakly

__all__ = [
    "GRANTED",
    "QUEUED",
    "RELEASED",
    "WITHDRAWN",
    "QueuedSynchronizer",
    "Reentered",
    "Ticket",
    "being_closed",
    "weakly",
]

SOON, SELDOM = 0.001, 1.0  # seconds between two looks


class QueuedSynchronizer(TicketQueue):
    """Base of every primitive. See the module's text."""

    __slots__ = ()

    _followed: ClassVar[bool] = True  # for deadlocks

    # What a primitive supplies, besides `_admit` and `_retract`.
    def _owners(self, ticket: Ticket) -> Iterable[Any]:
        """Whom this waiting ticket waits for, as weak references to tasks. Asked of those that are `_followed`."""
        raise NotImplementedError

    def _held_up_by(self, ticket: Ticket) -> list[Ticket] | None:
        """Those before it in line, if it would be let in now without them: it waits for its owners because they do."""
        return None

    def _holder_sleeps(self, ticket: Ticket, backend: LoopBackend) -> bool:
        """Does an owner of what this ticket waits for wait for anything? Only then it can be for this ticket's task."""
        return any(task is not None and backend.sleeps(task) for task in (owner() for owner in self._owners(ticket)))

    def _takers(self, ticket: Ticket) -> Iterable[Any]:
        """`_owners`, and those that are not followed for deadlocks but known."""
        return self._owners(ticket)

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
        """Park again: a park may return without reason, or because a circle was seen to have closed meanwhile.

        Raises:
            DeadlockError: it has.
        """
        # A loop of its own: CPython's `try` does not include where a loop turns, and there Ctrl-C may come.
        while ticket.state is QUEUED:
            if self._followed:
                look_again(ticket)
            await ticket.park()

    async def _park_until(self, ticket: Any, end: float) -> None:
        try:
            limited.add(id(ticket))
            while ticket.state is QUEUED:
                if not await ticket.park_until(end):
                    self._transact(self._expire, ticket)  # unless the grant came first
        finally:
            limited.discard(id(ticket))

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

    def _is_stuck(self, ticket: Ticket) -> bool:
        """Is the wait of who sleeps with this ticket part of a circle by now? For a loop's `Watch`."""
        return is_stuck(ticket)

    async def _park_looking(self, task: Any, ticket: Any, backend: LoopBackend) -> None:
        """`_look`, then park. As long as the owner may come to await this task, look again now and then.

        The longer the line, the less often: one circle is told by any of its children.

        Raises:
            DeadlockError: as there.
        """
        look = Look.NO_CYCLE if task is None else self._look(task, ticket)
        if look is not Look.AGAIN:
            await ticket.park()
        pause = SOON * (self._waiting or 1)
        seldom = max(pause, SELDOM)
        while look is Look.AGAIN and ticket.state is QUEUED:
            await ticket.park_until(backend.now() + pause)
            pause = min(2 * pause, seldom)
            if ticket.state is QUEUED:
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
        parker = blocking_parker(what, self, anywhere=anywhere)
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
            if deadline < math.inf:
                limited.add(id(ticket))
            elif self._followed and ticket.owner is not None:
                task = ticket.owner()
                noted = self._note(task, ticket)
                self._look(task, ticket)
            return self._park_thread(ticket, deadline)
        finally:
            limited.discard(id(ticket))
            if noted is not None:
                waits.pop(noted, None)

    def _park_thread(self, ticket: Any, deadline: float) -> bool:
        while ticket.state is QUEUED:
            left = deadline - monotonic()
            if not ticket.park_blocking(None if left == math.inf else left):
                return not self._transact(self._expire, ticket)
        return True

    # Giving back.
    def _give_back(self, hold: Ticket) -> bool:
        """Release. False: it was released before."""
        return self._give(self._release, hold)

    # Changes, inside the internal lock.
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

    def _expire(self, ticket: Ticket) -> bool:
        """Leave the line because the time is over. False: the grant came first."""
        if ticket.state is GRANTED:
            return False
        self._withdraw(ticket)
        return True

    # A ticket that this synchronizer is to grant.
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

    def _describe(self) -> str:
        raise NotImplementedError

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle or copy {self}: tasks of this process wait for it; pass the object itself")


def _references_to_the_owner_of_a_ticket() -> int:
    ticket = Ticket()
    ticket.owner = object()
    return getrefcount(ticket.owner)


ALONE = _references_to_the_owner_of_a_ticket()  # that nothing else refers to
