"""The library's classes have the shapes of `asynclocks.protocols`; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from typing import assert_type

from asynclocks import ConcurrentMap, Mutex, OnceCell, RwLock, Semaphore, protocols


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


async def anybodys_map_will_do(m: protocols.ConcurrentMap[str, int]) -> None:
    assert_type(m["a"], int)
    assert_type(m.get("a"), int | None)
    assert_type(m.get("a", "none"), int | str)
    assert_type(m.pop("a"), int)
    assert_type(m.pop("a", None), int | None)
    assert_type(m.remove("a", None), int | None)
    assert_type(m.popitem(), tuple[str, int])
    assert_type(m.setdefault("a", 1), int)
    assert_type(list(m.items()), list[tuple[str, int]])
    m.update({"a": 1})
    m.update([("a", "text")])  # pyright: ignore[reportArgumentType]
    m.alter_all(lambda key, value: value + len(key))
    assert_type(m.view("a", str), str | None)
    async with m.entry("a") as entry:
        assert_type(entry, protocols.Entry[str, int])
        entry.value += 1
        assert_type(entry.and_modify(lambda value: value + 1).get(), int | None)
    with await m.ref("a") as ref:
        assert_type(ref, protocols.Ref[str, int])
    with m.try_entry("a") as entry, m.try_ref("b") as ref:
        assert_type(entry.key, str)
        assert_type(ref.value, int)
    assert_type(m.blocking_entry("a", timeout=1), protocols.Entry[str, int])
    assert_type(await m.get_or_insert_with("a", lambda: 1), int)
    assert_type(m.blocking_get_or_insert_with("a", lambda: 1), int)


async def ours_will_do() -> None:
    await anybodys_map_will_do(ConcurrentMap({"a": 1}))
    await anybodys_map_will_do(ConcurrentMap({"a": "text"}))  # pyright: ignore[reportArgumentType]
    await anybodys_mutex_will_do(Mutex(0))
    await anybodys_semaphore_will_do(Semaphore(1))
    await anybodys_mutex_will_do(Mutex("text"))  # pyright: ignore[reportArgumentType]
    await anybodys_rwlock_will_do(RwLock(0))
    await anybodys_rwlock_will_do(RwLock("text"))  # pyright: ignore[reportArgumentType]
    await anybodys_once_cell_will_do(OnceCell(0))
    await anybodys_once_cell_will_do(OnceCell("text"))  # pyright: ignore[reportArgumentType]
