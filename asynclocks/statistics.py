"""What each primitive's `statistics()` returns.

The primitives import these classes when they are first asked: making the classes takes a third of `import asynclocks`.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class MutexStatistics:
    """A Mutex at one moment."""

    locked: bool
    owner: str | None  # the owner task's name, from the moment it was granted; None for lock_owned and threads
    waiting: int


@attrs.frozen
class RwLockStatistics:
    """An RwLock at one moment."""

    readers: int
    writer: bool
    upgradable: bool
    waiting_readers: int
    waiting_writers: int


@attrs.frozen
class SemaphoreStatistics:
    """A Semaphore at one moment."""

    total: int
    available: int
    waiting: int
    closed: bool


@attrs.frozen
class OnceCellStatistics:
    """A OnceCell at one moment."""

    initialized: bool
    initializing: bool
    waiting: int


@attrs.frozen
class CondvarStatistics:
    """A Condvar at one moment."""

    waiting: int


@attrs.frozen
class NotifyStatistics:
    """A Notify at one moment."""

    waiting: int
    stored: bool


@attrs.frozen
class EventStatistics:
    """An Event at one moment."""

    waiting: int
    set: bool


@attrs.frozen
class ConcurrentMapStatistics:
    """A ConcurrentMap at one moment."""

    size: int
    locked_keys: int  # held by a guard, or being initialized
    waiting: int
