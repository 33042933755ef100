"""`timeout` of every method that waits: it bounds the wait for the lock, not the block."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asynclocks import Barrier, ConcurrentMap, Condvar, DeadlockError, Event, Mutex, Notify, OnceCell, RwLock, Semaphore
from tests.conformance.line import Cancel, both_cancels
from tests.support import Running, on_trio, settle, spawn

SOON = 0.005  # seconds
LONG = 1000.0


class Held:
    """Something that is held, and one way to wait for it."""

    wait: Callable[[float | None], Any]  # the guard, or a value
    let_go: Callable[[], object]
    waiting: Callable[[], int]


def held_mutex(way: str) -> Held:
    mutex: Mutex[None] = Mutex()
    guard = mutex.try_lock()
    held = Held()
    held.wait = getattr(mutex, way)
    held.let_go = guard.release
    held.waiting = lambda: mutex.statistics().waiting
    return held


def held_semaphore(permits: int) -> Held:
    semaphore = Semaphore(2)
    permit = semaphore.try_acquire(2)
    held = Held()
    held.wait = lambda timeout: semaphore.acquire(permits, timeout)
    held.let_go = permit.release
    held.waiting = lambda: semaphore.statistics().waiting
    return held


def held_rwlock(way: str) -> Held:
    lock: RwLock[None] = RwLock()
    guard = lock.try_write()
    held = Held()
    held.wait = getattr(lock, way)
    held.let_go = guard.release
    held.waiting = lambda: lock.statistics().waiting_readers + lock.statistics().waiting_writers
    return held


def read_beside_an_upgrade() -> Held:
    lock: RwLock[None] = RwLock()
    reading, upgradable = lock.try_read(), lock.try_upgradable_read()
    held = Held()
    held.wait = upgradable.upgrade
    held.let_go = reading.release
    held.waiting = lambda: lock.statistics().waiting_writers
    return held


def held_key(way: str) -> Held:
    entries: ConcurrentMap[str, int] = ConcurrentMap({"key": 1})
    entry = entries.try_entry("key")
    held = Held()
    held.wait = lambda timeout: getattr(entries, way)("key", timeout)
    held.let_go = entry.release
    held.waiting = lambda: entries.statistics().waiting
    return held


def vacant_key() -> Held:
    entries: ConcurrentMap[str, int] = ConcurrentMap()
    entry = entries.try_entry("key")
    held = Held()
    held.wait = lambda timeout: entries.get_or_insert_with("key", lambda: 1, timeout)
    held.let_go = entry.release
    held.waiting = lambda: entries.statistics().waiting
    return held


def empty_cell() -> Held:
    cell: OnceCell[int] = OnceCell()
    held = Held()
    held.wait = cell.wait
    held.let_go = lambda: cell.set(1)
    held.waiting = lambda: cell.statistics().waiting
    return held


def unset_event() -> Held:
    event = Event()
    held = Held()
    held.wait = event.wait
    held.let_go = event.set
    held.waiting = lambda: event.statistics().waiting
    return held


def notification(*, enabled: bool) -> Held:
    notify = Notify()

    async def wait(timeout: float | None) -> None:
        notified = notify.notified(timeout)
        if enabled:
            notified.enable()
        await notified

    held = Held()
    held.wait = wait
    held.let_go = notify.notify_one
    held.waiting = lambda: notify.statistics().waiting
    return held


WAYS: dict[str, Callable[[], Held]] = {
    **{f"Mutex.{way}": partial(held_mutex, way) for way in ("lock", "lock_owned", "acquire")},
    "Semaphore.acquire": partial(held_semaphore, 1),
    "Semaphore.acquire(2)": partial(held_semaphore, 2),
    **{f"RwLock.{way}": partial(held_rwlock, way) for way in ("read", "write", "write_owned", "upgradable_read")},
    "upgrade": read_beside_an_upgrade,
    **{f"ConcurrentMap.{way}": partial(held_key, way) for way in ("entry", "ref")},
    "ConcurrentMap.get_or_insert_with": vacant_key,
    "OnceCell.wait": empty_cell,
    "Event.wait": unset_event,
    "Notify.notified": partial(notification, enabled=False),
    "Notify.notified, enabled": partial(notification, enabled=True),
}
every_way = pytest.mark.parametrize("make", WAYS.values(), ids=WAYS)


async def use(held: Held, timeout: float | None) -> None:
    got = await held.wait(timeout)
    if hasattr(got, "release"):
        got.release()


async def expire(held: Held, timeout: float) -> None:
    with pytest.raises(TimeoutError):
        await use(held, timeout)


@every_way
async def test_a_wait_whose_time_is_over_raises_and_leaves_the_line(make: Callable[[], Held]) -> None:
    held = make()
    await expire(held, SOON)
    assert held.waiting() == 0
    held.let_go()
    await use(held, LONG)


@pytest.mark.parametrize("make", [make for way, make in WAYS.items() if way != "upgrade"])  # of which one can wait
async def test_who_waits_behind_it_keeps_its_place(make: Callable[[], Held]) -> None:
    held = make()
    async with anyio.create_task_group() as tasks:
        hasty = spawn(tasks, expire, held, SOON * 4)
        await settle()
        patient = spawn(tasks, use, held, None)
        await settle()
        while not hasty.done:  # noqa: ASYNC110  # its time passes on the loop's clock
            await anyio.sleep(SOON)
        assert not patient.done
        assert held.waiting() == 1
        held.let_go()
    assert patient.state == "returned"


@every_way
async def test_a_grant_that_comes_in_time_is_had(make: Callable[[], Held]) -> None:
    held = make()
    async with anyio.create_task_group() as tasks:
        waiting = spawn(tasks, use, held, LONG)
        await settle()
        assert held.waiting() == 1
        held.let_go()
    assert waiting.state == "returned"
    assert held.waiting() == 0


@every_way
@pytest.mark.parametrize("timeout", [0, -1, -0.5, -math.inf])
async def test_zero_or_less_tries_once(make: Callable[[], Held], timeout: float) -> None:
    held = make()
    await expire(held, timeout)
    assert held.waiting() == 0
    held.let_go()
    await use(held, timeout)


@every_way
@pytest.mark.parametrize("timeout", [None, math.inf])
async def test_none_and_infinity_wait_for_ever(make: Callable[[], Held], timeout: float | None) -> None:
    held = make()
    async with anyio.create_task_group() as tasks:
        waiting = spawn(tasks, use, held, timeout)
        await settle()
        held.let_go()
    assert waiting.state == "returned"


@every_way
@both_cancels
async def test_a_wait_with_a_timeout_that_is_cancelled_leaves_the_line(
    make: Callable[[], Held], cancel: Cancel
) -> None:
    held = make()
    async with anyio.create_task_group() as tasks:
        waiting: Running[None] = spawn(tasks, use, held, LONG)
        await settle()
        cancel(waiting)
        await settle()
        assert waiting.cancelled
        assert held.waiting() == 0
    held.let_go()
    await use(held, 0)


@every_way
async def test_what_is_no_timeout_is_refused_at_the_call(make: Callable[[], Held]) -> None:
    held = make()
    with pytest.raises(ValueError, match="NaN"):
        await use(held, math.nan)
    with pytest.raises(TypeError):
        await use(held, "soon")  # type: ignore[arg-type]
    assert held.waiting() == 0
    held.let_go()
    await use(held, LONG)


async def test_the_error_says_what_was_not_granted_and_when() -> None:
    mutex: Mutex[None] = Mutex(name="door")
    with mutex.try_lock():
        with pytest.raises(TimeoutError, match=r"<Mutex 'door' held.*> was not granted within 0\.001 s"):
            await mutex.lock(0.001)
        with pytest.raises(TimeoutError, match=r"<Mutex 'door' held.*> was not granted within 0 s"):
            await mutex.lock(0)


async def test_a_block_may_last_longer_than_the_timeout_of_its_wait() -> None:
    mutex: Mutex[None] = Mutex()
    async with mutex.lock(timeout=SOON):
        await anyio.sleep(SOON * 3)
        assert mutex.locked()
    assert not mutex.locked()


async def test_the_time_counts_from_the_await() -> None:
    mutex: Mutex[None] = Mutex()
    guard = mutex.try_lock()
    async with anyio.create_task_group() as tasks:
        acquisition = mutex.lock(timeout=SOON * 100)
        await anyio.sleep(SOON * 102)
        waiting = spawn(tasks, lambda: acquisition)
        await settle()
        guard.release()
    waiting.result.release()


async def test_an_uncontended_wait_with_a_timeout_does_not_yield_on_asyncio() -> None:
    """On trio it does, as every acquisition."""
    mutex: Mutex[None] = Mutex()
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async with anyio.create_task_group() as tasks:
        spawn(tasks, other)
        before = len(ran)
        for _ in range(3):
            (await mutex.lock(timeout=LONG)).release()
            (await mutex.lock(timeout=0)).release()
        assert (len(ran) > before) == on_trio()


# A: holds `first`, waits for `second` with a timeout      B: holds `second`, waits for `first`
# A's wait ends by itself: no deadlock
async def test_a_wait_with_a_timeout_is_no_part_of_a_deadlock() -> None:
    """Neither does it raise DeadlockError, nor does whoever waits for it."""
    first, second = Mutex(), Mutex()

    async def wait_for_second() -> None:
        async with first:
            with pytest.raises(TimeoutError):
                await second.lock(timeout=SOON * 4)

    async with anyio.create_task_group() as tasks:
        async with second:
            spawn(tasks, wait_for_second)
            await settle()
            async with first:
                pass
        await settle()

    async with first:
        with pytest.raises(TimeoutError):
            await first.lock(timeout=0)
        with pytest.raises(TimeoutError):
            await first.lock(timeout=SOON)
        with pytest.raises(DeadlockError):
            await first.lock()


async def test_an_upgrade_whose_time_is_over_leaves_its_guard_held() -> None:
    lock: RwLock[int] = RwLock(0)
    with lock.try_read():
        async with lock.upgradable_read() as guard:
            with pytest.raises(TimeoutError):
                await guard.upgrade(timeout=SOON)
            assert not guard.released
            assert lock.statistics().upgradable


async def test_the_timeout_does_not_bound_a_caller_s_own_init() -> None:
    cell: OnceCell[int] = OnceCell()
    entries: ConcurrentMap[str, int] = ConcurrentMap()

    async def init() -> int:
        await anyio.sleep(SOON * 2)
        return 1

    assert await cell.get_or_init(init, timeout=SOON) == 1
    assert await entries.get_or_insert_with("key", init, timeout=SOON) == 1


async def test_the_timeout_bounds_the_wait_for_another_s_init() -> None:
    cell: OnceCell[int] = OnceCell()
    entries: ConcurrentMap[str, int] = ConcurrentMap()
    may_end = anyio.Event()

    async def init() -> int:
        await may_end.wait()
        return 1

    async with anyio.create_task_group() as tasks:
        first = spawn(tasks, cell.get_or_init, init)
        second = spawn(tasks, entries.get_or_insert_with, "key", init)
        await settle()
        for timeout in (SOON, 0):
            with pytest.raises(TimeoutError):
                await cell.get_or_init(lambda: 2, timeout)
            with pytest.raises(TimeoutError):
                await cell.wait(timeout)
            with pytest.raises(TimeoutError):
                await entries.get_or_insert_with("key", lambda: 2, timeout)
        may_end.set()
    assert (first.result, second.result) == (1, 1)


async def test_a_barrier_s_party_whose_time_is_over_has_not_arrived() -> None:
    barrier = Barrier(2)
    for timeout in (SOON, 0):
        with pytest.raises(TimeoutError):
            await barrier.wait(timeout)
        assert barrier.waiting == 0
    async with anyio.create_task_group() as tasks:
        first = spawn(tasks, barrier.wait, LONG)
        await settle()
        second = spawn(tasks, barrier.wait, 0)  # it completes the round
    assert [first.result.is_leader, second.result.is_leader] == [False, True]


async def test_a_lone_party_need_not_wait() -> None:
    assert (await Barrier(1).wait(0)).is_leader


@pytest.mark.parametrize("timeout", [SOON, 0])
async def test_a_wait_for_a_notification_whose_time_is_over_holds_the_mutex_again(timeout: float) -> None:
    mutex, condvar = Mutex(), Condvar()
    async with mutex as guard:
        with pytest.raises(TimeoutError, match="no notification came in time; the mutex is held again"):
            await condvar.wait(guard, timeout)
        assert not guard.released
        assert mutex.locked()
        assert condvar.statistics().waiting == 0
    assert not mutex.locked()


async def test_the_timeout_does_not_bound_taking_the_mutex_again() -> None:
    """Neither after a notification, nor without one."""
    mutex, condvar = Mutex(), Condvar()
    time = 0.2  # within which a notification comes on a busy machine as well
    ended: list[str] = []

    async def wait() -> None:
        async with mutex as guard:
            try:
                await condvar.wait(guard, time)
            except TimeoutError:
                ended.append("timeout")
            else:
                ended.append("notified")

    for notify in (False, True):
        async with anyio.create_task_group() as tasks:
            spawn(tasks, wait)
            await settle()
            async with mutex:
                if notify:
                    condvar.notify_one()
                await anyio.sleep(time * 1.5)
                assert len(ended) == notify
    assert ended == ["timeout", "notified"]


async def test_a_notification_that_comes_in_time_ends_the_wait() -> None:
    mutex, condvar = Mutex(), Condvar()

    async def wait() -> None:
        async with mutex as guard:
            await condvar.wait(guard, LONG)

    async with anyio.create_task_group() as tasks:
        waiting = spawn(tasks, wait)
        await settle()
        assert condvar.notify_one()
    assert waiting.state == "returned"


@both_cancels
async def test_a_wait_for_a_notification_with_a_timeout_may_be_cancelled(cancel: Cancel) -> None:
    mutex, condvar = Mutex(), Condvar()

    async def wait() -> None:
        async with mutex as guard:
            try:
                await condvar.wait(guard, LONG)
            finally:
                assert not guard.released

    async with anyio.create_task_group() as tasks:
        waiting = spawn(tasks, wait)
        await settle()
        cancel(waiting)
    assert waiting.cancelled
    assert condvar.statistics().waiting == 0
    assert not mutex.locked()


async def test_wait_while_counts_its_time_over_all_rounds() -> None:
    mutex, condvar = Mutex(0), Condvar()

    async def wait() -> None:
        async with mutex as guard:
            with pytest.raises(TimeoutError):
                await condvar.wait_while(guard, lambda _: True, timeout=SOON * 4)

    async with anyio.create_task_group() as tasks:
        waiting = spawn(tasks, wait)
        await settle()
        rounds = 0
        while not waiting.done:
            condvar.notify_all()
            await anyio.sleep(SOON)
            rounds += 1
            assert rounds < 1000


async def test_wait_while_returns_where_its_condition_came_true_with_the_end_of_its_time() -> None:
    """Nobody notified, and the value is as it should be all the same."""
    mutex, condvar = Mutex(0), Condvar()

    async def wait() -> None:
        async with mutex as guard:
            await condvar.wait_while(guard, lambda value: value == 0, timeout=SOON * 100)  # within which it changes

    async with anyio.create_task_group() as tasks:
        waiting = spawn(tasks, wait)
        await settle()
        async with mutex as guard:
            guard.value = 1
    assert waiting.state == "returned"


async def test_a_thousand_waits_with_timeouts_leave_nothing() -> None:
    mutex: Mutex[None] = Mutex()
    guard = mutex.try_lock()

    async def wait(number: int) -> None:
        with pytest.raises(TimeoutError):
            await mutex.lock(timeout=SOON * (1 + number % 3))

    waits: list[Callable[[int], Awaitable[None]]] = [wait] * 1_000
    async with anyio.create_task_group() as tasks:
        for number, one in enumerate(waits):
            tasks.start_soon(one, number)
    assert mutex.statistics().waiting == 0
    guard.release()
    assert not mutex.locked()
