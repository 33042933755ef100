"""Loops that are closed as they stand, with tasks parked in them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def passes(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def with_loop(main: Callable[[], Awaitable[Any]], *, close: bool = True) -> asyncio.AbstractEventLoop:
    """Run `main` on a loop that is then closed as it stands: whatever is parked there stays parked."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        if close:
            loop.close()
    return loop


def pending(work: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
    """The work as a task that may be destroyed while it is pending: asyncio does not complain about it."""
    task: asyncio.Task[Any] = asyncio.ensure_future(work())
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task


def leave_pending(*works: Callable[[], Awaitable[Any]], close: bool = True) -> asyncio.AbstractEventLoop:
    """Start each as a task of a loop that is closed as soon as all tasks are parked. Nobody refers to the tasks."""

    async def begin() -> None:
        for work in works:
            pending(work)
        await passes()

    return with_loop(begin, close=close)
