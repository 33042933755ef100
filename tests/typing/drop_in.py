"""What a type checker must see of the drop-in modules; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from typing import Literal, assert_type

import anyio.to_thread
import trio
from anyio import TaskInfo

from asynclocks import Condvar, Event, Mutex, RwLock, Semaphore
from asynclocks.drop_in import (
    aiorwlock,
    anyio as in_anyio,
    asyncio as in_asyncio,
    threading as in_threading,
    trio as in_trio,
)


async def asyncio_s() -> None:
    lock = in_asyncio.Lock()
    assert_type(await lock.acquire(), Literal[True])
    assert_type(lock.locked(), bool)
    async with lock as entered:
        assert_type(entered, None)
    condition = in_asyncio.Condition(lock, condvar=Condvar())
    assert_type(await condition.wait_for(lambda: "news"), str)
    assert_type(await in_asyncio.Event(Event()).wait(), Literal[True])
    assert_type(await in_asyncio.Semaphore(Semaphore(1)).acquire(), Literal[True])
    async with in_asyncio.Barrier(2) as number:
        assert_type(number, int)
    in_asyncio.Lock(1)  # pyright: ignore[reportArgumentType]
    in_asyncio.Lock(loop=None)  # pyright: ignore[reportCallIssue]


async def anyio_s_and_trio_s() -> None:
    lock = in_anyio.Lock(Mutex(1), fast_acquire=True)
    assert_type(await lock.acquire(), None)
    assert_type(lock.statistics().owner, TaskInfo | None)
    async with in_anyio.Semaphore(1, max_value=2) as semaphore:
        assert_type(semaphore, in_anyio.Semaphore)
    assert_type(in_anyio.CapacityLimiter(2).statistics().borrowers, tuple[object, ...])
    assert_type(in_trio.CapacityLimiter(2).statistics().borrowers, list[object])
    assert_type(in_trio.Lock().statistics().tasks_waiting, int)
    in_trio.Condition(in_trio.StrictFIFOLock())  # pyright: ignore[reportArgumentType]


async def functions_in_threads() -> None:
    await anyio.to_thread.run_sync(print, limiter=in_anyio.CapacityLimiter(1))  # pyright: ignore[reportArgumentType]
    await trio.to_thread.run_sync(print, limiter=in_trio.CapacityLimiter(1))  # pyright: ignore[reportArgumentType]


def threading_s() -> None:
    lock = in_threading.Lock(Mutex())
    assert_type(lock.acquire(False), bool)
    assert_type(lock.acquire(timeout=0.5), bool)
    with lock as entered:
        assert_type(entered, bool)
    assert_type(in_threading.Condition(lock).wait_for(lambda: 1, timeout=1), int)
    assert_type(in_threading.Barrier(2).wait(), int)


async def aiorwlock_s() -> None:
    lock = aiorwlock.RWLock(RwLock(1), fast=True)
    assert_type(await lock.reader_lock.acquire(), None)
    assert_type(lock.writer_lock.locked, bool)
