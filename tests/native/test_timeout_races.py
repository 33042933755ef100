"""The end of a wait's time crosses a grant, a cancellation, a loop that is closed; on the clock of the wait's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from asynclocks import Mutex, Notify, Semaphore
from asynclocks.backends.watch import Watch
from tests.native.abandoned import leave_pending, passes
from tests.native.threaded import elsewhere
from tests.support import collect

on_asyncio = pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
LONG = 1000.0


class Timers:
    """The timers of waits on the running loop, to be fired by the test. The loop's watch is none of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._due: list[Callable[[], None]] = []
        monkeypatch.setattr(type(asyncio.get_running_loop()), "call_later", self._call_later, raising=False)

    def _call_later(self, _: float, callback: Callable[[], None], *__: Any, context: Any = None) -> Timers:
        if not isinstance(callback, Watch):
            self._due.append(callback)
        return self

    def cancel(self) -> None:
        """Nothing: a timer that is cancelled may be about to fire in the same pass."""

    def fire(self) -> None:
        for callback in self._due:
            callback()


async def timed(mutex: Mutex[None]) -> None:
    async with mutex.lock(timeout=LONG):
        pass


# the timer fires, and then the mutex is given back; or the other way round
#                                                 A resumes: it has the mutex
@on_asyncio
@pytest.mark.parametrize("order", ["grant first", "timer first"])
async def test_a_grant_in_the_tick_of_the_timer_is_had(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = Timers(monkeypatch)
    mutex: Mutex[None] = Mutex()
    guard = mutex.try_lock()
    task = asyncio.ensure_future(timed(mutex))
    await passes()
    for step in [guard.release, timers.fire] if order == "grant first" else [timers.fire, guard.release]:
        step()
    await task
    assert not mutex.locked()


# the timer fires, and A's task is cancelled, in one tick
#                                                 A resumes: cancelled, and not out of time
@on_asyncio
@pytest.mark.parametrize("order", ["cancel first", "timer first"])
@pytest.mark.parametrize("granted", [False, True])
async def test_a_cancellation_in_the_tick_of_the_timer_wins(
    order: str, granted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And if it was granted, the grant goes to the next."""
    timers = Timers(monkeypatch)
    mutex: Mutex[None] = Mutex()
    guard = mutex.try_lock()
    task = asyncio.ensure_future(timed(mutex))
    await passes()
    following = asyncio.ensure_future(mutex.lock())
    await passes()
    steps: list[Callable[[], object]] = [task.cancel, timers.fire]
    for step in steps if order == "cancel first" else reversed(steps):
        step()
    if granted:
        guard.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    if not granted:
        guard.release()
    (await following).release()
    assert not mutex.locked()


# A: its timer fires          thread: gives the mutex back
# A resumes: it has the mutex, or it has not; nobody else is kept out
@on_asyncio
@pytest.mark.parametrize("released", [True, False])
async def test_a_grant_of_another_thread_crosses_the_timer(released: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = Timers(monkeypatch)
    mutex: Mutex[None] = Mutex()
    guard = mutex.try_lock()
    task = asyncio.ensure_future(timed(mutex))
    await passes()
    timers.fire()
    if released:
        elsewhere(guard.release)
        await task
    else:
        with pytest.raises(TimeoutError):
            await task
        elsewhere(guard.release)
    assert not mutex.locked()


@on_asyncio
async def test_a_wait_that_is_granted_at_once_makes_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    timers = Timers(monkeypatch)
    mutex, semaphore, notify = Mutex(), Semaphore(1), Notify()
    async with mutex.lock(timeout=LONG), semaphore.acquire(timeout=LONG):
        notify.notify_one()
        await notify.notified(timeout=LONG)
    for timeout in (0, -1):
        with mutex.try_lock(), pytest.raises(TimeoutError):
            await mutex.lock(timeout=timeout)
    assert timers._due == []


@on_asyncio
async def test_a_wait_that_ended_cancels_its_timer() -> None:
    loop: Any = asyncio.get_running_loop()
    mutex: Mutex[None] = Mutex()
    guard = mutex.try_lock()
    tasks = [asyncio.ensure_future(timed(mutex)) for _ in range(3)]
    await passes()
    tasks[0].cancel()
    guard.release()
    await asyncio.wait(tasks)
    assert all(timer.cancelled() for timer in getattr(loop, "_scheduled", []) if timer.when() > loop.time() + LONG / 2)


def test_a_waiter_with_a_timeout_whose_loop_was_closed_is_skipped(abandoning: None) -> None:
    mutex: Mutex[None] = Mutex()
    guard = mutex.try_lock()
    loop = leave_pending(lambda: timed(mutex), lambda: timed(mutex))
    guard.release()
    assert not mutex.locked()
    del loop
    collect()
    assert mutex.statistics().waiting == 0


def test_on_trio_the_time_is_that_of_its_clock() -> None:
    """Which a test may set forward."""
    mutex: Mutex[None] = Mutex()

    async def main() -> None:
        before = trio.current_time()
        with mutex.try_lock(), pytest.raises(TimeoutError):
            await mutex.lock(timeout=LONG)
        assert trio.current_time() - before == pytest.approx(LONG)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_on_trio_a_wait_granted_before_its_time_is_over_is_had() -> None:
    """Both happen in one pass: trio does not cancel whom it has rescheduled."""
    mutex: Mutex[None] = Mutex()
    guard = mutex.try_lock()

    async def wait() -> None:
        async with mutex.lock(timeout=1):
            pass

    async def main() -> None:
        clock: Any = trio.lowlevel.current_clock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            guard.release()
            clock.jump(2)

    trio.run(main, clock=trio.testing.MockClock())
    assert not mutex.locked()


@pytest.mark.loops("asyncio")
async def test_who_tries_once_for_a_notification_waits_for_nobody() -> None:
    """Not even for what is due next on this loop."""
    notify = Notify()
    asyncio.get_running_loop().call_soon(notify.notify_one)
    with pytest.raises(TimeoutError):
        await notify.notified(0)
    assert not notify.statistics().stored
    await notify.notified()


def test_on_trio_to_try_once_for_a_notification_is_a_checkpoint() -> None:
    """As everything is that may wait."""

    async def main() -> None:
        with trio.testing.assert_checkpoints(), pytest.raises(TimeoutError):
            await Notify().notified(0)

    trio.run(main)
