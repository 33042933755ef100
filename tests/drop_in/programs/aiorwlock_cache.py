"""A cache: hits are read side by side, and each miss is filled once.

The model: aiorwlock's README, its fast locks, and a cache that is checked again under the writer's lock.

It prints::

    40 lookups of 4 keys, 4 fetched
    hits read side by side: True
    cleared while nobody read: 0 left
    fetched again: 5
"""

from __future__ import annotations

import asyncio

from aiorwlock import RWLock  # the one import that changes


class Cache:
    def __init__(self) -> None:
        self._lock = RWLock(fast=True)
        self.values: dict[str, str] = {}
        self.fetched = 0
        self.reading = 0
        self.most = 0

    async def get(self, key: str) -> str:
        async with self._lock.reader:
            self.reading += 1
            self.most = max(self.most, self.reading)
            await asyncio.sleep(0.01)
            self.reading -= 1
            if key in self.values:
                return self.values[key]
        async with self._lock.writer:
            if key not in self.values:  # else somebody filled it meanwhile
                await asyncio.sleep(0.001)
                self.fetched += 1
                self.values[key] = key.upper()
            return self.values[key]

    async def clear(self) -> None:
        await self._lock.writer.acquire()
        try:
            assert not self.reading
            self.values.clear()
        finally:
            self._lock.writer.release()


async def main() -> None:
    cache = Cache()
    found = await asyncio.gather(*(cache.get(key) for key in "abcd" * 10))
    assert found == list("ABCD" * 10)
    print(f"{len(found)} lookups of {len(cache.values)} keys, {cache.fetched} fetched")
    print(f"hits read side by side: {cache.most > 1}")
    await cache.clear()
    print(f"cleared while nobody read: {len(cache.values)} left")
    await cache.get("a")
    print(f"fetched again: {cache.fetched}")


if __name__ == "__main__":
    asyncio.run(main())
