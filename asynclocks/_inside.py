"""The short locks of what does not stand on the engine: free afterwards, whatever comes in between.

A signal's handler may raise (Ctrl-C) where a call ends, so also behind a lock's taking. ``with lock:`` leaves the lock
taken for ever there, on CPython 3.14: see docs/decisions/whoever-is-struck-mends.md. Each of these locks is re-entrant
(a finalizer or a signal handler may come back), and held for a few steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Any)


def inside(lock: Any, change: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
    """Do this inside the lock, a `threading.RLock`."""
    if lock._is_owned():
        return change(*args, **options)
    try:
        lock.acquire()
        result = change(*args, **options)
        lock.release()
    except BaseException:
        if lock._is_owned():
            lock.release()
        raise
    return result


def locked(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Have this method run inside its object's `_lock`."""

    @wraps(method)
    def method_inside(self: S, /, *args: P.args, **options: P.kwargs) -> R:
        return inside(self._lock, method, self, *args, **options)

    return method_inside
