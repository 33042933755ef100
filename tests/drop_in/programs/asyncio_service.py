"""A service whose workers start when it is ready, pause while it is busy elsewhere, and end when it is told to stop.

The model: asyncio's documentation of Event, and how uvicorn's and hypercorn's servers are asked to stop.

It prints::

    before it is ready: 0 at work
    after: 3 at work
    paused: is_set() is False
    who gives up waiting for it hears so after 0.05 s
    stopped: the workers did 3 rounds of 3 jobs
"""

from __future__ import annotations

import asyncio
from asyncio import Event  # the one import that changes

WORKERS = 3


class Service:
    def __init__(self) -> None:
        self.ready = Event()
        self.may_work = Event()
        self.stop = Event()
        self.rounds = [Event() for _ in range(3)]
        self.at_work = 0
        self.done = 0

    async def work(self) -> None:
        await self.ready.wait()
        self.at_work += 1
        for a_round in self.rounds:
            await a_round.wait()
            await self.may_work.wait()
            self.done += 1
        assert await self.stop.wait() is True


async def until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0.001)


async def main() -> None:
    service = Service()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(WORKERS):
            tasks.create_task(service.work())
        await asyncio.sleep(0)
        print(f"before it is ready: {service.at_work} at work")
        service.ready.set()
        await until(lambda: service.at_work == WORKERS)
        print(f"after: {service.at_work} at work")

        for number, a_round in enumerate(service.rounds, start=1):
            service.may_work.set()
            a_round.set()
            await until(lambda number=number: service.done == number * WORKERS)
            service.may_work.clear()
        print(f"paused: is_set() is {service.may_work.is_set()}")
        try:
            await asyncio.wait_for(service.may_work.wait(), 0.05)
        except TimeoutError:
            print("who gives up waiting for it hears so after 0.05 s")
        service.stop.set()
    rounds = service.done // WORKERS
    print(f"stopped: the workers did {rounds} rounds of {WORKERS} jobs")


if __name__ == "__main__":
    asyncio.run(main())
