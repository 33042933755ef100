"""Deadlocks: who is told, in what words, and what is no deadlock."""

from __future__ import annotations

import math
import pickle
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from asynclocks import DeadlockError, Mutex, Semaphore
from tests.conformance.line import Cancel, both_cancels
from tests.support import Running, collect, settle, spawn

Take = Callable[[Mutex[Any]], Awaitable[Callable[[], object]]]


async def by_lock(mutex: Mutex[Any]) -> Callable[[], object]:
    return (await mutex.lock()).release


async def by_try_lock(mutex: Mutex[Any]) -> Callable[[], object]:
    return mutex.try_lock().release


async def by_block(mutex: Mutex[Any]) -> Callable[[], object]:
    return (await mutex.__aenter__()).release


async def by_map(mutex: Mutex[Any]) -> Callable[[], object]:
    return (await mutex.lock()).map(str).release


every_followed_hold = pytest.mark.parametrize("take", [by_lock, by_try_lock, by_block, by_map])
every_wait = pytest.mark.parametrize(
    "wait",
    [
        pytest.param(Mutex.__aenter__, id="async with"),
        pytest.param(Mutex.lock, id="lock()"),
        pytest.param(partial(Mutex.lock, timeout=math.inf), id="lock(timeout=inf)"),
        pytest.param(Mutex.lock_owned, id="lock_owned()"),
        pytest.param(Mutex.acquire, id="acquire()"),
    ],
)


@every_wait
@every_followed_hold
async def test_a_task_that_waits_for_its_own_mutex_is_told(take: Take, wait: Callable[[Any], Awaitable[Any]]) -> None:
    """Not reentrant: DeadlockError at once, and the hold stays what it was."""
    mutex = Mutex(name="m")
    me = anyio.get_current_task().name
    give_back = await take(mutex)
    with pytest.raises(DeadlockError) as caught:
        await wait(mutex)
    assert caught.value.cycle == (f"task {me!r} waits for Mutex 'm' held by task {me!r}",)
    assert mutex.locked()
    assert mutex.statistics().waiting == 0
    give_back()
    assert not mutex.locked()
    async with mutex:  # after the block's early release, the mutex works as ever
        assert mutex.locked()


class Chain:
    """Tasks that hold one mutex each and then wait for the next one's."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.mutexes = {name: Mutex(name=name.upper()) for name in names}
        self.reached: dict[str, anyio.Event] = {name: anyio.Event() for name in names}
        self.running: dict[str, Running[None]] = {}

    async def _work(self, name: str, then: str) -> None:
        async with self.mutexes[name]:
            await self.reached[name].wait()
            async with self.mutexes[then]:
                pass

    async def start(self, tasks: anyio.abc.TaskGroup) -> None:
        for name, then in zip(self.names, (*self.names[1:], self.names[0]), strict=True):
            self.running[name] = spawn(tasks, self._work, name, then, name=name)
        await settle()

    async def go(self, name: str) -> None:
        self.reached[name].set()
        await settle()


# a: holds A               b: holds B
# waits for B
#                          waits for A: told
#                          leaves B: a's
# runs
async def test_the_task_that_closes_a_cycle_of_two_is_told_and_the_other_goes_on() -> None:
    """Exactly one of them raises; its block gives way to the other."""
    chain = Chain("a", "b")
    async with anyio.create_task_group() as tasks:
        await chain.start(tasks)
        await chain.go("a")
        assert not chain.running["a"].done
        await chain.go("b")
        error = chain.running["b"].exception
        assert isinstance(error, DeadlockError)
        assert error.cycle == (
            "task 'b' waits for Mutex 'A' held by task 'a'",
            "task 'a' waits for Mutex 'B' held by task 'b'",
        )
        assert chain.running["a"].state == "returned"
    assert not any(mutex.locked() for mutex in chain.mutexes.values())


@pytest.mark.parametrize("order", ["abc", "bca", "cba", "acb"])
async def test_a_cycle_of_three_is_found_by_whoever_closes_it(order: str) -> None:
    """The last to wait is told the whole chain, and the others go on."""
    chain = Chain("a", "b", "c")
    async with anyio.create_task_group() as tasks:
        await chain.start(tasks)
        for name in order:
            await chain.go(name)
        *others, last = order
        error = chain.running[last].exception
        assert isinstance(error, DeadlockError)
        assert len(error.cycle) == 3
        assert error.cycle[0].startswith(f"task {last!r} waits for")
        for name, then in ("ab", "bc", "ca"):
            assert f"task {name!r} waits for Mutex {then.upper()!r} held by task {then!r}" in error.cycle
        assert all(chain.running[name].state == "returned" for name in others)
    assert not any(mutex.locked() for mutex in chain.mutexes.values())


async def test_a_long_cycle_is_found() -> None:
    """Length does not matter."""
    names = [f"t{number}" for number in range(60)]
    chain = Chain(*names)
    async with anyio.create_task_group() as tasks:
        await chain.start(tasks)
        for name in names:
            await chain.go(name)
        error = chain.running["t59"].exception
        assert isinstance(error, DeadlockError)
        assert len(error.cycle) == 60


async def test_a_chain_that_ends_is_no_deadlock() -> None:
    """Waiting for one who waits for one who works is fine."""
    first, second = Mutex(name="first"), Mutex(name="second")

    async def hold_first_wait_for_second() -> None:
        async with first, second:
            pass

    async def wait_for_first() -> None:
        async with first:
            pass

    async with anyio.create_task_group() as tasks, second:
        spawn(tasks, hold_first_wait_for_second)
        await settle()
        spawn(tasks, wait_for_first)
        await settle()
        assert first.statistics().waiting == 1


async def test_who_was_granted_but_has_not_run_owns_already() -> None:
    """A wait that closes a cycle with a granted waiter is not one: that one will run."""
    first, second = Mutex(name="first"), Mutex(name="second")
    log: list[str] = []

    async def other() -> None:
        async with first:
            log.append("other has first")
        async with second:
            log.append("other has second")

    async with anyio.create_task_group() as tasks, second:
        guard = first.try_lock()
        spawn(tasks, other)
        await settle()
        guard.release()
        assert first.statistics().owner == "other"
        async with first:
            log.append("I have first")
    assert log == ["other has first", "I have first", "other has second"]


# a: holds A, waits for B   b: holds B
# is cancelled
#                           waits for A
@both_cancels
async def test_a_cancelled_wait_closes_no_cycle(cancel: Cancel) -> None:
    """Who gave up waiting waits for nobody."""
    a, b = Mutex(name="A"), Mutex(name="B")
    hold_on = anyio.Event()

    async def work() -> None:
        guard = await a.lock()
        guards.append(guard)
        running = spawn(tasks, b.acquire, name="waiting")
        waiting.append(running)
        await hold_on.wait()
        guard.release()

    guards: list[Any] = []
    waiting: list[Any] = []
    async with anyio.create_task_group() as tasks, b:
        spawn(tasks, work, name="a")
        await settle()
        cancel(waiting[0])
        await settle()
        hold_on.set()
        async with a:
            assert a.locked()
    assert not a.locked()
    assert not b.locked()


async def test_a_cancelled_wait_of_the_same_task_closes_no_cycle() -> None:
    """The task may hold on and be waited for."""
    a, b = Mutex(name="A"), Mutex(name="B")
    scope, hold_on = anyio.CancelScope(), anyio.Event()

    async def work() -> None:
        async with a:
            with scope:
                await b.lock()
            await hold_on.wait()

    async with anyio.create_task_group() as tasks, b:
        spawn(tasks, work)
        await settle()
        scope.cancel()
        await settle()
        hold_on.set()
        async with a:
            pass


# a: holds A, waits for B   main: holds B
# is being cancelled
#                           waits for A
@both_cancels
async def test_a_wait_that_is_being_cancelled_closes_no_cycle(cancel: Cancel) -> None:
    """It ends by itself, in the same tick or the next."""
    a, b = Mutex(name="A"), Mutex(name="B")

    async def work() -> None:
        async with a:
            await b.lock()

    async with anyio.create_task_group() as tasks, b:
        running = spawn(tasks, work)
        await settle()
        cancel(running)
        async with a:
            assert running.cancelled
    assert not a.locked()


@every_wait
async def test_a_lock_owned_guard_is_not_followed(wait: Callable[[Any], Awaitable[Any]]) -> None:
    """It is meant for another task to release."""
    mutex = Mutex()
    guard = await mutex.lock_owned()
    got: list[object] = []

    async def release() -> None:
        guard.release()

    async with anyio.create_task_group() as tasks:
        spawn(tasks, release)
        got.append(await wait(mutex))
    if wait is Mutex.acquire:
        mutex.release()
    else:
        got.pop().release()  # type: ignore[attr-defined]
    assert not mutex.locked()


async def test_a_guard_released_by_another_task_frees_its_owner() -> None:
    """Ownership ends with the hold, whoever ended it."""
    mutex = Mutex()
    guard = await mutex.lock()

    async def release() -> None:
        guard.release()

    async with anyio.create_task_group() as tasks:
        spawn(tasks, release)
    async with mutex:
        assert mutex.locked()


async def test_the_owner_of_a_past_hold_owns_nothing() -> None:
    """Waiting for a mutex that somebody else has now is fine."""
    mutex = Mutex()
    async with mutex:
        pass

    async def hold() -> None:
        async with mutex:
            await leave.wait()

    leave = anyio.Event()
    async with anyio.create_task_group() as tasks:
        spawn(tasks, hold)
        await settle()

        async def free() -> None:
            leave.set()

        spawn(tasks, free)
        async with mutex:
            pass


async def test_an_owner_that_is_gone_is_no_deadlock() -> None:
    """A guard that outlived its task may be released by anybody."""
    mutex = Mutex()
    guards: list[Any] = []

    async def take() -> None:
        guards.append(await mutex.lock())

    async def release() -> None:
        guards.pop().release()

    async with anyio.create_task_group() as tasks:
        spawn(tasks, take)
    assert mutex.statistics().waiting == 0
    async with anyio.create_task_group() as tasks:
        spawn(tasks, release)
        async with mutex:
            pass


# gone: took B          b: holds A, waits for B      test: waits for A
async def test_a_chain_that_ends_at_a_task_that_is_gone_is_no_deadlock() -> None:
    """Whoever has its guard now may release it."""
    a, b = Mutex(name="A"), Mutex(name="B")
    guards: list[Any] = []

    async def take() -> None:
        guards.append(await b.lock())

    async def hold_a_wait_for_b() -> None:
        async with a, b:
            pass

    async def release() -> None:
        await settle()
        guards.pop().release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
    collect()
    async with anyio.create_task_group() as tasks:
        spawn(tasks, hold_a_wait_for_b)
        await settle()
        spawn(tasks, release)
        async with a:
            assert a.locked()
    assert not a.locked()
    assert not b.locked()


async def test_a_semaphore_is_no_edge() -> None:
    """Nobody can say which holder would end a wait for permits."""
    mutex, semaphore = Mutex(), Semaphore(1)

    async def work() -> None:
        async with mutex, semaphore:
            pass

    async with anyio.create_task_group() as tasks, semaphore:
        running = spawn(tasks, work)
        await settle()
        with anyio.move_on_after(0.01) as scope:
            await mutex.acquire()
        assert scope.cancelled_caught
        running.cancel()


async def test_a_refused_wait_leaves_the_others_alone() -> None:
    """DeadlockError takes its own place out of the line, and no other."""
    mutex = Mutex()
    log: list[str] = []

    async def wait(name: str) -> None:
        async with mutex:
            log.append(name)

    async with anyio.create_task_group() as tasks, mutex:
        spawn(tasks, wait, "b")
        await settle()
        with pytest.raises(DeadlockError):
            await mutex.lock()
        spawn(tasks, wait, "c")
        await settle()
        assert mutex.statistics().waiting == 2
    assert log == ["b", "c"]


async def test_try_lock_is_no_wait() -> None:
    """It refuses as ever."""
    mutex = Mutex()
    async with mutex:
        with pytest.raises(Exception, match="held") as caught:
            mutex.try_lock()
    assert not isinstance(caught.value, DeadlockError)


async def test_the_policy_off_lets_the_task_wait(policy: Callable[[str], str]) -> None:
    """Somebody outside the cycle may step in."""
    assert policy("off") == "raise"
    mutex = Mutex()
    guard = await mutex.lock()

    async def step_in() -> None:
        await settle()
        guard.release()

    async with anyio.create_task_group() as tasks:
        spawn(tasks, step_in)
        async with mutex:
            assert mutex.locked()
    assert policy("raise") == "off"


async def test_the_policy_warn_warns_and_lets_the_task_wait(policy: Callable[[str], str]) -> None:
    """RuntimeWarning in the same words."""
    assert policy("warn") == "raise"
    mutex = Mutex(name="m")
    guard = await mutex.lock()

    async def step_in() -> None:
        await settle()
        guard.release()

    async with anyio.create_task_group() as tasks:
        spawn(tasks, step_in)
        with pytest.warns(RuntimeWarning, match="waits for Mutex 'm' held by task"):
            await mutex.acquire()
    mutex.release()


async def test_a_warning_turned_into_an_error_leaves_the_line(policy: Callable[[str], str]) -> None:
    """Warnings are errors here: the wait ends with it."""
    policy("warn")
    mutex = Mutex()
    async with mutex:
        with pytest.raises(RuntimeWarning):
            await mutex.acquire()
        assert mutex.statistics().waiting == 0
    assert not mutex.locked()


def test_an_unknown_policy_is_refused(policy: Callable[[str], str]) -> None:
    """ValueError that names the known ones; nothing changes."""
    with pytest.raises(ValueError, match="'raise', 'warn', 'off'"):
        policy("shout")
    assert policy("raise") == "raise"


def test_the_error_tells_the_way_out_and_can_be_pickled() -> None:
    """It travels between processes as other errors do."""
    error = DeadlockError(("task 'a' waits for Mutex 'x' held by task 'a'",), "Call disown()")
    assert "task 'a' waits for Mutex 'x' held by task 'a'" in str(error)
    assert "disown()" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert again.cycle == error.cycle
    assert str(again) == str(error)
    assert isinstance(again, RuntimeError)
