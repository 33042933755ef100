"""A computation in phases: nobody begins the next one before all have finished the last one.

The model: asyncio's documentation of Barrier.

It prints::

    3 phases of 4 parts, in step
    4 times a part was the one that tidies up after all
    without one of them: 3 wait, the barrier is whole
    it will not come: 3 were told, the barrier is broken
    after a reset: whole
    met again: 4
"""

from __future__ import annotations

import asyncio
from asyncio import Barrier, BrokenBarrierError  # the one import that changes

PARTS = 4


class Grid:
    def __init__(self) -> None:
        self.barrier = Barrier(PARTS)
        self.log: list[int] = []
        self.tidied = 0

    async def compute(self, part: int) -> None:
        for phase in range(3):
            await asyncio.sleep(0.001 * part)
            self.log.append(phase)
            await self.meet()
        async with self.barrier as position:
            self.tidied += position == 0

    async def meet(self) -> None:
        if await self.barrier.wait() == 0:
            self.tidied += 1

    async def meet_or_hear(self) -> str:
        try:
            await self.barrier.wait()
        except BrokenBarrierError:
            return "told"
        return "met"


async def main() -> None:
    grid = Grid()
    await asyncio.gather(*(grid.compute(part) for part in range(PARTS)))
    assert grid.log == sorted(grid.log)
    print(f"3 phases of {grid.log.count(0)} parts, in step")
    print(f"{grid.tidied} times a part was the one that tidies up after all")

    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(grid.meet_or_hear()) for _ in range(PARTS - 1)]
        while grid.barrier.n_waiting < PARTS - 1:
            await asyncio.sleep(0.001)
        print(f"without one of them: {grid.barrier.n_waiting} wait, the barrier is {state(grid)}")
        await grid.barrier.abort()
    told = [task.result() for task in waiting].count("told")
    print(f"it will not come: {told} were told, the barrier is {state(grid)}")
    await grid.barrier.reset()
    print(f"after a reset: {state(grid)}")
    met = await asyncio.gather(*(grid.meet_or_hear() for _ in range(grid.barrier.parties)))
    print(f"met again: {met.count('met')}")


def state(grid: Grid) -> str:
    return "broken" if grid.barrier.broken else "whole"


if __name__ == "__main__":
    asyncio.run(main())
