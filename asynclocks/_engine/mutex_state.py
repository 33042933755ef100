"""What becomes of a Mutex: who holds it, who waits for whom, and which block an exit ends.

The hot path of taking and giving back a free one is `free_mutex`; the public class and its guards are
`asynclocks.mutex`. What holds is in `_held`: the guard of an ``async with`` block, the ticket behind any other guard,
or `SPELLED`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, cast

from asynclocks._engine.deadline import Deadline
from asynclocks._engine.free_mutex import TOKEN, FreeMutex
from asynclocks._engine.guards import Guard, LooseGuard
from asynclocks._engine.synchronizer import GRANTED, RELEASED, WITHDRAWN, Ticket, being_closed, weakly
from asynclocks.backends import is_gone, is_thread, owner_here, running, running_task, task_name
from asynclocks.backends.seam import LoopBackend, uninterrupted
from asynclocks.exceptions import TryLockError

T = TypeVar("T")

SPELLED = object()  # what `acquire` took holds
RESUMED = object()  # what the ticket of a granted guard asks for: nothing any more, its waiter has resumed
_TAKEN = object()  # it was just taken while free, and its guard is not there yet


class MutexState(FreeMutex, Generic[T]):
    """A Mutex without its public methods."""

    __slots__ = ("_spelled", "_value")

    _value: T
    _loose_guard: ClassVar[Any]

    def __init__(self, value: Any, name: str | None) -> None:
        super().__init__(name)
        self._value = value
        # The right to `release`, a token: there while what `acquire` took holds. Of two who release, one gets it.
        self._spelled: list[Any] = []

    async def _take_elsewhere(self) -> None:
        backend, task = running()
        if backend.checkpoints:
            await backend.checkpoint_if_cancelled()
        if not self._snatch(task):
            await self._acquire(task=task, backend=backend)
        elif backend.checkpoints:
            try:
                await backend.cancel_shielded_checkpoint()
            except BaseException:
                self._held = None
                self._free.append(TOKEN)
                self._hand_on()
                raise

    def _take_free(self, owner: Any) -> Any:
        """A loose guard, if the mutex is free and nobody queues for it, else None; without the internal lock."""
        guard = self._loose_guard()
        guard._mutex = self
        guard._hold = hold = Ticket()
        hold.synchronizer = self
        hold.request = RESUMED
        hold.owner = owner
        hold.state = WITHDRAWN
        try:
            del self._free[0]  # no call: from here to the `return` no signal handler can come between
        except IndexError:  # somebody was quicker
            return None
        if self._head is None:
            self._owner = owner
            self._held = hold
            hold.state = GRANTED
            return guard
        self._free.append(TOKEN)  # somebody queued while the token was out: they go first
        self._hand_on_again()
        return None

    def _take_loosely(self) -> Any:
        guard = self._loose_guard()
        guard._mutex = self
        guard._hold = hold = self._take_now()
        hold.request = RESUMED
        return guard

    def _take_now(self) -> Any:
        hold = self._acquire_now(owner=owner_here())
        if hold is None:
            self._refuse_now()
        return hold

    def _refuse_now(self) -> NoReturn:
        raise TryLockError(f"{self} is held or awaited; wait with `async with`, or try later")

    @uninterrupted
    async def _wait_loosely(self, tracked: bool, deadline: Deadline | None) -> Any:
        guard = self._loose_guard()
        guard._mutex = self
        guard._hold = hold = await self._acquire(tracked=tracked, deadline=deadline)
        hold.request = RESUMED
        return guard

    def _snatch(self, task: Any) -> bool:
        """Take a free mutex without the internal lock."""
        owner = weakly(task)
        try:
            del self._free[0]
        except IndexError:
            return False
        if self._head is None:
            self._owner = owner
            self._held = _TAKEN
            return True
        self._free.append(TOKEN)
        self._hand_on_again()
        return False

    # The engine's questions.
    def _retract(self, ticket: Ticket) -> None:
        if self._held is ticket:
            self._held = None
            self._free.append(TOKEN)
        condvar = ticket.request
        if condvar is not None:  # it was notified, and is gone: to the next
            condvar._give_from_finalizer(condvar._notify_one, None)

    def _owners(self, ticket: Ticket) -> Iterable[Any]:
        # Anybody may release what `acquire` took.
        return () if self._held is SPELLED else self._takers(ticket)

    def _holder_sleeps(self, ticket: Ticket, backend: LoopBackend) -> bool:
        held = self._held
        owner = self._owner
        if owner is None or (isinstance(held, Ticket) and held.request is not RESUMED):  # is about to run
            return False
        task = owner()
        return task is not None and backend.sleeps(task)

    def _takers(self, ticket: Ticket) -> Iterable[Any]:
        held = self._held  # before the owner: see `free_mutex`
        owner = self._owner
        return () if held is None or owner is None else (owner,)

    def _owning_task(self) -> Any:
        owner = next((owner() for owner in self._takers(cast(Ticket, None))), None)
        return None if is_thread(owner) else owner

    # Changes, inside the internal lock. A loose guard may be let go of without that lock, between two calls, by another
    # thread: from the look at its hold to the end of the change nothing is called.
    def _release(self, ticket: Ticket) -> bool:
        if ticket.state is not GRANTED:
            return False
        ticket.state = RELEASED
        if self._held is ticket:
            self._held = None
            self._free.append(TOKEN)
        return True

    def _make_over(self, old: Ticket) -> Ticket | None:
        """A new ticket that holds what the old one held. None: that held nothing any more."""
        new: Ticket = self._fill_in(Ticket(), old.request, old.owner)
        if old.state is not GRANTED:
            return None
        self._held = new
        old.state, new.state = RELEASED, GRANTED
        old.request = new
        return new

    def _take_over(self, guard: LooseGuard) -> bool:
        hold: Ticket = self._fill_in(Ticket(), RESUMED, None)
        try:
            del self._spelled[-1]
        except IndexError:
            return False
        hold.state = GRANTED
        self._held = hold
        self._owner = None
        guard._hold = hold  # type: ignore[misc]  # the subclasses have the slot
        return True

    def _disown(self, guard: Guard) -> None:
        if not guard.released:
            self._owner = Disowned(self._owner)

    def _leave_held(self, guard: Guard) -> bool:
        if not isinstance(guard, LooseGuard):
            if guard.released:
                return False
            self._forgo((guard, self._owner))
        elif guard._hold.state is not GRANTED:
            return False
        else:
            guard._hold.state = RELEASED
        self._held = SPELLED
        self._spelled.append(TOKEN)
        return True

    def _pass_to_another(self, guard: Guard) -> Any:
        if self._held is not guard:
            return None
        other = self._guard()
        other._mutex = self
        self._held = other
        return other

    def _drop(self, guard: Any) -> bool:
        if self._held is not guard:
            return False
        if self._early is None:
            self._early = []
        self._early.append(self._owner or _nobody)
        self._held = None
        self._free.append(TOKEN)
        return True

    # A Condvar's wait.
    def _suspend(self, guard: Guard) -> bool:
        """Let go for a Condvar's wait; `_resume` follows. False: the guard holds no more."""
        if self._held is not guard:
            return isinstance(guard, LooseGuard) and self._give_back(guard._hold)
        if self._head is not None:  # as at the end of its block
            return self._hand_over(guard)
        self._held = None
        try:
            self._free.append(TOKEN)
            if self._head is not None:  # pragma: no cover - somebody came in between, as tested for FreeMutex.__aexit__
                self._hand_on()
        except BaseException:
            self._hand_on()
            raise
        return True

    def _resume(self, guard: Guard, hold: Ticket) -> None:
        """The guard holds again, by what was granted after a Condvar's wait."""
        hold.request = RESUMED
        if guard.__class__ is self._guard:
            self._held = guard
        else:
            cast(LooseGuard, guard)._hold = hold  # type: ignore[misc]  # as above

    def _forgo(self, what: tuple[Guard, Any]) -> None:
        """The guard will not hold again: the end of its `async with` block has nothing to release."""
        guard, owner = what
        if not isinstance(guard, LooseGuard):
            self._early = [*(self._early or ()), owner or _nobody]

    # Exits of `async with` that have to be told apart.
    def _let_go_early(self, guard: Guard) -> bool:
        """Release a guard of ``async with`` before its block's exit, which then has nothing to do."""
        return self._give(self._drop, guard)

    def _leave(self) -> None:
        self._give(self._end_block, (running_task(), being_closed()))

    def _leave_closed(self) -> None:
        """After what its block put off, in order: else the block could be told from the holder's no more."""
        self._give_from_finalizer(self._end_block, (running_task(), being_closed()))

    def _end_block(self, exit_: tuple[Any, bool]) -> None:
        """End the block that this exit belongs to: the one that holds, or one that let go early."""
        task, closing = exit_
        early = self._early or []
        # The newest first: whoever holds began last, and a task's own blocks end in the reverse order.
        holders = [self._owner or _nobody] if isinstance(self._held, Guard) else []
        owners = [*holders, *reversed(early)]
        if not owners:  # a superfluous exit
            return
        ended = _find(owners, len(holders), task, closing=closing)
        if ended is None:  # entered in another task, which lives
            ended = len(owners) - 1 if closing or not holders else 0  # to end the holder's by mistake would be worse
        if ended < len(holders):
            self._held = None
            self._free.append(TOKEN)
        else:
            del early[len(owners) - 1 - ended]
        if not early:
            self._early = None

    # For people.
    def _describe(self) -> str:
        if self._free:
            return "free"
        owner = self._owning_task()
        holder = "held" if owner is None else f"held by task {task_name(owner)!r}"
        return f"{holder}, {self._waiting} waiting" if self._waiting else holder


def _nobody() -> None:
    """In place of a weak reference to an owner."""


class Disowned:
    """In place of a weak reference to an owner who said that somebody else releases; the exit is still theirs."""

    __slots__ = ("entrant",)

    def __init__(self, owner: Any) -> None:
        self.entrant: Any = owner.entrant if isinstance(owner, Disowned) else owner or _nobody

    def __call__(self) -> None:
        """Nobody owns it."""


def _find(owners: list[Any], early: int, task: Any, *, closing: bool) -> int | None:
    """To which of the blocks with these owners does an exit belong that runs in `task`? None: it cannot be told.

    The blocks from `early` on let go early. An exit that closes a coroutine is perhaps run by the collector, in the
    middle of any task's step. Then a block whose task is gone comes first: of several, one that let go early, for that
    leaves the others as they are until their own exits. Else the running task's own comes first, and after that one
    that let go early and whose task is gone.
    """
    owners = [owner.entrant if isinstance(owner, Disowned) else owner for owner in owners]
    own = next((number for number, owner in enumerate(owners) if task is not None and owner() is task), None)
    if own is not None and not closing:
        return own
    candidates = [*range(early, len(owners)), *range(early)]
    return next((number for number in candidates if is_gone(owners[number])), own)
