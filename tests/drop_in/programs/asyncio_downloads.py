"""Downloads with a limit in all and one for each host.

The model: aiohttp's documentation of its connector's `limit` and `limit_per_host`, and asyncio's of Semaphore.

It prints::

    24 pages; at most 5 at once, 2 of a host
    a page that takes too long gives its places back: 5 free
    one place more: 6
    a place given back twice: ValueError
"""

from __future__ import annotations

import asyncio
from asyncio import BoundedSemaphore, Semaphore  # the one import that changes

LIMIT, LIMIT_PER_HOST = 5, 2
HOSTS = ("one.example", "two.example", "three.example")


class Client:
    def __init__(self) -> None:
        self.all = Semaphore(LIMIT)
        self.of = {host: BoundedSemaphore(LIMIT_PER_HOST) for host in HOSTS}
        self.open: list[str] = []
        self.most = 0
        self.most_of_a_host = 0

    async def get(self, host: str, seconds: float = 0.02) -> str:
        async with self.of[host], self.all:
            self.open.append(host)
            self.most = max(self.most, len(self.open))
            self.most_of_a_host = max(self.most_of_a_host, self.open.count(host))
            try:
                await asyncio.sleep(seconds)
            finally:
                self.open.remove(host)
        return host


async def free(semaphore: Semaphore) -> int:
    """How many can be acquired at once."""
    count = 0
    while not semaphore.locked():
        await semaphore.acquire()
        count += 1
    for _ in range(count):
        semaphore.release()
    return count


async def main() -> None:
    client = Client()
    pages = await asyncio.gather(*(client.get(host) for host in HOSTS * 8))
    print(f"{len(pages)} pages; at most {client.most} at once, {client.most_of_a_host} of a host")

    try:
        async with asyncio.timeout(0.05):
            await asyncio.gather(*(client.get(host, 60) for host in HOSTS * 8))
    except TimeoutError:
        assert not client.open
        print(f"a page that takes too long gives its places back: {await free(client.all)} free")
    client.all.release()
    print(f"one place more: {await free(client.all)}")
    try:
        client.of["one.example"].release()
    except ValueError:
        print("a place given back twice: ValueError")


if __name__ == "__main__":
    asyncio.run(main())
