"""A rate limit on a Semaphore."""

from __future__ import annotations

import time

from asynclocks import Semaphore, TryAcquireError


class RateLimit:
    """A bucket of `burst` permits that fills by `per_second`; each call takes one out of it.

    Whoever comes fills it. A timer would end with the request that started it.
    """

    def __init__(self, burst: int, per_second: float) -> None:
        self.seconds = 1 / per_second  # for one permit
        self._burst = burst
        self._bucket = Semaphore(burst)
        self._filled = 0.0  # up to this time; no clock is read at import

    def allows(self) -> bool:
        """May one more call be made now? If so it counts."""
        self._fill(time.monotonic())
        try:
            self._bucket.try_acquire().forget()
        except TryAcquireError:
            return False
        return True

    def _fill(self, now: float) -> None:
        due = int((now - self._filled) / self.seconds)
        room = self._burst - self._bucket.available_permits
        self._bucket.add_permits(min(due, room))
        self._filled = now if due >= room else self._filled + due * self.seconds
