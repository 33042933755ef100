"""RwLock: what only threads, and steps without the internal lock, can do to it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio

from asynclocks import DeadlockError, GuardReleasedError, ReadGuard, RwLock, UnsupportedLoopError
from tests.native.threaded import CrowdedLock, wait_until


def test_an_upgrade_waits_for_a_readers_thread(threads: ThreadPoolExecutor) -> None:
    """A task's upgrade is granted when the thread lets go."""
    lock = RwLock(0)
    leave = threading.Event()

    def read() -> None:
        with lock.blocking_read():
            leave.wait(30)

    async def main() -> None:
        reading = threads.submit(read)
        await asyncio.to_thread(wait_until, lambda: lock.statistics().readers == 1)
        async with lock.upgradable_read() as guard:
            upgrading = asyncio.ensure_future(guard.upgrade())
            await asyncio.sleep(0)
            assert not upgrading.done()
            leave.set()
            (await upgrading).value += 1
        reading.result()

    asyncio.run(main())
    assert lock.into_inner() == 1


def test_two_releases_of_one_guard_race_and_one_wins(threads: ThreadPoolExecutor, switching: None) -> None:
    """Whoever comes second is refused, and nobody's hold is released instead."""
    lock = RwLock(0)

    def release(guard: Any, start: threading.Barrier) -> bool:
        start.wait(30)
        try:
            guard.release()
        except RuntimeError:
            return False
        return True

    for take in (lock.try_read, lock.try_write, lock.try_upgradable_read) * 20:
        guard: Any = take()
        start = threading.Barrier(2)
        results = [threads.submit(release, guard, start) for _ in range(2)]
        assert sorted(result.result() for result in results) == [False, True]
        lock.try_write().release()


# task: its upgrade is cancelled              thread: inside the internal lock
#       leaves the withdrawal to the thread
#                                             leaves the lock
#       ends its block                        looks what was left to it
def test_a_block_ends_though_another_thread_has_yet_to_withdraw_its_cancelled_upgrade() -> None:
    """What a task did before comes before what it does now."""
    lock = RwLock(0)

    async def main() -> None:
        with lock.try_read():
            async with lock.upgradable_read() as guard:
                upgrading = asyncio.ensure_future(guard.upgrade())
                await asyncio.sleep(0)
                lock._lock = CrowdedLock()
                upgrading.cancel()
                await asyncio.wait([upgrading])
                assert lock._deferred
            assert lock.statistics().waiting_writers == 0
        lock._lock.leave(lock)

    asyncio.run(main())
    lock.try_write().release()


# task: its upgrade is granted, and cancelled in the same tick      thread: inside the internal lock
#       leaves the way back to the thread, and ends its block
def test_a_block_ends_though_the_grant_of_its_cancelled_upgrade_is_still_on_its_way_back() -> None:
    """Nothing is held afterwards."""
    lock = RwLock(0)

    async def main() -> None:
        reader = lock.try_read()
        async with lock.upgradable_read() as guard:
            upgrading = asyncio.ensure_future(guard.upgrade())
            await asyncio.sleep(0)
            reader.release()
            lock._lock = CrowdedLock()
            upgrading.cancel()
            await asyncio.wait([upgrading])
            assert lock._deferred
        assert guard.released
        lock.try_write().release()

    asyncio.run(main())


# reader: leaves the table            writer: queues, sees the table
#                                     before or after
def test_a_block_that_ends_as_a_writer_arrives_lets_it_in(threads: ThreadPoolExecutor) -> None:
    """The last reader leaves without the internal lock; an arrival between its two steps is not left asleep."""
    lock = RwLock(0)
    arrived: list[Any] = []

    class Table(dict[Any, Any]):
        def __delitem__(self, hold: Any) -> None:
            arrived.append(threads.submit(lock.blocking_write, 30))
            wait_until(lambda: lock.statistics().waiting_writers == 1)
            super().__delitem__(hold)

    async def main() -> None:
        async with lock.read():
            lock._reading = Table(lock._reading)

    asyncio.run(main())
    arrived[0].result().release()


def test_a_cycle_through_the_readers_of_two_loops_is_found(threads: ThreadPoolExecutor) -> None:
    """Exactly one of the two is told.

    asyncio: reads a, waits to write b
    trio:    reads b, waits to write a
    """
    a, b = RwLock(0, name="a"), RwLock(0, name="b")
    start = threading.Barrier(2)
    told: list[DeadlockError] = []

    async def cross(first: RwLock[int], second: RwLock[int]) -> None:
        async with first.read():
            start.wait(30)
            try:
                async with second.write():
                    pass
            except DeadlockError as error:
                told.append(error)

    runs = [threads.submit(asyncio.run, cross(a, b)), threads.submit(trio.run, cross, b, a)]
    for run in runs:
        run.result()
    assert len(told) == 1
    assert len(told[0].cycle) == 2


class NosyLock(RwLock[int]):
    """Somebody does something in the middle of its work."""

    __slots__ = ("interfere",)

    def _admit(self, ticket: Any) -> bool:
        interfere, self.interfere = self.interfere, None
        if interfere is not None:
            interfere()
        return super()._admit(ticket)


def test_a_guard_collected_while_a_block_is_entered_is_released() -> None:
    """It waits for its turn, which is when the block has left the internal lock."""
    lock = NosyLock(0)
    lock.interfere = None
    guards: list[ReadGuard[int]] = [lock.try_read()]
    lock.interfere = guards.clear

    async def main() -> None:
        with pytest.warns(ResourceWarning, match="dropped unreleased"):
            async with lock.upgradable_read():
                assert lock.statistics().readers == 0

    asyncio.run(main())


class CheckingLock(RwLock[int]):
    """Somebody does something in the middle of a change that is refused."""

    __slots__ = ("interfere",)

    def _check_upgrade(self, upgrade: Any) -> None:
        self.interfere()
        super()._check_upgrade(upgrade)


# thread 1: inside the lock      thread 2: a guard is collected
#                                leaves its release there
# is refused what it wants, and releases for thread 2
def test_a_change_that_is_refused_does_what_was_put_off_all_the_same(threads: ThreadPoolExecutor) -> None:
    """Whoever leaves the internal lock looks, however it leaves."""
    lock = CheckingLock(0)
    released = lock.try_upgradable_read()
    released.release()
    guards = [lock.try_read()]
    lock.interfere = lambda: threads.submit(guards.clear).result(30)
    with pytest.warns(ResourceWarning, match="dropped unreleased"), pytest.raises(GuardReleasedError):
        released.try_upgrade()
    assert lock.statistics().readers == 0


def test_a_block_entered_in_the_middle_of_the_locks_own_work_is_refused() -> None:
    """A finalizer that drives a coroutine, say."""
    lock = NosyLock(0)
    refused: list[BaseException] = []

    def enter() -> None:
        with pytest.raises(RuntimeError, match="in the middle") as caught:
            lock.read().__aenter__().send(None)
        refused.append(caught.value)

    async def main() -> None:
        lock.interfere = enter
        async with lock.write():
            pass

    asyncio.run(main())
    assert len(refused) == 1
    lock.interfere = None
    lock.try_write().release()


def test_a_reader_that_leaves_while_the_crowd_is_looked_at_makes_nobody_fail() -> None:
    """Then each one is looked at."""
    lock = RwLock(0)

    class Shrinking(dict[Any, Any]):
        def values(self) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

    async def main() -> None:
        async with lock.read():
            lock._reading = Shrinking(lock._reading)
            with pytest.raises(DeadlockError):
                await lock.write()

    asyncio.run(main())


async def _read(lock: RwLock[int]) -> int:
    with await lock.read() as guard:
        return guard.value


def test_a_free_lock_is_refused_outside_a_loop() -> None:
    """Also where it was asyncio's loop that ran last, and is over."""
    lock = RwLock(1)
    assert asyncio.run(_read(lock)) == 1
    with pytest.raises(UnsupportedLoopError, match="no event loop runs"):
        _read(lock).send(None)
    with lock.try_write():
        pass


def test_a_callback_that_drives_a_coroutine_by_hand_reads() -> None:
    """No task runs there."""
    lock = RwLock(1)
    found: list[object] = []

    async def main() -> None:
        done = asyncio.Event()

        def drive() -> None:
            with pytest.raises(StopIteration) as stopped:
                _read(lock).send(None)
            found.append(stopped.value.value)
            done.set()

        asyncio.get_running_loop().call_soon(drive)
        await asyncio.wait_for(done.wait(), 30)

    asyncio.run(main())
    assert found == [1]
    with lock.try_write():
        pass
