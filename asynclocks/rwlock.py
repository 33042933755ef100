"""RwLock: many readers or one writer, plus parking_lot's upgradable read (after ``tokio::sync::RwLock``).

One line for all: whoever is at its head enters when the present holders allow, and nobody behind enters
before. So a reader that arrives behind a queued writer waits for it, and a writer that is cancelled lets the
readers behind it in. An upgrade stands at the head: it needs only the readers to leave.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Any, TypeVar, overload

from asynclocks import backends
from asynclocks._engine.absent import Absent
from asynclocks._engine.acquisition import Acquisition
from asynclocks._engine.guards import LooseGuard
from asynclocks._engine.ticket import Ticket
from asynclocks._rw_blocks import (
    OwnedWriteBlock,
    QuietReadBlock,
    QuietWriteBlock,
    ReadBlock,
    UpgradableReadBlock,
    WriteBlock,
    rw_block,
)
from asynclocks._rw_guards import (
    LooseReadGuard,
    LooseUpgradableReadGuard,
    LooseWriteGuard,
    ReadGuard,
    UpgradableReadGuard,
    WriteGuard,
)
from asynclocks._rw_state import READ, UPGRADABLE, WRITE, Mode, ReadWriteState
from asynclocks.backends import check_blocking, owner_here, thread_here
from asynclocks.backends.seam import uninterrupted
from asynclocks.exceptions import TryLockError

if TYPE_CHECKING:
    from asynclocks.statistics import RwLockStatistics

__all__ = ["ReadGuard", "RwLock", "UpgradableReadGuard", "WriteGuard"]

T = TypeVar("T")
G = TypeVar("G", bound=LooseGuard)

MAX_READERS = 0x1FFF_FFFF  # tokio's


class RwLock(ReadWriteState[T]):
    """Many readers or one writer, first come, first served.

    At most `max_readers` readers at once. One upgradable reader at a time; it coexists with readers and counts as
    one. Read and write guards are followed for deadlocks as Mutex guards are.

    Raises:
        ValueError: `max_readers` is less than 1.

    >>> import asyncio
    >>> async def main():
    ...     config = RwLock({"debug": False})
    ...     async with config.write() as guard:
    ...         guard.value = {"debug": True}
    ...     async with config.read() as guard:
    ...         return guard.value
    >>> asyncio.run(main())
    {'debug': True}
    """

    __slots__ = ()

    kind = "RwLock"

    @overload
    def __init__(self: RwLock[None], *, max_readers: int = ..., name: str | None = None) -> None: ...
    @overload
    def __init__(self, value: T, *, max_readers: int = ..., name: str | None = None) -> None: ...
    def __init__(self, value: Any = None, *, max_readers: int = MAX_READERS, name: str | None = None) -> None:
        if index(max_readers) < 1:
            raise ValueError(f"RwLock(max_readers={max_readers}): at least 1 must be able to read")
        super().__init__(value, max_readers, name)

    if not TYPE_CHECKING:
        acquire = Absent("use read() or write()")
        lock = Absent("use read() or write()")
        reader = Absent("use read(); asynclocks.drop_in.aiorwlock.RWLock has this spelling")
        reader_lock = Absent("use read(); asynclocks.drop_in.aiorwlock.RWLock has this spelling")
        writer = Absent("use write(); asynclocks.drop_in.aiorwlock.RWLock has this spelling")
        writer_lock = Absent("use write(); asynclocks.drop_in.aiorwlock.RWLock has this spelling")
        release = Absent("the guard that read() or write() returned releases")

    def read(self, timeout: float | None = None) -> Acquisition[ReadGuard[T]]:
        """Wait until it may be read beside others, at most `timeout` seconds.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            DeadlockError: waiting here could never end.
        """
        return rw_block(ReadBlock, self, timeout)  # type: ignore[no-any-return]

    def write(self, timeout: float | None = None) -> Acquisition[WriteGuard[T]]:
        """Wait until it may be written alone, at most `timeout` seconds.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            DeadlockError: waiting here could never end.
        """
        return rw_block(WriteBlock, self, timeout)  # type: ignore[no-any-return]

    def write_owned(self, timeout: float | None = None) -> Acquisition[WriteGuard[T]]:
        """`write` for a guard that is meant to be handed to another task or thread: not followed for deadlocks."""
        return rw_block(OwnedWriteBlock, self, timeout)  # type: ignore[no-any-return]

    def upgradable_read(self, timeout: float | None = None) -> Acquisition[UpgradableReadGuard[T]]:
        """Wait until it may be read beside others, with the right to become the writer, at most `timeout` seconds.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            DeadlockError: waiting here could never end.
        """
        return rw_block(UpgradableReadBlock, self, timeout)  # type: ignore[no-any-return]

    def _read_quietly(self) -> Acquisition[ReadGuard[T]]:
        """For the drop-in modules: a guard that says nothing when it is collected."""
        return rw_block(QuietReadBlock, self, None)  # type: ignore[no-any-return]

    def _write_quietly(self) -> Acquisition[WriteGuard[T]]:
        """The same, for writing."""
        return rw_block(QuietWriteBlock, self, None)  # type: ignore[no-any-return]

    def try_read(self) -> ReadGuard[T]:
        """Read now, from any thread. Raises TryLockError where waiting would be needed."""
        return self._take_now(LooseReadGuard, READ)

    def try_write(self) -> WriteGuard[T]:
        """Write now, from any thread. Raises TryLockError where waiting would be needed."""
        return self._take_now(LooseWriteGuard, WRITE)

    def try_upgradable_read(self) -> UpgradableReadGuard[T]:
        """Read upgradably now, from any thread. Raises TryLockError where waiting would be needed."""
        return self._take_now(LooseUpgradableReadGuard, UPGRADABLE)

    def blocking_read(self, timeout: float | None = None) -> ReadGuard[T]:
        """Park this thread until it may read, at most `timeout` seconds; zero or less tries once.

        Raises:
            TimeoutError: the time is over; nothing is held.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        return self._take_blocking(LooseReadGuard, "blocking_read()", READ, timeout)

    def blocking_write(self, timeout: float | None = None) -> WriteGuard[T]:
        """`blocking_read`, to write."""
        return self._take_blocking(LooseWriteGuard, "blocking_write()", WRITE, timeout)

    def blocking_upgradable_read(self, timeout: float | None = None) -> UpgradableReadGuard[T]:
        """`blocking_read`, upgradable."""
        return self._take_blocking(LooseUpgradableReadGuard, "blocking_upgradable_read()", UPGRADABLE, timeout)

    def into_inner(self) -> T:
        """The value, when nobody holds the lock or waits for it. The lock stays usable.

        Raises:
            TryLockError: it is held or awaited.
        """
        with self.try_write() as guard:
            return guard.value

    def locked(self) -> bool:
        """Is it held by anybody, to read or to write?"""
        return bool(self._writing or self._upgradable or self._reading)

    def statistics(self) -> RwLockStatistics:
        """Who holds it, and how many wait for what."""
        from asynclocks.statistics import RwLockStatistics

        return self._transact(self._count, RwLockStatistics)

    @uninterrupted
    def _take_now(self, kind: Callable[[], G], mode: Mode) -> G:
        guard = kind()
        guard._hold = hold = self._fill_in(Ticket(), mode, owner_here())
        if not self._enter_now(hold):
            raise TryLockError(f"{self!r} cannot be taken now; wait with `async with`, or try later")
        return guard

    def _take_blocking(self, kind: Callable[[], G], what: str, mode: Mode, timeout: float | None) -> G:
        guard = kind()
        if not (backends.IN_PYODIDE or self._head or self._writing):  # there a request keeps account of plain calls
            check_blocking(what, self)
            guard._hold = hold = self._fill_in(Ticket(), mode, thread_here())
            if self._enter_now(hold):
                return guard
        guard._hold = self._acquire_blocking(what, mode, timeout)
        return guard

    def _count(self, told: type[RwLockStatistics]) -> RwLockStatistics:
        writers = self._queued_writers
        return told(len(self._reading), bool(self._writing), bool(self._upgradable), self._waiting - writers, writers)

    def _describe(self) -> str:
        holders = [f"{len(self._reading)} reading"] if self._reading else []
        holders += ["1 reading upgradably"] if self._upgradable else []
        holders += ["written"] if self._writing else []
        holders += [f"{self._waiting} waiting"] if self._waiting else []
        return ", ".join(holders) or "free"
