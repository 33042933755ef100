"""How each loop runs many tasks at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

Work = Callable[[], Coroutine[Any, Any, None]]


async def on_asyncio(workers: Sequence[Work]) -> None:
    """On asyncio, and in Pyodide."""
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker())


async def on_trio(workers: Sequence[Work]) -> None:
    """On trio."""
    import trio

    async with trio.open_nursery() as nursery:
        for worker in workers:
            nursery.start_soon(worker)
