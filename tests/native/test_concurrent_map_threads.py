"""ConcurrentMap between threads, and between the loops of several threads; its blocking calls; its memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from asynclocks import ConcurrentMap, DeadlockError, KeyLockedError
from tests.conformance.test_concurrent_map import Watched, assert_idle
from tests.native.threaded import PAUSES, RUNNERS, WAIT, results, wait_until

# --- many loops, many threads


def test_four_loops_and_plain_threads_lose_no_update(threads: ThreadPoolExecutor, switching: None) -> None:
    """By entries, compute, alter and blocking entries on few keys at once."""
    m: ConcurrentMap[int, int] = ConcurrentMap({0: 0, 1: 0, 2: 0})
    rounds = 150

    async def on_a_loop(pause: Callable[[], Awaitable[None]]) -> None:
        async def change(value: int | None) -> int:
            await pause()
            return (value or 0) + 1

        for number in range(rounds):
            async with m.entry(number % 3) as entry:
                value = entry.value
                if number % 5 == 0:
                    await pause()
                entry.value = value + 1
            await m.compute(number % 3, change)

    def in_a_thread() -> None:
        for number in range(rounds):
            with m.blocking_entry(number % 3) as entry:
                entry.value += 1
            while True:
                try:
                    m.alter(number % 3, lambda value: value + 1)
                    break
                except KeyLockedError:
                    time.sleep(0)

    loops = ["asyncio", "trio", "asyncio", "trio"]
    futures = [threads.submit(RUNNERS[loop], partial(on_a_loop, PAUSES[loop])) for loop in loops]
    futures += [threads.submit(in_a_thread) for _ in range(3)]
    results(futures)
    assert sum(m.values()) == 7 * rounds * 2
    assert_idle(m)


def test_one_flight_serves_four_loops_and_plain_threads(threads: ThreadPoolExecutor, switching: None) -> None:
    m: ConcurrentMap[int, int] = ConcurrentMap()
    keys = 100
    runs = [0] * keys
    together = threading.Barrier(7)

    def make(key: int) -> int:
        runs[key] += 1
        time.sleep(0)
        return key

    async def on_a_loop(pause: Callable[[], Awaitable[None]]) -> list[int]:
        async def make_slowly(key: int) -> int:
            await pause()
            return make(key)

        together.wait(WAIT)
        return [await m.get_or_insert_with(key, partial(make_slowly, key)) for key in range(keys)]

    def in_a_thread() -> list[int]:
        together.wait(WAIT)
        return [m.blocking_get_or_insert_with(key, partial(make, key)) for key in range(keys)]

    loops = ["asyncio", "trio", "asyncio", "trio"]
    futures = [threads.submit(RUNNERS[loop], partial(on_a_loop, PAUSES[loop])) for loop in loops]
    futures += [threads.submit(in_a_thread) for _ in range(3)]
    assert results(futures) == [list(range(keys))] * 7
    assert runs == [1] * keys
    assert_idle(m)


def test_failing_and_cancelled_flights_among_threads_strand_nobody(
    threads: ThreadPoolExecutor, switching: None
) -> None:
    m: ConcurrentMap[int, int] = ConcurrentMap()

    def make(turn: int) -> int:
        if turn % 3:
            raise ValueError
        return turn

    async def on_asyncio(seed: int) -> None:
        async def make_slowly(turn: int) -> int:
            await asyncio.sleep(0)
            return make(turn)

        for turn in range(100):
            tasks = [asyncio.create_task(m.get_or_insert_with(turn % 7, partial(make_slowly, turn))) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[(turn + seed) % 3].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            _try(partial(m.remove, turn % 7, None))

    def in_a_thread() -> None:
        for turn in range(200):
            _try(lambda turn=turn: m.blocking_get_or_insert_with(turn % 7, partial(make, turn)))
            _try(partial(m.remove, turn % 7, None))

    futures: list[Future[Any]] = [threads.submit(asyncio.run, on_asyncio(seed)) for seed in range(3)]
    futures += [threads.submit(in_a_thread) for _ in range(3)]
    results(futures)
    assert_idle(m)


def _try(call: Callable[[], object]) -> None:
    with suppress(KeyLockedError, ValueError):
        call()


def test_snapshots_and_lengths_are_consistent_while_others_write(threads: ThreadPoolExecutor, switching: None) -> None:
    """Many-key writes happen at once: all values are of one generation, and nobody sees half of them."""
    m: ConcurrentMap[int, int] = ConcurrentMap(dict.fromkeys(range(50), 0))
    done = threading.Event()

    def write() -> None:
        for generation in range(1, 60):
            m.alter_all(lambda _key, _value, generation=generation: generation)
            m.update(dict.fromkeys(range(100), generation))
            m.retain(lambda key, _value: key < 50)
        done.set()

    def read() -> None:
        while not done.is_set():
            assert len(set(m.values())) == 1
            assert len(m) in {50, 100}
            assert m.snapshot().keys() >= set(range(50))
            assert len(list(m)) in {50, 100}

    results([threads.submit(write), *[threads.submit(read) for _ in range(3)]])


def test_synchronous_writes_of_threads_are_atomic(threads: ThreadPoolExecutor, switching: None) -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 0})
    won: list[int] = []

    def work(number: int) -> None:
        for turn in range(200):
            m.alter("a", lambda value: value + 1)
            if m.setdefault(f"{turn}", number) == number and m.remove_if(f"{turn}", lambda value: value == number):
                won.append(turn)
            m.insert(f"mine {number}", turn)
            assert m.pop(f"mine {number}") == turn

    results([threads.submit(work, number) for number in range(4)])
    assert m.pop("a") == 800
    assert m == {}
    assert set(won) == set(range(200))


def test_a_write_is_refused_while_refs_of_the_key_come_and_go(threads: ThreadPoolExecutor, switching: None) -> None:
    """The refusal looks for the names of all who hold the key, in no lock; 3.13 without a GIL let it fail."""
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})
    kept = [m.try_ref("a") for _ in range(300)]
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            m.try_ref("a").release()

    passing = [threads.submit(come_and_go) for _ in range(3)]
    try:
        for _ in range(10_000):
            with pytest.raises(KeyLockedError):
                m["a"] = 2
    finally:
        done.set()
    results(passing)
    for ref in kept:
        ref.release()
    assert_idle(m)


def test_a_callback_that_takes_its_time_holds_up_nobody(threads: ThreadPoolExecutor) -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1, "b": 2})
    inside, go_on = threading.Event(), threading.Event()

    def slow(value: int) -> int:
        inside.set()
        assert go_on.wait(WAIT)
        return value + 10

    future = threads.submit(m.alter, "a", slow)
    assert inside.wait(WAIT)
    m["b"] = 3
    m["a"] = 2
    with m.try_entry("b"):
        pass
    go_on.set()
    assert future.result(WAIT) == 12


# --- blocking calls


def test_a_blocking_entry_waits_its_turn(threads: ThreadPoolExecutor) -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})
    entry = m.blocking_entry("a")
    future = threads.submit(m.blocking_entry, "a")
    wait_until(lambda: m.statistics().waiting == 1)
    entry.value = 2
    entry.release()
    with future.result(WAIT) as other:
        assert other.value == 2
    assert_idle(m)


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
def test_a_blocking_call_that_takes_too_long_holds_nothing(timeout: float) -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap()
    with m.blocking_entry("a"):
        with pytest.raises(TimeoutError, match="'a'"):
            m.blocking_entry("a", timeout)
        with pytest.raises(TimeoutError, match=f"'a'.* within {timeout} s"):
            m.blocking_get_or_insert_with("a", lambda: 1, timeout)
        assert m.statistics().waiting == 0
    with m.blocking_entry("b", timeout):
        pass
    assert m.blocking_get_or_insert_with("c", lambda: 1, timeout) == 1
    assert m.blocking_get_or_insert_with("c", lambda: 2, timeout) == 1
    assert_idle(m)


def test_the_timeout_does_not_bound_ones_own_init() -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap()
    assert m.blocking_get_or_insert_with("a", lambda: time.sleep(0.02) or 1, 0.001) == 1


def test_a_blocking_callers_failure_reaches_those_who_wait(threads: ThreadPoolExecutor) -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap()
    go_on = threading.Event()

    def fail() -> int:
        assert go_on.wait(WAIT)
        raise ValueError("init")

    futures = [threads.submit(m.blocking_get_or_insert_with, "a", fail) for _ in range(3)]
    wait_until(lambda: m.statistics().waiting == 2)
    go_on.set()
    assert len({future.exception(WAIT) for future in futures}) == 1
    assert_idle(m)


def test_a_blocking_caller_that_stops_hands_the_run_on(threads: ThreadPoolExecutor) -> None:
    """KeyboardInterrupt is no failure of the value."""
    m: ConcurrentMap[str, int] = ConcurrentMap()
    go_on = threading.Event()

    def stop() -> int:
        assert go_on.wait(WAIT)
        raise KeyboardInterrupt

    def caller() -> str:
        try:
            return str(m.blocking_get_or_insert_with("a", stop))
        except KeyboardInterrupt:
            return "stopped"

    first = threads.submit(caller)
    wait_until(lambda: m.statistics().locked_keys == 1)
    second = threads.submit(m.blocking_get_or_insert_with, "a", lambda: 2)
    wait_until(lambda: m.statistics().waiting == 1)
    go_on.set()
    assert results([first, second]) == ["stopped", 2]
    assert_idle(m)


def test_a_plain_thread_cannot_await_what_its_init_returns() -> None:
    m: ConcurrentMap[str, Any] = ConcurrentMap()

    async def make() -> int:
        return 1

    class Promise:
        def __await__(self) -> Any:
            raise AssertionError

    for init in (make, Promise):
        with pytest.raises(TypeError, match="awaitable"):
            m.blocking_get_or_insert_with("a", init)
        assert_idle(m)


@pytest.mark.parametrize("loop", RUNNERS)
def test_blocking_calls_are_refused_where_a_loop_runs(loop: str) -> None:
    """Even if they would not wait."""
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})

    async def main() -> None:
        with pytest.raises(RuntimeError, match="block the running"):
            m.blocking_entry("a")
        with pytest.raises(RuntimeError, match="block the running"):
            m.blocking_get_or_insert_with("a", lambda: 2)

    RUNNERS[loop](main)
    assert_idle(m)


def test_without_a_loop_awaiting_fails_and_holds_nothing() -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap()

    async def enter() -> None:
        async with m.entry("a"):
            raise AssertionError

    for coroutine in (enter(), m.get_or_insert_with("a", lambda: 1), m.compute("a", asyncio.sleep)):  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="no event loop"):
            coroutine.send(None)
        assert_idle(m)


# --- deadlocks across loops


def test_a_cycle_across_two_loops_is_a_deadlock(threads: ThreadPoolExecutor) -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap()
    both = threading.Barrier(2)

    async def hold_and_wait(mine: str, other: str) -> None:
        async with m.entry(mine):
            both.wait(WAIT)
            async with m.entry(other):
                pass

    futures = [
        threads.submit(RUNNERS["asyncio"], partial(hold_and_wait, "a", "b")),
        threads.submit(RUNNERS["trio"], partial(hold_and_wait, "b", "a")),
    ]
    errors = [future.exception(WAIT) for future in futures]
    assert sorted(type(error) for error in errors if error is not None) == [DeadlockError]
    assert_idle(m)


# --- closed loops


def test_waiters_whose_loop_was_closed_are_skipped() -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap()
    entry = m.try_entry("a")
    loop = asyncio.new_event_loop()

    async def enter() -> None:
        async with m.entry("a"):
            raise AssertionError

    async def fly() -> None:
        await m.get_or_insert_with("a", lambda: 1)

    tasks = [loop.create_task(function()) for function in (enter, fly, fly)]
    loop.run_until_complete(asyncio.sleep(0))
    assert m.statistics().waiting == 3
    loop.close()
    entry.release()
    assert m.statistics().locked_keys == 0
    m["a"] = 2
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    del tasks, task
    gc.collect()
    assert_idle(m)


def test_a_holder_and_a_leader_parked_in_a_closed_loop_are_released_when_collected() -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})
    loop = asyncio.new_event_loop()

    async def hold() -> None:
        async with m.entry("a") as entry:
            entry.value = 2
            await loop.create_future()

    async def make() -> int:
        return await loop.create_future()

    async def lead() -> None:
        await m.get_or_insert_with("b", make)

    tasks = [loop.create_task(hold()), loop.create_task(lead())]
    loop.run_until_complete(asyncio.sleep(0))
    assert m.statistics().locked_keys == 2
    loop.close()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    del tasks, task
    gc.collect()
    assert m == {"a": 1}
    assert_idle(m)


# --- finalizers and the collector


def test_the_collector_may_give_guards_back_in_the_middle_of_anything(switching: None) -> None:
    """Entries and refs in cycles, dropped while other threads write and hold: nothing hangs, nothing is left."""
    m: ConcurrentMap[int, Any] = ConcurrentMap(dict.fromkeys(range(20), 0))
    other: ConcurrentMap[int, Any] = ConcurrentMap(dict.fromkeys(range(20), 0))
    stop = time.monotonic() + 1.0
    old = gc.get_threshold()
    gc.set_threshold(20)

    def work(mine: ConcurrentMap[int, Any], theirs: ConcurrentMap[int, Any]) -> None:
        number = 0
        while time.monotonic() < stop:
            number += 1
            key = number % 20
            cycle: list[Any] = []
            cycle.append(cycle)
            for take in (mine.try_entry, theirs.try_ref):
                with suppress(KeyLockedError):
                    cycle.append(take(key))
            cycle.append(Watched(partial(_try, partial(theirs.insert, key, number))))
            del cycle
            _try(partial(mine.insert, (key + 1) % 20, number))
            _try(partial(theirs.alter, (key + 2) % 20, lambda value: value))
            mine.snapshot()

    try:
        with pytest.warns(ResourceWarning):  # noqa: PT031 - what warns takes two steps
            workers = [threading.Thread(target=work, args=pair) for pair in ((m, other), (other, m), (m, m))]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(WAIT)
            assert not any(worker.is_alive() for worker in workers)
            gc.collect()
    finally:
        gc.set_threshold(*old)
    assert_idle(m)
    assert_idle(other)


@pytest.mark.slow
def test_a_million_keys_inserted_guarded_and_removed_leave_no_memory() -> None:
    _traffic(1_000_000)


def test_many_keys_inserted_guarded_and_removed_leave_no_memory() -> None:
    _traffic(20_000)


def _traffic(keys: int) -> None:
    m: ConcurrentMap[int, int] = ConcurrentMap()

    async def use() -> None:
        held = []
        for key in range(keys):
            m[key] = key
            held.append(m.entry(key))
            await held[-1].__aenter__()
        for block in held:
            await block.__aexit__(None, None, None)
        for key in range(keys):
            async with m.entry(key) as entry:
                entry.remove()

    tracemalloc.start()
    try:
        with asyncio.Runner() as runner:
            runner.run(asyncio.sleep(0))
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            runner.run(use())
            gc.collect()
            after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert_idle(m)
    assert after - before < 20_000


def test_idle_keys_take_what_a_dicts_take() -> None:
    keys = range(100_000)

    def size(make: Callable[[], object]) -> int:
        gc.collect()
        tracemalloc.start()
        made = make()
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        del made
        return taken

    ours = size(lambda: ConcurrentMap(zip(keys, keys, strict=True)))
    assert ours <= 1.05 * size(lambda: dict(zip(keys, keys, strict=True)))
