"""What trio alone demands and does: checkpoints everywhere, level cancellation, guest mode, Ctrl-C."""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from asynclocks import (
    ClosedError,
    ConcurrentMap,
    Condvar,
    DeadlockError,
    Mutex,
    Notify,
    OnceCell,
    RwLock,
    Semaphore,
    TryLockError,
)
from asynclocks.backends import current_backend
from tests.support import collect

on_trio = pytest.mark.loops("trio")

Give = Callable[[], object]


async def by_block(primitive: Any) -> Give:
    guard = await primitive.__aenter__()
    return lambda: None if guard.released else guard.release()


async def by_await(primitive: Any) -> Give:
    guard = await (primitive.lock() if isinstance(primitive, Mutex) else primitive.acquire())
    return guard.release  # type: ignore[no-any-return]


async def by_acquisition_block(primitive: Any) -> Give:
    acquisition = primitive.lock() if isinstance(primitive, Mutex) else primitive.acquire()
    guard = await acquisition.__aenter__()
    return guard.release  # type: ignore[no-any-return]


async def by_spelling(primitive: Any) -> Give:
    if not isinstance(primitive, Mutex):
        return await by_await(primitive)
    await primitive.acquire()
    return primitive.release


every_way = pytest.mark.parametrize("take", [by_block, by_await, by_acquisition_block, by_spelling])
both = pytest.mark.parametrize("make", [Mutex, lambda: Semaphore(1)], ids=["mutex", "semaphore"])


def take_now(primitive: Any) -> Any:
    return primitive.try_lock() if isinstance(primitive, Mutex) else primitive.try_acquire()


@both
@every_way
@on_trio
async def test_taking_a_free_lock_is_a_checkpoint(
    make: Callable[[], Any], take: Callable[[Any], Awaitable[Give]]
) -> None:
    """Both kinds: others may run, and a cancellation is noticed."""
    primitive = make()
    with trio.testing.assert_checkpoints():
        give_back = await take(primitive)
    with trio.testing.assert_no_checkpoints():
        give_back()
    assert not primitive.locked()


@both
@every_way
@on_trio
async def test_waiting_is_a_checkpoint(make: Callable[[], Any], take: Callable[[Any], Awaitable[Give]]) -> None:
    """As waiting must be."""
    primitive = make()
    guard = take_now(primitive)

    async def wait() -> None:
        with trio.testing.assert_checkpoints():
            give_back = await take(primitive)
        give_back()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        guard.release()
    assert not primitive.locked()


@on_trio
async def test_leaving_a_block_is_no_checkpoint() -> None:
    """Releasing never yields, not even at the end of an async with."""
    mutex, semaphore = Mutex(), Semaphore(1)
    for block in (mutex, semaphore, mutex.lock(), semaphore.acquire()):
        await block.__aenter__()
        with trio.testing.assert_no_checkpoints():
            await block.__aexit__(None, None, None)
    assert not mutex.locked()
    assert semaphore.available_permits == 1


@on_trio
async def test_taking_no_permits_is_a_checkpoint() -> None:
    """acquire(0) never waits, and lets others run all the same."""
    semaphore = Semaphore(0)
    with trio.testing.assert_checkpoints():
        permit = await semaphore.acquire(0)
    permit.release()


@on_trio
async def test_a_closed_semaphore_is_refused_after_a_checkpoint() -> None:
    """An error does not take the checkpoint away."""
    semaphore = Semaphore(1)
    semaphore.close()
    with trio.testing.assert_checkpoints(), pytest.raises(ClosedError):
        await semaphore.acquire()
    with trio.testing.assert_checkpoints(), pytest.raises(ClosedError):
        async with semaphore:
            pytest.fail("closed")


@both
@every_way
@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
@on_trio
async def test_a_cancelled_scope_raises_before_anything_is_acquired(
    make: Callable[[], Any], take: Callable[[Any], Awaitable[Give]], held: bool
) -> None:
    """Whether the lock is free or not."""
    primitive = make()
    guard = take_now(primitive) if held else None
    with trio.CancelScope() as scope:
        scope.cancel()
        await take(primitive)
        pytest.fail("a cancelled scope acquired")
    assert scope.cancelled_caught
    assert primitive.statistics().waiting == 0
    assert primitive.locked() is held
    if guard is not None:
        guard.release()
    assert not primitive.locked()


# holder               waiter: queued
# gives back: the waiter's, rescheduled
# cancels the waiter
#                      has the lock, is cancelled at its next checkpoint
@both
@every_way
@on_trio
async def test_a_task_that_was_rescheduled_completes_the_acquisition(
    make: Callable[[], Any], take: Callable[[Any], Awaitable[Give]]
) -> None:
    """Trio does not cancel who is scheduled to run."""
    primitive = make()
    guard = take_now(primitive)
    log: list[str] = []

    async def wait() -> None:
        with scope:
            give_back = await take(primitive)
            log.append("has it")
            try:
                await trio.lowlevel.checkpoint()
            finally:
                give_back()
            log.append("was not cancelled")

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        guard.release()
        scope.cancel()
    assert log == ["has it"]
    assert scope.cancelled_caught
    assert not primitive.locked()


# holder               waiter: queued
# cancels the waiter: scheduled to raise
# gives back: the waiter's, which cannot be rescheduled again
#                      raises: the lock is free
@both
@every_way
@on_trio
async def test_a_grant_to_a_task_that_is_about_to_raise_goes_on(
    make: Callable[[], Any], take: Callable[[Any], Awaitable[Give]]
) -> None:
    """The lock goes to the next, or is free."""
    primitive = make()
    guard = take_now(primitive)

    async def wait() -> None:
        with scope:
            await take(primitive)
            pytest.fail("cancelled")

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        guard.release()
    assert scope.cancelled_caught
    assert not primitive.locked()


@both
@on_trio
async def test_a_deadline_ends_a_wait(make: Callable[[], Any]) -> None:
    """As any other."""
    primitive = make()
    guard = take_now(primitive)

    async def wait() -> None:
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.01):
            async with primitive:
                pytest.fail("held")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
    guard.release()
    assert not primitive.locked()


@on_trio
async def test_names_are_trio_s() -> None:
    """In statistics and in deadlocks."""
    mutex = Mutex(name="m")

    async def work() -> None:
        async with mutex:
            assert mutex.statistics().owner == "anna"
            with pytest.raises(DeadlockError, match="task 'anna' waits for Mutex 'm'"):
                await mutex.lock()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, name="anna")


@on_trio
async def test_a_callback_of_the_loop_may_take_and_give() -> None:
    """Whatever trio runs between its tasks."""
    mutex = Mutex()
    guard = await mutex.lock_owned()
    log: list[str] = []

    async def wait() -> None:
        (await by_await(mutex))()
        log.append("woken")

    def give_and_take() -> None:
        guard.release()
        semaphore.try_acquire().release()

    semaphore = Semaphore(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.current_trio_token().run_sync_soon(give_and_take)
    assert log == ["woken"]
    assert not mutex.locked()
    assert semaphore.available_permits == 1


class Between(trio.abc.Instrument):
    """Does something where no task is in its step."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.what: Callable[[], object] | None = what

    def before_io_wait(self, timeout: float) -> None:
        what, self.what = self.what, None
        if what is not None:
            what()


@on_trio
async def test_an_instrument_may_release() -> None:
    """Outside every task's step, right before the selector's sleep: the waiter is woken all the same."""
    mutex = Mutex()
    guard = mutex.try_lock()
    between = Between(guard.release)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                (await by_await(mutex))()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.add_instrument(between)
    trio.lowlevel.remove_instrument(between)
    assert not mutex.locked()


@on_trio
async def test_an_instrument_may_try() -> None:
    """try_* need no task."""
    mutex, semaphore = Mutex(), Semaphore(1)
    owners: list[str | None] = []

    def call() -> None:
        with mutex.try_lock(), semaphore.try_acquire():
            owners.append(mutex.statistics().owner)

    between = Between(call)
    trio.lowlevel.add_instrument(between)
    await trio.sleep(0.01)
    trio.lowlevel.remove_instrument(between)
    assert owners == [None]
    assert not mutex.locked()


@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
@on_trio
async def test_a_guard_collected_while_trio_sleeps_wakes_it() -> None:
    """A finalizer outside every task's step posts its wake."""
    mutex = Mutex()
    guards = [mutex.try_lock()]
    between = Between(guards.clear)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                (await by_await(mutex))()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.add_instrument(between)
    trio.lowlevel.remove_instrument(between)
    assert not mutex.locked()


@on_trio
async def test_a_system_task_waits_as_any_other() -> None:
    """Nothing of the lock minds what kind of task it is."""
    mutex = Mutex()
    guard = await mutex.lock_owned()
    done = trio.Event()

    async def wait() -> None:
        (await by_await(mutex))()
        done.set()

    trio.lowlevel.spawn_system_task(wait)
    await trio.testing.wait_all_tasks_blocked()
    guard.release()
    await done.wait()
    assert not mutex.locked()


@on_trio
async def test_a_worker_thread_may_give_back_what_a_task_took() -> None:
    """And trio is woken from there."""
    mutex = Mutex()
    guard = await mutex.lock_owned()

    async def wait() -> None:
        (await by_await(mutex))()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(guard.release)
    assert not mutex.locked()


class Interrupted(Mutex[int]):
    """Gets Ctrl-C in the middle of its own work."""

    __slots__ = ("interrupt",)

    interrupt: bool

    def _admit(self, ticket: Any) -> bool:
        if self.interrupt:
            self.interrupt = False
            signal.raise_signal(signal.SIGINT)
        return super()._admit(ticket)


def test_ctrl_c_in_the_middle_of_the_lock_s_own_work_comes_later(ctrl_c: None) -> None:
    """KeyboardInterrupt does not cut a transaction in two: afterwards the mutex is sound."""
    mutex = Interrupted(0)
    mutex.interrupt = False

    async def main() -> None:
        with mutex.try_lock():
            mutex.interrupt = True
            with pytest.raises(TryLockError):
                mutex.try_lock()
        await trio.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    collect()
    assert not mutex.interrupt
    assert not mutex.locked()
    mutex.try_lock().release()
    assert not mutex.locked()


def test_trio_as_a_guest_of_asyncio_shares_a_mutex_with_its_host() -> None:
    """Two loops in one thread: each is found for its own tasks, and wakes the other's."""
    mutex = Mutex(0)
    log: list[str] = []

    async def guest() -> None:
        for _ in range(5):
            async with mutex as guard:
                assert mutex.statistics().owner == "guest"
                guard.value += 1
                log.append("guest")
                await trio.sleep(0.001)

    async def trio_main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guest, name="guest")

    async def host() -> None:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            trio_main,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=over.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        task = asyncio.current_task()
        assert task is not None
        task.set_name("host")
        for _ in range(5):
            async with mutex as guard:
                assert mutex.statistics().owner == "host"
                guard.value += 1
                log.append("host")
                await asyncio.sleep(0.001)
        (await asyncio.wait_for(over, 10)).unwrap()

    asyncio.run(asyncio.wait_for(host(), 20))
    assert sorted(log) == ["guest"] * 5 + ["host"] * 5
    assert mutex.into_inner() == 10
    assert mutex.statistics().waiting == 0


def test_the_host_of_a_guest_run_may_try_between_the_ticks() -> None:
    """A host of its own making, no loop that anybody knows: trio counts as running, and no task of its is."""
    mutex = Mutex()
    todo: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    outcomes: list[Any] = []
    names: list[str] = []

    async def main() -> None:
        async with mutex:
            await trio.sleep(0.01)

    def look() -> None:
        names.append(current_backend().name)
        if not mutex.locked():
            mutex.try_lock().release()

    trio.lowlevel.start_guest_run(
        main, run_sync_soon_threadsafe=todo.put, done_callback=outcomes.append, host_uses_signal_set_wakeup_fd=True
    )
    while not outcomes:
        todo.get(timeout=10)()
        if not outcomes:
            look()
    outcomes[0].unwrap()
    assert set(names) == {"trio"}
    assert not mutex.locked()


def test_a_trio_run_inside_a_task_of_asyncio_waits_as_trio_does() -> None:
    """As in a notebook, whose cells run in asyncio: its task is the running one for asyncio all the while."""
    mutex, semaphore, rwlock = Mutex(0), Semaphore(1), RwLock(0)
    condvar, notify, cell = Condvar(), Notify(), OnceCell[int]()
    stock = ConcurrentMap({"a": 0})

    async def use() -> None:
        async with mutex as guard, semaphore, rwlock.write() as written, stock.entry("a") as entry:
            await trio.lowlevel.checkpoint()
            guard.value += 1
            written.value += 1
            entry.value += 1
        guard = await mutex.lock()
        await condvar.wait_while(guard, lambda count: count < 3)
        guard.release()
        condvar.notify_all()
        assert await cell.get_or_init(make) == 1

    async def make() -> int:
        await trio.lowlevel.checkpoint()
        return 1

    async def be_notified() -> None:
        await notify.notified()

    async def main() -> None:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(be_notified)
                for _ in range(3):
                    nursery.start_soon(use)
                await trio.testing.wait_all_tasks_blocked()
                notify.notify_waiters()

    async def in_a_cell() -> None:
        trio.run(main)

    asyncio.run(in_a_cell())
    assert (mutex.into_inner(), rwlock.into_inner(), stock["a"]) == (3, 3, 3)


def test_each_way_in_and_out_is_found_on_trio_though_asyncio_ran_a_moment_ago() -> None:
    """Whoever ran last is asked about first, and asyncio says by an exception that it does not run."""
    mutex, semaphore, rwlock, cell = Mutex(), Semaphore(1), RwLock(), OnceCell(1)
    stock = ConcurrentMap({"a": 1})

    async def use() -> None:
        async with Mutex():
            pass

    def asyncio_runs() -> None:
        thread = threading.Thread(target=asyncio.run, args=(use(),))
        thread.start()
        thread.join()

    async def main() -> None:
        for block in (lambda: mutex, lambda: semaphore, rwlock.read, lambda: stock.entry("a")):
            asyncio_runs()
            async with block():
                asyncio_runs()
        asyncio_runs()
        (await mutex.lock()).release()
        asyncio_runs()
        assert await cell.get_or_init(lambda: 2) == 1
        asyncio_runs()
        assert await stock.get_or_insert_with("a", lambda: 2) == 1

    trio.run(main)
    assert not mutex.locked()
    assert semaphore.available_permits == 1
