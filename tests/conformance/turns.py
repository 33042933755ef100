"""Tasks that begin one after the other, each when those before it are parked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from anyio.abc import TaskGroup

from tests.support import Running, settle, spawn

T = TypeVar("T")


async def in_turn(tasks: TaskGroup, *functions: Callable[[], Awaitable[T]]) -> list[Running[T]]:
    """Start a task for each function; return their handles when all are parked."""
    running = []
    for function in functions:
        running.append(spawn(tasks, function))
        await settle()
    return running
