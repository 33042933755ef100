"""Mutex: who gets in, in what order, and what it tells. Guards, acquisitions and deadlocks have files of their own."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from asynclocks import Mutex, MutexGuard, MutexStatistics, TryLockError, WouldBlock
from tests.conformance.line import Cancel, Line, both_cancels
from tests.support import settle


async def test_value_starts_as_given_and_keeps_what_a_guard_sets() -> None:
    """The value is reached through the guard and outlives it."""
    mutex = Mutex([1])
    async with mutex as guard:
        guard.value = [*guard.value, 2]
    async with mutex as guard:
        assert guard.value == [1, 2]


async def test_value_is_none_unless_given() -> None:
    """A Mutex without a value holds None."""
    async with Mutex() as guard:
        assert guard.value is None


async def test_only_one_is_inside() -> None:
    """Tasks that yield inside the block never meet there."""
    mutex = Mutex(0)

    async def work() -> None:
        for _ in range(5):
            async with mutex as guard:
                before = guard.value
                await anyio.lowlevel.checkpoint()
                guard.value = before + 1

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(work)
    assert mutex.into_inner() == 100


async def test_waiters_are_served_in_order_of_arrival() -> None:
    """First come, first served."""
    async with anyio.create_task_group() as tasks:
        mutex = Mutex()
        line = Line(tasks, lambda: mutex)
        names = list("abcdef")
        for name in names:
            await line.join(name)
        for name in names:
            await line.let_go(name)
    assert line.log == names


async def test_an_error_in_the_block_lets_the_next_one_in() -> None:
    """The block releases however it ends."""
    mutex = Mutex(name="m")
    with pytest.raises(ZeroDivisionError):
        async with mutex:
            raise ZeroDivisionError
    assert not mutex.locked()


# The holder            B: queued                the holder again
# release(): m is B's
#                                                try_lock(): refused
#                       runs
async def test_a_newcomer_does_not_overtake_a_waiter_that_was_just_granted() -> None:
    """Ownership moves at release time, before the waiter resumes."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        guard = mutex.try_lock()
        await line.join("b")
        guard.release()
        assert line.log == []
        assert mutex.statistics() == MutexStatistics(locked=True, owner="b", waiting=0)
        with pytest.raises(TryLockError):
            mutex.try_lock()
        with pytest.raises(TryLockError):
            mutex.acquire_nowait()
        line.may_leave("b")
        async with mutex:
            assert line.log == ["b"]


# A: async with           B: queued
# exit: m is B's
# async with: queues
#                         runs, leaves: m is A's
# runs
async def test_who_comes_right_back_queues_behind_the_others() -> None:
    """A task in a tight loop around the mutex cannot starve the others."""
    mutex = Mutex()
    turns: list[str] = []

    async def loop(name: str) -> None:
        for _ in range(4):
            async with mutex:
                turns.append(name)
                await settle()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loop, "a")
        tasks.start_soon(loop, "b")
    assert "".join(turns) in {"abababab", "babababa"}


async def test_a_waiter_runs_in_the_pass_after_the_release() -> None:
    """A waiter of the releasing loop runs in its next pass."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        guard = mutex.try_lock()
        await line.join("b")
        line.may_leave("b")
        guard.release()
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        assert line.log == ["b"]


async def test_releasing_never_yields() -> None:
    """Nobody else runs between the release and the next line."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        async with mutex:
            await line.join("b")
        assert line.log == []
        line.may_leave("b")


@pytest.mark.parametrize("who", ["b", "c", "d"])
@both_cancels
async def test_a_cancelled_waiter_loses_its_place_and_nobody_else_does(who: str, cancel: Cancel) -> None:
    """First, middle or last in line: the others keep their order."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        await line.join(*"abcd")
        assert mutex.statistics().waiting == 3
        cancel(line[who])
        await settle()
        assert mutex.statistics().waiting == 2
        await line.let_go(*"abcd")
    assert line[who].cancelled
    assert line.log == ["a", *(name for name in "bcd" if name != who)]
    assert not mutex.locked()


@both_cancels
async def test_who_became_the_first_may_leave_as_any_other(cancel: Cancel) -> None:
    """The ones behind are served as if it had never stood there."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        await line.join(*"abcd")
        await line.let_go("a")
        cancel(line["c"])
        await settle()
        assert mutex.statistics().waiting == 1
        await line.let_go(*"bd")
    assert line.log == ["a", "b", "d"]
    assert not mutex.locked()


@both_cancels
async def test_everybody_may_leave_the_line(cancel: Cancel) -> None:
    """When all waiters were cancelled the mutex is as if they had never come."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        async with mutex:
            await line.join(*"bcd")
            for name in "cbd":
                cancel(line[name])
            await settle()
            assert mutex.statistics().waiting == 0
        assert not mutex.locked()
        mutex.try_lock().release()


# A: release(): m is B's   B: queued                C: queued
# cancels B
#                          raises, m is C's, or enters and leaves
#                                                   runs
@both_cancels
async def test_a_grant_that_crosses_a_cancellation_is_not_lost(cancel: Cancel) -> None:
    """Whichever comes first, the next in line gets the mutex in the end."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        guard = mutex.try_lock()
        await line.join(*"bc")
        guard.release()
        cancel(line["b"])
        await settle()
        assert line.log[-1] == "c"
        await line.let_go("c")
    assert not mutex.locked()


# A: cancels B             B: queued                C: queued
# release(): m is B's, or C's
#                          raises
#                                                   runs
@both_cancels
async def test_a_release_that_crosses_a_cancellation_is_not_lost(cancel: Cancel) -> None:
    """Cancelled first, released then, in one step: the next in line gets the mutex."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        guard = mutex.try_lock()
        await line.join(*"bc")
        cancel(line["b"])
        guard.release()
        await settle()
        assert line["b"].cancelled
        assert line.log == ["c"]
        await line.let_go("c")
    assert not mutex.locked()


@both_cancels
async def test_a_holder_that_is_cancelled_lets_the_next_one_in(cancel: Cancel) -> None:
    """Cancellation inside the block releases."""
    async with anyio.create_task_group() as tasks:
        mutex = Mutex()
        line = Line(tasks, lambda: mutex)
        await line.join(*"ab")
        cancel(line["a"])
        await settle()
        assert line.log == ["a", "b"]
        await line.let_go("b")


# holder               b: queued         c: queued
# cancels b's wait
#                      queues again
# release(): c's
#                                        leaves: b's
async def test_a_cancelled_waiter_may_come_again() -> None:
    """A wait that was cancelled leaves the task free to wait anew, at the end of the line."""
    mutex = Mutex()
    scope = anyio.CancelScope()

    @asynccontextmanager
    async def enter_at_the_second_try() -> AsyncIterator[None]:
        with scope:
            await mutex.lock()
        async with mutex:
            yield

    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        guard = mutex.try_lock()
        await line.join("b", enter=enter_at_the_second_try)
        await line.join("c")
        scope.cancel()
        await settle()
        guard.release()
        line.may_leave("b", "c")
    assert line.log == ["c", "b"]


async def test_a_wait_ends_with_its_time_limit() -> None:
    """Time limits of anyio are ordinary cancellations."""
    mutex = Mutex()
    async with mutex:
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(TimeoutError), anyio.fail_after(0):
                    await mutex.lock()

            tasks.start_soon(wait)
        assert mutex.statistics().waiting == 0


async def test_a_cancelled_scope_takes_nothing_on_the_way_out() -> None:
    """A task that is cancelled already leaves a free mutex free, sooner or later in its block."""
    mutex = Mutex()
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with mutex:
            await anyio.lowlevel.checkpoint()
    assert not mutex.locked()


def test_try_lock_needs_no_loop() -> None:
    """`try_lock` works anywhere; its guard too."""
    mutex = Mutex(1)
    with mutex.try_lock() as guard:
        guard.value += 1
    assert mutex.into_inner() == 2


async def test_try_lock_refuses_a_held_mutex_with_a_way_out() -> None:
    """The error names the mutex and says what to do."""
    mutex = Mutex(name="cash")
    async with mutex:
        with pytest.raises(TryLockError, match=r"Mutex 'cash' is held.*wait") as caught:
            mutex.try_lock()
    assert isinstance(caught.value, WouldBlock)


async def test_into_inner_returns_the_value_of_a_free_mutex_that_stays_usable() -> None:
    """`into_inner` takes nothing away."""
    mutex = Mutex("v")
    assert mutex.into_inner() == "v"
    async with mutex as guard:
        guard.value = "w"
    assert mutex.into_inner() == "w"
    assert not mutex.locked()


async def test_into_inner_refuses_while_held() -> None:
    """A value somebody works on is not handed out."""
    mutex = Mutex(1)
    async with mutex:
        with pytest.raises(TryLockError):
            mutex.into_inner()
    assert mutex.into_inner() == 1


async def test_into_inner_refuses_while_awaited() -> None:
    """Who was granted owns the value, running or not yet."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        guard = mutex.try_lock()
        await line.join("b")
        guard.release()
        with pytest.raises(TryLockError):
            mutex.into_inner()
        line.may_leave("b")
    assert mutex.into_inner() is None


async def test_acquire_and_release_work_as_in_other_locks() -> None:
    """The spelling of asyncio, anyio and trio: acquire is always True."""
    mutex = Mutex()
    assert await mutex.acquire() is True
    assert mutex.locked()
    with pytest.raises(TryLockError):
        mutex.acquire_nowait()
    mutex.release()
    assert not mutex.locked()
    mutex.acquire_nowait()
    assert mutex.locked()
    mutex.release()
    assert not mutex.locked()


async def test_release_lets_the_next_waiter_in() -> None:
    """`release` hands over as a guard does."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        await mutex.acquire()
        await line.join("b")
        mutex.release()
        assert mutex.statistics().owner == "b"
        await settle()
        assert line.log == ["b"]
        await line.let_go("b")


async def test_acquire_waits_its_turn() -> None:
    """`acquire` queues as lock does."""
    mutex = Mutex()
    log: list[str] = []

    async def work(name: str) -> None:
        await mutex.acquire()
        log.append(name)
        mutex.release()

    async with anyio.create_task_group() as tasks:
        await mutex.acquire()
        for name in "abc":
            tasks.start_soon(work, name)
            await settle()
        mutex.release()
    assert log == ["a", "b", "c"]
    assert not mutex.locked()


async def test_any_task_may_release_what_acquire_took() -> None:
    """The spelling knows no owner either."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mutex.acquire)
    mutex.release()
    assert not mutex.locked()


async def test_release_of_a_free_mutex_is_an_error() -> None:
    """As with every lock."""
    mutex = Mutex(name="m")
    with pytest.raises(RuntimeError, match=r"Mutex 'm'.*nobody holds it"):
        mutex.release()
    await mutex.acquire()
    mutex.release()
    with pytest.raises(RuntimeError, match="nobody"):
        mutex.release()


@pytest.mark.parametrize("take", ["async with", "lock", "lock_owned", "try_lock"])
async def test_release_refuses_what_a_guard_holds(take: str) -> None:
    """A guard's hold is the guard's."""
    mutex = Mutex(name="m")

    async def refused() -> None:
        with pytest.raises(RuntimeError, match="guard"):
            mutex.release()
        assert mutex.locked()

    if take == "async with":
        async with mutex:
            await refused()
    elif take == "try_lock":
        with mutex.try_lock():
            await refused()
    else:
        with await getattr(mutex, take)():
            await refused()
    assert not mutex.locked()


async def test_the_one_that_acquire_was_granted_to_can_release_at_once() -> None:
    """No matter whether acquire had to wait."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            await mutex.acquire()
            mutex.release()

        async with mutex:
            tasks.start_soon(work)
            await settle()
    assert not mutex.locked()


async def test_statistics_tell_owner_and_waiters() -> None:
    """The owner is the owning task's name from the moment of the grant."""
    mutex = Mutex()
    assert mutex.statistics() == MutexStatistics(locked=False, owner=None, waiting=0)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        for number, name in enumerate("abc"):
            await line.join(name)
            assert mutex.statistics() == MutexStatistics(locked=True, owner="a", waiting=number)
        for name in "abc":
            assert mutex.statistics().owner == name
            await line.let_go(name)
    assert mutex.statistics() == MutexStatistics(locked=False, owner=None, waiting=0)


async def test_statistics_name_the_owner_of_every_followed_hold() -> None:
    """`async with`, `lock`, try_lock and acquire are followed; lock_owned is not."""
    mutex = Mutex()
    me = anyio.get_current_task().name
    async with mutex:
        assert mutex.statistics().owner == me
    with await mutex.lock():
        assert mutex.statistics().owner == me
    with mutex.try_lock():
        assert mutex.statistics().owner == me
    await mutex.acquire()
    assert mutex.statistics().owner == me
    mutex.release()
    mutex.acquire_nowait()
    assert mutex.statistics().owner == me
    mutex.release()
    with await mutex.lock_owned():
        assert mutex.statistics() == MutexStatistics(locked=True, owner=None, waiting=0)


def test_a_hold_taken_outside_any_task_has_no_owner() -> None:
    """Threads are not tracked."""
    mutex = Mutex()
    with mutex.try_lock():
        assert mutex.statistics() == MutexStatistics(locked=True, owner=None, waiting=0)


async def test_the_guard_of_a_block_is_a_mutex_guard_of_this_mutex() -> None:
    """Every way in yields the same kind of guard."""
    mutex = Mutex()
    async with mutex as guard:
        assert isinstance(guard, MutexGuard)
        assert guard.mutex is mutex
    with await mutex.lock() as guard:
        assert isinstance(guard, MutexGuard)
        assert guard.mutex is mutex
    with mutex.try_lock() as guard:
        assert isinstance(guard, MutexGuard)
        assert guard.mutex is mutex


async def test_repr_tells_name_holder_and_waiters() -> None:
    """What a person wants to know when the program hangs."""
    mutex = Mutex(name="cash")
    assert repr(mutex) == "<Mutex 'cash' free>"
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        await line.join("anna")
        assert repr(mutex) == "<Mutex 'cash' held by task 'anna'>"
        await line.join("bert")
        assert repr(mutex) == "<Mutex 'cash' held by task 'anna', 1 waiting>"
        await line.let_go("anna")
        await line.let_go("bert")
    with await mutex.lock_owned():
        assert repr(mutex) == "<Mutex 'cash' held>"


def test_repr_of_a_nameless_mutex_tells_where_it_is() -> None:
    """Two nameless ones can be told apart."""
    mutex = Mutex()
    assert hex(id(mutex)) in repr(mutex)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_mutex_refuses_to_be_copied(copier: Callable[[object], object]) -> None:
    """Neither pickling nor copying, as with threading.Lock."""
    with pytest.raises(TypeError, match="Mutex 'm'"):
        copier(Mutex(name="m"))


def test_statistics_are_frozen() -> None:
    """A look at a moment does not change."""
    with pytest.raises(AttributeError):
        Mutex().statistics().locked = True  # type: ignore[misc]


async def test_two_mutexes_do_not_know_each_other() -> None:
    """Holding one leaves another free."""
    first, second = Mutex(), Mutex()
    async with first, second:
        assert first.locked()
        assert second.locked()
    assert not first.locked()
    assert not second.locked()


async def test_an_exit_ends_the_hold_though_the_value_was_set_to_the_guard_itself() -> None:
    """The value may be anything."""
    mutex: Mutex[object] = Mutex()
    async with mutex as guard:
        guard.value = guard
    assert not mutex.locked()


# A: async with        B: queued        C: queued
# leaves: m is B's
# queues behind C
#                      leaves: C's
#                                       leaves: A's
async def test_a_convoy_keeps_its_order() -> None:
    """Every task of a convoy gets its turn in every round."""
    mutex = Mutex()
    turns: list[int] = []

    async def work(number: int) -> None:
        for _ in range(10):
            async with mutex:
                turns.append(number)
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks, mutex:
        for number in range(20):
            tasks.start_soon(work, number)
        await settle()
    first = turns[:20]
    assert sorted(first) == list(range(20))
    assert turns == first * 10


async def test_a_hold_that_a_stray_exit_ended_is_not_given_back_twice() -> None:
    """A misuse, but the mutex still has one holder at a time."""
    mutex = Mutex(0)
    guard = await mutex.lock()
    await mutex.__aexit__(None, None, None)
    guard.release()
    with mutex.try_lock():
        assert mutex.locked()


async def test_a_guard_let_go_just_before_a_condvars_wait_suspends_nobody() -> None:
    """By another thread, between the look and the wait."""
    mutex = Mutex(0)
    async with mutex as guard:
        guard.release()
        mutex._suspend(guard)
        with mutex.try_lock():
            assert mutex.locked()
    assert not mutex.locked()
