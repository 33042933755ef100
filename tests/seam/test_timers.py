"""Waits with a timeout on a loop that somebody else wrote."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asynclocks import Mutex, Notify, UnsupportedLoopError
from asynclocks.backends import register_backend
from tests.seam.renamed import RENAMED, RenamedBackend, run_renamed

LONG = 1000.0


def test_a_loop_without_timers_says_so_when_a_timeout_is_asked_for() -> None:
    """Whether it would have to wait or not; and never without a timeout."""
    register_backend(RENAMED, RenamedBackend)
    mutex, notify = Mutex(), Notify()

    async def main() -> None:
        async with mutex.lock():
            pass
        with pytest.raises(UnsupportedLoopError, match="has no timers"):
            await mutex.lock(timeout=1)
        with pytest.raises(UnsupportedLoopError, match="has no timers"):
            await notify.notified(timeout=1)
        assert not mutex.locked()
        assert notify.statistics().waiting == 0

    run_renamed(main)


class TimedParker:
    """A parker with the optional extra."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    async def park(self) -> None:
        await self._event.wait()

    async def park_until(self, end: float) -> bool:
        try:
            async with asyncio.timeout_at(end):
                await self.park()
        except TimeoutError:
            return False
        return True

    def unpark(self) -> bool:
        self._loop.call_soon_threadsafe(self._event.set)
        return True


class TimedBackend(RenamedBackend):
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def parker(self) -> Any:
        return TimedParker()


def test_a_loop_of_somebody_else_may_have_timers() -> None:
    register_backend(RENAMED, TimedBackend)
    mutex: Mutex[None] = Mutex()

    async def main() -> None:
        with mutex.try_lock() as guard:
            with pytest.raises(TimeoutError):
                await mutex.lock(timeout=0.01)
            task = asyncio.ensure_future(mutex.lock(timeout=LONG))
            await asyncio.sleep(0)
            guard.release()
            (await task).release()

    run_renamed(main)
    assert not mutex.locked()
