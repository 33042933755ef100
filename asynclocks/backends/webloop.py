"""Pyodide's loop, in browsers, on Node and on Cloudflare Workers: asyncio's tasks on JavaScript's event loop."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from typing import TYPE_CHECKING

from pyodide.ffi import can_run_sync, run_sync

from asynclocks.backends.asyncio import AsyncioBackend, AsyncioParker


class WebloopParker(AsyncioParker):
    __slots__ = ()

    @staticmethod
    def _nudge(loop: AbstractEventLoop) -> None:
        """Nothing: JavaScript's timers wake the loop by themselves."""

    def park_blocking(self, timeout: float | None) -> bool:
        """Sleep until unparked, at most `timeout` seconds. Stack switching lets the loop go on. False: time is over."""
        return run_sync(self._park_for(timeout))

    async def _park_for(self, timeout: float | None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await self.park()
        except TimeoutError:
            return False
        return True


class WebloopBackend(AsyncioBackend):
    name = "webloop"
    if TYPE_CHECKING:

        def parker(self) -> WebloopParker: ...

    else:
        parker = WebloopParker

    def blocking_parker(self) -> WebloopParker:
        return WebloopParker()


def can_block() -> bool:
    """Is there stack switching here and now?"""
    return can_run_sync()
