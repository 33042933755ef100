"""Event between threads, and between the loops of several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from asynclocks import Event, EventStatistics
from tests.native.threaded import RUNNERS, WAIT, results, wait_until

ROUNDS = 200


def test_a_thread_waits_for_the_flag(threads: ThreadPoolExecutor) -> None:
    """And does not where it is set."""
    event = Event()
    waiter = threads.submit(event.blocking_wait)
    wait_until(lambda: event.statistics().waiting == 1)
    event.set()
    waiter.result(WAIT)
    event.blocking_wait()
    event.blocking_wait(timeout=0)


@pytest.mark.parametrize("timeout", [-1, 0, 0.01])
def test_a_thread_waits_for_the_flag_as_long_as_it_says(timeout: float) -> None:
    """Then it gets TimeoutError, and stands in line no more."""
    event = Event()
    with pytest.raises(TimeoutError, match=r"blocking_wait\(\) of <Event .* not set.* within"):
        event.blocking_wait(timeout)
    assert event.statistics() == EventStatistics(waiting=0, set=False)


async def test_a_blocking_wait_is_refused_on_a_loops_thread() -> None:
    """It would block the loop."""
    with pytest.raises(RuntimeError, match="would block the running"):
        Event().blocking_wait()


def test_a_set_and_clear_lets_go_the_tasks_of_all_loops_and_the_threads(threads: ThreadPoolExecutor) -> None:
    """All who waited at the set, each round again."""
    event = Event()

    def rounds() -> None:
        for _ in range(5):
            event.blocking_wait(WAIT)
            assert wait_for_all.blocking_wait(WAIT) is None

    async def rounds_of_a_task() -> None:
        for _ in range(5):
            await event.wait()
            await wait_for_all.wait()

    wait_for_all = Event()
    waiters = [threads.submit(run, rounds_of_a_task) for run in RUNNERS.values()]
    waiters += [threads.submit(rounds) for _ in range(2)]
    for _ in range(5):
        for flag in (event, wait_for_all):
            wait_until(lambda flag=flag: flag.statistics().waiting == len(waiters))
            flag.set()
            flag.clear()
    results(waiters)


@pytest.mark.usefixtures("switching")
def test_no_set_between_loops_is_lost(threads: ThreadPoolExecutor) -> None:
    """A request and an answer a round, from an asyncio to a trio task and back; each clears what it was told."""
    request, answer = Event(), Event()

    async def ask() -> int:
        for _ in range(ROUNDS):
            request.set()
            await answer.wait()
            answer.clear()
        return ROUNDS

    async def reply() -> int:
        for _ in range(ROUNDS):
            await request.wait()
            request.clear()
            answer.set()
        return ROUNDS

    asking = threads.submit(RUNNERS["asyncio"], ask)
    replying = threads.submit(RUNNERS["trio"], reply)
    assert asking.result(WAIT) == replying.result(WAIT) == ROUNDS


def test_a_set_flag_is_not_waited_for_on_one_loop_after_the_other() -> None:
    """Whichever loop the library met last."""
    event = Event()
    event.set()
    for loop in ("asyncio", "trio", "asyncio", "trio"):
        RUNNERS[loop](event.wait)
    assert event.statistics() == EventStatistics(waiting=0, set=True)
