"""`blocking_acquire`, `blocking_take`: for threads, and for a loop's thread that may stand still for a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asynclocks import Mutex, Semaphore
from tests.native.threaded import RUNNERS, WAIT, coroutine, results, wait_until

SPELLINGS = [(Mutex, "blocking_acquire", "release"), (lambda: Semaphore(1), "blocking_take", "give")]
spelled = pytest.mark.parametrize(("make", "take", "give"), SPELLINGS, ids=["mutex", "semaphore"])


@spelled
def test_threads_take_turns(make: Callable[[], Any], take: str, give: str, threads: ThreadPoolExecutor) -> None:
    """One at a time, first come first served."""
    lock = make()
    getattr(lock, take)()
    waiter = threads.submit(getattr(lock, take), WAIT)
    wait_until(lambda: lock.statistics().waiting == 1)
    getattr(lock, give)()
    waiter.result(WAIT)
    with pytest.raises(TimeoutError, match=rf"{take}\(\) of <"):
        getattr(lock, take)(timeout=0.01)
    getattr(lock, give)()
    assert not lock.locked()


@spelled
@pytest.mark.parametrize("loop", RUNNERS)
def test_a_loop_may_stand_still_for_a_thread(
    make: Callable[[], Any], take: str, give: str, loop: str, threads: ThreadPoolExecutor
) -> None:
    """If the caller says so; else it is refused."""
    lock = make()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="would block"):
            getattr(lock, take)()
        getattr(lock, take)(block_loop=True)
        getattr(lock, give)()
        getattr(lock, take)(block_loop=True)
        other = threads.submit(getattr(lock, take), WAIT)
        wait_until(lambda: lock.statistics().waiting == 1)
        getattr(lock, give)()
        other.result(WAIT)
        threading.Timer(0.01, getattr(lock, give)).start()
        getattr(lock, take)(block_loop=True)
        getattr(lock, give)()

    RUNNERS[loop](main)
    assert not lock.locked()


@pytest.mark.usefixtures("switching")
def test_permits_taken_and_given_by_threads_and_loops_come_back(threads: ThreadPoolExecutor) -> None:
    """None is lost, and never are more taken than there are."""
    semaphore = Semaphore(2)
    inside: list[None] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(300):
            semaphore.blocking_take(WAIT)
            inside.append(None)
            most.append(len(inside))
            inside.pop()
            semaphore.give()

    async def work_in_a_loop() -> None:
        for _ in range(300):
            await semaphore.take()
            inside.append(None)
            most.append(len(inside))
            inside.pop()
            semaphore.give()

    results(
        [threads.submit(work) for _ in range(3)]
        + [threads.submit(run, lambda: coroutine(work_in_a_loop)) for run in RUNNERS.values()]
    )
    assert max(most) <= 2
    assert semaphore.available_permits == semaphore.total_permits == 2
