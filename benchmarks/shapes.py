"""What is done with a lock on asyncio, whatever lock it is. Times are in seconds over all rounds.

`make` makes the lock, inside the loop; it is used with ``async with`` only. A shape is one function with what
it needs inside, because each subject gets a copy of its byte code. Nothing but asyncio here, since this runs in
Pyodide too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from benchmarks.clock import clock

Make = Callable[[], Any]
Order = Callable[[list[asyncio.Task[None]]], list[asyncio.Task[None]]]

PASSES = 10  # of the loop, after which every task that can park is parked


async def settle() -> None:
    for _ in range(PASSES):
        await asyncio.sleep(0)


async def uncontended(make: Make, rounds: int) -> float:
    """One task, nobody else: ``async with lock: pass``. Serves trio as well."""
    lock = make()
    start = clock()
    for _ in range(rounds):
        async with lock:
            pass
    return clock() - start


async def ping_pong(make: Make, tasks: int, rounds: int) -> float:
    """`tasks` tasks, each again and again: lock, ``await sleep(0)``, unlock. Time from first start to last end."""
    lock = make()
    sleep = asyncio.sleep

    async def play() -> None:
        for _ in range(rounds):
            async with lock:
                await sleep(0)

    start = clock()
    await asyncio.gather(*[play() for _ in range(tasks)])
    return clock() - start


async def convoy(make: Make, length: int, rounds: int) -> float:
    """`length` tasks queue behind a holder. Time from its release until the last of them, each passing the lock on."""
    lock = make()
    passed = 0
    spent = 0.0

    async def walk() -> None:
        nonlocal passed
        async with lock:
            passed += 1

    for _ in range(rounds):
        async with lock:
            tasks = [asyncio.create_task(walk()) for _ in range(length)]
            await settle()
            assert not passed % length
            start = clock()
        await tasks[-1]
        spent += clock() - start
    assert passed == rounds * length
    return spent


async def gathering(make: Make, length: int, rounds: int) -> float:
    """As `convoy`, from the first task's arrival on: making the tasks and queueing them counts too."""
    lock = make()
    passed = 0
    spent = 0.0

    async def walk() -> None:
        nonlocal passed
        async with lock:
            passed += 1

    for _ in range(rounds):
        start = clock()
        async with lock:
            tasks = [asyncio.create_task(walk()) for _ in range(length)]
            await settle()
        await tasks[-1]
        spent += clock() - start
    assert passed == rounds * length
    return spent


async def cancelling(make: Make, waiting: int, order: Order, rounds: int) -> float:
    """`waiting` tasks queue behind a holder. Time from cancelling the first until the last has unwound."""
    lock = make()
    spent = 0.0

    async def walk() -> None:
        async with lock:
            raise AssertionError("the lock was held all the time")

    for _ in range(rounds):
        async with lock:
            tasks = [asyncio.create_task(walk()) for _ in range(waiting)]
            await settle()
            leaving = order(tasks)
            start = clock()
            for task in leaving:
                task.cancel()
            await asyncio.wait([leaving[-1]])
            spent += clock() - start
            assert all(task.cancelled() for task in tasks)
    return spent
