"""A device that one task uses at a time; another one looks whether it is free, and does not wait if it is not.

The model: anyio's documentation of Lock and of `acquire_nowait`.

It prints::

    printed: 5 pages, none mixed up
    busy: WouldBlock, held by printer, 1 waits
    released by somebody else: RuntimeError
    acquired twice by its owner: RuntimeError
    the one that waited was cancelled: 0 wait
    free: True
"""

from __future__ import annotations

import anyio
import anyio.lowlevel
from anyio import Lock, WouldBlock  # the one import that changes


class Printer:
    def __init__(self) -> None:
        self.lock = Lock()
        self.paper: list[str] = []

    async def print(self, page: str) -> None:
        async with self.lock:
            for line in ("head", "text", "foot"):
                self.paper.append(f"{page} {line}")
                await anyio.lowlevel.checkpoint()


async def main() -> None:
    printer = Printer()
    async with anyio.create_task_group() as tasks:
        for page in range(5):
            tasks.start_soon(printer.print, f"page {page}")
    pages = [printer.paper[first : first + 3] for first in range(0, 15, 3)]
    assert all(len({line.rsplit(" ", 1)[0] for line in page}) == 1 for page in pages)
    print(f"printed: {len(pages)} pages, none mixed up")

    held, leave = anyio.Event(), anyio.Event()

    async def hold() -> None:
        async with printer.lock:
            held.set()
            await leave.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold, name="printer")
        await held.wait()
        async with anyio.create_task_group() as others:
            others.start_soon(printer.print, "one more")
            while not printer.lock.statistics().tasks_waiting:
                await anyio.sleep(0.001)
            await look(printer.lock)
            others.cancel_scope.cancel()
        print(f"the one that waited was cancelled: {printer.lock.statistics().tasks_waiting} wait")
        leave.set()
    print(f"free: {not printer.lock.locked()}")


async def look(lock: Lock) -> None:
    try:
        lock.acquire_nowait()
    except WouldBlock:
        statistics = lock.statistics()
        assert statistics.owner is not None
        print(f"busy: WouldBlock, held by {statistics.owner.name}, {statistics.tasks_waiting} waits")
    try:
        lock.release()
    except RuntimeError:
        print("released by somebody else: RuntimeError")
    other = Lock()
    other.acquire_nowait()
    try:
        await other.acquire()
    except RuntimeError:
        print("acquired twice by its owner: RuntimeError")


if __name__ == "__main__":
    anyio.run(main)
