"""What the drop-in classes have in common: the primitive that each is another spelling of."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from asynclocks.condvar import Condvar
from asynclocks.event import Event
from asynclocks.mutex import Mutex, MutexGuard
from asynclocks.semaphore import Semaphore

P = TypeVar("P")


def given(primitive: object, kind: type[P]) -> P:
    """The primitive, if it is of this kind; a new one for None.

    Raises:
        TypeError: it is something else, perhaps the original's own.
    """
    if primitive is None:
        return kind()
    if not isinstance(primitive, kind):
        raise TypeError(f"{primitive!r} is no {kind.__module__}.{kind.__qualname__}; give one, or none")
    return primitive


def hold_again(guard: MutexGuard[Any]) -> bool:
    """Hold the mutex as by `Mutex.acquire` after a Condvar's wait. False: the coroutine that waited is destroyed."""
    if guard.released:
        return False
    guard.leave_held()
    return True


def semaphore_of(value: int | Semaphore, message: str) -> Semaphore:
    """The semaphore given for the value, or a new one.

    Raises:
        ValueError: the value is negative.
        TypeError: it is neither a number nor a semaphore.
    """
    if not isinstance(value, int):
        return given(value, Semaphore)
    if value < 0:
        raise ValueError(message)
    return Semaphore(value)


def give_or_add(semaphore: Semaphore) -> None:
    """Add one to what is free, or let in who waits first; more than there were at first is no error."""
    try:
        semaphore.give()
    except ValueError:
        semaphore.add_permits(1)


class UnownedLock:
    """A lock that anybody releases: what is no wait."""

    __slots__ = ()

    _mutex: Mutex[Any]
    _unlocked: ClassVar[str]  # what the original says of a release too many

    def release(self) -> None:
        """Unlock, from any task or thread.

        Raises:
            RuntimeError: it is not locked.
        """
        try:
            self._mutex.release()
        except RuntimeError as error:
            raise RuntimeError(self._unlocked) from error

    def locked(self) -> bool:
        """Is it locked, by somebody who has run since?"""
        return self._mutex.in_use()

    def _is_held(self) -> bool:
        """Is it locked, as far as the running thread can tell?"""
        return self._mutex.in_use()


class Flag:
    """An event that is set."""

    __slots__ = ()

    _event: Event

    def set(self) -> None:
        """Set the flag, and wake whoever waits for it."""
        self._event.set()

    def is_set(self) -> bool:
        """Is the flag set?"""
        return self._event.is_set()


class ClearableFlag(Flag):
    """An event that is set and cleared."""

    __slots__ = ()

    def clear(self) -> None:
        """Clear the flag."""
        self._event.clear()


class UnownedCondition:
    """A condition over a lock that anybody releases: what is not a wait."""

    __slots__ = ()

    _lock: Any
    _condvar: Condvar

    def release(self) -> None:
        """`Lock.release`."""
        self._lock.release()

    def locked(self) -> bool:
        """`Lock.locked`."""
        return bool(self._lock.locked())

    def notify(self, n: int = 1) -> None:
        """Wake the `n` that have waited longest.

        Raises:
            RuntimeError: the lock is not held.
        """
        self._check_held("notify on")
        self._condvar.notify(n)

    def notify_all(self) -> None:
        """Wake whoever waits.

        Raises:
            RuntimeError: the lock is not held.
        """
        self._check_held("notify on")
        self._condvar.notify_all()

    def _check_held(self, what: str) -> None:
        if not self._lock._is_held():
            raise RuntimeError(f"cannot {what} un-acquired lock")
