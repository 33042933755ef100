"""Pyodide's loop, in browsers, on Node and on Cloudflare Workers: asyncio's tasks on JavaScript's event loop."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

from pyodide.ffi import can_run_sync, run_sync

from asynclocks.backends._seam import LoopBackend
from asynclocks.backends.asyncio import AsyncioBackend, AsyncioParker, current_task


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


def adapt(backend: LoopBackend) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Make this backend fit the Pyodide that runs here, which no import may ask; the native hint, and `own`, there."""
    import js

    if str(getattr(getattr(js, "navigator", None), "userAgent", None)) != "Cloudflare-Workers":
        return current_task, ref
    from asynclocks.backends import workers

    backend.__class__ = workers.WorkersBackend
    return workers.hint, workers.watch.own
