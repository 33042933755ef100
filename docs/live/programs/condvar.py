import asyncio

from asynclocks import Condvar, Mutex
from live import shown

TASKS = 4
HOLD = 0.4  # seconds
CANCELLED = 0

parcels: list[int] = []
shelf = shown(Mutex(parcels), "shelf")
filled = shown(Condvar(), "filled")


async def fetch() -> None:
    async with shelf as guard:
        await filled.wait_while(guard, lambda parcels: not parcels)  # the shelf is free meanwhile
        print("got parcel", guard.value.pop(0))


async def bring() -> None:
    for parcel in range(1, TASKS + 1 - CANCELLED):
        await asyncio.sleep(HOLD)
        async with shelf as guard:
            guard.value.append(parcel)
        filled.notify_one()


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetch(), name=f"task {n}") for n in range(1, TASKS + 1)]
        group.create_task(bring(), name="carrier")
        await asyncio.sleep(HOLD / 2)
        for task in tasks[:CANCELLED]:
            task.cancel()


asyncio.run(main())
