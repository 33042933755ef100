"""Condvar: what only threads, closed loops and finalizers can do to it."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asynclocks import Condvar, GuardReleasedError, Mutex, TryLockError
from asynclocks.backends.threads import ThreadParker
from tests.native.test_once_threads import wait_until
from tests.native.threaded import OvertakenLock, elsewhere


class Threads:
    """Threads that wait with a condvar; the log has who came back, "!" if its time was over."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self.mutex, self.condvar = Mutex(0), Condvar()
        self.log: list[str] = []

    def _wait(self, name: str, timeout: float | None) -> None:
        with self.mutex.blocking_lock() as guard:
            try:
                self.condvar.blocking_wait(guard, timeout)
            except TimeoutError:
                name += "!"
            assert not guard.released
            guard.value += 1
            self.log.append(name)

    def add(self, name: str, timeout: float | None = None) -> Any:
        before = self.condvar.statistics().waiting
        running = self.pool.submit(self._wait, name, timeout)
        wait_until(lambda: self.condvar.statistics().waiting == before + 1)
        return running


def test_threads_are_woken_in_the_order_in_which_they_waited(threads: ThreadPoolExecutor) -> None:
    """One by one, or all together."""
    waiters = Threads(threads)
    running = [waiters.add(name) for name in "abcd"]
    assert waiters.condvar.notify_one() is True
    running[0].result()
    assert waiters.condvar.notify_all() == 3
    for thread in running:
        thread.result()
    assert waiters.log == ["a", "b", "c", "d"]
    assert waiters.mutex.into_inner() == 4


def test_a_time_over_while_the_mutex_is_held_waits_for_it(threads: ThreadPoolExecutor) -> None:
    """It takes its place in the mutex's line when its time is over."""
    waiters = Threads(threads)
    running = waiters.add("a", 1.5)  # enough to be seen waiting
    with waiters.mutex.blocking_lock():
        wait_until(lambda: waiters.mutex.statistics().waiting == 1)
        assert waiters.log == []
    running.result()
    assert waiters.log == ["a!"]


class InterruptedMutex(Mutex[int]):
    """Its guard is released by somebody else just before a wait gives it up."""

    def _suspend(self, guard: Any) -> bool:
        guard.release()
        return super()._suspend(guard)


def test_a_guard_released_by_another_thread_in_the_last_moment_cannot_wait() -> None:
    """It is refused, and nobody is left in the line."""
    mutex, condvar = InterruptedMutex(0), Condvar()
    guard = mutex.blocking_lock()
    with pytest.raises(GuardReleasedError):
        condvar.blocking_wait(guard)
    assert condvar.statistics().waiting == 0
    assert not mutex.locked()


def test_the_first_of_two_threads_decides_whose_condvar_it_is() -> None:
    """The other one is refused."""

    class Contested(Condvar):
        def _bind(self, mutex: Mutex[Any]) -> None:
            super()._bind(first)
            super()._bind(mutex)

    first, second, condvar = Mutex(0), Mutex(0), Contested()
    with second.blocking_lock() as guard, pytest.raises(ValueError, match="another Condvar"):
        condvar.blocking_wait(guard)


def test_an_interrupted_thread_holds_the_mutex_again_and_passes_its_notification_on(
    monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor
) -> None:
    """KeyboardInterrupt, raised when the mutex is held again."""
    waiters = Threads(threads)
    mutex, condvar = waiters.mutex, waiters.condvar
    park = ThreadParker.park_blocking
    main = threading.current_thread()
    interruptions = [KeyboardInterrupt()]

    def interrupted(self: ThreadParker, timeout: float | None) -> bool:
        if threading.current_thread() is main and interruptions:
            waiters.add("b")
            condvar.notify_one()
            raise interruptions.pop()
        return park(self, timeout)

    monkeypatch.setattr(ThreadParker, "park_blocking", interrupted)
    with mutex.blocking_lock() as guard:
        with pytest.raises(KeyboardInterrupt):
            condvar.blocking_wait(guard)
        assert not guard.released
    wait_until(lambda: waiters.log == ["b"])


async def _wait(mutex: Mutex[int], condvar: Condvar) -> None:
    async with mutex as guard:
        await condvar.wait(guard)


def closed_with_a_waiter(mutex: Mutex[int], condvar: Condvar) -> Any:
    """A task that waits in a loop that is closed."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(_wait(mutex, condvar))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task


def test_a_waiter_whose_loop_is_closed_is_skipped(threads: ThreadPoolExecutor) -> None:
    """The notification goes to the next one."""
    waiters = Threads(threads)
    task = closed_with_a_waiter(waiters.mutex, waiters.condvar)
    alive = waiters.add("a")
    assert waiters.condvar.notify_one()
    alive.result()
    assert waiters.log == ["a"]
    del task
    gc.collect()
    assert not waiters.mutex.locked()
    waiters.mutex.try_lock().release()


def test_a_notified_thread_keeps_its_notification_when_its_time_is_over(threads: ThreadPoolExecutor) -> None:
    """It was notified in time; the mutex takes longer, and nobody else is woken instead."""
    waiters = Threads(threads)
    first = waiters.add("a", 1.0)
    second = waiters.add("b")
    over = threading.Event()
    with waiters.mutex.blocking_lock():
        waiters.condvar.notify_one()
        over.wait(1.2)  # longer than its time
    first.result()
    assert waiters.log == ["a"]
    assert waiters.condvar.statistics().waiting == 1
    waiters.condvar.notify_one()
    second.result()


class NotifyingMutex(Mutex[int]):
    """A finalizer notifies in the middle of its work."""

    condvar: Condvar | None = None

    def _admit(self, ticket: Any) -> bool:
        condvar, self.condvar = self.condvar, None
        if condvar is not None:
            assert condvar.notify_one()
        return super()._admit(ticket)


def test_a_notification_in_the_middle_of_the_mutexs_work_is_not_lost() -> None:
    """The waiter joins the mutex's line when that is possible, and no other does."""
    mutex, condvar = NotifyingMutex(0), Condvar()

    async def main() -> None:
        waiting, other = (asyncio.ensure_future(_wait(mutex, condvar)) for _ in range(2))
        await asyncio.sleep(0)
        with mutex.try_lock():
            mutex.condvar = condvar
            with pytest.raises(TryLockError):
                mutex.try_lock()
        await waiting
        assert condvar.notify(0) == 0  # nothing was put off
        for _ in range(3):
            await asyncio.sleep(0)
        assert not other.done()
        assert condvar.notify_one()
        await other

    asyncio.run(main())
    assert not mutex.locked()


def test_a_coroutine_destroyed_while_it_takes_the_mutex_back_leaves_it() -> None:
    """It was cancelled first, and is closed while somebody else has the mutex."""
    mutex, condvar = Mutex(0), Condvar()

    async def main() -> None:
        coroutine = _wait(mutex, condvar)
        parked: Any = coroutine.send(None)
        parked._asyncio_future_blocking = False  # as a task does
        with mutex.try_lock():
            coroutine.throw(asyncio.CancelledError)
            assert mutex.statistics().waiting == 1
            coroutine.close()
            assert mutex.statistics().waiting == 0
        assert not mutex.locked()

    asyncio.run(main())


@pytest.mark.pure("its internal lock is replaced")
def test_who_notifies_is_not_told_of_a_waiter_whom_another_thread_has_just_notified(
    threads: ThreadPoolExecutor,
) -> None:
    """Nobody was left."""
    waiters = Threads(threads)
    running = waiters.add("a")
    condvar: Any = waiters.condvar
    notified: list[bool] = []
    condvar._lock = OvertakenLock(condvar._lock, lambda: elsewhere(lambda: notified.append(condvar.notify_one())))
    assert condvar.notify_one() is False
    assert notified == [True]
    running.result()
