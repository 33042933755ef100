"""A library lends a few copies of a book: who has one, who waits, and what happens when copies come and go.

The model: anyio's documentation of CapacityLimiter.

It prints::

    2 copies, lent to Ada, Bo
    Ada wants another one: RuntimeError
    Cy looks in: WouldBlock
    2 wait
    a copy is bought: 3 lent
    Ada returns hers: 0 wait, 3 lent, 0 on the shelf
    2 are lost: -2 on the shelf
    all are back: 1 on the shelf
    returned by one who has none: RuntimeError
"""

from __future__ import annotations

import anyio
from anyio import CapacityLimiter, WouldBlock  # the one import that changes


async def main() -> None:
    copies = CapacityLimiter(2)
    for reader in ("Ada", "Bo"):
        await copies.acquire_on_behalf_of(reader)
    print(f"{copies.total_tokens} copies, lent to {', '.join(sorted(map(str, copies.statistics().borrowers)))}")
    try:
        await copies.acquire_on_behalf_of("Ada")
    except RuntimeError:
        print("Ada wants another one: RuntimeError")
    try:
        copies.acquire_on_behalf_of_nowait("Cy")
    except WouldBlock:
        print("Cy looks in: WouldBlock")

    got: list[str] = []

    async def wait(reader: str) -> None:
        await copies.acquire_on_behalf_of(reader)
        got.append(reader)

    async with anyio.create_task_group() as tasks:
        for number, reader in enumerate(("Di", "Ed"), start=1):
            tasks.start_soon(wait, reader)
            while copies.statistics().tasks_waiting < number:
                await anyio.sleep(0.001)
        print(f"{copies.statistics().tasks_waiting} wait")
        copies.total_tokens = 3
        while len(got) < 1:
            await anyio.sleep(0.001)
        print(f"a copy is bought: {copies.borrowed_tokens} lent")
        copies.release_on_behalf_of("Ada")
    waiting = copies.statistics().tasks_waiting
    print(f"Ada returns hers: {waiting} wait, {copies.borrowed_tokens} lent, {copies.available_tokens} on the shelf")
    assert got == ["Di", "Ed"]

    copies.total_tokens = 1
    print(f"2 are lost: {copies.available_tokens} on the shelf")
    for reader in ("Bo", "Di", "Ed"):
        copies.release_on_behalf_of(reader)
    print(f"all are back: {copies.available_tokens} on the shelf")
    async with copies:
        assert copies.available_tokens == 0
    try:
        copies.release_on_behalf_of("Cy")
    except RuntimeError:
        print("returned by one who has none: RuntimeError")


if __name__ == "__main__":
    anyio.run(main)
