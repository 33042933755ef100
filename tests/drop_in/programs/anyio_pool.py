"""A pool of connections: a semaphore bounds how many are out, a lock makes sure that each is opened once.

The model: httpcore's connection pool on anyio, httpx's documentation of pool limits and timeouts.

It prints::

    20 requests over 3 connections, opened: 3
    PoolTimeout while all are out
    that one took no place: 3 are free
    given back once too often: ValueError
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio import Lock, Semaphore  # the one import that changes

SIZE = 3


class PoolTimeout(Exception):
    pass


class Pool:
    def __init__(self) -> None:
        self.places = Semaphore(SIZE, max_value=SIZE)
        self._opening = Lock()
        self._idle: list[int] = []
        self.opened = 0
        self.out: set[int] = set()

    @asynccontextmanager
    async def connection(self, timeout: float = 60) -> AsyncIterator[int]:
        try:
            with anyio.fail_after(timeout):
                await self.places.acquire()
        except TimeoutError:
            raise PoolTimeout from None
        try:
            number = self._idle.pop() if self._idle else await self._open()
            assert number not in self.out
            self.out.add(number)
            try:
                yield number
            finally:
                self.out.remove(number)
                self._idle.append(number)
        finally:
            self.places.release()

    async def _open(self) -> int:
        async with self._opening:
            before = self.opened
            await anyio.sleep(0.01)
            self.opened = before + 1
            return self.opened


async def main() -> None:
    pool = Pool()
    served = 0

    async def request() -> None:
        nonlocal served
        async with pool.connection():
            await anyio.sleep(0.002)
            served += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(request)
    print(f"{served} requests over {SIZE} connections, opened: {pool.opened}")

    async with pool.connection(), pool.connection(), pool.connection():
        try:
            async with pool.connection(timeout=0.05):
                pass
        except PoolTimeout:
            print("PoolTimeout while all are out")
    print(f"that one took no place: {pool.places.value} are free")
    try:
        pool.places.release()
    except ValueError:
        print("given back once too often: ValueError")


if __name__ == "__main__":
    anyio.run(main)
