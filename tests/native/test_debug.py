"""asynclocks.debug: every wait in the process, found when it is asked for."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
import trio

from asynclocks import Barrier, ConcurrentMap, Condvar, Event, Mutex, Notify, OnceCell, RwLock, Semaphore
from asynclocks.debug import WaitReport, print_waits, waits
from tests.native.threaded import wait_until
from tests.support import collect, settle, spawn


@pytest.fixture(autouse=True)
def nothing_before() -> None:
    collect()  # what other tests left in closed loops
    assert waits() == []


def printed() -> list[str]:
    text = io.StringIO()
    print_waits(text)
    return text.getvalue().splitlines()


async def test_each_wait_tells_who_waits_where_and_for_whom() -> None:
    """In the order of the line, also of tasks that hold nothing and of waits with a timeout."""
    mutex = Mutex(name="accounts")

    async def first() -> None:
        async with mutex:
            pass

    async def second() -> None:
        async with mutex.lock(timeout=30):
            pass

    async with anyio.create_task_group() as tasks, mutex:
        me = mutex.statistics().owner
        spawn(tasks, first, name="a")
        await settle()
        spawn(tasks, second, name="b")
        await settle()
        reports = waits()
        assert [report.waiter for report in reports] == ["task 'a'", "task 'b'"]
        assert [report.position for report in reports] == [1, 2]
        for report, name in zip(reports, ("first", "second"), strict=True):
            assert report.lock == "Mutex 'accounts'"
            assert report.holders == (f"task {me!r}",)
            assert report.loop_running
            assert report.stack[-1].startswith(f'File "{__file__}", line ')
            assert report.stack[-1].endswith(f".{name}")
        lines = printed()
        assert lines[0] == f"Mutex 'accounts', held by task {me!r}"
        assert "  1. task 'a' waits" in lines
        assert "  2. task 'b' waits" in lines
        assert any("test_each_wait_tells" in line for line in lines)  # the holder's stack, while it runs
    assert waits() == []


WAITS: dict[str, Callable[[ExitStack], tuple[Callable[[], Awaitable[Any]], str, Callable[[], object]]]] = {}


def wait_for(function: Any) -> Any:
    WAITS[function.__name__] = function
    return function


@wait_for
def semaphore(stack: ExitStack) -> Any:
    limit = Semaphore(1, name="s")
    permit = stack.enter_context(limit.try_acquire())
    return limit.acquire, "Semaphore 's'", permit.release


@wait_for
def writer(stack: ExitStack) -> Any:
    lock = RwLock(name="r")
    guard = stack.enter_context(lock.try_read())
    return lock.write, "RwLock 'r'", guard.release


@wait_for
def key(stack: ExitStack) -> Any:
    shared = ConcurrentMap({"secret": 1})
    entry = stack.enter_context(shared.try_entry("secret"))
    return lambda: shared.entry("secret"), f"a key of ConcurrentMap at {id(shared):#x}", entry.release


@wait_for
def init(stack: ExitStack) -> Any:
    shared = ConcurrentMap[str, int]()
    entry = stack.enter_context(shared.try_entry("secret"))
    waiting = lambda: shared.get_or_insert_with("secret", lambda: 1)  # noqa: E731
    return waiting, f"the init of a key of ConcurrentMap at {id(shared):#x}", entry.release


@wait_for
def cell(_: ExitStack) -> Any:
    once = OnceCell[int]()
    return once.wait, f"OnceCell at {id(once):#x}", lambda: once.set(1)


@wait_for
def notified(_: ExitStack) -> Any:
    notify = Notify()
    return notify.notified, "Notify", notify.notify_one


@wait_for
def enabled(_: ExitStack) -> Any:
    notify = Notify()
    wait = notify.notified()
    wait.enable()
    return lambda: wait, "Notify", notify.notify_one


@wait_for
def event(_: ExitStack) -> Any:
    flag = Event()
    return flag.wait, "Event", flag.set


@wait_for
def barrier(_: ExitStack) -> Any:
    meeting = Barrier(2)
    return meeting.wait, "Barrier", None


@wait_for
def condvar(_: ExitStack) -> Any:
    mutex, changed = Mutex(), Condvar()

    async def wait() -> Any:
        with await mutex.lock() as guard:
            await changed.wait(guard)

    return wait, "Condvar", changed.notify_one


@pytest.mark.parametrize("kind", WAITS)
async def test_every_wait_is_found(kind: str) -> None:
    """Whatever it is for; no key is named."""
    with ExitStack() as stack:
        wait, lock, end = WAITS[kind](stack)

        async def waiting() -> None:
            got = await wait()
            if hasattr(got, "release"):
                got.release()

        async with anyio.create_task_group() as tasks:
            running = spawn(tasks, waiting, name="w")
            await settle()
            (report,) = waits()
            assert report.waiter == "task 'w'"
            assert report.lock.startswith(lock)
            assert report.stack[-1].startswith(f'File "{__file__}"')
            assert "secret" not in str(report) + "".join(printed())
            if end is None:
                running.cancel()
            else:
                end()


def test_threads_are_found(threads: ThreadPoolExecutor) -> None:
    """Those who wait and those who hold."""
    mutex = Mutex(name="m")

    def wait() -> None:
        mutex.blocking_lock().release()

    with mutex.try_lock():
        thread = threading.Thread(target=wait, name="T")
        thread.start()
        wait_until(lambda: mutex.statistics().waiting == 1)
        (report,) = waits()
        assert report.waiter == "thread 'T'"
        assert report.holders == (f"thread {threading.current_thread().name!r}",)
        assert report.loop_running
        assert report.stack[-1].endswith(".wait")
        lines = printed()
        assert any("test_threads_are_found" in line for line in lines)
        assert "  1. thread 'T' waits" in lines
    thread.join(30)


# a: holds A, waits for B (held by the test)      b: waits for A
async def test_what_a_waiter_holds_stands_below_it() -> None:
    """A tree, of which the root is who runs."""
    a, b = Mutex(name="A"), Mutex(name="B")

    async def hold_a() -> None:
        async with a, b:
            pass

    async def wait_for_a() -> None:
        async with a:
            pass

    async with anyio.create_task_group() as tasks, b:
        spawn(tasks, hold_a, name="a")
        await settle()
        spawn(tasks, wait_for_a, name="b")
        await settle()
        lines = [line for line in printed() if "File" not in line]
        assert lines[1:] == ["  1. task 'a' waits", "     Mutex 'A', held by task 'a'", "       1. task 'b' waits"]
        assert lines[0].startswith("Mutex 'B', held by task ")


@pytest.mark.loops("asyncio", "uvloop")
async def test_a_circle_is_printed_once() -> None:
    """Nobody in it runs: it begins somewhere, and ends with `see above`."""
    a, b = Mutex(name="A"), Mutex(name="B")

    async def cross(mine: Mutex[Any], theirs: Mutex[Any], timeout: float) -> None:
        with await mine.lock() as guard:
            await settle_once.wait()
            try:
                (await theirs.lock(timeout)).release()
            except TimeoutError:
                assert not guard.released

    settle_once = anyio.Event()
    async with anyio.create_task_group() as tasks:
        spawn(tasks, cross, a, b, 0.1, name="a")
        spawn(tasks, cross, b, a, 30, name="b")
        await settle()
        settle_once.set()
        await settle()
        lines = [line for line in printed() if "File" not in line]
    assert len(lines) == 5
    assert lines[-1].endswith("see above")


@pytest.mark.loops("asyncio", "uvloop")
async def test_a_holder_that_has_ended_is_named() -> None:
    """Its guard is somebody else's by now."""
    mutex = Mutex()

    async def take() -> Any:
        return await mutex.lock()

    ended = asyncio.create_task(take(), name="ended")
    guard = await ended
    waiting = asyncio.ensure_future(mutex.lock())
    await settle()
    (report,) = waits()
    assert report.holders == ("task 'ended'",)
    assert printed()[1].startswith("  1. task ")
    guard.release()
    (await waiting).release()


@pytest.mark.loops("trio")
async def test_a_holder_on_trio_that_has_ended_is_nowhere() -> None:
    """Somebody still refers to the task, and its guard is somebody else's by now."""
    mutex = Mutex()

    async def take() -> tuple[object, Any]:
        return trio.lowlevel.current_task(), await mutex.lock()

    async with anyio.create_task_group() as tasks:
        taking = spawn(tasks, take, name="ended")
        await settle()
        _ended, guard = taking.result
        waiter = spawn(tasks, mutex.lock)
        await settle()
        (report,) = waits()
        assert report.holders == ("task 'ended'",)
        lines = printed()
        assert sum(line.lstrip().startswith("File") for line in lines) == len(report.stack)
        guard.release()
        await settle()
        waiter.result.release()


async def test_nobody_waits_is_said() -> None:
    """And to stderr, where no file is given."""
    assert printed() == ["Nobody waits for a lock of asynclocks."]


def test_it_prints_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """As tracebacks go."""
    print_waits()
    assert "Nobody waits" in capsys.readouterr().err


def test_a_stopped_loop_is_told() -> None:
    """Its waiter keeps its place: nobody knows whether the loop will run again."""
    mutex = Mutex(name="m")
    guard = mutex.try_lock()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(mutex.acquire(), name="w")
    loop.run_until_complete(asyncio.sleep(0))
    (report,) = waits()
    assert report == WaitReport(
        "task 'w'", "Mutex 'm'", 1, (f"thread {threading.current_thread().name!r}",), False, report.stack
    )
    assert report.stack[0].endswith("in Mutex.acquire")
    assert "     loop not running" in printed()
    waiting.cancel()
    loop.run_until_complete(asyncio.wait([waiting]))
    loop.close()
    guard.release()


def test_a_loop_s_own_waits_are_found_after_a_freeze() -> None:
    """A server may have called `gc.freeze` after its imports, its locks among what was frozen."""
    assert sys.modules["gc"].get_freeze_count() > 0  # by the fixture of all tests
    mutex = Mutex(name="frozen")
    sys.modules["gc"].freeze()

    async def main() -> None:
        async with mutex:
            task = asyncio.ensure_future(mutex.lock_owned())
            await settle()
            assert [report.lock for report in waits()] == ["Mutex 'frozen'"]
        (await task).release()

    asyncio.run(main())


def test_a_place_that_nobody_sleeps_on_is_no_wait() -> None:
    """A wait for a notification may be enabled long before it is awaited."""
    notify = Notify()
    notified = notify.notified()
    notified.enable()
    assert notify.statistics().waiting == 1
    assert waits() == []
    del notified


@pytest.mark.loops("asyncio")
async def test_a_wait_in_no_task_is_nobody_s() -> None:
    """A callback may drive a coroutine."""
    notify = Notify()
    found: list[list[WaitReport]] = []

    def drive() -> None:
        waiting = notify.notified().__await__()
        next(waiting)
        assert notify.statistics().waiting == 1
        found.append(waits())
        waiting.close()

    asyncio.get_running_loop().call_soon(drive)
    await asyncio.sleep(0)
    assert found == [[]]
