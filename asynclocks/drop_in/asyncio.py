"""The locks of ``asyncio``, for tasks of any loop. What differs: docs/drop_in.md.

>>> import asyncio
>>> from asynclocks.drop_in.asyncio import Lock
>>> async def main():
...     lock = Lock()
...     async with lock:
...         return lock.locked()
>>> asyncio.run(main())
True
"""

from __future__ import annotations

from asyncio import BrokenBarrierError
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from asynclocks import condvar as _condvar, event as _event, mutex as _mutex, semaphore as _semaphore
from asynclocks.backends import thread_local
from asynclocks.drop_in._common import (
    ClearableFlag,
    UnownedCondition,
    UnownedLock,
    give_or_add,
    given,
    hold_again,
    semaphore_of,
)
from asynclocks.drop_in._rounds import Arrival, Rounds, TellsRounds

__all__ = ["Barrier", "BoundedSemaphore", "BrokenBarrierError", "Condition", "Event", "Lock", "Semaphore"]

T = TypeVar("T")


class _Described:
    """The repr of asyncio's: the object's own, and its state in brackets."""

    __slots__ = ("__weakref__",)

    def _state(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{super().__repr__()[1:-1]} [{self._state()}]>"


def _with_waiters(state: str, waiting: int) -> str:
    return f"{state}, waiters:{waiting}" if waiting else state


class Lock(UnownedLock, _Described):
    """``asyncio.Lock``. Of a `Mutex` given, another spelling.

    Released, it goes to who waits first, at once; `locked` says True from when that one runs, as the original does.
    """

    __slots__ = ("_mutex",)

    _unlocked = "Lock is not acquired."

    def __init__(self, mutex: _mutex.Mutex[Any] | None = None) -> None:
        self._mutex: _mutex.Mutex[Any] = given(mutex, _mutex.Mutex)

    async def acquire(self) -> Literal[True]:
        """Wait until the lock is unlocked, and lock it. Always True."""
        if not self._mutex._acquire_at_once():
            await self._mutex.acquire()
        return True

    async def __aenter__(self) -> None:
        if not self._mutex._acquire_at_once():
            await self._mutex.acquire()

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        try:
            self._mutex.release()
        except RuntimeError as error:
            raise RuntimeError(self._unlocked) from error

    def _state(self) -> str:
        return _with_waiters("locked" if self.locked() else "unlocked", self._mutex.statistics().waiting)


class Event(ClearableFlag, _Described):
    """``asyncio.Event``. Of an `asynclocks.Event` given, another spelling."""

    __slots__ = ("_event",)

    def __init__(self, event: _event.Event | None = None) -> None:
        self._event = given(event, _event.Event)

    async def wait(self) -> Literal[True]:
        """Wait until the flag is set. Always True."""
        if not self._event._flag or thread_local.name is not None:  # trio's: there every wait is a checkpoint
            await self._event.wait()
        return True

    def _state(self) -> str:
        return _with_waiters("set" if self.is_set() else "unset", self._event.statistics().waiting)


class Condition(UnownedCondition, _Described):
    """``asyncio.Condition``, over a lock that several may share. Of a `Condvar` given, another spelling."""

    __slots__ = ("_condvar", "_lock")

    _lock: Lock

    def __init__(
        self, lock: Lock | _mutex.Mutex[Any] | None = None, *, condvar: _condvar.Condvar | None = None
    ) -> None:
        if not isinstance(lock, Lock):
            lock = Lock(lock)
        self._lock = lock
        self._condvar = given(condvar, _condvar.Condvar)

    async def acquire(self) -> Literal[True]:
        """`Lock.acquire`."""
        return await self._lock.acquire()

    async def __aenter__(self) -> None:
        mutex = self._lock._mutex
        if not mutex._acquire_at_once():
            await mutex.acquire()

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        self._lock.release()

    async def wait(self) -> Literal[True]:
        """Release the lock, wait for a notification, and hold the lock again, also if cancelled. Always True.

        Raises:
            RuntimeError: the lock is not held.
        """
        self._check_held("wait on")
        guard = self._lock._mutex.take_over()
        try:
            await self._condvar.wait(guard)
        finally:
            hold_again(guard)
        return True

    async def wait_for(self, predicate: Callable[[], T]) -> T:
        """`wait` until the predicate is true; what it returned."""
        result = predicate()
        while not result:
            await self.wait()
            result = predicate()
        return result

    def _state(self) -> str:
        return _with_waiters("locked" if self.locked() else "unlocked", self._condvar.statistics().waiting)


class Semaphore(_Described):
    """``asyncio.Semaphore``. Of an `asynclocks.Semaphore` given for the value, another spelling."""

    __slots__ = ("_semaphore",)

    def __init__(self, value: int | _semaphore.Semaphore = 1) -> None:
        self._semaphore = semaphore_of(value, "Semaphore initial value must be >= 0")

    async def acquire(self) -> Literal[True]:
        """Wait until the value is more than zero, and take one from it. Always True."""
        await self._semaphore.take()
        return True

    def release(self) -> None:
        """Add one to the value, or let in who waits first."""
        give_or_add(self._semaphore)

    def locked(self) -> bool:
        """Would `acquire` wait?"""
        return self._semaphore.locked()

    async def __aenter__(self) -> None:
        await self._semaphore.take()

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        self.release()

    def _state(self) -> str:
        statistics = self._semaphore.statistics()
        state = f"unlocked, value:{statistics.available}" if statistics.available else "locked"
        return _with_waiters(state, statistics.waiting)


class BoundedSemaphore(Semaphore):
    """``asyncio.BoundedSemaphore``: its value never exceeds what it was at first."""

    __slots__ = ()

    def __init__(self, value: int | _semaphore.Semaphore = 1) -> None:
        super().__init__(value)

    def release(self) -> None:
        """Add one to the value, or let in who waits first.

        Raises:
            ValueError: the value is what it was at first already.
        """
        try:
            self._semaphore.give()
        except ValueError as error:
            raise ValueError("BoundedSemaphore released too many times") from error


class Barrier(TellsRounds, _Described):
    """``asyncio.Barrier``."""

    __slots__ = ("_rounds",)

    def __init__(self, parties: int) -> None:
        self._rounds = Rounds(parties, BrokenBarrierError)

    async def wait(self) -> int:
        """Wait until all parties have come; one's number among them, from 0 on.

        Raises:
            BrokenBarrierError: it was aborted, or reset while this one waited.
        """
        rounds = self._rounds
        arrival = Arrival()
        try:
            while (before := rounds.arrive(arrival)) is not None:
                await before.wait()
            if arrival.is_last:
                arrival.over.set()
            await arrival.over.wait()
        finally:
            try:
                rounds.leave(arrival)
            except BaseException:  # a signal handler's: the others would wait for it
                rounds.leave(arrival)
                raise
        rounds.check(arrival)
        return arrival.number

    async def reset(self) -> None:
        """Begin anew: whoever waits gets BrokenBarrierError."""
        self._rounds.reset()

    async def abort(self) -> None:
        """Break it: whoever waits, and whoever comes until `reset`, gets BrokenBarrierError."""
        self._rounds.abort()

    async def __aenter__(self) -> int:
        return await self.wait()

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None: ...

    def _state(self) -> str:
        state = self._rounds.state
        return state if self.broken else f"{state}, waiters:{self.n_waiting}/{self.parties}"
