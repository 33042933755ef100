import asyncio

from asynclocks import DeadlockError, Mutex
from live import shown

TASKS = 4
HOLD = 0.4  # seconds

names = [f"fork {n}" for n in range(1, TASKS + 1)]
forks = [shown(Mutex(name=name), name) for name in names]


async def dine(place: int) -> None:
    try:
        async with forks[place]:
            await asyncio.sleep(HOLD)
            async with forks[(place + 1) % TASKS]:  # everybody holds one, and waits for the neighbour's
                await asyncio.sleep(HOLD)
    except DeadlockError as error:
        print(error)  # the fork was put back: the others can go on


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        for place in range(TASKS):
            group.create_task(dine(place), name=f"guest {place + 1}")


asyncio.run(main())
