"""A signal whose handler raises (Ctrl-C, an alarm), at every instruction of the library, in threads and on asyncio.

Whatever was under way: the internal locks are free, the line is served, other threads and other loops get through.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from asynclocks import ConcurrentMap, Condvar, Mutex, Notify, OnceCell, RwLock, Semaphore
from tests.native.striking import SignalArriving, Struck

WAIT = 10  # s, for what must come
STRIDE = 16

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # what an interrupted thread had in hand is dropped, and says so
    # Every instruction in the slow menu, every sixteenth in the others.
    pytest.mark.parametrize("first", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, STRIDE + 1))]),
]


@pytest.fixture(scope="module")
def others() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def at_every_instruction(first: int, scene: Callable[[SignalArriving], None]) -> None:
    step, left = first - STRIDE, 0
    while left <= 0:  # until everything was done before the signal came
        step += STRIDE
        arriving = SignalArriving(step)
        try:
            scene(arriving)
        except BaseException as error:
            error.add_note(f"the signal arrived before instruction {step}; it struck in\n{arriving.where}")
            raise
        left = arriving.left
    assert step > STRIDE


# Plain threads: what is given back by nobody else is given back by the guard's finalizer, so everything is free.
def lock(mutex: Mutex[int]) -> None:
    with mutex.blocking_lock() as guard:
        guard.value = 1


def lock_and_map(mutex: Mutex[int]) -> None:
    with mutex.try_lock() as guard, guard.map(int):
        pass


def acquire(semaphore: Semaphore) -> None:
    with semaphore.blocking_acquire(2) as permit:
        permit.merge(permit.split(1))


def try_acquire(semaphore: Semaphore) -> None:
    with semaphore.try_acquire():
        pass


def write(lock: RwLock[int]) -> None:
    with lock.blocking_write() as writing, writing.downgrade_to_upgradable() as reading, reading.try_upgrade() as again:
        again.value = 1


def read(lock: RwLock[int]) -> None:
    with lock.blocking_read(), lock.try_upgradable_read() as reading:
        reading.downgrade().map(int)


def initialize(cell: OnceCell[int]) -> None:
    cell.blocking_get_or_init(lambda: 1)


def set_and_take(cell: OnceCell[int]) -> None:
    cell.set(1)
    cell.take()


def notify(notify: Notify) -> None:
    notify.notify_one()
    notify.notify_waiters()
    notify.notify_last()


def write_items(shared: ConcurrentMap[str, int]) -> None:
    shared["a"] = 1
    shared.alter("a", abs)
    shared.pop("a")


def hold_keys(shared: ConcurrentMap[str, int]) -> None:
    with shared.blocking_entry("a") as entry:
        entry.value = 1
    with shared.try_ref("a"):
        pass


def fly(shared: ConcurrentMap[str, int]) -> None:
    shared.blocking_get_or_insert_with("a", lambda: 1)


def take_mutex(mutex: Mutex[int]) -> None:
    mutex.blocking_lock(WAIT).release()


def take_semaphore(semaphore: Semaphore) -> None:
    semaphore.blocking_acquire(2, WAIT).release()


def take_rwlock(lock: RwLock[int]) -> None:
    lock.blocking_write(WAIT).release()


def take_cell(cell: OnceCell[int]) -> None:
    assert cell.blocking_get_or_init(lambda: 2, WAIT) in {1, 2}


def take_notify(notify: Notify) -> None:
    async def main() -> None:
        notify.notify_one()
        async with asyncio.timeout(WAIT):
            await notify.notified()

    asyncio.run(main())


def take_key(shared: ConcurrentMap[str, int]) -> None:
    with shared.blocking_entry("a", WAIT) as entry:
        entry.value = 2


MUTEX: Any = (lambda: Mutex(0), take_mutex)
SEMAPHORE: Any = (lambda: Semaphore(2), take_semaphore)
RWLOCK: Any = (lambda: RwLock(0), take_rwlock)
CELL: Any = (OnceCell, take_cell)
MAP: Any = (ConcurrentMap, take_key)
USES: dict[Callable[[Any], None], Any] = {
    lock: MUTEX,
    lock_and_map: MUTEX,
    acquire: SEMAPHORE,
    try_acquire: SEMAPHORE,
    write: RWLOCK,
    read: RWLOCK,
    initialize: CELL,
    set_and_take: CELL,
    notify: (Notify, take_notify),
    write_items: MAP,
    hold_keys: MAP,
    fly: MAP,
}


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_a_thread_that_is_interrupted_leaves_everything_free(
    use: Callable[[Any], None], others: ThreadPoolExecutor, first: int
) -> None:
    """Nobody waits for what it had in hand."""
    make, take = USES[use]

    def scene(arriving: SignalArriving) -> None:
        thing = make()
        with suppress(Struck), arriving:
            use(thing)
        gc.collect()  # a permit and what was split off refer to each other
        others.submit(take, thing).result(WAIT)

    at_every_instruction(first, scene)


def waiting(thing: Any) -> int:
    return thing._waiting  # type: ignore[no-any-return]


HOLDS: dict[str, Any] = {
    "mutex": (lambda: Mutex(0), lambda mutex: mutex.try_lock(), take_mutex),
    "semaphore": (lambda: Semaphore(2), lambda semaphore: semaphore.try_acquire(2), take_semaphore),
    "writer": (lambda: RwLock(0), lambda lock: lock.try_write(), take_rwlock),
    "reader": (lambda: RwLock(0), lambda lock: lock.try_read(), take_rwlock),
    "entry": (ConcurrentMap, lambda shared: shared.try_entry("a"), take_key),
}


def in_line(thing: Any, count: int) -> None:
    moment = threading.Event()
    while (thing.statistics().waiting if isinstance(thing, ConcurrentMap) else waiting(thing)) < count:
        moment.wait(0.0001)


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
def test_a_thread_that_is_interrupted_as_it_releases_wakes_who_waits(
    hold: Any, others: ThreadPoolExecutor, first: int
) -> None:
    """Nobody who was granted something sleeps on, and nobody stays in a line that nobody holds up."""
    make, take_now, take = hold

    def scene(arriving: SignalArriving) -> None:
        thing = make()
        guard = take_now(thing)
        waiters: list[Future[None]] = [others.submit(take, thing) for _ in range(2)]
        in_line(thing, 2)
        with suppress(Struck), arriving:
            guard.release()
        if not guard.released:
            guard.release()
        for waiter in waiters:
            waiter.result(WAIT)

    at_every_instruction(first, scene)


GIVING_UP: dict[str, Any] = {
    "mutex": (*HOLDS["mutex"], lambda mutex: mutex.blocking_lock(0.0001)),
    "semaphore": (*HOLDS["semaphore"], lambda semaphore: semaphore.blocking_acquire(2, 0.0001)),
    "rwlock": (*HOLDS["writer"], lambda lock: lock.blocking_write(0.0001)),
    "entry": (*HOLDS["entry"], lambda shared: shared.blocking_entry("a", 0.0001)),
    "flight": (*HOLDS["entry"], lambda shared: shared.blocking_get_or_insert_with("a", lambda: 1, 0.0001)),
}


@pytest.mark.parametrize("hold", GIVING_UP.values(), ids=GIVING_UP)
def test_a_thread_that_is_interrupted_as_it_waits_leaves_the_line(
    hold: Any, others: ThreadPoolExecutor, first: int
) -> None:
    """Whoever comes after it is not held up."""
    make, take_now, take, wait = hold

    def scene(arriving: SignalArriving) -> None:
        thing = make()
        guard = take_now(thing)
        with suppress(Struck, TimeoutError), arriving:
            wait(thing)
        guard.release()
        others.submit(take, thing).result(WAIT)

    at_every_instruction(first, scene)


def test_a_thread_that_is_interrupted_in_a_condvar_s_wait_has_the_mutex_or_nothing(
    others: ThreadPoolExecutor, first: int
) -> None:
    """It raises with the mutex held, so that the end of its block releases it."""

    def scene(arriving: SignalArriving) -> None:
        mutex, condvar = Mutex(0), Condvar()
        guard = mutex.try_lock()
        with suppress(Struck, TimeoutError), arriving:
            condvar.blocking_wait(guard, 0.0001)
        assert not guard.released
        guard.release()
        assert condvar.statistics().waiting == 0
        others.submit(take_mutex, mutex).result(WAIT)

    at_every_instruction(first, scene)


@pytest.mark.parametrize("tell", [Condvar.notify_one, Condvar.notify_all], ids=["one", "all"])
def test_a_thread_that_is_interrupted_as_it_notifies_loses_nobody(
    tell: Callable[[Condvar], object], others: ThreadPoolExecutor, first: int
) -> None:
    """Whoever waits is notified now, or by the next notification."""

    def scene(arriving: SignalArriving) -> None:
        mutex, condvar = Mutex(0), Condvar()

        def wait() -> None:
            with mutex.blocking_lock(WAIT) as guard:
                condvar.blocking_wait(guard, WAIT)

        waiters = [others.submit(wait) for _ in range(2)]
        in_line(condvar, 2)
        with suppress(Struck), arriving:
            tell(condvar)
        condvar.notify_all()
        for waiter in waiters:
            waiter.result(WAIT)

    at_every_instruction(first, scene)


# asyncio: a block's guard has no finalizer; where its exit never began, the lock stays held, and says so.
async def mutex_block(mutex: Mutex[int]) -> None:
    async with mutex:
        await asyncio.sleep(0)


async def mutex_guard(mutex: Mutex[int]) -> None:
    with await mutex.lock():
        await asyncio.sleep(0)


async def semaphore_block(semaphore: Semaphore) -> None:
    async with semaphore:
        await asyncio.sleep(0)


async def semaphore_permits(semaphore: Semaphore) -> None:
    with await semaphore.acquire(2):
        await asyncio.sleep(0)


async def rwlock_blocks(lock: RwLock[int]) -> None:
    async with lock.read():
        await asyncio.sleep(0)
    async with lock.upgradable_read() as reading, reading.upgrade():
        await asyncio.sleep(0)


async def cell_init(cell: OnceCell[int]) -> None:
    async def init() -> int:
        await asyncio.sleep(0)
        return 1

    await cell.get_or_init(init)


async def key_block(shared: ConcurrentMap[str, int]) -> None:
    async with shared.entry("a") as entry:
        await asyncio.sleep(0)
        entry.value = 1


async def flight(shared: ConcurrentMap[str, int]) -> None:
    async def init() -> int:
        await asyncio.sleep(0)
        return 1

    await shared.get_or_insert_with("a", init)


COROUTINES: dict[Callable[[Any], Awaitable[None]], Any] = {
    mutex_block: (*MUTEX, lambda mutex: "held" in repr(mutex)),
    mutex_guard: (*MUTEX, lambda _: False),
    semaphore_block: (*SEMAPHORE, lambda semaphore: semaphore.available_permits < 2),
    semaphore_permits: (*SEMAPHORE, lambda _: False),
    rwlock_blocks: (*RWLOCK, lambda _: False),
    cell_init: (*CELL, lambda _: False),
    key_block: (*MAP, lambda shared: shared.statistics().locked_keys == 1),
    flight: (*MAP, lambda _: False),
}


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 11), reason="3.11 crashes now and then where tracing ends inside of asyncio's functions"
)
@pytest.mark.parametrize("work", COROUTINES, ids=lambda work: work.__name__)
def test_a_task_that_is_interrupted_holds_nobody_up(
    work: Callable[[Any], Awaitable[None]], others: ThreadPoolExecutor, first: int
) -> None:
    """The task behind it comes in, and another thread; or the lock says that it is held."""
    make, take, stays_held = COROUTINES[work]

    def scene(arriving: SignalArriving) -> None:
        thing = make()
        held: list[bool] = []

        async def main() -> None:
            async def interrupted() -> None:
                with suppress(Struck):
                    await work(thing)

            tasks = [asyncio.ensure_future(interrupted()) for _ in range(3)]
            with arriving:
                _, asleep = await asyncio.wait(tasks, timeout=0.05)
            if asleep:  # perhaps only because the machine is busy
                await asyncio.wait(tasks, timeout=0.3)
            held.append(stays_held(thing))
            if not held[0]:
                _, asleep = await asyncio.wait(tasks, timeout=WAIT)
                assert not asleep

        asyncio.run(main())
        if not held[0]:
            others.submit(take, thing).result(WAIT)

    at_every_instruction(first, scene)
