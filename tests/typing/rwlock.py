"""What a type checker must see of RwLock; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from typing import assert_type

from asynclocks import (
    Acquisition,
    MappedGuard,
    ReadGuard,
    RwLock,
    RwLockStatistics,
    UpgradableReadGuard,
    WriteGuard,
)


async def a_reader_only_reads() -> None:
    lock = RwLock({"a": 1}, max_readers=3, name="l")
    assert_type(lock, RwLock[dict[str, int]])
    assert_type(lock.read(), Acquisition[ReadGuard[dict[str, int]]])
    async with lock.read() as guard:
        assert_type(guard, ReadGuard[dict[str, int]])
        assert_type(guard.value, dict[str, int])
        guard.value = {"b": 2}  # pyright: ignore[reportAttributeAccessIssue]
        part = guard.map(lambda value: value["a"])
        assert_type(part, MappedGuard[int])
    assert_type(lock.into_inner(), dict[str, int])


async def a_writer_writes_and_downgrades() -> None:
    lock = RwLock(1)
    assert_type(lock.write(), Acquisition[WriteGuard[int]])
    async with lock.write() as guard:
        assert_type(guard, WriteGuard[int])
        assert_type(guard.value, int)
        guard.value += 1
        guard.value = "no"  # pyright: ignore[reportAttributeAccessIssue]
        assert_type(guard.map(str), MappedGuard[str])
    with await lock.write_owned() as guard:
        assert_type(guard.downgrade(), ReadGuard[int])
    with lock.try_write() as guard:
        assert_type(guard.downgrade_to_upgradable(), UpgradableReadGuard[int])


async def an_upgradable_reader_becomes_the_writer() -> None:
    lock = RwLock(1)
    assert_type(lock.upgradable_read(), Acquisition[UpgradableReadGuard[int]])
    async with lock.upgradable_read() as guard:
        assert_type(guard, UpgradableReadGuard[int])
        assert_type(guard.value, int)
        guard.value = 2  # pyright: ignore[reportAttributeAccessIssue]
        assert_type(guard.upgrade(), Acquisition[WriteGuard[int]])
        async with guard.upgrade() as writer:
            assert_type(writer, WriteGuard[int])
        assert_type(guard.try_upgrade(), WriteGuard[int])
        assert_type(guard.downgrade(), ReadGuard[int])


async def every_way_in_gives_the_same_guards() -> None:
    lock = RwLock("text")
    assert_type(await lock.read(), ReadGuard[str])
    assert_type(lock.try_read(), ReadGuard[str])
    assert_type(lock.blocking_read(timeout=1.5), ReadGuard[str])
    assert_type(await lock.write(), WriteGuard[str])
    assert_type(lock.try_write(), WriteGuard[str])
    assert_type(lock.blocking_write(), WriteGuard[str])
    assert_type(await lock.upgradable_read(), UpgradableReadGuard[str])
    assert_type(lock.try_upgradable_read(), UpgradableReadGuard[str])
    assert_type(lock.blocking_upgradable_read(0), UpgradableReadGuard[str])


def an_rwlock_without_a_value_guards_none() -> None:
    lock = RwLock(max_readers=2)
    assert_type(lock, RwLock[None])
    assert_type(lock.statistics(), RwLockStatistics)
    assert_type(lock.statistics().writer, bool)
    assert_type(lock.statistics().waiting_readers, int)
    RwLock(0, 2)  # pyright: ignore[reportCallIssue]  # the limit is a keyword


async def an_rwlock_is_entered_as_somebody() -> None:
    async with RwLock(0):  # pyright: ignore[reportGeneralTypeIssues]  # as a reader, or as the writer?
        pass
