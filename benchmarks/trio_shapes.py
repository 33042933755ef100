"""`benchmarks.shapes` on trio."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from benchmarks.clock import clock
from benchmarks.shapes import Make


async def ping_pong(make: Make, tasks: int, rounds: int) -> float:
    """`tasks` tasks, each again and again: lock, a checkpoint, unlock. Time from the first start to the last end."""
    lock = make()
    sleep = trio.sleep

    async def play() -> None:
        for _ in range(rounds):
            async with lock:
                await sleep(0)

    start = clock()
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(play)
    return clock() - start


async def convoy(make: Make, length: int, rounds: int) -> float:
    """`length` tasks queue behind a holder. Time from its release until the last of them has gone."""
    lock = make()
    passed = 0
    spent = 0.0

    async def walk() -> None:
        nonlocal passed
        async with lock:
            passed += 1

    for _ in range(rounds):
        async with trio.open_nursery() as nursery, lock:
            for _ in range(length):
                nursery.start_soon(walk)
            await wait_all_tasks_blocked()
            assert not passed % length
            start = clock()
        spent += clock() - start
    assert passed == rounds * length
    return spent
