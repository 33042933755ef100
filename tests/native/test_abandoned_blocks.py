"""The collector ends the blocks of abandoned tasks, in the middle of anybody's step: nobody else notices.

An exit of ``async with mutex`` and ``async with semaphore`` does not say whose it is.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest

from asynclocks import (
    ConcurrentMap,
    Condvar,
    Mutex,
    OnceCell,
    RwLock,
    Semaphore,
    TryLockError,
    UpgradableReadGuard,
)
from asynclocks.backends.asyncio import AsyncioBackend
from tests.native.abandoned import leave_pending, passes, pending, with_loop
from tests.native.striking import Striking
from tests.native.threaded import WAIT, wait_until
from tests.support import collect, no_collector

Block = Callable[[Any], Any]


class Wrapper:
    """Somebody's own class around a lock: the frames that enter and exit are the wrapper's."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    async def __aenter__(self) -> Any:
        return await self._lock.__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        await self._lock.__aexit__(*exc)


@asynccontextmanager
async def generated(lock: Any) -> AsyncIterator[Any]:
    async with lock as guard:
        yield guard


@asynccontextmanager
async def stacked(lock: Any) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(lock)


BLOCKS: dict[str, Block] = {"plain": lambda lock: lock, "wrapper": Wrapper, "generated": generated, "stacked": stacked}
every_block = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)


async def sleeps(_: object) -> None:
    await asyncio.sleep(60)


async def sleeps_in_a_coroutine(_: object) -> None:
    await sleeps(_)


async def sleeps_in_an_async_generator(_: object) -> None:
    async def generate() -> AsyncIterator[int]:
        await asyncio.sleep(60)
        yield 1

    async for _ in generate():
        pass


class Sleep:
    """An awaitable whose `__await__` is a coroutine's."""

    def __await__(self) -> Any:
        return asyncio.sleep(60).__await__()


async def sleeps_in_an_awaitable(_: object) -> None:
    await Sleep()


async def sleeps_in_a_lock_s_line(held: Mutex[None]) -> None:
    async with held.lock():
        pass


SLEEPS = [
    *(sleeps, sleeps_in_a_coroutine, sleeps_in_an_async_generator, sleeps_in_an_awaitable),
    sleeps_in_a_lock_s_line,
]
however = pytest.mark.parametrize("sleep", SLEEPS, ids=lambda sleep: sleep.__name__)


def abandon(lock: Any, block: Block, sleep: Callable[[Any], Awaitable[None]], *, early: bool) -> Any:
    """Leave behind a task in its block, of a loop that is closed; let go early or not. What keeps it asleep."""
    held: Mutex[None] = Mutex()
    guard = held.try_lock()

    async def stay() -> None:
        async with block(lock) as its:
            me = asyncio.current_task()
            if early:
                its.release()
            await sleep(held)
            assert me is not None

    with no_collector():
        leave_pending(stay)
    return guard


# closed loop: A released early, its block never left       B: in its block
# A's coroutine is collected: its exit runs inside B's step
#                                                            holds still
@every_block
@however
def test_a_mutex_s_holder_keeps_it_when_a_block_that_let_go_early_is_collected(
    block: Block, sleep: Callable[[Any], Awaitable[None]], abandoning: None
) -> None:
    mutex = Mutex()

    async def main() -> None:
        async with block(mutex) as guard:
            collect()
            assert mutex.locked()
            assert not guard.released
        assert not mutex.locked()

    keeps = abandon(mutex, block, sleep, early=True)
    asyncio.run(main())
    keeps.release()
    assert mutex._early is None


# thread: B in its block            closed loop: A let go early, its block never left
#                                   another loop's task C collects A's coroutine
# holds still
@every_block
@pytest.mark.parametrize("suspended", [True, False])
def test_a_mutex_s_holder_in_another_thread_keeps_it(block: Block, suspended: bool, abandoning: None) -> None:
    """Asleep in its block, or in the middle of its step."""
    mutex = Mutex()
    entered, may_leave = threading.Event(), threading.Event()

    async def hold() -> None:
        async with block(mutex) as guard:
            entered.set()
            if suspended:
                await asyncio.to_thread(may_leave.wait, WAIT)
            may_leave.wait(WAIT)
            assert not guard.released
            assert mutex.locked()
        assert not mutex.locked()

    keeps = abandon(mutex, block, sleeps, early=True)

    async def main() -> None:
        collect()

    with no_collector():
        thread = threading.Thread(target=asyncio.run, args=[hold()])
        thread.start()
        entered.wait(WAIT)
        asyncio.run(main())
        assert mutex.locked()
    may_leave.set()
    thread.join(WAIT)
    keeps.release()
    assert mutex._early is None


# closed loop: A in its block       B: released early, in its block
# A's coroutine is collected: its exit runs inside B's step
#                                   leaves: nothing left to do
@every_block
@however
def test_an_abandoned_block_lets_go_though_the_running_task_let_go_early(
    block: Block, sleep: Callable[[Any], Awaitable[None]], abandoning: None
) -> None:
    mutex = Mutex()

    async def main() -> None:
        async with block(mutex) as guard:
            guard.release()
            keeps = await asyncio.to_thread(abandon, mutex, block, sleep, early=False)
            collect()
            assert not mutex.locked()
            keeps.release()
            mutex.acquire_nowait()
        assert mutex.locked()
        mutex.release()

    asyncio.run(main())
    assert mutex._early is None


# closed loop: A in its block, its permit released early or not     B: in its block
# A's coroutine is collected: its exit runs inside B's step
#                                                                   has its own permit still
@every_block
@however
@pytest.mark.parametrize("early", [True, False])
def test_a_task_keeps_its_permit_when_an_abandoned_block_is_collected(
    block: Block, sleep: Callable[[Any], Awaitable[None]], early: bool, abandoning: None
) -> None:
    semaphore = Semaphore(3)

    async def main() -> None:
        async with block(semaphore) as permit:
            collect()
            assert permit.count == 1
            assert semaphore.available_permits == 2
            async with block(semaphore) as second:
                assert second.count == 1
        assert semaphore.available_permits == 3

    keeps = abandon(semaphore, block, sleep, early=early)
    asyncio.run(main())
    keeps.release()
    assert not semaphore._entered


# B: in its block, asleep         closed loop: A let go early or not, its block never left
# C collects A's coroutine
# has its own permit still
@every_block
@pytest.mark.parametrize("early", [True, False])
def test_a_sleeping_task_keeps_its_permit(block: Block, early: bool, abandoning: None) -> None:
    """Also where no loop runs."""
    semaphore = Semaphore(2)
    may_leave = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def hold() -> None:
        async with block(semaphore) as permit:
            await may_leave.wait()
            assert permit.count == 1

    async def begin() -> None:
        tasks.append(pending(hold))
        await passes()

    going_on = with_loop(begin, close=False)
    keeps = abandon(semaphore, block, sleeps, early=early)
    collect()
    assert semaphore.available_permits == 1
    may_leave.set()
    going_on.run_until_complete(tasks[0])
    going_on.close()
    keeps.release()
    assert semaphore.available_permits == 2
    assert not semaphore._entered


def test_abandoned_readers_leave_the_others_their_guards(abandoning: None) -> None:
    """Early or not: the block is the guard."""
    lock = RwLock(0)

    async def main() -> None:
        async with lock.read() as guard:
            collect()
            assert lock.statistics().readers == 1
            assert guard.value == 0
        assert lock.statistics().readers == 0

    keeps = [abandon(lock.read(), lambda read: read, sleeps, early=early) for early in (True, False)]
    keeps += [abandon(lock.upgradable_read(), lambda read: read, sleeps, early=True)]
    asyncio.run(main())
    for guard in keeps:
        guard.release()


# closed loop: an upgrade waits, its guard was made before its task
# thread: inside the lock
#         the guard is collected, and then the upgrade's coroutine: both in the middle of the thread's work
#         goes on, and the lock is free
def test_an_abandoned_upgrade_raises_in_nobody_else_s_work(abandoning: None) -> None:
    """At whatever instruction the collector comes."""

    async def upgrade(guard: UpgradableReadGuard[None]) -> None:
        await guard.upgrade()

    step, left = 0, 0
    while left <= 0:
        step += 1
        lock: RwLock[None] = RwLock()
        reading = lock.try_read()
        with no_collector(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            leave_pending(partial(upgrade, lock.try_upgradable_read()))
            striking = Striking(step, collect)
            with striking:
                lock.statistics()
            collect()
        left = striking.left
        assert not lock.statistics().upgradable
        reading.release()
        lock.try_write().release()
    assert step > 10


def test_an_abandoned_writer_that_let_go_early_leaves_the_next_one_its_guard(abandoning: None) -> None:
    lock = RwLock(0)

    async def main() -> None:
        async with lock.write() as guard:
            collect()
            assert not guard.released
            assert lock.statistics().writer
        assert not lock.statistics().writer

    keeps = abandon(lock.write(), lambda write: write, sleeps, early=True)
    asyncio.run(main())
    keeps.release()


def test_an_abandoned_entry_that_let_go_early_leaves_the_next_one_its_key(abandoning: None) -> None:
    entries: ConcurrentMap[str, int] = ConcurrentMap()

    async def main() -> None:
        async with entries.entry("key") as entry:
            collect()
            assert not entry.released
            assert entries.statistics().locked_keys == 1
            entry.value = 1
        assert entries == {"key": 1}

    keeps = abandon(entries.entry("key"), lambda entry: entry, sleeps, early=True)
    asyncio.run(main())
    keeps.release()


def test_an_abandoned_initializer_leaves_the_next_one_alone(abandoning: None) -> None:
    """It was over already: somebody had given its cell a value and taken it out again."""
    cell: OnceCell[int] = OnceCell()
    leave_pending(lambda: cell.get_or_init(lambda: asyncio.sleep(60, 1)))
    collect()

    async def init() -> int:
        collect()
        assert cell.statistics().initializing
        return 2

    assert asyncio.run(cell.get_or_init(init)) == 2


# closed loop: A waits for a notification, its mutex given up        B: in its block
# A's coroutine is collected: the guard of its block is gone
#                                                                    holds still
def test_an_abandoned_wait_for_a_notification_leaves_the_mutex_s_holder_alone(abandoning: None) -> None:
    mutex, condvar = Mutex(), Condvar()

    async def wait() -> None:
        async with mutex as guard:
            me = asyncio.current_task()
            await condvar.wait(guard)
            assert me is not None

    async def main() -> None:
        async with mutex as guard:
            collect()
            assert not guard.released
            assert condvar.statistics().waiting == 0
        assert not mutex.locked()

    with no_collector():
        leave_pending(wait)
    asyncio.run(main())
    assert mutex._early is None


# closed loop: A let go early, its block never left; B in its block
# A's coroutine is collected first
#                                                           B's block ends with the mutex held
@every_block
def test_an_abandoned_block_that_let_go_early_leaves_another_abandoned_one_its_mutex(
    block: Block, abandoning: None
) -> None:
    """Both tasks are gone, and the exit does not say whose it is."""
    mutex = Mutex()
    held: list[bool] = []

    async def release_early() -> None:
        async with block(mutex) as guard:
            guard.release()
            await asyncio.sleep(60)

    async def hold() -> None:
        async with block(mutex):
            try:
                await asyncio.sleep(60)
            finally:
                held.append(mutex.locked())

    with no_collector():
        leave_pending(release_early, hold)
    collect()
    assert held == [True]
    assert not mutex.locked()
    assert mutex._early is None


# A: let go early, asleep in an async generator      B: holds
# another task closes A's generator
#                                                    holds still
@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_a_generator_that_another_task_closes_leaves_the_holder_alone() -> None:
    """Though its block was entered in a task that lives: what let go early ends first."""
    mutex = Mutex()

    async def generate() -> AsyncIterator[int]:
        async with mutex as guard:
            guard.release()
            yield 1

    generator: Any = generate()

    async def begin() -> None:
        await anext(generator)

    living = asyncio.create_task(begin())
    await living
    async with mutex as guard:
        await asyncio.create_task(generator.aclose())
        assert not guard.released
    assert not mutex.locked()
    assert mutex._early is None


def test_a_task_is_being_closed_only_while_it_is(abandoning: None) -> None:
    """Neither one that sleeps nor one that runs is."""
    backend = AsyncioBackend()
    seen: list[bool] = []

    async def sleep() -> None:
        await sleeps_in_an_async_generator(None)

    async def main() -> None:
        task = pending(sleep)
        await passes()
        seen.append(backend.is_being_closed(task))
        seen.append(backend.is_being_closed(asyncio.current_task()))
        task.cancel()
        await asyncio.wait([task])
        seen.append(backend.is_being_closed(task))

    asyncio.run(main())
    assert seen == [False, False, False]


@pytest.mark.parametrize("block", [BLOCKS["plain"], BLOCKS["wrapper"]], ids=["plain", "wrapper"])
@pytest.mark.parametrize("others_wait", [False, True])
def test_a_destroyed_waiter_of_a_condvar_that_is_busy_ends_nobody_else_s_hold(
    block: Block, others_wait: bool, threads: ThreadPoolExecutor
) -> None:
    """Another thread is inside the condvar meanwhile, so that the waiter cannot leave it at once."""
    mutex: Mutex[None] = Mutex()
    condvar = Condvar()

    async def wait() -> None:
        async with block(mutex) as guard:
            await condvar.wait(guard)

    inside, leave = threading.Event(), threading.Event()

    def be_inside() -> None:
        with condvar._lock:
            inside.set()
            leave.wait(WAIT)
        condvar._catch_up()

    with no_collector():
        loop = leave_pending(wait)
        holder = mutex.try_lock()
        other = threads.submit(mutex.blocking_lock) if others_wait else None
        wait_until(lambda: mutex.statistics().waiting == others_wait)
        busy = threads.submit(be_inside)
        inside.wait(WAIT)
        del loop
        collect()
        leave.set()
        busy.result()
    with pytest.raises(TryLockError):
        mutex.try_lock()
    holder.release()
    if other is not None:
        other.result().release()
    mutex.try_lock().release()
    assert condvar.statistics().waiting == 0
