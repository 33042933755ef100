"""A signal whose handler raises (Ctrl-C, an alarm), at every instruction of the library, in threads and on asyncio.

Whatever was under way: the internal locks are free, the line is served, other threads and other loops get through.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

import asynclocks
from asynclocks import (
    Barrier,
    ClosedError,
    ConcurrentMap,
    Condvar,
    Event,
    Mutex,
    MutexGuard,
    Notify,
    OnceCell,
    RwLock,
    Semaphore,
)
from tests.native.striking import ExceptionArriving, SignalArriving, Struck

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


def at_every_instruction(
    first: int, scene: Callable[[SignalArriving], None], strike: type[SignalArriving] = SignalArriving
) -> None:
    tracer, handler = sys.gettrace(), signal.getsignal(signal.SIGINT)
    step, left = first - STRIDE, 0
    while left <= 0:  # until everything was done before the signal came
        step += STRIDE
        arriving = strike(step)
        try:
            scene(arriving)
        except BaseException as error:
            error.add_note(f"the signal arrived before instruction {step}; it struck in\n{arriving.where}")
            raise
        finally:  # it may have struck as `arriving` ended
            sys.settrace(tracer)
            signal.signal(signal.SIGINT, handler)
        left = arriving.left
    assert step > STRIDE or asynclocks.compiled  # in C there is nothing between: see test_compiled.py


# Plain threads: what is given back by nobody else is given back by the guard's finalizer, so everything is free.
def lock(mutex: Mutex[int]) -> None:
    with mutex.blocking_lock() as guard:
        guard.value = 1


def acquire_mutex(mutex: Mutex[int]) -> None:
    mutex.blocking_acquire()
    mutex.release()
    mutex.acquire_nowait()
    mutex.take_over().leave_held()  # type: ignore[attr-defined]
    mutex.release()


def lock_and_map(mutex: Mutex[int]) -> None:
    with mutex.try_lock() as guard, guard.map(int):
        pass


def acquire(semaphore: Semaphore) -> None:
    with semaphore.blocking_acquire(2) as permit:
        permit.merge(permit.split(1))


def try_acquire(semaphore: Semaphore) -> None:
    with semaphore.try_acquire():
        pass


def take_and_give(semaphore: Semaphore) -> None:
    semaphore.blocking_take()
    semaphore.try_take()
    semaphore.give()
    semaphore.give()


def resize(semaphore: Semaphore) -> None:
    semaphore.resize(5)
    semaphore.add_permits(1)
    semaphore.forget_permits(3)
    semaphore.resize(1)


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


def set_and_clear(event: Event) -> None:
    event.set()
    event.blocking_wait()
    event.clear()


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


def release_and_take(mutex: Mutex[int]) -> None:
    """`release` gives back what `acquire` took and did not say so."""
    if mutex.locked():
        mutex.release()
    take_mutex(mutex)


def give_and_take(semaphore: Semaphore) -> None:
    """`give` gives back what `take` took and did not say so."""
    semaphore.resize(2)
    while semaphore.available_permits < 2:
        semaphore.give()
    take_semaphore(semaphore)


def take_rwlock(lock: RwLock[int]) -> None:
    lock.blocking_write(WAIT).release()


def take_cell(cell: OnceCell[int]) -> None:
    assert cell.blocking_get_or_init(lambda: 2, WAIT) in {1, 2}


def take_notify(notify: Notify) -> None:
    async def main() -> None:
        notify.notify_one()
        await notify.notified(WAIT)

    asyncio.run(main())


def take_event(event: Event) -> None:
    event.set()
    event.blocking_wait(WAIT)


def take_barrier(barrier: Barrier) -> None:
    assert barrier.waiting == 0

    async def main() -> None:
        await asyncio.gather(*(barrier.wait(WAIT) for _ in range(barrier.parties)))

    asyncio.run(main())


def take_key(shared: ConcurrentMap[str, int]) -> None:
    with shared.blocking_entry("a", WAIT) as entry:
        entry.value = 2


MUTEX: Any = (lambda: Mutex(0), take_mutex)
SEMAPHORE: Any = (lambda: Semaphore(2), take_semaphore)
SPELLED_MUTEX: Any = (lambda: Mutex(0), release_and_take)
SPELLED_SEMAPHORE: Any = (lambda: Semaphore(2), give_and_take)
RWLOCK: Any = (lambda: RwLock(0), take_rwlock)
CELL: Any = (OnceCell, take_cell)
MAP: Any = (ConcurrentMap, take_key)
NOTIFY: Any = (Notify, take_notify)
EVENT: Any = (Event, take_event)
USES: dict[Callable[[Any], None], Any] = {
    lock: MUTEX,
    acquire_mutex: SPELLED_MUTEX,
    lock_and_map: MUTEX,
    acquire: SEMAPHORE,
    try_acquire: SEMAPHORE,
    take_and_give: SPELLED_SEMAPHORE,
    resize: SPELLED_SEMAPHORE,
    write: RWLOCK,
    read: RWLOCK,
    initialize: CELL,
    set_and_take: CELL,
    notify: NOTIFY,
    set_and_clear: EVENT,
    write_items: MAP,
    hold_keys: MAP,
    fly: MAP,
}


@pytest.mark.parametrize("strike", [SignalArriving, ExceptionArriving])
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_a_thread_that_is_interrupted_leaves_everything_free(
    use: Callable[[Any], None], strike: type[SignalArriving], others: ThreadPoolExecutor, first: int
) -> None:
    """Nobody waits for what it had in hand."""
    make, take = USES[use]

    def scene(arriving: SignalArriving) -> None:
        thing = make()
        with suppress(Struck), arriving:
            use(thing)
        gc.collect()  # a permit and what was split off refer to each other
        others.submit(take, thing).result(WAIT)

    at_every_instruction(first, scene, strike)


def waiting(thing: Any) -> int:
    return thing._waiting  # type: ignore[no-any-return]


class Unlocking:
    """What is given back, or told, by a method of the thing itself, in the shape of a guard."""

    def __init__(self, thing: Any, release: Callable[[Any], object], needs_it: Callable[[Any], object]) -> None:
        self.release = partial(release, thing)
        self._needs_it = partial(needs_it, thing)

    @property
    def released(self) -> bool:
        return not self._needs_it()


def acquired(mutex: Mutex[int]) -> Unlocking:
    mutex.acquire_nowait()
    return Unlocking(mutex, Mutex.release, lambda mutex: mutex._spelled)


def taken(semaphore: Semaphore) -> Unlocking:
    semaphore.try_take()
    return Unlocking(semaphore, Semaphore.give, lambda semaphore: semaphore.statistics().waiting == 2)


def await_notification(notify: Notify) -> None:
    async def main() -> None:
        await notify.notified(WAIT)

    asyncio.run(main())


def take_of_closed(semaphore: Semaphore) -> None:
    with pytest.raises(ClosedError):
        semaphore.blocking_take(WAIT)


def take_one(semaphore: Semaphore) -> None:
    semaphore.blocking_take(WAIT)
    semaphore.give()


HOLDS: dict[str, Any] = {
    "mutex": (lambda: Mutex(0), lambda mutex: mutex.try_lock(), take_mutex),
    "semaphore": (lambda: Semaphore(2), lambda semaphore: semaphore.try_acquire(2), take_semaphore),
    "writer": (lambda: RwLock(0), lambda lock: lock.try_write(), take_rwlock),
    "reader": (lambda: RwLock(0), lambda lock: lock.try_read(), take_rwlock),
    "entry": (ConcurrentMap, lambda shared: shared.try_entry("a"), take_key),
    "acquired": (lambda: Mutex(0), acquired, lambda mutex: mutex.blocking_lock(WAIT).release()),
    "taken": (lambda: Semaphore(1), taken, take_one),
}
TELLS: dict[str, Any] = {
    "resize": (
        lambda: Semaphore(0),
        lambda semaphore: Unlocking(semaphore, lambda it: it.resize(1), lambda it: it.total_permits == 0),
        take_one,
    ),
    "close": (
        lambda: Semaphore(0),
        lambda semaphore: Unlocking(semaphore, Semaphore.close, lambda it: not it.closed),
        take_of_closed,
    ),
    "set": (
        Event,
        lambda event: Unlocking(event, Event.set, lambda it: not it.is_set()),
        lambda it: it.blocking_wait(WAIT),
    ),
    "notify": (Notify, lambda notify: Unlocking(notify, Notify.notify_waiters, waiting), await_notification),
}


def in_line(thing: Any, count: int) -> None:
    moment = threading.Event()
    while (thing.statistics().waiting if isinstance(thing, ConcurrentMap) else waiting(thing)) < count:
        moment.wait(0.0001)


@pytest.mark.parametrize("hold", (HOLDS | TELLS).values(), ids=HOLDS | TELLS)
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
    "acquired": (*HOLDS["acquired"], lambda mutex: mutex.blocking_acquire(0.0001)),
    "taken": (*HOLDS["taken"], lambda semaphore: semaphore.blocking_take(0.0001)),
    "set": (*TELLS["set"], lambda event: event.blocking_wait(0.0001)),
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


async def mutex_spelled(mutex: Mutex[int]) -> None:
    await mutex.acquire()
    try:
        await asyncio.sleep(0)
    finally:
        mutex.release()


async def semaphore_block(semaphore: Semaphore) -> None:
    async with semaphore:
        await asyncio.sleep(0)


async def semaphore_permits(semaphore: Semaphore) -> None:
    with await semaphore.acquire(2):
        await asyncio.sleep(0)


async def semaphore_spelled(semaphore: Semaphore) -> None:
    await semaphore.take()
    try:
        await asyncio.sleep(0)
    finally:
        semaphore.give()


async def condvar_rounds(both: Both) -> None:
    async with both.mutex as guard:
        both.condvar.notify_one()
        try:
            with suppress(TimeoutError):
                await both.condvar.wait(guard, 0.001)
        finally:
            assert not guard.released


async def event_waits(event: Event) -> None:
    with suppress(TimeoutError):
        await event.wait(0.001)
    event.set()
    await event.wait()
    event.clear()


async def notify_waits(notify: Notify) -> None:
    enabled = notify.notified()
    enabled.enable()
    notify.notify_one()
    with suppress(TimeoutError):
        await notify.notified(0.001)
    notify.notify_waiters()
    await enabled


async def barrier_waits(barrier: Barrier) -> None:
    with suppress(TimeoutError):
        await barrier.wait(0.01)


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


async def ref_block(shared: ConcurrentMap[str, int]) -> None:
    shared.setdefault("a", 1)
    async with shared.ref("a"):
        await asyncio.sleep(0)


async def flight(shared: ConcurrentMap[str, int]) -> None:
    async def init() -> int:
        await asyncio.sleep(0)
        return 1

    await shared.get_or_insert_with("a", init)


def released(mutex: Mutex[int]) -> bool:
    """Who was interrupted before its `release` began has still to do it."""
    if mutex._spelled:
        mutex.release()
    return False


def let_go_of(both: Both) -> bool:
    """The end of the block that was interrupted never began. Who waits for a condvar ends when the mutex is theirs."""
    held = both.mutex._held
    if isinstance(held, MutexGuard):
        held.release()
    return False


class Both:
    """A mutex and its condvar."""

    def __init__(self) -> None:
        self.mutex, self.condvar = Mutex(0), Condvar()


def take_both(both: Both) -> None:
    assert both.condvar.statistics().waiting == 0
    take_mutex(both.mutex)


COROUTINES: dict[Callable[[Any], Awaitable[None]], Any] = {
    mutex_block: (*MUTEX, lambda mutex: "held" in repr(mutex)),
    mutex_guard: (*MUTEX, lambda _: False),
    mutex_spelled: (*SPELLED_MUTEX, released),
    semaphore_block: (*SEMAPHORE, lambda semaphore: semaphore.available_permits < 2),
    semaphore_permits: (*SEMAPHORE, lambda _: False),
    semaphore_spelled: (*SPELLED_SEMAPHORE, lambda _: False),
    condvar_rounds: (Both, take_both, let_go_of),
    event_waits: (*EVENT, lambda _: False),
    notify_waits: (*NOTIFY, lambda _: False),
    barrier_waits: (lambda: Barrier(2), take_barrier, lambda _: False),
    rwlock_blocks: (*RWLOCK, lambda _: False),
    cell_init: (*CELL, lambda _: False),
    key_block: (*MAP, lambda shared: shared.statistics().locked_keys == 1),
    ref_block: (*MAP, lambda shared: shared.statistics().locked_keys == 1),
    flight: (*MAP, lambda _: False),
}


RUNS: dict[str, Any] = {"asyncio": asyncio.run}
if find_spec("uvloop"):
    RUNS["uvloop"] = lambda coroutine: import_module("uvloop").run(coroutine)


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 11), reason="3.11 crashes now and then where tracing ends inside of asyncio's functions"
)
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("work", COROUTINES, ids=lambda work: work.__name__)
def test_a_task_that_is_interrupted_holds_nobody_up(
    work: Callable[[Any], Awaitable[None]], run: Callable[[Any], None], others: ThreadPoolExecutor, first: int
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

        run(main())
        if not held[0]:
            others.submit(take, thing).result(WAIT)

    at_every_instruction(first, scene)
