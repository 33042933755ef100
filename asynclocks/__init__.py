"""Locks for every loop: asyncio, trio and Pyodide, across loops and threads, after Rust's tokio and parking_lot."""

from __future__ import annotations

from asynclocks._deadlock import set_deadlock_policy
from asynclocks._guards import Acquisition, Guard
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
from asynclocks.semaphore import Permit, Semaphore, SemaphoreStatistics

__all__ = [
    "Acquisition",
    "AlreadyInitializedError",
    "ClosedError",
    "DeadlockError",
    "Guard",
    "GuardReleasedError",
    "InitializingError",
    "KeyLockedError",
    "MappedGuard",
    "Mutex",
    "MutexGuard",
    "MutexStatistics",
    "Permit",
    "Semaphore",
    "SemaphoreStatistics",
    "SetError",
    "TryAcquireError",
    "TryLockError",
    "UnsupportedLoopError",
    "WouldBlock",
    "set_deadlock_policy",
]
