"""What a type checker must see of Notify; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import assert_type

from asynclocks import Notified, Notify, NotifyStatistics


async def a_wait_gives_nothing() -> None:
    notify = Notify()
    notified = notify.notified()
    assert_type(notified, Notified)
    assert_type(notified.enable(), bool)
    assert_type(await notified, None)
    assert_type(notified.cancel(), None)
    waiting: Awaitable[None] = notify.notified()
    await waiting
    async with notify.notified():  # pyright: ignore[reportGeneralTypeIssues]
        pass


def a_notify_tells_nobody_how_many_it_woke() -> None:
    notify = Notify()
    assert_type(notify.notify_one(), None)
    assert_type(notify.notify_last(), None)
    assert_type(notify.notify_waiters(), None)
    assert_type(notify.statistics(), NotifyStatistics)
    assert_type(notify.statistics().stored, bool)
    Notify(1)  # pyright: ignore[reportCallIssue]
