"""What ``read()``, ``write()``, … return: acquisitions that are themselves the guard of their block."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, Self, TypeVar
from weakref import ref

from asynclocks import backends
from asynclocks._engine.acquisition import Acquisition, Block, new_object, unused
from asynclocks._engine.deadline import deadline_of
from asynclocks._engine.guards import shown_as
from asynclocks._engine.synchronizer import GRANTED, WITHDRAWN, Ticket
from asynclocks._rw_guards import (
    LooseReadGuard,
    LooseUpgradableReadGuard,
    LooseWriteGuard,
    QuietReadGuard,
    QuietWriteGuard,
    ReadGuard,
    RwGuard,
    UpgradableReadGuard,
    WriteGuard,
)
from asynclocks._rw_state import READ, UPGRADABLE, WRITE, Mode, ReadWriteState
from asynclocks.backends import thread_local
from asynclocks.backends.seam import uninterrupted

T = TypeVar("T")


class RwBlock(RwGuard[Any], Block[Any]):
    """What ``read()``, ``write()``, … return; entered by ``async with``, it is itself the guard.

    One object less, and nobody in the way costs no frame of the engine's.
    """

    __slots__ = ("_hold", "_lock", "_timeout", "_turned_into")

    _lock: ReadWriteState[Any]
    _timeout: float | None
    _loose: ClassVar[Any]
    _mode: ClassVar[Mode]
    _tracked: ClassVar[bool] = True
    _name: ClassVar[str]

    def _now(self) -> Any:
        lock = self._lock
        if lock._head is not None or lock._writing or thread_local.name is not None:
            return None
        try:
            task = backends.hint()
        except RuntimeError:  # not asyncio
            return None
        if task is None:
            return None
        guard = type(self)._loose()
        guard._hold = hold = lock._fill_in(Ticket(), self._mode, ref(task) if self._tracked else None)
        return guard if lock._enter_now(hold) else None

    @uninterrupted
    async def _later(self) -> Any:
        guard = type(self)._loose()
        deadline = deadline_of(self._timeout)
        guard._hold = await self._lock._acquire(self._mode, tracked=self._tracked, deadline=deadline)
        return guard

    @uninterrupted
    async def __aenter__(self) -> Self:
        if self._take is None:
            self._use()
        self._take = None
        lock = self._lock
        try:
            task = backends.hint()
        except RuntimeError:  # not asyncio
            task = None
        if task is not None and lock._head is None and not lock._writing:
            hold = Ticket()
            hold.synchronizer = lock
            hold.request = self._mode
            hold.owner = ref(task) if self._tracked else None
            hold.state = WITHDRAWN
            if lock._enter_now(hold):
                self._hold = hold
                return self
        deadline = deadline_of(self._timeout)
        self._hold = await lock._acquire(self._mode, tracked=self._tracked, task=task, deadline=deadline)
        return self

    @uninterrupted
    async def __aexit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:
        if not self._lock._leave_now(self._hold):
            self._leave_block()

    def _of(self) -> object:  # type: ignore[override]  # the guard's one
        return self._lock

    def __repr__(self) -> str:
        if self._hold is self._lock._nothing:
            return f"<{self._what} of {self._lock}>"
        return f"<{self._name} of {self._lock}{', released' if self.released else ''}>"

    def _refuse(self) -> NoReturn:
        if self._hold is self._lock._nothing:
            raise RuntimeError(f"{self!r} holds nothing yet; enter it with `async with`, or await it")
        super()._refuse()

    def __del__(self) -> None:
        if self._take is not None:
            Acquisition.__del__(self)
        elif self._hold.state is GRANTED:
            RwGuard.__del__(self)


class ReadBlock(RwBlock, ReadGuard[T]):
    """``async with lock.read()``."""

    __slots__ = ()

    _loose, _mode, _what, _name = LooseReadGuard, READ, "read()", "ReadGuard"


class WriteBlock(RwBlock, WriteGuard[T]):
    """``async with lock.write()``."""

    __slots__ = ()

    _loose, _mode, _what, _name = LooseWriteGuard, WRITE, "write()", "WriteGuard"


class QuietReadBlock(ReadBlock[T]):
    """``await lock._read_quietly()``."""

    __slots__ = ()

    _loose = QuietReadGuard


class QuietWriteBlock(WriteBlock[T]):
    """``await lock._write_quietly()``."""

    __slots__ = ()

    _loose = QuietWriteGuard


class OwnedWriteBlock(WriteBlock[T]):
    """``async with lock.write_owned()``."""

    __slots__ = ()

    _tracked, _what = False, "write_owned()"


class UpgradableReadBlock(RwBlock, UpgradableReadGuard[T]):
    """``async with lock.upgradable_read()``."""

    __slots__ = ()

    _loose, _mode, _what, _name = LooseUpgradableReadGuard, UPGRADABLE, "upgradable_read()", "UpgradableReadGuard"


def rw_block(kind: type[RwBlock], lock: ReadWriteState[Any], timeout: float | None) -> Any:
    """A new one.

    Raises:
        TypeError: `timeout` is no number.
        ValueError: `timeout` is not a number (NaN).
    """
    if timeout is not None and not timeout >= 0:
        deadline_of(timeout)
    block: RwBlock = new_object(kind)
    block._lock = lock
    block._timeout = timeout
    block._hold = lock._nothing
    block._take = unused
    return block


shown_as("ReadGuard", ReadBlock, QuietReadBlock)
shown_as("WriteGuard", WriteBlock, QuietWriteBlock, OwnedWriteBlock)
shown_as("UpgradableReadGuard", UpgradableReadBlock)
