"""OnceCell, Notify and Barrier between threads, and between the loops of several threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from asynclocks import Barrier, DeadlockError, InitializingError, LazyLock, Notify, OnceCell
from tests.native.threaded import PAUSES, RUNNERS, WAIT, CrowdedLock, coroutine, wait_until

ROUNDS = 200


class Blocking:
    """An initializer in another thread that waits to be told how to end."""

    def __init__(self, cell: OnceCell[Any], threads: ThreadPoolExecutor, outcome: Any) -> None:
        self.outcome = outcome
        self.end = threading.Event()
        self.future: Future[Any] = threads.submit(cell.blocking_get_or_init, self)
        wait_until(lambda: cell.statistics().initializing)

    def __call__(self) -> Any:
        assert self.end.wait(WAIT)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def finish(self) -> Any:
        self.end.set()
        return self.future.result(WAIT)


# --- blocking_get_or_init


def test_a_thread_makes_the_value_once() -> None:
    """The first one's counts."""
    cell: OnceCell[int] = OnceCell()
    assert cell.blocking_get_or_init(lambda: 1) == 1
    assert cell.blocking_get_or_init(lambda: 2) == 1
    assert cell.blocking_get_or_init(lambda: 2, timeout=0) == 1


def test_a_thread_waits_for_anothers_initializer(threads: ThreadPoolExecutor) -> None:
    """And gets its value."""
    cell: OnceCell[str] = OnceCell()
    first = Blocking(cell, threads, "first")
    second = threads.submit(cell.blocking_get_or_init, lambda: "second")
    wait_until(lambda: cell.statistics().waiting == 1)
    assert first.finish() == second.result(WAIT) == "first"


def test_a_failing_initializer_leaves_it_to_the_next_thread(threads: ThreadPoolExecutor) -> None:
    """Only its caller sees the failure."""
    cell: OnceCell[str] = OnceCell()
    first = Blocking(cell, threads, ValueError("first"))
    second = threads.submit(cell.blocking_get_or_init, lambda: "second")
    wait_until(lambda: cell.statistics().waiting == 1)
    with pytest.raises(ValueError, match="first"):
        first.finish()
    assert second.result(WAIT) == "second"


@pytest.mark.parametrize("timeout", [-1, 0, 0.01])
def test_the_timeout_bounds_the_wait_for_anothers_initializer(threads: ThreadPoolExecutor, timeout: float) -> None:
    """Nothing is left behind in the line."""
    cell: OnceCell[str] = OnceCell()
    first = Blocking(cell, threads, "first")
    with pytest.raises(TimeoutError, match="blocking_get_or_init"):
        cell.blocking_get_or_init(lambda: "second", timeout)
    assert cell.statistics().waiting == 0
    assert first.finish() == "first"


def test_the_timeout_does_not_bound_ones_own_initializer() -> None:
    """Zero tries once, and runs it however long it takes."""
    cell: OnceCell[str] = OnceCell()

    def slow() -> str:
        time.sleep(0.02)
        return "slow"

    assert cell.blocking_get_or_init(slow, timeout=0) == "slow"


def test_a_zero_timeout_does_not_stop_at_those_who_only_wait(threads: ThreadPoolExecutor) -> None:
    """They are no initializers."""
    cell: OnceCell[int] = OnceCell()
    waiter = threads.submit(RUNNERS["asyncio"], cell.wait)
    wait_until(lambda: cell.statistics().waiting == 1)
    assert cell.blocking_get_or_init(lambda: 1, timeout=0) == 1
    assert waiter.result(WAIT) == 1


def test_an_awaitable_is_refused_clearly_and_closed() -> None:
    """No `never awaited` beside the TypeError; the cell stays empty."""
    cell: OnceCell[Any] = OnceCell()

    async def init() -> int:
        return 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="get_or_init\\(\\) in a task"):
            cell.blocking_get_or_init(init)
        with pytest.raises(TypeError, match="awaitable"):
            cell.blocking_get_or_init(lambda: LazyLock(int))
        with pytest.raises(TypeError, match="awaitable"):
            LazyLock(init).blocking_get()
        gc.collect()
    assert not cell.statistics().initializing
    assert cell.blocking_get_or_init(lambda: 1) == 1


@pytest.mark.parametrize("loop", RUNNERS)
@pytest.mark.parametrize("value", [(), (1,)], ids=["empty", "set"])
def test_blocking_is_refused_where_a_loop_runs(loop: str, value: tuple[int, ...]) -> None:
    """It would block the loop; also if there is a value already."""
    cell: OnceCell[int] = OnceCell(*value)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="would block"):
            cell.blocking_get_or_init(lambda: 2)
        with pytest.raises(RuntimeError, match="would block"):
            LazyLock(lambda: 2).blocking_get()

    RUNNERS[loop](main)


def test_a_lazy_lock_can_be_made_by_a_thread() -> None:
    """And awaited by tasks later."""
    lazy = LazyLock(lambda: object())  # noqa: PLW0108 - each call makes another one
    value = lazy.blocking_get()
    assert lazy.blocking_get(timeout=0) is value
    assert lazy.get() is value
    for run in RUNNERS.values():
        assert run(lambda: lazy) is value


@pytest.mark.usefixtures("switching")
def test_threads_and_tasks_of_several_loops_run_one_initializer(threads: ThreadPoolExecutor) -> None:
    """Whoever comes first, all get that one's value."""
    start = threading.Barrier(6)
    cells: list[OnceCell[object]] = [OnceCell() for _ in range(ROUNDS)]
    made: list[int] = [0] * ROUNDS

    def make(number: int) -> object:
        made[number] += 1
        return object()

    def in_thread() -> list[object]:
        start.wait(WAIT)
        return [cell.blocking_get_or_init(lambda n=number: make(n)) for number, cell in enumerate(cells)]

    def in_loop(loop: str, *, only_waits: bool) -> list[object]:
        async def init(number: int) -> object:
            await PAUSES[loop]()
            return make(number)

        async def main() -> list[object]:
            if only_waits:
                return [await cell.wait() for cell in cells]
            return [await cell.get_or_init(lambda n=number: init(n)) for number, cell in enumerate(cells)]

        start.wait(WAIT)
        return RUNNERS[loop](main)

    racing = [threads.submit(in_thread) for _ in range(2)]
    racing += [threads.submit(in_loop, loop, only_waits=False) for loop in ("asyncio", "trio", "asyncio")]
    racing += [threads.submit(in_loop, "trio", only_waits=True)]
    first, *others = [future.result(WAIT) for future in racing]
    assert made == [1] * ROUNDS
    for values in others:
        assert all(value is same for value, same in zip(values, first, strict=True))


@pytest.mark.usefixtures("switching")
def test_failing_initializers_of_threads_and_loops_take_turns(threads: ThreadPoolExecutor) -> None:
    """No turn is lost, and no two run at once."""
    cell: OnceCell[str] = OnceCell()
    inside = 0
    runs = 0

    def fail_or_make() -> str:
        nonlocal inside, runs
        inside += 1
        assert inside == 1
        runs += 1
        last = runs == 4 * ROUNDS
        inside -= 1
        if not last:
            raise ValueError
        return "made"

    async def in_task(loop: str) -> str:
        while True:
            try:
                return await cell.get_or_init(fail_or_make)
            except ValueError:
                await PAUSES[loop]()

    def in_thread() -> str:
        while True:
            try:
                return cell.blocking_get_or_init(fail_or_make)
            except ValueError:
                pass

    racing = [threads.submit(in_thread) for _ in range(2)]
    racing += [threads.submit(run, partial(in_task, loop)) for loop, run in RUNNERS.items()]
    assert {future.result(WAIT) for future in racing} == {"made"}
    assert runs == 4 * ROUNDS


# --- loops that end


def closed_with_a_parked(wait: Callable[[], Awaitable[Any]]) -> tuple[asyncio.Task[Any], asyncio.AbstractEventLoop]:
    """A loop that was closed with a task parked in it."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine(wait))
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    return task, loop


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_turn_skips_a_caller_whose_loop_is_closed(threads: ThreadPoolExecutor) -> None:
    """The next one makes the value."""
    cell: OnceCell[str] = OnceCell()
    first = Blocking(cell, threads, ValueError("first"))
    dead, _ = closed_with_a_parked(lambda: cell.get_or_init(lambda: "dead"))
    second = threads.submit(cell.blocking_get_or_init, lambda: "second")
    wait_until(lambda: cell.statistics().waiting == 2)
    with pytest.raises(ValueError, match="first"):
        first.finish()
    assert second.result(WAIT) == "second"
    forget(dead)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("notify_by", [Notify.notify_one, Notify.notify_last], ids=["one", "last"])
def test_a_notification_skips_a_waiter_whose_loop_is_closed(notify_by: Callable[[Notify], None]) -> None:
    """It goes to the next one, or is stored."""
    notify = Notify()
    dead, _ = closed_with_a_parked(notify.notified)
    assert notify.statistics().waiting == 1
    notify_by(notify)
    assert (notify.statistics().waiting, notify.statistics().stored) == (0, True)
    forget(dead)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_initializer_whose_loop_was_closed_frees_the_cell_when_it_is_collected() -> None:
    """Until then nobody can know that it will never end."""
    cell: OnceCell[str] = OnceCell()

    async def forever() -> str:
        await asyncio.get_running_loop().create_future()
        return "never"

    task, loop = closed_with_a_parked(lambda: cell.get_or_init(forever))
    assert cell.statistics().initializing
    forget(task)
    del task, loop
    gc.collect()
    assert not cell.statistics().initializing
    assert cell.blocking_get_or_init(lambda: "next", timeout=0) == "next"


def forget(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from complaining about a task that was meant to be left pending."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]


# --- between loops


def test_a_cycle_of_initializers_across_loops_gets_one_deadlock_error(threads: ThreadPoolExecutor) -> None:
    """One on asyncio needs the other, whose initializer on trio needs the first."""
    a: OnceCell[str] = OnceCell()
    b: OnceCell[str] = OnceCell()
    both = threading.Barrier(2)

    def crosswise(other: OnceCell[str]) -> Callable[[], Awaitable[str]]:
        async def init() -> str:
            both.wait(WAIT)
            try:
                return await other.get_or_init(lambda: "by the other")
            except DeadlockError:
                return "alone"

        return init

    one = threads.submit(RUNNERS["asyncio"], lambda: a.get_or_init(crosswise(b)))
    two = threads.submit(RUNNERS["trio"], lambda: b.get_or_init(crosswise(a)))
    assert one.result(WAIT) == two.result(WAIT) == "alone"


@pytest.mark.usefixtures("switching")
def test_no_notification_between_loops_is_lost(threads: ThreadPoolExecutor) -> None:
    """A request and an answer a round, each by notify_one, from an asyncio to a trio task and back."""
    request, answer = Notify(), Notify()

    async def ask() -> int:
        for _ in range(ROUNDS):
            request.notify_one()
            await answer.notified()
        return ROUNDS

    async def reply() -> int:
        for _ in range(ROUNDS):
            await request.notified()
            answer.notify_last()
        return ROUNDS

    asking = threads.submit(RUNNERS["asyncio"], ask)
    replying = threads.submit(RUNNERS["trio"], reply)
    assert asking.result(WAIT) == replying.result(WAIT) == ROUNDS


def test_a_notified_enabled_in_a_plain_thread_is_awaited_in_a_loop(threads: ThreadPoolExecutor) -> None:
    """enable() needs no loop."""
    notify = Notify()
    for run in RUNNERS.values():
        notified = notify.notified()
        assert not notified.enable()
        waiter = threads.submit(run, lambda notified=notified: notified)
        time.sleep(0.005)
        assert not waiter.done()
        notify.notify_one()
        waiter.result(WAIT)


@pytest.mark.usefixtures("switching")
def test_a_barrier_holds_tasks_of_several_loops_together(threads: ThreadPoolExecutor) -> None:
    """One leader a round, and nobody a round ahead."""
    barrier = Barrier(4)
    rounds = [0] * 4

    def meet(party: int) -> Callable[[], Awaitable[int]]:
        async def main() -> int:
            led = 0
            for number in range(ROUNDS):
                rounds[party] = number
                led += (await barrier.wait()).is_leader
                assert min(rounds) >= number
            return led

        return main

    loops = ("asyncio", "trio", "asyncio", "trio")
    meeting = [threads.submit(RUNNERS[loop], meet(party)) for party, loop in enumerate(loops)]
    leaders = sum(future.result(WAIT) for future in meeting)
    assert leaders == ROUNDS
    assert barrier.waiting == 0


# task: its initializer is cancelled             thread: inside the internal lock
#       leaves the withdrawal to the thread
#                                                leaves the lock
#       sets the cell                            looks what was left to it
def test_a_cell_is_set_though_another_thread_has_yet_to_end_a_cancelled_initializer() -> None:
    """What a task did before comes before what it does now."""
    cell: OnceCell[int] = OnceCell()

    async def main() -> None:
        await cancelled_in_a_crowd(cell)
        cell.set(1)

    asyncio.run(main())
    assert cell.get() == 1


# A: its initializer is cancelled, as above      B: queued for its own      A: sets the cell
#                                                its turn comes first       is refused
def test_whoever_queued_behind_a_cancelled_initializer_goes_before_who_comes_now() -> None:
    cell: OnceCell[str] = OnceCell()

    async def make(value: str) -> str:
        await asyncio.sleep(0)
        return value

    async def main() -> None:
        async def queue() -> str:
            return await cell.get_or_init(lambda: make("B"))

        (b,) = await cancelled_in_a_crowd(cell, queue)
        with pytest.raises(InitializingError):
            cell.set("A")
        assert await b == "B"

    asyncio.run(main())


async def cancelled_in_a_crowd(cell: OnceCell[Any], *behind: Callable[[], Any]) -> list[asyncio.Task[Any]]:
    """An initializer is cancelled while another thread is inside; those behind it have queued."""
    task = asyncio.ensure_future(cell.get_or_init(asyncio.get_running_loop().create_future))
    await asyncio.sleep(0)
    queued = [asyncio.ensure_future(one()) for one in behind]
    await asyncio.sleep(0)
    cell._lock = CrowdedLock()
    task.cancel()
    await asyncio.wait([task])
    assert cell._deferred
    return queued
