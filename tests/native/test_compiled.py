"""What is in C does as the Python it stands for. These tests run on both engines; `nox -s compiled` compiles."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import create_task_group

import asynclocks
from asynclocks import (
    ClosedError,
    DeadlockError,
    GuardReleasedError,
    Mutex,
    MutexGuard,
    Permit,
    Semaphore,
    _compiled,
)
from asynclocks._engine import ticket_queue
from asynclocks._engine.ticket import State, Ticket
from asynclocks.backends.asyncio import AsyncioParker
from asynclocks.backends.seam import TASKS_HOLD_STILL
from tests.support import collect, settle, spawn

only_compiled = pytest.mark.skipif(not asynclocks.compiled, reason="nothing is compiled here")


def test_an_acquisition_that_is_not_served_in_c_after_all_is_served_in_python() -> None:
    """The guard is as good."""

    async def main() -> None:
        mutex = Mutex(0)
        with await _compiled._lock_plainly(mutex) as guard:
            guard.value = 1
        assert not mutex.locked()
        semaphore = Semaphore(1)
        with await _compiled._acquire_plainly(semaphore):
            assert semaphore.available_permits == 0
        assert semaphore.available_permits == 1

    asyncio.run(main())


# Which engine it is.
def test_the_environment_asks_for_the_pure_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """ASYNCLOCKS_PURE=1 leaves every class as its source has it."""
    monkeypatch.setenv("ASYNCLOCKS_PURE", "1")
    assert not _compiled._install()


def test_without_the_compiled_module_the_engine_is_pure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said about it: a pure installation is no mistake."""
    monkeypatch.delenv("ASYNCLOCKS_PURE", raising=False)
    monkeypatch.setitem(sys.modules, "asynclocks._engine._core", None)
    monkeypatch.delattr("asynclocks._engine._core", raising=False)
    assert not _compiled._install()


def test_the_compiled_module_is_told_of_the_classes_and_its_coroutines_are_coroutines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it gets exists by these names, and asyncio takes what it returns for coroutines."""

    class Entering:
        pass

    told: dict[str, Any] = {}
    core = SimpleNamespace(install=lambda **what: told.update(what) or ((Entering,), threading.RLock))
    monkeypatch.setattr(ticket_queue, "RLock", None)  # so that it is put back
    monkeypatch.delenv("ASYNCLOCKS_PURE", raising=False)
    monkeypatch.setitem(sys.modules, "asynclocks._engine._core", core)
    monkeypatch.setattr("asynclocks._engine._core", core, raising=False)
    assert _compiled._install()
    assert told["Mutex"] is Mutex
    assert ticket_queue.RLock is threading.RLock
    assert issubclass(Entering, Coroutine)
    assert [name for name in told["hooks"] if not hasattr(Mutex, name)] == []
    assert [name for name in told["permit_hooks"] if not hasattr(Semaphore, name)] == []


def test_a_module_compiled_from_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to do."""

    def install(**_: Any) -> Any:
        raise TypeError("asynclocks: Mutex has other slots")

    core = SimpleNamespace(install=install)
    monkeypatch.delenv("ASYNCLOCKS_PURE", raising=False)
    monkeypatch.setitem(sys.modules, "asynclocks._engine._core", core)
    monkeypatch.setattr("asynclocks._engine._core", core, raising=False)
    with pytest.raises(ImportError, match=r"other slots.* install it again"):
        _compiled._install()


@only_compiled
def test_another_process_is_pure_if_its_environment_says_so() -> None:
    """The same installation serves both."""
    answer = subprocess.run(
        [sys.executable, "-c", "import asynclocks; print(asynclocks.compiled)"],
        env={**os.environ, "ASYNCLOCKS_PURE": "1"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert answer.stdout == "False\n"


# An entry is a coroutine.
def enter(mutex: Mutex[Any]) -> Coroutine[Any, Any, MutexGuard[Any]]:
    return mutex.__aenter__()  # type: ignore[return-value]  # an async function to the type checker


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_an_entry_can_be_a_task_of_its_own() -> None:
    """`create_task` takes it, and its guard is the task's result."""
    mutex = Mutex(7)
    guard = await asyncio.create_task(enter(mutex))
    assert guard.value == 7
    await mutex.__aexit__(None, None, None)
    assert not mutex.locked()


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_a_parked_entry_that_is_a_task_of_its_own_is_cancelled_as_any_task() -> None:
    """It leaves the line."""
    mutex: Mutex[None] = Mutex()
    with await mutex.lock_owned():
        task = asyncio.create_task(enter(mutex))
        await settle()
        assert mutex.statistics().waiting == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert mutex.statistics().waiting == 0


async def test_an_entry_is_awaited_once() -> None:
    """A second `await` is refused and takes nothing."""
    mutex: Mutex[None] = Mutex()
    entry = enter(mutex)
    await entry
    await mutex.__aexit__(None, None, None)
    with pytest.raises(RuntimeError, match="already awaited"):
        await entry
    assert not mutex.locked()


async def test_an_entry_looked_up_once_enters_as_often_as_it_is_called() -> None:
    """`mutex.__aenter__` is a method: each call is another entry."""
    mutex: Mutex[None] = Mutex()
    method, leave = mutex.__aenter__, mutex.__aexit__
    for _ in range(3):
        await method()
        assert mutex.locked()
        await leave(None, None, None)
        assert not mutex.locked()


def test_an_entry_never_awaited_warns() -> None:
    """As a coroutine does, when it is dropped."""
    mutex: Mutex[None] = Mutex()
    with pytest.warns(RuntimeWarning, match="__aenter__' was never awaited"):
        enter(mutex)  # dropped at once
    assert not mutex.locked()


def test_an_entry_that_is_closed_before_it_begins_takes_nothing() -> None:
    """And does not warn."""
    mutex: Mutex[None] = Mutex()
    entry = enter(mutex)
    entry.close()
    entry.close()
    with pytest.raises(RuntimeError, match="already awaited"):
        entry.send(None)
    assert not mutex.locked()


def test_an_entry_that_is_thrown_into_before_it_begins_raises_that() -> None:
    """It takes nothing."""
    mutex: Mutex[None] = Mutex()
    entry = enter(mutex)
    with pytest.raises(KeyError, match="here"):
        entry.throw(KeyError("here"))
    assert not mutex.locked()


def test_what_no_loop_runs_is_refused_by_the_entry() -> None:
    """In a plain thread there is nothing to wait with."""
    mutex: Mutex[None] = Mutex()
    with pytest.raises(asynclocks.UnsupportedLoopError):
        enter(mutex).send(None)
    assert not mutex.locked()


class Awaiting:
    """Drives what `__await__` returns, as an awaitable written by somebody else does."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.iterator = awaitable.__await__()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return next(self.iterator)


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
@pytest.mark.parametrize("drop", [lambda awaiting: awaiting.iterator.close(), lambda awaiting: vars(awaiting).clear()])
async def test_a_parked_entry_that_is_closed_or_dropped_leaves_the_line(drop: Callable[[Awaiting], Any]) -> None:
    """Nobody would resume it: the next one gets the mutex."""
    mutex: Mutex[None] = Mutex()
    guard = await mutex.lock_owned()
    awaiting = Awaiting(enter(mutex))
    assert asyncio.isfuture(next(awaiting))
    assert mutex.statistics().waiting == 1
    drop(awaiting)
    collect()
    assert mutex.statistics().waiting == 0
    guard.release()
    assert not mutex.locked()


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_a_granted_entry_that_is_dropped_passes_its_grant_on() -> None:
    """It was woken, and nobody resumed it."""
    mutex: Mutex[None] = Mutex()
    guard = await mutex.lock_owned()
    awaiting = Awaiting(enter(mutex))
    next(awaiting)
    async with create_task_group() as group:
        spawn(group, one_block, mutex)
        await settle()
        guard.release()
        await settle()
        assert mutex.statistics().waiting == 1
        del awaiting
        collect()
    assert not mutex.locked()


async def one_block(mutex: Mutex[None]) -> None:
    async with mutex:
        pass


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_an_exception_thrown_into_a_parked_entry_comes_out_of_it() -> None:
    """Any exception, not only a cancellation: it leaves the line and is raised, with its own traceback."""
    mutex: Mutex[None] = Mutex()
    with await mutex.lock_owned():
        iterator: Any = enter(mutex).__await__()
        next(iterator)
        with pytest.raises(LookupError, match="thrown"):
            iterator.throw(LookupError("thrown"))
        assert mutex.statistics().waiting == 0


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_a_parked_entry_goes_on_parking_when_it_is_driven_without_reason() -> None:
    """A park may return without reason."""
    mutex: Mutex[None] = Mutex()
    guard = await mutex.lock_owned()
    iterator: Any = enter(mutex).__await__()
    first = next(iterator)
    first.set_result(None)
    second = next(iterator)
    assert second is not first
    guard.release()
    assert second.done()
    with pytest.raises(StopIteration) as stop:
        next(iterator)
    assert stop.value.value.mutex is mutex
    await mutex.__aexit__()
    assert not mutex.locked()


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_a_parked_entry_whose_task_holds_nothing_is_seen_in_a_deadlock() -> None:
    """The holder of the other mutex awaits that task; so whoever it waits for may not wait for the other mutex."""
    ours, theirs = Mutex(name="ours"), Mutex(name="theirs")

    async def parent() -> None:
        async with theirs:
            await asyncio.create_task(one_block(ours))

    async with ours:
        task = asyncio.create_task(parent())
        await settle()
        assert ours.statistics().waiting == 1
        with pytest.raises(DeadlockError):
            await enter(theirs)
    await task


# Guards.
async def test_a_guard_that_let_go_refuses_its_value() -> None:
    """Reading and setting it, as the pure one does."""
    mutex = Mutex([1])
    async with mutex as guard:
        guard.value = [2]
        with pytest.raises(AttributeError):
            del guard.value  # type: ignore[misc]
    with pytest.raises(GuardReleasedError):
        _ = guard.value
    with pytest.raises(GuardReleasedError):
        guard.value = [3]
    assert mutex.into_inner() == [2]


async def test_what_a_block_returned_is_not_kept_by_the_engine() -> None:
    """A mutex that is dropped after a block, or in the middle of one, is collected, and its value."""
    gone: list[str] = []

    class Value:
        def __del__(self) -> None:
            gone.append("gone")

    mutex = Mutex(Value())
    async with mutex:
        pass
    await enter(mutex)
    del mutex
    collect()
    assert gone == ["gone"]


class Own(Mutex[None]):
    """A subclass that replaces a step of the engine."""

    __slots__ = ("handed",)

    def _hand_over(self, held: Any) -> bool:
        self.handed = True
        return super()._hand_over(held)


async def test_a_subclass_with_a_step_of_its_own_is_served_by_it() -> None:
    """What it replaced is called."""
    mutex = Own()
    async with create_task_group() as group, mutex:
        spawn(group, one_block, mutex)
        await settle()
    assert mutex.handed


# A semaphore's entries.
async def one_permit(semaphore: Semaphore) -> None:
    async with semaphore:
        pass


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_a_block_of_a_semaphore_that_waited_inside_another_of_its_task_ends_before_it() -> None:
    """Each exit gives back one permit, and the outer block's permit is its own."""
    semaphore = Semaphore(2)
    other = semaphore.try_acquire()

    async def nested() -> None:
        async with semaphore as outer:
            async with semaphore as inner:
                assert inner is not outer
            assert inner.released
            assert not outer.released
            assert semaphore.available_permits == 1
        assert outer.released

    task = asyncio.create_task(nested())
    await settle()
    assert semaphore.statistics().waiting == 1
    other.release()
    await task
    assert semaphore.available_permits == 2


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
@pytest.mark.parametrize("ask", [one_permit, lambda semaphore: semaphore.acquire()])
async def test_who_waits_for_a_permit_is_told_that_the_semaphore_was_closed(ask: Callable[[Semaphore], Any]) -> None:
    """And holds nothing."""
    semaphore = Semaphore(1)
    with semaphore.try_acquire():
        task = asyncio.create_task(ask(semaphore))
        await settle()
        semaphore.close()
        with pytest.raises(ClosedError):
            await task
    assert semaphore.statistics().available == 1


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
@pytest.mark.parametrize("ask", [one_permit, lambda semaphore: semaphore.acquire()])
async def test_a_permit_is_not_given_to_who_stands_behind_a_larger_request(ask: Callable[[Semaphore], Any]) -> None:
    """First come, first served: the head asks for two, so one that comes back waits for another."""
    semaphore = Semaphore(2)
    first, second = semaphore.try_acquire(), semaphore.try_acquire()
    large = asyncio.create_task(semaphore.acquire(2))
    await settle()
    small = asyncio.create_task(ask(semaphore))
    await settle()
    first.release()
    await settle()
    assert semaphore.statistics().waiting == 2
    second.release()
    (await large).release()
    permit = await small
    if permit is not None:
        permit.release()
    assert semaphore.available_permits == 2


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_a_permit_of_a_block_may_be_released_split_or_forgotten_in_it() -> None:
    """Its exit gives back what is left."""
    semaphore = Semaphore(3)
    async with semaphore as permit:
        permit.release()
        assert semaphore.available_permits == 3
    async with semaphore as permit:
        part = permit.split(1)
        assert semaphore.available_permits == 2
    assert part.released
    async with semaphore as permit:
        permit.forget()
    async with semaphore.acquire() as permit:
        part = permit.split(1)
    assert part.released
    with await semaphore.acquire() as permit:
        permit.merge(semaphore.try_acquire())
        assert permit.count == 2
    assert (semaphore.available_permits, semaphore.total_permits) == (2, 2)


async def test_permits_that_are_to_go_are_not_handed_out_again() -> None:
    """After `resize` to fewer than are held, what comes back is gone."""
    semaphore = Semaphore(2)
    async with semaphore:
        with semaphore.try_acquire():
            semaphore.resize(1)
        with pytest.raises(asynclocks.TryAcquireError):
            semaphore.try_acquire()
    semaphore.try_acquire().release()
    assert semaphore.available_permits == 1


class OwnSemaphore(Semaphore):
    """A subclass that replaces a step of the engine."""

    __slots__ = ("handed",)

    def _hand_over(self, permit: Any) -> None:
        self.handed = True
        super()._hand_over(permit)


async def test_a_subclass_of_semaphore_with_a_step_of_its_own_is_served_by_it() -> None:
    """What it replaced is called."""
    semaphore = OwnSemaphore(1)
    async with create_task_group() as group, semaphore:
        spawn(group, one_permit, semaphore)
        await settle()
    assert semaphore.handed


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_a_parked_entry_of_a_semaphore_that_is_dropped_leaves_the_line() -> None:
    """And one that was granted passes its permit on."""
    semaphore = Semaphore(1)
    permit = semaphore.try_acquire()
    parked, behind = (Awaiting(semaphore.__aenter__()) for _ in range(2))
    next(parked)
    next(behind)
    assert semaphore.statistics().waiting == 2
    del parked
    collect()
    assert semaphore.statistics().waiting == 1
    permit.release()
    assert semaphore.available_permits == 0
    del behind
    collect()
    assert semaphore.available_permits == 1


# What comes in between: a twin asks the loop for its table, in Python, before it queues and before it wakes.
class StruckLoop(asyncio.SelectorEventLoop):
    """Does something of the test's when its table of parked tasks is asked for, which a collector could do there."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Any = None
        self.strike: Callable[[], object] | None = None

    @property
    def _asynclocks_parked(self) -> Any:
        strike, self.strike = self.strike, None
        if strike is not None:
            strike()
        if self.table is None:
            raise AttributeError
        return self.table

    @_asynclocks_parked.setter
    def _asynclocks_parked(self, table: Any) -> None:
        self.table = table


def struck(test: Callable[[StruckLoop], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        loop = StruckLoop()
        try:
            loop.run_until_complete(test(loop))
        finally:
            loop.close()

    run.__doc__ = test.__doc__
    return run


@struck
async def test_a_release_while_an_entry_is_about_to_queue_lets_it_in(loop: StruckLoop) -> None:
    """It does not sleep beside a free mutex."""
    mutex: Mutex[None] = Mutex()
    loop.strike = (await mutex.lock_owned()).release
    async with mutex:
        assert loop.strike is None
    assert not mutex.locked()


@struck
async def test_somebody_who_queues_while_an_entry_is_about_to_is_first(loop: StruckLoop) -> None:
    """First come, first served, by who stood in line first."""
    mutex: Mutex[None] = Mutex()
    guard = await mutex.lock_owned()
    order: list[str] = []

    async def block(name: str) -> None:
        async with mutex:
            order.append(name)

    first = enter(mutex).__await__()
    loop.strike = lambda: next(first)  # type: ignore[call-overload]
    second = asyncio.create_task(block("second"))
    await settle()
    assert mutex.statistics().waiting == 2
    guard.release()
    with pytest.raises(StopIteration):
        next(first)  # type: ignore[call-overload]
    assert order == []
    await mutex.__aexit__()
    await second
    assert order == ["second"]


@only_compiled  # Python does not ask for the table there
@struck
async def test_a_cancellation_while_a_mutex_is_handed_over_passes_it_on(loop: StruckLoop) -> None:
    """It was granted, and is withdrawn before it is woken: the one behind it gets the mutex."""
    mutex: Mutex[None] = Mutex()
    guard = await mutex.lock_owned()
    gone = enter(mutex).__await__()
    next(gone)  # type: ignore[call-overload]
    other = asyncio.create_task(one_block(mutex))
    await settle()
    loop.strike = gone.close  # type: ignore[attr-defined]
    guard.release()
    await other
    assert loop.strike is None
    assert not mutex.locked()


@only_compiled  # Python does not ask for the table there
@struck
async def test_a_lock_that_is_used_while_it_is_handed_over_is_consistent(loop: StruckLoop) -> None:
    """Whoever comes in between waits behind the others."""
    mutex: Mutex[None] = Mutex()
    newcomer = enter(mutex).__await__()

    def arrive() -> None:
        with pytest.raises(asynclocks.TryLockError):
            mutex.try_lock()
        next(newcomer)  # type: ignore[call-overload]

    async with mutex:
        others = [asyncio.create_task(one_block(mutex)) for _ in range(2)]
        await settle()
        loop.strike = arrive
    await asyncio.gather(*others)
    with pytest.raises(StopIteration):
        next(newcomer)  # type: ignore[call-overload]
    await mutex.__aexit__()
    assert not mutex.locked()
    assert mutex.statistics().waiting == 0


# A signal handler's exception can come out of what C calls in Python, and nowhere else in it: whoever is struck mends.
class Struck(BaseException):
    """What a signal handler raises, as Ctrl-C raises KeyboardInterrupt."""


def once(function: Callable[..., Any], strike: Callable[[], object]) -> Callable[..., Any]:
    """The function, which calls `strike` at the beginning of its first call."""
    strikes = [strike]

    def struck_once(*args: Any, **kwargs: Any) -> Any:
        if strikes:
            strikes.pop()()
        return function(*args, **kwargs)

    return struck_once


def be_struck() -> None:
    raise Struck


async def struck_block(mutex: Mutex[None]) -> None:
    with pytest.raises(Struck):
        await one_block(mutex)


@only_compiled  # Python does not ask for the table there
@struck
async def test_who_was_granted_is_woken_though_its_wake_is_interrupted(loop: StruckLoop) -> None:
    """The interrupt comes out of the release, which was made."""
    mutex: Mutex[None] = Mutex()
    guard = await mutex.lock_owned()
    waiter = asyncio.create_task(one_block(mutex))
    await settle()
    loop.strike = be_struck
    with pytest.raises(Struck):
        guard.release()
    assert guard.released
    await waiter
    assert not mutex.locked()


@struck
async def test_a_loop_about_to_sleep_is_told_though_that_is_interrupted(loop: StruckLoop) -> None:
    """A wake outside of any task's step tells the loop, and once more where an interrupt came first."""
    mutex: Mutex[None] = Mutex()
    guard = await mutex.lock_owned()
    waiter = asyncio.create_task(one_block(mutex))
    await settle()
    told: list[object] = []
    tell = loop.call_soon_threadsafe
    strike = once(lambda *args: told.append(args) or tell(*args), be_struck)
    loop.call_soon_threadsafe = strike  # type: ignore[method-assign]

    def release() -> None:
        with pytest.raises(Struck):
            guard.release()

    loop.call_soon(release)
    await waiter
    assert told
    assert not mutex.locked()


@struck
async def test_an_entry_that_is_interrupted_as_it_parks_is_not_in_line(loop: StruckLoop) -> None:
    """The future is made then that it would sleep on; whether it debugs, the loop is asked there."""
    mutex: Mutex[None] = Mutex()
    with await mutex.lock_owned():
        task = asyncio.create_task(struck_block(mutex))
        loop.get_debug = once(loop.get_debug, be_struck)  # type: ignore[method-assign]
        await task
        assert mutex.statistics().waiting == 0
    assert not mutex.locked()


@struck
async def test_an_entry_that_is_interrupted_as_it_parks_again_leaves_the_line(loop: StruckLoop) -> None:
    """It was woken without reason."""
    mutex: Mutex[None] = Mutex()
    with await mutex.lock_owned():
        task: Any = asyncio.create_task(struck_block(mutex))
        await settle()
        task._fut_waiter.set_result(None)
        loop.get_debug = once(loop.get_debug, be_struck)  # type: ignore[method-assign]
        await task
        assert mutex.statistics().waiting == 0
    assert not mutex.locked()


@struck
async def test_a_grant_that_comes_as_an_entry_parks_again_is_not_slept_over(loop: StruckLoop) -> None:
    """Another thread may hand over while the future is made."""
    mutex: Mutex[None] = Mutex()
    guard = await mutex.lock_owned()
    task: Any = asyncio.create_task(one_block(mutex))
    await settle()
    task._fut_waiter.set_result(None)
    loop.get_debug = once(loop.get_debug, guard.release)  # type: ignore[method-assign]
    async with asyncio.timeout(10):
        await task
    assert not mutex.locked()


@only_compiled  # Python does not ask for the table there
@struck
async def test_who_was_granted_a_permit_is_woken_though_its_wake_is_interrupted(loop: StruckLoop) -> None:
    """The interrupt comes out of the exit, which gave the permit back."""
    semaphore = Semaphore(1)
    waiter = asyncio.create_task(one_permit(semaphore))

    async def block() -> None:
        async with semaphore:
            waiting = asyncio.create_task(one_permit(semaphore))
            await settle()
            assert semaphore.statistics().waiting == 1
            tasks.append(waiting)
            loop.strike = be_struck

    await waiter
    tasks: list[asyncio.Task[None]] = []
    with pytest.raises(Struck):
        await block()
    await tasks[0]
    assert semaphore.available_permits == 1


@struck
async def test_a_cancelled_entry_that_is_interrupted_as_it_leaves_the_line_holds_nobody_up(loop: StruckLoop) -> None:
    """Whoever comes next takes it out, if nobody did before."""
    mutex: Mutex[None] = Mutex()
    guard = await mutex.lock_owned()
    task = asyncio.create_task(struck_block(mutex))
    await settle()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mutex, "_catch_up", once(Mutex._catch_up, be_struck))
        task.cancel()
        await task
    other = asyncio.create_task(one_block(mutex))
    await settle()
    assert mutex.statistics().waiting == 1
    guard.release()
    await other
    assert not mutex.locked()


def test_a_long_chain_of_guards_can_be_dropped_at_once() -> None:
    """Each keeps what it became by `map`, and letting go of them must not exhaust the stack."""
    mutex = Mutex(0)
    with mutex.try_lock() as guard:
        mapped = guard.map(abs)
        for _ in range(200_000):
            mapped = mapped.map(abs)
    assert mapped.released
    del guard, mapped
    assert not mutex.locked()


def test_a_long_chain_of_tickets_can_be_dropped_at_once() -> None:
    """Its end is not reached by recursion."""
    first = ticket = Ticket()
    for _ in range(1_000_000):
        ticket.after = Ticket()
        ticket = ticket.after
    del first, ticket


@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
@pytest.mark.skipif(not TASKS_HOLD_STILL, reason="nothing is compiled; the collector counts otherwise")
@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_a_collector_that_runs_all_the_time_finds_every_mutex_whole() -> None:
    """3.11's runs inside allocations: there dropped guards let go while others take, queue and hand over."""
    threshold = gc.get_threshold()
    mutex: Mutex[None] = Mutex()
    times = 0

    async def take_turns() -> None:
        nonlocal times
        for _ in range(10):
            garbage: list[Any] = [await mutex.lock_owned()]
            garbage.append(garbage)
            del garbage
            async with mutex:
                times += 1

    async def stay_awake() -> None:  # a loop that sleeps allocates nothing
        while times < 30:  # noqa: ASYNC110  # passes of the loop are what is wanted
            await asyncio.sleep(0)

    gc.set_threshold(1, 1, 1)
    try:
        await asyncio.gather(stay_awake(), *(take_turns() for _ in range(3)))
    finally:
        gc.set_threshold(*threshold)
    assert times == 30
    assert not mutex.locked()


# The internal lock.
def internal_lock() -> Any:
    return Mutex()._lock


def test_the_internal_lock_is_re_entrant() -> None:
    """Whoever is inside comes in again, and is out when they have left as often."""
    lock = internal_lock()
    with ThreadPoolExecutor(1) as other:
        assert lock.acquire()
        assert lock.acquire(False)
        lock.release()
        assert not other.submit(lock.acquire, False).result()
        lock.release()
        assert other.submit(lock.acquire, False).result()
        assert not lock.acquire(False)
        other.submit(lock.release).result()


def test_the_internal_lock_is_released_by_its_owner_only() -> None:
    """A release too many is an error."""
    lock = internal_lock()
    with pytest.raises(RuntimeError):
        lock.release()
    with ThreadPoolExecutor(1) as other, lock, pytest.raises(RuntimeError):
        other.submit(lock.release).result()


def test_threads_wait_for_the_internal_lock(switching: None) -> None:
    """Each of them gets in, and one at a time."""
    lock = internal_lock()
    inside = 0

    def count() -> None:
        nonlocal inside
        for _ in range(2_000):
            with lock:
                before = inside
                os.sched_yield() if hasattr(os, "sched_yield") else None
                inside = before + 1

    with ThreadPoolExecutor(8) as threads:
        for counting in [threads.submit(count) for _ in range(8)]:
            counting.result()
    assert inside == 16_000


# Nothing is left.
async def uncontended(mutex: Mutex[int], times: int) -> None:
    for _ in range(times):
        async with mutex as guard:
            guard.value += 1


async def contended(mutex: Mutex[int], times: int) -> None:
    await asyncio.gather(*(uncontended_with_a_pause(mutex, times // 4) for _ in range(4)))


async def uncontended_with_a_pause(mutex: Mutex[int], times: int) -> None:
    for _ in range(times):
        async with mutex as guard:
            guard.value += 1
            await asyncio.sleep(0)


async def cancelled(mutex: Mutex[int], times: int) -> None:
    for _ in range(times // 10):
        async with mutex:
            tasks = [asyncio.create_task(uncontended(mutex, 1)) for _ in range(10)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def nested(mutex: Mutex[int], times: int) -> None:
    other = Mutex(0)
    for _ in range(times // 10):
        async with mutex:
            try:
                async with other, mutex:
                    raise AssertionError
            except DeadlockError:
                pass


async def driven(mutex: Mutex[int], times: int) -> None:
    for _ in range(times):
        guard = await mutex.lock_owned()
        iterator: Any = enter(mutex).__await__()
        next(iterator)
        del iterator
        guard.release()
        enter(mutex).close()
        await asyncio.create_task(enter(mutex))
        await mutex.__aexit__()


async def spelled(mutex: Mutex[int], times: int) -> None:
    async def turn() -> None:
        for _ in range(times // 4):
            await mutex.acquire()
            await asyncio.sleep(0)
            mutex.release()

    await asyncio.gather(turn(), turn())
    for _ in range(times):
        mutex.acquire_nowait()
        mutex.release()
        await mutex.acquire()
        mutex.release()
        mutex.acquire().close()  # type: ignore[attr-defined]


async def loosely(mutex: Mutex[int], times: int) -> None:
    async def turn() -> None:
        for _ in range(times // 4):
            async with mutex.lock() as guard:
                guard.value += 1
                await asyncio.sleep(0)

    await asyncio.gather(turn(), turn())
    for _ in range(times // 4):
        with mutex.try_lock() as guard:
            guard.value += 1
            with pytest.raises(asynclocks.TryLockError):
                mutex.try_lock()
        async with mutex.lock() as guard:
            guard.release()
        with await mutex.lock() as guard:
            guard.value += 1
        (await mutex.lock()).map(lambda value: value).release()
        (await asyncio.create_task(mutex.lock())).release()
        mutex.lock().close()


async def timed_out(mutex: Mutex[int], times: int) -> None:
    async def block() -> None:
        async with asyncio.timeout(0), mutex:
            raise AssertionError

    for _ in range(times // 4):
        with await mutex.lock_owned():
            with pytest.raises(TimeoutError):
                await block()
            with pytest.raises(TimeoutError):
                await mutex.lock(timeout=0)
            with pytest.raises(TimeoutError):
                await mutex.acquire(timeout=0)
        async with mutex.lock(timeout=1):
            pass


async def with_closed_loops(mutex: Mutex[int], times: int) -> None:
    def closed() -> None:
        async def die() -> None:
            tasks.extend(asyncio.create_task(uncontended(mutex, 1)) for _ in range(10))
            await asyncio.sleep(0)

        tasks: list[asyncio.Task[None]] = []
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # which would hear of tasks that were dropped
        loop.run_until_complete(die())
        loop.close()

    with ThreadPoolExecutor(1) as thread:
        for _ in range(times // 100):
            with await mutex.lock_owned():
                await asyncio.wrap_future(thread.submit(closed))
            gc.collect(1)
            async with mutex:
                pass


async def uses_another_loop(mutex: Mutex[int], times: int) -> None:
    async def turns() -> None:
        for _ in range(times // 20):
            async with mutex:
                await asyncio.sleep(0)

    with ThreadPoolExecutor(1) as thread:
        await asyncio.gather(asyncio.wrap_future(thread.submit(asyncio.run, turns())), turns(), turns())


async def with_permits(mutex: Mutex[int], times: int) -> None:
    semaphore = Semaphore(2)

    async def turns() -> None:
        for _ in range(times // 10):
            async with semaphore:
                await asyncio.sleep(0)
            async with semaphore.acquire():
                await asyncio.sleep(0)

    await asyncio.gather(*(turns() for _ in range(5)))
    for _ in range(times // 4):
        async with semaphore, semaphore:
            tasks = [asyncio.create_task(one_permit(semaphore)), asyncio.create_task(semaphore.acquire())]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with await semaphore.acquire() as permit:
            permit.split(1)
        semaphore.try_acquire().release()
        semaphore.acquire().close()
    assert semaphore.available_permits == 2


OPERATIONS = [
    uncontended,
    contended,
    cancelled,
    nested,
    driven,
    spelled,
    loosely,
    timed_out,
    with_closed_loops,
    uses_another_loop,
    with_permits,
]


async def counts(mutex: Mutex[int]) -> list[int]:
    """How often each thing is referred to that operations refer to, and how many objects there are."""
    await settle()  # futures that were done before anybody awaited them left their callbacks to the loop
    gc.collect()
    kept = [
        *State,
        Semaphore,
        Permit,
        Mutex,
        MutexGuard,
        AsyncioParker,
        mutex,
        mutex.__class__.__aenter__,
        mutex.__aexit__,
    ]
    return [*map(sys.getrefcount, kept), sys.getallocatedblocks() // 300]


async def flat(operation: Callable[[Mutex[int], int], Awaitable[None]], times: int) -> None:
    mutex = Mutex(0)
    for _ in range(2):
        await operation(mutex, 100)
    before = await counts(mutex)
    await operation(mutex, times)
    after = await counts(mutex)
    assert [new - old for old, new in zip(before, after, strict=True) if abs(new - old) > 5] == []


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_reference_counts_are_flat(operation: Callable[[Mutex[int], int], Awaitable[None]]) -> None:
    """Thousands of operations of each kind leave nothing behind; a million under `-m slow`."""
    await flat(operation, 2_000)


@pytest.mark.slow
@only_compiled
@pytest.mark.loops("uvloop")  # it has no debug mode here
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_reference_counts_are_flat_over_a_million_operations(
    operation: Callable[[Mutex[int], int], Awaitable[None]],
) -> None:
    """No reference is lost and none is left, whatever an entry ends by."""
    await flat(operation, 1_000_000)
