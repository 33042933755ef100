"""Locks for every loop: asyncio, trio and Pyodide, across loops and threads, after Rust's tokio and parking_lot."""

from __future__ import annotations

from asynclocks._compiled import compiled
from asynclocks._detached import detached
from asynclocks._engine.deadlock import set_deadlock_policy
from asynclocks._engine.guards import Acquisition, Guard
from asynclocks.barrier import Barrier, BarrierWaitResult
from asynclocks.concurrent_map import ConcurrentMap, ConcurrentMapStatistics, Entry, Ref
from asynclocks.condvar import Condvar, CondvarStatistics
from asynclocks.event import Event, EventStatistics
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
from asynclocks.mutex import MappedGuard, Mutex, MutexGuard, MutexStatistics
from asynclocks.notify import Notified, Notify, NotifyStatistics
from asynclocks.once import LazyLock, OnceCell, OnceCellStatistics, OnceLock, once
from asynclocks.rwlock import ReadGuard, RwLock, RwLockStatistics, UpgradableReadGuard, WriteGuard
from asynclocks.semaphore import Permit, Semaphore, SemaphoreStatistics

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
