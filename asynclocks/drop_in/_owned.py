"""What anyio's and trio's locks have in common: owners that are tasks, and borrowers.

An owner is known from the grant on, as there. The primitives below tell only that somebody was granted something and
has not resumed; they serve strictly in order, so it is whoever has waited here longest.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from itertools import islice
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import attrs

from asynclocks.backends import current_backend
from asynclocks.condvar import Condvar
from asynclocks.drop_in._common import Flag, give_or_add, given, hold_again
from asynclocks.event import Event
from asynclocks.exceptions import TryAcquireError, TryLockError, WouldBlock
from asynclocks.mutex import Mutex
from asynclocks.semaphore import Semaphore

OwnerT = TypeVar("OwnerT")
BorrowersT = TypeVar("BorrowersT")
UNLIMITED = 2**62  # tokens of a limiter without a limit


@attrs.frozen
class EventStatistics:
    """How many wait."""

    tasks_waiting: int


@attrs.frozen
class SemaphoreStatistics:
    """How many wait."""

    tasks_waiting: int


@attrs.frozen
class LockStatistics(Generic[OwnerT]):
    """Whether it is locked, by which task, and how many wait."""

    locked: bool
    owner: OwnerT | None
    tasks_waiting: int


@attrs.frozen
class ConditionStatistics(Generic[OwnerT]):
    """How many wait for a notification, and the lock's own."""

    tasks_waiting: int
    lock_statistics: LockStatistics[OwnerT]


@attrs.frozen
class CapacityLimiterStatistics(Generic[BorrowersT]):
    """How many tokens there are and are borrowed, by whom, and how many wait."""

    borrowed_tokens: int
    total_tokens: float
    borrowers: BorrowersT
    tasks_waiting: int


class Pauses(Protocol):
    """The two checkpoints of a library, on the loop that runs."""

    async def checkpoint_if_cancelled(self) -> None: ...
    async def cancel_shielded_checkpoint(self) -> None: ...


class PausesOfTheLoop:
    """The checkpoints of the loop that runs: trio's; asyncio and webloop have none."""

    async def checkpoint_if_cancelled(self) -> None:
        """Raise if the running task is cancelled."""
        await current_backend().checkpoint_if_cancelled()

    async def cancel_shielded_checkpoint(self) -> None:
        """Let others run once."""
        await current_backend().cancel_shielded_checkpoint()


def current_task() -> Hashable:
    """The running task, of whichever loop. UnsupportedLoopError where no loop runs."""
    return current_backend().current_task()


class LastingFlag(Flag):
    """An Event of theirs: once set it stays so."""

    __slots__ = ("__weakref__", "_event")

    def __init__(self, event: Event | None = None) -> None:
        self._event = given(event, Event)

    def statistics(self) -> EventStatistics:
        """How many wait."""
        return EventStatistics(self._event.statistics().waiting)


class Blocks:
    """``async with`` by `acquire` and `release`."""

    __slots__ = ()

    async def acquire(self) -> None:
        """Wait, and take one."""
        raise NotImplementedError

    def release(self) -> None:
        """Give it back."""
        raise NotImplementedError

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        self.release()


class Nowait(Blocks):
    """Acquire at once if it can be, with the checkpoints of the original."""

    __slots__ = ("_fast",)

    _fast: bool  # no checkpoint after an acquisition that need not wait
    _would_block: ClassVar[type[Exception]] = WouldBlock
    _pauses: ClassVar[Pauses]

    async def acquire(self) -> None:
        await self._acquire_as(None)

    def acquire_nowait(self) -> None:
        """Take one if that needs no wait.

        Raises:
            WouldBlock: it does.
        """
        self._take_now(None)

    async def _acquire_as(self, who: Any) -> None:
        await self._pauses.checkpoint_if_cancelled()
        try:
            self._take_now(who)
        except self._would_block:
            await self._wait(who)
            return
        if not self._fast:
            try:
                await self._pauses.cancel_shielded_checkpoint()
            except BaseException:
                self._put_back(who)
                raise

    def _take_now(self, who: Any) -> None:
        raise NotImplementedError

    async def _wait(self, who: Any) -> None:
        raise NotImplementedError

    def _put_back(self, who: Any) -> None:
        self.release()


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


class CountedSemaphore(Nowait):
    """A semaphore with a value that may have a bound."""

    __slots__ = ("__weakref__", "_max_value", "_semaphore")

    _names: ClassVar[dict[str, str]]  # how the errors call what the constructor takes

    def __init__(self, initial_value: int | Semaphore, *, max_value: int | None = None) -> None:
        value = initial_value.total_permits if isinstance(initial_value, Semaphore) else initial_value
        if not isinstance(value, int):
            raise TypeError(self._names["initial type"])
        if value < 0:
            raise ValueError(self._names["initial value"])
        if max_value is not None:
            if not isinstance(max_value, int):
                raise TypeError(self._names["bound type"])
            if max_value < value:
                raise ValueError(self._names["bound value"])
        self._semaphore = initial_value if isinstance(initial_value, Semaphore) else Semaphore(value)
        self._max_value = max_value
        self._fast = False

    @property
    def value(self) -> int:
        """How many may be acquired now."""
        return self._semaphore.available_permits

    @property
    def max_value(self) -> int | None:
        """What the value never exceeds, if anything."""
        return self._max_value

    def release(self) -> None:
        """Add one to the value, or let in who waits first.

        Raises:
            ValueError: the value is `max_value` already.
        """
        if self._max_value is not None and self.value >= self._max_value:
            raise ValueError("semaphore released too many times")
        give_or_add(self._semaphore)

    def statistics(self) -> SemaphoreStatistics:
        """How many wait."""
        return SemaphoreStatistics(self._semaphore.statistics().waiting)

    def _take_now(self, who: Any) -> None:
        try:
            self._semaphore.try_take()
        except TryAcquireError:
            raise self._would_block from None

    async def _wait(self, who: Any) -> None:
        await self._semaphore.take()


class Borrower:
    """One wait of a limiter, on behalf of somebody."""

    __slots__ = ("returned", "whose")

    def __init__(self, whose: object) -> None:
        self.whose = whose
        self.returned = False  # was the token that it was granted returned before it resumed?


class Limiter(Nowait):
    """A sack of tokens, each borrowed on behalf of somebody."""

    __slots__ = ("__weakref__", "_held", "_pending_borrowers", "_semaphore", "_total")

    def __init__(self, total_tokens: float) -> None:
        self._semaphore = Semaphore(0)
        self._fast = False
        self._total: float = 0
        self._held: dict[object, None] = {}
        self._pending_borrowers: dict[Borrower, None] = {}  # in the order of the semaphore's line
        self.total_tokens = total_tokens

    @property
    def total_tokens(self) -> float:
        """How many tokens there are: an int, or ``math.inf``. More are there at once, fewer as they come back."""
        return self._total

    @total_tokens.setter
    def total_tokens(self, total_tokens: float) -> None:
        if not isinstance(total_tokens, int) and total_tokens != math.inf:
            raise TypeError("total_tokens must be an int or math.inf")
        if total_tokens < 0:
            raise ValueError("total_tokens must be >= 0")
        returned = sum(pending.returned for pending in self._pending_borrowers)
        self._total = total_tokens
        self._semaphore.resize((UNLIMITED if total_tokens == math.inf else int(total_tokens)) + returned)

    @property
    def borrowed_tokens(self) -> int:
        """How many are borrowed."""
        return len(self._borrowers())

    @property
    def available_tokens(self) -> float:
        """How many can be borrowed; less than zero while more are borrowed than there are by now."""
        return self._total - self.borrowed_tokens

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Borrow a token for somebody, if that needs no wait.

        Raises:
            WouldBlock: it does.
            RuntimeError: it has one already.
        """
        self._take_now(borrower)

    def acquire_nowait(self) -> None:
        """Borrow a token for the running task, if that needs no wait.

        Raises:
            WouldBlock: it does.
            RuntimeError: it has one already.
        """
        self._take_now(current_task())

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Wait for a token, and borrow it for somebody.

        Raises:
            RuntimeError: it has one already.
        """
        await self._acquire_as(borrower)

    async def acquire(self) -> None:
        """Wait for a token, and borrow it for the running task.

        Raises:
            RuntimeError: it has one already.
        """
        await self._acquire_as(current_task())

    def release(self) -> None:
        """Return the running task's token.

        Raises:
            RuntimeError: it has none.
        """
        self._put_back(current_task())

    def release_on_behalf_of(self, borrower: object) -> None:
        """Return somebody's token.

        Raises:
            RuntimeError: it has none.
        """
        self._put_back(borrower)

    def _take_now(self, who: Any) -> None:
        if who in self._held or any(pending.whose == who for pending in self._granted()):
            raise RuntimeError("this borrower is already holding one of this CapacityLimiter's tokens")
        try:
            self._semaphore.try_take()
        except TryAcquireError:
            raise self._would_block from None
        self._held[who] = None

    async def _wait(self, who: Any) -> None:
        pending = Borrower(who)
        self._pending_borrowers[pending] = None
        try:
            await self._semaphore.take()
        except BaseException:
            del self._pending_borrowers[pending]
            if pending.returned:  # twice by now: by the release, and as it was not taken
                self._semaphore.resize(self._semaphore.total_permits - 1)
            raise
        del self._pending_borrowers[pending]
        if pending.returned:
            self._semaphore.resize(self._semaphore.total_permits - 1)
            self._semaphore.give()
        else:
            self._held[who] = None

    def _put_back(self, who: Any) -> None:
        if who in self._held:
            del self._held[who]
            self._semaphore.give()
            return
        for pending in self._granted():
            if pending.whose == who:
                pending.returned = True
                self._semaphore.add_permits(1)
                return
        raise RuntimeError("this borrower isn't holding any of this CapacityLimiter's tokens")

    def _granted(self) -> list[Borrower]:
        """Who was granted a token and has not resumed, and still has it."""
        if not self._pending_borrowers:
            return []
        granted = len(self._pending_borrowers) - self._semaphore.statistics().waiting
        return [pending for pending in islice(self._pending_borrowers, granted) if not pending.returned]

    def _borrowers(self) -> list[object]:
        """Who has a token, from the grant on."""
        return [*self._held, *(pending.whose for pending in self._granted())]

    def _statistics(self, borrowers: BorrowersT) -> CapacityLimiterStatistics[BorrowersT]:
        waiting = self._semaphore.statistics().waiting
        return CapacityLimiterStatistics(self.borrowed_tokens, self._total, borrowers, waiting)
