"""A child process has only the thread that forked: the internal locks are free there, and other threads do not wait."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Any

import pytest
from anyio import create_task_group

from asynclocks import ConcurrentMap, Condvar, KeyLockedError, Mutex, Notify, OnceCell, RwLock, Semaphore, _forks
from asynclocks._engine import deadlock
from asynclocks.backends.seam import TASKS_HOLD_STILL
from asynclocks.recipes import InMemoryCache
from tests.native.threaded import PAUSES, RUNNERS, wait_until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]
ALARM = 20  # s, for a child


def in_a_child(use: Callable[[], object]) -> None:
    """Fork, call this in the child, and see it succeed there in time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(BaseException):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(ALARM)
            use()
            code = 0
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


@contextmanager
def another_thread(enter: Callable[[], Any]) -> Iterator[None]:
    """Another thread is in the middle of this context meanwhile."""
    inside, leave = threading.Event(), threading.Event()

    def run() -> None:
        with enter():
            inside.set()
            leave.wait(ALARM)

    thread = threading.Thread(target=run)
    thread.start()
    assert inside.wait(ALARM)
    yield
    leave.set()
    thread.join()


@contextmanager
def inside(thing: Any) -> Iterator[None]:
    """Be in the internal lock, as a thread may be at any moment."""
    if isinstance(thing, ConcurrentMap):
        _in_map: Any = thing
        del thing._token[0]
        yield
        thing._token += (_in_map := (None,))
    else:
        with thing._lock:
            yield


def take_once(notify: Notify) -> None:
    notify.notify_one()
    assert notify.statistics().stored


def use_condvar(condvar: Condvar) -> None:
    with Mutex(0).blocking_lock() as guard, pytest.raises(TimeoutError):
        condvar.blocking_wait(guard, 0.001)


USES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "mutex": (lambda: Mutex(0), lambda mutex: mutex.blocking_lock(1).release()),
    "semaphore": (lambda: Semaphore(1), lambda semaphore: semaphore.add_permits(1)),
    "rwlock": (lambda: RwLock(0), lambda lock: lock.blocking_write(1).release()),
    "cell": (OnceCell, lambda cell: cell.blocking_get_or_init(lambda: 1)),
    "notify": (Notify, take_once),
    "condvar": (Condvar, use_condvar),
    "map": (ConcurrentMap, lambda shared: shared.insert("a", 1)),
    "cache": (InMemoryCache, lambda cache: cache.statistics()),
}


@pytest.mark.parametrize(("make", "use"), USES.values(), ids=USES)
def test_what_another_thread_was_inside_of_is_free_in_the_child(
    make: Callable[[], Any], use: Callable[[Any], object]
) -> None:
    """The child's first use does not wait for a thread that it has not."""
    thing = make()
    with another_thread(lambda: inside(thing)):
        in_a_child(lambda: use(thing))
    use(thing)  # and in the parent nothing has changed


def test_the_process_s_own_locks_are_free_in_the_child() -> None:
    """Deadlocks are looked for there, too."""

    def look() -> None:
        assert deadlock._graph.acquire(timeout=1)

    with another_thread(lambda: deadlock._graph):
        in_a_child(look)


def test_what_the_forking_thread_is_inside_of_stays_so() -> None:
    """It goes on in the child, and leaves then."""
    mutex, lock, shared = Mutex(0), _forks.freed_in_child(RLock()), ConcurrentMap({"a": 0})

    def use() -> None:
        assert shared._is_inside()
        shared["a"] = 1
        assert mutex._lock._is_owned()
        assert lock._is_owned()  # type: ignore[attr-defined]
        mutex._lock.release()
        mutex._catch_up()
        mutex.blocking_lock(1).release()

    with lock, mutex._lock:
        shared._inside(in_a_child, use)


def test_who_waited_in_another_thread_is_gone_from_the_child_s_line() -> None:
    """What is given back there goes to those that are there."""
    mutex = Mutex(0)
    guard = mutex.try_lock()
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(mutex.blocking_lock, ALARM) for _ in range(2)]
        wait_until(lambda: mutex.statistics().waiting == 2)

        def use() -> None:
            assert mutex.statistics().waiting == 0
            guard.release()
            assert not mutex.locked()
            mutex.blocking_lock(1).release()

        in_a_child(use)
        assert mutex.statistics().waiting == 2
        guard.release()
        for one in as_completed(waiting, ALARM):  # in whichever order they came
            one.result().release()


def test_who_waits_in_a_loop_of_another_thread_is_gone_from_the_child_s_line() -> None:
    """The loop does not run there. A key's line is like any other."""
    mutex, shared = Mutex(0), ConcurrentMap({"a": 0})
    guard, entry = mutex.try_lock(), shared.try_entry("a")

    async def wait_for_both() -> None:
        async def write() -> None:
            async with shared.entry("a") as entry:
                entry.value = 1

        writing = asyncio.ensure_future(write())
        async with mutex:
            await writing

    thread = threading.Thread(target=asyncio.run, args=(wait_for_both(),))
    thread.start()
    wait_until(lambda: mutex.statistics().waiting + shared.statistics().waiting == 2)

    def use() -> None:
        assert mutex.statistics().waiting + shared.statistics().waiting == 0
        guard.release()
        entry.release()
        mutex.blocking_lock(1).release()
        shared["a"] = 2

    in_a_child(use)
    guard.release()
    entry.release()
    thread.join()
    assert shared["a"] == 1


def test_who_waits_in_the_forking_thread_s_own_loop_still_waits_in_the_child() -> None:
    """So does a place that nobody sleeps on."""
    mutex, notify = Mutex(0), Notify()
    notified = notify.notified()
    shared: ConcurrentMap[str, int] = ConcurrentMap()

    async def main() -> None:
        notified.enable()
        async with mutex, shared.entry("a"):
            waiting = asyncio.ensure_future(mutex.acquire())
            flying = asyncio.ensure_future(shared.get_or_insert_with("a", lambda: 1))
            await asyncio.sleep(0)

            def use() -> None:
                assert mutex.statistics().waiting == 1
                assert notify.statistics().waiting == 1
                assert shared.statistics().waiting == 1

            in_a_child(use)
        await waiting
        mutex.release()
        assert await flying == 1

    asyncio.run(main())


def test_who_waits_for_a_flight_in_another_thread_is_gone_from_the_child_s_line() -> None:
    """The flight, which stood in the key's line itself, is gone with its last passenger."""
    shared: ConcurrentMap[str, int] = ConcurrentMap()
    entry = shared.try_entry("a")
    thread = threading.Thread(target=shared.blocking_get_or_insert_with, args=("a", lambda: 1))
    thread.start()
    wait_until(lambda: shared.statistics().waiting)

    def use() -> None:
        assert not shared.statistics().waiting
        entry.release()
        shared["a"] = 2

    in_a_child(use)
    entry.release()
    thread.join()
    assert shared["a"] == 1


def test_what_another_thread_was_in_the_middle_of_granting_is_free_in_the_child() -> None:
    """The first of the line had it by then, and the second not yet. Both wait in threads that are not there."""
    granting, go_on = threading.Event(), threading.Event()

    class SlowSemaphore(Semaphore):
        def _admit(self, ticket: Any) -> bool:
            if self._struck is not None and threading.current_thread() is adding:
                granting.set()
                go_on.wait(ALARM)
            return super()._admit(ticket)

    semaphore = SlowSemaphore(0)
    adding = threading.Thread(target=semaphore.add_permits, args=(3,))

    def use() -> None:
        assert semaphore.statistics().waiting == 0
        assert semaphore.available_permits == 3
        semaphore.blocking_acquire(3, 1).release()

    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(semaphore.blocking_take, ALARM) for _ in range(3)]
        wait_until(lambda: semaphore.statistics().waiting == 3)
        adding.start()
        assert granting.wait(ALARM)
        in_a_child(use)
        go_on.set()
        adding.join()
        for one in waiting:
            one.result(ALARM)


def test_a_key_that_a_block_of_the_forking_thread_holds_stays_held_in_the_child() -> None:
    """Nobody had come for it."""
    shared = ConcurrentMap({"a": 0})

    async def main() -> None:
        async with shared.entry("a"):

            def use() -> None:
                with pytest.raises(KeyLockedError):
                    shared["a"] = 1

            in_a_child(use)

    asyncio.run(main())
    shared["a"] = 1


def test_what_is_held_stays_held_in_the_child() -> None:
    """Nobody knows there whether its holder has come along."""
    mutex = Mutex(0)

    def use() -> None:
        with pytest.raises(TimeoutError):
            mutex.blocking_lock(0.001)

    with mutex.try_lock():
        in_a_child(use)
    assert not mutex.locked()


def free_mutex(mutex: Mutex[int]) -> None:
    mutex.blocking_lock(1).release()


# How a thread or a task waits for what the forking thread holds, and what a child can have only if it is free.
GIVEN: dict[str, Any] = {
    "mutex": (lambda: Mutex(0), Mutex.try_lock, Mutex.blocking_lock, Mutex.lock, free_mutex),
    "acquire": (lambda: Mutex(0), Mutex.try_lock, Mutex.blocking_acquire, Mutex.acquire, free_mutex),
    "semaphore": (
        lambda: Semaphore(1),
        Semaphore.try_acquire,
        Semaphore.blocking_acquire,
        Semaphore.acquire,
        lambda semaphore: semaphore.blocking_acquire(1, 1).release(),
    ),
    "rwlock": (
        lambda: RwLock(0),
        RwLock.try_write,
        RwLock.blocking_read,
        RwLock.read,
        lambda lock: lock.blocking_write(1).release(),
    ),
    "key": (
        ConcurrentMap,
        lambda shared: shared.try_entry("a"),
        lambda shared: shared.blocking_entry("a"),
        lambda shared: shared.entry("a"),
        lambda shared: shared.blocking_entry("a", 1).release(),
    ),
    "flight": (
        ConcurrentMap,
        lambda shared: shared.try_entry("a"),
        lambda shared: shared.blocking_get_or_insert_with("a", lambda: 1),
        lambda shared: shared.get_or_insert_with("a", lambda: 1),
        lambda shared: shared.blocking_get_or_insert_with("a", lambda: 1, 1),
    ),
}


def let_go(taken: object) -> None:
    if hasattr(taken, "release"):
        taken.release()


def waits_for_it(thing: Any) -> bool:
    return bool(thing.statistics().waiting if isinstance(thing, ConcurrentMap) else thing._waiting)


@pytest.fixture
def no_switch() -> Iterator[None]:
    """Whoever runs goes on until it waits for something."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(ALARM)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.skipif(not TASKS_HOLD_STILL, reason="without a GIL whoever is woken is awake at once")
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_what_was_handed_to_a_thread_that_has_not_woken_yet_is_free_in_the_child(given: Any, no_switch: None) -> None:
    """The thread is not there, so it was not the thread's."""
    make, hold, wait, _, use = given
    thing = make()
    guard = hold(thing)
    thread = threading.Thread(target=lambda: let_go(wait(thing)))
    thread.start()
    wait_until(lambda: waits_for_it(thing))
    guard.release()
    assert not waits_for_it(thing)
    in_a_child(lambda: use(thing))
    thread.join()


@pytest.mark.parametrize("loop", RUNNERS)
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_what_was_handed_to_a_task_of_another_thread_that_has_not_woken_yet_is_free_in_the_child(
    given: Any, loop: str
) -> None:
    """Its loop does not run there."""
    make, hold, _, wait, use = given
    thing = make()
    guard = hold(thing)
    busy, go_on = threading.Event(), threading.Event()

    async def main() -> None:
        async def keep_busy() -> None:
            while not waits_for_it(thing):
                await PAUSES[loop]()
            busy.set()
            go_on.wait(ALARM)

        async def take() -> None:
            let_go(await wait(thing))

        async with create_task_group() as group:
            group.start_soon(take)
            group.start_soon(keep_busy)

    thread = threading.Thread(target=RUNNERS[loop], args=(main,))
    thread.start()
    busy.wait(ALARM)
    guard.release()
    assert not waits_for_it(thing)
    in_a_child(lambda: use(thing))
    go_on.set()
    thread.join()


def test_who_was_given_it_by_another_thread_in_the_middle_of_it_wakes_in_the_child() -> None:
    """That thread would have woken it, and is not there."""
    waking, go_on = threading.Event(), threading.Event()

    class SlowMutex(Mutex[int]):
        def _wake(self, granted: Any) -> None:
            if threading.current_thread() is releasing:
                waking.set()
                go_on.wait(ALARM)
            super()._wake(granted)

    mutex = SlowMutex(0)
    guard = mutex.try_lock()
    releasing = threading.Thread(target=guard.release)

    async def main() -> None:
        waiting = asyncio.ensure_future(mutex.acquire())
        await asyncio.sleep(0)
        releasing.start()
        assert waking.wait(ALARM)

        loop: Any = asyncio.get_running_loop()

        def use() -> None:
            loop._run_once()
            assert waiting._fut_waiter.done()  # type: ignore[attr-defined]

        in_a_child(use)
        assert not waiting._fut_waiter.done()  # type: ignore[attr-defined]
        go_on.set()
        await waiting
        releasing.join()

    asyncio.run(main())


def test_a_thread_that_forks_in_a_signal_handler_as_it_waits_goes_on_waiting_in_the_child() -> None:
    """What it waits for is given to it there."""
    mutex = Mutex(0)
    guard = mutex.try_lock()
    here, child = os.getpid(), []

    def fork(*_: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child.append(os.fork())
        if not child[0]:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(ALARM)
        guard.release()

    before = signal.signal(signal.SIGUSR1, fork)

    def interrupt() -> None:
        wait_until(lambda: mutex.statistics().waiting)
        os.kill(here, signal.SIGUSR1)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    try:
        mutex.blocking_lock(ALARM).release()
    finally:
        if os.getpid() != here:
            os._exit(sys.exception() is not None)
        signal.signal(signal.SIGUSR1, before)
    interrupting.join()
    assert os.waitpid(child[0], 0)[1] == 0
