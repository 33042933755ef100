"""What only asyncio can do to a lock: its own cancel, eager tasks, futures of acquisitions, loops that are closed."""

from __future__ import annotations

import asyncio
import gc
import inspect
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest
import sniffio
import trio
import trio.testing

from asynclocks import (
    ClosedError,
    ConcurrentMap,
    DeadlockError,
    Mutex,
    OnceCell,
    RwLock,
    Semaphore,
    UnsupportedLoopError,
    UpgradableReadGuard,
    set_deadlock_policy,
)
from asynclocks.backends import watch
from asynclocks.backends.asyncio import AsyncioParker
from tests.native.abandoned import leave_pending, passes, with_loop
from tests.native.threaded import CrowdedLock, elsewhere
from tests.support import collect, settle

Primitive = Any  # a Mutex or a Semaphore of one permit


def take_now(primitive: Primitive) -> Any:
    return primitive.try_lock() if isinstance(primitive, Mutex) else primitive.try_acquire()


async def by_block(primitive: Primitive) -> None:
    async with primitive:
        pass


async def by_await(primitive: Primitive) -> None:
    with await (primitive.lock() if isinstance(primitive, Mutex) else primitive.acquire()):
        pass


async def by_acquisition_block(primitive: Primitive) -> None:
    async with primitive.lock() if isinstance(primitive, Mutex) else primitive.acquire():
        pass


async def by_spelling(primitive: Primitive) -> None:
    if isinstance(primitive, Mutex):
        await primitive.acquire()
        primitive.release()
    else:
        await by_await(primitive)


on_asyncio = pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
every_way = pytest.mark.parametrize("work", [by_block, by_await, by_acquisition_block, by_spelling])
both = pytest.mark.parametrize("make", [Mutex, lambda: Semaphore(1)], ids=["mutex", "semaphore"])


def untouched(primitive: Primitive) -> bool:
    return not primitive.locked() and primitive.statistics().waiting == 0


# --- the cancel of asyncio's own tasks


@both
@every_way
@pytest.mark.loops("asyncio", "uvloop")
async def test_cancelled_before_its_first_step_a_task_takes_nothing(
    make: Callable[[], Primitive], work: Callable[[Primitive], Awaitable[None]]
) -> None:
    """It never began."""
    primitive = make()
    task = asyncio.ensure_future(work(primitive))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert untouched(primitive)


# holder                 task: queued
# cancels the task
# cancels the task
#                        raises once
@both
@every_way
@on_asyncio
async def test_cancelled_twice_in_one_tick_a_waiter_leaves_once(
    make: Callable[[], Primitive], work: Callable[[Primitive], Awaitable[None]]
) -> None:
    """A second cancel changes nothing."""
    primitive = make()
    with take_now(primitive):
        task = asyncio.ensure_future(work(primitive))
        await passes()
        assert primitive.statistics().waiting == 1
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert primitive.statistics().waiting == 0
    assert untouched(primitive)


# holder                 task: queued           next: queued
# gives back: task's
# cancels the task
#                        raises: next's
#                                               runs
@both
@every_way
@on_asyncio
async def test_cancelled_in_the_tick_of_its_wake_up_a_waiter_passes_the_grant_on(
    make: Callable[[], Primitive], work: Callable[[Primitive], Awaitable[None]]
) -> None:
    """The future has its result, and the task raises all the same."""
    primitive = make()
    guard = take_now(primitive)
    task, following = asyncio.ensure_future(work(primitive)), None
    await passes()
    following = asyncio.ensure_future(work(primitive))
    await passes()
    guard.release()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(following, 10)
    assert untouched(primitive)


# holder                 task: queued           next: queued
# gives back: task's
# one pass later: the task is due
# cancels the task
#                        raises, or has it
#                                               runs
@both
@every_way
@pytest.mark.parametrize("delay", range(5))
@on_asyncio
async def test_cancelled_at_any_moment_after_its_wake_up_nothing_is_lost(
    make: Callable[[], Primitive], work: Callable[[Primitive], Awaitable[None]], delay: int
) -> None:
    """Any number of passes between the grant and the cancellation."""
    primitive = make()
    guard = take_now(primitive)
    tasks = [asyncio.ensure_future(work(primitive)) for _ in range(3)]
    await passes()
    asyncio.get_running_loop().call_soon(guard.release)
    await passes(delay)
    tasks[0].cancel()
    await asyncio.wait(tasks, timeout=10)
    assert all(task.done() for task in tasks)
    assert not tasks[1].cancelled()
    assert not tasks[2].cancelled()
    assert untouched(primitive)


# holder                 task: queued           next: queued
# cancels the task
# gives back: next's
#                        raises
#                                               runs
@both
@every_way
@on_asyncio
async def test_a_grant_skips_nobody_when_the_cancellation_came_first(
    make: Callable[[], Primitive], work: Callable[[Primitive], Awaitable[None]]
) -> None:
    """The waiter is still in line when it is granted, and passes on what it cannot use."""
    primitive = make()
    guard = take_now(primitive)
    task = asyncio.ensure_future(work(primitive))
    await passes()
    following = asyncio.ensure_future(work(primitive))
    await passes()
    task.cancel()
    guard.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(following, 10)
    assert untouched(primitive)


@both
@on_asyncio
async def test_every_one_of_the_granted_may_be_cancelled(make: Callable[[], Primitive]) -> None:
    """The grant wanders down a line in which everybody is being cancelled, and comes home."""
    primitive = make()
    guard = take_now(primitive)
    tasks = [asyncio.ensure_future(by_block(primitive)) for _ in range(50)]
    await passes()
    guard.release()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=10)
    assert all(task.cancelled() for task in tasks)
    assert untouched(primitive)


@both
@on_asyncio
async def test_a_task_that_swallows_its_cancellation_may_wait_again(make: Callable[[], Primitive]) -> None:
    """At the end of the line."""
    primitive = make()
    log: list[str] = []

    async def stubborn() -> None:
        while True:
            try:
                async with primitive:
                    log.append("stubborn")
                    return
            except asyncio.CancelledError:
                log.append("no")

    async def other() -> None:
        async with primitive:
            log.append("other")

    guard = take_now(primitive)
    first = asyncio.ensure_future(stubborn())
    await passes()
    second = asyncio.ensure_future(other())
    await passes()
    first.cancel()
    await passes()
    guard.release()
    await asyncio.wait([first, second], timeout=10)
    assert log == ["no", "other", "stubborn"]
    assert untouched(primitive)


@both
@every_way
@on_asyncio
async def test_a_cancelled_task_that_need_not_wait_is_cancelled_later(
    make: Callable[[], Primitive], work: Callable[[Primitive], Awaitable[None]]
) -> None:
    """An uncontended acquisition does not yield, so the cancellation comes at the next wait."""
    primitive = make()
    log: list[str] = []

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await work(primitive)
        log.append("took and gave it back")
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(run())
    assert log == ["took and gave it back"]
    assert untouched(primitive)


# large: queued for 3      small: queued for 1
# granted, then cancelled
# raises: small's
#                          runs
@on_asyncio
async def test_a_large_grant_that_is_passed_on_serves_the_small_ones() -> None:
    """All of its permits go on."""
    semaphore = Semaphore(3)
    permit = semaphore.try_acquire(3)
    large = asyncio.ensure_future(semaphore.acquire(3))
    await passes()
    small = [asyncio.ensure_future(semaphore.acquire()) for _ in range(2)]
    await passes()
    permit.release()
    large.cancel()
    permits = await asyncio.wait_for(asyncio.gather(*small), 10)
    assert large.cancelled()
    assert semaphore.available_permits == 1
    for one in permits:
        one.release()
    assert semaphore.available_permits == 3


# closer                   task: queued
# close(): told
# cancels the task
#                          raises CancelledError
@on_asyncio
async def test_a_task_cancelled_in_the_tick_of_the_close_passes_nothing_on() -> None:
    """There was nothing granted."""
    semaphore = Semaphore(0)
    task = asyncio.ensure_future(by_block(semaphore))
    await passes()
    semaphore.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert semaphore.available_permits == 0
    with pytest.raises(ClosedError):
        await semaphore.acquire()


# --- eager tasks


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@pytest.mark.loops("asyncio-eager")
async def test_an_eager_task_takes_the_lock_before_its_creator_s_next_line() -> None:
    """It is the owner, not its creator."""
    mutex = Mutex()
    leave = asyncio.Event()

    async def hold() -> None:
        async with mutex:
            await leave.wait()

    task = asyncio.create_task(hold(), name="eager")
    assert mutex.statistics().owner == "eager"
    waiting = asyncio.create_task(by_block(mutex), name="waiting")
    assert mutex.statistics().waiting == 1
    leave.set()
    await asyncio.wait([task, waiting], timeout=10)
    assert untouched(mutex)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@pytest.mark.loops("asyncio-eager")
async def test_an_eager_task_that_waits_for_its_creator_s_lock_is_no_deadlock() -> None:
    """They are two tasks, though one runs inside the other's step."""
    mutex = Mutex()
    async with mutex:
        task = asyncio.create_task(by_block(mutex))
        assert mutex.statistics().waiting == 1
        with pytest.raises(DeadlockError):
            await mutex.lock()
    await asyncio.wait_for(task, 10)
    assert untouched(mutex)


# --- futures of acquisitions


@on_asyncio
async def test_gather_and_ensure_future_take_acquisitions() -> None:
    """An Acquisition is an awaitable like any other."""
    mutex, semaphore = Mutex(), Semaphore(3)
    guard, permit = await asyncio.gather(mutex.lock(), semaphore.acquire(2))
    assert mutex.locked()
    assert semaphore.available_permits == 1
    guard.release()
    permit.release()
    with await asyncio.ensure_future(mutex.lock()):
        assert mutex.locked()
    assert untouched(mutex)


@on_asyncio
async def test_create_task_takes_acquisitions() -> None:
    """They are coroutines, to task groups and to the task's own repr and stack as well."""
    mutex = Mutex(name="m")
    task = asyncio.create_task(mutex.lock())
    assert task.done() or "coro=<lock()" in repr(task)
    with await task:
        assert mutex.locked()
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(mutex.lock_owned())
            await settle()
            assert stack_end(waiting).f_code.co_filename.endswith("synchronizer.py")
            waiting.cancel()
    assert untouched(mutex)


def stack_end(task: asyncio.Task[Any]) -> FrameType:
    """The frame that the task's coroutines sleep in."""
    coroutine: Any = task.get_coro()
    while inspect.iscoroutine(coroutine.cr_await):
        coroutine = coroutine.cr_await
    return coroutine.cr_frame  # type: ignore[no-any-return]


@pytest.mark.loops("asyncio", "uvloop")  # an eager task has begun
@pytest.mark.parametrize(
    "ask",
    [
        Mutex().lock,
        RwLock().read,
        RwLock().write,
        Semaphore(1).acquire,
        partial(ConcurrentMap({1: 1}).entry, 1),
        partial(ConcurrentMap({1: 1}).ref, 1),
    ],
)
async def test_an_acquisition_whose_task_is_cancelled_before_it_began_does_not_warn(ask: Callable[[], Any]) -> None:
    """It was handed over: warnings are errors here."""
    task = asyncio.ensure_future(ask())
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    if sys.version_info >= (3, 12):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(), 0)
    collect()


@on_asyncio
async def test_wait_for_ends_a_wait() -> None:
    """Its timeout is a cancellation."""
    mutex = Mutex()
    async with mutex.lock_owned():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(mutex.lock(), 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await mutex.acquire()
        assert mutex.statistics().waiting == 0
    with await asyncio.wait_for(mutex.lock(), 10) as guard:
        assert mutex.locked()
    assert guard.released
    assert untouched(mutex)


@on_asyncio
async def test_a_guard_that_wait_for_throws_away_is_released() -> None:
    """Granted in the tick of the timeout: whoever drops the guard, the lock is free again in the end."""
    mutex = Mutex()
    for delay in range(5):
        guard = mutex.try_lock()
        task = asyncio.ensure_future(asyncio.wait_for(mutex.lock(), 10))
        await passes()
        asyncio.get_running_loop().call_soon(guard.release)
        await passes(delay)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            task.cancel()
            await asyncio.wait([task], timeout=10)
            if not task.cancelled():
                task.result().release()
            del task
            await passes()
            gc.collect()
        assert untouched(mutex)


@on_asyncio
async def test_a_shielded_acquisition_goes_on_when_its_waiter_is_cancelled() -> None:
    """The task that shield made holds the guard."""
    mutex = Mutex()
    guard = mutex.try_lock()
    inner = asyncio.ensure_future(mutex.lock())

    async def wait() -> None:
        await asyncio.shield(inner)

    outer = asyncio.ensure_future(wait())
    await passes()
    outer.cancel()
    await passes()
    assert outer.cancelled()
    guard.release()
    (await asyncio.wait_for(inner, 10)).release()
    assert untouched(mutex)


# --- where a release may come from


@on_asyncio
async def test_a_loop_callback_may_release() -> None:
    """No task runs there; the waiter is woken at once all the same."""
    mutex = Mutex()
    guard = mutex.try_lock()
    task = asyncio.ensure_future(by_block(mutex))
    await passes()
    asyncio.get_running_loop().call_later(0.01, guard.release)
    await asyncio.wait_for(task, 10)
    assert untouched(mutex)


@on_asyncio
async def test_a_loop_callback_may_try() -> None:
    """try_lock and its kin work where no task runs, and have no owner."""
    mutex, semaphore = Mutex(), Semaphore(1)
    done = asyncio.get_running_loop().create_future()

    def call() -> None:
        with mutex.try_lock(), semaphore.try_acquire():
            done.set_result(mutex.statistics().owner)

    asyncio.get_running_loop().call_soon(call)
    assert await asyncio.wait_for(done, 10) is None
    assert untouched(mutex)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signal can be sent to a thread")
@pytest.mark.loops("asyncio", "asyncio-eager")
async def test_a_signal_handler_may_release_while_the_loop_sleeps() -> None:
    """Python's own handler runs inside the selector's wait: the loop must be woken for the waiter."""
    mutex = Mutex()
    guard = await mutex.lock_owned()
    before = signal.signal(signal.SIGUSR1, lambda *_: guard.release())
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGUSR1))
    try:
        timer.start()
        async with asyncio.timeout(10):
            await by_block(mutex)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert untouched(mutex)


@on_asyncio
async def test_a_coroutine_may_be_driven_by_a_callback() -> None:
    """In no task, so it has no owner and is not followed."""
    mutex = Mutex()
    done = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with mutex.lock():
            done.set_result(mutex.statistics().owner)

    def drive() -> None:
        with pytest.raises(StopIteration):
            work().send(None)

    asyncio.get_running_loop().call_soon(drive)
    assert await asyncio.wait_for(done, 10) is None
    assert untouched(mutex)


class OwnTask(asyncio.Task[Any]):
    """A task of somebody's task factory."""


def test_tasks_of_a_derived_type_are_known() -> None:
    """By name, and for deadlocks."""
    mutex = Mutex()

    async def main() -> None:
        async def work() -> None:
            async with mutex:
                assert mutex.statistics().owner == "derived"
                with pytest.raises(DeadlockError, match="'derived'"):
                    await mutex.lock()

        await OwnTask(work(), loop=asyncio.get_running_loop(), name="derived")

    asyncio.run(main())
    assert untouched(mutex)


# --- loops that come and go


def test_one_object_serves_one_loop_after_another() -> None:
    """asyncio.run, trio.run, asyncio.run, contended each time."""
    mutex, semaphore = Mutex(0), Semaphore(2)

    async def on_asyncio() -> None:
        async def work() -> None:
            for _ in range(10):
                async with semaphore, mutex as guard:
                    guard.value += 1
                    await asyncio.sleep(0)

        await asyncio.gather(*(work() for _ in range(5)))

    async def on_trio() -> None:
        async def work() -> None:
            for _ in range(10):
                async with semaphore, mutex as guard:
                    guard.value += 1
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(work)

    asyncio.run(on_asyncio())
    trio.run(on_trio)
    asyncio.run(on_asyncio())
    assert mutex.into_inner() == 150
    assert semaphore.available_permits == 2
    assert untouched(mutex)


# loop 1                     loop 2
# a task is queued
# is closed
#                            gives back: the next in line's, not the closed loop's
@both
@every_way
def test_a_waiter_whose_loop_was_closed_is_skipped(
    make: Callable[[], Primitive], work: Callable[[Primitive], Awaitable[None]], abandoning: None
) -> None:
    """It can never resume, so the grant goes to the next."""
    primitive = make()
    guard = take_now(primitive)
    tasks: list[asyncio.Task[Any]] = []

    async def leave_waiting() -> None:
        tasks.extend(asyncio.ensure_future(work(primitive)) for _ in range(3))
        await passes()

    with_loop(leave_waiting)
    assert primitive.statistics().waiting == 3

    async def main() -> None:
        task = asyncio.ensure_future(work(primitive))
        await passes()
        assert primitive.statistics().waiting == 4
        guard.release()
        await asyncio.wait_for(task, 10)

    asyncio.run(main())
    assert untouched(primitive)
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


@both
def test_all_waiters_of_closed_loops_are_skipped_at_once(make: Callable[[], Primitive], abandoning: None) -> None:
    """Thousands of them, one loop each or not, without recursion."""
    primitive = make()
    guard = take_now(primitive)
    tasks: list[asyncio.Task[Any]] = []

    async def leave_waiting() -> None:
        tasks.extend(asyncio.ensure_future(by_block(primitive)) for _ in range(3000))
        await passes()

    with_loop(leave_waiting)
    guard.release()
    assert untouched(primitive)
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


@both
@pytest.mark.parametrize("crowded", [False, True], ids=["alone", "crowded"])
def test_a_block_s_exit_skips_a_waiter_whose_loop_was_closed(
    make: Callable[[], Primitive], abandoning: None, crowded: bool
) -> None:
    """The short way out looks, too; and so it does with another thread inside the lock."""
    primitive = make()
    if crowded:
        primitive._lock = CrowdedLock()
    tasks: list[asyncio.Task[Any]] = []

    async def leave_waiting() -> None:
        tasks.append(asyncio.ensure_future(by_block(primitive)))
        tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]
        await passes()

    async def main() -> None:
        async with primitive:
            await asyncio.to_thread(with_loop, leave_waiting)
            assert primitive.statistics().waiting == 1
        if isinstance(primitive._lock, CrowdedLock):
            primitive._lock.leave(primitive)
        assert untouched(primitive)

    asyncio.run(main())


def test_permits_pass_by_the_closed_loops_waiters(abandoning: None) -> None:
    """A release that grants several skips those that cannot resume and serves those that can."""
    semaphore = Semaphore(0)
    tasks: list[asyncio.Task[Any]] = []

    async def leave_waiting() -> None:
        tasks.append(asyncio.ensure_future(by_block(semaphore)))
        await passes()

    async def main() -> None:
        with_other_loop = threading.Thread(target=with_loop, args=(leave_waiting,))
        with_other_loop.start()
        with_other_loop.join()
        living = [asyncio.ensure_future(semaphore.acquire())]
        await passes()
        with_other_loop = threading.Thread(target=with_loop, args=(leave_waiting,))
        with_other_loop.start()
        with_other_loop.join()
        living.append(asyncio.ensure_future(semaphore.acquire()))
        await passes()
        assert semaphore.statistics().waiting == 4
        semaphore.add_permits(2)
        for permit in await asyncio.wait_for(asyncio.gather(*living), 10):
            permit.release()

    asyncio.run(main())
    assert semaphore.available_permits == 2
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


# thread: releases          loop: a task is queued
# posts the wake
#                           is closed before it runs
#                           the coroutine is collected: the grant goes on
@both
@every_way
def test_a_wake_that_was_posted_just_before_the_loop_closed_passes_on(
    make: Callable[[], Primitive], work: Callable[[Primitive], Awaitable[None]], abandoning: None
) -> None:
    """Only the collection of the waiting coroutine tells; nothing of the library keeps it alive."""
    primitive = make()
    guard = take_now(primitive)

    async def leave_waiting() -> None:
        task = asyncio.ensure_future(work(primitive))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        await passes()

    loop = with_loop(leave_waiting, close=False)
    guard.release()  # no loop runs here: the wake is posted
    assert primitive.locked()
    loop.close()
    del loop
    collect()
    assert untouched(primitive)


# thread: releases          loop: an upgrade is queued, its guard was made before its task
# posts the wake
#                           is closed before it runs
#                           the guard is collected: it holds nothing now
#                           the coroutine is collected: it gives the guard back what it held
def test_an_upgrade_that_was_posted_just_before_the_loop_closed_lets_go_with_its_guard(abandoning: None) -> None:
    """Whichever of the two the collector takes first."""
    lock = RwLock(0)
    reading = lock.try_read()

    async def leave_upgrading() -> None:
        async def upgrade(guard: UpgradableReadGuard[int]) -> None:
            await guard.upgrade()

        task = asyncio.ensure_future(upgrade(lock.try_upgradable_read()))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        await passes()

    loop = with_loop(leave_upgrading, close=False)
    reading.release()
    assert lock.statistics().writer
    loop.close()
    del loop
    collect()
    lock.try_write().release()


@both
def test_a_posted_wake_passes_on_to_another_loop_s_waiter(make: Callable[[], Primitive], abandoning: None) -> None:
    """The collector's release wakes a loop that sleeps."""
    primitive = make()
    guard = take_now(primitive)

    async def leave_waiting() -> None:
        task = asyncio.ensure_future(by_block(primitive))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        await passes()

    loops = [with_loop(leave_waiting, close=False)]

    async def main() -> None:
        task = asyncio.ensure_future(by_block(primitive))
        await passes()
        guard.release()
        await passes()
        assert not task.done()
        loops.pop().close()
        asyncio.get_running_loop().call_later(0.01, collect)
        await asyncio.wait_for(task, 10)

    asyncio.run(main())
    assert untouched(primitive)


def test_a_posted_wake_arrives_when_the_loop_runs_on() -> None:
    """A loop that merely stopped is not closed."""
    mutex = Mutex()
    guard = mutex.try_lock()
    tasks: list[asyncio.Task[None]] = []

    async def begin() -> None:
        tasks.append(asyncio.ensure_future(by_block(mutex)))
        await passes()

    loop = with_loop(begin, close=False)
    guard.release()
    assert mutex.locked()
    loop.run_until_complete(asyncio.wait_for(tasks[0], 10))
    loop.close()
    assert untouched(mutex)


@both
def test_a_waiter_that_is_cancelled_while_its_wake_is_on_its_way_passes_it_on(make: Callable[[], Primitive]) -> None:
    """Posted by another thread, and overtaken by the cancellation."""
    primitive = make()
    guard = take_now(primitive)

    async def main() -> None:
        first, second = (asyncio.ensure_future(by_block(primitive)) for _ in range(2))
        await passes()
        elsewhere(guard.release)
        first.cancel()
        await asyncio.wait_for(second, 10)
        assert first.cancelled()

    asyncio.run(main())
    assert untouched(primitive)


@both
@every_way
def test_a_holder_whose_loop_was_closed_lets_go_when_it_is_collected(
    make: Callable[[], Primitive], work: Callable[[Primitive], Awaitable[None]], abandoning: None
) -> None:
    """Its coroutine's blocks end with GeneratorExit."""
    primitive = make()

    async def hold() -> None:
        if work is by_block:
            async with primitive:
                await asyncio.sleep(60)
        elif work is by_await:
            with await (primitive.lock() if isinstance(primitive, Mutex) else primitive.acquire()):
                await asyncio.sleep(60)
        elif work is by_acquisition_block:
            async with primitive.lock() if isinstance(primitive, Mutex) else primitive.acquire():
                await asyncio.sleep(60)
        else:
            guard = take_now(primitive)
            await asyncio.sleep(60)
            guard.release()

    async def leave_holding() -> None:
        task = asyncio.ensure_future(hold())
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        await passes()

    with_loop(leave_holding)
    collect()
    assert untouched(primitive)


def test_a_holder_and_its_waiters_in_one_closed_loop_are_collected_together(abandoning: None) -> None:
    """The mutex serves the next loop as if they had never been."""
    mutex = Mutex(0)

    async def hold() -> None:
        async with mutex:
            await asyncio.sleep(60)

    async def leave_all() -> None:
        for _ in range(5):
            asyncio.ensure_future(hold())._log_destroy_pending = False  # type: ignore[attr-defined]
        await passes()
        assert mutex.statistics().waiting == 4

    with_loop(leave_all)
    collect()

    async def main() -> None:
        async with asyncio.timeout(10), mutex as guard:
            guard.value += 1

    asyncio.run(main())
    assert mutex.into_inner() == 1
    assert untouched(mutex)


async def in_a_guard(lock: Any, then: Callable[[], Awaitable[None]]) -> None:
    with await (lock.lock() if isinstance(lock, Mutex) else lock.upgradable_read()):
        await then()


async def in_an_initializer(cell: OnceCell[None], then: Callable[[], Awaitable[None]]) -> None:
    await cell.get_or_init(then)


# closed loop: A holds `first`, parked for `second`      thread: holds `second`
#                                                        lets go: A is skipped
# A's coroutine is collected: `first` is free
@pytest.mark.parametrize(
    ("make", "hold", "is_held"),
    [
        (Mutex, in_a_guard, Mutex.locked),
        (RwLock, in_a_guard, lambda lock: lock.statistics().upgradable),
        (OnceCell, in_an_initializer, lambda cell: cell.statistics().initializing),
    ],
)
def test_a_hold_does_not_keep_its_closed_loop_s_tasks_alive(
    make: Callable[[], Any], hold: Callable[..., Awaitable[None]], is_held: Callable[[Any], bool], abandoning: None
) -> None:
    """What the lock refers to while it is held leads to no loop, and so not to the waits that are noted there."""
    first, second = make(), Mutex()
    guard = second.try_lock()

    async def leave_waiting() -> None:
        task = asyncio.ensure_future(hold(first, lambda: by_block(second)))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        await passes()

    with_loop(leave_waiting)
    assert is_held(first)
    guard.release()
    collect()
    assert not is_held(first)
    assert untouched(second)


# closed loop: A released early, its block never left       B: in its block
# A's coroutine is collected: its exit runs inside B's step
#                                                            holds still
def test_a_collected_block_that_was_let_go_early_leaves_the_holder_alone(abandoning: None) -> None:
    """The collector may run its exit in the middle of any task that holds the mutex by then."""
    mutex = Mutex()

    async def release_early() -> None:
        async with mutex as guard:
            guard.release()
            await asyncio.sleep(60)

    leave_pending(release_early)

    async def main() -> None:
        async with mutex as guard:
            collect()
            assert mutex.locked()
            assert not guard.released
        assert not mutex.locked()
        async with mutex:
            assert mutex.locked()

    asyncio.run(main())
    assert untouched(mutex)


# closed loop: A in its block       B: released early, in its block
# A's coroutine is collected: its exit runs inside B's step
#                                   leaves: nothing left to do
def test_a_collected_block_lets_go_though_the_running_task_let_go_early(abandoning: None) -> None:
    """The exit of the block that is gone is not taken for the running task's."""
    mutex = Mutex()

    async def hold() -> None:
        async with mutex:
            await asyncio.sleep(60)

    async def main() -> None:
        async with mutex as guard:
            guard.release()
            await asyncio.to_thread(leave_pending, hold)
            assert mutex.locked()
            collect()
            assert not mutex.locked()
            mutex.acquire_nowait()
        assert mutex.locked()
        mutex.release()

    asyncio.run(main())
    assert untouched(mutex)


# closed loop: A in its block, its permit released early or not     B: in its block
# A's coroutine is collected: its exit runs inside B's step
#                                                                   has its own permit still
@pytest.mark.parametrize("early", [True, False])
def test_a_collected_block_leaves_the_running_task_its_own_permit(abandoning: None, early: bool) -> None:
    """An exit has no identity, but whose task is gone comes first."""
    semaphore = Semaphore(2)

    async def hold() -> None:
        async with semaphore as permit:
            if early:
                permit.release()
            await asyncio.sleep(60)

    leave_pending(hold)

    async def main() -> None:
        async with semaphore as permit:
            collect()
            assert semaphore.available_permits == 1
            assert permit.count == 1
            permit.release()
            assert semaphore.available_permits == 2
        assert semaphore.available_permits == 2

    asyncio.run(main())
    assert semaphore.available_permits == 2
    assert not semaphore._entered


# closed loop: A released early, its block never left       B: in its block
# A's coroutine is collected where no loop runs
#                                                           has its own permit still
def test_a_block_collected_outside_any_loop_leaves_a_suspended_task_its_permit(abandoning: None) -> None:
    semaphore = Semaphore(2)
    tasks: list[asyncio.Task[None]] = []
    may_leave = asyncio.Event()

    async def hold() -> None:
        async with semaphore as permit:
            await may_leave.wait()
            assert permit.count == 1

    async def release_early() -> None:
        async with semaphore as permit:
            permit.release()
            await asyncio.sleep(60)

    async def begin() -> None:
        tasks.append(asyncio.ensure_future(hold()))
        await passes()

    going_on = with_loop(begin, close=False)
    leave_pending(release_early)
    collect()
    assert semaphore.available_permits == 1
    may_leave.set()
    going_on.run_until_complete(tasks[0])
    going_on.close()
    assert semaphore.available_permits == 2
    assert not semaphore._entered


def test_a_closed_loop_s_tasks_and_locks_are_garbage(abandoning: None) -> None:
    """Nothing global keeps a task that is parked in a closed loop, nor what it waits for."""
    gone: list[weakref.ref[Any]] = []

    async def leave_waiting() -> None:
        mutex = Mutex()
        gone.append(weakref.ref(mutex))
        for _ in range(3):
            task = asyncio.ensure_future(by_await(mutex))
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            gone.append(weakref.ref(task))
        guard = mutex.try_lock()
        await passes()
        guard.release()
        del guard

    loop = with_loop(leave_waiting)
    gone.append(weakref.ref(loop))
    del loop
    collect()
    assert [reference() for reference in gone] == [None] * len(gone)


def test_an_upgrade_that_is_closed_by_hand_leaves_its_guard_held() -> None:
    """Somebody has the guard yet, and may use it."""
    lock = RwLock(0)
    reading, guard = lock.try_read(), lock.try_upgradable_read()

    async def main() -> None:
        upgrading = guard.upgrade().__await__()
        next(upgrading)
        assert lock.statistics().waiting_writers == 1
        upgrading.close()

    asyncio.run(main())
    assert lock.statistics().waiting_writers == 0
    reading.release()
    guard.try_upgrade().release()


def test_a_wait_that_was_refused_by_an_error_keeps_no_task_alive() -> None:
    """What was noted of it is forgotten while its loop goes on."""
    mutex = Mutex()
    before = set_deadlock_policy("warn")

    async def wait_for_itself() -> None:
        async with mutex:
            with pytest.raises(RuntimeWarning, match="deadlock"):
                await mutex.lock()

    async def main() -> None:
        task = asyncio.ensure_future(wait_for_itself())
        await task
        gone = weakref.ref(task)
        del task
        await passes()
        collect()
        assert gone() is None

    try:
        asyncio.run(main())
    finally:
        set_deadlock_policy(before)


@both
def test_a_parked_coroutine_that_is_closed_by_hand_leaves_the_line(make: Callable[[], Primitive]) -> None:
    """GeneratorExit is a cancellation like another."""
    primitive = make()
    guard = take_now(primitive)

    async def main() -> None:
        coroutine = by_block(primitive)
        coroutine.send(None)
        assert primitive.statistics().waiting == 1
        coroutine.close()
        assert primitive.statistics().waiting == 0
        granted = by_block(primitive)
        granted.send(None)
        guard.release()
        assert primitive.locked()
        granted.close()

    asyncio.run(main())
    assert untouched(primitive)


# --- sniffio


def test_worker_threads_of_a_loop_are_no_loop() -> None:
    """Sniffio's context variable is copied into them; the blocking forms and the try forms look at what runs."""
    mutex = Mutex()

    def work() -> None:
        sniffio.current_async_library_cvar.set("asyncio")
        with mutex.blocking_lock(10):
            assert mutex.statistics().owner is None
        with mutex.try_lock():
            assert mutex.statistics().owner is None
        for leaked in ("asyncio", "trio", None):
            sniffio.current_async_library_cvar.set(leaked)
            mutex.acquire_nowait()
            assert mutex.statistics().owner is None
            mutex.release()
        with pytest.raises(UnsupportedLoopError, match="no event loop"):
            mutex.acquire().send(None)

    async def main() -> None:
        sniffio.current_async_library_cvar.set("asyncio")
        await asyncio.to_thread(work)

    asyncio.run(main())


@pytest.mark.parametrize("leaked", ["trio", "asyncio"])
def test_a_loop_started_in_a_worker_thread_is_found_though_another_s_name_leaked_there(leaked: str) -> None:
    """What runs counts, not what was copied."""
    mutex = Mutex()

    async def work() -> None:
        guard = mutex.try_lock()
        task = asyncio.ensure_future(by_block(mutex))
        await passes()
        assert mutex.statistics().waiting == 1
        guard.release()
        await asyncio.wait_for(task, 10)

    async def trio_work() -> None:
        guard = mutex.try_lock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(by_block, mutex)
            await trio.testing.wait_all_tasks_blocked()
            assert mutex.statistics().waiting == 1
            guard.release()

    async def main() -> None:
        sniffio.current_async_library_cvar.set(leaked)
        await asyncio.to_thread(lambda: asyncio.run(work()))
        await asyncio.to_thread(trio.run, trio_work)

    asyncio.run(main())
    assert untouched(mutex)


def test_a_try_in_a_worker_thread_works_though_an_unknown_loop_s_name_leaked_there() -> None:
    """try_* need no loop, so none can be wrong."""
    mutex = Mutex()

    async def main() -> None:
        sniffio.current_async_library_cvar.set("curio")
        await asyncio.to_thread(lambda: mutex.try_lock().release())

    asyncio.run(main())
    assert untouched(mutex)


# --- many


def lines_run(main: Callable[[], Awaitable[None]]) -> int:
    """How many lines of the library `main` has run."""
    count = 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal count
        if "asynclocks" not in frame.f_globals.get("__name__", ""):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()

    async def traced() -> None:
        sys.settrace(trace)
        try:
            await main()
        finally:
            sys.settrace(before)

    asyncio.run(traced())
    return count


ORDERS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "first to last": list,
    "last to first": lambda tasks: tasks[::-1],
    "inside out": lambda tasks: [
        task for pair in zip(tasks[len(tasks) // 2 :], tasks[: len(tasks) // 2][::-1], strict=True) for task in pair
    ],
    "every seventh": lambda tasks: (
        sorted(tasks, key=lambda task: tasks.index(task) % 7)
        if len(tasks) < 100
        else [task for start in range(7) for task in tasks[start::7]]
    ),
}


@both
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_cancelling_queued_waiters_takes_linear_work(
    make: Callable[[], Primitive], order: Callable[[list[Any]], list[Any]]
) -> None:
    """In any order: four times as many waiters, four times as many lines of the library run."""

    def main(count: int) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            primitive = make()
            with take_now(primitive):
                tasks = [asyncio.ensure_future(by_block(primitive)) for _ in range(count)]
                await passes()
                assert primitive.statistics().waiting == count
                for task in order(tasks):
                    task.cancel()
                await asyncio.wait(tasks)
                assert primitive.statistics().waiting == 0
            assert untouched(primitive)

        return run

    few, many = lines_run(main(200)), lines_run(main(800))
    assert few > 200
    assert many < 4.2 * few


def test_a_semaphore_s_blocks_of_collected_tasks_end_in_linear_work() -> None:
    """Four times as many, four times as many lines of the library run."""

    def main(count: int) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            semaphore = Semaphore(count)

            async def hold() -> None:
                async with semaphore:
                    await asyncio.get_running_loop().create_future()

            tasks = [asyncio.ensure_future(hold()) for _ in range(count)]
            await passes()
            assert semaphore.locked()
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            del task
            tasks.clear()  # together, or a collection in between takes those that came last first
            collect()
            assert semaphore.available_permits == count

        return run

    few, many = lines_run(main(16)), lines_run(main(64))
    assert few > 16
    assert many < 4.2 * few


@both
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_ten_thousand_cancelled_waiters_leave_memory_and_queue_as_they_were(
    make: Callable[[], Primitive], order: Callable[[list[Any]], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No ticket, no entry anywhere, and the holder never noticed."""
    monkeypatch.setattr(watch, "SOON", 1_000)  # its timer is there before and afterwards
    primitive = make()

    async def main() -> None:
        def population() -> dict[str, int]:
            collect()
            kinds: dict[str, int] = {}
            for thing in gc.get_objects():
                kind = type(thing)
                if str(kind.__module__).startswith(("asynclocks", "_asyncio", "asyncio")):
                    kinds[kind.__qualname__] = kinds.get(kind.__qualname__, 0) + 1
            return kinds

        async def cancel_waiters(count: int) -> None:
            tasks = [asyncio.ensure_future(by_block(primitive)) for _ in range(count)]
            await passes()
            assert primitive.statistics().waiting == count
            for task in order(tasks):
                task.cancel()
            await asyncio.wait(tasks)

        with take_now(primitive):
            await cancel_waiters(10)
            before, sizes = population(), [sys.getsizeof(part) for part in parts(primitive)]
            await cancel_waiters(10_000)
            assert population() == before
            assert [sys.getsizeof(part) for part in parts(primitive)] == sizes
            assert primitive.statistics().waiting == 0

    def parts(thing: Any) -> list[Any]:
        slots = [slot for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())]
        return [getattr(thing, slot, None) for slot in slots]

    asyncio.run(main())
    assert untouched(primitive)
    assert primitive._head is None
    assert primitive._tail is None


def test_who_parked_in_a_loop_that_is_gone_is_nobody() -> None:
    """Nobody is woken, nobody is here, and there is nothing to leave."""
    parkers: list[AsyncioParker] = []

    async def begin() -> None:
        parkers.append(AsyncioParker())
        assert parkers[0].is_here()

    with_loop(begin)
    collect()
    assert not parkers[0].unpark()
    assert not parkers[0].is_here()
    parkers[0].leave()


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_what_is_free_is_taken_in_a_callback_too() -> None:
    """No task runs there, and none is needed."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    taken: list[Any] = []

    def call() -> None:
        for acquisition in (Mutex(0).lock(), Semaphore(1).acquire(), RwLock(0).read()):
            with pytest.raises(StopIteration) as end:
                acquisition.send(None)
            taken.append(end.value.value)
        over.set()

    loop.call_soon(call)
    await over.wait()
    for guard in taken:
        assert not guard.released
        guard.release()


def test_an_acquisition_outside_of_any_loop_is_refused() -> None:
    """Also where nobody is in the way."""
    for acquisition in (Mutex(0).lock(), Semaphore(1).acquire(), RwLock(0).read()):
        with pytest.raises(UnsupportedLoopError):
            acquisition.send(None)


@pytest.mark.loops("asyncio")
async def test_what_the_compiled_engine_leaves_to_python_waits_as_any_acquisition() -> None:
    """`lock` and `acquire` there call these where they have no short way."""
    mutex, semaphore = Mutex(0), Semaphore(1)
    with await mutex._lock_loose(True, None), await semaphore._acquire_loose(1, None):
        assert mutex.statistics().owner is not None
        assert semaphore.locked()
    with await mutex._lock_loose(False, None):
        assert mutex.statistics().owner is None
