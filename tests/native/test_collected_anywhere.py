"""A block that the collector ends between any two instructions of the library, in the thread that runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from asynclocks import Mutex, TryLockError
from tests.native.striking import Striking

Waiting = Coroutine[Any, Any, Any]


async def hold(mutex: Mutex[None]) -> None:
    async with mutex:
        await asyncio.get_running_loop().create_future()


async def begin(coroutine: Waiting) -> Waiting:
    """Run it as far as it goes, in a task of its own; nobody will run it on."""
    coroutine.send(None)
    return coroutine


def goes_on(waiting: Waiting) -> bool:
    """It was granted, and now has the mutex."""
    try:
        waiting.send(None)
    except StopIteration:
        return True
    return False


def arrive(mutex: Mutex[None], first: Waiting) -> list[Waiting]:
    arrival = mutex.acquire()
    arrival.send(None)
    return [first, arrival]


def leave(mutex: Mutex[None], first: Waiting) -> list[Waiting]:
    first.close()
    return []


def look(mutex: Mutex[None], first: Waiting) -> list[Waiting]:
    with suppress(TryLockError):
        mutex.try_lock()
    mutex.statistics()
    return [first]


@pytest.mark.parametrize("act", [arrive, leave, look])
def test_a_block_collected_between_any_two_instructions_lets_the_line_go_on(
    act: Callable[[Mutex[None], Waiting], list[Waiting]],
) -> None:
    """Nobody is lost, nobody is served twice, and in the end the mutex is free."""

    async def run(step: int) -> int:
        mutex: Mutex[None] = Mutex()
        holder = await asyncio.ensure_future(begin(hold(mutex)))
        first = await asyncio.ensure_future(begin(mutex.acquire()))
        striking = Striking(step, holder.close)
        with striking:
            line = act(mutex, first)
        holder.close()
        for waiting in line:
            assert goes_on(waiting), f"collected before instruction {step}"
            mutex.release()
        assert not mutex.locked(), f"collected before instruction {step}"
        assert mutex.statistics().waiting == 0
        return striking.left

    step, left = 0, 0
    while left <= 0:
        step += 1
        left = asyncio.run(run(step))
    assert step > 20
