"""Mutex: mutual exclusion, optionally around a value (after ``tokio::sync::Mutex``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from asynclocks import backends
from asynclocks._engine.acquisition import Acquisition
from asynclocks._engine.deadline import deadline_of
from asynclocks._engine.free_mutex import TOKEN
from asynclocks._engine.guards import Guard, LooseGuard, MappedGuard, give_back, shown_as
from asynclocks._engine.lock_block import LockBlock, OwnedLockBlock, lock_block
from asynclocks._engine.mutex_state import RESUMED, SPELLED, MutexState
from asynclocks._engine.synchronizer import GRANTED, RELEASED, Ticket, weakly
from asynclocks.backends import check_blocking, native, owner_here, running_task, task_name, thread_here, whose_turn
from asynclocks.backends.seam import HAS_GIL, uninterrupted

if TYPE_CHECKING:
    from asynclocks.statistics import MutexStatistics

__all__ = ["MappedGuard", "Mutex", "MutexGuard"]

T = TypeVar("T")
R = TypeVar("R")


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

    # What it is to hold comes by `_hold =`, right from who granted it: no Ctrl-C can get in between.

    @property
    def recovered(self) -> bool:
        return super(MutexGuard, self).recovered  # the ticket tells

    def _disown(self) -> None:
        MutexGuard._disown(self)

    @uninterrupted
    def _let_go(self) -> bool:
        hold = self._hold
        mutex = self._mutex
        if not (HAS_GIL and hold.state is GRANTED and mutex._held is hold and mutex._head is None):
            return give_back(hold)
        hold.state = RELEASED  # no call since the look at it: of two threads that let go one comes here
        mutex._held = None
        try:
            mutex._free.append(TOKEN)
            if (
                mutex._head is not None
            ):  # pragma: no cover - somebody came in between, as tested for FreeMutex.__aexit__
                mutex._hand_on()
        except BaseException:
            mutex._hand_on()
            raise
        return True

    def __exit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:
        if self._hold.state is GRANTED:
            self._let_go()
        else:  # it let go early, or was turned into another
            self._leave_block()

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
        guard: LooseMutexGuard[T] = LooseMutexGuard()
        self._became = guard
        guard._mutex = self._mutex
        guard._hold = self._turn()
        return guard


class Mutex(MutexState[T]):
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

    __slots__ = ()

    kind = "Mutex"
    _guard = MutexGuard
    _loose_guard = LooseMutexGuard

    @overload
    def __init__(self: Mutex[None], *, name: str | None = None) -> None: ...
    @overload
    def __init__(self, value: T, *, name: str | None = None) -> None: ...
    def __init__(self, value: Any = None, *, name: str | None = None) -> None:
        super().__init__(value, name)

    if TYPE_CHECKING:  # the value's type, which the hot path does not know

        async def __aenter__(self) -> MutexGuard[T]: ...

    def lock(self, timeout: float | None = None) -> Acquisition[MutexGuard[T]]:
        """Wait for the mutex, first come, first served, at most `timeout` seconds.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            DeadlockError: waiting here could never end (and there is no `timeout`).
            UnsupportedLoopError: no supported loop runs here.
        """
        return lock_block(LockBlock, self, timeout)

    def lock_owned(self, timeout: float | None = None) -> Acquisition[MutexGuard[T]]:
        """`lock` for a guard that is meant to be handed to another task or thread: not followed for deadlocks."""
        return lock_block(OwnedLockBlock, self, timeout)

    @uninterrupted
    def try_lock(self) -> MutexGuard[T]:
        """Take the mutex now, from any thread, with or without a loop.

        Raises:
            TryLockError: it is held, or somebody queues for it.
        """
        guard: MutexGuard[T] | None = self._take_free(owner_here()) if self._free else None
        return guard or self._take_loosely()

    def blocking_lock(self, timeout: float | None = None) -> MutexGuard[T]:
        """Park this thread until it has the mutex, at most `timeout` seconds; zero or less tries once.

        Raises:
            TimeoutError: the time is over; nothing is held.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        if self._free and not backends.IN_PYODIDE:  # there a request keeps account of what its plain calls hold
            check_blocking("blocking_lock()", self)
            guard: MutexGuard[T] | None = self._take_free(thread_here())
            if guard is not None:
                return guard
        loose: LooseMutexGuard[T] = LooseMutexGuard()
        loose._mutex = self
        loose._hold = hold = self._acquire_blocking("blocking_lock()", None, timeout)
        hold.request = RESUMED
        return loose

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
        if timeout is not None and not timeout >= 0:
            deadline_of(timeout)  # refuses what is no number
        if self._acquire_at_once():
            return True
        deadline = deadline_of(timeout)
        backend, task = whose_turn()
        if deadline is not None:
            await self._acquire(deadline=deadline)
        elif backend is not native:
            await self._take_elsewhere()
        else:
            await self._acquire(task=task)
        self._held = SPELLED
        self._spelled.append(TOKEN)
        return True

    @uninterrupted
    def _acquire_at_once(self) -> bool:
        """`acquire` by the short way: a task of asyncio's takes a free mutex. False: by the long way."""
        try:
            task = backends.glance() if self._free else None
        except RuntimeError:  # not asyncio
            return False
        if task is None:
            return False
        owner = self._owner
        if owner is None or owner() is not task:
            owner = backends.own(task)
        try:
            del self._free[0]  # no call: from here to the `append` no signal handler can come between
        except IndexError:  # somebody was quicker
            return False
        if self._head is None:
            self._owner = owner
            self._held = SPELLED
            self._spelled.append(TOKEN)
            return True
        self._free.append(TOKEN)
        self._hand_on_again()
        return False

    @uninterrupted
    def acquire_nowait(self) -> None:
        """`acquire` without waiting.

        Raises:
            TryLockError: it is held, or somebody queues for it.
        """
        task = running_task()
        owner = None if task is None else self._owner
        if task is not None and (owner is None or owner() is not task):
            owner = weakly(task)
        try:
            del self._free[0]  # no call, as in `acquire`
        except IndexError:  # somebody was quicker
            self._refuse_now()
        if self._head is not None:
            self._free.append(TOKEN)
            self._hand_on_again()
            self._refuse_now()
        self._owner = owner
        self._held = SPELLED
        self._spelled.append(TOKEN)

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
                self._hand_over(SPELLED)
                return
            self._held = None
            self._free.append(TOKEN)
            if self._head is not None:  # pragma: no cover - somebody came in between, as tested for FreeMutex.__aexit__
                self._hand_on()
        except BaseException:
            self._end_struck(SPELLED)
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
        self._held = SPELLED
        self._spelled.append(TOKEN)

    @uninterrupted
    def take_over(self) -> MutexGuard[T]:
        """A guard for what `acquire` took: from now on the guard releases, or leaves it to `release` again.

        Raises:
            RuntimeError: it is free, or a guard holds it.
        """
        guard: LooseMutexGuard[T] = LooseMutexGuard()
        guard._mutex = self
        if not self._transact(self._take_over, guard):
            raise RuntimeError(f"take_over() of {self!r}: it is not held by what acquire() took")
        return guard

    @uninterrupted
    async def _lock_loose(self, tracked: bool, timeout: float | None) -> MutexGuard[T]:
        """`lock` or `lock_owned` for the compiled engine, where it has no short way."""
        return await lock_block(LockBlock if tracked else OwnedLockBlock, self, timeout)  # type: ignore[no-any-return]

    def locked(self) -> bool:
        """Is it held? Also by a waiter who was granted it and has not resumed yet."""
        return not self._free

    def in_use(self) -> bool:
        """Is it held by somebody who knows? Not by a waiter who was granted it and has not resumed yet."""
        held = self._held
        return held is not None and not (isinstance(held, Ticket) and held.request is not RESUMED)

    def statistics(self) -> MutexStatistics:
        """Who holds it, and how many wait."""
        from asynclocks.statistics import MutexStatistics

        owner = self._owning_task()
        return MutexStatistics(self.locked(), None if owner is None else task_name(owner), self._waiting)


shown_as("MutexGuard", LooseMutexGuard)
