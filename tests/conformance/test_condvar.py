"""Condvar: no notification is lost, and `wait` ends with the mutex held, whatever happens."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from asynclocks import Condvar, DeadlockError, GuardReleasedError, Mutex, MutexGuard
from tests.conformance.line import Cancel, both_cancels
from tests.support import Running, collect, native_cancel, on_trio, settle, spawn


class Waiters:
    """Tasks that wait with a condvar, in the order in which they came back."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.tasks = tasks
        self.mutex = Mutex(0, name="m")
        self.condvar = Condvar()
        self.log: list[str] = []  # "a" came back, "a!" was cancelled; both with the mutex held

    async def add(self, name: str, *, loose: bool = False) -> Running[None]:
        async def wait(guard: MutexGuard[int]) -> None:
            outcome = name + "!"
            try:
                await self.condvar.wait(guard)
                outcome = name
            finally:
                assert not guard.released
                assert self.mutex.locked()
                guard.value += 1
                self.log.append(outcome)

        async def run() -> None:
            if loose:
                with await self.mutex.lock() as guard:
                    await wait(guard)
            else:
                async with self.mutex as guard:
                    await wait(guard)

        task = spawn(self.tasks, run)
        await settle()
        return task

    async def notify_all_before(self, name: str) -> tuple[Running[None], anyio.Event]:
        """Notify all, and have one begin to wait before these have the mutex back: not until the event is set."""
        leave = anyio.Event()

        async def stay() -> None:
            async with self.mutex:
                await leave.wait()

        async with self.mutex:
            later = await self.add(name)
            spawn(self.tasks, stay)
            await settle()
            self.condvar.notify_all()
        await settle()
        assert self.condvar.statistics().waiting == 1
        return later, leave


async def some_passes() -> None:
    """In place of `settle` beside a task in a cancelled scope: on asyncio anyio cancels it again in every pass."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


guards = pytest.mark.parametrize("loose", [False, True], ids=["block", "loose"])


@guards
async def test_the_oldest_waiter_is_woken_first(loose: bool) -> None:
    """And the mutex is free while they wait."""
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        for name in "abc":
            await waiters.add(name, loose=loose)
        assert not waiters.mutex.locked()
        assert waiters.condvar.statistics().waiting == 3
        assert waiters.condvar.notify_one() is True
        await settle()
        assert waiters.log == ["a"]
        assert waiters.condvar.notify_all() == 2
        await settle()
        assert waiters.log == ["a", "b", "c"]
        assert not waiters.mutex.locked()
        assert waiters.mutex.into_inner() == 3


async def test_nobody_waiting_is_said_so_and_nothing_is_stored() -> None:
    """A later waiter waits."""
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        assert waiters.condvar.notify_one() is False
        assert waiters.condvar.notify_all() == 0
        assert waiters.condvar.notify(2) == 0
        await waiters.add("a")
        assert waiters.log == []
        waiters.condvar.notify_one()


async def test_a_notified_waiter_joins_the_mutexs_line_at_once() -> None:
    """Notified first, locked first: before who comes after the notification, after who came before it."""
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        await waiters.add("a")

        async def lock(name: str) -> None:
            async with waiters.mutex:
                waiters.log.append(name)

        async with waiters.mutex:
            spawn(tasks, lock, "before")
            await settle()
            waiters.condvar.notify_one()
            spawn(tasks, lock, "after")
            await settle()
            assert waiters.mutex.statistics().waiting == 3
        await settle()
        assert waiters.log == ["before", "a", "after"]


@guards
@both_cancels
async def test_a_cancelled_waiter_holds_the_mutex_again(cancel: Cancel, loose: bool) -> None:
    """It has to wait for it like anybody, and raises then."""
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        task = await waiters.add("a", loose=loose)
        async with waiters.mutex:
            cancel(task)
            await some_passes()
            assert not task.done
        await settle()
        assert task.cancelled
        assert waiters.log == ["a!"]
        assert not waiters.mutex.locked()
        assert waiters.condvar.statistics().waiting == 0


@guards
@both_cancels
async def test_a_cancellation_during_the_relocking_waits_for_the_mutex(cancel: Cancel, loose: bool) -> None:
    """And the notification, which it did not use, goes to the next, and to no other.

    notifier: locks, notify_one  → a is in the mutex's line
                                                              a: cancelled, and once more
    notifier: unlocks            → a raises with the mutex held; b is notified
    """
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        task = await waiters.add("a", loose=loose)
        await waiters.add("b", loose=loose)
        await waiters.add("c", loose=loose)
        async with waiters.mutex:
            waiters.condvar.notify_one()
            await settle()
            cancel(task)
            await some_passes()
            cancel(task)
            await some_passes()
            assert waiters.log == []
        await settle()
        assert task.cancelled
        assert waiters.log == ["a!", "b"]
        assert not waiters.mutex.locked()
        waiters.condvar.notify_one()


@both_cancels
async def test_one_of_several_notified_that_is_cancelled_passes_its_notification_on(cancel: Cancel) -> None:
    """`notify(n)` notifies each as `notify_one` would."""
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        task = await waiters.add("a")
        for name in "bcd":
            await waiters.add(name)
        async with waiters.mutex:
            waiters.condvar.notify(2)
            cancel(task)
            await some_passes()
        await settle()
        assert waiters.log in (["a!", "b", "c"], ["b", "a!", "c"])
        assert waiters.condvar.statistics().waiting == 1
        waiters.condvar.notify_one()


@both_cancels
async def test_a_notification_of_all_is_not_passed_on(cancel: Cancel) -> None:
    """Who began to wait after it was not meant.

    notifier: locks
                             b, c: in the mutex's line
    notifier: notify_all     a: in the line, behind c
    notifier: unlocks        b: waits for a notification    c: has the mutex
                             a: cancelled
    """
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        task = await waiters.add("a")
        later, leave = await waiters.notify_all_before("b")
        cancel(task)
        await some_passes()
        leave.set()
        await settle()
        assert waiters.log == ["a!"]
        assert not later.done
        waiters.condvar.notify_one()


@both_cancels
async def test_a_notification_that_crosses_a_cancellation_is_not_lost(cancel: Cancel) -> None:
    """Either the waiter gets it, or the next one does.

    notify_one → a is granted the free mutex
                                                a: cancelled in the same tick
    """
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        task = await waiters.add("a")
        await waiters.add("b")
        waiters.condvar.notify_one()
        cancel(task)
        await settle()
        assert waiters.log in (["a!", "b"], ["a"])
        waiters.condvar.notify_all()
        await settle()
        assert not waiters.mutex.locked()


@both_cancels
async def test_a_cancellation_just_before_the_notification_leaves_it_to_the_next(cancel: Cancel) -> None:
    """A waiter that is cancelled already but has not run yet does not swallow it."""
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        task = await waiters.add("a")
        await waiters.add("b")
        cancel(task)
        waiters.condvar.notify_one()
        await settle()
        assert waiters.log == ["a!", "b"]


async def test_wait_while_asks_with_the_mutex_held() -> None:
    """It comes back when the condition no longer holds, and does not wait if it never did."""
    mutex, condvar = Mutex(0), Condvar()
    async with anyio.create_task_group() as tasks:

        async def consumer() -> int:
            async with mutex as guard:
                await condvar.wait_while(guard, lambda value: value < 2)
                return guard.value

        consuming = spawn(tasks, consumer)
        for _ in range(2):
            await settle()
            assert not consuming.done
            async with mutex as guard:
                guard.value += 1
                condvar.notify_one()
        await settle()
        assert consuming.result == 2
        again = spawn(tasks, consumer)
        await settle()
        assert again.result == 2


async def test_a_raising_condition_leaves_the_mutex_held() -> None:
    """The exception goes to the caller."""
    mutex, condvar = Mutex(0), Condvar()

    def broken(value: int) -> bool:
        raise KeyError(value)

    async with mutex as guard:
        with pytest.raises(KeyError):
            await condvar.wait_while(guard, broken)
        assert not guard.released
    assert not mutex.locked()


async def test_one_condvar_belongs_to_one_mutex() -> None:
    """Another one's guard is refused, and stays as it was."""
    condvar, first, second = Condvar(), Mutex(0), Mutex(0)
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            async with first as guard:
                await condvar.wait(guard)

        spawn(tasks, wait)
        await settle()
        async with second as guard:
            with pytest.raises(ValueError, match="another Condvar"):
                await condvar.wait(guard)
            assert not guard.released
        condvar.notify_one()


async def test_a_released_guard_cannot_wait() -> None:
    """GuardReleasedError, at once."""
    mutex, condvar = Mutex(0), Condvar()
    guard = await mutex.lock()
    guard.release()
    with pytest.raises(GuardReleasedError):
        await condvar.wait(guard)
    with pytest.raises(TypeError):
        await condvar.wait("no guard")  # type: ignore[arg-type]


async def test_the_relock_is_exempt_from_deadlock_detection() -> None:
    """It cannot be refused, so neither it nor who closes a circle with it gets DeadlockError."""
    mutex, other, condvar = Mutex(0), Mutex(0), Condvar()
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            async with other, mutex as guard:
                await condvar.wait(guard)

        waiting = spawn(tasks, wait)
        await settle()
        async with mutex:
            condvar.notify_one()
            await settle()
            with anyio.move_on_after(0.01) as scope:
                await other.acquire()
        await settle()
        assert scope.cancelled_caught
        assert waiting.done


@pytest.mark.parametrize("notified", [False, True])
@guards
async def test_a_waiter_destroyed_while_parked_releases_its_guard(loose: bool, notified: bool) -> None:
    """A coroutine that is closed cannot take the mutex back; a notification it had goes on."""
    if on_trio():
        return  # trio's tasks are never destroyed while they are parked
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        mutex, condvar = waiters.mutex, waiters.condvar

        async def wait() -> None:
            if loose:
                with await mutex.lock() as guard:
                    await condvar.wait(guard)
            else:
                async with mutex as guard:
                    await condvar.wait(guard)

        coroutine = wait().__await__()
        next(coroutine)
        await waiters.add("b")
        await waiters.add("c")
        if notified:
            condvar.notify_one()
        coroutine.close()  # type: ignore[attr-defined]
        collect()
        await settle()
        assert waiters.log == (["b"] if notified else [])
        assert not mutex.locked()
        async with mutex:
            pass
        assert not mutex.locked()
        condvar.notify_all()


async def test_a_waiter_destroyed_in_the_mutexs_line_passes_its_notification_on() -> None:
    """The mutex is held when the notification comes, so the waiter never gets it.

    notifier: locks, notify_one → a is in the mutex's line
                                                             a: destroyed; b is notified
    """
    if on_trio():
        return  # trio's tasks are never destroyed while they are parked
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        mutex, condvar = waiters.mutex, waiters.condvar

        async def wait() -> None:
            async with mutex as guard:
                await condvar.wait(guard)

        coroutine = wait().__await__()
        next(coroutine)
        await waiters.add("b")
        async with mutex:
            condvar.notify_one()
            coroutine.close()  # type: ignore[attr-defined]
            assert condvar.statistics().waiting == 0
        await settle()
        assert waiters.log == ["b"]
        assert not mutex.locked()


async def test_a_waiter_destroyed_in_the_mutexs_line_passes_no_notification_of_all_on() -> None:
    """Who began to wait after it was not meant."""
    if on_trio():
        return  # trio's tasks are never destroyed while they are parked
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)

        async def wait() -> None:
            async with waiters.mutex as guard:
                await waiters.condvar.wait(guard)

        coroutine = wait().__await__()
        next(coroutine)
        later, leave = await waiters.notify_all_before("b")
        coroutine.close()  # type: ignore[attr-defined]
        leave.set()
        await settle()
        assert not later.done
        waiters.condvar.notify_one()


async def test_all_come_back_in_order_though_one_stays_inside() -> None:
    """They are woken together, and whoever finds the mutex taken goes on waiting for it."""
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        mutex, condvar = waiters.mutex, waiters.condvar
        leave = anyio.Event()

        async def stay() -> None:
            async with mutex as guard:
                await condvar.wait(guard)
                await leave.wait()
                waiters.log.append("stayed")

        await waiters.add("a")
        spawn(tasks, stay)
        await settle()
        await waiters.add("b")
        task = await waiters.add("c")
        await waiters.add("d")
        assert condvar.notify_all() == 5
        await settle()
        assert waiters.log == ["a"]
        task.cancel()
        await some_passes()
        leave.set()
        await settle()
        assert waiters.log == ["a", "stayed", "b", "c!", "d"]
        assert not mutex.locked()


@guards
async def test_a_guard_can_wait_again_and_again(loose: bool) -> None:
    """It is the same one each time, and its block releases it in the end."""
    mutex, condvar = Mutex(0), Condvar()
    async with anyio.create_task_group() as tasks:

        async def count(guard: MutexGuard[int]) -> None:
            for _ in range(3):
                await condvar.wait(guard)
                guard.value += 1

        async def run() -> None:
            if loose:
                async with mutex.lock() as guard:
                    await count(guard)
            else:
                async with mutex as guard:
                    await count(guard)

        counting = spawn(tasks, run)
        for _ in range(3):
            await settle()
            assert condvar.notify_one()
        await settle()
        assert counting.done
        assert mutex.into_inner() == 3


@guards
async def test_a_guard_that_waits_holds_nothing(loose: bool) -> None:
    """Whoever else has it can neither use nor release it, nor wait with it."""
    mutex, condvar = Mutex("value"), Condvar()
    shared: list[MutexGuard[str]] = []
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            if loose:
                with await mutex.lock() as guard:
                    shared.append(guard)
                    await condvar.wait(guard)
            else:
                async with mutex as guard:
                    shared.append(guard)
                    await condvar.wait(guard)

        spawn(tasks, wait)
        await settle()
        guard = shared[0]
        assert guard.released
        with pytest.raises(GuardReleasedError):
            _ = guard.value
        with pytest.raises(GuardReleasedError):
            guard.release()
        with pytest.raises(GuardReleasedError):
            await condvar.wait(guard)
        assert condvar.statistics().waiting == 1
        condvar.notify_one()


async def test_after_the_wait_the_owner_is_followed_as_before() -> None:
    """A task that waits for its own mutex is told; the guard of lock_owned has no owner."""
    mutex, condvar = Mutex(0), Condvar()
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            async with mutex as guard:
                await condvar.wait(guard)
                with pytest.raises(DeadlockError):
                    await mutex.acquire()

        async def wait_owned() -> None:
            async with mutex.lock_owned() as guard:
                await condvar.wait(guard)
                assert mutex.statistics().owner is None

        for function in (wait, wait_owned):
            waiting = spawn(tasks, function)
            await settle()
            condvar.notify_one()
            await settle()
            assert waiting.done


async def test_wait_in_a_cancelled_scope_ends_with_the_mutex_held() -> None:
    """On trio it raises before it gives anything up."""
    mutex, condvar = Mutex(0), Condvar()
    async with mutex as guard:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await condvar.wait(guard)
        assert scope.cancelled_caught
        assert not guard.released
        with anyio.CancelScope() as scope:
            scope.cancel()
            await condvar.wait_while(guard, lambda value: value > 0)
        assert scope.cancelled_caught is on_trio()  # asyncio does not yield where nothing has to be waited for
    assert condvar.statistics().waiting == 0


@both_cancels
async def test_a_notification_that_nobody_is_left_for_is_dropped(cancel: Cancel) -> None:
    """It is not stored for a later waiter."""
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        task = await waiters.add("a")
        async with waiters.mutex:
            waiters.condvar.notify_one()
            cancel(task)
            await some_passes()
        await settle()
        assert waiters.log == ["a!"]
        later = await waiters.add("b")
        assert not later.done
        waiters.condvar.notify_one()


async def test_who_cancels_twice_is_heard_once_the_mutex_is_held() -> None:
    """The wait goes on through both, and ends as one cancellation."""
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        task = await waiters.add("a")
        async with waiters.mutex:
            for _ in range(3):
                native_cancel(task)
                await some_passes()
                assert not task.done
        await settle()
        assert task.cancelled
        assert waiters.log == ["a!"]


async def test_a_notification_out_of_the_condvars_own_finalizer_is_not_lost() -> None:
    """Used in the middle of its own work it defers: here, as the mutex's line is entered."""

    class Interrupted(Condvar):
        notified: object = None

        def _notify_one(self, argument: None) -> bool:
            if self.notified is None:
                self.notified = self.notify_one(), self.notify_all()
            return super()._notify_one(argument)

    async with anyio.create_task_group() as tasks:
        waiters = Waiters(tasks)
        waiters.condvar = Interrupted()
        for name in "abc":
            await waiters.add(name)
        waiters.condvar.notify_one()
        assert waiters.condvar.notified == (True, 3)
        await settle()
        assert waiters.log == ["a", "b", "c"]


def test_its_repr_says_how_many_wait() -> None:
    """Nobody, here."""
    assert repr(Condvar()).endswith("0 waiting>")
