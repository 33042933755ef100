"""What the drop-in classes have in common: the primitive that each is another spelling of."""

from __future__ import annotations

from typing import Any, TypeVar

from asynclocks.mutex import MutexGuard

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
