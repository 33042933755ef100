"""An index is rebuilt, and then read by whoever rebuilt it, who lets others read it as well meanwhile.

The model: aiorwlock's README on a writer that takes the reader's lock too, and on acquiring by hand.

It prints::

    rebuilding: reader False, writer True, nobody else reads
    reading what it rebuilt: reader True, writer False
    2 others read beside it: apple
    the next rebuild waited for all 3 of them
    2 indexes do not wait for each other
"""

from __future__ import annotations

import asyncio

from aiorwlock import RWLock  # the one import that changes


class Index:
    def __init__(self) -> None:
        self.lock = RWLock()
        self.words: list[str] = []
        self.reading = 0
        self.leave = False

    async def rebuild(self, word: str) -> None:
        await self.lock.writer_lock.acquire()
        assert not self.reading
        self.words = [word]
        self.lock.writer_lock.release()

    async def rebuild_and_read(self, word: str) -> str:
        await self.lock.writer_lock.acquire()
        self.words = []
        await asyncio.sleep(0.01)
        self.words.append(word)
        self.tell("rebuilding", ", nobody else reads" if not self.reading else "")
        await self.lock.reader_lock.acquire()
        self.lock.writer_lock.release()
        self.tell("reading what it rebuilt")
        return await self._read_and_release()

    async def read(self) -> str:
        await self.lock.reader_lock.acquire()
        return await self._read_and_release()

    async def _read_and_release(self) -> str:
        try:
            self.reading += 1
            while not self.leave:
                await asyncio.sleep(0.005)
            return self.words[0]
        finally:
            self.reading -= 1
            self.lock.reader_lock.release()

    def tell(self, when: str, more: str = "") -> None:
        print(f"{when}: reader {self.lock.reader_lock.locked}, writer {self.lock.writer_lock.locked}{more}")


async def main() -> None:
    index = Index()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(index.rebuild_and_read("apple"))
        while not index.reading:
            await asyncio.sleep(0.005)
        others = [tasks.create_task(index.read()) for _ in range(2)]
        while index.reading < 3:
            await asyncio.sleep(0.005)
        tasks.create_task(index.rebuild("pear"))
        await asyncio.sleep(0.01)
        index.leave = True
    (word,) = {task.result() for task in (first, *others)}
    print(f"{len(others)} others read beside it: {word}")
    if await index.read() == "pear":
        print("the next rebuild waited for all 3 of them")

    another = Index()
    async with index.lock.writer_lock:
        await asyncio.wait_for(another.rebuild("plum"), 60)
    print("2 indexes do not wait for each other")


if __name__ == "__main__":
    asyncio.run(main())
