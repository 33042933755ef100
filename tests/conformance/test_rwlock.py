"""RwLock: who may be in at once, in what order, and how guards turn into each other."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from asynclocks import (
    DeadlockError,
    GuardReleasedError,
    Mutex,
    ReadGuard,
    RwLock,
    TryLockError,
    UpgradableReadGuard,
    WriteGuard,
)
from tests.conformance.line import Cancel, Enter, Line, both_cancels
from tests.support import Running, collect, settle, spawn


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


async def test_a_guard_narrowed_to_a_part_holds_the_lock_as_before() -> None:
    """A reader's beside readers, a writer's alone; the block releases it."""
    lock = RwLock({"a": 1})
    async with lock.read() as reader:
        assert reader.map(lambda value: value["a"]).value == 1
        with pytest.raises(TryLockError):
            lock.try_write()
        lock.try_read().release()
    with await lock.read() as reader:
        assert reader.map(lambda value: value["a"]).map(str).value == "1"
        with pytest.raises(TryLockError):
            lock.try_write()
    async with lock.write() as writer:
        part = writer.map(lambda value: value["a"]).map(str)
        assert part.value == "1"
        with pytest.raises(TryLockError):
            lock.try_read()
    assert part.released
    lock.try_write().release()


async def test_in_a_block_a_guard_holds_though_nobody_keeps_what_it_was_turned_into() -> None:
    """Down, up, and down again; the end of the block releases it."""
    lock = RwLock(0)
    asks: list[Callable[[], Any]] = [lock.upgradable_read, lock.write]
    for ask in asks:
        async with ask() as guard:
            guard.downgrade()
            collect()
            assert lock.statistics().readers == 1
        with await ask() as guard:
            guard.downgrade()
            collect()
            assert lock.statistics().readers == 1
        assert lock.statistics().readers == 0
    async with lock.upgradable_read() as upgradable:
        (await upgradable.upgrade()).downgrade_to_upgradable().try_upgrade()
        collect()
        assert lock.statistics().writer
    assert lock.into_inner() == 0


async def test_a_block_that_changes_its_guard_again_and_again_keeps_the_last_only() -> None:
    """However long it runs; and its exit releases that one."""
    lock = RwLock(0)
    async with lock.upgradable_read() as guard:
        reading: UpgradableReadGuard[int] = guard
        forms: list[weakref.ref[Any]] = []
        for _ in range(5):
            writing = await reading.upgrade()
            writing.value += 1
            reading = writing.downgrade_to_upgradable()
            forms += [weakref.ref(writing), weakref.ref(reading)]
        last = weakref.ref(reading)
        del writing, reading
        assert [form() for form in forms[:-1]] == [None] * 9
        assert not last().released  # type: ignore[union-attr]
    assert lock.into_inner() == 5


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


ASKS = {"read": RwLock.read, "write": RwLock.write, "upgradable": RwLock.upgradable_read}
every_ask = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())


@every_ask
@both_cancels
async def test_whoever_is_cancelled_while_queued_leaves_nothing_behind(
    cancel: Cancel, ask: Callable[[RwLock[int]], Any]
) -> None:
    """Behind a writer, with another one behind: that one gets in."""
    lock = RwLock(0)
    guard = await lock.write()
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        await crowd.join("leaver", enter=lambda: ask(lock))
        await crowd.add("w1")
        cancel(crowd["leaver"])
        await settle()
        statistics = lock.statistics()
        assert (statistics.waiting_readers, statistics.waiting_writers) == (0, 1)
        guard.release()
        await settle()
        assert crowd.log == ["w1"]
        await crowd.dissolve()
    lock.try_write().release()


@every_ask
@both_cancels
async def test_whoever_is_granted_and_cancelled_in_one_tick_lets_the_next_one_in(
    cancel: Cancel, ask: Callable[[RwLock[int]], Any]
) -> None:
    """The grant goes on (asyncio), or is used and given back (trio)."""
    lock = RwLock(0)
    guard = await lock.write()
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        await crowd.join("leaver", enter=lambda: ask(lock))
        await crowd.add("w1")
        crowd.may_leave("leaver")
        guard.release()
        cancel(crowd["leaver"])
        await settle()
        assert crowd.log[-1] == "w1"
        await crowd.dissolve()
    lock.try_write().release()


@both_cancels
async def test_a_cancelled_upgradable_reader_lets_in_the_reader_behind_it(cancel: Cancel) -> None:
    """It waited for the other upgradable reader, which is no reason for a reader to wait."""
    lock = RwLock(0)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        for name in ("u1", "u2", "r1"):
            await crowd.add(name)
        assert crowd.log == ["u1"]
        cancel(crowd["u2"])
        await settle()
        assert crowd.log == ["u1", "r1"]
        await crowd.dissolve()


async def test_max_readers_holds_while_the_lock_changes_hands() -> None:
    """A batch behind a writer is let in as far as it goes, and the rest one by one, in order."""
    lock = RwLock(0, max_readers=2)
    guard = await lock.write()
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        for name in ("r1", "r2", "r3", "r4"):
            await crowd.add(name)
        guard.release()
        await settle()
        assert sorted(crowd.log) == ["r1", "r2"]
        await crowd.let_go("r2")
        assert crowd.log[2:] == ["r3"]
        await crowd.let_go("r1")
        assert crowd.log[3:] == ["r4"]
        await crowd.dissolve()


async def test_a_downgrade_never_exceeds_max_readers() -> None:
    """A writer was alone, and an upgradable reader counted already."""
    lock = RwLock(0, max_readers=1)
    writer = lock.try_write()
    upgradable = writer.downgrade_to_upgradable()
    with pytest.raises(TryLockError):
        lock.try_read()
    reader = upgradable.downgrade()
    with pytest.raises(TryLockError):
        lock.try_read()
    with pytest.raises(TryLockError):
        lock.try_upgradable_read()
    reader.release()
    assert lock.into_inner() == 0


async def test_a_downgrade_to_upgradable_lets_readers_in_and_no_writer() -> None:
    """And a second upgradable reader waits, with the reader behind it."""
    lock = RwLock(0)
    writer = await lock.write()
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        for name in ("r1", "u1", "r2"):
            await crowd.add(name)
        upgradable = writer.downgrade_to_upgradable()
        await settle()
        assert crowd.log == ["r1"]
        upgradable.release()
        await settle()
        assert sorted(crowd.log) == ["r1", "r2", "u1"]
        await crowd.dissolve()


async def test_try_upgrade_goes_before_a_queued_writer() -> None:
    """As upgrade does; the writer has its turn afterwards."""
    lock = RwLock(0)
    guard = await lock.upgradable_read()
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        await crowd.add("w1")
        upgraded = guard.try_upgrade()
        await settle()
        assert crowd.log == []
        upgraded.release()
        await settle()
        assert crowd.log == ["w1"]
        await crowd.dissolve()


async def test_an_upgrade_beside_no_reader_is_granted_at_once_ahead_of_the_line() -> None:
    """And may be downgraded and upgraded again."""
    lock = RwLock(0)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        async with lock.upgradable_read() as guard:
            await crowd.add("w1")
            upgradable: UpgradableReadGuard[int] = guard
            for _ in range(2):
                writer = await upgradable.upgrade()
                writer.value += 1
                upgradable = writer.downgrade_to_upgradable()
            assert crowd.log == []
        await settle()
        assert crowd.log == ["w1"]
        await crowd.dissolve()
    assert lock.into_inner() == 2


async def test_a_block_cannot_end_while_the_upgrade_of_its_guard_waits() -> None:
    """RuntimeError; the upgrade goes on, and what it gives is the lock."""
    lock = RwLock(0)
    reader = await lock.read()
    got: list[WriteGuard[int]] = []
    async with anyio.create_task_group() as tasks:
        with pytest.raises(RuntimeError, match="upgrade"):
            async with lock.upgradable_read() as guard:

                async def upgrade() -> None:
                    got.append(await guard.upgrade())

                spawn(tasks, upgrade)
                await settle()
        reader.release()
        await settle()
    assert guard.released
    assert lock.statistics().writer
    got[0].release()
    lock.try_write().release()


async def test_a_guard_let_go_early_leaves_nothing_to_its_block() -> None:
    """Whoever holds the lock at the block's end keeps it."""
    lock = RwLock(0)
    blocks: list[Callable[[], Any]] = [lock.read, lock.write, lock.upgradable_read, lock.write_owned]
    for enter in blocks:
        async with enter() as guard:
            guard.release()
            with pytest.raises(GuardReleasedError):
                guard.release()
            other = lock.try_write()
        assert not other.released
        other.release()


@every_ask
async def test_an_acquisition_holds_nothing_before_it_is_entered_and_serves_once(
    ask: Callable[[RwLock[int]], Any],
) -> None:
    """It says so; and one that nobody uses warns."""
    lock = RwLock(0, name="config")
    block = ask(lock)
    with pytest.raises(RuntimeError, match="holds nothing yet"):
        block.release()
    with pytest.raises(RuntimeError, match="holds nothing yet"):
        _ = block.value
    assert block.released
    async with block as guard:
        assert guard.value == 0
        with pytest.raises(RuntimeError, match="already"):
            await block
    with pytest.raises(RuntimeError, match="already"):
        async with block:
            pass
    with pytest.warns(RuntimeWarning, match="never awaited"):
        ask(lock)
    assert lock.into_inner() == 0


async def test_an_upgrade_of_a_task_that_also_reads_is_a_deadlock() -> None:
    """It waits for its own read guard; the upgradable guard stays held."""
    lock = RwLock(0)
    async with lock.read(), lock.upgradable_read() as guard:
        with pytest.raises(DeadlockError):
            await guard.upgrade()
        assert not guard.released
    lock.try_write().release()


async def test_the_only_reader_there_may_be_is_an_edge() -> None:
    """With max_readers=1 it is known who has to leave."""
    lock = RwLock(0, max_readers=1)
    async with lock.read():
        with pytest.raises(DeadlockError):
            await lock.read()
        with pytest.raises(DeadlockError):
            await lock.upgradable_read()
    async with lock.upgradable_read():
        with pytest.raises(DeadlockError):
            await lock.read()


async def test_a_second_upgradable_read_is_a_deadlock() -> None:
    """And so is a read behind somebody who wants to be upgradable, though it may be read."""
    lock = RwLock(0)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        async with lock.upgradable_read():
            with pytest.raises(DeadlockError):
                await lock.upgradable_read()
            await crowd.add("u1")
            with pytest.raises(DeadlockError):
                await lock.read()
        await crowd.dissolve()


async def test_who_reads_behind_an_upgradable_reader_waits_for_the_present_one_whoever_comes_after() -> None:
    """With max_readers in, too: any reader that leaves only makes room for who wants to be upgradable."""
    lock, mutex = RwLock(0, max_readers=2), Mutex()
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)

        async def read_with_the_mutex() -> None:
            async with mutex, lock.read():
                pass

        await crowd.add("r1")
        async with lock.upgradable_read():
            await crowd.add("u1")
            spawn(tasks, read_with_the_mutex)
            await settle()
            await crowd.add("r2")
            with pytest.raises(DeadlockError):
                await mutex.lock()
        await crowd.dissolve()


async def test_reading_again_behind_somebodys_write_owned_is_a_deadlock() -> None:
    """Its guard would not be followed, but it still waits for the first read."""
    lock = RwLock(0)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        async with lock.read():
            await crowd.join("w1", enter=lock.write_owned)
            with pytest.raises(DeadlockError):
                await lock.read()
        await crowd.dissolve()


async def test_reading_again_with_max_readers_in_and_a_writer_behind_is_none() -> None:
    """The writer queues after it, so any reader that leaves lets it in."""
    lock = RwLock(0, max_readers=2)
    other = await lock.read()
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        entered = anyio.Event()

        async def read_twice() -> None:
            async with lock.read():
                entered.set()
                await entered.wait()
                async with lock.read():
                    crowd.log.append("twice")

        spawn(tasks, read_twice)
        await settle()
        await crowd.add("w1")
        with pytest.raises(TryLockError):
            lock.try_read()
        other.release()
        await settle()
        assert crowd.log == ["twice", "w1"]
        await crowd.dissolve()


async def test_a_crowd_of_readers_hides_no_deadlock() -> None:
    """One of many readers waits for what the writer holds.

    one reader: holds a read, waits for the other lock
    writer: holds the other lock, waits for all readers
    """
    lock, other = RwLock(0, name="crowded"), RwLock(0, name="other")
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        for name in ("r1", "r2", "r3"):
            await crowd.add(name)

        async def read_both() -> None:
            async with lock.read(), other.read():
                crowd.log.append("both")

        async with other.write():
            reading = spawn(tasks, read_both)
            await settle()
            with pytest.raises(DeadlockError, match=r"crowded.*other"):
                await lock.write()
        await settle()
        assert reading.done
        await crowd.dissolve()


async def test_a_reader_behind_a_writer_is_told_of_its_circle() -> None:
    """It would wait for a reader that waits for it, with a writer in between.

    a: reads `lock`, waits for `other`
    b: holds `other`; a writer queues for `lock`; b reads `lock`
    """
    lock, other = RwLock(0), RwLock(0)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)

        async def read_both() -> None:
            async with lock.read(), other.read():
                crowd.log.append("both")

        async with other.write():
            spawn(tasks, read_both)
            await settle()
            await crowd.add("w1")
            with pytest.raises(DeadlockError):
                await lock.read()
        await settle()
        assert crowd.log == ["both", "w1"]
        await crowd.dissolve()


async def test_each_of_a_long_line_waits_for_its_turn() -> None:
    """What joining it costs is counted in tests/native/test_rwlock_steps.py."""
    lock = RwLock(0)
    done: list[int] = []

    async def read(number: int) -> None:
        async with lock.read():
            done.append(number)

    async def write() -> None:
        async with lock.write():
            pass

    reader = await lock.read()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await settle()
        for number in range(300):
            tasks.start_soon(read, number)
        await settle()
        assert lock.statistics().waiting_readers == 300
        reader.release()
    assert sorted(done) == list(range(300))


async def test_a_block_that_nobody_leaves_warns_and_releases_when_it_is_collected() -> None:
    """An exit stack that is dropped, say."""
    lock = RwLock(0)

    async def enter() -> None:
        await lock.write().__aenter__()

    with pytest.warns(ResourceWarning, match="dropped unreleased"):
        await enter()
    lock.try_write().release()


def test_its_value_is_none_unless_given() -> None:
    """An RwLock may guard something outside of it."""
    assert RwLock().into_inner() is None


async def test_reprs_of_blocks_name_the_guard() -> None:
    """Before, in, and after the block."""
    lock = RwLock("secret", name="config")
    block = lock.upgradable_read()
    assert repr(block) == "<upgradable_read() of RwLock 'config'>"
    async with block as guard:
        assert repr(guard) == "<UpgradableReadGuard of RwLock 'config'>"
    assert repr(guard) == "<UpgradableReadGuard of RwLock 'config', released>"
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, lock)
        await crowd.add("w1")
        await crowd.add("r1")
        assert repr(lock) == "<RwLock 'config' written, 1 waiting>"
        await crowd.dissolve()


def test_a_lock_says_whether_anybody_holds_it() -> None:
    """In any mode."""
    lock = RwLock()
    assert not lock.locked()
    for take in (lock.try_read, lock.try_write, lock.try_upgradable_read):
        with take():
            assert lock.locked()
        assert not lock.locked()
