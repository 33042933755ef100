"""Looks for deadlocks: how far they go, what they pass over, and what they say."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import pytest

from asynclocks import DeadlockError, Mutex, RwLock
from asynclocks._engine import deadlock
from asynclocks._engine.ticket import Ticket
from asynclocks.backends import running as running_here
from tests.native.test_deadlock_awaits import by_anyio_group, nothing, on_asyncio, started, told
from tests.native.threaded import wait_until
from tests.support import settle, spawn


class Watched(Mutex[None]):
    """It notes who asks for its owners."""

    asked: set[Any]

    def _owners(self, ticket: Any) -> Any:
        self.asked.add(self)
        return super()._owners(ticket)


# How far a look goes.
async def test_of_a_holder_s_very_many_children_64_are_looked_at() -> None:
    """A look costs no more than that."""
    Watched.asked = set()
    mutex = Mutex()
    left: list[Any] = []

    async def child() -> None:
        inner = Watched()
        left.append((await inner.lock()).disown())
        async with inner:
            pass

    async def hold() -> None:
        async with mutex, anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(child)

    async def outsider() -> None:
        async with Mutex(), mutex:
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await settle()
        Watched.asked.clear()
        tasks.start_soon(outsider)
        await settle()
        assert len(Watched.asked) == deadlock.MOST_AWAITED == 64
        for guard in left:
            guard.release()


@on_asyncio
async def test_a_child_behind_very_many_others_is_told() -> None:
    """Who looks finds its own parent, though it is not among the few that are asked of the parent's children."""
    mutex = Mutex()

    async def parent() -> None:
        async with mutex:
            others = [started(anyio.Event().wait) for _ in range(200)]
            try:
                await asyncio.gather(*others, started(mutex.lock))
            finally:
                for other in others:
                    other.cancel()

    assert len((await told(parent)).cycle) == 2


@on_asyncio
async def test_a_line_in_which_each_awaits_the_next_twice_over_is_looked_at_once() -> None:
    """Not once for each of the two to the power of 22 ways through it."""
    mutex = Mutex()

    async def level(depth: int) -> None:
        if depth == 0:
            await mutex.lock()
        async with asyncio.TaskGroup() as tasks:
            await asyncio.gather(tasks.create_task(level(depth - 1)))

    async def parent() -> None:
        async with mutex:
            await level(22)

    assert len((await told(parent)).cycle) == 23


async def test_a_line_that_leads_nowhere_is_not_told() -> None:
    """Of two readers one waits for somebody who works, the other for the writer: the words are of the other."""
    lock, held, wanted = RwLock(name="L"), Mutex(), Mutex(name="X")

    async def read(mutex: Mutex[Any]) -> None:
        async with lock.read(), mutex:
            pass

    async def work() -> None:
        async with held:
            await end.wait()

    end = anyio.Event()
    async with anyio.create_task_group() as tasks, wanted:
        spawn(tasks, work)
        await settle()
        for mutex in (held, wanted, held):
            spawn(tasks, read, mutex, name="r")
        await settle()
        with pytest.raises(DeadlockError) as caught:
            await lock.write()
        end.set()
    me = anyio.get_current_task().name
    assert caught.value.cycle == (
        f"task {me!r} waits for RwLock 'L' held by task 'r'",
        f"task 'r' waits for Mutex 'X' held by task {me!r}",
    )


async def test_who_waits_for_others_deadlock_waits(policy: Callable[[str], str]) -> None:
    """The look comes to an end though the chain goes round."""
    policy("warn")
    first, second = Mutex(), Mutex()

    async def take(one: Mutex[Any], other: Mutex[Any]) -> None:
        async with one:
            await go.wait()
            async with other:
                pass

    go = anyio.Event()

    async def wait_for_them() -> None:
        async with anyio.create_task_group() as tasks:
            running = [spawn(tasks, take, first, second), spawn(tasks, take, second, first)]
            await settle()
            go.set()
            await settle()
            third = spawn(tasks, take, Mutex(), first)
            await settle()
            assert first.statistics().waiting == 2
            for one in running:
                one.cancel()
            await settle()
            assert third.state == "returned"

    with pytest.warns(RuntimeWarning, match="^deadlock: [^;]+; [^;]+$"):
        await wait_for_them()


@pytest.mark.loops("asyncio", "uvloop")
async def test_a_thread_that_was_warned_is_still_known_to_wait(policy: Callable[[str], str]) -> None:
    """Another who closes a cycle through it is warned as well."""
    policy("warn")
    lock, mutex = RwLock(name="L"), Mutex(name="m")
    holds, go = threading.Event(), anyio.Event()

    def write() -> None:
        with mutex.blocking_lock():
            holds.set()
            wait_until(lambda: mutex.statistics().waiting == 1)
            lock.blocking_write().release()

    async def first() -> None:
        async with lock.read():
            await asyncio.to_thread(holds.wait, 30)
            async with mutex:
                pass

    async def second() -> None:
        async with lock.read():
            await go.wait()
            async with mutex:
                pass

    thread = threading.Thread(target=write, name="T")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        async with anyio.create_task_group() as tasks:
            readers = [spawn(tasks, first, name="first"), spawn(tasks, second, name="second")]
            await settle()
            thread.start()
            await asyncio.to_thread(wait_until, lambda: seen)
            go.set()
            await settle()
            for reader in readers:
                reader.cancel()
    await asyncio.to_thread(thread.join, 30)
    told_first, told_second = (str(one.message) for one in seen)
    assert "thread 'T' waits for RwLock 'L' held by task 'first'" in told_first
    assert "thread 'T' waits for RwLock 'L' held by task 'second'" in told_second


# What is no wait without end.
# child: waits for M      holder: holds X, awaits child      main: holds M
#                                                             cancels child, waits for X
@pytest.mark.parametrize("end", ["is cancelled", "has a timeout"])
async def test_a_child_in_the_middle_whose_wait_ends_is_innocent(end: str) -> None:
    """The holder goes on, though what the child waits for is not let go."""
    mutex, theirs = Mutex(), Mutex()
    scope = anyio.CancelScope()

    async def child() -> None:
        with scope:
            if end == "is cancelled":
                await mutex.lock()
            else:
                with pytest.raises(TimeoutError):
                    await mutex.lock(timeout=0.5)

    async def hold() -> None:
        async with theirs:
            await by_anyio_group(child, nothing)

    async with anyio.create_task_group() as tasks, mutex:
        tasks.start_soon(hold)
        while not mutex.statistics().waiting:
            await anyio.lowlevel.checkpoint()
        if end == "is cancelled":
            scope.cancel()
        async with theirs:
            assert mutex.statistics().waiting == 0


# first: waits to read      second: holds M, waits to read      writer: waits to write
# runs, waits for M         has not run yet
async def test_who_was_granted_a_share_but_has_not_run_waits_no_more() -> None:
    """Though another one shares it who waits for what the first holds."""
    lock, mutex = RwLock(), Mutex()

    async def first() -> None:
        async with lock.read(), mutex:
            pass

    async def second() -> None:
        async with mutex, lock.read():
            pass

    async def write() -> None:
        async with lock.write():
            pass

    async with anyio.create_task_group() as tasks, lock.write():
        for function in (first, second, write):
            tasks.start_soon(function)
            await settle()
        assert lock.statistics().waiting_readers == 2


async def test_without_a_gil_a_task_of_another_thread_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tells what it does."""
    backend, task = running_here()
    monkeypatch.setattr(sys.modules[type(backend).__module__], "TASKS_HOLD_STILL", False)
    assert deadlock._told_by(task) is not None
    assert await anyio.to_thread.run_sync(deadlock._told_by, task) is None


# What a coroutine tells.
def test_what_is_awaited_in_the_place_of_a_compiled_wait_tells_its_ticket() -> None:
    """It refers to it."""
    ticket = Ticket()

    class Compiled:
        __slots__ = ("ticket",)

        def __await__(self) -> Any:
            return self

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> None:
            self.ticket = ticket

    async def wait() -> None:
        await Compiled()

    coroutine = wait()
    coroutine.send(None)
    assert deadlock.ticket_of(coroutine) is ticket
    coroutine.close()


@pytest.mark.pure("a coroutine of its own")
def test_a_wait_that_is_over_has_no_ticket() -> None:
    """Nor has a task that shows no coroutine."""
    waited = Mutex()._acquire()
    asyncio.run(waited)
    assert deadlock.ticket_of(waited) is None
    assert deadlock.ticket_of(None) is None


# What is said.
HAND_ON = "call disown() on a guard that somebody else will release"


def said(error: DeadlockError) -> str:
    """What the error says beyond the cycle."""
    return str(error).removeprefix(f"{'; '.join(error.cycle)}. ")


async def test_who_waits_for_itself_is_told_to_release_first() -> None:
    """No order of locks would help."""
    mutex = Mutex()
    with await mutex.lock(), pytest.raises(DeadlockError) as caught:
        await mutex.lock()
    assert said(caught.value) == f"Release before waiting, or {HAND_ON}"


async def test_two_who_wait_for_each_other_are_told_to_keep_an_order() -> None:
    """Or to release, or to say who releases."""
    mutex, theirs = Mutex(), Mutex()

    async def hold() -> None:
        async with theirs, mutex:
            pass

    async with anyio.create_task_group() as tasks, mutex:
        spawn(tasks, hold)
        await settle()
        with pytest.raises(DeadlockError) as caught:
            await theirs.lock()
    assert said(caught.value) == f"Take locks in one order everywhere, or release before waiting, or {HAND_ON}"


async def test_whose_parent_holds_the_lock_is_told_of_the_await() -> None:
    """No order of locks would help, and the child holds nothing that it could release."""
    mutex = Mutex()

    async def parent() -> None:
        async with mutex:
            await by_anyio_group(mutex.lock, nothing)

    assert said(await told(parent)) == f"Do not await a task that waits for what you hold, or {HAND_ON}"


async def test_a_grant_right_after_the_second_look_is_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread released the lock while this one looked."""
    mutex = Mutex()
    guard = await mutex.lock()
    find, looks = deadlock._find_cycle, list[object]()

    def find_and_release(*args: Any) -> Any:
        looks.append(cycle := find(*args))
        if len(looks) == 2:
            guard.release()
        return cycle

    monkeypatch.setattr(deadlock, "_find_cycle", find_and_release)
    with await mutex.lock():
        assert guard.released
    assert looks[0] == looks[1]
    assert looks[0] is not None


class Name(str):
    """A lock's name. It notes whether the running task is noted to wait when it is told."""

    __slots__ = ()
    noted: ClassVar[list[bool]] = []

    def __repr__(self) -> str:
        Name.noted.append(deadlock.key_of(running_here()[1]) in deadlock.waits)
        return super().__repr__()


async def test_who_is_told_does_not_wait_any_more_for_others() -> None:
    """Or two threads that look at one cycle would both be told."""
    mutex = Mutex(name=Name("M"))
    async with mutex:
        del Name.noted[:]
        with pytest.raises(DeadlockError):
            await mutex.lock()
        assert Name.noted
        assert not any(Name.noted)
