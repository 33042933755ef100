"""Mutex: mutual exclusion, optionally around a value (after ``tokio::sync::Mutex``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast, overload

import attrs

from asynclocks import backends
from asynclocks._engine.deadline import Deadline, deadline_of
from asynclocks._engine.free_mutex import TOKEN, FreeMutex
from asynclocks._engine.guards import Acquisition, Guard, LooseGuard, shown_as
from asynclocks._engine.synchronizer import GRANTED, RELEASED, WITHDRAWN, Ticket, being_closed, weakly
from asynclocks.backends import (
    is_gone,
    is_thread,
    native,
    owner_here,
    running,
    running_task,
    task_name,
    whose_turn,
)
from asynclocks.backends.seam import LoopBackend, uninterrupted
from asynclocks.exceptions import TryLockError

T = TypeVar("T")
R = TypeVar("R")


@attrs.frozen
class MutexStatistics:
    """A Mutex at one moment."""

    locked: bool
    owner: str | None  # the owner task's name, from the moment it was granted; None for lock_owned and threads
    waiting: int


class MutexGuard(Guard, Generic[T]):
    """The hold on a Mutex and the way to its value."""

    __slots__ = ("_mutex", "_recovered")

    _mutex: Mutex[T]
    _recovered: bool  # unset: no

    @property
    def mutex(self) -> Mutex[T]:
        """The mutex it holds, or held."""
        return self._mutex

    @property
    def released(self) -> bool:
        return self._mutex._held is not self

    @property
    def recovered(self) -> bool:
        if self._inherits(self._mutex):
            self._recovered = True
        return getattr(self, "_recovered", False)

    @property
    def value(self) -> T:
        """The mutex's value. Raises GuardReleasedError after the release."""
        mutex = self._mutex
        if mutex._held is not self:
            self._refuse()
        return mutex._value

    @value.setter
    def value(self, value: T) -> None:
        mutex = self._mutex
        if mutex._held is not self:
            self._refuse()
        # The old value goes when nothing of ours is in the middle of anything: its finalizer may do what it likes.
        mutex._value = value

    def map(self, project: Callable[[T], R]) -> MappedGuard[R]:
        """Narrow the guard to a part of the value. Consumes this guard; the lock stays held.

        `project` is called at once; if it raises, this guard stays as it was.

        Raises:
            GuardReleasedError: it let go already.
        """
        return MappedGuard(project(self.value), self._made_over())

    def leave_held(self) -> None:
        """Let go of the guard, not of the mutex: `Mutex.release` gives it back, as what `Mutex.acquire` took.

        Raises:
            GuardReleasedError: it let go already.
        """
        if not self._mutex._transact(self._mutex._leave_held, self):
            self._refuse()

    def _made_over(self) -> MutexGuard[T]:
        """Another guard that holds in this one's place."""
        other: MutexGuard[T] | None = self._mutex._transact(self._mutex._pass_to_another, self)
        if other is None:
            self._refuse()
        return other

    def _disown(self) -> None:
        self._mutex._transact(self._mutex._disown, self)

    def _let_go(self) -> bool:
        return self._mutex._let_go_early(self)

    def _of(self) -> object:
        return self._mutex


class LooseMutexGuard(LooseGuard, MutexGuard[T]):
    """The guard of everything but ``async with mutex``."""

    __slots__ = ("__weakref__", "_became", "_hold")

    _hold: Ticket
    _became: MutexGuard[T]  # kept, or a block that this guard entered would lose it before its exit

    def __init__(self, mutex: Mutex[T]) -> None:
        # What it is to hold comes by `_hold =`, right from who granted it: no Ctrl-C can get in between.
        self._mutex = mutex

    @property
    def recovered(self) -> bool:
        return super(MutexGuard, self).recovered  # the ticket tells

    def _disown(self) -> None:
        MutexGuard._disown(self)

    @property
    def value(self) -> T:
        if self.released:
            self._refuse()
        return self._mutex._value

    @value.setter
    def value(self, value: T) -> None:
        if self.released:
            self._refuse()
        self._mutex._value = value

    def _made_over(self) -> MutexGuard[T]:
        self._became = guard = LooseMutexGuard(self._mutex)
        guard._hold = self._turn()
        return guard


class MappedGuard(Guard, Generic[T]):
    """A guard narrowed to a part of the value. Reading gives the part; setting it is refused."""

    __slots__ = ("_part", "_whole")

    def __init__(self, part: T, whole: Guard) -> None:
        self._part = part
        self._whole = whole

    @property
    def value(self) -> T:
        """The part. Raises GuardReleasedError after the release."""
        if self._whole.released:
            self._refuse()
        return self._part

    @property
    def released(self) -> bool:
        return self._whole.released

    @property
    def recovered(self) -> bool:
        return self._whole.recovered

    def map(self, project: Callable[[T], R]) -> MappedGuard[R]:
        """Narrow it further. Consumes this guard; if `project` raises, it stays held."""
        part = project(self.value)
        return MappedGuard(part, self._whole._made_over())  # type: ignore[attr-defined]

    def _disown(self) -> None:
        self._whole._disown()

    def _let_go(self) -> bool:
        return self._whole._let_go()

    def _leave_block(self) -> None:
        self._whole._leave_block()

    def _of(self) -> object:
        return self._whole._of()


class Mutex(FreeMutex, Generic[T]):
    """Mutual exclusion, optionally around a value.

    First come, first served, on any loop and in any thread. Not reentrant. ``async with mutex:`` is the
    common use and the fast path. The guard owns the lock, not the task: whoever has the guard may
    release it, from any task or thread.

    A task that waits for a mutex it holds, or that closes a cycle of tasks waiting for each other's mutexes, gets
    `DeadlockError` instead of hanging (see `set_deadlock_policy`).

    >>> import asyncio
    >>> async def main():
    ...     counter = Mutex(0, name="counter")
    ...     async with counter as guard:
    ...         guard.value += 1
    ...     async with counter as guard:
    ...         return guard.value
    >>> asyncio.run(main())
    1
    """

    __slots__ = ("_spelled", "_value")

    kind = "Mutex"
    _guard = MutexGuard
    _value: T

    @overload
    def __init__(self: Mutex[None], *, name: str | None = None) -> None: ...
    @overload
    def __init__(self, value: T, *, name: str | None = None) -> None: ...
    def __init__(self, value: Any = None, *, name: str | None = None) -> None:
        super().__init__(name)
        self._value = value
        # The right to `release`, a token: there while what `acquire` took holds. Of two who release, one gets it.
        self._spelled: list[Any] = []

    if TYPE_CHECKING:  # the value's type, which the hot path does not know

        async def __aenter__(self) -> MutexGuard[T]: ...

    def lock(self, timeout: float | None = None) -> Acquisition[MutexGuard[T]]:
        """Wait for the mutex, first come, first served, at most `timeout` seconds.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            DeadlockError: waiting here could never end (and there is no `timeout`).
            UnsupportedLoopError: no supported loop runs here.
        """
        return Acquisition(self, "lock()", partial(self._lock_loose, True, deadline_of(timeout)))

    def lock_owned(self, timeout: float | None = None) -> Acquisition[MutexGuard[T]]:
        """`lock` for a guard that is meant to be handed to another task or thread: not followed for deadlocks."""
        return Acquisition(self, "lock_owned()", partial(self._lock_loose, False, deadline_of(timeout)))

    @uninterrupted
    def try_lock(self) -> MutexGuard[T]:
        """Take the mutex now, from any thread, with or without a loop.

        Raises:
            TryLockError: it is held, or somebody queues for it.
        """
        guard = LooseMutexGuard(self)
        guard._hold = hold = self._take_now()
        hold.request = _RESUMED
        return guard

    def blocking_lock(self, timeout: float | None = None) -> MutexGuard[T]:
        """Park this thread until it has the mutex, at most `timeout` seconds; zero or less tries once.

        Raises:
            TimeoutError: the time is over; nothing is held.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        guard = LooseMutexGuard(self)
        guard._hold = hold = self._acquire_blocking("blocking_lock()", None, timeout)
        hold.request = _RESUMED
        return guard

    def into_inner(self) -> T:
        """The value, when nobody holds the mutex or waits for it. The mutex stays usable.

        Raises:
            TryLockError: it is held or awaited.
        """
        with self.try_lock() as guard:
            return guard.value

    @uninterrupted
    async def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the mutex as ``asyncio.Lock`` spells it; `release` gives it back. Always True.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            DeadlockError: waiting here could never end (and there is no `timeout`).
        """
        try:
            task = backends.glance() if timeout is None else None
        except RuntimeError:  # not asyncio
            task = None
        if task is not None and self._free:
            owner = self._owner
            if owner is None or owner() is not task:
                owner = backends.own(task)
            try:
                del self._free[0]  # no call: from here to the `append` no signal handler can come between
            except IndexError:  # somebody was quicker
                pass
            else:
                if self._head is None:
                    self._owner = owner
                    self._held = _SPELLED
                    self._spelled.append(TOKEN)
                    return True
                self._free.append(TOKEN)
                self._hand_on_again()
        deadline = deadline_of(timeout)
        backend, task = whose_turn()
        if deadline is not None:
            await self._acquire(deadline=deadline)
        elif backend is not native:
            await self._take_elsewhere()
        else:
            await self._acquire(task=task)
        self._held = _SPELLED
        self._spelled.append(TOKEN)
        return True

    @uninterrupted
    def acquire_nowait(self) -> None:
        """`acquire` without waiting.

        Raises:
            TryLockError: it is held, or somebody queues for it.
        """
        if self._free and self._snatch(running_task()):
            self._held = _SPELLED
            self._spelled.append(TOKEN)
        else:
            self._refuse_now()

    @uninterrupted
    def release(self) -> None:
        """Give back what `acquire` took, from any task.

        Raises:
            RuntimeError: it is free, or a guard holds it (then the guard releases).
        """
        try:
            del self._spelled[-1]  # no call in between, as in `acquire`
        except IndexError:
            holder = "nobody holds it" if self._held is None else "a guard holds it; release the guard"
            raise RuntimeError(f"release() of {self}: {holder}") from None
        try:
            if self._head is not None:
                self._hand_over(_SPELLED)
                return
            self._held = None
            self._free.append(TOKEN)
            if self._head is not None:  # pragma: no cover - somebody came in between, as tested for FreeMutex.__aexit__
                self._hand_on()
        except BaseException:
            self._end_struck(_SPELLED)
            raise

    def blocking_acquire(self, timeout: float | None = None, *, block_loop: bool = False) -> None:
        """`acquire` for plain threads, at most `timeout` seconds; zero or less tries once.

        With `block_loop` also in a thread where an event loop runs, which then stands still until somebody in another
        thread releases, as it does for ``threading.Lock``: for sections that are short everywhere. No task of that
        loop may hold the mutex or wait for it then: it could not go on, and nobody would ever.

        Raises:
            TimeoutError: the time is over; nothing is held.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        self._acquire_blocking("blocking_acquire()", None, timeout, anywhere=block_loop)
        self._held = _SPELLED
        self._spelled.append(TOKEN)

    @uninterrupted
    def take_over(self) -> MutexGuard[T]:
        """A guard for what `acquire` took: from now on the guard releases, or leaves it to `release` again.

        Raises:
            RuntimeError: it is free, or a guard holds it.
        """
        guard = LooseMutexGuard(self)
        if not self._transact(self._take_over, guard):
            raise RuntimeError(f"take_over() of {self!r}: it is not held by what acquire() took")
        return guard

    def locked(self) -> bool:
        """Is it held? Also by a waiter who was granted it and has not resumed yet."""
        return not self._free

    def in_use(self) -> bool:
        """Is it held by somebody who knows? Not by a waiter who was granted it and has not resumed yet."""
        held = self._held
        return held is not None and not (isinstance(held, Ticket) and held.request is not _RESUMED)

    def statistics(self) -> MutexStatistics:
        """Who holds it, and how many wait."""
        owner = self._owning_task()
        return MutexStatistics(self.locked(), None if owner is None else task_name(owner), self._waiting)

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

    def _take_now(self) -> Any:
        hold = self._acquire_now(owner=owner_here())
        if hold is None:
            self._refuse_now()
        return hold

    def _refuse_now(self) -> NoReturn:
        raise TryLockError(f"{self} is held or awaited; wait with `async with`, or try later")

    @uninterrupted
    async def _lock_loose(self, tracked: bool, deadline: Deadline | None) -> MutexGuard[T]:
        guard = LooseMutexGuard(self)
        guard._hold = hold = await self._acquire(tracked=tracked, deadline=deadline)
        hold.request = _RESUMED
        return guard

    # The engine's questions.
    def _retract(self, ticket: Ticket) -> None:
        if self._held is ticket:
            self._held = None
            self._free.append(TOKEN)
        condvar = ticket.request
        if condvar is not None and ticket.state is WITHDRAWN:  # it was notified, and is gone: to the next
            condvar._give_from_finalizer(condvar._notify_one, None)

    def _replace(self, old: Ticket, new: Ticket) -> None:
        self._held = new

    def _owners(self, ticket: Ticket) -> Iterable[Any]:
        # Anybody may release what `acquire` took.
        return () if self._held is _SPELLED else self._takers(ticket)

    def _holder_sleeps(self, ticket: Ticket, backend: LoopBackend) -> bool:
        held = self._held
        owner = self._owner
        if owner is None or (isinstance(held, Ticket) and held.request is not _RESUMED):  # is about to run
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

    # Changes, inside the internal lock.
    def _take_over(self, guard: LooseMutexGuard[T]) -> bool:
        hold: Ticket = self._fill_in(Ticket(), _RESUMED, None)
        try:
            del self._spelled[-1]
        except IndexError:
            return False
        hold.state = GRANTED
        self._held = hold
        self._owner = None
        guard._hold = hold
        return True

    def _disown(self, guard: MutexGuard[T]) -> None:
        if not guard.released:
            self._owner = Disowned(self._owner)

    def _leave_held(self, guard: MutexGuard[T]) -> bool:
        if guard.released:
            return False
        if isinstance(guard, LooseMutexGuard):
            guard._hold.state = RELEASED
            guard._hold.request = None
        else:
            self._forgo((guard, self._owner))
        self._held = _SPELLED
        self._spelled.append(TOKEN)
        return True

    def _pass_to_another(self, guard: MutexGuard[T]) -> MutexGuard[T] | None:
        if self._held is not guard:
            return None
        return self._new_guard()

    def _new_guard(self) -> MutexGuard[T]:
        guard: MutexGuard[T] = MutexGuard()
        guard._mutex = self
        self._held = guard
        return guard

    def _drop(self, guard: Any) -> bool:
        if self._held is not guard:
            return False
        if self._early is None:
            self._early = []
        self._early.append(self._owner or _nobody)
        self._held = None
        self._free.append(TOKEN)
        return True

    # Exits of `async with` that have to be told apart.
    def _let_go_early(self, guard: MutexGuard[T]) -> bool:
        """Release a guard of ``async with`` before its block's exit, which then has nothing to do."""
        return self._give(self._drop, guard)

    def _leave(self) -> None:
        self._give(self._end_block, (running_task(), being_closed()))

    def _suspend(self, guard: MutexGuard[T]) -> bool:
        """Let go for a Condvar's wait; `_resume` follows. False: the guard holds no more."""
        if self._held is not guard:
            return isinstance(guard, LooseMutexGuard) and self._give_back(guard._hold)
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

    def _resume(self, guard: MutexGuard[T], hold: Ticket) -> None:
        """The guard holds again, by what was granted after a Condvar's wait."""
        hold.request = _RESUMED
        if guard.__class__ is MutexGuard:
            self._held = guard
        else:
            cast(LooseMutexGuard[T], guard)._hold = hold

    def _forgo(self, what: tuple[MutexGuard[T], Any]) -> None:
        """The guard will not hold again: the end of its `async with` block has nothing to release."""
        guard, owner = what
        if not isinstance(guard, LooseMutexGuard):
            self._early = [*(self._early or ()), owner or _nobody]

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

    def _describe(self) -> str:
        if not self.locked():
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
    candidates = [*range(early, len(owners)), *(range(early) if closing else ())]
    return next((number for number in candidates if is_gone(owners[number])), own)


_SPELLED = object()  # who holds what `acquire` took
_RESUMED = object()  # what the ticket of a granted guard asks for: nothing any more, its waiter has resumed
_TAKEN = object()  # who holds a free mutex just taken, before its guard is there

shown_as("MutexGuard", LooseMutexGuard)
