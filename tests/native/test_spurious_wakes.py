"""A park that returns without reason ends nobody's wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asynclocks import Barrier, Event, Notify, OnceCell, backends
from asynclocks.backends.asyncio import DONE, AsyncioParker


class Restless(AsyncioParker):
    """Sleeps from the third time on only."""

    __slots__ = ("parks",)

    def __init__(self) -> None:
        super().__init__()
        self.parks = 0

    def park(self) -> asyncio.Future[None]:
        self.parks += 1
        return DONE if self.parks < 3 else super().park()


def enabled(notify: Notify) -> Awaitable[None]:
    notified = notify.notified()
    notified.enable()
    return notified


CELL: OnceCell[int] = OnceCell()
NOTIFY = Notify()
BARRIER = Barrier(2)
EVENT = Event()


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(
    ("wait", "end"),
    [
        (CELL.wait, lambda: CELL.set(1)),
        (NOTIFY.notified, NOTIFY.notify_one),
        (lambda: NOTIFY.notified(1000), NOTIFY.notify_one),
        (lambda: enabled(NOTIFY), NOTIFY.notify_one),
        (BARRIER.wait, BARRIER.wait),
        (EVENT.wait, EVENT.set),
    ],
    ids=["cell", "notified", "notified in time", "enabled", "barrier", "event"],
)
async def test_a_wait_goes_on_when_its_park_returns_without_reason(
    monkeypatch: pytest.MonkeyPatch, wait: Callable[[], Awaitable[Any]], end: Callable[[], Any]
) -> None:
    """Until what it waits for has come."""
    monkeypatch.setattr(backends.native, "parker", Restless)
    waiter = asyncio.ensure_future(wait())
    await asyncio.sleep(0.01)
    assert not waiter.done()
    ended = end()
    if ended is not None:
        await ended
    await waiter
