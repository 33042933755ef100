"""Ctrl-C on trio: wherever in the library it strikes, nothing is held that nobody can give back."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from asynclocks import ConcurrentMap, Mutex, OnceCell, RwLock, Semaphore
from tests.native.striking import Striking

pytestmark = pytest.mark.usefixtures("ctrl_c")

BELOW = (
    "synchronizer.py",
    "ticket_queue.py",
    "backends",
)  # one for all: their every step, for every primitive, would take minutes


async def mutex_block(mutex: Mutex[None]) -> None:
    async with mutex as guard:
        guard.map(id)


async def mutex_lock(mutex: Mutex[None]) -> None:
    with await mutex.lock() as guard:
        guard.map(id)


async def mutex_try_lock(mutex: Mutex[None]) -> None:
    with mutex.try_lock():
        pass


async def mutex_acquire(mutex: Mutex[None]) -> None:
    await mutex.acquire()
    mutex.release()
    mutex.acquire_nowait()
    mutex.release()


async def semaphore_block(semaphore: Semaphore) -> None:
    async with semaphore as permit:
        permit.split(1)


async def semaphore_acquire(semaphore: Semaphore) -> None:
    with await semaphore.acquire(2) as permit:
        permit.merge(permit.split(1))


async def semaphore_try_acquire(semaphore: Semaphore) -> None:
    with semaphore.try_acquire(2):
        pass


async def rwlock_blocks(lock: RwLock[None]) -> None:
    async with lock.upgradable_read() as reading, reading.upgrade() as writing:
        writing.downgrade()


async def rwlock_guards(lock: RwLock[None]) -> None:
    with await lock.write() as writing, writing.downgrade_to_upgradable() as reading:
        reading.try_upgrade().map(id)


async def rwlock_try(lock: RwLock[None]) -> None:
    with lock.try_write():
        pass


async def once(cell: OnceCell[int]) -> None:
    async def init() -> int:
        await trio.lowlevel.checkpoint()
        return 1

    await cell.get_or_init(init)


async def map_writes(shared: ConcurrentMap[str, int]) -> None:
    shared["a"] = 1
    shared.insert("a", 2)
    shared.alter("a", abs)
    shared.pop("a")


async def map_entry_block(shared: ConcurrentMap[str, int]) -> None:
    async with shared.entry("a") as entry:
        entry.value = 1


async def map_entry(shared: ConcurrentMap[str, int]) -> None:
    with await shared.entry("a") as entry:
        entry.value = 1


async def map_try_entry(shared: ConcurrentMap[str, int]) -> None:
    with shared.try_entry("a") as entry:
        entry.value = 1


async def map_refs(shared: ConcurrentMap[str, int]) -> None:
    shared["a"] = 1
    with shared.try_ref("a"), await shared.ref("a"):
        pass


async def map_flight(shared: ConcurrentMap[str, int]) -> None:
    async def init() -> int:
        await trio.lowlevel.checkpoint()
        return 1

    await shared.get_or_insert_with("a", init)


async def map_compute(shared: ConcurrentMap[str, int]) -> None:
    async def change(_: int | None) -> int:
        await trio.lowlevel.checkpoint()
        return 1

    await shared.compute("a", change)


def mutex_is_free(mutex: Mutex[None]) -> bool:
    return not mutex.locked()


def semaphore_is_whole(semaphore: Semaphore) -> bool:
    return semaphore.available_permits == 2


def rwlock_is_free(lock: RwLock[None]) -> bool:
    lock.try_write().release()
    return True


def map_is_idle(shared: ConcurrentMap[str, int]) -> bool:
    shared["a"] = 1
    return not shared._held and not shared._deferred


def once_is_left(cell: OnceCell[int]) -> bool:
    return not cell.statistics().initializing


MUTEX = (Mutex, mutex_is_free)
SEMAPHORE = (lambda: Semaphore(2), semaphore_is_whole)
RWLOCK = (RwLock, rwlock_is_free)
MAP = (ConcurrentMap, map_is_idle)
WORKS = {
    mutex_block: MUTEX,
    mutex_lock: MUTEX,
    mutex_try_lock: MUTEX,
    mutex_acquire: MUTEX,
    semaphore_block: SEMAPHORE,
    semaphore_acquire: SEMAPHORE,
    semaphore_try_acquire: SEMAPHORE,
    rwlock_blocks: RWLOCK,
    rwlock_guards: RWLOCK,
    rwlock_try: RWLOCK,
    once: (OnceCell, once_is_left),
    map_writes: MAP,
    map_entry_block: MAP,
    map_entry: MAP,
    map_try_entry: MAP,
    map_refs: MAP,
    map_flight: MAP,
    map_compute: MAP,
}


# CPython 3.12.1 crashed here once in some fifty runs: the exception leaves a trace function, and code that runs is
# changed under way. There it is among the slow tests, which no push waits for.
if_tracing_may_raise = pytest.mark.slow if sys.version_info[:2] == (3, 12) else pytest.mark.skipif(False, reason="")


@if_tracing_may_raise
@pytest.mark.filterwarnings("ignore")  # what an interrupted task had in hand is dropped, and says so
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_ctrl_c_at_any_instruction_loses_nothing(work: Callable[[Any], Awaitable[None]]) -> None:
    """It comes later, or what was taken is given back."""
    make, is_free = WORKS[work]
    step, left, interruptions = 0, 0, 0
    while left <= 0:  # until the work was done before the strike
        primitive: Any = make()
        step += 1
        striking = Striking(step, lambda: signal.raise_signal(signal.SIGINT), BELOW)

        async def main(primitive: Any = primitive, striking: Striking = striking) -> None:
            with striking:
                await work(primitive)

        try:
            trio.run(main)
        except KeyboardInterrupt:
            interruptions += 1
        left = striking.left
        gc.collect()
        assert is_free(primitive), f"it struck before instruction {step}"
    assert interruptions > 20


INITIALIZING: dict[str, Callable[[Callable[..., int]], Any]] = {
    "OnceCell": lambda init: OnceCell[int]().get_or_init(init),
    "flight": lambda init: ConcurrentMap[str, int]().get_or_insert_with("a", init),
    "compute": lambda init: ConcurrentMap[str, int]().compute("a", init),
}


@pytest.mark.parametrize("initialize", INITIALIZING.values(), ids=INITIALIZING)
def test_ctrl_c_reaches_an_initializer(initialize: Callable[[Callable[..., int]], Any]) -> None:
    """The user's own code is no part of the library's."""
    went_on = []

    def init(*_: object) -> int:
        signal.raise_signal(signal.SIGINT)
        went_on.append(True)
        return 1

    with pytest.raises(KeyboardInterrupt):
        trio.run(initialize, init)
    assert not went_on
