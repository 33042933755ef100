"""What ``Semaphore.acquire()`` returns."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from asynclocks import backends
from asynclocks._engine.acquisition import Block, new_object, unused
from asynclocks._engine.deadline import Deadline, deadline_of
from asynclocks._permits import NO_PARTS, Permit, PermitState
from asynclocks.backends import thread_local
from asynclocks.backends.seam import uninterrupted


class PermitBlock(Block[Permit]):
    """``async with semaphore.acquire()``, and ``await semaphore.acquire()``."""

    __slots__ = ("_permits", "_timeout")

    _of: PermitState
    _permits: int
    _timeout: float | None

    @property
    def _what(self) -> str:  # type: ignore[override]  # said where somebody asks
        too_many = self._permits > self._of._total
        return (
            f"acquire({self._permits}), more than all {self._of._total}," if too_many else f"acquire({self._permits})"
        )

    def _now(self) -> Permit | None:
        semaphore = self._of
        if self._permits != 1 or not semaphore._tokens or thread_local.name is not None:
            return None
        try:
            task = backends.hint()
        except RuntimeError:  # not asyncio
            return None
        return None if task is None else semaphore._take_free()

    def _later(self) -> Coroutine[Any, Any, Permit]:
        return _wait(self._of, self._permits, deadline_of(self._timeout))

    @uninterrupted
    async def __aenter__(self) -> Permit:
        if self._take is None:
            self._use()
        self._take = None
        permit = self._now()
        if permit is None:
            permit = await self._later()
        self._guard = permit
        permit._parts = NO_PARTS
        return permit

    @uninterrupted
    async def __aexit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:
        permit: Any = self._guard
        if permit._parts:
            permit._leave_block()
        else:
            permit._let_go()


@uninterrupted
async def _wait(semaphore: PermitState, permits: int, deadline: Deadline | None) -> Permit:
    ticket = await semaphore._acquire(permits, tracked=False, deadline=deadline)
    try:
        return semaphore._permit_of(ticket)
    except BaseException:
        semaphore._give(semaphore._withdraw, ticket)
        raise


def permit_block(semaphore: PermitState, permits: int, timeout: float | None) -> PermitBlock:
    """A new one.

    Raises:
        TypeError: `timeout` is no number.
        ValueError: `timeout` is not a number (NaN).
    """
    if timeout is not None and not timeout >= 0:
        deadline_of(timeout)
    block: PermitBlock = new_object(PermitBlock)
    block._of = semaphore
    block._permits = permits
    block._timeout = timeout
    block._take = unused
    return block
