"""Steps of a Mutex that take luck to see: whose an exit is, what a hold leaves behind, and who comes in between."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
import trio

from asynclocks import Condvar, GuardReleasedError, Mutex, TryLockError
from asynclocks.backends import running as running_here
from tests.native.striking import Struck
from tests.native.test_deadlock_awaits import by_anyio_group, nothing, on_asyncio, told
from tests.native.test_threads import HandingMutex, leave_a_block, queued
from tests.native.threaded import CrowdedLock, wait_until
from tests.support import collect, settle, spawn


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that need not wait."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


def in_no_task(call: Callable[[], Any]) -> Any:
    """What it returns in a callback of asyncio's loop."""

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def callback() -> None:
            try:
                done.set_result(call())
            except BaseException as error:  # noqa: BLE001  # the test's
                done.set_exception(error)

        loop.call_soon(callback)
        return await done

    return asyncio.run(main())


class Block:
    """A task in an ``async with`` block of a mutex: what it is to do comes one by one."""

    def __init__(self, tasks: Any, mutex: Mutex[Any]) -> None:
        self.mutex = mutex
        self._do, self._done = anyio.create_memory_object_stream[str](9), anyio.create_memory_object_stream[None](9)
        self._running = spawn(tasks, self._run)

    async def _run(self) -> None:
        async for what in self._do[1]:
            if what == "enter":
                self.guard = await self.mutex.__aenter__()
            elif what == "release":
                self.guard.release()
            elif what == "leave":
                await self.mutex.__aexit__()
            await self._done[0].send(None)

    async def do(self, *what: str) -> None:
        for one in what:
            await self._do[0].send(one)
            await self._done[1].receive()

    async def end(self) -> None:
        self._do[0].close()
        await settle()
        assert self._running.done
        del self._running  # it refers to its task, which is to be gone
        for end in (self._do[1], *self._done):
            end.close()
        collect()


# Whose an exit is.
async def test_an_exit_ends_its_own_task_s_block_whoever_let_go_before() -> None:
    """One whose task is gone as well."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        gone, alive = Block(tasks, mutex), Block(tasks, mutex)
        await gone.do("enter", "release")
        await gone.end()
        await alive.do("enter", "leave")
        assert not mutex.locked()
        await alive.end()
        await mutex.__aexit__()  # the other block's


async def test_an_exit_of_nobody_s_ends_a_block_that_let_go_and_whose_task_is_gone() -> None:
    """Not that of the holder, who lives."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        gone, alive = Block(tasks, mutex), Block(tasks, mutex)
        await gone.do("enter", "release")
        await gone.end()
        await alive.do("enter")
        await mutex.__aexit__()
        assert mutex.locked()
        await mutex.__aexit__()
        assert not mutex.locked()
        await alive.end()


async def test_an_exit_of_nobody_s_ends_the_oldest_block_that_let_go() -> None:
    """The newer ones are left to their own tasks, which live."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        old, new, holder = [Block(tasks, mutex) for _ in range(3)]
        await old.do("enter", "release")
        await new.do("enter", "release")
        await mutex.__aexit__()
        await holder.do("enter")
        await new.do("leave")
        assert mutex.locked()
        await holder.do("leave")
        assert not mutex.locked()
        for block in (old, new, holder):
            await block.end()


async def test_of_two_blocks_that_let_go_each_task_ends_its_own() -> None:
    """In any order."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        first, second, holder = [Block(tasks, mutex) for _ in range(3)]
        await first.do("enter", "release")
        await second.do("enter", "release")
        await holder.do("enter")
        await second.do("leave")
        await first.do("leave")
        assert mutex.locked()
        await holder.do("leave")
        assert not mutex.locked()
        for block in (first, second, holder):
            await block.end()


def test_blocks_that_no_task_entered_end_by_their_exits() -> None:
    """One that let go first, which harms nobody."""
    mutex = Mutex()

    def callback() -> None:
        drive(mutex.__aenter__()).release()
        guard = drive(mutex.__aenter__())
        drive(mutex.__aexit__())
        assert not guard.released
        drive(mutex.__aexit__())
        assert guard.released

    in_no_task(callback)
    assert not mutex.locked()


def test_blocks_that_no_task_entered_end_by_a_task_s_exits() -> None:
    """In the same order."""
    mutex = Mutex()

    def callback() -> None:
        drive(mutex.__aenter__()).release()
        drive(mutex.__aenter__())

    async def leave() -> None:
        await mutex.__aexit__()
        assert mutex.locked()
        await mutex.__aexit__()
        assert not mutex.locked()

    in_no_task(callback)
    asyncio.run(leave())


@pytest.mark.parametrize("disowned", [False, True], ids=["own", "disowned"])
@pytest.mark.parametrize("end", ["release", "leave_held"])
def test_a_block_that_no_task_entered_and_that_let_go_has_ended(end: str, disowned: bool) -> None:
    """Its exit, which runs in a task, ends no other."""
    mutex = Mutex()

    def callback() -> None:
        guard = drive(mutex.__aenter__())
        if disowned:
            guard.disown()
        if end == "release":
            guard.release()
        else:
            guard.leave_held()
            mutex.release()

    in_no_task(callback)
    asyncio.run(mutex.__aexit__())
    drive_in_task(mutex)


def test_a_block_that_no_task_entered_may_say_that_others_release() -> None:
    """Its exit is found nevertheless."""
    mutex = Mutex()

    def callback() -> None:
        drive(mutex.__aenter__()).release()
        drive(mutex.__aenter__()).disown()
        drive(mutex.__aexit__())
        drive(mutex.__aexit__())

    in_no_task(callback)
    assert not mutex.locked()


def drive_in_task(mutex: Mutex[Any]) -> None:
    """A block that is entered in one task and left in another leaves the mutex free: nothing else is to be left."""

    async def main() -> None:
        await asyncio.create_task(coroutine(mutex.__aenter__))
        await mutex.__aexit__()

    async def coroutine(function: Callable[[], Any]) -> None:
        await function()

    asyncio.run(main())
    assert not mutex.locked()


def test_a_block_whose_guard_a_thread_releases_as_it_ends_has_ended(threads: ThreadPoolExecutor) -> None:
    """No later exit is taken for its."""
    mutex = HandingMutex(0)
    waiting: list[Any] = []

    def let_go(guard: Any) -> None:
        waiting.append(threads.submit(mutex.blocking_lock))
        wait_until(queued(mutex, 1))
        mutex.interfere = lambda: threads.submit(guard.release).result(30)

    asyncio.run(leave_a_block(mutex, let_go))
    waiting[0].result(30).release()
    drive_in_task(mutex)


# What a hold leaves behind.
async def test_a_released_guard_leaves_nothing_held() -> None:
    """It is refused, and the mutex stays free."""
    mutex = Mutex()
    async with mutex as guard:
        guard.release()
        with pytest.raises(GuardReleasedError):
            guard.leave_held()
        assert not mutex.locked()
        with pytest.raises(RuntimeError, match="nobody holds it"):
            mutex.release()


def by_the_longer_way(mutex: Mutex[None]) -> None:
    guard: Any = mutex.try_lock()
    assert mutex._give_back(guard._hold)


def end_a_mapped_guard(mutex: Mutex[None]) -> None:
    mutex.try_lock().map(str).release()


@pytest.mark.parametrize("let_go", [by_the_longer_way, end_a_mapped_guard])
def test_of_a_mutex_that_was_let_go_nobody_is_the_holder(let_go: Callable[[Mutex[None]], None]) -> None:
    """Who releases once more is told so."""
    mutex = Mutex()
    let_go(mutex)
    with pytest.raises(RuntimeError, match="nobody holds it"):
        mutex.release()


async def test_what_was_taken_over_has_no_owner() -> None:
    """The guard may be released by anybody."""
    mutex = Mutex()
    await mutex.acquire()
    guard = mutex.take_over()
    assert mutex.statistics().owner is None
    guard.release()


async def test_a_guard_that_a_thread_released_meanwhile_disowns_nobody() -> None:
    """The next holder keeps what it has."""
    mutex = Mutex()
    guard = await mutex.lock()
    guard.release()
    async with mutex:
        mutex._disown(guard)
        assert mutex.statistics().owner == anyio.get_current_task().name


async def test_a_lock_belongs_to_the_task_that_took_it_last() -> None:
    """Not to the one that had it before."""
    mutex = Mutex()
    owners: list[str | None] = []
    end = anyio.Event()

    async def take() -> None:
        async with mutex.lock():
            owners.append(mutex.statistics().owner)
        await end.wait()

    async with anyio.create_task_group() as tasks:
        for name in "ab":
            spawn(tasks, take, name=name)
            await settle()
        end.set()
    assert owners == ["a", "b"]


@on_asyncio
async def test_a_guard_whose_wait_was_destroyed_leaves_no_block_to_end() -> None:
    """It is not that of an `async with` block, so no exit will come."""
    mutex, condvar = Mutex(), Condvar()
    guard = await mutex.lock()
    waiting = condvar.wait(guard)
    waiting.send(None)
    waiting.close()
    assert mutex._early is None


@on_asyncio
async def test_a_block_whose_wait_was_destroyed_is_ended_by_its_own_task_only() -> None:
    """Another one's that is left in a third task is told from it, and one before it is not forgotten."""
    mutex, condvar = Mutex(), Condvar()

    async def main() -> None:
        first = await mutex.__aenter__()
        first.release()
        guard = await mutex.__aenter__()
        waiting = condvar.wait(guard)
        waiting.send(None)
        waiting.close()
        await go.wait()
        await mutex.__aexit__()
        await mutex.__aexit__()

    go = anyio.Event()
    async with anyio.create_task_group() as tasks:
        running = spawn(tasks, main)
        await settle()
        holder = Block(tasks, mutex)
        await holder.do("enter")
        await mutex.__aexit__()  # in neither's task: the holder's, for the other lives
        assert not mutex.locked()
        await holder.do("enter")
        go.set()
        await settle()
        assert running.state == "returned"
        assert mutex.locked()
        await holder.do("leave")
        assert not mutex.locked()
        assert mutex._early is None
        await holder.end()


# Which holds are followed through awaits.
async def after_a_while(call: Callable[[], Any]) -> None:
    await settle()
    call()


async def by_lock(mutex: Mutex[Any]) -> Any:
    return await mutex.lock()


async def by_waiting(mutex: Mutex[Any]) -> Any:
    held = (await mutex.lock()).disown()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(after_a_while, held.release)
        return await mutex.lock()


async def by_try_lock(mutex: Mutex[Any]) -> Any:
    return mutex.try_lock()


async def by_the_longer_way_of_try_lock(mutex: Mutex[Any]) -> Any:
    return mutex._take_loosely()


async def by_a_condvar(mutex: Mutex[Any]) -> Any:
    condvar = Condvar()
    guard = await mutex.lock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(after_a_while, condvar.notify_one)
        await condvar.wait(guard)
    return guard


WAYS = [by_lock, by_waiting, by_try_lock, by_the_longer_way_of_try_lock, by_a_condvar]


@pytest.mark.parametrize("take", WAYS)
async def test_a_guard_is_followed_through_awaits_however_it_came(take: Callable[[Mutex[Any]], Any]) -> None:
    """Its holder awaits who waits for it."""
    mutex = Mutex()

    async def parent() -> None:
        with await take(mutex):
            await by_anyio_group(mutex.lock, nothing)

    assert len((await told(parent)).cycle) == 2


@pytest.mark.loops("trio")
async def test_who_has_taken_a_mutex_owns_it_at_its_checkpoint_already() -> None:
    """Others run there, and may come to wait for it."""
    mutex = Mutex()
    owners: list[str | None] = []

    async def look() -> None:
        owners.append(mutex.statistics().owner)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        async with mutex:
            await settle()
    assert owners == [anyio.get_current_task().name]


def test_trio_in_the_middle_of_a_task_of_asyncio_owns_what_it_locks() -> None:
    """Not the task around it."""
    mutex = Mutex()

    async def inside() -> str | None:
        trio.lowlevel.current_task().name = "inside"
        async with mutex.lock():
            return mutex.statistics().owner

    async def outside() -> str | None:
        return trio.run(inside)

    assert asyncio.run(outside()) == "inside"


@pytest.mark.parametrize("method", [Mutex.lock, Mutex.lock_owned])
@pytest.mark.parametrize(("timeout", "error"), [(math.nan, ValueError), ("1", TypeError)])
def test_a_timeout_that_is_none_is_refused_by_the_call(method: Any, timeout: Any, error: type[Exception]) -> None:
    """Not only where somebody would wait."""
    with pytest.raises(error):
        method(Mutex(), timeout)


def test_the_warning_of_a_dropped_guard_names_the_line_that_dropped_it() -> None:
    """That is where it was forgotten."""
    guard = Mutex().try_lock()
    with pytest.warns(ResourceWarning, match="dropped unreleased") as seen:
        del guard
    assert seen[0].filename == __file__


# Who comes in between.
class Free(list[None]):
    """A mutex's token: something happens before it comes back, and perhaps it strikes afterwards."""

    def __init__(self, before: Callable[[], object], *, strikes: bool) -> None:
        super().__init__()
        self.before, self.strikes = [before], strikes

    def append(self, token: None) -> None:
        if self.before:
            self.before.pop()()
        super().append(token)
        if self.strikes:
            self.strikes = False
            raise Struck


@pytest.mark.pure("appends to nobody's list")
@pytest.mark.parametrize("strikes", [False, True])
def test_who_queues_just_as_a_condvar_s_wait_lets_go_is_served(strikes: bool, threads: ThreadPoolExecutor) -> None:
    """Though the line was empty when the wait looked, and though a signal strikes."""
    mutex, condvar = Mutex(), Condvar()
    waiting: list[Any] = []

    def take() -> None:
        with mutex.blocking_lock():
            condvar.notify_one()

    def queue() -> None:
        waiting.append(threads.submit(take))
        wait_until(queued(mutex, 1))

    async def main() -> None:
        async with mutex as guard:
            mutex._free = Free(queue, strikes=strikes)
            if strikes:
                with pytest.raises(Struck):
                    await condvar.wait(guard)
            else:
                await condvar.wait(guard)
            waiting[0].result(30)

    asyncio.run(main())
    assert not mutex.locked()
    assert len(mutex._free) == 1


@pytest.mark.pure("appends to nobody's list")
@on_asyncio
async def test_a_grant_that_is_given_up_and_struck_comes_back_once() -> None:
    """The mutex is free, for one."""
    mutex = Mutex()
    guard = await mutex.lock()

    async def wait() -> None:
        async with mutex:
            pytest.fail("it is cancelled")

    waiter = asyncio.ensure_future(wait())
    await settle()
    guard.release()
    mutex._free = Free(nothing_at_all, strikes=True)
    waiter.cancel()
    with pytest.raises((asyncio.CancelledError, Struck)):
        await waiter
    assert len(mutex._free) == 1
    with pytest.raises(RuntimeError, match="nobody holds it"):
        mutex.release()


def nothing_at_all() -> None: ...


@pytest.mark.pure("a backend's method that is replaced is not called from C")
@pytest.mark.loops("trio")
@pytest.mark.parametrize("queue", [False, True])
async def test_a_checkpoint_that_is_struck_gives_the_mutex_back(queue: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the next, if there is one."""
    mutex = Mutex()
    got: list[int] = []

    async def wait() -> None:
        async with mutex.lock():
            got.append(1)

    async def checkpoint() -> None:
        monkeypatch.undo()
        if queue:
            tasks.start_soon(wait)
            await settle()
        raise Struck

    backend, _ = running_here()
    async with anyio.create_task_group() as tasks:
        monkeypatch.setattr(type(backend), "cancel_shielded_checkpoint", staticmethod(checkpoint))
        with pytest.raises(Struck):
            await mutex.__aenter__()
        if not queue:
            with pytest.raises(RuntimeError, match="nobody holds it"):
                mutex.release()
        await settle()
        assert got == [1] * queue
    assert not mutex.locked()


# Handing over where somebody is inside the internal lock.
@on_asyncio
async def test_an_exit_in_the_middle_of_the_mutex_s_own_work_changes_the_line_afterwards() -> None:
    """A finalizer may run there, which leaves a block."""
    mutex = Mutex()
    order: list[str] = []

    async def wait() -> None:
        async with mutex:
            order.append("granted")

    def change(_: None) -> None:
        drive(mutex.__aexit__())
        order.append(f"inside, {mutex.statistics().waiting} waiting")

    await mutex.__aenter__()
    waiter = asyncio.ensure_future(wait())
    await settle()
    mutex._transact(change, None)
    await waiter
    assert order == ["inside, 1 waiting", "granted"]
    assert not mutex.locked()


@pytest.mark.pure("a lock of its own")
@on_asyncio
async def test_what_acquire_took_is_released_once_whoever_is_inside_the_lock_has_left() -> None:
    """To the head of the line."""
    mutex = Mutex()
    mutex._lock = CrowdedLock()
    await mutex.acquire()
    waiter = asyncio.ensure_future(mutex.acquire())
    await settle()
    mutex.release()
    assert await waiter
    mutex.release()
    assert not mutex.locked()


@pytest.mark.pure("a lock of its own")
@on_asyncio
async def test_a_condvar_s_wait_gives_up_once_whoever_is_inside_the_lock_has_left() -> None:
    """And is notified by whom it let in."""
    mutex, condvar = Mutex(), Condvar()
    mutex._lock = CrowdedLock()

    async def notify() -> None:
        async with mutex:
            condvar.notify_one()

    async with mutex as guard:
        waiter = asyncio.ensure_future(notify())
        await settle()
        await condvar.wait(guard)
        assert waiter.done()


def test_an_exit_as_a_coroutine_is_closed_waits_for_nobody(threads: ThreadPoolExecutor) -> None:
    """Whoever is inside the lock hands over in its place: a finalizer may not wait for a lock."""
    mutex = Mutex()
    inside, go = threading.Event(), threading.Event()
    waiting: list[Any] = []

    def stay(_: None) -> None:
        inside.set()
        assert go.wait(30)

    def crowd() -> None:
        waiting.append(threads.submit(mutex.blocking_lock))
        wait_until(queued(mutex, 1))
        waiting.append(threads.submit(mutex._transact, stay, None))
        assert inside.wait(30)

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            async with mutex:
                crowd()

    async def main() -> None:
        working = work()
        working.send(None)
        working.close()
        assert not waiting[1].done()
        go.set()

    asyncio.run(main())
    waiting[0].result(30).release()
    assert not mutex.locked()


# Exits in the middle of others' work.
def test_a_superfluous_exit_of_a_free_mutex_changes_nothing() -> None:
    """One may take it afterwards, not two."""
    mutex = Mutex()
    asyncio.run(mutex.__aexit__())
    with mutex.try_lock(), pytest.raises(TryLockError):
        mutex.try_lock()


@pytest.mark.pure("a lock of its own")
def test_an_exit_of_a_block_that_let_go_waits_for_whoever_is_inside_the_lock() -> None:
    """The block has ended when it returns."""
    mutex = Mutex()

    async def main() -> None:
        async with mutex as guard:
            guard.release()
            mutex._lock = CrowdedLock()
        assert mutex._early is None

    asyncio.run(main())


def be_inside(mutex: Mutex[Any], inside: threading.Event, leave: threading.Event) -> None:
    """Keep the internal lock, and do what others put off meanwhile."""
    with mutex._lock:
        inside.set()
        assert leave.wait(30)
    mutex._catch_up()


def close_while_another_holds(
    mutex: Mutex[Any], wait: Callable[[], Coroutine[Any, Any, None]], leave: threading.Event, last: threading.Event
) -> None:
    """Close a block that waits for a condvar: while another guard holds, and a thread is inside the internal lock.

    The other guard must go on to hold. `leave` lets the thread leave; `last` is set when the block is closed.
    """
    inside = threading.Event()

    async def main() -> None:
        waiting = wait()
        waiting.send(None)
        holder = mutex.try_lock()
        with ThreadPoolExecutor(1) as pool:
            busy = pool.submit(be_inside, mutex, inside, leave)
            assert inside.wait(30)
            waiting.close()
            last.set()
            busy.result(30)
        with pytest.raises(TryLockError):
            mutex.try_lock()
        holder.release()
        mutex.try_lock().release()

    asyncio.run(main())


# waiter: is closed, forgoes its hold: put off     holder: has the mutex     thread: is inside the internal lock
#         leaves its block: put off
#                                                                            leaves: does both
def test_an_exit_behind_what_a_closed_wait_put_off_ends_nobody_else_s_hold() -> None:
    """Though the exit is not told that its coroutine is being closed."""
    mutex, condvar = Mutex(), Condvar()
    leave = threading.Event()

    async def wait() -> None:
        guard = await mutex.__aenter__()
        try:
            await condvar.wait(guard)
        finally:
            await mutex.__aexit__()

    close_while_another_holds(mutex, wait, leave, leave)


class SlowlyForgoing(Mutex[None]):
    """Forgoing a hold takes until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def _forgo(self, what: Any) -> None:
        self.begun.set()
        assert self.go.wait(30)
        super()._forgo(what)


# waiter: is closed, forgoes its hold: put off     holder: has the mutex     thread: is inside the internal lock
#                                                                            begins to do it
#         leaves its block: put off
#                                                                            does both
def test_an_exit_while_what_a_closed_wait_put_off_is_done_ends_nobody_else_s_hold() -> None:
    """Though nothing is put off any more when the exit looks."""
    mutex, condvar = SlowlyForgoing(), Condvar()
    leave = threading.Event()

    async def wait() -> None:
        async with mutex as guard:
            try:
                await condvar.wait(guard)
            finally:
                leave.set()
                assert mutex.begun.wait(30)

    close_while_another_holds(mutex, wait, leave, mutex.go)
