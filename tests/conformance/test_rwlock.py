"""RwLock: who may be in at once, in what order, and how guards turn into each other."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from asynclocks import (
    DeadlockError,
    GuardReleasedError,
    ReadGuard,
    RwLock,
    TryLockError,
    UpgradableReadGuard,
    WriteGuard,
)
from tests.conformance.line import Cancel, Enter, Line, both_cancels
from tests.support import Running, settle, spawn


class Crowd(Line):
    """A line whose tasks are told by their names what to ask for: r… reads, w… writes, u… reads upgradably."""

    def __init__(self, tasks: TaskGroup, lock: RwLock[Any]) -> None:
        super().__init__(tasks, lock.read)
        self._ask: dict[str, Enter] = {"r": lock.read, "w": lock.write, "u": lock.upgradable_read}

    async def add(self, name: str) -> Running[None]:
        await self.join(name, enter=self._ask[name[0]])
        return self[name]

    async def dissolve(self) -> None:
        await self.let_go(*self._leave)


async def test_readers_share_and_a_writer_is_alone() -> None:
    """Readers are in together; the writer waits for all of them, and they for it."""
    lock = RwLock(0)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        for name in ("r1", "r2", "w1", "r3"):
            await crowd.add(name)
        assert crowd.log == ["r1", "r2"]
        await crowd.let_go("r1")
        assert crowd.log == ["r1", "r2"]
        await crowd.let_go("r2")
        assert crowd.log == ["r1", "r2", "w1"]
        await crowd.let_go("w1")
        assert crowd.log == ["r1", "r2", "w1", "r3"]
        await crowd.dissolve()


async def test_a_reader_behind_a_queued_writer_waits_for_it() -> None:
    """The line decides, also for try_read."""
    lock = RwLock(0)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        await crowd.add("r1")
        await crowd.add("w1")
        with pytest.raises(TryLockError):
            lock.try_read()
        await crowd.add("r2")
        assert crowd.log == ["r1"]
        assert (lock.statistics().waiting_readers, lock.statistics().waiting_writers) == (1, 1)
        await crowd.dissolve()


@both_cancels
async def test_a_cancelled_writer_lets_the_readers_behind_it_in(cancel: Cancel) -> None:
    """At once, not with the next release."""
    lock = RwLock(0)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        await crowd.add("r1")
        writer = await crowd.add("w1")
        await crowd.add("r2")
        await crowd.add("r3")
        cancel(writer)
        await settle()
        assert sorted(crowd.log) == ["r1", "r2", "r3"]  # trio shuffles who is woken together
        await crowd.dissolve()


async def test_a_downgrade_lets_in_the_readers_before_the_next_writer_only() -> None:
    """Reader, writer, reader behind a writer that downgrades: the first reader only."""
    lock = RwLock(0)
    guard = await lock.write()
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        for name in ("r1", "w1", "r2"):
            await crowd.add(name)
        reader = guard.downgrade()
        await settle()
        assert crowd.log == ["r1"]
        reader.release()
        await crowd.let_go("r1")
        assert crowd.log == ["r1", "w1"]
        await crowd.dissolve()


async def test_no_more_than_max_readers() -> None:
    """The upgradable reader counts as one of them."""
    lock = RwLock(0, max_readers=2)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        for name in ("u1", "r1", "r2"):
            await crowd.add(name)
        assert crowd.log == ["u1", "r1"]
        with pytest.raises(TryLockError):
            lock.try_read()
        await crowd.let_go("u1")
        assert crowd.log == ["u1", "r1", "r2"]
        await crowd.dissolve()


@pytest.mark.parametrize("most", [0, -1])
def test_no_readers_at_all_make_no_sense(most: int) -> None:
    """max_readers is at least 1."""
    with pytest.raises(ValueError, match="max_readers"):
        RwLock(0, max_readers=most)


async def test_one_upgradable_reader_at_a_time_beside_readers() -> None:
    """A second one waits, readers do not."""
    lock = RwLock(0)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        for name in ("r1", "u1", "r2", "u2"):
            await crowd.add(name)
        assert crowd.log == ["r1", "u1", "r2"]
        statistics = lock.statistics()
        assert (statistics.readers, statistics.upgradable, statistics.waiting_readers) == (2, True, 1)
        await crowd.let_go("u1")
        assert crowd.log[-1] == "u2"
        await crowd.dissolve()


async def test_an_upgrade_waits_for_the_readers_and_goes_before_queued_writers() -> None:
    """And no new reader enters while it waits."""
    lock = RwLock(0)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        await crowd.add("r1")
        guard = await lock.upgradable_read()
        await crowd.add("w1")

        async def upgrade() -> None:
            async with guard.upgrade() as writer:
                crowd.log.append("upgraded")
                writer.value += 1

        upgrading = spawn(tasks, upgrade)
        await settle()
        await crowd.add("r2")
        assert crowd.log == ["r1"]
        assert lock.statistics().waiting_writers == 2
        await crowd.let_go("r1")
        assert upgrading.done
        assert guard.released
        assert crowd.log == ["r1", "upgraded", "w1"]
        await crowd.dissolve()
    assert lock.into_inner() == 1


@both_cancels
async def test_a_cancelled_upgrade_leaves_the_upgradable_guard_held(cancel: Cancel) -> None:
    """And lets those in who waited behind it."""
    lock = RwLock(0)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        await crowd.add("r1")
        guard = await lock.upgradable_read()

        async def upgrade() -> None:
            await guard.upgrade()

        upgrading = spawn(tasks, upgrade)
        await settle()
        await crowd.add("r2")
        cancel(upgrading)
        await settle()
        assert not guard.released
        assert crowd.log == ["r1", "r2"]
        guard.release()
        await crowd.dissolve()
    assert lock.statistics().upgradable is False


@both_cancels
async def test_an_upgrade_granted_and_cancelled_in_one_tick_goes_back_to_the_upgradable_guard(cancel: Cancel) -> None:
    """Or completes (trio), but nothing is lost.

    r1: release → the upgrade is granted
                                          upgrade: cancelled
    """
    lock = RwLock(0)
    reader = await lock.read()
    guard = await lock.upgradable_read()
    got: list[WriteGuard[int]] = []
    async with anyio.create_task_group() as tasks:

        async def upgrade() -> None:
            got.append(await guard.upgrade())

        upgrading = spawn(tasks, upgrade)
        await settle()
        reader.release()
        cancel(upgrading)
    if got:
        assert guard.released
        got[0].release()
    else:
        assert not guard.released
        assert lock.statistics().upgradable
        guard.release()
    lock.try_write().release()


async def test_an_upgradable_guard_cannot_be_used_twice_while_its_upgrade_waits() -> None:
    """A second upgrade, a release, a downgrade: RuntimeError, and the upgrade goes on."""
    lock = RwLock(0)
    reader = await lock.read()
    guard = await lock.upgradable_read()
    async with anyio.create_task_group() as tasks:

        async def upgrade() -> None:
            (await guard.upgrade()).release()

        upgrading = spawn(tasks, upgrade)
        await settle()
        with pytest.raises(RuntimeError, match="upgrade"):
            guard.release()
        with pytest.raises(RuntimeError, match="upgrade"):
            guard.downgrade()
        with pytest.raises(RuntimeError, match="upgrade"):
            guard.try_upgrade()
        with pytest.raises(RuntimeError, match="upgrade"):
            await guard.upgrade()
        reader.release()
        await settle()
        assert upgrading.done
    lock.try_write().release()


async def test_try_upgrade_takes_a_lock_without_readers_now() -> None:
    """With readers the guard stays held."""
    lock = RwLock(0)
    guard = await lock.upgradable_read()
    with lock.try_read(), pytest.raises(TryLockError):
        guard.try_upgrade()
    assert not guard.released
    writer = guard.try_upgrade()
    assert guard.released
    with pytest.raises(GuardReleasedError):
        guard.try_upgrade()
    writer.release()


async def test_a_guard_turned_into_another_is_released_by_its_block() -> None:
    """Up, down, and mapped."""
    lock = RwLock({"a": 1})
    async with lock.upgradable_read() as upgradable:
        writer = await upgradable.upgrade()
        writer.value = {"a": 2}
        again = writer.downgrade_to_upgradable()
        reader = again.downgrade()
        part = reader.map(lambda value: value["a"])
        assert part.value == 2
        assert [guard.released for guard in (upgradable, writer, again, reader)] == [True] * 4
    assert part.released
    lock.try_write().release()
    with await lock.write() as writer:
        reader = writer.downgrade()
    assert reader.released
    lock.try_write().release()


async def test_a_project_that_raises_leaves_the_guard_held() -> None:
    """Map consumes the guard only when it succeeds."""
    lock = RwLock({"a": 1})
    async with lock.read() as guard:
        with pytest.raises(KeyError):
            guard.map(lambda value: value["b"])
        assert not guard.released


async def test_guards_after_their_release() -> None:
    """Nothing works on them but leaving a block."""
    lock = RwLock(0)
    asks: list[Callable[[], Awaitable[ReadGuard[int] | WriteGuard[int] | UpgradableReadGuard[int]]]]
    asks = [lock.read, lock.write, lock.upgradable_read]
    for ask in asks:
        with await ask() as guard:
            guard.release()
            assert guard.released
            with pytest.raises(GuardReleasedError):
                guard.release()
            with pytest.raises(GuardReleasedError):
                _ = guard.value
    writer = lock.try_write()
    writer.release()
    with pytest.raises(GuardReleasedError):
        writer.value = 1
    with pytest.raises(GuardReleasedError):
        writer.downgrade()
    assert lock.into_inner() == 0


async def test_only_the_writer_sets_the_value() -> None:
    """The others' value is read-only."""
    lock = RwLock(0)
    async with lock.write() as writer:
        writer.value = 5
    async with lock.read() as reader:
        assert reader.value == 5
        with pytest.raises(AttributeError):
            reader.value = 6  # type: ignore[misc]


async def test_a_reader_that_wants_to_write_the_same_lock_is_told() -> None:
    """DeadlockError instead of hanging, and the lock goes on working."""
    lock = RwLock(0, name="config")
    async with lock.read():
        with pytest.raises(DeadlockError, match="config"):
            await lock.write()
    async with lock.write():
        for ask in (lock.read, lock.write, lock.upgradable_read):
            with pytest.raises(DeadlockError):
                await ask()
    lock.try_write().release()


async def test_reading_again_behind_a_queued_writer_is_a_deadlock() -> None:
    """The writer waits for the first read, the second read for the writer: one of them is told."""
    lock = RwLock(0)
    async with anyio.create_task_group() as tasks:

        async def write() -> None:
            async with lock.write():
                pass

        async with lock.read():
            writing = spawn(tasks, write)
            await settle()
            with pytest.raises(DeadlockError):
                await lock.read()
        await settle()
        assert writing.done


async def test_waiting_for_one_of_several_readers_to_leave_is_no_deadlock() -> None:
    """max_readers: any of them can end the wait."""
    lock = RwLock(0, max_readers=2)
    other = await lock.read()
    async with anyio.create_task_group() as tasks:

        async def read_twice() -> None:
            async with lock.read(), lock.read():
                pass

        reading = spawn(tasks, read_twice)
        await settle()
        assert not reading.done
        other.release()
        await settle()
        assert reading.done


async def test_write_owned_is_not_followed() -> None:
    """Its guard is meant for another task."""
    lock = RwLock(0)
    guard = await lock.write_owned()
    with anyio.move_on_after(0.01) as scope:
        await lock.read()
    assert scope.cancelled_caught
    guard.release()


@both_cancels
async def test_a_grant_that_crosses_a_cancellation_goes_to_the_next(cancel: Cancel) -> None:
    """The writer is granted and cancelled in one tick; the readers behind it get in."""
    lock = RwLock(0)
    guard = await lock.write()
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        writer = await crowd.add("w1")
        await crowd.add("r1")
        guard.release()
        cancel(writer)
        await settle()
        await crowd.let_go("w1")
        assert "r1" in crowd.log
        await crowd.dissolve()
    lock.try_write().release()


def test_a_dropped_guard_warns_and_releases() -> None:
    """As all loose guards do."""
    lock = RwLock(0)
    for ask in (lock.try_read, lock.try_write, lock.try_upgradable_read):
        with pytest.warns(ResourceWarning, match="dropped unreleased"):
            ask()
    lock.try_write().release()


def test_into_inner_wants_a_lock_that_nobody_has() -> None:
    """It stays usable."""
    lock = RwLock("value")
    with lock.try_read(), pytest.raises(TryLockError):
        lock.into_inner()
    assert lock.into_inner() == "value"


def test_its_repr_says_who_has_it_and_never_the_value() -> None:
    """Secrets may be in the value."""
    lock = RwLock("secret", name="config")
    assert repr(lock) == "<RwLock 'config' free>"
    with lock.try_read(), lock.try_upgradable_read() as guard:
        assert repr(lock) == "<RwLock 'config' 1 reading, 1 reading upgradably>"
        assert repr(guard) == "<UpgradableReadGuard of RwLock 'config'>"
    with lock.try_write() as writer:
        assert repr(lock) == "<RwLock 'config' written>"
    assert repr(writer) == "<WriteGuard of RwLock 'config', released>"
    with pytest.raises(TypeError):
        copy.deepcopy(lock)
