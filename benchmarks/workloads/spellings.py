"""Every spelling of taking and giving back, uncontended: one that has no row is one that nobody looked at.

Each row is measured beside ``async with asyncio.Lock()``, the line that everybody knows, and beside the peer that has
the same spelling, where there is one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio

from asynclocks import Barrier, ConcurrentMap, Event, Mutex, Notify, OnceCell, RwLock, Semaphore
from benchmarks import shapes
from benchmarks.clock import clock
from benchmarks.harness import Case, Workload, first_against_rest, own_copy

Spelling = Callable[[Any, int], Coroutine[Any, Any, float]]
LOCK = "asyncio.Lock, async with"
LONG = 1000.0  # seconds of a timeout that is not needed


async def block_of_lock(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with lock.lock():
            pass
    return clock() - start


async def block_of_lock_with_timeout(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with lock.lock(timeout=LONG):
            pass
    return clock() - start


async def with_await_lock(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        with await lock.lock():
            pass
    return clock() - start


async def block_of_lock_owned(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with lock.lock_owned():
            pass
    return clock() - start


async def acquire_and_release(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        await lock.acquire()
        lock.release()
    return clock() - start


async def acquire_with_timeout(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        await lock.acquire(LONG)
        lock.release()
    return clock() - start


async def acquire_nowait(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        lock.acquire_nowait()
        lock.release()
    return clock() - start


async def try_lock(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        lock.try_lock().release()
    return clock() - start


async def block_of_read(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with lock.read():
            pass
    return clock() - start


async def block_of_read_with_timeout(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with lock.read(timeout=LONG):
            pass
    return clock() - start


async def with_await_read(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        with await lock.read():
            pass
    return clock() - start


async def block_of_write(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with lock.write():
            pass
    return clock() - start


async def block_of_upgradable_read(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with lock.upgradable_read():
            pass
    return clock() - start


async def upgrade(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with lock.upgradable_read() as guard:
            await guard.upgrade()
    return clock() - start


async def try_read(lock: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        lock.try_read().release()
    return clock() - start


async def block_of_acquire(semaphore: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with semaphore.acquire():
            pass
    return clock() - start


async def block_of_acquire_of_three(semaphore: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with semaphore.acquire(3):
            pass
    return clock() - start


async def block_of_acquire_with_timeout(semaphore: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with semaphore.acquire(timeout=LONG):
            pass
    return clock() - start


async def try_acquire(semaphore: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        semaphore.try_acquire().release()
    return clock() - start


async def block_of_entry(entries: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with entries.entry("key"):
            pass
    return clock() - start


async def with_await_entry(entries: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        with await entries.entry("key"):
            pass
    return clock() - start


async def block_of_ref(entries: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        async with entries.ref("key"):
            pass
    return clock() - start


async def try_entry(entries: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        entries.try_entry("key").release()
    return clock() - start


async def alter(entries: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        entries.alter("key", int)
    return clock() - start


async def compute(entries: Any, rounds: int) -> float:
    async def same(value: Any) -> Any:
        return value

    start = clock()
    for _ in range(rounds):
        await entries.compute("key", same)
    return clock() - start


async def miss_of_get_or_insert_with(entries: Any, rounds: int) -> float:
    start = clock()
    for key in range(rounds):
        await entries.get_or_insert_with(key, int)
    return clock() - start


async def wait_of_what_is_set(event: Any, rounds: int) -> float:
    event.set()
    start = clock()
    for _ in range(rounds):
        await event.wait()
    return clock() - start


async def notified_before(notify: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        notify.notify_one()
        await notify.notified()
    return clock() - start


async def wait_of_cell(cell: Any, rounds: int) -> float:
    cell.set(1)
    start = clock()
    for _ in range(rounds):
        await cell.wait()
    return clock() - start


async def wait_alone(barrier: Any, rounds: int) -> float:
    start = clock()
    for _ in range(rounds):
        await barrier.wait()
    return clock() - start


# Without a loop.
def blocking_lock(rounds: int) -> float:
    lock = Mutex()
    start = clock()
    for _ in range(rounds):
        with lock.blocking_lock():
            pass
    return clock() - start


def blocking_lock_with_timeout(rounds: int) -> float:
    lock = Mutex()
    start = clock()
    for _ in range(rounds):
        with lock.blocking_lock(LONG):
            pass
    return clock() - start


def blocking_read(rounds: int) -> float:
    lock = RwLock()
    start = clock()
    for _ in range(rounds):
        with lock.blocking_read():
            pass
    return clock() - start


def blocking_acquire(rounds: int) -> float:
    semaphore = Semaphore(10)
    start = clock()
    for _ in range(rounds):
        with semaphore.blocking_acquire():
            pass
    return clock() - start


def blocking_entry(rounds: int) -> float:
    entries = ConcurrentMap({"key": 1})
    start = clock()
    for _ in range(rounds):
        with entries.blocking_entry("key"):
            pass
    return clock() - start


def threading_lock(rounds: int) -> float:
    lock = threading.Lock()
    start = clock()
    for _ in range(rounds):
        with lock:
            pass
    return clock() - start


def threading_semaphore(rounds: int) -> float:
    semaphore = threading.Semaphore(10)
    start = clock()
    for _ in range(rounds):
        with semaphore:
            pass
    return clock() - start


async def over_made(spelling: Spelling, make: Callable[[], Any], rounds: int) -> float:
    return await spelling(make(), rounds)


def spelled(spelling: Spelling, make: Callable[[], Any]) -> Case:
    return Case(partial(over_made, own_copy(spelling), make))


def beside(what: str, ours: Spelling, make: Callable[[], Any], target: float | None, **peers: Case) -> Workload:
    """Our spelling beside the line that everybody knows, and beside the peers that have the same spelling."""
    cases = {
        f"asynclocks: {what}": spelled(ours, make),
        LOCK: Case(partial(own_copy(shapes.uncontended), asyncio.Lock)),
    }
    cases |= {peer.replace("_", ".", 1).replace("__", ", "): case for peer, case in peers.items()}
    targets = {} if target is None else {"asyncio_Lock__async_with": target}
    return Workload(f"Spelling: {what}", cases, first_against_rest(cases, **targets), quick=False)


def in_threads(
    what: str, ours: Callable[[int], float], theirs: Callable[[int], float], target: float | None
) -> Workload:
    peer = theirs.__name__.replace("_", ".", 1).replace("lock", "Lock").replace("semaphore", "Semaphore")
    cases = {f"asynclocks: {what}": Case(ours), peer: Case(theirs)}
    targets = {} if target is None else {peer.replace(".", "_"): target}
    return Workload(f"Spelling: {what}", cases, first_against_rest(cases, **targets), "process", quick=False)


def one_key() -> ConcurrentMap[Any, int]:
    return ConcurrentMap({"key": 1})


ten = partial(Semaphore, 10)

WORKLOADS = [
    beside("async with m.lock()", block_of_lock, Mutex, 3.0),
    beside("async with m.lock(timeout)", block_of_lock_with_timeout, Mutex, None),
    beside("with await m.lock()", with_await_lock, Mutex, 3.0),
    beside("async with m.lock_owned()", block_of_lock_owned, Mutex, 3.0),
    beside(
        "await m.acquire(); m.release()",
        acquire_and_release,
        Mutex,
        None,
        asyncio_Lock__acquire_and_release=spelled(acquire_and_release, asyncio.Lock),
    ),
    beside("await m.acquire(timeout); m.release()", acquire_with_timeout, Mutex, None),
    beside(
        "m.acquire_nowait(); m.release()",
        acquire_nowait,
        Mutex,
        None,
        anyio_Lock__acquire_nowait=spelled(acquire_nowait, partial(anyio.Lock, fast_acquire=True)),
    ),
    beside("m.try_lock().release()", try_lock, Mutex, 3.0),
    beside("async with rw.read()", block_of_read, RwLock, None),
    beside("async with rw.read(timeout)", block_of_read_with_timeout, RwLock, None),
    beside("with await rw.read()", with_await_read, RwLock, None),
    beside("async with rw.write()", block_of_write, RwLock, None),
    beside("async with rw.upgradable_read()", block_of_upgradable_read, RwLock, None),
    beside("await guard.upgrade()", upgrade, RwLock, None),
    beside("rw.try_read().release()", try_read, RwLock, None),
    beside("async with sem.acquire()", block_of_acquire, ten, 3.0),
    beside("async with sem.acquire(3)", block_of_acquire_of_three, ten, None),
    beside("async with sem.acquire(timeout)", block_of_acquire_with_timeout, ten, None),
    beside("sem.try_acquire().release()", try_acquire, ten, None),
    beside("async with map.entry(k)", block_of_entry, one_key, None),
    beside("with await map.entry(k)", with_await_entry, one_key, None),
    beside("async with map.ref(k)", block_of_ref, one_key, None),
    beside("map.try_entry(k).release()", try_entry, one_key, None),
    beside("map.alter(k, change)", alter, one_key, None),
    beside("await map.compute(k, change)", compute, one_key, None),
    beside("await map.get_or_insert_with(k, init), absent", miss_of_get_or_insert_with, ConcurrentMap, None),
    beside(
        "await event.wait(), set",
        wait_of_what_is_set,
        Event,
        None,
        asyncio_Event__set=spelled(wait_of_what_is_set, asyncio.Event),
    ),
    beside("await notify.notified(), notified", notified_before, Notify, None),
    beside("await cell.wait(), set", wait_of_cell, OnceCell, None),
    beside("await barrier.wait(), alone", wait_alone, partial(Barrier, 1), None),
    in_threads("with m.blocking_lock()", blocking_lock, threading_lock, 8.0),
    in_threads("with m.blocking_lock(timeout)", blocking_lock_with_timeout, threading_lock, None),
    in_threads("with rw.blocking_read()", blocking_read, threading_lock, None),
    in_threads("with sem.blocking_acquire()", blocking_acquire, threading_semaphore, None),
    in_threads("with map.blocking_entry(k)", blocking_entry, threading_lock, None),
]
