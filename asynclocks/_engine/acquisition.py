"""Acquisitions: what asking for a lock returns."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from inspect import CORO_CLOSED, CORO_CREATED
from typing import Any, Generic, TypeVar

from asynclocks.backends.seam import uninterrupted

T_co = TypeVar("T_co", covariant=True)


_NOT_BEGUN: Any = (None for _ in ())  # its frame stands for that of an acquisition that has not begun


def _as_of_a_coroutine(name: str, new: Any, used: Any) -> property:
    """An attribute of the coroutine that an acquisition drives; what it is of a new acquisition, and of a used one."""

    def get(acquisition: Acquisition[Any]) -> Any:
        driven = getattr(acquisition, "_driven", None)
        if driven is not None:
            return getattr(driven, name)
        return new if acquisition._is_unused() else used

    return property(get)


class Acquisition(Coroutine[Any, Any, T_co], AbstractAsyncContextManager[T_co], Generic[T_co]):
    """What ``lock()``, ``read()``, ``acquire()``, … return: await it or enter it, once.

    ``guard = await m.lock()``: you release the guard.
    ``async with m.lock() as guard: …`` and ``with await m.lock() as guard: …``: released on exit.

    The place in the queue is taken when it is awaited or entered. It is a coroutine (`collections.abc.Coroutine`):
    ``asyncio.wait_for``, ``gather``, ``create_task`` and a task group's ``create_task`` take it. Dropped unused, it
    warns RuntimeWarning, as a coroutine does.

    Raises:
        RuntimeError: it was awaited or entered before.
    """

    __slots__ = ("__weakref__", "_driven", "_guard", "_of", "_take", "_what")

    _driven: Coroutine[Any, Any, T_co]  # once it is driven as a coroutine, by a task of its own

    def __init__(self, of: object, what: str, take: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._of = of
        self._what = what
        self._take: Callable[[], Coroutine[Any, Any, Any]] | None = take

    def _begin(self) -> Coroutine[Any, Any, T_co]:
        take, self._take = self._take, None
        if take is None:
            raise RuntimeError(f"{self!r} was awaited or entered already; ask the lock for a new one")
        return take()

    def __await__(self) -> Generator[Any, Any, T_co]:
        return self._begin().__await__()

    def send(self, value: Any) -> Any:
        """Run it to where it waits next, as a coroutine's ``send`` does."""
        return self._drive().send(value)

    def throw(self, *exception: Any) -> Any:
        """Raise an exception where it waits, as a coroutine's ``throw`` does."""
        return self._drive().throw(*exception)

    def close(self) -> None:
        """End it where it waits. One that was not used warns no more."""
        if hasattr(self, "_driven") or self._is_unused():
            self._drive().close()

    def _drive(self) -> Coroutine[Any, Any, T_co]:
        try:
            return self._driven
        except AttributeError:
            self._driven = driven = self._begin()
            return driven

    def _is_unused(self) -> bool:
        return self._take is not None

    # What asyncio, anyio, trio and debuggers look for in a coroutine.
    @property
    def __name__(self) -> str:
        return self._what.removesuffix("()")

    cr_await: property = _as_of_a_coroutine("cr_await", None, None)
    cr_code: property = _as_of_a_coroutine("cr_code", None, None)
    cr_frame: property = _as_of_a_coroutine("cr_frame", _NOT_BEGUN.gi_frame, None)
    cr_origin: property = _as_of_a_coroutine("cr_origin", None, None)
    cr_running: property = _as_of_a_coroutine("cr_running", False, False)
    cr_state: property = _as_of_a_coroutine("cr_state", CORO_CREATED, CORO_CLOSED)  # asked for from 3.15 on
    cr_suspended: property = _as_of_a_coroutine("cr_suspended", False, False)

    async def __aenter__(self) -> T_co:
        self._guard = guard = await self._begin()
        return guard.__enter__()  # type: ignore[attr-defined, no-any-return]

    async def __aexit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:
        self._guard._leave_block()  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<{self._what} of {self._of}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle or copy {self!r}: it is one place in one queue")

    def __del__(self) -> None:
        try:
            if self._take is None:
                return
        except AttributeError:  # Ctrl-C came before it was made
            return
        else:
            warnings.warn(f"{self!r} was never awaited", RuntimeWarning, stacklevel=2, source=self)


new_object: Any = object.__new__  # of a class with a metaclass, whose call costs twice as much


async def unused() -> None:
    """What a `Block` has to take as long as it was neither awaited nor entered."""


class Block(Acquisition[T_co]):
    """An acquisition that knows a short way where nobody is in the way, and needs no function made for it."""

    __slots__ = ()

    def _now(self) -> T_co | None:
        """The guard, if it can be had without a wait by the short way."""
        raise NotImplementedError

    def _later(self) -> Coroutine[Any, Any, T_co]:
        """Wait for the guard."""
        raise NotImplementedError

    def _begin(self) -> Coroutine[Any, Any, T_co]:
        self._use()
        return self._drive_on()

    def _use(self) -> None:
        if self._take is None:
            raise RuntimeError(f"{self!r} was awaited or entered already; ask the lock for a new one")
        self._take = None

    @uninterrupted
    async def _drive_on(self) -> T_co:
        guard = self._now()
        return await self._later() if guard is None else guard

    @uninterrupted
    def __await__(self) -> Generator[Any, Any, T_co]:  # a generator spares a coroutine and its wrapper
        if self._take is None:
            self._use()
        self._take = None
        guard = self._now()
        if guard is None:
            guard = yield from self._later().__await__()
        return guard

    @uninterrupted
    async def __aenter__(self) -> T_co:
        if self._take is None:
            self._use()
        self._take = None
        guard = self._now()
        if guard is None:
            guard = await self._later()
        self._guard = guard
        return guard
