import asyncio

from asynclocks import Barrier
from live import shown

TASKS = 4
HOLD = 0.4  # seconds between two arrivals
CANCELLED = 1

barrier = shown(Barrier(TASKS), "barrier")


async def arrive(late: float) -> None:
    await asyncio.sleep(late)
    met = await barrier.wait()
    if met.is_leader:
        print("the last to arrive lets all of them go")


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(arrive(n * HOLD), name=f"task {n}") for n in range(1, TASKS + 1)]
        await asyncio.sleep(HOLD * (CANCELLED + 0.5))
        for number, task in enumerate(tasks[:CANCELLED], start=TASKS + 1):
            task.cancel()  # counts no more: somebody else has to come
            group.create_task(arrive(number * HOLD), name=f"task {number}")


asyncio.run(main())
