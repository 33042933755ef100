"""How long a wait may last: `timeout` of every method that waits."""

from __future__ import annotations

import math
from typing import Any


class Deadline:
    """A timeout that begins with the first wait for it, and counts on through all waits of one call."""

    __slots__ = ("_at", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at: float | None = None

    @property
    def tries_once(self) -> bool:
        """Is there no time to wait at all?"""
        return self.seconds <= 0

    def at(self, backend: Any) -> float:
        """When the time is over, on the clock of the backend's loop."""
        if self._at is None:
            self._at = backend.now() + self.seconds
        return self._at


def deadline_of(timeout: float | Deadline | None) -> Deadline | None:
    """The deadline of a call with this `timeout`; None: it may wait for ever. A deadline counts on.

    Raises:
        TypeError: `timeout` is no number.
        ValueError: `timeout` is not a number (NaN).
    """
    if timeout is None or isinstance(timeout, Deadline):
        return timeout
    if math.isnan(timeout):
        raise ValueError("timeout must be a number of seconds or None, not NaN")
    return None if timeout == math.inf else Deadline(timeout)


def over(what: object, seconds: float | None) -> TimeoutError:
    """The error of a wait whose time is over."""
    return TimeoutError(f"{what} was not granted within {seconds} s; nothing is held, and the place in line is gone")
