"""disown(): a guard that somebody else will release has no owner, and waiting for its lock is no deadlock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from asynclocks import ConcurrentMap, DeadlockError, GuardReleasedError, Mutex, RwLock, Semaphore
from tests.support import settle, spawn

Take = Callable[[], Awaitable[Any]]


class Kind:
    """One kind of guard: how to take it, and how to wait for what it holds, which nobody else may have then."""

    def __init__(self, name: str) -> None:
        self.mutex, self.lock = Mutex({"part": 1}, name="m"), RwLock(name="r")
        self.map, self.permits = ConcurrentMap({"k": 1}), Semaphore(1, name="s")
        mutex, lock, entry = self.mutex, self.lock, self.map.entry
        takes: dict[str, tuple[Take, Take]] = {
            "lock": (mutex.lock, mutex.lock),
            "try_lock": (self._now(mutex.try_lock), mutex.lock),
            "map": (self._mapped, mutex.lock),
            "async with mutex": (mutex.__aenter__, mutex.lock),
            "read": (lock.read, lock.write),
            "async with read": (lambda: lock.read().__aenter__(), lock.write),
            "write": (lock.write, lock.read),
            "try_write": (self._now(lock.try_write), lock.read),
            "upgradable_read": (lock.upgradable_read, lock.write),
            "upgraded": (self._upgraded, lock.read),
            "downgraded": (self._downgraded, lock.write),
            "acquire": (self.permits.acquire, self.permits.acquire),
            "entry": (lambda: entry("k"), lambda: entry("k")),
            "try_entry": (self._now(lambda: self.map.try_entry("k")), lambda: entry("k")),
            "async with entry": (lambda: entry("k").__aenter__(), lambda: entry("k")),
            "ref": (lambda: self.map.ref("k"), lambda: entry("k")),
        }
        self._take, self.wait = takes[name]

    async def take(self) -> Any:
        return (await self._take()).disown()

    @staticmethod
    def _now(take: Callable[[], Any]) -> Take:
        async def at_once() -> Any:
            return take()

        return at_once

    async def _mapped(self) -> Any:
        return (await self.mutex.lock()).map(lambda value: value["part"])

    async def _upgraded(self) -> Any:
        return await (await self.lock.upgradable_read()).disown().upgrade()

    async def _downgraded(self) -> Any:
        return (await self.lock.write()).disown().downgrade()


KINDS = [
    "lock", "try_lock", "map", "async with mutex", "read", "async with read", "write", "try_write", "upgradable_read",
    "upgraded", "downgraded", "acquire", "entry", "try_entry", "async with entry", "ref",
]  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS)


@asynccontextmanager
async def released_by_another_task(guard: Any) -> AsyncIterator[None]:
    async def release() -> None:
        await settle()
        guard.release()

    async with anyio.create_task_group() as tasks:
        spawn(tasks, release)
        yield


@every_kind
async def test_waiting_for_what_somebody_else_will_release_is_no_deadlock(kind: str) -> None:
    """Another task releases it; who waits then has it."""
    one = Kind(kind)
    guard = await one.take()
    async with released_by_another_task(guard):
        with await one.wait():
            assert guard.released


@every_kind
async def test_a_released_guard_cannot_be_disowned(kind: str) -> None:
    """GuardReleasedError, as for any other use."""
    guard = await Kind(kind).take()
    guard.release()
    with pytest.raises(GuardReleasedError):
        guard.disown()


async def test_a_block_that_was_not_entered_cannot_be_disowned() -> None:
    """It holds nothing yet."""
    blocks: list[Any] = [RwLock().read(), ConcurrentMap({1: 1}).entry(1)]
    for block in blocks:
        with pytest.raises(RuntimeError, match="holds nothing yet"):
            block.disown()
        block.close()


async def test_an_entry_that_met_somebody_can_be_disowned() -> None:
    """Also once a line stands behind it."""
    shared = ConcurrentMap({"k": 1})
    async with anyio.create_task_group() as tasks, shared.entry("k") as entry:
        spawn(tasks, _take_and_release, shared)
        await settle()
        entry.disown()
        spawn(tasks, _release, entry)
        with await shared.entry("k"):
            assert entry.released


async def _take_and_release(shared: ConcurrentMap[str, int]) -> None:
    (await shared.entry("k")).release()


async def _release(guard: Any) -> None:
    guard.release()


async def test_a_disowned_block_of_a_mutex_ends_by_its_own_exit() -> None:
    """Beside an outer block that let go early: the inner exit releases what the inner block holds."""
    mutex = Mutex()
    async with mutex as outer:
        outer.release()
        async with mutex as inner:
            inner.disown().disown()
        assert not mutex.locked()
        async with mutex:
            with pytest.raises(DeadlockError):  # the next hold has an owner again
                await mutex.lock()


async def test_what_acquire_took_is_not_followed() -> None:
    """Anybody may release it, as asyncio.Lock lets them: nobody is told of a deadlock."""
    mutex = Mutex()
    await mutex.acquire()

    async def release() -> None:
        await settle()
        mutex.release()

    async with anyio.create_task_group() as tasks:
        spawn(tasks, release)
        await mutex.acquire()
    with mutex.take_over():  # nor has a guard for it
        async with anyio.create_task_group() as tasks:
            waiting = spawn(tasks, mutex.acquire)
            await settle()
            assert not waiting.done
            waiting.cancel()
