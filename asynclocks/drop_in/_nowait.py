"""What anyio's and trio's classes have in common: now or never, or with the original's checkpoints."""

from __future__ import annotations

from collections.abc import Coroutine, Hashable
from typing import Any, ClassVar, Protocol

from asynclocks import backends
from asynclocks.backends import current_backend, running, running_task, thread_local
from asynclocks.drop_in._common import Flag, give_or_add, given
from asynclocks.drop_in._statistics import EventStatistics, SemaphoreStatistics
from asynclocks.event import Event
from asynclocks.exceptions import TryAcquireError, WouldBlock
from asynclocks.semaphore import Semaphore


class Pauses(Protocol):
    """The two checkpoints of a library, on the loop that runs."""

    async def checkpoint_if_cancelled(self) -> None: ...
    async def cancel_shielded_checkpoint(self) -> None: ...


class PausesOfTheLoop:
    """The checkpoints of the loop that runs: trio's; asyncio and webloop have none."""

    def checkpoint_if_cancelled(self) -> Coroutine[Any, Any, None]:
        """Raise if the running task is cancelled."""
        return running()[0].checkpoint_if_cancelled()

    def cancel_shielded_checkpoint(self) -> Coroutine[Any, Any, None]:
        """Let others run once."""
        return running()[0].cancel_shielded_checkpoint()

    async def checkpoint(self) -> None:
        """Let others run once, and raise if the running task is cancelled."""
        backend, _ = running()
        await backend.checkpoint_if_cancelled()
        await backend.cancel_shielded_checkpoint()


def current_task() -> Hashable:
    """The running task, of whichever loop. UnsupportedLoopError where no loop runs."""
    task = None
    if thread_local.name is None:
        try:  # the short way
            task = backends.hint()
        except RuntimeError:  # not asyncio
            task = None
    if task is None:
        task = running_task()
    return current_backend().current_task() if task is None else task  # that says why there is none


class Blocks:
    """``async with`` by `acquire` and `release`."""

    __slots__ = ()

    async def acquire(self) -> None:
        """Wait, and take one."""
        raise NotImplementedError

    def release(self) -> None:
        """Give it back."""
        raise NotImplementedError

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, exc_type: object, exc: object, traceback: object) -> None:
        self.release()


class Nowait(Blocks):
    """Acquire at once if it can be, with the checkpoints of the original."""

    __slots__ = ("_fast",)

    _fast: bool  # no checkpoint after an acquisition that need not wait
    _would_block: ClassVar[type[Exception]] = WouldBlock
    _pauses: ClassVar[Pauses]

    async def acquire(self) -> None:
        await self._acquire_as(None)

    async def __aenter__(self) -> None:  # a coroutine less
        await self._acquire_as(None)

    def acquire_nowait(self) -> None:
        """Take one if that needs no wait.

        Raises:
            WouldBlock: it does.
        """
        self._take_now(None)

    async def _acquire_as(self, who: Any) -> None:
        await self._pauses.checkpoint_if_cancelled()
        try:
            self._take_now(who)
        except self._would_block:
            await self._wait(who)
            return
        if not self._fast:
            try:
                await self._pauses.cancel_shielded_checkpoint()
            except BaseException:
                self._put_back(who)
                raise

    def _take_now(self, who: Any) -> None:
        raise NotImplementedError

    async def _wait(self, who: Any) -> None:
        raise NotImplementedError

    def _put_back(self, who: Any) -> None:
        self.release()


class LastingFlag(Flag):
    """An Event of theirs: once set it stays so."""

    __slots__ = ("__weakref__", "_event")

    def __init__(self, event: Event | None = None) -> None:
        self._event = given(event, Event)

    def statistics(self) -> EventStatistics:
        """How many wait."""
        return EventStatistics(self._event.statistics().waiting)


class CountedSemaphore(Nowait):
    """A semaphore with a value that may have a bound."""

    __slots__ = ("__weakref__", "_max_value", "_semaphore")

    _names: ClassVar[dict[str, str]]  # how the errors call what the constructor takes

    def __init__(self, initial_value: int | Semaphore, *, max_value: int | None = None) -> None:
        value = initial_value.total_permits if isinstance(initial_value, Semaphore) else initial_value
        if not isinstance(value, int):
            raise TypeError(self._names["initial type"])
        if value < 0:
            raise ValueError(self._names["initial value"])
        if max_value is not None:
            if not isinstance(max_value, int):
                raise TypeError(self._names["bound type"])
            if max_value < value:
                raise ValueError(self._names["bound value"])
        self._semaphore = initial_value if isinstance(initial_value, Semaphore) else Semaphore(value)
        self._max_value = max_value
        self._fast = False

    @property
    def value(self) -> int:
        """How many may be acquired now."""
        return self._semaphore.available_permits

    @property
    def max_value(self) -> int | None:
        """What the value never exceeds, if anything."""
        return self._max_value

    def release(self) -> None:
        """Add one to the value, or let in who waits first.

        Raises:
            ValueError: the value is `max_value` already.
        """
        if self._max_value is not None and self.value >= self._max_value:
            raise ValueError("semaphore released too many times")
        give_or_add(self._semaphore)

    def statistics(self) -> SemaphoreStatistics:
        """How many wait."""
        return SemaphoreStatistics(self._semaphore.statistics().waiting)

    def _take_now(self, who: Any) -> None:
        try:
            self._semaphore.try_take()
        except TryAcquireError:
            raise self._would_block from None

    async def _wait(self, who: Any) -> None:
        await self._semaphore.take()
