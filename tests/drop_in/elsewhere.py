"""Stand-ins for `asyncio` and `trio` on each other's loop: as much of them as the programs take their tasks from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import ModuleType
from typing import Any, Self, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from tests.support import Running, on_trio, spawn

T = TypeVar("T")


class Task:
    """What ``create_task`` returns."""

    def __init__(self, running: Running[Any]) -> None:
        self._running = running

    def cancel(self) -> None:
        self._running.cancel()

    def cancelled(self) -> bool:
        return self._running.cancelled

    def done(self) -> bool:
        return self._running.done

    def result(self) -> Any:
        return self._running.result


class TaskGroup:
    """``asyncio.TaskGroup``, where no task fails."""

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> bool | None:
        return await self._tasks.__aexit__(*exc)

    def create_task(self, coroutine: Awaitable[Any]) -> Task:
        return Task(spawn(self._tasks, lambda: coroutine))


async def gather(*awaitables: Awaitable[Any]) -> list[Any]:
    async with TaskGroup() as tasks:
        running = [tasks.create_task(awaitable) for awaitable in awaitables]
    return [task.result() for task in running]


async def wait_for(awaitable: Awaitable[T], timeout: float) -> T:
    with anyio.fail_after(timeout):
        return await awaitable


@asynccontextmanager
async def timeout(delay: float) -> AsyncIterator[None]:
    with anyio.fail_after(delay):
        yield


async def to_thread(function: Callable[..., T], *args: object) -> T:
    return await anyio.to_thread.run_sync(partial(function, *args))


async def run_in_a_thread(function: Callable[..., T], *args: object, limiter: Any) -> T:
    """``trio.to_thread.run_sync``, which takes any limiter. anyio's own takes anyio's only."""
    async with limiter:
        return await to_thread(function, *args)


def stand_in(name: str, **names: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(names)
    return made


ASYNCIO = stand_in(
    "asyncio",
    TaskGroup=TaskGroup,
    gather=gather,
    sleep=anyio.sleep,
    timeout=timeout,
    to_thread=to_thread,
    wait_for=wait_for,
)
TRIO = stand_in(
    "trio",
    CancelScope=anyio.CancelScope,
    lowlevel=anyio.lowlevel,
    move_on_after=anyio.move_on_after,
    open_nursery=anyio.create_task_group,
    sleep=anyio.sleep,
    to_thread=stand_in("to_thread", run_sync=run_in_a_thread),
)


def stand_ins() -> dict[str, ModuleType]:
    """For what is of the other loop than the one that runs."""
    return {"asyncio": ASYNCIO} if on_trio() else {"trio": TRIO}
