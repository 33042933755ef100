"""Plain threads: the blocking forms, many loops in many threads at once, and finalizers at the worst moment."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import pytest
import trio

from asynclocks import (
    ClosedError,
    Condvar,
    DeadlockError,
    GuardReleasedError,
    Mutex,
    MutexStatistics,
    Permit,
    Semaphore,
    SemaphoreStatistics,
    TryLockError,
    WouldBlock,
)
from asynclocks.backends.seam import HAS_GIL
from tests.native.threaded import WAIT, CrowdedLock, InterruptedLock, results, wait_until
from tests.support import on_trio


@pytest.fixture
def collecting() -> Iterator[None]:
    """The collector runs at every allocation it can, also inside the library."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what was there before is not looked at: all those collections would take minutes
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*thresholds)  # `frozen` unfreezes, at the end of the module


def queued(primitive: Mutex[Any] | Semaphore, count: int) -> Callable[[], bool]:
    return lambda: primitive.statistics().waiting == count


# --- blocking_*


def test_blocking_lock_takes_a_free_mutex() -> None:
    """No waiting where none is needed."""
    mutex = Mutex(1)
    with mutex.blocking_lock() as guard:
        guard.value += 1
        assert mutex.statistics().owner is None
    assert mutex.into_inner() == 2


# main: holds              thread: blocking_lock()
#                          parks
# release(): the thread's
#                          runs
def test_blocking_lock_waits_for_the_holder(threads: ThreadPoolExecutor) -> None:
    """It is granted at release time, as a task is."""
    mutex = Mutex()
    guard = mutex.try_lock()
    waiting = threads.submit(mutex.blocking_lock)
    wait_until(queued(mutex, 1))
    guard.release()
    assert mutex.locked()
    with waiting.result(30):
        assert mutex.locked()
    assert not mutex.locked()


def test_blocked_threads_are_served_in_order_of_arrival(threads: ThreadPoolExecutor) -> None:
    """First come, first served, among threads too."""
    mutex = Mutex()
    log: list[int] = []

    def wait(number: int) -> None:
        with mutex.blocking_lock():
            log.append(number)

    guard = mutex.try_lock()
    waits = []
    for number in range(5):
        waits.append(threads.submit(wait, number))
        wait_until(queued(mutex, number + 1))
    guard.release()
    for wait_of_one in waits:
        wait_of_one.result(30)
    assert log == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
def test_a_timeout_leaves_nothing_behind(timeout: float) -> None:
    """TimeoutError, nothing held and nobody in line."""
    mutex = Mutex(name="m")
    with mutex.try_lock():
        with pytest.raises(TimeoutError, match=r"blocking_lock\(\) of <Mutex 'm' held>"):
            mutex.blocking_lock(timeout)
        assert mutex.statistics().waiting == 0
    assert not mutex.locked()


@pytest.mark.parametrize("timeout", [0, -1, 10, None])
def test_a_free_mutex_is_taken_whatever_the_timeout(timeout: float | None) -> None:
    """Zero or less tries once, and that may succeed."""
    mutex = Mutex()
    with mutex.blocking_lock(timeout):
        assert mutex.locked()


def test_a_timeout_longer_than_the_platform_knows_waits_all_the_same(threads: ThreadPoolExecutor) -> None:
    """A thousand years are as good as for ever, and infinity is."""
    mutex = Mutex()
    for timeout in (1e12, float("inf")):
        guard = mutex.try_lock()
        waiting = threads.submit(mutex.blocking_lock, timeout)
        wait_until(queued(mutex, 1))
        guard.release()
        waiting.result(30).release()


def test_a_timeout_lets_the_next_one_in(threads: ThreadPoolExecutor) -> None:
    """A large request that gives up no longer holds back those behind it."""
    semaphore = Semaphore(3)
    with semaphore.try_acquire(2):
        large = threads.submit(semaphore.blocking_acquire, 3, 1.5)
        wait_until(queued(semaphore, 1))
        small = threads.submit(semaphore.blocking_acquire, 1)
        wait_until(queued(semaphore, 2))
        with pytest.raises(TimeoutError):
            large.result(30)
        small.result(30).release()
    assert semaphore.available_permits == 3


def test_blocking_acquire_of_a_closed_semaphore_is_refused(threads: ThreadPoolExecutor) -> None:
    """ClosedError at once, and for who waits already."""
    semaphore = Semaphore(0)
    waiting = threads.submit(semaphore.blocking_acquire, 2)
    wait_until(queued(semaphore, 1))
    semaphore.close()
    with pytest.raises(ClosedError):
        waiting.result(30)
    for timeout in (None, 0):
        with pytest.raises(ClosedError):
            semaphore.blocking_acquire(1, timeout)


def test_blocking_acquire_takes_as_many_as_asked() -> None:
    """Its permit counts them."""
    semaphore = Semaphore(3)
    with semaphore.blocking_acquire(2) as permit:
        assert permit.count == 2
        with pytest.raises(TimeoutError, match=r"blocking_acquire\(2\) of <Semaphore"):
            semaphore.blocking_acquire(2, 0)
    with semaphore.blocking_acquire(0, timeout=0) as permit:
        assert permit.count == 0
    assert semaphore.available_permits == 3


def _all_blocking(held: bool) -> list[Callable[[], object]]:
    mutex, semaphore = Mutex(), Semaphore(int(not held))
    if held:
        mutex.acquire_nowait()
    return [
        mutex.blocking_lock,
        lambda: mutex.blocking_lock(0),
        semaphore.blocking_acquire,
        lambda: semaphore.blocking_acquire(0),
        lambda: semaphore.blocking_acquire(1, 0),
    ]


@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
def test_blocking_calls_are_refused_where_a_loop_runs(held: bool) -> None:
    """RuntimeError that names the loop and the way out, even if nothing would have to be waited for."""

    async def check(name: str) -> None:
        for call in _all_blocking(held):
            with pytest.raises(RuntimeError, match=f"would block the running {name} loop; await instead"):
                call()

    asyncio.run(check("asyncio"))
    trio.run(check, "trio")


def test_blocking_calls_are_refused_in_a_loop_callback() -> None:
    """No task runs there, but a loop does."""
    mutex: Mutex[None] = Mutex()
    caught: list[type[BaseException]] = []

    def call() -> None:
        try:
            mutex.blocking_lock(0)
        except RuntimeError as error:
            caught.append(type(error))

    async def main() -> None:
        asyncio.get_running_loop().call_soon(call)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert caught == [RuntimeError]


def test_blocking_calls_work_in_the_worker_threads_of_a_loop() -> None:
    """What a loop copied into the thread's context makes no loop."""
    mutex, semaphore = Mutex(0), Semaphore(1)

    def work() -> None:
        with mutex.blocking_lock() as guard, semaphore.blocking_acquire():
            guard.value += 1
        with mutex.try_lock() as guard, semaphore.try_acquire():
            guard.value += 1

    async def on_asyncio() -> None:
        await asyncio.to_thread(work)

    async def on_trio() -> None:
        await trio.to_thread.run_sync(work)

    asyncio.run(on_asyncio())
    trio.run(on_trio)
    assert mutex.into_inner() == 4


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signal can be sent to a thread")
def test_a_blocked_thread_that_is_interrupted_leaves_the_line(ctrl_c: None) -> None:
    """KeyboardInterrupt while parked: nothing is held, nobody is in line."""
    mutex = Mutex()
    guard = mutex.try_lock()

    def interrupt() -> None:
        wait_until(queued(mutex, 1))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        mutex.blocking_lock(30)
    interrupter.join()
    assert mutex.statistics().waiting == 0
    guard.release()
    assert not mutex.locked()


def test_an_expired_wait_that_was_granted_at_the_last_moment_holds(
    threads: ThreadPoolExecutor, switching: None
) -> None:
    """Grant and timeout cross: either the guard or TimeoutError, and never a lock that nobody holds."""
    mutex = Mutex()

    def wait(number: int) -> bool:
        try:
            mutex.blocking_lock(1e-5 * (number % 20)).release()
        except TimeoutError:
            return False
        return True

    def give() -> None:
        for number in range(300):
            with mutex.blocking_lock():
                time.sleep(1e-5 * (number % 7))

    giving = [threads.submit(give) for _ in range(2)]
    for one in [threads.submit(lambda: [wait(number) for number in range(500)]) for _ in range(3)]:
        one.result(60)
    for one in giving:
        one.result(60)
    assert not mutex.locked()
    assert mutex.statistics().waiting == 0


class BusyMutex(Mutex[int]):
    """Lets something happen right after a transaction, as another thread might."""

    __slots__ = ("then",)

    then: list[Callable[[], object]]

    def _transact(self, change: Callable[[Any], Any], argument: Any) -> Any:
        result = super()._transact(change, argument)
        if self.then and change == self._join:
            self.then.pop()()
        return result


# thread 1: blocking_lock() queues      thread 2: holds
#                                       release(): thread 1's
# looks, and finds that it holds already
@pytest.mark.parametrize("timeout", [None, 10])
def test_a_thread_that_is_granted_before_it_parks_holds(timeout: float | None) -> None:
    """No TimeoutError, and no lock that nobody holds."""
    mutex = BusyMutex(0)
    mutex.then = []
    mutex.then.append(mutex.try_lock().release)
    with mutex.blocking_lock(timeout):
        assert mutex.locked()
    assert not mutex.locked()


class SlowSemaphore(Semaphore):
    """Lets something happen between the grant and the wake-up, as another thread might."""

    __slots__ = ("before_waking",)

    before_waking: Callable[[], object]

    def _wake(self, ticket: Any) -> None:
        if ticket is not None:
            self.before_waking()
        super()._wake(ticket)


# releaser: grants thread and task      thread: its time is over, it was granted
#                                       holds, and releases
# wakes thread and task
def test_who_was_granted_as_its_time_ran_out_waits_for_its_wake_up(threads: ThreadPoolExecutor) -> None:
    """The releasing thread is still walking along the line of the granted; nobody in it may be cut off."""
    semaphore = SlowSemaphore(0)
    waits = [threads.submit(semaphore.blocking_acquire, 1, 1.0), threads.submit(semaphore.blocking_acquire)]
    wait_until(queued(semaphore, 2))
    semaphore.before_waking = lambda: time.sleep(1.2)
    semaphore.add_permits(2)
    permits = [wait.result(30) for wait in waits]
    assert [permit.count for permit in permits] == [1, 1]
    for permit in permits:
        permit.release()
    assert semaphore.available_permits == 2


def test_any_thread_may_release_a_guard(threads: ThreadPoolExecutor) -> None:
    """The guard owns the lock, neither task nor thread."""

    async def main() -> None:
        mutex = Mutex()
        guard = await mutex.lock()
        waiting = asyncio.create_task(mutex.acquire())
        await asyncio.sleep(0)
        await asyncio.to_thread(guard.release)
        assert await waiting
        await asyncio.to_thread(mutex.release)
        assert not mutex.locked()

    asyncio.run(main())


# --- everything at once


async def _count_on_asyncio(counter: Mutex[int], limit: Semaphore, rounds: int) -> None:
    async def work() -> None:
        for number in range(rounds):
            async with counter as guard:
                guard.value += 1
            if number % 3 == 0:
                async with limit, counter.lock() as guard:
                    before = guard.value
                    await asyncio.sleep(0)
                    guard.value = before + 1

    await asyncio.gather(*(work() for _ in range(5)))


async def _count_on_trio(counter: Mutex[int], limit: Semaphore, rounds: int) -> None:
    async def work() -> None:
        for number in range(rounds):
            async with counter as guard:
                guard.value += 1
            if number % 3 == 0:
                async with limit, counter.lock() as guard:
                    before = guard.value
                    await trio.lowlevel.checkpoint()
                    guard.value = before + 1

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(work)


def _count_in_a_thread(counter: Mutex[int], limit: Semaphore, rounds: int) -> None:
    for number in range(rounds * 5):
        with counter.blocking_lock() as guard:
            guard.value += 1
        if number % 3 == 0:
            with limit.blocking_acquire(), counter.blocking_lock(60) as guard:
                guard.value += 1


def test_four_loops_and_plain_threads_lose_no_update(threads: ThreadPoolExecutor, switching: None) -> None:
    """100,000 acquisitions of one mutex: two asyncio loops, two trio loops and two plain threads at once."""
    counter, limit, rounds = Mutex(0), Semaphore(2), 2_500
    done = [
        threads.submit(asyncio.run, _count_on_asyncio(counter, limit, rounds)),
        threads.submit(asyncio.run, _count_on_asyncio(counter, limit, rounds)),
        threads.submit(trio.run, _count_on_trio, counter, limit, rounds),
        threads.submit(trio.run, _count_on_trio, counter, limit, rounds),
        threads.submit(_count_in_a_thread, counter, limit, rounds),
        threads.submit(_count_in_a_thread, counter, limit, rounds),
    ]
    for one in done:
        one.result(110)
    per_task = rounds + len(range(0, rounds, 3))
    per_thread = rounds * 5 + len(range(0, rounds * 5, 3))
    assert counter.into_inner() == 4 * 5 * per_task + 2 * per_thread
    assert limit.available_permits == 2


def test_tasks_of_several_loops_are_cancelled_while_others_go_on(threads: ThreadPoolExecutor, switching: None) -> None:
    """Cancellations that cross grants from other threads lose nothing."""
    mutex, limit = Mutex(0), Semaphore(3)

    async def impatient(number: int) -> None:
        for delay in range(60):
            try:
                async with asyncio.timeout((number + delay) % 5 * 1e-4), limit.acquire(1 + number % 3), mutex as guard:
                    guard.value += 1
                    await asyncio.sleep((number + delay) % 3 * 1e-4)
            except TimeoutError:
                pass

    async def main() -> None:
        await asyncio.gather(*(impatient(number) for number in range(10)))

    async def trio_main() -> None:
        async def work(number: int) -> None:
            for delay in range(60):
                with trio.move_on_after((number + delay) % 5 * 1e-4):
                    async with limit.acquire(1 + number % 3), mutex as guard:
                        guard.value += 1
                        await trio.sleep((number + delay) % 3 * 1e-4)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(work, number)

    done = [threads.submit(asyncio.run, main()) for _ in range(2)]
    done += [threads.submit(trio.run, trio_main) for _ in range(2)]
    for one in done:
        one.result(110)
    assert not mutex.locked()
    assert mutex.statistics().waiting == 0
    assert limit.statistics().waiting == 0
    assert limit.available_permits == 3


@pytest.mark.parametrize("runner", ["asyncio", "trio"])
def test_a_task_waits_for_a_thread_without_polling(runner: str, threads: ThreadPoolExecutor) -> None:
    """A release in another thread wakes a loop that sleeps in its selector."""
    mutex = Mutex()
    guard = mutex.try_lock()

    def release_later() -> None:
        wait_until(queued(mutex, 1))
        time.sleep(0.02)  # until the loop surely sleeps
        guard.release()

    async def main() -> None:
        async with mutex:
            pass

    releasing = threads.submit(release_later)
    if runner == "asyncio":
        asyncio.run(asyncio.wait_for(main(), 30))
    else:
        trio.run(main)
    releasing.result(30)
    assert not mutex.locked()


# --- the steps without the internal lock


class Tokens(list[None]):
    """The free token, or tokens, of a primitive, where another thread comes in before or after one is taken."""

    def __init__(self, tokens: list[None]) -> None:
        super().__init__(tokens)
        self.before: list[Callable[[], object]] = []
        self.after: list[Callable[[], object]] = []
        self.given: list[Callable[[], object]] = []

    def append(self, token: None) -> None:
        super().append(token)
        if self.given:
            self.given.pop()()

    def __delitem__(self, index: Any) -> None:
        if self.before:
            self.before.pop()()
        super().__delitem__(index)
        if self.after:
            self.after.pop()()


def tokens_of(primitive: Any) -> Tokens:
    name = "_free" if isinstance(primitive, Mutex) else "_tokens"
    tokens = Tokens(getattr(primitive, name))
    setattr(primitive, name, tokens)
    return tokens


def block(primitive: Any) -> Any:
    return primitive.blocking_lock(30) if isinstance(primitive, Mutex) else primitive.blocking_acquire(timeout=30)


both = pytest.mark.parametrize("make", [Mutex, lambda: Semaphore(1)], ids=["mutex", "semaphore"])
every_short_way = pytest.mark.parametrize("spelling", ["async with", "acquire()", "a guard"])
every_runner = pytest.mark.parametrize("runner", [asyncio.run, lambda coroutine: trio.run(lambda: coroutine)])


async def use(primitive: Any, spelling: str, log: list[str]) -> None:
    if spelling == "acquire()" and (isinstance(primitive, Mutex) or not on_trio()):  # there `take` takes the lock
        await (primitive.acquire() if isinstance(primitive, Mutex) else primitive.take())
        log.append("newcomer")
        (primitive.release if isinstance(primitive, Mutex) else primitive.give)()
    elif spelling == "a guard" and not on_trio():  # there it is a checkpoint, and takes the lock
        async with primitive.lock() if isinstance(primitive, Mutex) else primitive.acquire():
            log.append("newcomer")
    else:
        async with primitive:
            log.append("newcomer")


# newcomer: takes the token      thread
#                                queues, as none is free
# looks at the line: puts the token back, the thread's
# queues
#                                runs, gives back
# runs
@both
@every_short_way
@every_runner
def test_a_newcomer_that_took_the_token_as_somebody_queued_puts_it_back(
    make: Callable[[], Any], spelling: str, runner: Callable[[Any], None], threads: ThreadPoolExecutor
) -> None:
    """Taking without the lock overtakes nobody."""
    primitive = make()
    tokens, log, waits = tokens_of(primitive), list[str](), []

    def wait() -> None:
        with block(primitive):
            log.append("queued")

    def queue() -> None:
        waits.append(threads.submit(wait))
        wait_until(queued(primitive, 1))

    tokens.after.append(queue)
    runner(use(primitive, spelling, log))
    waits[0].result(30)
    assert log == ["queued", "newcomer"]
    assert len(tokens) == 1
    assert not primitive.locked()


# newcomer: sees a token         thread
#                                takes it
# finds none, queues
#                                gives back: the newcomer's
@both
@every_short_way
@every_runner
def test_a_newcomer_that_was_a_moment_too_late_waits(
    make: Callable[[], Any], spelling: str, runner: Callable[[Any], None], threads: ThreadPoolExecutor
) -> None:
    """Seeing a token is not having it."""
    primitive = make()
    tokens, log, givers = tokens_of(primitive), list[str](), []

    def give_back_later(guard: Any) -> None:
        wait_until(queued(primitive, 1))
        log.append("other")
        guard.release()

    def take() -> None:
        take_now = primitive.try_lock if isinstance(primitive, Mutex) else primitive.try_acquire
        guard = threads.submit(take_now).result(30)
        givers.append(threads.submit(give_back_later, guard))

    tokens.before.append(take)
    runner(use(primitive, spelling, log))
    givers[0].result(30)
    assert log == ["other", "newcomer"]
    assert not primitive.locked()


every_try = pytest.mark.parametrize(
    ("make", "take"),
    [
        (Mutex, Mutex.try_lock),
        (Mutex, Mutex.acquire_nowait),
        (lambda: Semaphore(1), Semaphore.try_acquire),
        (lambda: Semaphore(1), Semaphore.try_take),
    ],
    ids=["try_lock", "acquire_nowait", "try_acquire", "try_take"],
)


@every_try
def test_a_try_that_took_the_token_as_somebody_queued_gives_it_to_them(
    make: Callable[[], Any], take: Callable[[Any], object], threads: ThreadPoolExecutor
) -> None:
    """It says "not now": it was overtaken by nobody, and overtakes nobody."""
    primitive = make()
    tokens, waits = tokens_of(primitive), []

    def queue() -> None:
        waits.append(threads.submit(block, primitive))
        wait_until(queued(primitive, 1))

    tokens.after.append(queue)
    with pytest.raises(WouldBlock):
        take(primitive)
    waits[0].result(30).release()
    assert not primitive.locked()


@every_try
def test_a_try_that_was_a_moment_too_late_is_refused(
    make: Callable[[], Any], take: Callable[[Any], object], threads: ThreadPoolExecutor
) -> None:
    """Seeing a token is not having it."""
    primitive = make()
    tokens, taken = tokens_of(primitive), list[Any]()
    tokens.before.append(lambda: taken.append(threads.submit(block, primitive).result(30)))
    with pytest.raises(WouldBlock):
        take(primitive)
    taken.pop().release()
    assert not primitive.locked()


@both
def test_a_thread_that_was_a_moment_too_late_waits(make: Callable[[], Any], threads: ThreadPoolExecutor) -> None:
    """As a task does."""
    primitive = make()
    tokens, taken = tokens_of(primitive), list[Any]()
    tokens.before.append(lambda: taken.append(threads.submit(block, primitive).result(30)))
    waiting = threads.submit(block, primitive)
    wait_until(queued(primitive, 1))
    taken.pop().release()
    waiting.result(30).release()
    assert not primitive.locked()


# arrival: in line, sees a token     newcomer
#                                    takes it without the lock
# finds none, waits
#                                    looks at the line: puts it back: the arrival's
@both
def test_an_arrival_that_loses_the_token_to_a_newcomer_is_served_by_it(
    make: Callable[[], Any], threads: ThreadPoolExecutor
) -> None:
    """Both look after their step, so one of the two sees the other."""
    primitive = make()
    tokens = tokens_of(primitive)

    def snatch() -> None:
        list.pop(tokens)

    tokens.before.append(snatch)
    waiting = threads.submit(block, primitive)
    wait_until(queued(primitive, 1))
    tokens.append(None)  # as the newcomer does that finds somebody in line
    primitive._hand_on()
    waiting.result(30).release()
    assert len(tokens) == 1
    assert not primitive.locked()


class HandingMutex(Mutex[int]):
    """Somebody does something just before a hold goes to the head of the line."""

    __slots__ = ("interfere",)

    interfere: Callable[[], object]

    def _hand_over(self, held: Any) -> bool:
        self.interfere()
        return super()._hand_over(held)


async def leave_a_block(mutex: Mutex[int], let_go: Callable[[Any], None]) -> None:
    async with mutex as guard:
        let_go(guard)


async def wait_with_a_guard(mutex: Mutex[int], let_go: Callable[[Any], None]) -> None:
    with suppress(GuardReleasedError):
        async with mutex as guard:
            let_go(guard)
            await Condvar().wait(guard)


# block's task: leaves, sees the line     thread: releases the guard: the first's
# hands over what it no longer holds?
@pytest.mark.parametrize("queue", [1, 2])
@pytest.mark.parametrize("leave", [leave_a_block, wait_with_a_guard])
def test_a_guard_released_by_a_thread_as_its_block_ends_is_released_once(
    leave: Callable[..., Any], queue: int, threads: ThreadPoolExecutor
) -> None:
    """Of the two who let go one is first, and only that one has something to give."""
    mutex = HandingMutex(0)
    waiting: list[Any] = []

    def let_go(guard: Any) -> None:
        for number in range(queue):
            waiting.append(threads.submit(mutex.blocking_lock))
            wait_until(queued(mutex, number + 1))
        mutex.interfere = lambda: threads.submit(guard.release).result(30)

    asyncio.run(leave(mutex, let_go))
    for left in range(queue, 0, -1):
        assert mutex.statistics().waiting == left - 1
        waiting.pop(0).result(30).release()
    assert not mutex.locked()
    mutex.try_lock().release()


@pytest.mark.parametrize("then", [asyncio.run, lambda coroutine: trio.run(lambda: coroutine)], ids=["asyncio", "trio"])
def test_what_is_put_off_as_a_mutex_is_handed_over_is_done(
    then: Callable[[Any], None], threads: ThreadPoolExecutor
) -> None:
    """Whoever was inside the lock looks after leaving it."""
    mutex = HandingMutex(0)
    waiting: list[Any] = []
    done: list[str] = []
    mutex.interfere = lambda: mutex._deferred.append((done.append, "put off"))

    def queue(_: Any) -> None:
        waiting.append(threads.submit(mutex.blocking_lock))
        wait_until(queued(mutex, 1))

    then(leave_a_block(mutex, queue))
    assert done == ["put off"]
    waiting[0].result(30).release()


# holder: leaves, sees nobody     thread
#                                 queues, finds no token
# gives it back: the thread's
@both
def test_an_arrival_just_before_a_block_gives_its_token_back_is_served(
    make: Callable[[], Any], threads: ThreadPoolExecutor
) -> None:
    """The one looks at the line last, and the other stood in it first."""
    primitive = make()
    tokens = tokens_of(primitive)
    waiting: list[Any] = []

    def queue() -> None:
        list.pop(tokens)  # it is not there yet
        waiting.append(threads.submit(block, primitive))
        wait_until(queued(primitive, 1))
        list.append(tokens, None)

    async def main() -> None:
        async with primitive:
            tokens.given.append(queue)

    asyncio.run(main())
    waiting[0].result(30).release()
    assert not primitive.locked()


@both
def test_a_block_waits_at_its_end_for_whoever_is_inside_the_lock(
    make: Callable[[], Any], threads: ThreadPoolExecutor
) -> None:
    """It does not leave the line unserved."""
    primitive = make()
    primitive._lock = CrowdedLock()
    waiting: list[Any] = []

    def queue(_: Any) -> None:
        waiting.append(threads.submit(block, primitive))
        wait_until(queued(primitive, 1))

    asyncio.run(leave_a_block(primitive, queue))
    waiting[0].result(30).release()
    assert not primitive.locked()


# holder: leaves, sees the line     waiter: queued
#                                   leaves the line
# finds nobody to hand over to
def test_a_line_that_is_gone_as_a_block_ends_leaves_the_mutex_free(threads: ThreadPoolExecutor) -> None:
    """As if nobody had stood there, for every thread; and the guard is released."""
    mutex = HandingMutex(0)

    async def begin_waiting() -> Any:
        waiting = mutex.acquire()
        waiting.send(None)
        return waiting

    async def main() -> None:
        async with mutex as guard:
            guard.disown()  # or it would be a deadlock, if only the task waited for the coroutine
            waiting = await asyncio.ensure_future(begin_waiting())
            mutex.interfere = waiting.close
        assert guard.released
        assert mutex.statistics() == MutexStatistics(locked=False, owner=None, waiting=0)

    asyncio.run(main())
    with threads.submit(mutex.try_lock).result(30), pytest.raises(TryLockError):
        mutex.try_lock()


def test_what_is_put_off_as_a_guard_turns_out_to_be_released_is_done() -> None:
    """Whoever was inside the lock looks, though there was nothing to hand over."""
    mutex, guard = HandingMutex(0), object()
    mutex.interfere = lambda: None
    done: list[str] = []
    mutex._deferred.append((done.append, "put off"))
    assert not mutex._hand_over(guard)
    assert done == ["put off"]


# leaver: gives its token back     another leaver
#                                  gives its token back
# serves the line: two
#                                  serves the line: nobody is left
def test_one_leaver_serves_for_another_that_is_a_step_behind() -> None:
    """Several may be granted at once though each gave back one."""
    semaphore = Semaphore(1)
    tokens = tokens_of(semaphore)

    async def main() -> None:
        held = await semaphore.acquire()
        waiting = [asyncio.ensure_future(semaphore.acquire()) for _ in range(2)]
        await asyncio.sleep(0)
        assert semaphore.statistics().waiting == 2
        tokens.given.append(lambda: list.append(tokens, None))
        held.release()
        assert semaphore.statistics().waiting == 0
        semaphore._hand_on()
        for permit in await asyncio.wait_for(asyncio.gather(*waiting), 10):
            permit.release()

    asyncio.run(main())
    assert semaphore.available_permits == 2


# --- deadlocks between loops


# loop 1: a holds A       loop 2: b holds B        loop 1: c holds C
# waits for B
#                         waits for C
#                                                  waits for A: told
@pytest.mark.parametrize("other", [asyncio.run, lambda coroutine: trio.run(lambda: coroutine)], ids=["asyncio", "trio"])
def test_a_chain_of_three_tasks_on_two_loops_is_found(
    other: Callable[[Any], None], threads: ThreadPoolExecutor
) -> None:
    """DeadlockError names tasks and locks of both loops; the others go on."""
    a, b, c = (Mutex(name=name) for name in "ABC")
    holds_b = threading.Event()

    async def on_loop_2() -> None:
        async with b:
            holds_b.set()
            # Not polite to a loop, but it has nothing else to do.
            wait_until(queued(b, 1))
            async with c:
                pass

    async def hold_a() -> None:
        async with a, b:
            pass

    async def on_loop_1() -> None:
        await asyncio.to_thread(holds_b.wait, 30)
        async with c:
            task = asyncio.create_task(hold_a(), name="a")
            await asyncio.to_thread(wait_until, queued(b, 1))
            await asyncio.to_thread(wait_until, queued(c, 1))
            with pytest.raises(DeadlockError) as caught:
                await a.lock()
        assert len(caught.value.cycle) == 3
        for name, mutex in (("'c'", "'A'"), ("'a'", "'B'")):
            assert any(f"task {name} waits for Mutex {mutex} held by task" in link for link in caught.value.cycle)
        assert "waits for Mutex 'C' held by task 'c'" in caught.value.cycle[2]
        await asyncio.wait_for(task, 30)

    async def main() -> None:
        await asyncio.create_task(on_loop_1(), name="c")

    running = threads.submit(other, on_loop_2())
    asyncio.run(main())
    running.result(30)
    assert not any(mutex.locked() for mutex in (a, b, c))


# loop 1: waits for the mutex     loop 2: holds it, and nobody there ever waited
def test_waiting_for_a_task_of_another_loop_is_no_deadlock(threads: ThreadPoolExecutor) -> None:
    """An owner that works somewhere else will let go."""
    mutex = Mutex(0)
    held = threading.Event()

    async def hold() -> None:
        async with mutex as guard:
            held.set()
            wait_until(queued(mutex, 1))
            guard.value += 1

    async def wait() -> None:
        async with mutex as guard:
            guard.value += 1

    running = threads.submit(asyncio.run, hold())
    assert held.wait(30)
    asyncio.run(asyncio.wait_for(wait(), 30))
    running.result(30)
    assert mutex.into_inner() == 2


def test_cycles_closed_by_two_threads_at_once_are_found_once(threads: ThreadPoolExecutor, switching: None) -> None:
    """Exactly one of the two is told, whichever, every time."""

    async def work(mine: Mutex[None], other: Mutex[None], barrier: threading.Barrier) -> bool:
        async with mine:
            barrier.wait(30)
            try:
                async with other:
                    return False
            except DeadlockError:
                return True

    for _ in range(100):
        first, second, barrier = Mutex(), Mutex(), threading.Barrier(2)
        told = [
            threads.submit(asyncio.run, work(first, second, barrier)),
            threads.submit(asyncio.run, work(second, first, barrier)),
        ]
        assert sorted(one.result(30) for one in told) == [False, True]


# --- finalizers


class Knot:
    """A guard in a reference cycle: only the collector frees it."""

    def __init__(self, guard: object) -> None:
        self.guard = guard
        self.self = self


@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
def test_guards_in_cycles_are_collected_inside_the_library(collecting: None) -> None:
    """The collector may release a guard while its own thread is inside that very lock."""
    mutex, semaphore = Mutex(0), Semaphore(3)

    async def work() -> None:
        for _ in range(100):
            Knot(await mutex.lock_owned())
            Knot(await semaphore.acquire(2))
            async with semaphore, mutex as guard:
                guard.value += 1
                await asyncio.sleep(0)

    async def main() -> None:
        working = asyncio.gather(*(work() for _ in range(4)))
        while not working.done():  # or all might park with the last guard still uncollected
            await asyncio.sleep(0)
            gc.collect(0)
        await working

    asyncio.run(asyncio.wait_for(main(), 100))
    gc.collect()
    assert mutex.into_inner() == 400
    assert semaphore.available_permits == 3


@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
def test_guards_are_collected_in_whatever_thread(
    threads: ThreadPoolExecutor, collecting: None, switching: None
) -> None:
    """Finalizers give back from threads that are in the middle of another lock; nobody blocks, nothing is lost."""
    locks = [Mutex(0) for _ in range(3)]
    limit = Semaphore(4)

    def work(number: int) -> None:
        for turn in range(60):
            Knot(locks[(number + turn) % 3].blocking_lock().disown())
            with limit.blocking_acquire(1 + turn % 2), locks[turn % 3].blocking_lock() as guard:
                guard.value += 1
            gc.collect(0)

    working = [threads.submit(work, number) for number in range(4)]
    while not all(one.done() for one in working):  # or all might park with the last guard still uncollected
        gc.collect()
        time.sleep(0.001)
    for one in working:
        one.result()
    gc.collect()
    assert sum(lock.into_inner() for lock in locks) == 240
    assert limit.available_permits == 4


class CollectingMutex(Mutex[int]):
    """Drops a guard of itself, as the collector might, at a chosen moment inside the internal lock."""

    __slots__ = ("victim",)

    victim: list[object]

    def _admit(self, ticket: Any) -> bool:
        admitted = super()._admit(ticket)
        self.victim.clear()
        return admitted


@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
def test_a_guard_collected_inside_its_own_lock_lets_the_arrival_in() -> None:
    """The release is put off until the thread leaves the lock, and then it serves the line."""
    mutex = CollectingMutex(0)
    mutex.victim = []
    mutex.victim.append(mutex.try_lock())
    with mutex.blocking_lock(10):
        assert mutex.locked()
    assert not mutex.locked()

    async def main() -> None:
        mutex.victim.append(mutex.try_lock())
        async with asyncio.timeout(10), mutex:
            assert mutex.locked()

    asyncio.run(main())
    assert not mutex.locked()
    mutex.victim.append(mutex.try_lock())
    with pytest.raises(TryLockError):
        mutex.try_lock()
    assert not mutex.locked()


class Releaser:
    """Releases a mutex when it is collected."""

    def __init__(self, mutex: Mutex[Any]) -> None:
        self.mutex = mutex

    def __del__(self) -> None:
        self.mutex.release()


def test_a_release_by_a_finalizer_inside_the_lock_lets_the_arrival_in() -> None:
    """Whoever is inside serves the line once more on leaving."""
    mutex = CollectingMutex(0)
    mutex.victim = []

    async def main() -> None:
        await mutex.acquire()
        mutex.victim.append(Releaser(mutex))
        async with asyncio.timeout(10):
            await mutex.acquire()
        assert not mutex.victim
        mutex.release()

    asyncio.run(main())
    assert not mutex.locked()


class UsingMutex(Mutex[int]):
    """Is used by a finalizer, or signal handler, in the middle of its own work."""

    __slots__ = ("used",)

    used: list[Callable[[], object]]

    def _admit(self, ticket: Any) -> bool:
        if self.used:
            self.used.pop()()
        return super()._admit(ticket)


def test_a_mutex_used_in_the_middle_of_its_own_work_refuses_or_releases() -> None:
    """try_lock says "not now", a release happens at once (without a GIL with the end of that work), nothing blocks."""
    mutex = UsingMutex(0)
    mutex.used = []
    caught: list[BaseException] = []

    def try_lock() -> None:
        try:
            mutex.try_lock()
        except TryLockError as error:
            caught.append(error)

    def blocking_lock() -> None:
        try:
            mutex.blocking_lock()
        except RuntimeError as error:
            caught.append(error)

    with mutex.try_lock() as guard:
        for use in (try_lock, blocking_lock):
            mutex.used.append(use)
            with pytest.raises(TryLockError):
                mutex.try_lock()
        mutex.used.append(guard.release)
        with nullcontext() if HAS_GIL else pytest.raises(TryLockError):
            mutex.try_lock().release()
        assert guard.released
        assert not mutex.locked()
    assert len(caught) == 2
    assert "in the middle of its own work" in str(caught[1])
    assert not mutex.locked()


# thread 1: inside the lock         thread 2: a guard is collected
#                                   leaves its release there, does not block
# leaves, releases for thread 2
def test_a_finalizer_never_blocks_on_a_lock_that_another_thread_is_inside(threads: ThreadPoolExecutor) -> None:
    """It leaves its release to that thread."""
    mutex = UsingMutex(0)
    inside, go_on = threading.Event(), threading.Event()

    def stay() -> None:
        inside.set()
        assert go_on.wait(30)

    mutex.used = []
    guards = [mutex.try_lock()]
    mutex.used.append(stay)

    def try_lock() -> None:
        with pytest.raises(TryLockError):
            mutex.try_lock()

    other = threads.submit(try_lock)
    assert inside.wait(30)
    with pytest.warns(ResourceWarning, match="was dropped"):
        guards.clear()
    assert mutex.locked()
    go_on.set()
    other.result(30)
    assert not mutex.locked()


class EmptiedAndFilled(list[Any]):
    """What was put off: done by another thread just now, and something new comes a moment later."""

    fill: Callable[[], object]
    looks = 0

    def __bool__(self) -> bool:
        self.looks += 1
        if self.looks == 2:  # inside the internal lock
            self.fill()
            return False
        return self.looks == 1 or len(self) > 0


# thread 1: sees something put off    thread 2
#                                     does it
# is inside the lock, sees nothing
#                                     thread 3: a guard is collected: leaves its release there
# leaves, and looks again
@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
def test_what_is_put_off_as_somebody_finds_nothing_to_do_is_done(threads: ThreadPoolExecutor) -> None:
    """Whoever was inside the lock looks again after leaving it, though it found nothing there."""
    mutex = Mutex(0)
    guards = [mutex.try_lock()]
    mutex._deferred = put_off = EmptiedAndFilled()
    put_off.fill = lambda: threads.submit(guards.clear).result(30)
    mutex._catch_up()
    assert not mutex.locked()


async def _hold_by_block(primitive: Mutex[Any] | Semaphore) -> None:
    async with primitive:
        await asyncio.sleep(60)


async def _hold_by_acquisition(primitive: Mutex[Any] | Semaphore) -> None:
    async with primitive.lock() if isinstance(primitive, Mutex) else primitive.acquire():
        await asyncio.sleep(60)


async def _hold_by_guard(primitive: Mutex[Any] | Semaphore) -> None:
    with await (primitive.lock() if isinstance(primitive, Mutex) else primitive.acquire()):
        await asyncio.sleep(60)


async def _hold_by_acquire(primitive: Mutex[Any] | Semaphore) -> None:
    if isinstance(primitive, Mutex):
        await primitive.acquire()
        give_back: Callable[[], object] = primitive.release
    else:
        (await primitive.acquire()).forget()
        give_back = partial(primitive.add_permits, 1)
    try:
        await asyncio.sleep(60)
    finally:
        give_back()


# thread 1: inside the lock         thread 2: a coroutine that holds, or is parked, is collected
#                                   leaves its release, or its place, there, does not block
# leaves, and does it for thread 2
@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")  # its guard goes before its release is done
@pytest.mark.parametrize("hold", [_hold_by_block, _hold_by_acquisition, _hold_by_guard, _hold_by_acquire])
@pytest.mark.parametrize("make", [Mutex, lambda: Semaphore(1)], ids=["mutex", "semaphore"])
def test_a_collected_coroutine_never_blocks_on_a_lock_that_another_thread_is_inside(
    threads: ThreadPoolExecutor, make: Callable[[], Any], hold: Callable[[Any], Any]
) -> None:
    """The collector may destroy coroutines in any thread, even inside another lock."""
    primitive = make()
    inside, go_on = threading.Event(), threading.Event()

    def stay(_: None) -> None:
        inside.set()
        assert go_on.wait(30)

    async def begin() -> Any:
        coroutine = hold(primitive)
        coroutine.send(None)
        return coroutine

    holder, waiter = asyncio.run(begin()), asyncio.run(begin())
    assert primitive.statistics().waiting == 1
    for coroutine in (holder, waiter):
        inside.clear()
        go_on.clear()
        other = threads.submit(primitive._transact, stay, None)
        assert inside.wait(30)
        closing = threads.submit(coroutine.close)
        try:
            closing.result(5)
        finally:
            go_on.set()
        other.result(30)
    assert primitive.statistics().waiting == 0
    assert not primitive.locked()


class StayingMutex(Mutex[int]):
    """Stays in its internal lock after it has served the line."""

    __slots__ = ("stay",)

    stay: Callable[[], object]

    def _serve(self) -> Any:
        served = super()._serve()
        self.stay()
        return served


# thread 1: has served the line, is still inside     thread 2: a block is collected: gives its token back
#                                                    leaves it to thread 1 to serve the line again
# leaves, and serves it
def test_the_line_is_served_for_a_block_collected_as_somebody_had_just_served_it(threads: ThreadPoolExecutor) -> None:
    """Whoever is inside the lock does not leave before that."""
    mutex = StayingMutex(0)
    mutex.stay = lambda: None
    inside, go_on = threading.Event(), threading.Event()

    def stay() -> None:
        mutex.stay = lambda: None
        inside.set()
        assert go_on.wait(30)

    async def begin() -> Any:
        coroutine = _hold_by_block(mutex)
        coroutine.send(None)
        return coroutine

    holder = asyncio.run(begin())
    waiting = threads.submit(mutex.blocking_lock)
    wait_until(queued(mutex, 1))
    mutex.stay = stay
    other = threads.submit(mutex._transact, mutex._serve_only, None)
    assert inside.wait(30)
    holder.close()
    go_on.set()
    other.result(30)
    waiting.result(30).release()
    assert not mutex.locked()


def test_a_block_that_is_collected_inside_its_own_lock_lets_the_arrival_in() -> None:
    """Its exit leaves the line to the thread that is inside already."""
    mutex = UsingMutex(0)
    mutex.used = []

    async def begin() -> Any:
        coroutine = _hold_by_block(mutex)
        coroutine.send(None)
        return coroutine

    holder = asyncio.run(begin())
    assert mutex.locked()
    mutex.used.append(holder.close)
    with mutex.blocking_lock(10):
        assert mutex.locked()
    assert not mutex.locked()


def test_a_coroutine_driven_inside_the_lock_is_refused() -> None:
    """A signal handler that would wait there could wait for ever."""
    mutex = UsingMutex(0)
    mutex.used = []
    caught: list[str] = []

    def wait() -> None:
        try:
            mutex.lock().__await__().send(None)
        except RuntimeError as error:
            caught.append(str(error))

    async def main() -> None:
        with mutex.try_lock():
            mutex.used.append(wait)
            with pytest.raises(TimeoutError):
                await mutex.lock(timeout=0)

    asyncio.run(main())
    assert "in the middle of its own work" in caught[0]
    assert not mutex.locked()


# holder: leaves its block       waiter: queued for 2, or for 1
# hands on: one is free
#   a permit is collected here: put off
# has left the lock, catches up: two are free
#                                runs
@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
@pytest.mark.parametrize("permits", [1, 2])
def test_a_permit_collected_while_another_is_handed_on_serves_the_line(permits: int) -> None:
    """What was put off is done on leaving, and not in the middle."""
    semaphore = Semaphore(2)
    used: list[Callable[[], object]] = []
    semaphore._lock = InterruptedLock(used)  # type: ignore[assignment]

    async def main() -> None:
        dropped = [semaphore.try_acquire()]
        async with semaphore:
            waiting = asyncio.ensure_future(semaphore.acquire(permits))
            await asyncio.sleep(0)
            assert semaphore.statistics().waiting == 1
            used.append(dropped.clear)
        with await asyncio.wait_for(waiting, 10) as permit:
            assert permit.count == permits

    asyncio.run(main())
    assert semaphore.available_permits == 2


class RetractingSemaphore(Semaphore):
    """Is used by a finalizer while it takes a grant back."""

    __slots__ = ("used",)

    used: list[Callable[[], object]]

    def _retract(self, ticket: Any) -> None:
        if self.used:
            self.used.pop()()
        super()._retract(ticket)


# closed loop: a waiter       main: releases: the grant goes on, nobody else is there
#                               a permit is collected here: put off
#                             has left the lock, catches up
@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
def test_a_permit_collected_while_a_dead_waiter_s_grant_goes_on_comes_back() -> None:
    """What was put off is done on leaving, there too."""
    semaphore = RetractingSemaphore(2)
    semaphore.used = []
    permit, dropped = semaphore.try_acquire(), [semaphore.try_acquire()]

    async def leave_waiting() -> asyncio.Task[Permit]:
        task = asyncio.ensure_future(semaphore.acquire())
        await asyncio.sleep(0)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(leave_waiting())
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    semaphore.used.append(dropped.clear)
    permit.release()
    assert semaphore.available_permits == 2


def test_a_warning_turned_into_an_error_releases_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """A finalizer cannot raise; the lock is free whatever became of the warning."""
    mutex = Mutex()
    seen: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: seen.append(unraisable.exc_type)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mutex.try_lock()
    finally:
        sys.unraisablehook = hook
    assert seen == [ResourceWarning]
    assert not mutex.locked()


@pytest.mark.usefixtures("switching")
def test_no_more_than_the_new_total_are_inside_once_a_semaphore_has_shrunk(threads: ThreadPoolExecutor) -> None:
    """However many loops and threads come and go, by permits that come back with and without the internal lock."""
    semaphore = Semaphore(4)
    inside: list[None] = []
    most, over = [0], threading.Event()

    def note() -> None:
        inside.append(None)
        most.append(len(inside))

    def visit() -> None:
        while not over.is_set():
            with semaphore.blocking_acquire(timeout=WAIT):
                note()
                inside.pop()

    async def visit_as_a_task() -> None:
        while not over.is_set():
            async with semaphore:
                note()
                await asyncio.sleep(0)
                inside.pop()

    async def visit_as_tasks() -> None:
        await asyncio.gather(*(visit_as_a_task() for _ in range(3)))

    visitors = [threads.submit(visit) for _ in range(2)]
    visitors += [threads.submit(asyncio.run, visit_as_tasks()) for _ in range(2)]
    try:
        for permits in (1, 4, 2, 3, 1, 2):
            semaphore.resize(permits)
            with semaphore.blocking_acquire(permits, timeout=WAIT):  # so nobody is left inside from before
                assert not inside
                most[:] = [0]
            time.sleep(0.02)
            assert max(most[:]) <= permits
    finally:
        over.set()
        results(visitors)
    assert semaphore.statistics() == SemaphoreStatistics(total=2, available=2, waiting=0, closed=False)


@pytest.mark.parametrize("take", [Mutex().try_lock, Semaphore(1).try_acquire], ids=["mutex", "semaphore"])
def test_of_two_threads_that_release_one_guard_at_once_one_does(
    take: Callable[[], Any], threads: ThreadPoolExecutor, switching: None
) -> None:
    """With a GIL that is done without the internal lock."""
    for _ in range(300):
        guard = take()
        at_once = threading.Barrier(2)

        def release(guard: Any = guard, at_once: threading.Barrier = at_once) -> None:
            at_once.wait(WAIT)
            guard.release()

        releases = [threads.submit(release) for _ in range(2)]
        assert sorted(type(one.exception()).__name__ for one in releases) == ["GuardReleasedError", "NoneType"]
        with take(), pytest.raises(WouldBlock):
            take()
