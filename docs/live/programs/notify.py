import asyncio

from asynclocks import Notify
from live import shown

TASKS = 5
HOLD = 0.4  # seconds between two wake-ups
CANCELLED = 1

bell = shown(Notify(), "bell")


async def listen() -> None:
    await bell.notified()


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(listen(), name=f"task {n}") for n in range(1, TASKS + 1)]
        await asyncio.sleep(HOLD)
        for task in tasks[:CANCELLED]:
            task.cancel()
        await asyncio.sleep(HOLD)
        bell.notify_one()  # the oldest that waits
        await asyncio.sleep(HOLD)
        bell.notify_last()  # the newest
        await asyncio.sleep(HOLD)
        bell.notify_waiters()  # all others


asyncio.run(main())
