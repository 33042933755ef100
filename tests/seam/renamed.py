"""A loop that somebody else wrote, and his backends for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

import sniffio

from asynclocks.backends import Parker

RENAMED = "renamed"  # what sniffio says inside a task that called `rename`


class RenamedParker:
    """The plainest parker that keeps the laws, on asyncio's public names only."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    async def park(self) -> None:
        await self._event.wait()

    def unpark(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            return False
        return True


class RenamedBackend:
    """Somebody else's loop: asyncio under another name."""

    name = RENAMED
    checkpoints = False

    def current_task(self) -> Hashable:
        return asyncio.current_task()

    def task_name(self, task: Any) -> str:
        return str(task.get_name())

    def parker(self) -> Parker:
        return RenamedParker()

    async def checkpoint_if_cancelled(self) -> None:
        pass

    async def cancel_shielded_checkpoint(self) -> None:
        pass


class CheckpointingBackend(RenamedBackend):
    """One whose every acquisition yields, as is the default."""

    def __init__(self) -> None:
        self.checks = 0
        self.yields = 0

    checkpoints = True

    async def checkpoint_if_cancelled(self) -> None:
        self.checks += 1

    async def cancel_shielded_checkpoint(self) -> None:
        self.yields += 1
        await asyncio.sleep(0)


class SpuriousParker(RenamedParker):
    """Returns without reason at first, as a park may."""

    def __init__(self) -> None:
        super().__init__()
        self.parks = 0

    async def park(self) -> None:
        self.parks += 1
        if self.parks < 3:
            await asyncio.sleep(0)
        else:
            await super().park()


class NumberedBackend(RenamedBackend):
    """Calls its tasks by numbers, which cannot be referred to weakly."""

    def current_task(self) -> Hashable:
        return (id(asyncio.current_task()),)

    def task_name(self, task: Any) -> str:
        return f"number {task[0]}"


class NamingBackend(RenamedBackend):
    """Has tasks of its own type."""

    class Task:
        def __init__(self, name: str) -> None:
            self.name = name

    def __init__(self) -> None:
        self.tasks: dict[Any, NamingBackend.Task] = {}

    def current_task(self) -> Hashable:
        task = asyncio.current_task()
        assert task is not None
        return self.tasks.setdefault(task, self.Task(task.get_name()))

    def task_name(self, task: Any) -> str:
        return f"named {task.name}"


def rename() -> None:
    sniffio.current_async_library_cvar.set(RENAMED)


def run_renamed(main: Callable[[], Awaitable[None]]) -> None:
    async def renamed() -> None:
        rename()
        await asyncio.wait_for(main(), 30)

    asyncio.run(renamed())
