"""What ``Mutex.lock()`` returns."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, ClassVar

from asynclocks import backends
from asynclocks._engine.acquisition import Block, new_object, unused
from asynclocks._engine.deadline import deadline_of
from asynclocks._engine.mutex_state import MutexState
from asynclocks._engine.ticket import GRANTED
from asynclocks.backends import thread_local
from asynclocks.backends.seam import uninterrupted


class LockBlock(Block[Any]):
    """``async with mutex.lock()``, and ``await mutex.lock()``."""

    __slots__ = ("_timeout",)

    _what = "lock()"
    _tracked: ClassVar[bool] = True  # for deadlocks

    _of: MutexState[Any]
    _timeout: float | None

    def _now(self) -> Any:
        mutex = self._of
        if not mutex._free or thread_local.name is not None:
            return None
        try:
            task = backends.glance()
        except RuntimeError:  # not asyncio
            return None
        if task is None:
            return None
        if not self._tracked:
            return mutex._take_free(None)
        owner = mutex._owner
        if owner is None or owner() is not task:  # often it is the same; asking is cheaper than a new one
            owner = backends.own(task)
        return mutex._take_free(owner)

    def _later(self) -> Coroutine[Any, Any, Any]:
        return self._of._wait_loosely(self._tracked, deadline_of(self._timeout))

    @uninterrupted
    async def __aexit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:
        guard: Any = self._guard
        if guard._hold.state is GRANTED:
            guard._let_go()
        else:  # it let go early, or was turned into another
            guard._leave_block()


class OwnedLockBlock(LockBlock):
    """``async with mutex.lock_owned()``."""

    __slots__ = ()

    _what = "lock_owned()"
    _tracked = False


def lock_block(kind: type[LockBlock], mutex: MutexState[Any], timeout: float | None) -> LockBlock:
    """A new one.

    Raises:
        TypeError: `timeout` is no number.
        ValueError: `timeout` is not a number (NaN).
    """
    if timeout is not None and not timeout >= 0:
        deadline_of(timeout)
    block: LockBlock = new_object(kind)
    block._of = mutex
    block._timeout = timeout
    block._take = unused
    return block
