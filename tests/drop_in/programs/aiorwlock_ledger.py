"""Accounts: a transfer writes, and calls what reads; a task takes the lock again that it has.

The model: aiorwlock's README on reentrancy, and on a writer's lock that is taken while reading.

It prints::

    the sum is 300 whenever it is read
    a transfer that fails changes nothing: 300
    write while reading: RuntimeError
    released without being held: RuntimeError
    free: <RWLock: <ReaderLock: [unlocked]> <WriterLock: [unlocked]>>
"""

from __future__ import annotations

import asyncio
from itertools import pairwise

from aiorwlock import RWLock  # the one import that changes


class Ledger:
    def __init__(self) -> None:
        self.lock = RWLock()
        self._accounts = {"Ada": 100, "Bo": 100, "Cy": 100}

    async def sum(self) -> int:
        async with self.lock.reader_lock:
            return sum(self._accounts.values())

    async def transfer(self, giver: str, taker: str, amount: int) -> None:
        async with self.lock.writer_lock:
            before = await self.sum()
            if self._accounts[giver] < amount:
                raise ValueError(f"{giver} has less than {amount}")
            await self._add(giver, -amount)
            await asyncio.sleep(0)
            await self._add(taker, amount)
            assert await self.sum() == before

    async def _add(self, name: str, amount: int) -> None:
        async with self.lock.writer_lock:
            self._accounts[name] += amount


async def main() -> None:
    ledger = Ledger()
    names = ["Ada", "Bo", "Cy"] * 4
    transfers = [ledger.transfer(giver, taker, 5) for giver, taker in pairwise(names)]
    *_, last = await asyncio.gather(*transfers, *(ledger.sum() for _ in range(10)))
    sums = {last, *(await asyncio.gather(*(ledger.sum() for _ in range(3))))}
    print("the sum is", *sums, "whenever it is read")
    try:
        await ledger.transfer("Ada", "Bo", 1000)
    except ValueError:
        print(f"a transfer that fails changes nothing: {await ledger.sum()}")

    async with ledger.lock.reader_lock:
        try:
            await ledger.lock.writer_lock.acquire()
        except RuntimeError:
            print("write while reading: RuntimeError")
    try:
        ledger.lock.writer_lock.release()
    except RuntimeError:
        print("released without being held: RuntimeError")
    print(f"free: {ledger.lock}")


if __name__ == "__main__":
    asyncio.run(main())
