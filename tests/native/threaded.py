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
        self._is_owned = self._lock._is_owned  # type: ignore[attr-defined]

    def acquire(self, blocking: bool = True) -> bool:
        return blocking and self._lock.acquire()

    def leave(self, primitive: Any) -> None:
        """Nobody is inside any more, and who was looks what was put off meanwhile."""
        primitive._lock = self._lock
        primitive._catch_up()


class InterruptedLock:
    """An internal lock in which somebody uses this thread for something else once it is taken."""

    def __init__(self, then: list[Callable[[], object]]) -> None:
        self._lock = threading.RLock()
        self._then = then
        self.release = self._lock.release
        self._is_owned = self._lock._is_owned  # type: ignore[attr-defined]

    def acquire(self, blocking: bool = True) -> bool:
        taken = self._lock.acquire(blocking)
        if taken and self._then:
            self._then.pop()()
        return taken


class OvertakenLock:
    """An internal lock that somebody else is inside first."""

    def __init__(self, lock: Any, first: Callable[[], object]) -> None:
        self._is_owned, self.release = lock._is_owned, lock.release
        self._lock, self._first = lock, [first]

    def acquire(self, blocking: bool = True) -> bool:
        if self._first:
            self._first.pop()()
        return bool(self._lock.acquire(blocking))
