"""CachedToken: a value with an expiry, fetched by one caller at a time for all who need it.

A flight is one fetch and those who wait for it: a `ConcurrentMap` of one key, whose single flight lets one caller
fetch, hands the fetch on when that caller is cancelled, and tells everybody what came of it, a failure too. `set`
and `clear` take the flight off the token: it still answers its callers, and is not kept.

Nothing is remembered of an earlier verdict: validity is judged by `clock` at each call. So after the process slept,
or the clock jumped forward, the value is fetched anew; if the clock jumps back, the value is used for longer, until
the server refuses it (`CachedToken.invalidate`). What expires during its own fetch has arrived expired.
"""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable, iscoroutine
from threading import RLock, current_thread, get_ident
from typing import Any, Generic, NoReturn, TypeVar, overload

import attrs

from asynclocks import detached as to_its_end
from asynclocks._forks import freed_in_child
from asynclocks._inside import locked
from asynclocks.concurrent_map import ConcurrentMap
from asynclocks.exceptions import DeadlockError
from asynclocks.once_cell import OnceCell

T = TypeVar("T")

WAY_OUT = "Do not ask for a token's value in its own fetch, nor wait there for a task that asks for it"


@attrs.frozen(eq=False)
class _Value(Generic[T]):
    """The secret, in a cell that shows it to nobody, and its expiry."""

    cell: OnceCell[T] = attrs.field(repr=False)
    expires_at: float | None


@attrs.define(eq=False)
class _Flight(Generic[T]):
    outcome: ConcurrentMap[str, _Value[T]] = attrs.field(factory=ConcurrentMap, repr=False)
    overruled: bool = False  # by set()
    thread: int | None = None  # that fetches, if no task does
    short_lived: bool = False  # what it brought is valid, and yet not for as long as the buffer


class CachedToken(Generic[T]):
    """A value with an expiry, fetched by one caller at a time for all who need it.

    `fetch` returns ``(value, expires_at)``; `expires_at` is seconds since the epoch on `clock`, or None for never.
    Valid while it has no expiry or ``expires_at - clock() > buffer`` (seconds).

    ``detached=True``: a fetch that has begun runs once and to its end, though the caller that began it leaves, and
    its value is kept. For servers that rotate refresh tokens: they count the old one as spent when the request comes,
    and revoke all if it comes again. What that means on each loop is told at `asynclocks.detached`.

    The value is in no repr, log or message of ours. What `fetch` raises reaches the callers as it is.

    >>> import asyncio
    >>> async def fetch():
    ...     print("fetching")
    ...     return "secret", None
    >>> async def main():
    ...     token = CachedToken(fetch)
    ...     return await asyncio.gather(token.get(), token.get())
    >>> asyncio.run(main())
    fetching
    ['secret', 'secret']
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[tuple[T, float | None]]] | Callable[[], tuple[T, float | None]],
        *,
        buffer: float = 30.0,
        clock: Callable[[], float] = time.time,
        detached: bool = False,
    ) -> None:
        self._fetch = fetch
        self._buffer = buffer
        self._clock = clock
        self._current: _Value[T] | None = None
        self._flight: _Flight[T] | None = None
        # Of a flight's only entry: what a message of the map's says it is about.
        self._key = f"CachedToken at {id(self):#x}"
        self._run = to_its_end(self._fly) if detached else self._fly
        self._warned = False
        # Held for a few assignments, never across an await or a call of the user's. Re-entrant for finalizers.
        self._lock = freed_in_child(RLock())

    async def get(self) -> T:
        """The value if it is valid; else fetch it, or wait for the fetch that is under way.

        A failed fetch fails everybody who waits for it, and is not cached. If the caller that fetches is cancelled,
        the next one fetches. A value that arrives expired answers those who waited and is not kept.

        Raises:
            DeadlockError: `fetch` asks for the very value it is to fetch.
        """
        current = self._current
        if current is not None:
            expires_at = current.expires_at
            if expires_at is None or expires_at - self._clock() > self._buffer:
                return await current.cell.get_or_init(_never)  # for trio's checkpoint
        return await self._get_fetched()

    def blocking_get(self, timeout: float | None = None) -> T:
        """`get` for plain threads, and a `fetch` that is a plain function.

        At most `timeout` seconds are spent waiting for another's fetch (zero or less tries once); they do not bound
        one's own.

        Raises:
            TimeoutError: another's fetch took longer.
            TypeError: `fetch` returned an awaitable, which nobody can await here.
            DeadlockError: `fetch` asks for the very value it is to fetch.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        current = self._valid_now()
        if current is not None:
            return current.cell.get()
        flight = self._board()
        if flight.thread == get_ident():
            name = f"thread {current_thread().name!r}"
            raise DeadlockError((f"{name} waits for the fetch of {self._key} held by {name}",), WAY_OUT)
        value: _Value[T] | None
        try:
            value = flight.outcome.blocking_get_or_insert_with(self._key, partial(self._fly_blocking, flight), timeout)
        except Exception:
            value = self._spared(flight)
            if value is None:
                raise
        return self._answer(flight, value)

    def peek(self, buffer: float | None = None) -> T | None:
        """The value if it is valid, by `buffer` in place of the token's own. Never waits, never fetches."""
        current = self._current
        if current is None or not self._valid(current, self._buffer if buffer is None else buffer):
            return None
        return current.cell.get()

    def set(self, value: T, expires_at: float | None = None) -> None:
        """Put a value in place. It wins over a fetch under way, whose callers get it too, if it is valid then."""
        if not _is_expiry(expires_at):
            raise TypeError(_no_expiry(expires_at))
        self._replace(_Value(OnceCell(value), expires_at), overrule=True)

    def clear(self) -> None:
        """Forget the value. A fetch under way still answers its callers, and is not kept."""
        self._replace(None, overrule=False)

    def invalidate(self, value: T) -> bool:
        """Forget the value only if it still is `value`. True: it was.

        For a refusal (401) of a value that somebody else may have replaced meanwhile: of many stale refusals only
        the first clears. A fetch under way goes on.
        """
        current = self._current
        if current is None:
            return False
        held = current.cell.get()
        if held is not value and held != value:  # their __eq__ runs outside the lock
            return False
        return self._drop(current)

    @locked
    def _drop(self, value: _Value[T]) -> bool:
        if self._current is not value:
            return False
        self._current = None
        return True

    async def _get_fetched(self) -> T:
        flight = self._board()
        value: _Value[T] | None
        try:
            value = await flight.outcome.get_or_insert_with(self._key, partial(self._run, flight))
        except DeadlockError as error:
            raise self._named(error) from None
        except Exception:
            value = self._spared(flight)
            if value is None:
                raise
        return self._answer(flight, value)

    def _spared(self, flight: _Flight[T]) -> _Value[T] | None:
        """What answers the callers of a fetch that failed: what was set meanwhile."""
        return self._valid_now() if flight.overruled else None

    def _answer(self, flight: _Flight[T], fetched: _Value[T]) -> T:
        value = (self._valid_now() if flight.overruled else None) or fetched
        if flight.short_lived and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self!r}: what fetch returns lives for less than the buffer of {self._buffer} seconds, so each get() "
                "fetches anew; give a smaller buffer",
                RuntimeWarning,
                stacklevel=3,
            )
        return value.cell.get()

    def _named(self, error: DeadlockError) -> DeadlockError:
        """The same, about this token and not about the map in it."""
        inner = rf"the init of key '{self._key}' of \S+ at \w+"
        return DeadlockError(tuple(re.sub(inner, f"the fetch of {self._key}", link) for link in error.cycle), WAY_OUT)

    @locked
    def _board(self) -> _Flight[T]:
        flight = self._flight
        if flight is None:
            flight = self._flight = _Flight()
        return flight

    async def _fly(self, flight: _Flight[T]) -> _Value[T]:
        """Fetch; what is no Exception is a cancellation, and the map has the next one fetch.

        There may be a valid value by now: set() came and then the first one who fetched was cancelled, or another
        thread's fetch landed between our look and our boarding.
        """
        try:
            value = self._valid_now()
            if value is None:
                value = _arrived(await self._fetched())
        except Exception:
            self._land(flight, None)
            raise
        return self._land(flight, value)

    def _fly_blocking(self, flight: _Flight[T]) -> _Value[T]:
        """`_fly` in a plain thread, which has no cancellations."""
        try:
            value = self._valid_now()
            if value is None:
                flight.thread = get_ident()
                value = _arrived(self._fetched_blocking())
        except BaseException:
            self._land(flight, None)
            raise
        return self._land(flight, value)

    async def _fetched(self) -> Any:
        fetched: Any = self._fetch()
        return await fetched if isawaitable(fetched) else fetched

    def _fetched_blocking(self) -> Any:
        fetched: Any = self._fetch()
        if isawaitable(fetched):
            if iscoroutine(fetched):
                fetched.close()  # or it would warn that nobody awaited it
            raise TypeError(
                f"blocking_get() of {self!r}: fetch returned {type(fetched).__name__}, an awaitable, and a plain "
                "thread cannot await; give a plain function, or use get() in a task"
            )
        return fetched

    @overload
    def _land(self, flight: _Flight[T], value: None) -> None: ...
    @overload
    def _land(self, flight: _Flight[T], value: _Value[T]) -> _Value[T]: ...
    def _land(self, flight: _Flight[T], value: _Value[T] | None) -> _Value[T] | None:
        """The fetch is over: keep what it brought, if that is valid and nobody took the flight off the token."""
        left = 0.0 if value is None else self._left(value)
        keep, flight.short_lived = left > self._buffer or left == math.inf, 0 < left < self._buffer
        kept = [value] if keep else []
        try:
            self._take_off(flight, kept)
        except BaseException:  # a signal handler's: nobody else would
            self._take_off(flight, kept)
            raise
        return value

    @locked
    def _take_off(self, flight: _Flight[T], kept: list[_Value[T] | None]) -> object:
        if self._flight is not flight:
            return None
        old = self._current  # the last reference goes outside the lock
        if kept:
            self._current = kept[0]
        self._flight = None
        return old

    @locked
    def _replace(self, value: _Value[T] | None, overrule: bool) -> object:
        old, self._current = self._current, value
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.overruled = overrule
        return old, flight  # the last references go outside the lock

    def _valid_now(self) -> _Value[T] | None:
        current = self._current
        return current if current is not None and self._valid(current, self._buffer) else None

    def _valid(self, value: _Value[T], buffer: float) -> bool:
        return value.expires_at is None or self._left(value) > buffer

    def _left(self, value: _Value[T]) -> float:
        """How long it will last, in seconds."""
        return math.inf if value.expires_at is None else value.expires_at - self._clock()

    def __repr__(self) -> str:
        current = self._current
        if current is None:
            state = "empty"
        elif current.expires_at is None:
            state = "never expires"
        else:
            state = f"expires at {current.expires_at}"
        return f"<CachedToken {state}{', being fetched' if self._flight is not None else ''}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle or copy {self!r}: tasks of this process wait for it; pass the token itself")


def _arrived(fetched: Any) -> _Value[Any]:
    """What `fetch` returned, checked; an error must not show it."""
    if not isinstance(fetched, tuple) or len(fetched) != 2:
        fault = f"fetch must return a pair (value, expires_at), not {type(fetched).__name__}"
    elif not _is_expiry(fetched[1]):
        fault = _no_expiry(fetched[1])
    else:
        return _Value(OnceCell(fetched[0]), fetched[1])
    del fetched  # nor may a tool that shows a traceback's variables
    raise TypeError(fault)


def _is_expiry(expires_at: Any) -> bool:
    return expires_at is None or isinstance(expires_at, int | float)


def _no_expiry(found: object) -> str:
    kind = type(found).__name__
    return f"expires_at must be seconds since the epoch or None, not {kind}; a datetime has its timestamp()"


def _never() -> NoReturn:
    raise AssertionError("the cell of a value is never empty")  # pragma: no cover  # get_or_init has nothing to do
