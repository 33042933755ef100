"""The clock that times what runs in one thread and never waits: chosen once, before anything is measured."""

from __future__ import annotations

import time
from collections.abc import Callable

# On a busy machine CPU time leaves out what others took; nothing here sleeps, so on an idle one they agree.
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter}
if hasattr(time, "thread_time"):  # not everywhere, says its documentation
    CLOCKS["cpu"] = time.thread_time

_now = CLOCKS["wall"]


def clock() -> float:
    """Seconds since whenever."""
    return _now()


def use(name: str) -> None:
    """Let `clock` be this one."""
    global _now
    _now = CLOCKS[name]
