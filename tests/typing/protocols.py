"""The library's classes have the shapes of `asynclocks.protocols`; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from typing import assert_type

from asynclocks import Mutex, Semaphore, protocols


async def anybodys_mutex_will_do(mutex: protocols.Mutex[int]) -> None:
    async with mutex as guard:
        assert_type(guard, protocols.MutexGuard[int])
        guard.value += 1
    with await mutex.lock() as guard:
        assert_type(guard.map(str), protocols.MappedGuard[str])


async def anybodys_semaphore_will_do(semaphore: protocols.Semaphore) -> None:
    async with semaphore as permit:
        assert_type(permit, protocols.Permit)


async def ours_will_do() -> None:
    await anybodys_mutex_will_do(Mutex(0))
    await anybodys_semaphore_will_do(Semaphore(1))
    await anybodys_mutex_will_do(Mutex("text"))  # pyright: ignore[reportArgumentType]
