"""What `Mutex.acquire` and `Semaphore.take` take without a guard, for code that spells locks otherwise."""

from __future__ import annotations

import anyio
import pytest

from asynclocks import ClosedError, Condvar, GuardReleasedError, Mutex, Semaphore, TryAcquireError
from tests.conformance.line import Cancel, both_cancels
from tests.conformance.turns import in_turn
from tests.support import settle


async def test_a_guard_can_take_over_what_acquire_took() -> None:
    """It releases the mutex, once."""
    mutex = Mutex(1)
    await mutex.acquire()
    guard = mutex.take_over()
    with pytest.raises(RuntimeError, match="a guard holds it"):
        mutex.release()
    guard.value += 1
    guard.release()
    assert not mutex.locked()
    assert mutex.into_inner() == 2


@pytest.mark.parametrize("kind", ["free", "guarded"])
async def test_only_what_acquire_took_can_be_taken_over(kind: str) -> None:
    """Not a free mutex, nor one that a guard holds."""
    mutex = Mutex()
    guard = mutex.try_lock() if kind == "guarded" else None
    with pytest.raises(RuntimeError, match=r"take_over\(\) of <Mutex .*: it is not held by what acquire\(\) took"):
        mutex.take_over()
    if guard is not None:
        guard.release()


async def test_a_guard_can_leave_the_mutex_held() -> None:
    """Then `release` gives it back, and the guard is done."""
    mutex = Mutex(1)
    guard = await mutex.lock()
    guard.leave_held()
    assert guard.released
    assert mutex.locked()
    with pytest.raises(GuardReleasedError):
        guard.leave_held()
    mutex.release()
    assert not mutex.locked()


async def test_the_guard_of_a_block_can_leave_the_mutex_held() -> None:
    """The block's end has nothing to release then."""
    mutex = Mutex(1)
    async with mutex as guard:
        guard.leave_held()
    assert mutex.locked()
    mutex.release()
    async with mutex:
        pass
    assert not mutex.locked()


async def test_a_mutex_that_acquire_took_can_wait_for_a_condvar() -> None:
    """By a guard that takes it over for the wait."""
    mutex, condvar = Mutex(0), Condvar()

    async def wait() -> int:
        await mutex.acquire()
        guard = mutex.take_over()
        await condvar.wait_while(guard, lambda value: value == 0)
        guard.leave_held()
        assert mutex.in_use()
        mutex.release()
        return 1

    async with anyio.create_task_group() as tasks:
        (waiter,) = await in_turn(tasks, wait)
        async with mutex as guard:
            guard.value = 1
            condvar.notify_one()
        await settle()
        assert waiter.result == 1
    assert not mutex.locked()


async def test_a_mutex_is_in_use_when_its_holder_knows() -> None:
    """Handed over, it is locked, and in use from when the new holder resumes.

    a: holds    b: waits    a: release(): b is granted it    b: resumes
    """
    mutex = Mutex()
    assert not mutex.in_use()
    await mutex.acquire()
    assert mutex.in_use()

    async def hold() -> bool:
        await mutex.acquire()
        return mutex.in_use()

    async with anyio.create_task_group() as tasks:
        (waiter,) = await in_turn(tasks, hold)
        mutex.release()
        assert mutex.locked()
        assert not mutex.in_use()
        with pytest.raises(RuntimeError, match="release"):
            mutex.release()
        await settle()
        assert waiter.result
    mutex.release()
    assert not mutex.in_use()


async def test_a_mutex_that_a_guard_holds_is_in_use() -> None:
    """Whichever kind of guard."""
    mutex = Mutex(1)
    async with mutex:
        assert mutex.in_use()
    with await mutex.lock() as loose:
        assert mutex.in_use()
        with loose.map(str):
            assert mutex.in_use()
    with mutex.try_lock():
        assert mutex.in_use()
    assert not mutex.in_use()


async def test_take_and_give_spare_the_permit() -> None:
    """The total stays what it was."""
    semaphore = Semaphore(2)
    assert await semaphore.take()
    semaphore.try_take()
    assert (semaphore.total_permits, semaphore.available_permits) == (2, 0)
    with pytest.raises(TryAcquireError):
        semaphore.try_take()
    semaphore.give()
    semaphore.give()
    with pytest.raises(ValueError, match=r"give\(\) to <Semaphore .* 2 of 2 available>: nothing is taken"):
        semaphore.give()
    assert (semaphore.total_permits, semaphore.available_permits) == (2, 2)


async def test_what_is_given_goes_to_who_waits_first() -> None:
    """A newcomer gets nothing."""
    semaphore = Semaphore(1)
    await semaphore.take()
    async with anyio.create_task_group() as tasks:
        first, second = await in_turn(tasks, semaphore.take, semaphore.take)
        semaphore.give()
        with pytest.raises(TryAcquireError):
            semaphore.try_take()
        await settle()
        assert first.result
        assert not second.done
        semaphore.give()
    semaphore.give()
    assert semaphore.available_permits == 1


@both_cancels
async def test_a_cancelled_take_passes_on_what_it_was_granted(cancel: Cancel) -> None:
    """To the next; on trio, who was rescheduled has it."""
    semaphore = Semaphore(1)
    await semaphore.take()
    async with anyio.create_task_group() as tasks:
        first, second = await in_turn(tasks, semaphore.take, semaphore.take)
        semaphore.give()
        cancel(first)  # type: ignore[arg-type]
        await settle()
        assert first.done
        if not first.cancelled:
            semaphore.give()
        await settle()
        assert second.result
        semaphore.give()
    assert semaphore.statistics().waiting == 0


async def test_nothing_is_taken_from_a_semaphore_that_is_closed_or_shrinking() -> None:
    """ClosedError; and what is to be taken away is not taken by a newcomer."""
    semaphore = Semaphore(2)
    await semaphore.take()
    await semaphore.take()
    semaphore.resize(1)
    semaphore.give()
    async with anyio.create_task_group() as tasks:
        (waiter,) = await in_turn(tasks, semaphore.take)
        assert not waiter.done
        semaphore.give()
    closed = Semaphore(1)
    closed.close()
    with pytest.raises(ClosedError):
        closed.try_take()
    semaphore.close()
    for call in (semaphore.try_take, semaphore.blocking_take):
        with pytest.raises((ClosedError, RuntimeError)):
            call()
    with pytest.raises(ClosedError):
        await semaphore.take()
