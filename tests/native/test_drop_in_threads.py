"""`asynclocks.drop_in.threading`; the drop-in modules between loops and threads, and without their originals."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading as original
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import anyio.to_thread
import pytest

import asynclocks
from asynclocks import Condvar, Mutex, UnsupportedLoopError, WouldBlock
from asynclocks.drop_in import anyio as in_anyio, asyncio as in_asyncio, threading, trio as in_trio
from tests.native.threaded import RUNNERS, WAIT, results, wait_until

ROUNDS = 200


# --- threading's


def test_a_lock_is_acquired_and_released_by_anybody(threads: ThreadPoolExecutor) -> None:
    """With the original's results and errors."""
    lock = threading.Lock()
    assert lock.acquire()
    assert lock.locked()
    assert not lock.acquire(blocking=False)
    assert not lock.acquire(timeout=0.01)
    threads.submit(lock.release).result(WAIT)
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        lock.release()
    with lock as entered:
        assert entered is True
        waiter = threads.submit(lock.acquire, timeout=WAIT)
        wait_until(lambda: lock._mutex.statistics().waiting == 1)
    assert waiter.result(WAIT)
    assert repr(lock).startswith("<locked asynclocks.drop_in.threading.Lock object at 0x")
    lock.release()
    assert repr(lock).startswith("<unlocked ")
    for arguments, error in (((False, 1), ValueError), ((True, -2), ValueError), ((True, 1e100), OverflowError)):
        with pytest.raises(error):
            lock.acquire(*arguments)


def test_a_block_waits_until_the_lock_is_released(threads: ThreadPoolExecutor) -> None:
    """In order of arrival, and it releases at its end."""
    lock = threading.Lock()
    log = []

    def enter(name: str) -> None:
        with lock as entered:
            assert entered is True
            log.append(name)

    lock.acquire()
    waiting = []
    for number, name in enumerate("ab", 1):
        waiting.append(threads.submit(enter, name))
        wait_until(lambda number=number: lock._mutex.statistics().waiting == number)
    assert not log
    lock.release()
    results(waiting)
    assert log == ["a", "b"]
    assert not lock.locked()
    with pytest.raises(RuntimeError, match="release unlocked lock"), lock:
        lock.release()


@pytest.mark.parametrize("library", [in_anyio, in_trio], ids=["anyio", "trio"])
def test_a_lock_that_has_an_owner_is_not_taken_outside_a_loop(library: Any) -> None:
    """Also where it was asyncio's loop that ran last, and is over: no task could own it."""
    lock = library.Lock()

    async def use() -> None:
        async with lock:
            assert lock.locked()

    asyncio.run(use())
    with pytest.raises(UnsupportedLoopError):
        lock.acquire_nowait()
    assert not lock.locked()


def test_a_condition_s_own_lock_may_be_acquired_again(threads: ThreadPoolExecutor) -> None:
    """By its thread, as often as it is released; a wait gives up all of it."""
    condition = threading.Condition()

    def wait() -> bool:
        with condition, condition:
            assert condition.wait(WAIT)
            condition.release()
            assert condition.locked()
            condition.acquire()
            return True

    waiter = threads.submit(wait)
    wait_until(lambda: condition._condvar.statistics().waiting == 1)
    with condition:
        assert not threads.submit(condition.acquire, False).result(WAIT)
        with pytest.raises(RuntimeError, match="un-acquired"):
            threads.submit(condition.release).result(WAIT)
        condition.notify()
    assert waiter.result(WAIT)
    assert "Condition(" in repr(condition)
    for call in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="un-acquired lock"):
            call()


def test_conditions_over_one_lock_wake_each_other(threads: ThreadPoolExecutor) -> None:
    """`wait_for` with and without a timeout that counts over all rounds."""
    lock = threading.Lock()
    condition = threading.Condition(lock)
    values: list[int] = []

    def wait() -> int:
        with condition:
            return condition.wait_for(lambda: len(values))

    waiter = threads.submit(wait)
    for number in range(2):
        wait_until(lambda: condition._condvar.statistics().waiting == 1)
        with lock:
            values += [number] * number
            condition.notify_all()
    assert waiter.result(WAIT) == 1
    with condition:
        assert condition.wait_for(lambda: values, timeout=0.01) == [1]
        assert not condition.wait_for(lambda: False, timeout=0.01)
        assert not condition.wait(0)
        assert condition.locked()


def test_an_event_is_waited_for(threads: ThreadPoolExecutor) -> None:
    """True where it was set in time."""
    event = threading.Event()
    assert not event.wait(0.01)
    waiter = threads.submit(event.wait)
    wait_until(lambda: event._event.statistics().waiting == 1)
    assert repr(event).endswith(": unset>")
    event.set()
    assert waiter.result(WAIT)
    assert event.is_set()
    assert repr(event).startswith("<asynclocks.drop_in.threading.Event at 0x")
    event.clear()
    assert not event.is_set()


def test_old_names_warn_and_do_the_same(threads: ThreadPoolExecutor) -> None:
    """With the original's words."""
    for library in (original, threading):
        condition, event = library.Condition(), library.Event()
        told: list[bool] = []

        def wait(condition: Any = condition, told: list[bool] = told) -> None:
            with condition:
                told.append(False)
                assert condition.wait(WAIT)

        waiter = threads.submit(wait)
        wait_until(lambda told=told: told)
        with (
            condition,
            pytest.warns(DeprecationWarning, match=r"notifyAll\(\) is deprecated, use notify_all\(\) instead"),
        ):
            condition.notifyAll()
        waiter.result(WAIT)
        event.set()
        with pytest.warns(DeprecationWarning, match=r"isSet\(\) is deprecated, use is_set\(\) instead"):
            assert event.isSet()


def test_a_semaphore_counts(threads: ThreadPoolExecutor) -> None:
    """Beyond what it was at first, unless it is bounded."""
    semaphore = threading.Semaphore(1)
    assert semaphore.acquire()
    assert not semaphore.acquire(blocking=False)
    assert not semaphore.acquire(timeout=0.01)
    waiter = threads.submit(semaphore.acquire)
    wait_until(lambda: semaphore._semaphore.statistics().waiting == 1)
    semaphore.release(3)
    assert waiter.result(WAIT)
    assert repr(semaphore).endswith(": value=2>")
    for call in (lambda: semaphore.acquire(False, 1), lambda: semaphore.release(0)):
        with pytest.raises(ValueError, match=r"one or more|timeout"):
            call()
    bounded = threading.BoundedSemaphore(2)
    with bounded as entered:
        assert entered is True
        assert repr(bounded).endswith(": value=1/2>")
        with pytest.raises(ValueError, match="released too many times"):
            bounded.release(2)


def test_a_barrier_runs_its_action_once_a_round(threads: ThreadPoolExecutor) -> None:
    """Before anybody goes on; each gets its number."""
    ran: list[str] = []
    barrier = threading.Barrier(3, lambda: ran.append("action"))
    for number in range(3):
        assert sorted(results([threads.submit(barrier.wait, WAIT) for _ in range(3)])) == [0, 1, 2]
        assert len(ran) == number + 1
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    assert repr(barrier).endswith(": waiters=0/3>")
    assert threading.Barrier(1).wait() == 0


def test_a_barrier_breaks_when_a_time_is_over_or_its_action_raises(threads: ThreadPoolExecutor) -> None:
    """For all; `reset` makes it whole again."""
    barrier = threading.Barrier(2, timeout=0.01)
    with pytest.raises(original.BrokenBarrierError):
        barrier.wait()
    assert barrier.broken
    assert repr(barrier).endswith(": broken>")
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken

    def fail() -> None:
        raise ZeroDivisionError

    failing = threading.Barrier(2, fail)
    waiter = threads.submit(failing.wait, WAIT)
    wait_until(lambda: failing.n_waiting == 1)
    with pytest.raises(ZeroDivisionError):
        failing.wait()
    with pytest.raises(threading.BrokenBarrierError):
        waiter.result(WAIT)


def test_who_comes_while_a_barrier_is_left_waits_no_longer_than_it_says(threads: ThreadPoolExecutor) -> None:
    """Then it breaks the barrier."""
    inside, leave = original.Event(), original.Event()

    def linger() -> None:
        inside.set()
        assert leave.wait(WAIT)

    barrier = threading.Barrier(2, linger)
    meeting = [threads.submit(barrier.wait) for _ in range(2)]
    assert inside.wait(WAIT)
    late = threads.submit(barrier.wait, 0.01)
    with pytest.raises(threading.BrokenBarrierError):
        late.result(WAIT)
    leave.set()
    for future in meeting:
        with pytest.raises(threading.BrokenBarrierError):
            future.result(WAIT)


@pytest.mark.parametrize("loop", RUNNERS)
def test_a_lock_for_a_short_section_may_block_a_loop(loop: str, threads: ThreadPoolExecutor) -> None:
    """As the original does; what would wait for long is refused."""
    lock, semaphore = threading.Lock(), threading.Semaphore(1)

    async def main() -> None:
        for taken in (lock, semaphore):
            threads.submit(taken.acquire).result(WAIT)
            original.Timer(0.01, taken.release).start()
            assert taken.acquire(timeout=WAIT)
            taken.release()
        condition = threading.Condition(lock)
        barrier = threading.Barrier(2)
        with lock:
            for wait in (threading.Event().wait, condition.wait, barrier.wait):
                with pytest.raises(RuntimeError, match="would block the running"):
                    wait()
            assert condition.locked()
        assert barrier.n_waiting == 0

    RUNNERS[loop](main)


def test_waiting_for_a_condition_of_a_mutex_that_a_guard_holds_is_refused() -> None:
    """A guard is no `acquire`: RuntimeError, and the guard holds on."""
    mutex = Mutex()
    with mutex.blocking_lock() as guard:
        with pytest.raises(RuntimeError, match=r"a guard holds it|not held by what"):
            threading.Condition(mutex).wait(0)
        assert not guard.released


# --- one primitive in several spellings, between loops and threads


@pytest.mark.usefixtures("switching")
def test_one_mutex_in_every_spelling_lets_one_in_at_a_time(threads: ThreadPoolExecutor) -> None:
    """Tasks of asyncio and trio, and threads."""
    mutex = Mutex()
    inside: list[None] = []
    most: list[int] = []

    def visit() -> None:
        inside.append(None)
        most.append(len(inside))
        inside.pop()

    def of_threads() -> None:
        lock = threading.Lock(mutex)
        for _ in range(ROUNDS):
            with lock:
                visit()

    def of_tasks(lock: Any) -> Callable[[], Any]:
        async def main() -> None:
            for _ in range(ROUNDS):
                async with lock:
                    visit()

        return main

    spellings = [("asyncio", in_asyncio.Lock), ("trio", in_trio.Lock), *((loop, in_anyio.Lock) for loop in RUNNERS)]
    futures = [threads.submit(RUNNERS[loop], of_tasks(kind(mutex))) for loop, kind in spellings]
    results([*futures, *(threads.submit(of_threads) for _ in range(2))])
    assert max(most) == 1
    assert not mutex.locked()


@pytest.mark.usefixtures("switching")
def test_one_condition_in_two_spellings_passes_messages(threads: ThreadPoolExecutor) -> None:
    """From threads to tasks and back."""
    mutex, condvar = Mutex(), Condvar()
    turn = ["task"]

    async def of_a_task() -> int:
        condition = in_asyncio.Condition(mutex, condvar=condvar)
        for _ in range(ROUNDS):
            async with condition:
                await condition.wait_for(lambda: turn[0] == "task")
                turn[0] = "thread"
                condition.notify_all()
        return ROUNDS

    def of_a_thread() -> int:
        condition = threading.Condition(mutex, condvar=condvar)
        for _ in range(ROUNDS):
            with condition:
                assert condition.wait_for(lambda: turn[0] == "thread", WAIT)
                turn[0] = "task"
                condition.notify_all()
        return ROUNDS

    for loop in RUNNERS:
        assert results([threads.submit(RUNNERS[loop], of_a_task), threads.submit(of_a_thread)]) == [ROUNDS, ROUNDS]


def test_an_owner_in_another_loop_is_told_as_well(threads: ThreadPoolExecutor) -> None:
    """By anyio's TaskInfo, which has the name and the id only."""
    lock, leave = in_anyio.Lock(), asynclocks.Event()

    async def own() -> None:
        async with lock:
            await leave.wait()

    async def look() -> str:
        owner = lock.statistics().owner
        assert owner is not None
        return str(owner.name)

    for there in RUNNERS:
        leave.clear()
        owner = threads.submit(RUNNERS[there], own)
        wait_until(lambda: lock.locked() and leave.statistics().waiting)
        try:
            for here in RUNNERS:
                assert RUNNERS[here](look)
        finally:
            leave.set()
        owner.result(WAIT)


def test_a_barrier_of_asyncio_holds_tasks_of_several_loops(threads: ThreadPoolExecutor) -> None:
    """Each gets another number, each round."""
    barrier = in_asyncio.Barrier(3)

    async def meet() -> list[int]:
        return [await barrier.wait() for _ in range(50)]

    numbers = results([threads.submit(RUNNERS[loop], meet) for loop in ("asyncio", "trio", "asyncio")])
    assert {tuple(sorted(row)) for row in zip(*numbers, strict=True)} == {(0, 1, 2)}


def test_a_wait_of_a_condition_that_is_destroyed_leaves_the_lock_free() -> None:
    """With its loop; nobody warns."""
    for library in (in_asyncio, in_anyio, in_trio):
        condition = library.Condition()

        async def wait(condition: Any = condition) -> None:
            await condition.acquire()
            await condition.wait()

        loop = asyncio.new_event_loop()
        task = loop.create_task(wait())
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        assert condition._condvar.statistics().waiting == 1
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            gc.collect()
        assert not condition.locked()


async def test_what_runs_functions_in_threads_takes_our_limiters() -> None:
    """`to_thread.run_sync` of anyio and trio, though for a type checker they want their own."""
    for library in (in_anyio, in_trio):
        limiter = library.CapacityLimiter(1)
        assert await anyio.to_thread.run_sync(lambda limiter=limiter: limiter.borrowed_tokens, limiter=limiter) == 1
        assert limiter.borrowed_tokens == 0


# --- where the original is not installed


def without(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """The drop-in module of this name as it is where its original is not installed."""
    monkeypatch.setitem(sys.modules, name, None)
    path = sys.modules[f"asynclocks.drop_in.{name}"].__file__
    spec = spec_from_file_location(f"without_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["anyio", "trio"])
def test_a_drop_in_module_works_without_its_original(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """On asyncio, with our WouldBlock."""
    library = without(monkeypatch, name)
    assert library.WouldBlock is WouldBlock

    async def main() -> None:
        lock = library.Lock()
        async with lock:
            owner = lock.statistics().owner
            assert owner is not None
            assert name == "trio" or owner.name.startswith("Task-")
        event = library.Event()
        event.set()
        await event.wait()
        limiter = library.CapacityLimiter(1)
        async with limiter:
            with pytest.raises(WouldBlock):
                limiter.acquire_on_behalf_of_nowait("another")

    RUNNERS["asyncio"](main)


def test_without_anyio_a_free_lock_of_its_module_is_no_checkpoint_on_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else runs before it is acquired; with anyio somebody does."""
    for library, pauses in ((without(monkeypatch, "anyio"), False), (in_anyio, True)):

        async def main(library: Any = library, pauses: bool = pauses) -> None:
            ran: list[str] = []
            asyncio.get_running_loop().call_soon(ran.append, "another")
            async with library.Lock():
                assert bool(ran) is pauses

        RUNNERS["asyncio"](main)
