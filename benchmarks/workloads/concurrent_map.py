"""ConcurrentMap against dict, a dict of locks, and what caches a coroutine's result."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

from async_lru import alru_cache

from asynclocks import ConcurrentMap
from benchmarks.clock import clock
from benchmarks.harness import Case, Workload, first_against_rest, over

Make = Callable[..., Any]


class Bare(dict[Any, Any]):
    """A floor: CPython looks up, and adds, through slower ways for every subclass of dict."""

    __slots__ = ()


MAPS: dict[str, Make] = {"asynclocks.ConcurrentMap": ConcurrentMap, "dict": dict, "a bare subclass of dict": Bare}
KEY = "key"
CALLERS = 1_000
IDLE_KEYS = 1_000_000


# Without a loop.
def getting(make: Make, rounds: int) -> float:
    m = make({KEY: 1})
    start = clock()
    for _ in range(rounds):
        m[KEY]
    return clock() - start


def asking(make: Make, rounds: int) -> float:
    m = make({KEY: 1})
    start = clock()
    for _ in range(rounds):
        KEY in m  # noqa: B015 - asking is what is measured
    return clock() - start


def getting_or_none(make: Make, rounds: int) -> float:
    m = make({KEY: 1})
    start = clock()
    for _ in range(rounds):
        m.get(KEY)
    return clock() - start


def setting(rounds: int) -> float:
    m = ConcurrentMap({KEY: -1})
    start = clock()
    for number in range(rounds):
        m[KEY] = number
    return clock() - start


def setting_under_a_lock(rounds: int) -> float:
    d = {KEY: -1}
    lock = threading.Lock()
    start = clock()
    for number in range(rounds):
        with lock:
            d[KEY] = number
    return clock() - start


def idle_bytes(make: Make, rounds: int) -> float:
    spent = 0
    keys = range(IDLE_KEYS)
    for _ in range(rounds):
        tracemalloc.start()
        m = make(zip(keys, keys, strict=True))
        spent += tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(m) == IDLE_KEYS
    return spent


# On asyncio.
async def adding_in_an_entry(rounds: int) -> float:
    m = ConcurrentMap({KEY: 0})
    start = clock()
    for _ in range(rounds):
        async with m.entry(KEY) as entry:
            entry.value += 1
    spent = clock() - start
    assert m[KEY] == rounds
    return spent


async def adding_under_a_lock_of_a_dict(rounds: int) -> float:
    locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
    values = {KEY: 0}
    start = clock()
    for _ in range(rounds):
        async with locks[KEY]:
            values[KEY] += 1
    spent = clock() - start
    assert values[KEY] == rounds
    return spent


async def value(_: Any) -> int:
    return 1


async def hit(rounds: int) -> float:
    m: ConcurrentMap[str, int] = ConcurrentMap()
    init = partial(value, KEY)
    await m.get_or_insert_with(KEY, init)
    start = clock()
    for _ in range(rounds):
        await m.get_or_insert_with(KEY, init)
    return clock() - start


async def hit_of_a_function(rounds: int) -> float:
    function = alru_cache(value)
    await function(KEY)
    start = clock()
    for _ in range(rounds):
        await function(KEY)
    return clock() - start


async def slow_value(_: Any) -> int:
    await asyncio.sleep(0)
    return 1


async def flights(rounds: int) -> float:
    """Each round is another key's: CALLERS tasks ask for it. Time from the first one's making to the last one's end."""
    m: ConcurrentMap[int, int] = ConcurrentMap()
    start = clock()
    for key in range(rounds):
        init = partial(slow_value, key)
        await asyncio.gather(*[m.get_or_insert_with(key, init) for _ in range(CALLERS)])
    spent = clock() - start
    assert len(m) == rounds
    return spent


async def flights_of_a_function(rounds: int) -> float:
    function = alru_cache(maxsize=None)(slow_value)
    start = clock()
    for key in range(rounds):
        await asyncio.gather(*[function(key) for _ in range(CALLERS)])
    spent = clock() - start
    assert function.cache_info().misses == rounds
    return spent


def workloads() -> list[Workload]:
    found = []

    def add(name: str, cases: dict[str, Case], loop: str = "asyncio", unit: str = "ns", **targets: float) -> None:
        comparisons = first_against_rest(cases, **targets)
        found.append(Workload(f"ConcurrentMap: {name}", cases, comparisons, loop, unit, quick=unit == "ns"))

    ours = "asynclocks.ConcurrentMap"
    for name, work in {"m[k]": getting, "k in m": asking, "m.get(k)": getting_or_none}.items():
        add(name, over(work, MAPS), "process", dict=1.5)
    cases = {ours: Case(setting), "dict under threading.Lock": Case(setting_under_a_lock)}
    add("m[k] = v", cases, "process", dict_under_threading_Lock=1.2)
    cases = {ours: Case(hit), "async_lru.alru_cache": Case(hit_of_a_function)}
    add("get_or_insert_with of what is there", cases, async_lru_alru_cache=0.5)
    cases = {ours: Case(adding_in_an_entry), "dict of asyncio.Lock": Case(adding_under_a_lock_of_a_dict)}
    add("async with m.entry(k) as e: e.value += 1", cases, dict_of_asyncio_Lock=2.0)
    cases = {ours: Case(flights, CALLERS), "async_lru.alru_cache": Case(flights_of_a_function, CALLERS)}
    add(f"single flight of {CALLERS:,} callers", cases, async_lru_alru_cache=1.0)
    cases = over(idle_bytes, MAPS, operations=IDLE_KEYS, rounds=1)
    add("memory of an idle key among a million", cases, "process", "B", dict=1.05)
    return found


WORKLOADS = workloads()
