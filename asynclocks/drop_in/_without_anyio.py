"""What `asynclocks.drop_in.anyio` takes from anyio, where there is none."""

from __future__ import annotations

import attrs

from asynclocks.drop_in._nowait import PausesOfTheLoop
from asynclocks.exceptions import WouldBlock

__all__ = ["TaskInfo", "WouldBlock", "get_running_tasks", "lowlevel"]

lowlevel = PausesOfTheLoop()


@attrs.frozen
class TaskInfo:
    """A task, as anyio describes it."""

    id: int
    parent_id: int | None
    name: str | None
    coro: object


def get_running_tasks() -> list[TaskInfo]:
    """None: nobody keeps anyio's list."""
    return []
