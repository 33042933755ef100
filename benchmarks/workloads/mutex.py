"""Mutex against every lock there is."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import aiologic
import anyio
import trio

from asynclocks import Mutex
from benchmarks import shapes, trio_shapes
from benchmarks.clock import clock
from benchmarks.harness import Case, Comparison, Workload, first_against_rest, over

OURS = {"asynclocks.Mutex": Mutex}
ANY_LOOP = {
    "anyio.Lock": anyio.Lock,
    "anyio.Lock(fast_acquire=True)": partial(anyio.Lock, fast_acquire=True),
    "aiologic.Lock": aiologic.Lock,
}
ON_ASYNCIO = {**OURS, "asyncio.Lock": asyncio.Lock, **ANY_LOOP}
ON_TRIO = {**OURS, "trio.Lock": trio.Lock, **ANY_LOOP}
ACROSS_LOOPS = {**OURS, "aiologic.Lock": aiologic.Lock}  # the others cannot

HAND_OFFS = {"asyncio_Lock": 1.2, "aiologic_Lock": 0.85}
LOOPS = 4
Inside = Callable[[], Awaitable[None]] | None  # what is done while the lock is held


# With a value.
async def value_in_mutex(rounds: int) -> float:
    mutex = Mutex(0)
    start = clock()
    for _ in range(rounds):
        async with mutex as guard:
            guard.value += 1
    return clock() - start


async def value_beside_lock(make: shapes.Make, rounds: int) -> float:
    lock = make()
    counter = SimpleNamespace(value=0)
    start = clock()
    for _ in range(rounds):
        async with lock:
            counter.value += 1
    return clock() - start


# Cancelling.
def tail_first(tasks: list[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    return tasks[::-1]


def any_order(tasks: list[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    """Random, and the same for everybody."""
    return random.Random(len(tasks)).sample(tasks, len(tasks))


class NoQueue:
    """A floor: who comes first goes in, all others wait for good, each for a future of its own that nobody knows."""

    def __init__(self) -> None:
        self.held = False

    async def __aenter__(self) -> None:
        if self.held:
            await asyncio.get_running_loop().create_future()
        self.held = True

    async def __aexit__(self, *exc: object) -> None:
        self.held = False


FLOOR = "no queue at all"
SIZES = (1_000, 4_000, 16_000)


def cancelling(name: str, order: shapes.Order) -> Workload:
    """The cost for each waiter must not grow with the number of them; what counts is each subject against itself."""
    cases = {}
    subjects = {name: make for name, make in ON_ASYNCIO.items() if "fast" not in name} | {FLOOR: NoQueue}
    for waiting in SIZES:
        sized = {f"{subject}, {waiting:,}": make for subject, make in subjects.items()}
        # As many waiters in every sample, however they queue.
        cases |= over(shapes.cancelling, sized, waiting, order, operations=waiting, rounds=SIZES[-1] // waiting)
    most = f"{SIZES[-1]:,}"
    growth = [
        Comparison(f"{subject}, {most}", f"{subject}, 1,000", 1.5 if subject in OURS else None) for subject in subjects
    ]
    beside = [Comparison(f"asynclocks.Mutex, {size:,}", f"asyncio.Lock, {size:,}") for size in SIZES]
    comparisons = [*growth, *beside]
    # The peers take seconds here: one of the orders is enough for a quick look.
    return Workload(f"Mutex: cancelling queued waiters, {name}", cases, comparisons, quick=order is any_order)


# Four loops in four threads.
def loops_in_threads(make: shapes.Make, inside: Inside, run: Callable[..., Any], rounds: int) -> float:
    """One task in each loop, again and again: lock, count, unlock. Time from the first start to the last end."""
    lock = make()
    start_line = threading.Barrier(LOOPS)
    count = 0

    async def compete() -> tuple[float, float]:
        nonlocal count
        start_line.wait()
        start = perf_counter()
        for _ in range(rounds):
            async with lock:
                before = count
                if inside is not None:
                    await inside()
                count = before + 1
        return start, perf_counter()

    with ThreadPoolExecutor(LOOPS) as threads:
        spans = [thread.result() for thread in [threads.submit(run, compete) for _ in range(LOOPS)]]
    assert count == LOOPS * rounds, f"{LOOPS * rounds - count} updates lost"
    return max(end for _, end in spans) - min(start for start, _ in spans)


def across_loops(name: str, inside: Inside, rounds: int) -> Workload:
    """Samples of many of the interpreter's thread switches (5 ms): a few more or less would show."""
    cases = over(loops_in_threads, ACROSS_LOOPS, inside, operations=LOOPS, rounds=rounds)
    comparisons = first_against_rest(cases, aiologic_Lock=0.8)
    return Workload(f"Mutex: four loops in four threads, {name}", cases, comparisons, "threads")


def workloads() -> list[Workload]:
    found = []

    def add(name: str, cases: dict[str, Case], loop: str = "asyncio", **targets: float) -> None:
        where = "" if loop == "asyncio" else f" on {loop}"
        found.append(Workload(f"Mutex{where}: {name}", cases, first_against_rest(cases, **targets), loop))

    add(
        "uncontended",
        over(shapes.uncontended, ON_ASYNCIO),
        asyncio_Lock=1.25,
        anyio_Lock_fast_acquire_True=0.7,
        aiologic_Lock=0.3,
    )
    beside = {f"{name}, an attribute": make for name, make in ON_ASYNCIO.items() if name not in OURS}
    add(
        "with a value",
        {"asynclocks.Mutex(0)": Case(value_in_mutex)} | over(value_beside_lock, beside),
        asyncio_Lock__an_attribute=1.6,
    )
    for tasks in (2, 100):
        cases = over(shapes.ping_pong, ON_ASYNCIO, tasks, operations=tasks)
        add(f"ping-pong of {tasks} tasks", cases, **HAND_OFFS)
    for length in (100, 5_000):
        cases = over(shapes.convoy, ON_ASYNCIO, length, operations=length)
        add(f"convoy of {length:,} tasks", cases, **HAND_OFFS)
    add("convoy of 5,000 tasks, queueing included", over(shapes.gathering, ON_ASYNCIO, 5_000, operations=5_000))
    found.append(cancelling("the last first", tail_first))
    found.append(cancelling("in any order", any_order))
    found.append(across_loops("counting", None, 20_000))
    found.append(across_loops("sleep(0) inside", partial(asyncio.sleep, 0), 500))
    add("uncontended", over(shapes.uncontended, ON_TRIO), "trio", trio_Lock=1.0)
    cases = over(trio_shapes.ping_pong, ON_TRIO, 100, operations=100)
    add("ping-pong of 100 tasks", cases, "trio", trio_Lock=1.0)
    cases = over(trio_shapes.convoy, ON_TRIO, 1_000, operations=1_000)
    add("convoy of 1,000 tasks", cases, "trio", trio_Lock=1.0)
    return found


WORKLOADS = workloads()
