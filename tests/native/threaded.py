"""What the tests use that run things in threads and in the loops of threads; the fixtures are in conftest.py."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import trio

WAIT = 30  # seconds; nothing should take one


async def coroutine(function: Callable[[], Awaitable[Any]]) -> Any:
    return await function()


RUNNERS: dict[str, Callable[[Callable[[], Awaitable[Any]]], Any]] = {
    "asyncio": lambda function: asyncio.run(coroutine(function)),
    "trio": lambda function: trio.run(coroutine, function),
}
PAUSES: dict[str, Callable[[], Awaitable[None]]] = {
    "asyncio": lambda: asyncio.sleep(0),
    "trio": trio.lowlevel.checkpoint,
}


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.0005)


def results(futures: list[Future[Any]]) -> list[Any]:
    return [future.result(WAIT) for future in futures]


def elsewhere(call: Callable[[], object]) -> None:
    """Call it in another thread, and wait."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(WAIT)
    assert not thread.is_alive()


class CrowdedLock:
    """An internal lock that somebody is inside whenever it is tried, and has left when it is waited for."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.release = self._lock.release

    def acquire(self, blocking: bool = True) -> bool:
        return blocking and self._lock.acquire()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()
