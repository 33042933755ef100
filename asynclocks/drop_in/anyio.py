"""The locks of ``anyio``, for tasks of any loop. What differs: docs/drop_in.md.

>>> import anyio
>>> from asynclocks.drop_in.anyio import Lock
>>> async def main():
...     lock = Lock()
...     async with lock:
...         return lock.statistics().locked
>>> anyio.run(main)
True
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from asynclocks import condvar as _condvar, mutex as _mutex, semaphore as _semaphore
from asynclocks.backends import task_name
from asynclocks.drop_in._limiter import Limiter
from asynclocks.drop_in._nowait import CountedSemaphore, LastingFlag, Pauses
from asynclocks.drop_in._owned import OwnedCondition, OwnedLock
from asynclocks.drop_in._statistics import (
    CapacityLimiterStatistics,
    ConditionStatistics,
    EventStatistics,
    LockStatistics,
    SemaphoreStatistics,
)

if TYPE_CHECKING:
    import anyio as _anyio
    import anyio.lowlevel as _lowlevel
else:
    try:
        import anyio as _anyio
        import anyio.lowlevel as _lowlevel
    except ImportError:  # then nobody catches anyio's errors, nor looks at its tasks
        from asynclocks.drop_in import _without_anyio as _anyio

        _lowlevel = _anyio.lowlevel

WouldBlock = _anyio.WouldBlock

__all__ = [
    "CapacityLimiter",
    "CapacityLimiterStatistics",
    "Condition",
    "ConditionStatistics",
    "Event",
    "EventStatistics",
    "Lock",
    "LockStatistics",
    "Semaphore",
    "SemaphoreStatistics",
    "WouldBlock",
]

T = TypeVar("T")


class Event(LastingFlag):
    """``anyio.Event``: once set it stays so. Of an `asynclocks.Event` given, another spelling."""

    __slots__ = ()

    async def wait(self) -> None:
        """Wait until the flag is set. A checkpoint also if it is."""
        if self._event.is_set():
            await _lowlevel.checkpoint()
        else:
            await self._event.wait()


class Lock(OwnedLock):
    """``anyio.Lock``: only its owner releases. Of a `Mutex` given, another spelling."""

    __slots__ = ()

    _would_block = _anyio.WouldBlock
    _pauses: ClassVar[Pauses] = _lowlevel
    _twice = "Attempted to acquire an already held Lock"
    _not_yours = "The current task is not holding this lock"

    def __init__(self, mutex: _mutex.Mutex[Any] | None = None, *, fast_acquire: bool = False) -> None:
        super().__init__(mutex)
        self._fast = fast_acquire

    def statistics(self) -> LockStatistics[_anyio.TaskInfo]:
        """Whether it is locked, the task that owns it, and how many wait."""
        owner = self._present_owner()
        return self._statistics(None if owner is None else _info_of(owner))


class Condition(OwnedCondition[Lock]):
    """``anyio.Condition``. Of a `Condvar` given, another spelling."""

    __slots__ = ()

    _not_held_to_wait = _not_held_to_notify = "The current task is not holding the underlying lock"

    def __init__(
        self, lock: Lock | _mutex.Mutex[Any] | None = None, *, condvar: _condvar.Condvar | None = None
    ) -> None:
        super().__init__(lock if isinstance(lock, Lock) else Lock(lock), condvar)

    async def wait(self) -> None:
        """Release the lock, wait for a notification, and hold the lock again, also if cancelled.

        Raises:
            RuntimeError: the running task does not hold the lock.
        """
        await _lowlevel.checkpoint_if_cancelled()
        await super().wait()

    async def wait_for(self, predicate: Callable[[], T]) -> T:
        """`wait` until the predicate is true; what it returned."""
        while not (result := predicate()):
            await self.wait()
        return result

    def statistics(self) -> ConditionStatistics[_anyio.TaskInfo]:
        """How many wait for a notification, and the lock's own."""
        return ConditionStatistics(self._condvar.statistics().waiting, self._lock.statistics())


class Semaphore(CountedSemaphore):
    """``anyio.Semaphore``. Of an `asynclocks.Semaphore` given for the value, another spelling."""

    __slots__ = ()

    _would_block = _anyio.WouldBlock
    _pauses: ClassVar[Pauses] = _lowlevel
    _names = {  # noqa: RUF012 - never changed
        "initial type": "initial_value must be an integer",
        "initial value": "initial_value must be >= 0",
        "bound type": "max_value must be an integer or None",
        "bound value": "max_value must be equal to or higher than initial_value",
    }

    def __init__(
        self,
        initial_value: int | _semaphore.Semaphore,
        *,
        max_value: int | None = None,
        fast_acquire: bool = False,
    ) -> None:
        super().__init__(initial_value, max_value=max_value)
        self._fast = fast_acquire

    async def __aenter__(self) -> Self:  # type: ignore[override]  # as anyio's
        await self._acquire_as(None)
        return self


class CapacityLimiter(Limiter):
    """``anyio.CapacityLimiter``."""

    __slots__ = ()

    _would_block = _anyio.WouldBlock
    _pauses: ClassVar[Pauses] = _lowlevel

    def statistics(self) -> CapacityLimiterStatistics[tuple[object, ...]]:
        """How many tokens there are and are borrowed, by whom, and how many wait."""
        return self._statistics(tuple(self._borrowers()))


def _info_of(task: Hashable) -> _anyio.TaskInfo:
    """Describe a task as anyio does; perhaps it runs in another loop."""
    for info in _anyio.get_running_tasks():
        if info.id == id(task):
            return info
    return _anyio.TaskInfo(id(task), None, task_name(task), task)  # type: ignore[arg-type]
