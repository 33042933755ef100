"""The lock of ``aiorwlock``, for tasks of any loop. What differs: docs/drop_in.md.

>>> import asyncio
>>> from asynclocks.drop_in.aiorwlock import RWLock
>>> async def main():
...     lock = RWLock()
...     async with lock.writer_lock:
...         async with lock.reader_lock:
...             return lock.writer_lock.locked
>>> asyncio.run(main())
True
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any

from asynclocks.backends import current_backend
from asynclocks.drop_in._common import given
from asynclocks.rwlock import ReadGuard, RwLock, WriteGuard

__all__ = ["RWLock"]


class _Hold:
    """What one task holds, and how often it asked for it."""

    __slots__ = ("guard", "reads", "writes")

    def __init__(self, guard: ReadGuard[Any] | WriteGuard[Any]) -> None:
        self.guard = guard
        self.reads = 0
        self.writes = 0


class _Core:
    """Who holds an RwLock, by tasks, each as often as it likes."""

    __slots__ = ("_fast", "_holds", "_rwlock")

    def __init__(self, rwlock: RwLock[Any], *, fast: bool) -> None:
        self._rwlock = rwlock
        self._fast = fast
        self._holds: dict[Hashable, _Hold] = {}

    @property
    def read_locked(self) -> bool:
        statistics = self._rwlock.statistics()
        return statistics.readers > 0 or (statistics.writer and any(hold.reads for hold in [*self._holds.values()]))

    @property
    def write_locked(self) -> bool:
        return self._rwlock.statistics().writer

    async def acquire_read(self) -> None:
        task = current_backend().current_task()
        hold = self._holds.get(task)
        waited = False
        if hold is None:
            waited = self._would_wait(to_write=False)
            hold = self._holds[task] = _Hold(await self._rwlock._read_quietly())
        hold.reads += 1
        if not waited:
            await self._pause(self.release_read)

    async def acquire_write(self) -> None:
        task = current_backend().current_task()
        hold = self._holds.get(task)
        waited = False
        if hold is None:
            waited = self._would_wait(to_write=True)
            hold = self._holds[task] = _Hold(await self._rwlock._write_quietly())
        elif not hold.writes:
            raise RuntimeError("Cannot upgrade RWLock from read to write")
        hold.writes += 1
        if not waited:
            await self._pause(self.release_write)

    def release_read(self) -> None:
        task, hold = self._own()
        if hold is None or not hold.reads:
            raise RuntimeError("Cannot release an un-acquired lock")
        hold.reads -= 1
        self._let_go(task, hold)

    def release_write(self) -> None:
        task, hold = self._own()
        if hold is None or not hold.writes:
            raise RuntimeError("Cannot release an un-acquired lock")
        hold.writes -= 1
        if not hold.writes and hold.reads and isinstance(hold.guard, WriteGuard):
            hold.guard = hold.guard.downgrade()
        self._let_go(task, hold)

    def _own(self) -> tuple[Hashable, _Hold | None]:
        task = current_backend().current_task()
        return task, self._holds.get(task)

    def _let_go(self, task: Hashable, hold: _Hold) -> None:
        if not hold.reads and not hold.writes:
            del self._holds[task]
            hold.guard.release()

    def _would_wait(self, *, to_write: bool) -> bool:
        statistics = self._rwlock.statistics()
        return bool(
            statistics.writer
            or statistics.waiting_readers
            or statistics.waiting_writers
            or (to_write and (statistics.readers or statistics.upgradable))
        )

    async def _pause(self, release: Any) -> None:
        """Let others run, unless it is to be fast. trio did so already."""
        if self._fast or getattr(current_backend(), "checkpoints", True):
            return
        try:
            await asyncio.sleep(0)
        except BaseException:
            release()
            raise


class _Side:
    """The lock in one of its modes."""

    __slots__ = ("_core",)

    def __init__(self, core: _Core) -> None:
        self._core = core

    async def acquire(self) -> None:
        """Wait for the lock in this mode."""
        raise NotImplementedError

    def release(self) -> None:
        """Give back what the running task acquired.

        Raises:
            RuntimeError: it acquired nothing.
        """
        raise NotImplementedError

    @property
    def locked(self) -> bool:
        """Is it held in this mode?"""
        raise NotImplementedError

    def __enter__(self) -> None:
        raise RuntimeError('"await" should be used as context manager expression')

    def __exit__(self, *exc: object) -> None: ...

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *exc: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__[1:]}: [{'locked' if self.locked else 'unlocked'}]>"


class _ReaderLock(_Side):
    __slots__ = ()

    @property
    def locked(self) -> bool:
        return self._core.read_locked

    async def acquire(self) -> None:
        await self._core.acquire_read()

    def release(self) -> None:
        self._core.release_read()


class _WriterLock(_Side):
    __slots__ = ()

    @property
    def locked(self) -> bool:
        return self._core.write_locked

    async def acquire(self) -> None:
        await self._core.acquire_write()

    def release(self) -> None:
        self._core.release_write()


class RWLock:
    """``aiorwlock.RWLock``: a task takes each side as often as it likes. Of an `RwLock` given, another spelling."""

    __slots__ = ("_reader_lock", "_writer_lock")

    def __init__(self, rwlock: RwLock[Any] | None = None, *, fast: bool = False) -> None:
        core = _Core(given(rwlock, RwLock), fast=fast)
        self._reader_lock = _ReaderLock(core)
        self._writer_lock = _WriterLock(core)

    @property
    def reader(self) -> _ReaderLock:
        """The lock for reading, beside other readers."""
        return self._reader_lock

    reader_lock = reader

    @property
    def writer(self) -> _WriterLock:
        """The lock for writing, alone."""
        return self._writer_lock

    writer_lock = writer

    def __repr__(self) -> str:
        return f"<RWLock: {self.reader_lock!r} {self.writer_lock!r}>"
