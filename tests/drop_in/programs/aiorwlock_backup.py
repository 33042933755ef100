"""A store whose backup must not wait for ever, and must not leave the line blocked when it gives up.

The model: aiorwlock's README, with asyncio's timeout around the wait.

It prints::

    the backup gave up: somebody read all the time
    readers go on: 3 read
    the writer came first: the reader read its value
    a writer that was cancelled while it wrote let go
"""

from __future__ import annotations

import asyncio

from aiorwlock import RWLock  # the one import that changes


class Store:
    def __init__(self) -> None:
        self.lock = RWLock()
        self.value = "old"

    async def read(self) -> str:
        async with self.lock.reader_lock:
            return self.value

    async def write(self, value: str, seconds: float = 0) -> None:
        async with self.lock.writer_lock:
            await asyncio.sleep(seconds)
            self.value = value


async def main() -> None:
    store = Store()
    async with asyncio.TaskGroup() as tasks, store.lock.reader_lock:
        backup = tasks.create_task(give_up(store))
        await asyncio.sleep(0.01)
        late = [tasks.create_task(store.read()) for _ in range(3)]
        while not backup.done():
            await asyncio.sleep(0.01)
        print(backup.result())
    print(f"readers go on: {[task.result() for task in late].count('old')} read")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store.write("new", 0.05))
        while not store.lock.writer_lock.locked:
            await asyncio.sleep(0)
        reading = tasks.create_task(store.read())
    print(f"the writer came first: the reader read {'its' if reading.result() == 'new' else 'another'} value")

    try:
        await asyncio.wait_for(store.write("never", 60), 0.05)
    except TimeoutError:
        assert await store.read() == "new"
        print("a writer that was cancelled while it wrote let go")


async def give_up(store: Store) -> str:
    try:
        async with asyncio.timeout(0.1):
            await store.write("backup")
    except TimeoutError:
        return "the backup gave up: somebody read all the time"
    return "backed up"


if __name__ == "__main__":
    asyncio.run(main())
