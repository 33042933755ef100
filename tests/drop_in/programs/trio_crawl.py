"""A crawler that opens a few pages at once, and more of them as it finds that the server bears it.

The model: trio's documentation of Semaphore, and of CapacityLimiter's `total_tokens`.

It prints::

    15 pages, at most 3 at once
    all 3 are taken: WouldBlock
    one more than there may be: ValueError
    polite: 1 at once
    bolder: 4 at once
"""

from __future__ import annotations

import trio
from trio import CapacityLimiter, Semaphore, WouldBlock  # the one import that changes


class Crawler:
    def __init__(self, places: Semaphore | CapacityLimiter) -> None:
        self._places = places
        self._open = 0
        self.most = 0
        self.pages = 0

    async def fetch(self) -> None:
        async with self._places:
            self._open += 1
            self.most = max(self.most, self._open)
            await trio.sleep(0.02)
            self._open -= 1
            self.pages += 1

    async def fetch_all(self, count: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(self.fetch)


async def main() -> None:
    places = Semaphore(3, max_value=3)
    crawler = Crawler(places)
    await crawler.fetch_all(15)
    print(f"{crawler.pages} pages, at most {crawler.most} at once")
    for _ in range(3):
        places.acquire_nowait()
    try:
        places.acquire_nowait()
    except WouldBlock:
        print(f"all {places.max_value} are taken: WouldBlock")
    for _ in range(3):
        places.release()
    try:
        places.release()
    except ValueError:
        print("one more than there may be: ValueError")

    limiter = CapacityLimiter(1)
    crawler = Crawler(limiter)
    await crawler.fetch_all(3)
    print(f"polite: {crawler.most} at once")
    limiter.total_tokens = 4
    await crawler.fetch_all(12)
    print(f"bolder: {crawler.most} at once")


if __name__ == "__main__":
    trio.run(main)
