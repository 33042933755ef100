"""Locks for every loop: asyncio, trio and Pyodide, across loops and threads, after Rust's tokio and parking_lot."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from asynclocks._compiled import compiled
from asynclocks._engine.acquisition import Acquisition
from asynclocks._engine.deadlock import set_deadlock_policy
from asynclocks._engine.guards import Guard
from asynclocks.exceptions import (
    AlreadyInitializedError,
    ClosedError,
    DeadlockError,
    GuardReleasedError,
    InitializingError,
    KeyLockedError,
    SetError,
    TryAcquireError,
    TryLockError,
    UnsupportedLoopError,
    WouldBlock,
)
from asynclocks.mutex import MappedGuard, Mutex, MutexGuard

if TYPE_CHECKING:
    from asynclocks._detached import detached
    from asynclocks.barrier import Barrier, BarrierWaitResult
    from asynclocks.concurrent_map import ConcurrentMap, Entry, Ref
    from asynclocks.condvar import Condvar
    from asynclocks.event import Event
    from asynclocks.notify import Notified, Notify
    from asynclocks.once_cell import LazyLock, OnceCell, OnceLock, once
    from asynclocks.rwlock import ReadGuard, RwLock, UpgradableReadGuard, WriteGuard
    from asynclocks.semaphore import Permit, Semaphore
    from asynclocks.statistics import (
        ConcurrentMapStatistics,
        CondvarStatistics,
        EventStatistics,
        MutexStatistics,
        NotifyStatistics,
        OnceCellStatistics,
        RwLockStatistics,
        SemaphoreStatistics,
    )

__version__ = "0.1.0"

__all__ = [
    "Acquisition",
    "AlreadyInitializedError",
    "Barrier",
    "BarrierWaitResult",
    "ClosedError",
    "ConcurrentMap",
    "ConcurrentMapStatistics",
    "Condvar",
    "CondvarStatistics",
    "DeadlockError",
    "Entry",
    "Event",
    "EventStatistics",
    "Guard",
    "GuardReleasedError",
    "InitializingError",
    "KeyLockedError",
    "LazyLock",
    "MappedGuard",
    "Mutex",
    "MutexGuard",
    "MutexStatistics",
    "Notified",
    "Notify",
    "NotifyStatistics",
    "OnceCell",
    "OnceCellStatistics",
    "OnceLock",
    "Permit",
    "ReadGuard",
    "Ref",
    "RwLock",
    "RwLockStatistics",
    "Semaphore",
    "SemaphoreStatistics",
    "SetError",
    "TryAcquireError",
    "TryLockError",
    "UnsupportedLoopError",
    "UpgradableReadGuard",
    "WouldBlock",
    "WriteGuard",
    "compiled",
    "detached",
    "once",
    "set_deadlock_policy",
]

if not TYPE_CHECKING:  # a type checker that saw __getattr__ would let every name pass
    # A program pays for what it uses: these are imported when they are first asked for.
    _LATER = {
        "_detached": ["detached"],
        "barrier": ["Barrier", "BarrierWaitResult"],
        "concurrent_map": ["ConcurrentMap", "Entry", "Ref"],
        "condvar": ["Condvar"],
        "event": ["Event"],
        "notify": ["Notified", "Notify"],
        "once_cell": ["LazyLock", "OnceCell", "OnceLock", "once"],
        "rwlock": ["ReadGuard", "RwLock", "UpgradableReadGuard", "WriteGuard"],
        "semaphore": ["Permit", "Semaphore"],
        "statistics": [name for name in __all__ if name.endswith("Statistics")],
    }
    _MODULE_OF = {name: module for module, names in _LATER.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
        found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
