"""The locks of ``trio``, for tasks of any loop. What differs: docs/drop_in.md.

>>> import trio
>>> from asynclocks.drop_in.trio import CapacityLimiter
>>> async def main():
...     limiter = CapacityLimiter(2)
...     async with limiter:
...         return limiter.available_tokens
>>> trio.run(main)
1
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from asynclocks import condvar as _condvar, mutex as _mutex
from asynclocks.drop_in._limiter import Limiter
from asynclocks.drop_in._nowait import CountedSemaphore, LastingFlag, PausesOfTheLoop, current_task
from asynclocks.drop_in._owned import OwnedCondition, OwnedLock, Waiter
from asynclocks.drop_in._statistics import (
    CapacityLimiterStatistics,
    ConditionStatistics,
    EventStatistics,
    LockStatistics,
    SemaphoreStatistics,
)

if TYPE_CHECKING:
    import trio as _trio
else:
    try:
        import trio as _trio
    except ImportError:  # then no task is trio's, and nobody catches trio's errors
        from asynclocks.drop_in import _without_trio as _trio

WouldBlock = _trio.WouldBlock

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
    "StrictFIFOLock",
    "WouldBlock",
]


class Event(LastingFlag):
    """``trio.Event``: once set it stays so. Of an `asynclocks.Event` given, another spelling."""

    __slots__ = ()

    async def wait(self) -> None:
        """Wait until the flag is set."""
        await self._event.wait()

    def __bool__(self) -> Literal[True]:
        raise NotImplementedError("Trio events cannot be treated as bools; consider using `event.is_set()` instead.")


class _Breaker:
    """What trio tells that a lock's owner has exited: it stands in for a ParkingLot."""

    __slots__ = ("_waiting", "broken_by")

    def __init__(self, waiting: dict[Waiter, None]) -> None:
        self._waiting = waiting
        self.broken_by: list[Any] = []

    def break_lot(self, task: Any) -> None:
        self.broken_by.append(task)
        for waiter in self._waiting:
            if isinstance(waiter, _Breakable):
                waiter.broken = True
                waiter.scope.cancel()


class _Breakable(Waiter):
    __slots__ = ("broken", "scope")

    def __init__(self, task: Hashable) -> None:
        super().__init__(task)
        self.scope = _trio.CancelScope()
        self.broken = False


class _Lock(OwnedLock):
    __slots__ = ("_lot",)

    _would_block = _trio.WouldBlock
    _pauses = PausesOfTheLoop()
    _twice = "attempt to re-acquire an already held Lock"
    _not_yours = "can't release a Lock you don't own"

    def __init__(self, mutex: _mutex.Mutex[Any] | None = None) -> None:
        super().__init__(mutex)
        self._lot: Any = _Breaker(self._waiting)

    async def _wait(self, who: Any) -> None:
        task = current_task()
        if self._lot.broken_by:
            self._refuse()
        if not isinstance(task, _trio.lowlevel.Task):
            await super()._wait(who)
            return
        waiter = _Breakable(task)
        self._waiting[waiter] = None
        try:
            with waiter.scope:
                await self._mutex.acquire()
                self._own(task)
        finally:
            del self._waiting[waiter]
        if waiter.broken:
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise _trio.BrokenResourceError(f"Owner of this lock exited without releasing: {self._owner}")

    def _own(self, task: Hashable) -> None:
        super()._own(task)
        if isinstance(task, _trio.lowlevel.Task):
            _trio.lowlevel.add_parking_lot_breaker(task, self._lot)

    def _disown(self) -> None:
        if isinstance(self._owner, _trio.lowlevel.Task):
            _trio.lowlevel.remove_parking_lot_breaker(self._owner, self._lot)
        super()._disown()

    def statistics(self) -> LockStatistics[Any]:
        """Whether it is locked, the task that owns it, and how many wait."""
        return self._statistics(self._present_owner())

    def __repr__(self) -> str:
        return f"<{self._state()} {type(self).__name__} object at {id(self):#x}{self._crowd()}>"

    def _state(self) -> str:
        return "locked" if self.locked() else "unlocked"

    def _crowd(self) -> str:
        return f" with {self.statistics().tasks_waiting} waiters" if self.locked() else ""


class Lock(_Lock):
    """``trio.Lock``: only its owner releases. Of a `Mutex` given, another spelling."""

    __slots__ = ()


class StrictFIFOLock(_Lock):
    """``trio.StrictFIFOLock``: as `Lock`, which is strict as well."""

    __slots__ = ()


class Condition(OwnedCondition[Lock]):
    """``trio.Condition``. Of a `Condvar` given, another spelling."""

    __slots__ = ()

    _not_held_to_wait = "must hold the lock to wait"
    _not_held_to_notify = "must hold the lock to notify"

    def __init__(
        self, lock: Lock | _mutex.Mutex[Any] | None = None, *, condvar: _condvar.Condvar | None = None
    ) -> None:
        if lock is None or isinstance(lock, _mutex.Mutex):
            lock = Lock(lock)
        if type(lock) is not Lock:
            raise TypeError("lock must be a trio.Lock")
        super().__init__(lock, condvar)

    def statistics(self) -> ConditionStatistics[Any]:
        """How many wait for a notification, and the lock's own."""
        return ConditionStatistics(self._condvar.statistics().waiting, self._lock.statistics())


class Semaphore(CountedSemaphore):
    """``trio.Semaphore``. Of an `asynclocks.Semaphore` given for the value, another spelling."""

    __slots__ = ()

    _would_block = _trio.WouldBlock
    _pauses = PausesOfTheLoop()
    _names = {  # noqa: RUF012 - never changed
        "initial type": "initial_value must be an int",
        "initial value": "initial value must be >= 0",
        "bound type": "max_value must be None or an int",
        "bound value": "max_values must be >= initial_value",
    }

    def __repr__(self) -> str:
        bound = "" if self.max_value is None else f", max_value={self.max_value}"
        return f"<{__name__}.Semaphore({self.value}{bound}) at {id(self):#x}>"


class CapacityLimiter(Limiter):
    """``trio.CapacityLimiter``."""

    __slots__ = ()

    _would_block = _trio.WouldBlock
    _pauses = PausesOfTheLoop()

    def statistics(self) -> CapacityLimiterStatistics[list[object]]:
        """How many tokens there are and are borrowed, by whom, and how many wait."""
        return self._statistics(self._borrowers())

    def __repr__(self) -> str:
        waiting = self.statistics().tasks_waiting
        tokens = f"{self.borrowed_tokens}/{self.total_tokens}"
        return f"<{__name__}.CapacityLimiter at {id(self):#x}, {tokens} with {waiting} waiting>"
