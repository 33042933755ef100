"""What a wait leaves behind when it has ended: nothing."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asynclocks import DeadlockError, Mutex, RwLock, Semaphore, backends
from asynclocks._engine import deadlock, synchronizer
from asynclocks.backends.asyncio import AsyncioParker
from tests.native.threaded import WAIT, wait_until

on_asyncio = pytest.mark.loops("asyncio")


@on_asyncio
@pytest.mark.parametrize("cancelled", [False, True], ids=["granted", "cancelled"])
@pytest.mark.parametrize("timeout", [None, 1000.0], ids=["endless", "timeout"])
async def test_a_wait_of_a_task_that_holds_something_is_not_noted_any_more(
    timeout: float | None, cancelled: bool
) -> None:
    """Nor does its loop keep what it slept on."""
    held, lock = Mutex(), RwLock()

    async def wait() -> None:
        async with held, lock.write(timeout):
            pass

    noted = dict(deadlock.waits)
    loop: Any = asyncio.get_running_loop()
    guard = lock.try_read()
    waiter = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    assert lock.statistics().waiting_writers == 1
    assert len(loop._asynclocks_parked) == 1
    if cancelled:
        waiter.cancel()
    else:
        guard.release()
    await asyncio.wait([waiter])
    assert waiter.cancelled() == cancelled
    assert deadlock.waits == noted
    assert len(loop._asynclocks_parked) == 0
    if cancelled:
        guard.release()


def test_a_wait_of_a_thread_is_not_noted_any_more(threads: ThreadPoolExecutor) -> None:
    """When it was granted."""
    lock = RwLock()
    noted = dict(deadlock.waits)
    with lock.try_read():
        writer = threads.submit(lambda: lock.blocking_write().release())
        wait_until(lambda: len(deadlock.waits) == len(noted) + 1)
    writer.result(WAIT)
    assert deadlock.waits == noted


@on_asyncio
async def test_a_wait_of_no_task_is_noted_for_nobody() -> None:
    """A callback may drive a coroutine."""
    lock = RwLock()
    guard = lock.try_read()
    done: list[bool] = []

    def drive() -> None:
        coroutine = lock.write().__await__()
        next(coroutine)
        done.append(None not in deadlock.waits)
        coroutine.close()

    asyncio.get_running_loop().call_soon(drive)
    await asyncio.sleep(0)
    assert done == [True]
    guard.release()


class Settling(AsyncioParker):
    """It counts who says that it will not park."""

    settled = 0

    def settle(self) -> None:
        Settling.settled += 1


@on_asyncio
@pytest.mark.parametrize("timeout", [None, 1000.0], ids=["endless", "timeout"])
@pytest.mark.pure("a parker that is replaced is not asked for from C")
async def test_who_need_not_wait_says_so_to_its_parker(timeout: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's own loop need not keep it."""
    monkeypatch.setattr(backends.native, "parker", Settling)
    Settling.settled = 0
    (await Semaphore(2).acquire(2, timeout)).release()
    assert Settling.settled == 1


# a: holds A, waits for B      b: holds B, waits for A
@on_asyncio
async def test_who_is_noted_is_known_to_wait_before_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another thread it may be about to."""
    monkeypatch.setattr(synchronizer, "sleeps", lambda _: False)
    a, b = RwLock(), RwLock()

    async def crosswise() -> None:
        async with b.write(), a.write():
            pass

    async with a.write():
        other = asyncio.ensure_future(crosswise())
        await asyncio.sleep(0)
        with pytest.raises(DeadlockError):
            await b.write()
    await other


@pytest.mark.pure("what is replaced is not asked for from C")
def test_a_wait_of_nobody_s_is_not_noted(threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Pyodide the one thread is everybody's."""
    monkeypatch.setattr(synchronizer, "thread_here", lambda: None)
    lock = RwLock()
    noted = dict(deadlock.waits)
    with lock.try_read():
        writer = threads.submit(lambda: lock.blocking_write().release())
        wait_until(lambda: lock.statistics().waiting_writers == 1)
        assert deadlock.waits == noted
    writer.result(WAIT)


@on_asyncio
async def test_who_waited_by_blocking_its_loop_has_it_as_a_task(threads: ThreadPoolExecutor) -> None:
    """Not as the thread, which is every task's."""
    mutex = Mutex()
    guard = mutex.try_lock()

    def let_go() -> None:
        wait_until(lambda: mutex.statistics().waiting == 1)
        guard.release()

    releasing = threads.submit(let_go)
    mutex.blocking_acquire(WAIT, block_loop=True)
    task: Any = asyncio.current_task()
    assert mutex.statistics().owner == task.get_name()
    mutex.release()
    releasing.result(WAIT)


# a: reads      u: reads, upgradably      w: waits to write
#               waits for its upgrade, before w
@on_asyncio
async def test_a_cancelled_upgrade_leaves_the_line_to_those_behind_it() -> None:
    """It stood at the head."""
    lock = RwLock()

    async def write() -> None:
        async with lock.write():
            pass

    reader, upgradable = lock.try_read(), lock.try_upgradable_read()
    writer = asyncio.ensure_future(write())
    await asyncio.sleep(0)
    upgrade = asyncio.ensure_future(upgradable.upgrade())
    await asyncio.sleep(0)
    assert lock.statistics().waiting_writers == 2
    upgrade.cancel()
    await asyncio.wait([upgrade])
    assert lock.statistics().waiting_writers == 1
    reader.release()
    upgradable.release()
    await asyncio.wait_for(writer, WAIT)


@on_asyncio
async def test_who_comes_after_all_who_waited_were_let_in_at_once_is_served() -> None:
    """The line begins with it."""
    lock = RwLock()
    go_on = asyncio.Event()

    async def read() -> None:
        async with lock.read():
            await go_on.wait()

    async def write() -> None:
        async with lock.write():
            pass

    guard = lock.try_write()
    readers = [asyncio.ensure_future(read()) for _ in range(2)]
    await asyncio.sleep(0)
    guard.release()
    await asyncio.sleep(0)
    assert lock.statistics().readers == 2
    assert lock._struck is None  # it keeps nobody
    writer = asyncio.ensure_future(write())
    await asyncio.sleep(0)
    assert lock.statistics().waiting_writers == 1
    go_on.set()
    await asyncio.wait_for(asyncio.gather(writer, *readers), WAIT)
