import asyncio

from asynclocks import RwLock
from live import shown

TASKS = 6
HOLD = 0.4  # seconds
CANCELLED = 0

lock = shown(RwLock(), "lock")


async def read() -> None:
    async with lock.read():
        await asyncio.sleep(HOLD)


async def write() -> None:
    async with lock.write():
        await asyncio.sleep(HOLD)


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = []
        for n in range(1, TASKS + 1):
            if n % 3 == 0:  # every third task writes
                tasks.append(group.create_task(write(), name=f"writer {n}"))
            else:
                tasks.append(group.create_task(read(), name=f"reader {n}"))
        await asyncio.sleep(HOLD / 2)
        for task in tasks[2 : 2 + CANCELLED]:  # the first two read, these wait
            task.cancel()


asyncio.run(main())
