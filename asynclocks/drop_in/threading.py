"""The locks of ``threading`` that block, over ours, which tasks may share. What differs: docs/drop_in.md.

>>> from asynclocks.drop_in.threading import Lock
>>> lock = Lock()
>>> with lock:
...     lock.acquire(blocking=False)
False
"""

from __future__ import annotations

from collections.abc import Callable
from threading import TIMEOUT_MAX, BrokenBarrierError, get_ident
from time import monotonic
from typing import Any, TypeVar
from warnings import warn

from asynclocks import condvar as _condvar, event as _event, mutex as _mutex, semaphore as _semaphore
from asynclocks.drop_in._common import ClearableFlag, UnownedCondition, UnownedLock, give_or_add, given, semaphore_of
from asynclocks.drop_in._rounds import Arrival, Rounds, TellsRounds
from asynclocks.exceptions import TryAcquireError, TryLockError

__all__ = ["Barrier", "BoundedSemaphore", "BrokenBarrierError", "Condition", "Event", "Lock", "Semaphore"]

T = TypeVar("T")


class Lock(UnownedLock):
    """``threading.Lock``. Of a `Mutex` given, another spelling.

    For sections that are short everywhere also in a thread where an event loop runs, which it blocks as the original
    does.
    """

    __slots__ = ("__weakref__", "_mutex")

    _unlocked = "release unlocked lock"

    def __init__(self, mutex: _mutex.Mutex[Any] | None = None) -> None:
        self._mutex: _mutex.Mutex[Any] = given(mutex, _mutex.Mutex)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait until it is unlocked, at most `timeout` seconds, and lock it. False: it was not unlocked in time."""
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        if timeout > TIMEOUT_MAX:
            raise OverflowError("timeout value is too large")
        try:
            self._mutex.acquire_nowait()
        except TryLockError:
            if not blocking:
                return False
        else:
            return True
        try:
            self._mutex.blocking_acquire(None if timeout == -1 else timeout, block_loop=True)
        except TimeoutError:
            return False
        return True

    def _save(self) -> int:
        """How often it is held, and will be again by `_restore`."""
        return 1

    def _restore(self, depth: int) -> None:
        """It is held again."""

    def __enter__(self) -> bool:
        try:
            self._mutex.acquire_nowait()
        except TryLockError:
            return self.acquire()
        return True

    def __exit__(self, exc_type: object, exc: object, traceback: object) -> None:
        try:
            self._mutex.release()
        except RuntimeError as error:
            raise RuntimeError(self._unlocked) from error

    def __repr__(self) -> str:
        return f"<{'locked' if self.locked() else 'unlocked'} {super().__repr__()[1:]}"


class _ReentrantLock(Lock):
    """What a `Condition` makes for itself: its thread may acquire it again, and only that thread releases it."""

    __slots__ = ("_depth", "_owner")

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, exc_type: object, exc: object, traceback: object) -> None:
        self.release()

    def __init__(self) -> None:
        super().__init__()
        self._owner: int | None = None
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._owner == get_ident():
            self._depth += 1
            return True
        if not super().acquire(blocking, timeout):
            return False
        self._restore(1)
        return True

    def release(self) -> None:
        if self._owner != get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        self._depth -= 1
        if not self._depth:
            self._owner = None
            super().release()

    def _is_held(self) -> bool:
        return self._owner == get_ident()

    def _save(self) -> int:
        depth, self._depth, self._owner = self._depth, 0, None
        return depth

    def _restore(self, depth: int) -> None:
        self._owner, self._depth = get_ident(), depth


class Condition(UnownedCondition):
    """``threading.Condition``, over a `Lock` that several may share. Of a `Condvar` given, another spelling.

    Without a lock it makes one that its thread may acquire again, as the original does.
    """

    _lock: Lock

    def __init__(
        self, lock: Lock | _mutex.Mutex[Any] | None = None, *, condvar: _condvar.Condvar | None = None
    ) -> None:
        self._lock = lock if isinstance(lock, Lock) else _ReentrantLock() if lock is None else Lock(lock)
        self._condvar = given(condvar, _condvar.Condvar)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """`Lock.acquire`."""
        return self._lock.acquire(blocking, timeout)

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, exc_type: object, exc: object, traceback: object) -> None:
        self._lock.__exit__(exc_type, exc, traceback)

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait for a notification, at most `timeout` seconds, and hold the lock again.

        False: no notification came in time.

        Raises:
            RuntimeError: the lock is not held, or an event loop runs in this thread.
        """
        self._check_held("wait on")
        guard = self._lock._mutex.take_over()
        depth = self._lock._save()
        try:
            self._condvar.blocking_wait(guard, timeout)
        except TimeoutError:
            return False
        finally:
            guard.leave_held()
            self._lock._restore(depth)
        return True

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """`wait` until the predicate is true, at most `timeout` seconds in all; what it returned last."""
        deadline = None if timeout is None else monotonic() + timeout
        result = predicate()
        while not result:
            left = _left(deadline)
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def notifyAll(self) -> None:  # noqa: N802 - as the original
        """`notify_all`, by its old name."""
        warn("notifyAll() is deprecated, use notify_all() instead", DeprecationWarning, stacklevel=2)
        self.notify_all()

    def __repr__(self) -> str:
        return f"<Condition({self._lock!r}, {self._condvar.statistics().waiting})>"


class Event(ClearableFlag):
    """``threading.Event``. Of an `asynclocks.Event` given, another spelling."""

    def __init__(self, event: _event.Event | None = None) -> None:
        self._event = given(event, _event.Event)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set, at most `timeout` seconds. False: it was not set in time.

        Raises:
            RuntimeError: an event loop runs in this thread.
        """
        try:
            self._event.blocking_wait(timeout)
        except TimeoutError:
            return False
        return True

    def isSet(self) -> bool:  # noqa: N802 - as the original
        """`is_set`, by its old name."""
        warn("isSet() is deprecated, use is_set() instead", DeprecationWarning, stacklevel=2)
        return self.is_set()

    def __repr__(self) -> str:
        return f"<{_name_of(self)} at {id(self):#x}: {'set' if self.is_set() else 'unset'}>"


class Semaphore:
    """``threading.Semaphore``. Of an `asynclocks.Semaphore` given for the value, another spelling.

    Like `Lock` also in a thread where an event loop runs.
    """

    def __init__(self, value: int | _semaphore.Semaphore = 1) -> None:
        self._semaphore = semaphore_of(value, "semaphore initial value must be >= 0")

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Wait until the value is more than zero, at most `timeout` seconds, and take one. False: not in time."""
        if not blocking and timeout is not None:
            raise ValueError("can't specify timeout for non-blocking acquire")
        try:
            self._semaphore.try_take()
        except TryAcquireError:
            if not blocking:
                return False
        else:
            return True
        try:
            self._semaphore.blocking_take(timeout, block_loop=True)
        except TimeoutError:
            return False
        return True

    def release(self, n: int = 1) -> None:
        """Add `n` to the value, or let in who waits first."""
        for _ in range(_at_least_one(n)):
            give_or_add(self._semaphore)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, exc_type: object, exc: object, traceback: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{_name_of(self)} at {id(self):#x}: value={self._semaphore.available_permits}>"


class BoundedSemaphore(Semaphore):
    """``threading.BoundedSemaphore``: its value never exceeds what it was at first."""

    def release(self, n: int = 1) -> None:
        """Add `n` to the value, or let in who waits first.

        Raises:
            ValueError: the value would exceed what it was at first.
        """
        if self._semaphore.available_permits + _at_least_one(n) > self._semaphore.total_permits:
            raise ValueError("Semaphore released too many times")
        super().release(n)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}/{self._semaphore.total_permits}>"


class Barrier(TellsRounds):
    """``threading.Barrier``."""

    def __init__(self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None) -> None:
        self._rounds = Rounds(parties, BrokenBarrierError)
        self._action = action
        self._timeout = timeout

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties have come, at most `timeout` seconds; one's number among them, from 0 on.

        The last to come runs the action before all go on. A time that is over breaks the barrier.

        Raises:
            BrokenBarrierError: it was aborted, or reset while this one waited, or the time was over for somebody.
            RuntimeError: an event loop runs in this thread.
        """
        rounds = self._rounds
        timeout = self._timeout if timeout is None else timeout
        deadline = None if timeout is None else monotonic() + timeout
        arrival = Arrival()
        try:
            while (before := rounds.arrive(arrival)) is not None:
                before.blocking_wait(_left(deadline))
            if arrival.is_last:
                self._open(arrival)
            else:
                arrival.over.blocking_wait(_left(deadline))
        except TimeoutError:
            rounds.abort()
            if arrival.round is None:
                raise BrokenBarrierError from None
        finally:
            try:
                rounds.leave(arrival)
            except BaseException:  # a signal handler's: the others would wait for it
                rounds.leave(arrival)
                raise
        rounds.check(arrival)
        return arrival.number

    def _open(self, complete: Arrival) -> None:
        try:
            if self._action is not None:
                self._action()
        except BaseException:
            self.abort()
            raise
        complete.over.set()

    def reset(self) -> None:
        """Begin anew: whoever waits gets BrokenBarrierError."""
        self._rounds.reset()

    def abort(self) -> None:
        """Break it: whoever waits, and whoever comes until `reset`, gets BrokenBarrierError."""
        self._rounds.abort()

    def __repr__(self) -> str:
        state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<{_name_of(self)} at {id(self):#x}: {state}>"


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - monotonic()


def _at_least_one(n: int) -> int:
    if n < 1:
        raise ValueError("n must be one or more")
    return n


def _name_of(primitive: object) -> str:
    kind = type(primitive)
    return f"{kind.__module__}.{kind.__qualname__}"
