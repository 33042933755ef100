"""Tasks that stand in line, for the tests of what a line promises."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import anyio
import pytest
from anyio.abc import TaskGroup

from tests.support import Running, native_cancel, settle, spawn

Cancel = Callable[[Running[None]], None]
Enter = Callable[[], AbstractAsyncContextManager[object]]

both_cancels = pytest.mark.parametrize("cancel", [Running.cancel, native_cancel], ids=["scope", "native"])


class Line:
    """Tasks that enter something by turns and stay inside until told to leave.

    `log` tells who came in, in which order.
    """

    def __init__(self, tasks: TaskGroup, enter: Enter) -> None:
        self._tasks = tasks
        self._enter = enter
        self._leave: dict[str, anyio.Event] = {}
        self._running: dict[str, Running[None]] = {}
        self.log: list[str] = []

    def __getitem__(self, name: str) -> Running[None]:
        return self._running[name]

    async def join(self, *names: str, enter: Enter | None = None) -> None:
        """Start a task for each name, one after the other, each until it waits or is inside."""
        for name in names:
            self._leave[name] = anyio.Event()
            self._running[name] = spawn(self._tasks, self._stay, name, enter or self._enter, name=name)
            await settle()

    async def _stay(self, name: str, enter: Enter) -> None:
        async with enter():
            self.log.append(name)
            await self._leave[name].wait()

    def may_leave(self, *names: str) -> None:
        for name in names:
            self._leave[name].set()

    async def let_go(self, *names: str) -> None:
        """Have them leave, one after the other."""
        for name in names:
            self.may_leave(name)
            await settle()
