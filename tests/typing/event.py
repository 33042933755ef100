"""What a type checker must see of Event; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from typing import assert_type

from asynclocks import Event, EventStatistics


async def tasks_wait_for_a_flag() -> None:
    event = Event()
    assert_type(await event.wait(), None)
    assert_type(event.is_set(), bool)
    assert_type(event.statistics(), EventStatistics)
    assert_type(event.statistics().set, bool)
    event.statistics().waiting = 1  # pyright: ignore[reportAttributeAccessIssue]


def threads_wait_for_a_flag() -> None:
    event = Event()
    assert_type(event.blocking_wait(), None)
    assert_type(event.blocking_wait(timeout=0.5), None)
    event.blocking_wait("soon")  # pyright: ignore[reportArgumentType]
    assert_type(event.set(), None)
    assert_type(event.clear(), None)
    Event(True)  # pyright: ignore[reportCallIssue]
