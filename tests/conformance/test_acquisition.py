"""Acquisitions: what lock() and acquire() return before anything is taken; and the promises of every wait."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import re
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asynclocks import Acquisition, ConcurrentMap, Mutex, RwLock, Semaphore, UnsupportedLoopError
from tests.conformance.line import Cancel, both_cancels
from tests.support import collect, in_pyodide, on_trio, settle, spawn

needs_no_loop = pytest.mark.skipif(in_pyodide, reason="Pyodide's loop always runs")

Ask = Callable[[], tuple[Acquisition[Any], Callable[[], bool]]]  # an acquisition, and whether its lock is held


def ask_lock() -> tuple[Acquisition[Any], Callable[[], bool]]:
    mutex = Mutex(name="x")
    return mutex.lock(), mutex.locked


def ask_lock_owned() -> tuple[Acquisition[Any], Callable[[], bool]]:
    mutex = Mutex(name="x")
    return mutex.lock_owned(), mutex.locked


def ask_acquire() -> tuple[Acquisition[Any], Callable[[], bool]]:
    semaphore = Semaphore(2, name="x")
    return semaphore.acquire(2), semaphore.locked


every_acquisition = pytest.mark.parametrize("ask", [ask_lock, ask_lock_owned, ask_acquire])


@every_acquisition
async def test_nothing_is_taken_before_it_is_awaited(ask: Ask) -> None:
    """The place in the queue is taken when awaited or entered, not when created."""
    acquisition, held = ask()
    assert not held()
    with await acquisition:
        assert held()
    assert not held()


async def test_who_awaits_first_is_first_whoever_asked_first() -> None:
    """Asking takes no place in the line."""
    mutex = Mutex()
    log: list[str] = []
    asked_first = mutex.lock()

    async def wait(name: str, acquisition: Acquisition[Any]) -> None:
        async with acquisition:
            log.append(name)

    async with anyio.create_task_group() as tasks, mutex:
        spawn(tasks, wait, "asked second", mutex.lock())
        await settle()
        spawn(tasks, wait, "asked first", asked_first)
        await settle()
    assert log == ["asked second", "asked first"]


@every_acquisition
async def test_async_with_releases_on_exit(ask: Ask) -> None:
    """`async with m.lock() as guard:`."""
    acquisition, held = ask()
    async with acquisition as guard:
        assert held()
        assert not guard.released
    assert guard.released
    assert not held()


@every_acquisition
async def test_awaiting_leaves_the_release_to_the_caller(ask: Ask) -> None:
    """`guard = await m.lock()`."""
    acquisition, held = ask()
    guard = await acquisition
    assert held()
    guard.release()
    assert not held()


@every_acquisition
async def test_a_second_use_is_refused(ask: Ask) -> None:
    """Single use, however it was used, even if that was cancelled or refused."""
    acquisition, held = ask()
    (await acquisition).release()
    with pytest.raises(RuntimeError, match=r"of (Mutex|Semaphore) 'x'.*already"):
        await acquisition
    with pytest.raises(RuntimeError, match="already"):
        async with acquisition:
            pytest.fail("used already")
    entered, held_by_entered = ask()
    async with entered:
        with pytest.raises(RuntimeError, match="already"):
            await entered
    assert not held()
    assert not held_by_entered()


async def test_a_cancelled_acquisition_is_used_up() -> None:
    """The way to wait again is to ask again."""
    mutex = Mutex()
    acquisition = mutex.lock()
    async with mutex.lock_owned():
        with anyio.move_on_after(0.01):
            await acquisition
        with pytest.raises(RuntimeError, match="already"):
            await acquisition
    assert not mutex.locked()


@every_acquisition
async def test_one_that_is_dropped_unused_warns(ask: Ask) -> None:
    """As a coroutine does that was never awaited."""
    with pytest.warns(RuntimeWarning, match=r"<.*\(2?\) of (Mutex|Semaphore) 'x'> was never awaited") as warned:
        ask()
    assert warned[0].filename == __file__


def test_one_that_was_never_made_is_dropped_in_silence() -> None:
    """Ctrl-C may come before its constructor has run."""
    Acquisition.__new__(Acquisition)
    collect()


@every_acquisition
async def test_one_that_is_closed_where_it_waits_leaves_the_line(ask: Ask) -> None:
    """As a coroutine does that was begun."""
    if on_trio():
        return  # a task of trio's is never begun by hand
    acquisition, held = ask()
    lock: Any = acquisition._of
    holder = (lock.try_lock() if isinstance(lock, Mutex) else lock.try_acquire(2)).disown()
    acquisition.send(None)
    assert inspect.getcoroutinestate(acquisition) == inspect.CORO_SUSPENDED  # type: ignore[arg-type]
    assert lock.statistics().waiting == 1
    acquisition.close()
    assert lock.statistics().waiting == 0
    holder.release()
    assert not held()


@every_acquisition
async def test_one_that_was_used_is_dropped_in_silence(ask: Ask) -> None:
    """Warnings are errors here."""
    acquisition, _ = ask()
    (await acquisition).release()
    del acquisition
    acquisition, _ = ask()
    async with acquisition:
        pass
    del acquisition
    collect()


@every_acquisition
async def test_it_is_a_coroutine(ask: Ask) -> None:
    """And an asynchronous context manager."""
    acquisition, _ = ask()
    assert inspect.isawaitable(acquisition)
    assert isinstance(acquisition, Coroutine)
    assert isinstance(acquisition, AbstractAsyncContextManager)
    assert asyncio.iscoroutine(acquisition)
    (await acquisition).release()


@every_acquisition
async def test_a_task_group_takes_it_for_a_coroutine_function(ask: Ask) -> None:
    """`tasks.start_soon(mutex.lock)`, on asyncio and on trio. (Nobody has the guard: give it back yourself.)."""
    acquisition, held = ask()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: acquisition)
        with pytest.warns(ResourceWarning, match="dropped unreleased"):
            await settle()
    assert not held()


@every_acquisition
async def test_it_tells_how_far_it_is_as_a_coroutine_does(ask: Ask) -> None:
    """`inspect.getcoroutinestate` and the attributes behind it."""
    for end in ("close", "throw", "await"):
        acquisition, held = ask()
        running: Any = acquisition
        assert inspect.getcoroutinestate(running) == inspect.CORO_CREATED
        assert running.cr_await is None
        assert running.__name__ in {"lock", "lock_owned", "acquire(2)"}
        if end == "close":
            acquisition.close()
        elif end == "throw":
            with pytest.raises(ZeroDivisionError):
                acquisition.throw(ZeroDivisionError())
        else:
            (await acquisition).release()
        assert inspect.getcoroutinestate(running) == inspect.CORO_CLOSED
        acquisition.close()  # has nothing to do any more
        with pytest.raises(RuntimeError, match="already"):
            acquisition.send(None)
        with pytest.raises(RuntimeError, match="already"):
            await acquisition
        assert not held()


@every_acquisition
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_it_refuses_to_be_copied(ask: Ask, copier: Callable[[object], object]) -> None:
    """It is one place in one queue."""
    acquisition, _ = ask()
    with pytest.raises(TypeError, match="'x'"):
        copier(acquisition)
    (await acquisition).release()


async def test_repr_tells_what_was_asked_of_whom() -> None:
    """In the words of the program."""
    mutex, semaphore = Mutex(name="m"), Semaphore(3, name="s")
    for acquisition, expected in (
        (mutex.lock(), "<lock() of Mutex 'm'>"),
        (mutex.lock_owned(), "<lock_owned() of Mutex 'm'>"),
        (semaphore.acquire(3), "<acquire(3) of Semaphore 's'>"),
    ):
        assert repr(acquisition) == expected
        (await acquisition).release()


async def test_one_of_a_maps_ref_is_used_once_and_tells_of_whom_it_was_asked() -> None:
    """Entered, it is the ref itself."""
    cache = ConcurrentMap({"k": 1})
    asked = cache.ref("k")
    assert re.fullmatch(r"<ref\(\) of .*'k'.*>", repr(asked))
    async with asked as ref:
        assert ref.value == 1
    with pytest.raises(RuntimeError, match=r"<Ref of .* already; ask the map for a new one"):
        await asked
    with pytest.warns(RuntimeWarning, match=r"<ref\(\) of .* was never awaited"):
        cache.ref("k")


async def test_an_upgrade_is_used_once() -> None:
    """As every acquisition."""
    with RwLock(name="x").try_upgradable_read() as reader:
        upgrade = reader.upgrade()
        (await upgrade).release()
        with pytest.raises(RuntimeError, match=r"<upgrade\(\) of RwLock 'x'> was awaited or entered already"):
            await upgrade


@needs_no_loop
@every_acquisition
def test_outside_a_loop_it_is_refused_with_what_is_supported(ask: Ask) -> None:
    """UnsupportedLoopError names what was found, what is supported, and the ways out."""
    acquisition, held = ask()
    coroutine = acquisition.__await__()
    with pytest.raises(UnsupportedLoopError, match=r"no event loop runs.*asyncio.*trio.*register_backend"):
        coroutine.send(None)
    assert not held()


@needs_no_loop
@pytest.mark.parametrize("make", [Mutex, lambda: Semaphore(1)], ids=["mutex", "semaphore"])
def test_a_block_outside_a_loop_is_refused(make: Callable[[], Any]) -> None:
    """Though nothing would have to be waited for: nobody could have woken it."""
    primitive = make()

    async def enter() -> None:
        async with primitive:
            pytest.fail("there is no loop")

    coroutine = enter()
    with pytest.raises(UnsupportedLoopError, match="no event loop"):
        coroutine.send(None)
    assert not primitive.locked()


@needs_no_loop
def test_acquire_outside_a_loop_is_refused() -> None:
    """The other locks' spelling, too."""
    mutex = Mutex()
    with pytest.raises(UnsupportedLoopError, match="no event loop"):
        mutex.acquire().send(None)
    assert not mutex.locked()


# --- what every wait promises, way in by way in

WayIn = Callable[[Any], Awaitable[Callable[[], object]]]  # takes the lock; returns what gives it back


async def by_block(primitive: Any) -> Callable[[], object]:
    guard = await primitive.__aenter__()
    await primitive.__aexit__(None, None, None)
    return lambda: guard.released


async def by_await(primitive: Any) -> Callable[[], object]:
    guard = await (primitive.lock() if isinstance(primitive, Mutex) else primitive.acquire())
    return guard.release  # type: ignore[no-any-return]


async def by_await_owned(primitive: Any) -> Callable[[], object]:
    guard = await (primitive.lock_owned() if isinstance(primitive, Mutex) else primitive.acquire(1))
    return guard.release  # type: ignore[no-any-return]


async def by_acquisition_block(primitive: Any) -> Callable[[], object]:
    async with primitive.lock() if isinstance(primitive, Mutex) else primitive.acquire() as guard:
        pass
    return lambda: guard.released


async def by_spelling(primitive: Any) -> Callable[[], object]:
    await primitive.acquire()
    return primitive.release  # type: ignore[no-any-return]


MUTEX_WAYS = [by_block, by_await, by_await_owned, by_acquisition_block, by_spelling]
SEMAPHORE_WAYS = [by_block, by_await, by_await_owned, by_acquisition_block]
every_way_in = pytest.mark.parametrize(
    ("make", "take"),
    [pytest.param(Mutex, take, id=f"mutex {take.__name__}") for take in MUTEX_WAYS]
    + [pytest.param(lambda: Semaphore(1), take, id=f"semaphore {take.__name__}") for take in SEMAPHORE_WAYS],
)


class Passes:
    """Counts how often other tasks get to run."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            self.count += 1


@every_way_in
async def test_an_uncontended_acquisition_yields_on_trio_only(make: Callable[[], Any], take: WayIn) -> None:
    """On asyncio's kind nobody else runs; on trio every acquisition is a checkpoint."""
    primitive, passes = make(), Passes()
    async with anyio.create_task_group() as tasks:
        running = spawn(tasks, passes.run)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        before = passes.count
        for _ in range(2):  # trio shuffles each pass: in two of them everybody ran once
            give_back = await take(primitive)
            after = passes.count
            give_back()
            assert passes.count == after
        assert (passes.count > before) is on_trio()
        running.cancel()
    assert not primitive.locked()


@every_way_in
async def test_a_wait_lets_others_run_and_ends_with_the_lock(make: Callable[[], Any], take: WayIn) -> None:
    """Whatever the way in, the line is one."""
    primitive = make()
    log: list[str] = []

    async def work(name: str) -> None:
        give_back = await take(primitive)
        log.append(name)
        give_back()

    async with anyio.create_task_group() as tasks:
        holding = primitive.try_lock() if isinstance(primitive, Mutex) else primitive.try_acquire()
        for name in "abc":
            spawn(tasks, work, name)
            await settle()
        assert log == []
        assert primitive.statistics().waiting == 3
        holding.release()
    assert log == ["a", "b", "c"]
    assert not primitive.locked()


# holder               b: queued             c: queued
# cancels b
#                      raises
# gives back: c's
#                                            runs
@both_cancels
@every_way_in
async def test_cancelling_a_wait_leaves_the_line_to_the_others(
    make: Callable[[], Any], take: WayIn, cancel: Cancel
) -> None:
    """A cancelled waiter holds nothing and loses its place, and its task learns of the cancellation."""
    primitive = make()

    async def work() -> None:
        (await take(primitive))()

    async with anyio.create_task_group() as tasks:
        holding = primitive.try_lock() if isinstance(primitive, Mutex) else primitive.try_acquire()
        b = spawn(tasks, work, name="b")
        await settle()
        c = spawn(tasks, work, name="c")
        await settle()
        cancel(b)
        await settle()
        assert b.cancelled
        assert primitive.statistics().waiting == 1
        holding.release()
        await settle()
        assert c.state == "returned"
    assert not primitive.locked()


# holder               b: queued             c: queued
# gives back: b's
# cancels b
#                      raises, c's; or runs, gives back: c's
#                                            runs
@both_cancels
@every_way_in
async def test_a_grant_that_crosses_a_cancellation_is_not_lost(
    make: Callable[[], Any], take: WayIn, cancel: Cancel
) -> None:
    """Whether the waiter gets it or raises, the next one gets it in the end."""
    primitive = make()

    async def work() -> None:
        (await take(primitive))()

    async with anyio.create_task_group() as tasks:
        holding = primitive.try_lock() if isinstance(primitive, Mutex) else primitive.try_acquire()
        b = spawn(tasks, work, name="b")
        await settle()
        c = spawn(tasks, work, name="c")
        await settle()
        holding.release()
        cancel(b)
        await settle()
        assert b.done
        assert c.state == "returned"
    assert not primitive.locked()
    assert primitive.statistics().waiting == 0


# holder               b: queued             c: queued
# cancels b
# gives back: b's, or c's
#                      raises
#                                            runs
@both_cancels
@every_way_in
async def test_a_cancellation_that_crosses_a_grant_is_not_lost(
    make: Callable[[], Any], take: WayIn, cancel: Cancel
) -> None:
    """Cancelled before anything was granted, the waiter raises, and the grant goes to the next."""
    primitive = make()

    async def work() -> None:
        (await take(primitive))()

    async with anyio.create_task_group() as tasks:
        holding = primitive.try_lock() if isinstance(primitive, Mutex) else primitive.try_acquire()
        b = spawn(tasks, work, name="b")
        await settle()
        c = spawn(tasks, work, name="c")
        await settle()
        cancel(b)
        holding.release()
        await settle()
        assert b.cancelled
        assert c.state == "returned"
    assert not primitive.locked()


@every_way_in
async def test_all_waiters_cancelled_with_their_holder_leave_nothing(make: Callable[[], Any], take: WayIn) -> None:
    """A task group that ends takes its whole line along."""
    primitive = make()

    async def work() -> None:
        (await take(primitive))()

    async with anyio.create_task_group() as tasks:
        async with primitive:
            running = [spawn(tasks, work) for _ in range(10)]
            await settle()
            for one in running:
                one.cancel()
        await settle()
        assert all(one.cancelled for one in running)
    assert not primitive.locked()
    assert primitive.statistics().waiting == 0


@every_way_in
async def test_a_cancelled_scope_acquires_nothing(make: Callable[[], Any], take: WayIn) -> None:
    """On trio the acquisition itself raises; on asyncio's kind what is acquired is given back on the way out."""
    primitive = make()
    with anyio.CancelScope() as scope:
        scope.cancel()
        give_back = await take(primitive)
        assert not on_trio(), "a cancelled scope acquired"
        give_back()
    assert not primitive.locked()
    assert primitive.statistics().waiting == 0


@every_way_in
async def test_a_waiter_can_be_shielded(make: Callable[[], Any], take: WayIn) -> None:
    """A shielded wait goes on though the scope around it is cancelled."""
    primitive = make()
    log: list[str] = []

    async def work(scope: anyio.CancelScope) -> None:
        with scope, anyio.CancelScope(shield=True):
            give_back = await take(primitive)
            log.append("got it")
            give_back()

    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()
        holding = primitive.try_lock() if isinstance(primitive, Mutex) else primitive.try_acquire()
        spawn(tasks, work, scope)
        await settle()
        scope.cancel()
        await settle()
        assert primitive.statistics().waiting == 1
        holding.release()
    assert log == ["got it"]
    assert not primitive.locked()


async def _wait_in_vain(primitive: Any) -> None:
    await (primitive.lock_owned() if isinstance(primitive, Mutex) else primitive.acquire())


@pytest.mark.parametrize("make", [Mutex, lambda: Semaphore(0)], ids=["mutex", "semaphore"])
async def test_waiting_does_not_keep_a_primitive_alive_that_nobody_else_has(make: Callable[[], Any]) -> None:
    """What was waited for in vain is garbage with its waiters' end."""
    primitive = make()
    if isinstance(primitive, Mutex):
        primitive.acquire_nowait()
    gone = weakref.ref(primitive)
    async with anyio.create_task_group() as tasks:
        running = spawn(tasks, _wait_in_vain, primitive)
        await settle()
        running.cancel()
        await settle()
    del primitive, running, tasks
    collect()
    assert gone() is None
