"""Deadlocks of threads, and of threads and tasks: whoever closes the circle is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asynclocks import ConcurrentMap, DeadlockError, KeyLockedError, Mutex, OnceCell, RwLock
from asynclocks._engine import deadlock
from tests.native.threaded import wait_until
from tests.support import collect, settle

Take = Callable[[], Any]


def kinds() -> dict[str, tuple[Take, Take]]:
    """How a thread takes something, and how it waits for the same."""
    mutex, lock = Mutex(name="m"), RwLock()
    shared = ConcurrentMap({"k": 1})
    return {
        "blocking_lock": (mutex.blocking_lock, mutex.blocking_lock),
        "try_lock": (mutex.try_lock, mutex.blocking_lock),
        "blocking_read": (lock.blocking_read, lock.blocking_write),
        "try_write": (lock.try_write, lock.blocking_read),
        "try_upgradable_read": (lock.try_upgradable_read, lock.blocking_write),
        "blocking_entry": (lambda: shared.blocking_entry("k"), lambda: shared.blocking_entry("k")),
        "try_ref": (lambda: shared.try_ref("k"), lambda: shared.blocking_entry("k")),
    }


every_kind = pytest.mark.parametrize("kind", kinds())


@every_kind
def test_a_thread_that_waits_for_itself_is_told(kind: str) -> None:
    """DeadlockError at once; the hold stays what it was."""
    take, wait = kinds()[kind]
    me = threading.current_thread().name
    with take(), pytest.raises(DeadlockError) as caught:
        wait()
    assert caught.value.cycle[0].startswith(f"thread {me!r} waits for ")
    assert caught.value.cycle[0].endswith(f"held by thread {me!r}")
    assert "disown()" in str(caught.value)
    wait().release()


def test_a_thread_behind_one_that_waits_within_a_timeout_is_innocent(threads: ThreadPoolExecutor) -> None:
    """It is let in beside itself when that one has left; behind one that stays it is told."""
    before = {*deadlock.limited}
    lock = RwLock[None]()
    with lock.try_read() as guard:
        late = threads.submit(lock.blocking_write, 0.1)
        wait_until(lambda: lock.statistics().waiting_writers == 1)
        lock.blocking_read().release()
        with pytest.raises(TimeoutError):
            late.result(30)
        stays = threads.submit(lock.blocking_write)
        wait_until(lambda: lock.statistics().waiting_writers == 1)
        with pytest.raises(DeadlockError):
            lock.blocking_read()
        guard.release()
    stays.result(30).release()
    assert deadlock.limited <= before


# the parent: reads, awaits the child     a thread: reads, lets go, and is about to let the next one in
#     the child: waits, for there are two readers
def test_who_is_about_to_be_let_in_by_another_thread_is_innocent(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is in its way any more. A look in between finds no circle."""
    lock = RwLock[None](max_readers=2)
    looks: list[bool] = []
    serve: Any = RwLock._hand_on

    async def take() -> None:
        async with lock.read():
            pass

    async def parent() -> None:
        async with lock.read():
            other = threads.submit(lock.blocking_read).result(30)
            child = asyncio.create_task(take())

            def look_first(self: Any) -> None:
                looks.append(deadlock.is_stuck(ticket))
                serve(self)

            async def let_go() -> None:
                await asyncio.sleep(0.01)
                threads.submit(other.release).result(30)

            await settle()
            loop: Any = asyncio.get_running_loop()
            (ticket,) = loop._asynclocks_parked
            monkeypatch.setattr(RwLock, "_hand_on", look_first)
            letting_go = asyncio.create_task(let_go())
            await child
            await letting_go

    asyncio.run(parent())
    assert looks
    assert not any(looks)


@every_kind
def test_a_thread_that_handed_its_guard_on_is_innocent(kind: str, threads: ThreadPoolExecutor) -> None:
    """It said so by `disown`: another thread releases."""
    take, wait = kinds()[kind]
    guard = take().disown()
    held = threads.submit(wait)
    guard.release()
    held.result(30).release()


@every_kind
def test_a_thread_that_waits_for_itself_with_a_timeout_is_not_followed(kind: str) -> None:
    """The wait ends by itself."""
    take, _ = kinds()[kind]
    mutex = Mutex()
    with take(), mutex.try_lock(), pytest.raises(TimeoutError):
        mutex.blocking_lock(0.01)


def test_an_initializer_that_waits_for_its_own_value_is_told() -> None:
    """Of a cell and of a key; what to do about it is said."""
    cell, shared = OnceCell[int](), ConcurrentMap[str, int]()
    with pytest.raises(DeadlockError, match="let no initializer wait for its own cell"):
        cell.blocking_get_or_init(lambda: cell.blocking_get_or_init(lambda: 1))
    with pytest.raises(DeadlockError, match="let no initializer wait"):
        cell.blocking_get_or_init(cell.blocking_wait)
    with pytest.raises(DeadlockError, match="let no init wait for its own key"):
        shared.blocking_get_or_insert_with("k", lambda: shared.blocking_get_or_insert_with("k", lambda: 1))
    with pytest.raises(DeadlockError, match="let no init wait for its own key"):
        shared.blocking_get_or_insert_with("k", lambda: shared.blocking_entry("k").value)
    assert cell.blocking_get_or_init(lambda: 2) == shared.blocking_get_or_insert_with("k", lambda: 2) == 2


def test_who_waits_for_its_own_key_is_told_to_use_what_holds_it() -> None:
    """The entry is there to be used; a ref must go before. Either may be disowned."""
    shared = ConcurrentMap({"k": 1})
    disown = r", or call its disown\(\) if somebody else will release it"
    with shared.try_entry("k"), pytest.raises(DeadlockError, match="use the entry that holds the key" + disown):
        shared.blocking_entry("k")
    with shared.try_ref("k"), pytest.raises(DeadlockError, match="release the ref before" + disown):
        shared.blocking_entry("k")


def test_a_refused_write_to_one_s_own_key_says_to_use_what_holds_it() -> None:
    """Not to take another entry."""
    shared = ConcurrentMap({"k": 1})
    with shared.try_entry("k"), pytest.raises(KeyLockedError, match="use what it has: the entry"):
        shared["k"] = 2


# first: holds A      second: holds B
#                     waits for A
# waits for B: told
def test_two_threads_crosswise_are_told() -> None:
    """One of them; the other goes on."""
    a, b = Mutex(name="A"), Mutex(name="B")

    def second() -> None:
        with b.blocking_lock(), a.blocking_lock():
            pass

    with a.blocking_lock():
        thread = threading.Thread(target=second, name="second")
        thread.start()
        wait_until(lambda: a.statistics().waiting == 1)
        with pytest.raises(DeadlockError) as caught:
            b.blocking_lock()
    me = threading.current_thread().name
    assert caught.value.cycle == (
        f"thread {me!r} waits for Mutex 'B' held by thread 'second'",
        f"thread 'second' waits for Mutex 'A' held by thread {me!r}",
    )
    thread.join(30)
    assert not b.locked()


@pytest.mark.parametrize("last", ["task", "thread"])
def test_a_thread_and_a_task_crosswise_are_told(last: str) -> None:
    """Whoever comes last."""
    a, b = Mutex(name="A"), Mutex(name="B")
    errors: list[DeadlockError] = []

    def in_thread() -> None:
        with b.blocking_lock():
            holds.set()
            if last == "thread":
                wait_until(lambda: b.statistics().waiting == 1)
            try:
                a.blocking_lock().release()
            except DeadlockError as error:
                errors.append(error)

    async def main() -> None:
        async with a:
            thread.start()
            await asyncio.to_thread(holds.wait)
            if last == "task":
                await asyncio.to_thread(wait_until, lambda: a.statistics().waiting == 1)
            try:
                (await b.lock()).release()
            except DeadlockError as error:
                errors.append(error)

    holds = threading.Event()
    thread = threading.Thread(target=in_thread, name="T")
    asyncio.run(main())
    thread.join(30)
    (error,) = errors
    assert len(error.cycle) == 2
    assert any("held by thread 'T'" in link for link in error.cycle)


def test_what_a_finished_thread_holds_has_no_owner() -> None:
    """Whoever has the guard now may release it."""
    a, b = Mutex(name="A"), Mutex(name="B")
    guards: list[Any] = []
    first = threading.Thread(target=lambda: guards.append(b.blocking_lock()))
    first.start()
    first.join(30)
    collect()
    with a.try_lock():
        second = threading.Thread(target=lambda: b.blocking_lock().release())
        second.start()
        wait_until(lambda: b.statistics().waiting == 1)
        guards.pop().release()
        second.join(30)
    assert b.statistics().owner is None


@pytest.mark.loops("asyncio", "uvloop")
async def test_a_thread_that_works_is_no_deadlock(threads: ThreadPoolExecutor) -> None:
    """A task waits for it, and has the lock in the end."""
    mutex = Mutex()
    go = threading.Event()

    def work() -> None:
        with mutex.blocking_lock():
            go.wait(30)

    working = threads.submit(work)
    await asyncio.to_thread(wait_until, mutex.locked)
    waiting = asyncio.ensure_future(mutex.lock())
    await settle()
    assert mutex.statistics().owner is None
    go.set()
    (await waiting).release()
    working.result(30)


def test_a_cycle_is_looked_for_by_one_thread_at_a_time() -> None:
    """Or two that close it at once might both find it, and both be refused."""

    class Watched(Mutex[None]):
        def _owners(self, ticket: Any) -> Any:
            looked.append(deadlock._graph.locked())
            return super()._owners(ticket)

    looked: list[bool] = []
    mutex = Watched()
    with mutex.blocking_lock(), pytest.raises(DeadlockError):
        mutex.blocking_lock()
    assert looked.count(True) >= 2  # it looks twice
