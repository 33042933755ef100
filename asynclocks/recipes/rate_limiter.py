"""RateLimiter: at most so many per second, first come, first served (after the token bucket of every textbook).

Who acquires stands in the line of a Mutex. Only the head of the line looks at the bucket, and sleeps until there is
enough in it: by a wait with a timeout, which is a timer of its own loop. So a cancelled one takes nothing, and nobody
overtakes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from operator import index
from threading import RLock

from asynclocks._forks import freed_in_child
from asynclocks._inside import locked
from asynclocks.event import Event
from asynclocks.exceptions import WouldBlock
from asynclocks.mutex import Mutex

ROUNDING = 1e-9  # of a token, that a float may be off


class RateLimitedError(WouldBlock):
    """The rate is used up; ``retry_after`` says for how many seconds at least."""

    retry_after: float

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[RateLimitedError], tuple[str, float]]:
        return type(self), (str(self), self.retry_after)


class RateLimiter:
    """At most `rate` per `per` seconds on average, `burst` at once; first come, first served, on any loop and thread.

    `burst` is `rate` rounded down, and at least 1, unless it is given. `clock` tells seconds, and is first read when
    somebody acquires.

    Raises:
        ValueError: `rate` or `per` is not above zero, or `burst` is less than 1.

    >>> import asyncio
    >>> async def main():
    ...     limiter = RateLimiter(100, burst=2)
    ...     for _ in range(2):
    ...         async with limiter:
    ...             pass
    ...     try:
    ...         limiter.try_acquire()
    ...     except RateLimitedError as error:
    ...         return 0 < error.retry_after <= 0.01
    >>> asyncio.run(main())
    True
    """

    def __init__(
        self,
        rate: float,
        per: float = 1.0,
        *,
        burst: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (rate > 0 and per > 0):
            raise ValueError(f"RateLimiter({rate}, {per}): both must be above zero")
        self._burst = max(1, int(rate)) if burst is None else index(burst)
        if self._burst < 1:
            raise ValueError(f"RateLimiter(burst={burst}): at least one must be able to go")
        self._seconds = per / rate  # for one token
        self._clock = clock
        self._turn: Mutex[None] = Mutex(name="turn of a RateLimiter")
        self._never = Event()  # nobody sets it: to wait for it with a timeout is to sleep, on any loop
        self._lock = freed_in_child(RLock())  # a signal handler may try
        # The bucket, inside the lock: how full it was when it was last looked at, and until when nobody goes.
        self._level = float(self._burst)
        self._looked_at: float | None = None
        self._closed_until: float | None = None
        self._asked = 0  # tokens that those in line want

    async def acquire(self, n: int = 1, timeout: float | None = None) -> None:
        """Wait until `n` more may go, at most `timeout` seconds; zero or less tries once.

        Raises:
            TimeoutError: the time is over; nothing is taken.
            ValueError: `n` is negative, or more than `burst`.
        """
        n = self._checked(n)
        left = _countdown(timeout)
        wish = _Wish(self)
        try:
            try:
                wish.count(n)
                async with self._turn.lock(timeout):
                    while (seconds := self._take(n)) > 0:
                        nap = _nap(seconds, left())
                        with suppress(TimeoutError):
                            await self._never.wait(nap)
            finally:
                try:
                    wish.count(0)
                except BaseException:  # a signal handler's: it would count for ever
                    wish.count(0)
                    raise
        except TimeoutError:
            raise self._late(n, timeout) from None

    def try_acquire(self, n: int = 1) -> None:
        """Let `n` more go now, from any thread, with or without a loop.

        Raises:
            RateLimitedError: the rate is used up, or somebody waits; its ``retry_after`` says for how long at least.
            ValueError: `n` is negative, or more than `burst`.
        """
        n = self._checked(n)
        seconds = self._take(n, before=True) if n else 0
        if seconds > 0:
            raise RateLimitedError(f"{self!r}: wait with acquire(), or retry in {seconds:.3g} s", seconds)

    def blocking_acquire(self, n: int = 1, timeout: float | None = None) -> None:
        """`acquire` for plain threads.

        Raises:
            TimeoutError: the time is over; nothing is taken.
            ValueError: `n` is negative, or more than `burst`.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        n = self._checked(n)
        left = _countdown(timeout)
        wish = _Wish(self)
        try:
            try:
                wish.count(n)
                with self._turn.blocking_lock(timeout):
                    while (seconds := self._take(n)) > 0:
                        nap = _nap(seconds, left())
                        with suppress(TimeoutError):
                            self._never.blocking_wait(nap)
            finally:
                try:
                    wish.count(0)
                except BaseException:  # as in `acquire`
                    wish.count(0)
                    raise
        except TimeoutError:
            raise self._late(n, timeout) from None

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        """Nothing comes back: what went, went."""

    def from_headers(self, headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> None:
        """Mind what a server's answer says: nobody goes before it lets us, and no more than it has left.

        ``retry-after`` (seconds, or a date) and, with none remaining, ``x-ratelimit-reset`` (seconds since the epoch)
        close the limiter until then; ``x-ratelimit-remaining`` lowers what may go at once. Names in lower case, or a
        mapping that does not mind, as those of HTTP clients do not. What is no number is passed over. `now` tells
        seconds since the epoch.
        """
        remaining = _number(headers.get("x-ratelimit-remaining"))
        wait = _seconds_of(headers.get("retry-after"), now)
        reset = _number(headers.get("x-ratelimit-reset"))
        if remaining is not None and remaining < 1 and reset is not None:
            wait = max(wait or 0.0, reset - now())
        self._mind(remaining, wait)

    @locked
    def _mind(self, remaining: float | None, wait: float | None) -> None:
        self._fill()
        if remaining is not None:
            self._level = min(self._level, max(remaining, 0.0))
        if wait is not None and wait > 0:
            until = self._clock() + wait
            self._closed_until = until if self._closed_until is None else max(until, self._closed_until)

    def _checked(self, n: int) -> int:
        n = index(n)
        if n < 0:
            raise ValueError(f"acquire({n}) of {self!r}: must not be negative")
        if n > self._burst:
            raise ValueError(f"acquire({n}) of {self!r}: so many never go at once; ask for less, or raise burst=")
        return n

    @locked
    def _take(self, n: int, *, before: bool = False) -> float:
        """Take `n` tokens; else how many seconds it is until there are so many, and those that are asked for before."""
        seconds = self._until(n + self._asked if before else n)
        if seconds <= 0:
            self._level -= n
        return seconds

    def _until(self, n: int) -> float:
        """How many seconds it is until there are `n` tokens, at least. Inside the lock."""
        now = self._fill()
        missing = n - self._level
        seconds = missing * self._seconds if missing > ROUNDING else 0.0
        if self._closed_until is not None:
            seconds = max(seconds, self._closed_until - now)
        return seconds

    def _fill(self) -> float:
        """Let in what has come since the last look. Inside the lock."""
        now = self._clock()
        if self._closed_until is not None and self._closed_until <= now:
            self._closed_until = None
        passed = 0.0 if self._looked_at is None else max(0.0, now - self._looked_at)  # a clock may jump back
        self._level = min(float(self._burst), self._level + passed / self._seconds)
        self._looked_at = now
        return now

    def _late(self, n: int, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"acquire({n}) of {self!r}: not within {timeout} s; nothing is taken")

    @locked
    def __repr__(self) -> str:
        self._fill()
        closed = "closed by the server, " if self._closed_until is not None else ""
        waiting = f", {self._asked} asked for" if self._asked else ""
        left = f"{max(0, int(self._level + ROUNDING))} of {self._burst} may go at once{waiting}"
        return f"<RateLimiter of {1 / self._seconds:.6g} a second: {closed}{left}>"


class _Wish:
    """What somebody who waits asks for."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter
        self._lock = limiter._lock
        self._counted = 0

    @locked
    def count(self, n: int) -> None:
        """From now on it is so many."""
        limiter, more = self._limiter, n - self._counted
        limiter._asked += more
        self._counted = n


def _countdown(timeout: float | None) -> Callable[[], float | None]:
    if timeout is None:
        return lambda: None
    over = time.monotonic() + timeout
    return lambda: over - time.monotonic()


def _nap(seconds: float, left: float | None) -> float:
    """How long to sleep: until the tokens are there, or the time is over."""
    if left is None:
        return seconds
    if left <= 0:
        raise TimeoutError
    return min(seconds, left)


def _number(text: str | None) -> float | None:
    try:
        number = math.nan if text is None else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_of(text: str | None, now: Callable[[], float]) -> float | None:
    seconds = _number(text)
    if seconds is None and text is not None:
        with suppress(ValueError):
            return parsedate_to_datetime(text).timestamp() - now()
    return seconds
