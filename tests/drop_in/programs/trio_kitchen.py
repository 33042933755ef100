"""Cooks wait until the oven is hot; who waits too long eats bread.

The model: trio's documentation of Event, and of cancel scopes around a wait.

It prints::

    4 wait for the oven
    one ate bread: 3 wait
    3 pizzas
    a hot oven is not waited for: pizza
    bool(event): NotImplementedError
"""

from __future__ import annotations

import trio
from trio import Event  # the one import that changes


async def eat(hot: Event, patience: float, eaten: list[str]) -> None:
    with trio.move_on_after(patience):
        await hot.wait()
        eaten.append("pizza")
        return
    eaten.append("bread")


async def main() -> None:
    hot = Event()
    eaten: list[str] = []
    async with trio.open_nursery() as nursery:
        for patience in (0.5, 60, 60, 60):
            nursery.start_soon(eat, hot, patience, eaten)
        while hot.statistics().tasks_waiting < 4:
            await trio.sleep(0.005)
        print("4 wait for the oven")
        while not eaten:
            await trio.sleep(0.005)
        print(f"one ate {eaten[0]}: {hot.statistics().tasks_waiting} wait")
        hot.set()
    print(f"{eaten.count('pizza')} pizzas")
    await eat(hot, 60, eaten)
    print(f"a hot oven is not waited for: {eaten[-1]}")
    try:
        bool(hot)
    except NotImplementedError:
        print("bool(event): NotImplementedError")


if __name__ == "__main__":
    trio.run(main)
