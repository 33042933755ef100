"""What a type checker must see of Mutex; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from typing import Literal, assert_type

from asynclocks import Acquisition, MappedGuard, Mutex, MutexGuard, MutexStatistics, set_deadlock_policy


async def a_mutex_knows_its_value() -> None:
    mutex = Mutex({"a": 1}, name="m")
    assert_type(mutex, Mutex[dict[str, int]])
    async with mutex as guard:
        assert_type(guard, MutexGuard[dict[str, int]])
        assert_type(guard.value, dict[str, int])
        assert_type(guard.mutex, Mutex[dict[str, int]])
        guard.value = {"b": 2}
        guard.value = "no"  # pyright: ignore[reportAttributeAccessIssue]
        part = guard.map(lambda value: value["b"])
        assert_type(part, MappedGuard[int])
        assert_type(part.map(str).value, str)
        part.value = 3  # pyright: ignore[reportAttributeAccessIssue]  # a part is read-only
    assert_type(mutex.into_inner(), dict[str, int])


async def every_way_in_gives_the_same_guard() -> None:
    mutex = Mutex(1)
    assert_type(mutex.lock(), Acquisition[MutexGuard[int]])
    assert_type(await mutex.lock(), MutexGuard[int])
    assert_type(await mutex.lock_owned(), MutexGuard[int])
    assert_type(mutex.try_lock(), MutexGuard[int])
    assert_type(mutex.blocking_lock(timeout=1.5), MutexGuard[int])
    async with mutex.lock() as guard:
        assert_type(guard, MutexGuard[int])
    with await mutex.lock() as guard:
        assert_type(guard, MutexGuard[int])


async def a_mutex_without_a_value_guards_none() -> None:
    mutex = Mutex()
    assert_type(mutex, Mutex[None])
    assert_type(await mutex.acquire(), bool)
    assert_type(mutex.statistics(), MutexStatistics)
    assert_type(mutex.statistics().owner, str | None)
    Mutex(0, "name")  # pyright: ignore[reportCallIssue]  # the name is a keyword


def the_deadlock_policy_is_one_of_three() -> None:
    assert_type(set_deadlock_policy("warn"), Literal["raise", "warn", "off"])
    set_deadlock_policy("ignore")  # pyright: ignore[reportArgumentType]


async def what_acquire_took_has_a_guard_on_request() -> None:
    mutex = Mutex("text")
    assert_type(mutex.blocking_acquire(timeout=1, block_loop=True), None)
    assert_type(mutex.in_use(), bool)
    guard = mutex.take_over()
    assert_type(guard, MutexGuard[str])
    assert_type(guard.leave_held(), None)
