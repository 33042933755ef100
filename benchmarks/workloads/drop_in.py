"""The drop-in modules beside the originals, uncontended, each on the loop that it is made for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import trio

from asynclocks import Mutex
from asynclocks.drop_in import (
    anyio as our_anyio,
    asyncio as our_asyncio,
    threading as our_threading,
    trio as our_trio,
)
from benchmarks.clock import clock
from benchmarks.harness import Case, Comparison, Workload, own_copy
from benchmarks.shapes import Make, uncontended

PURE = 1.5  # times the original
OWN = 1.1  # times the block of the Mutex below
ROUNDS = 2_000  # fixed: what anyio imports in its first round would pass for a long one


async def acquired(make: Make, rounds: int) -> float:
    """As janus does: no block."""
    lock = make()
    start = clock()
    for _ in range(rounds):
        await lock.acquire()
        lock.release()
    return clock() - start


async def taken_now(make: Make, rounds: int) -> float:
    lock = make()
    start = clock()
    for _ in range(rounds):
        lock.acquire_nowait()
        lock.release()
    return clock() - start


async def set_before(make: Make, rounds: int) -> float:
    event = make()
    event.set()
    start = clock()
    for _ in range(rounds):
        await event.wait()
    return clock() - start


async def notified_in_vain(make: Make, rounds: int) -> float:
    condition = make()
    start = clock()
    for _ in range(rounds):
        async with condition:
            condition.notify()
    return clock() - start


def blocking(make: Make, rounds: int) -> float:
    lock = make()
    start = clock()
    for _ in range(rounds):
        with lock:
            pass
    return clock() - start


def pair(
    what: str, work: Callable[..., Any], ours: Make, theirs: Make, loop: str = "asyncio", **more: Make
) -> Workload:
    library = what.partition(".")[0]
    mine, original = f"asynclocks.drop_in: {what}", f"{library}'s own"
    cases = {
        mine: Case(partial(own_copy(work), ours), rounds=ROUNDS),
        original: Case(partial(own_copy(work), theirs), rounds=ROUNDS),
    }
    cases |= {name: Case(partial(own_copy(uncontended), make), rounds=ROUNDS) for name, make in more.items()}
    comparisons = [Comparison(mine, original, PURE), *(Comparison(mine, name, OWN) for name in more)]
    return Workload(f"Drop-in: {what}", cases, comparisons, loop, quick=False)


def ten(kind: Callable[[int], Any]) -> Make:
    return partial(kind, 10)


fast = partial(our_anyio.Lock, fast_acquire=True)
their_fast = partial(anyio.Lock, fast_acquire=True)
limiters = ten(our_trio.CapacityLimiter), ten(trio.CapacityLimiter)

WORKLOADS = [
    pair("asyncio.Lock, async with", uncontended, our_asyncio.Lock, asyncio.Lock, Mutex=Mutex),
    pair("asyncio.Lock, acquire and release", acquired, our_asyncio.Lock, asyncio.Lock),
    pair("asyncio.Semaphore, async with", uncontended, ten(our_asyncio.Semaphore), ten(asyncio.Semaphore)),
    pair("asyncio.Event, set", set_before, our_asyncio.Event, asyncio.Event),
    pair("asyncio.Condition, notified in vain", notified_in_vain, our_asyncio.Condition, asyncio.Condition),
    pair("anyio.Lock, async with", uncontended, our_anyio.Lock, anyio.Lock),
    pair("anyio.Lock, fast_acquire", uncontended, fast, their_fast),
    pair("anyio.Lock, acquire_nowait", taken_now, our_anyio.Lock, anyio.Lock),
    pair("anyio.Semaphore, async with", uncontended, ten(our_anyio.Semaphore), ten(anyio.Semaphore)),
    pair("anyio.CapacityLimiter, async with", uncontended, ten(our_anyio.CapacityLimiter), ten(anyio.CapacityLimiter)),
    pair("anyio.Event, set", set_before, our_anyio.Event, anyio.Event),
    pair("trio.Lock, async with", uncontended, our_trio.Lock, trio.Lock, "trio"),
    pair("trio.Semaphore, async with", uncontended, ten(our_trio.Semaphore), ten(trio.Semaphore), "trio"),
    pair("trio.CapacityLimiter, async with", uncontended, *limiters, "trio"),
    pair("trio.Event, set", set_before, our_trio.Event, trio.Event, "trio"),
    pair("threading.Lock, with", blocking, our_threading.Lock, threading.Lock, "process"),
    pair("threading.Semaphore, with", blocking, ten(our_threading.Semaphore), ten(threading.Semaphore), "process"),
]
