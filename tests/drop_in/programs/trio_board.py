"""A board with one value that many watch: each sees the latest, and none misses the last one.

The model: trio's documentation of Condition, and its example of a value that changes.

It prints::

    3 watch
    each saw the last value, none a value twice
    one of two waiters is notified: 1 woke
    the other one gave up within 0.5 s, and held the lock: True
    notify without the lock: RuntimeError
"""

from __future__ import annotations

import trio
from trio import Condition, Lock  # the one import that changes

LAST = 20


class Board:
    def __init__(self) -> None:
        self.lock = Lock()
        self.changed = Condition(self.lock)
        self._value = 0

    async def put(self, value: int) -> None:
        async with self.lock:
            self._value = value
            self.changed.notify_all()

    async def after(self, seen: int) -> int:
        async with self.changed:
            while self._value == seen:
                await self.changed.wait()
            return self._value


async def main() -> None:
    board = Board()
    saw: list[list[int]] = [[], [], []]

    async def watch(log: list[int]) -> None:
        while not log or log[-1] != LAST:
            log.append(await board.after(log[-1] if log else 0))

    async with trio.open_nursery() as nursery:
        for log in saw:
            nursery.start_soon(watch, log)
        await until_waiting(board.changed, 3)
        print(f"{board.changed.statistics().tasks_waiting} watch")
        for value in range(1, LAST + 1):
            await board.put(value)
    assert all(log == sorted(set(log)) and log[-1] == LAST for log in saw)
    print("each saw the last value, none a value twice")

    woke: list[str] = []

    async def wait(patience: float) -> None:
        async with board.changed:
            with trio.move_on_after(patience) as scope:
                await board.changed.wait()
                woke.append("woke")
            if scope.cancelled_caught:
                print(f"the other one gave up within {patience} s, and held the lock: {board.lock.locked()}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 60)
        await until_waiting(board.changed, 1)
        nursery.start_soon(wait, 0.5)
        await until_waiting(board.changed, 1, 2)
        async with board.changed:
            board.changed.notify()
        while not woke:
            await trio.sleep(0.001)
        print(f"one of two waiters is notified: {len(woke)} woke")
    try:
        board.changed.notify()
    except RuntimeError:
        print("notify without the lock: RuntimeError")


async def until_waiting(condition: Condition, *counts: int) -> None:
    while condition.statistics().tasks_waiting not in counts:
        await trio.sleep(0.001)


if __name__ == "__main__":
    trio.run(main)
