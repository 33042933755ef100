"""Bidders wait until the price has changed or the auction is over.

The model: anyio's documentation of Condition, `notify(n)` and `notify_all`.

It prints::

    sold for 100 after 10 bids
    the queue at the counter: 4 wait
    2 are called: 2 wait
    one leaves: 1 waits
    all are called: 0 wait, served 3
    wait without the lock: RuntimeError
"""

from __future__ import annotations

import anyio
from anyio import Condition  # the one import that changes


class Auction:
    def __init__(self) -> None:
        self._changed = Condition()
        self.price = 0
        self.leader = ""
        self.bids = 0

    async def bid(self, name: str, limit: int) -> None:
        while True:
            async with self._changed:
                while self.leader == name:
                    await self._changed.wait()
                if self.price + 10 > limit:
                    self.leader = ""  # the other one is not to wait for us
                    self._changed.notify_all()
                    return
                self.price += 10
                self.bids += 1
                self.leader = name
                self._changed.notify_all()


class Counter:
    def __init__(self) -> None:
        self.called = Condition()
        self.served = 0

    async def queue(self, scope: anyio.CancelScope) -> None:
        with scope:
            async with self.called:
                await self.called.wait()
                self.served += 1

    async def call(self, count: int | None = None) -> None:
        async with self.called:
            if count is None:
                self.called.notify_all()
            else:
                self.called.notify(count)

    @property
    def waiting(self) -> int:
        return self.called.statistics().tasks_waiting


async def main() -> None:
    auction = Auction()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(auction.bid, "Ada", 100)
        tasks.start_soon(auction.bid, "Bo", 100)
    print(f"sold for {auction.price} after {auction.bids} bids")

    counter = Counter()
    async with anyio.create_task_group() as tasks:
        scopes = [anyio.CancelScope() for _ in range(4)]
        for number, scope in enumerate(scopes, start=1):
            tasks.start_soon(counter.queue, scope)
            while counter.waiting < number:
                await anyio.sleep(0.001)
        print(f"the queue at the counter: {counter.waiting} wait")
        await counter.call(2)
        print(f"2 are called: {counter.waiting} wait")
        scopes[2].cancel()
        while counter.waiting > 1:
            await anyio.sleep(0.001)
        print(f"one leaves: {counter.waiting} waits")
        await counter.call()
    print(f"all are called: {counter.waiting} wait, served {counter.served}")
    try:
        await counter.called.wait()
    except RuntimeError:
        print("wait without the lock: RuntimeError")


if __name__ == "__main__":
    anyio.run(main)
