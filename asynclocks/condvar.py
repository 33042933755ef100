"""Condvar: wait for a condition on a mutex's value (after ``parking_lot::Condvar`` and ``asyncio.Condition``).

A notification moves the oldest waiter's ticket from the condvar's line to the end of the mutex's line, where it
waits like any other: notified first, locked first. `_engine.requeuing` says how.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from asynclocks._engine.absent import Absent
from asynclocks._engine.callbacks import no_coroutine
from asynclocks._engine.deadline import deadline_of
from asynclocks._engine.mutex_state import MutexState
from asynclocks._engine.requeuing import RequeuingLine
from asynclocks._engine.synchronizer import GRANTED, WITHDRAWN, Reentered, Ticket
from asynclocks.backends import blocking_parker, check_blocking, whose_turn
from asynclocks.backends.seam import LoopBackend, uninterrupted
from asynclocks.mutex import Mutex, MutexGuard

if TYPE_CHECKING:
    from asynclocks.statistics import CondvarStatistics

T = TypeVar("T")

NO_LOCK = (
    "a Condvar has no lock of its own; lock a Mutex and hand its guard to wait(). "
    "Code written for one with a lock takes a Condition of asynclocks.drop_in"
)


class Condvar(RequeuingLine):
    """Wait for a condition on a Mutex's value.

    `wait` gives up the guard's mutex, waits for a notification, and holds the mutex again when it returns or
    raises, cancelled or not; the same guard stays valid. A notification is never lost: one that reaches a
    waiter who is cancelled goes to the next.

    >>> import asyncio
    >>> async def main():
    ...     inbox, arrived = Mutex([]), Condvar()
    ...     async def reader():
    ...         async with inbox as guard:
    ...             await arrived.wait_while(guard, lambda messages: not messages)
    ...             return guard.value.pop()
    ...     async def writer():
    ...         async with inbox as guard:
    ...             guard.value.append("hello")
    ...             arrived.notify_one()
    ...     return (await asyncio.gather(reader(), writer()))[0]
    >>> asyncio.run(main())
    'hello'
    """

    __slots__ = ()

    kind = "Condvar"

    if not TYPE_CHECKING:
        acquire = Absent(NO_LOCK)
        locked = Absent(NO_LOCK)
        release = Absent(NO_LOCK)
        wait_for = Absent("use wait_while(guard, condition), which waits as long as the condition holds, not until")

    @uninterrupted
    async def wait(  # noqa: C901  # a second coroutine would show in each wait
        self, guard: MutexGuard[T], timeout: float | None = None
    ) -> None:
        """Give up the mutex, wait for a notification, and hold the mutex again, whatever happens.

        At most `timeout` seconds are spent waiting for the notification; taking the mutex again may take longer. Only a
        coroutine destroyed while it is parked cannot take the mutex back: the guard is then released.

        Raises:
            TimeoutError: no notification came in time; the mutex is held again.
            GuardReleasedError: the guard let go already.
            ValueError: the guard is of another mutex than this condvar's first.
        """
        deadline = deadline_of(timeout)
        mutex: MutexState[Any] | None = self._mutex
        if mutex is None or mutex._held is not guard:  # else it is the guard of a block, as is usual
            mutex = self._check(guard)
        backend, _ = whose_turn()
        if backend.checkpoints:
            await backend.checkpoint_if_cancelled()
        end = None if deadline is None else deadline.at(backend)
        ticket = backend.parker()
        error = self._begin(ticket, guard, mutex)
        try:
            try:
                if end is None and error is None:
                    await ticket.park()
            except GeneratorExit:
                raise
            except BaseException as cancellation:  # noqa: BLE001  # raised when the mutex is ours again
                error = cancellation
            while ticket.state is not GRANTED or error is not None:
                try:
                    error = await self._sleep(backend, ticket, error, end)
                    break  # forward: where a loop turns, Ctrl-C may come
                except GeneratorExit:
                    raise
                except BaseException as interruption:  # noqa: BLE001  # Ctrl-C between two steps: as a cancellation
                    error, end = interruption, None
        except GeneratorExit:
            ticket.leave()
            # Its guard stays released: that first, for the exit of the guard's block comes right away.
            mutex._give_from_finalizer(mutex._forgo, (guard, ticket.owner))
            self._give_from_finalizer(self._leave, ticket)
            raise
        try:
            mutex._resume(guard, ticket)
        except BaseException:
            mutex._resume(guard, ticket)
            raise
        if error is not None:
            try:
                raise error
            finally:
                del error  # it refers to this frame, which refers to it

    def blocking_wait(self, guard: MutexGuard[T], timeout: float | None = None) -> None:
        """`wait` for plain threads, at most `timeout` seconds for the notification.

        Raises:
            TimeoutError: no notification came in time; the mutex is held again.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
            GuardReleasedError: the guard let go already.
            ValueError: the guard is of another mutex than this condvar's first.
        """
        self._wait_blocking("blocking_wait()", guard, None if timeout is None else monotonic() + timeout)

    def blocking_wait_while(
        self, guard: MutexGuard[T], condition: Callable[[T], bool], timeout: float | None = None
    ) -> None:
        """`wait_while` for plain threads, at most `timeout` seconds for the notifications of all rounds together.

        Raises:
            TimeoutError: the time was over and the condition still held; the mutex is held again.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
            GuardReleasedError: the guard let go already.
            ValueError: the guard is of another mutex than this condvar's first.
        """
        what = "blocking_wait_while()"
        deadline = None if timeout is None else monotonic() + timeout
        self._check(guard)
        check_blocking(what, self)  # refused where a loop runs, also if there is nothing to wait for
        late: TimeoutError | None = None
        while no_coroutine(condition(guard.value), f"{what}: condition"):
            if late is not None:
                raise late
            try:
                self._wait_blocking(what, guard, deadline)
            except TimeoutError as error:  # the condition may have come true without a notification
                late = error

    def _wait_blocking(self, what: str, guard: MutexGuard[T], deadline: float | None) -> None:
        mutex = self._check(guard)
        ticket = blocking_parker(what, self)
        error = self._begin(ticket, guard, mutex)
        while True:
            try:
                error = self._sleep_blocking(what, ticket, deadline, error)
                break  # forward: where a loop turns, Ctrl-C may come
            except BaseException as interruption:  # noqa: BLE001  # as in `wait`
                error, deadline = interruption, None
        try:
            mutex._resume(guard, ticket)
        except BaseException:
            mutex._resume(guard, ticket)
            raise
        if error is not None:
            raise error

    async def wait_while(
        self, guard: MutexGuard[T], condition: Callable[[T], bool], timeout: float | None = None
    ) -> None:
        """`wait` again and again as long as `condition`, which is asked with the mutex held, says so.

        Raises:
            TimeoutError: `condition` said so after `timeout` seconds of waiting in all; the mutex is held.
        """
        deadline = deadline_of(timeout)
        self._check(guard)
        if not no_coroutine(condition(guard.value), "wait_while(): condition"):
            backend, _ = whose_turn()
            if backend.checkpoints:
                await backend.checkpoint_if_cancelled()
                await backend.cancel_shielded_checkpoint()
            return
        late: TimeoutError | None = None
        while True:
            try:
                await self.wait(guard, deadline)  # type: ignore[arg-type]  # counts on through all rounds
            except TimeoutError as error:
                late = error
            if not no_coroutine(condition(guard.value), "wait_while(): condition"):
                return
            if late is not None:
                raise late

    def notify_one(self) -> bool:
        """Wake the task that has waited longest. True if somebody was waiting."""
        if self._head is None:
            return False
        try:
            return self._transact(self._notify_one, None)
        except Reentered:
            self._deferred.append((self._notify_one, None))
            return True

    def notify_all(self) -> int:
        """Wake everybody who waits; how many."""
        if self._head is None:
            return 0
        try:
            notified = self._transact(self._notify_all, None)
        except Reentered:
            self._deferred.append((self._notify_all, None))
            return self._waiting
        return _roused(notified) if len(notified) > 1 else len(notified)

    def notify(self, n: int) -> int:
        """Wake the `n` that have waited longest, in one go; how many there were.

        What a cancelled one of them does not use goes to the next, as by `notify_one`.
        """
        if self._head is None:
            return 0
        try:
            return _roused(self._transact(self._notify_oldest, n))
        except Reentered:
            self._deferred.append((self._notify_oldest, n))
            return min(n, self._waiting)

    def statistics(self) -> CondvarStatistics:
        """How many wait for a notification."""
        from asynclocks.statistics import CondvarStatistics

        return CondvarStatistics(self._waiting)

    def _check(self, guard: MutexGuard[T]) -> Mutex[T]:
        if not isinstance(guard, MutexGuard):
            raise TypeError(f"{self} waits with a MutexGuard, not with {guard!r}")
        if guard.released:
            guard._refuse()
        mutex = guard.mutex
        if self._mutex is None:
            self._transact(self._bind, mutex)
        if self._mutex is not mutex:
            raise ValueError(f"{self} belongs to {self._mutex}; use another Condvar for {mutex}")
        return mutex

    def _begin(self, ticket: Any, guard: MutexGuard[Any], mutex: MutexState[Any]) -> BaseException | None:
        """Stand in line first, then give up the mutex: whoever takes it next may notify us.

        What struck (Ctrl-C) when the mutex was given up already: to be raised when it is ours again.
        """
        ticket.synchronizer = self
        ticket.request = None
        ticket.owner = mutex._owner
        ticket.state = WITHDRAWN  # until it joins
        try:
            self._stand_in_line(ticket)
            suspended = mutex._suspend(guard)
        except BaseException as interruption:
            if guard.released and ticket.state is not WITHDRAWN:
                return interruption
            self._give_from_finalizer(self._leave, ticket)
            raise
        if not suspended:  # another thread was quicker
            self._give(self._leave, ticket)
            guard._refuse()
        return None

    async def _sleep(
        self, backend: LoopBackend, ticket: Any, error: BaseException | None, end: float | None
    ) -> BaseException | None:
        """Park until the mutex is ours again, and until `end` for the notification; what cancelled us last."""
        park = ticket.park
        if error is not None:
            self._give(self._give_up, ticket)
            park = _shielded(backend, ticket)
        while ticket.state is not GRANTED:
            try:
                if end is None:
                    await park()
                elif not await ticket.park_until(end):
                    end = None  # from here on for the mutex
                    if self._transact(self._expire, ticket):
                        error = self._over("wait()")
            except GeneratorExit:
                raise
            except BaseException as cancellation:  # noqa: BLE001  # raised when the mutex is ours again
                end = None
                error = cancellation
                self._give(self._give_up, ticket)
                park = _shielded(backend, ticket)
        return error

    def _sleep_blocking(
        self, what: str, ticket: Any, deadline: float | None, error: BaseException | None
    ) -> BaseException | None:
        if error is not None:
            self._give(self._give_up, ticket)
        while ticket.state is not GRANTED:
            try:
                if ticket.park_blocking(None if deadline is None else deadline - monotonic()):
                    continue
                if self._transact(self._expire, ticket):
                    error = self._over(what)
            except BaseException as interruption:  # noqa: BLE001  # raised when the mutex is ours again
                error = interruption
                self._give(self._give_up, ticket)
            deadline = None  # from here on for the mutex
        return error

    def _over(self, what: str) -> TimeoutError:
        return TimeoutError(f"{what} of {self}: no notification came in time; the mutex is held again")

    def _describe(self) -> str:
        return f"{self._waiting} waiting"


def _roused(notified: list[Ticket]) -> int:
    """How many. Each has the mutex when the one before gives it up: most can do so in one pass of the loop."""
    for ticket in notified:
        if hasattr(ticket, "rouse"):
            ticket.rouse()
    return len(notified)


def _shielded(backend: LoopBackend, ticket: Any) -> Callable[[], Any]:
    return getattr(ticket, "park_shielded", None) or _between_checkpoints(backend, ticket)


def _between_checkpoints(backend: LoopBackend, ticket: Any) -> Callable[[], Any]:
    """Park on a loop that cannot shield: it may raise at once each time, and must not be starved by that."""

    async def park() -> None:
        await backend.cancel_shielded_checkpoint()
        await ticket.park()

    return park
