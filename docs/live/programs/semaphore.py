import asyncio

from asynclocks import Semaphore
from live import shown

TASKS = 6
HOLD = 0.4  # seconds
CANCELLED = 1
PERMITS = 3

semaphore = shown(Semaphore(PERMITS), "semaphore")


async def work(permits: int) -> None:
    async with semaphore.acquire(permits):
        await asyncio.sleep(HOLD)


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = []
        for n in range(1, TASKS + 1):
            permits = PERMITS if n % 3 == 0 else 1  # every third task wants all of them
            tasks.append(group.create_task(work(permits), name=f"task {n}"))
        await asyncio.sleep(HOLD / 2)
        for task in tasks[2 : 2 + CANCELLED]:  # task 3 wants more than is left: who waits behind it may go in now
            task.cancel()


asyncio.run(main())
