"""A bounded channel between tasks: two conditions over one lock, as a queue has them.

The model: janus' queue, and asyncio's documentation of Condition.

It prints::

    received 0..29 each once, never more than 4 in the channel
    nothing to receive within 0.05 s
    a receiver that was cancelled took nothing: late
    closed for all 3 receivers
    notify without the lock: RuntimeError
"""

from __future__ import annotations

import asyncio
from asyncio import Condition, Lock  # the one import that changes

SIZE = 4
CLOSED = "closed"


class Channel:
    def __init__(self, size: int) -> None:
        self._mutex = Lock()
        self._not_full = Condition(self._mutex)
        self.not_empty = Condition(self._mutex)
        self._items: list[object] = []
        self._size = size
        self._closed = False
        self.most = 0

    async def send(self, item: object) -> None:
        async with self._not_full:
            while len(self._items) >= self._size:
                await self._not_full.wait()
            self._items.append(item)
            self.most = max(self.most, len(self._items))
            self.not_empty.notify()

    async def receive(self) -> object:
        async with self.not_empty:
            await self.not_empty.wait_for(lambda: self._items or self._closed)
            if not self._items:
                return CLOSED
            item = self._items.pop(0)
            self._not_full.notify()
            return item

    async def close(self) -> None:
        await self._mutex.acquire()
        try:
            self._closed = True
            self.not_empty.notify_all()
        finally:
            self._mutex.release()


async def main() -> None:
    channel = Channel(SIZE)
    received: list[object] = []

    async def send(first: int) -> None:
        for number in range(first, first + 10):
            await channel.send(number)

    async def receive(count: int) -> None:
        for _ in range(count):
            received.append(await channel.receive())
            await asyncio.sleep(0)

    await asyncio.gather(*(send(first) for first in (0, 10, 20)), receive(15), receive(15))
    assert sorted(received) == list(range(30))  # type: ignore[type-var]
    assert channel.most <= SIZE
    print(f"received 0..29 each once, never more than {SIZE} in the channel")

    try:
        await asyncio.wait_for(channel.receive(), 0.05)
    except TimeoutError:
        print("nothing to receive within 0.05 s")

    async with asyncio.TaskGroup() as tasks:
        cancelled = tasks.create_task(channel.receive())
        await asyncio.sleep(0.01)
        patient = tasks.create_task(channel.receive())
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await channel.send("late")
    print(f"a receiver that was cancelled took nothing: {patient.result()}")

    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(channel.receive()) for _ in range(3)]
        await asyncio.sleep(0.01)
        await channel.close()
    assert {task.result() for task in waiting} == {CLOSED}
    print(f"closed for all {len(waiting)} receivers")

    try:
        channel.not_empty.notify()
    except RuntimeError:
        print("notify without the lock: RuntimeError")


if __name__ == "__main__":
    asyncio.run(main())
