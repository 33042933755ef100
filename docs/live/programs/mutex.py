import asyncio

from asynclocks import Mutex
from live import shown

TASKS = 5
HOLD = 0.4  # seconds
CANCELLED = 1

mutex = shown(Mutex(), "mutex")


async def work() -> None:
    async with mutex:
        await asyncio.sleep(HOLD)


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(), name=f"task {n}") for n in range(1, TASKS + 1)]
        await asyncio.sleep(HOLD / 2)
        for task in tasks[1 : 1 + CANCELLED]:  # task 1 holds, these wait
            task.cancel()


asyncio.run(main())
