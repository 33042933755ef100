"""A door through which guests go one at a time, in the order in which they came.

The model: trio's documentation of Lock and StrictFIFOLock, and its chapter on fairness.

It prints::

    came and went: Ada Bo Cy Di
    taking turns: Ada Bo Ada Bo Ada Bo
    who tries while it is held: WouldBlock
    who releases what another one holds: RuntimeError
    who left the line is not let in: Ada Cy
"""

from __future__ import annotations

import trio
import trio.lowlevel
from trio import Lock, StrictFIFOLock, WouldBlock  # the one import that changes

Either = Lock | StrictFIFOLock


async def go_through(door: Either, name: str, went: list[str], times: int = 1) -> None:
    for _ in range(times):
        async with door:
            went.append(name)
            await trio.lowlevel.checkpoint()


async def until_waiting(door: Either, count: int) -> None:
    while door.statistics().tasks_waiting != count:
        await trio.sleep(0.001)


async def main() -> None:
    door = StrictFIFOLock()
    went: list[str] = []
    async with trio.open_nursery() as nursery, door:
        for number, name in enumerate(("Ada", "Bo", "Cy", "Di"), start=1):
            nursery.start_soon(go_through, door, name, went)
            await until_waiting(door, number)
    print("came and went:", *went)

    went.clear()
    async with trio.open_nursery() as nursery, door:
        for number, name in enumerate(("Ada", "Bo"), start=1):
            nursery.start_soon(go_through, door, name, went, 3)
            await until_waiting(door, number)
    print("taking turns:", *went)

    side_door = Lock()
    went.clear()

    async def hold() -> None:
        async with side_door:
            await until_waiting(side_door, 3)
            nursery.start_soon(try_door, side_door)
            while not tried:
                await trio.sleep(0.001)
            scope.cancel()
            await until_waiting(side_door, 2)

    tried: list[str] = []

    async def try_door(locked: Lock) -> None:
        for attempt, error in ((locked.acquire_nowait, WouldBlock), (locked.release, RuntimeError)):
            try:
                attempt()
            except error:
                what = "tries while it is held" if error is WouldBlock else "releases what another one holds"
                print(f"who {what}: {error.__name__}")
        tried.append("both")

    async def give_up() -> None:
        with scope:
            await go_through(side_door, "Bo", went)

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        while not side_door.locked():
            await trio.sleep(0.001)
        nursery.start_soon(go_through, side_door, "Ada", went)
        await until_waiting(side_door, 1)
        nursery.start_soon(give_up)
        await until_waiting(side_door, 2)
        nursery.start_soon(go_through, side_door, "Cy", went)
    print("who left the line is not let in:", *went)


if __name__ == "__main__":
    trio.run(main)
