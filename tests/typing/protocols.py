"""The library's classes have the shapes of `asynclocks.protocols`; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from typing import assert_type

from asynclocks import Mutex, OnceCell, RwLock, Semaphore, protocols


async def anybodys_mutex_will_do(mutex: protocols.Mutex[int]) -> None:
    async with mutex as guard:
        assert_type(guard, protocols.MutexGuard[int])
        guard.value += 1
    with await mutex.lock() as guard:
        assert_type(guard.map(str), protocols.MappedGuard[str])


async def anybodys_semaphore_will_do(semaphore: protocols.Semaphore) -> None:
    async with semaphore as permit:
        assert_type(permit, protocols.Permit)


async def anybodys_rwlock_will_do(lock: protocols.RwLock[int]) -> None:
    async with lock.read() as reader:
        assert_type(reader, protocols.ReadGuard[int])
        assert_type(reader.map(str), protocols.MappedGuard[str])
    async with lock.write() as writer:
        assert_type(writer, protocols.WriteGuard[int])
        writer.value += 1
        assert_type(writer.downgrade(), protocols.ReadGuard[int])
    with await lock.upgradable_read() as upgradable:
        assert_type(upgradable, protocols.UpgradableReadGuard[int])
        assert_type(await upgradable.upgrade(), protocols.WriteGuard[int])


async def anybodys_once_cell_will_do(cell: protocols.OnceCell[int]) -> None:
    assert_type(await cell.get_or_init(lambda: 1), int)
    assert_type(cell.get(None), int | None)
    assert_type(await cell.wait(), int)


async def ours_will_do() -> None:
    await anybodys_mutex_will_do(Mutex(0))
    await anybodys_semaphore_will_do(Semaphore(1))
    await anybodys_mutex_will_do(Mutex("text"))  # pyright: ignore[reportArgumentType]
    await anybodys_rwlock_will_do(RwLock(0))
    await anybodys_rwlock_will_do(RwLock("text"))  # pyright: ignore[reportArgumentType]
    await anybodys_once_cell_will_do(OnceCell(0))
    await anybodys_once_cell_will_do(OnceCell("text"))  # pyright: ignore[reportArgumentType]
