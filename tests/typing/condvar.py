"""What a type checker must see of Condvar; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from typing import assert_type

from asynclocks import Condvar, CondvarStatistics, Mutex, RwLock


async def a_condvar_waits_with_the_guard_of_a_mutex() -> None:
    condvar = Condvar()
    async with Mutex([1]) as guard:
        assert_type(await condvar.wait(guard), None)
        assert_type(await condvar.wait_while(guard, lambda value: not value), None)
        await condvar.wait_while(guard, lambda value: value)  # pyright: ignore[reportArgumentType]
        await condvar.wait_while(guard, str.isdigit)  # pyright: ignore[reportArgumentType]
        part = guard.map(len)
        await condvar.wait(part)  # pyright: ignore[reportArgumentType]
    async with RwLock([1]).write() as writer:
        await condvar.wait(writer)  # pyright: ignore[reportArgumentType]


def a_condvar_serves_threads() -> None:
    condvar = Condvar()
    with Mutex(0).blocking_lock() as guard:
        assert_type(condvar.blocking_wait(guard), None)
        assert_type(condvar.blocking_wait(guard, timeout=0.5), None)
        assert_type(condvar.blocking_wait_while(guard, lambda value: value < 1, timeout=0.5), None)
        condvar.blocking_wait_while(guard, str.isdigit)  # pyright: ignore[reportArgumentType]
    assert_type(condvar.notify_one(), bool)
    assert_type(condvar.notify_all(), int)
    assert_type(condvar.statistics(), CondvarStatistics)
    assert_type(condvar.statistics().waiting, int)
    Condvar(Mutex())  # pyright: ignore[reportCallIssue]  # the guard tells which mutex
