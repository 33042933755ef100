"""What anyio's and trio's locks have in common: an owner, who is a task, and conditions over such locks.

An owner is known from the grant on, as there. The mutex below tells only that somebody was granted it and has not
resumed; it serves strictly in order, so it is whoever has waited here longest.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar, Generic, TypeVar

from asynclocks.backends import thread_local
from asynclocks.condvar import Condvar
from asynclocks.drop_in._common import given, hold_again
from asynclocks.drop_in._nowait import Blocks, Nowait, current_task
from asynclocks.drop_in._statistics import LockStatistics
from asynclocks.exceptions import TryLockError
from asynclocks.mutex import Mutex

OwnerT = TypeVar("OwnerT")


class Waiter:
    """One wait for an owned lock."""

    __slots__ = ("task",)

    def __init__(self, task: Hashable) -> None:
        self.task = task


class OwnedLock(Nowait):
    """A lock that only its owner, a task, releases."""

    __slots__ = ("__weakref__", "_mutex", "_owner", "_waiting")

    _twice: ClassVar[str]
    _not_yours: ClassVar[str]

    def __init__(self, mutex: Mutex[Any] | None = None) -> None:
        self._mutex: Mutex[Any] = given(mutex, Mutex)
        self._fast = False
        self._owner: Hashable = None  # who took it, and has resumed
        self._waiting: dict[Waiter, None] = {}  # in the order of the mutex's line

    def locked(self) -> bool:
        """Is it locked?"""
        return self._mutex.locked()

    def release(self) -> None:
        """Unlock.

        Raises:
            RuntimeError: the running task is not its owner.
        """
        if self._owner is None or self._owner is not current_task():
            raise RuntimeError(self._not_yours)
        self._let_go()

    def _let_go(self) -> None:
        self._disown()
        self._mutex.release()

    def _put_back(self, who: Any) -> None:
        self._let_go()

    def _take_now(self, who: Any) -> None:
        task = current_task()
        if self._owner is task:
            raise RuntimeError(self._twice)
        try:
            if thread_local.name is not None or not self._mutex._acquire_at_once():
                self._mutex.acquire_nowait()
        except TryLockError:
            raise self._would_block from None
        self._own(task)

    async def _wait(self, who: Any) -> None:
        waiter = Waiter(current_task())
        self._waiting[waiter] = None
        try:
            await self._mutex.acquire()
        finally:
            del self._waiting[waiter]
        self._own(waiter.task)

    def _own(self, task: Hashable) -> None:
        self._owner = task

    def _disown(self) -> None:
        self._owner = None

    def _present_owner(self) -> Hashable:
        """The owner from the grant on."""
        if self._owner is None and self._mutex.locked() and not self._mutex.in_use():
            return next((waiter.task for waiter in self._waiting), None)
        return self._owner

    def _statistics(self, owner: OwnerT | None) -> LockStatistics[OwnerT]:
        return LockStatistics(self.locked(), owner, self._mutex.statistics().waiting)


L = TypeVar("L", bound=OwnedLock)


class OwnedCondition(Blocks, Generic[L]):
    """A condition over a lock that has an owner."""

    __slots__ = ("__weakref__", "_condvar", "_lock", "_waiters")

    _not_held_to_wait: ClassVar[str]
    _not_held_to_notify: ClassVar[str]

    def __init__(self, lock: L, condvar: Condvar | None) -> None:
        self._lock = lock
        self._condvar = given(condvar, Condvar)
        self._waiters: dict[Waiter, None] = {}  # not notified yet

    def locked(self) -> bool:
        """Is the lock locked?"""
        return self._lock.locked()

    async def acquire(self) -> None:
        """Acquire the lock."""
        await self._lock.acquire()

    def acquire_nowait(self) -> None:
        """Acquire the lock if that needs no wait.

        Raises:
            WouldBlock: it does.
        """
        self._lock.acquire_nowait()

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    async def wait(self) -> None:
        """Release the lock, wait for a notification, and hold the lock again, also if cancelled.

        Raises:
            RuntimeError: the running task does not hold the lock.
        """
        lock = self._lock
        task = self._check_held(self._not_held_to_wait)
        waiter = Waiter(task)
        guard = lock._mutex.take_over()
        lock._disown()
        self._waiters[waiter] = None
        try:
            await self._condvar.wait(guard)
        finally:
            self._waiters.pop(waiter, None)
            lock._waiting.pop(waiter, None)
            if hold_again(guard):
                lock._own(task)

    def notify(self, n: int = 1) -> None:
        """Wake the `n` that have waited longest.

        Raises:
            RuntimeError: the running task does not hold the lock.
        """
        self._check_held(self._not_held_to_notify)
        for _ in range(self._condvar.notify(n)):
            self._move_one()

    def notify_all(self) -> None:
        """Wake whoever waits.

        Raises:
            RuntimeError: the running task does not hold the lock.
        """
        self._check_held(self._not_held_to_notify)
        for _ in range(self._condvar.notify_all()):
            self._move_one()

    def _move_one(self) -> None:
        """The oldest that was not notified waits for the lock from now on."""
        oldest = next(iter(self._waiters), None)
        if oldest is not None:  # else it waited by another spelling
            del self._waiters[oldest]
            self._lock._waiting[oldest] = None

    def _check_held(self, message: str) -> Hashable:
        task = self._lock._owner
        if task is None or task is not current_task():
            raise RuntimeError(message)
        return task
