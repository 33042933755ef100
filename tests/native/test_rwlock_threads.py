"""RwLock and Condvar between threads, and between the loops of several threads; their blocking calls."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from asynclocks import Condvar, GuardReleasedError, Mutex, RwLock, RwLockStatistics, TryLockError
from asynclocks.backends.seam import HAS_GIL
from tests.native.test_once_threads import PAUSES, RUNNERS, WAIT, wait_until

LOOPS = ("asyncio", "asyncio", "asyncio", "trio")
READERS, WRITERS = 90, 10


# --- many loops, many threads


class Crowd:
    """Readers and writers of one counter, who look at each other while they are in."""

    def __init__(self, rounds: int, max_readers: int) -> None:
        self.lock = RwLock(0, max_readers=max_readers)
        self.max_readers = max_readers
        self.rounds = rounds
        self.reading: set[object] = set()
        self.writing: set[object] = set()
        self.most_readers = 0

    async def read(self, pause: Callable[[], Awaitable[None]]) -> None:
        me = object()
        for number in range(self.rounds):
            async with self.lock.read() as guard:
                self.reading.add(me)
                before = guard.value
                if number % 8 == 0:
                    await pause()
                self.most_readers = max(self.most_readers, len(self.reading))
                assert not self.writing, "a reader beside a writer"
                assert guard.value == before, "somebody wrote"
                self.reading.remove(me)

    async def write(self, pause: Callable[[], Awaitable[None]]) -> None:
        me = object()
        for number in range(self.rounds):
            async with self.lock.write() as guard:
                self.writing.add(me)
                before = guard.value
                if number % 8 == 0:
                    await pause()
                assert self.writing == {me}, "two writers"
                assert not self.reading, "a writer beside a reader"
                guard.value = before + 1
                self.writing.remove(me)

    def run(self, threads: ThreadPoolExecutor) -> None:
        """A loop a thread, each with its share of both; all start together."""
        start = threading.Barrier(len(LOOPS))
        parts = [threads.submit(self.run_part, part, start) for part in range(len(LOOPS))]
        for part in parts:
            part.result(WAIT * 3)

    def run_part(self, part: int, start: threading.Barrier) -> None:
        pause = PAUSES[LOOPS[part]]

        async def main() -> None:
            start.wait(WAIT)
            async with anyio.create_task_group() as group:
                for number in range(part, READERS + WRITERS, len(LOOPS)):
                    group.start_soon(self.read if number < READERS else self.write, pause)

        RUNNERS[LOOPS[part]](main)


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize(
    ("max_readers", "rounds"),
    [(1_000, 1_000 if HAS_GIL else 200), (7, 200)],  # without a GIL a round takes several times as long
    ids=["everybody", "at most 7"],
)
def test_readers_and_writers_of_four_loops_keep_out_of_each_others_way(
    threads: ThreadPoolExecutor, max_readers: int, rounds: int
) -> None:
    """90 readers and 10 writers, 100,000 rounds with a GIL: no reader beside a writer, one writer, no update lost."""
    crowd = Crowd(rounds, max_readers)
    crowd.run(threads)
    assert crowd.lock.statistics() == RwLockStatistics(
        readers=0, writer=False, upgradable=False, waiting_readers=0, waiting_writers=0
    )
    assert 1 < crowd.most_readers <= max_readers
    assert crowd.lock.into_inner() == WRITERS * rounds


@pytest.mark.usefixtures("switching")
def test_upgrades_downgrades_and_plain_threads_lose_no_update(threads: ThreadPoolExecutor) -> None:
    """Two loops and two threads; what an upgradable reader saw is still there when it writes."""
    lock, rounds, tasks = RwLock(0), 150, 4

    async def upgrade() -> None:
        for _ in range(rounds):
            with await lock.upgradable_read() as guard:
                seen = guard.value
                with await guard.upgrade() as writer:
                    assert writer.value == seen
                    writer.value += 1
                    with writer.downgrade() as reader:
                        assert reader.value == seen + 1

    async def on_a_loop() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(tasks):
                group.start_soon(upgrade)

    def in_a_thread() -> None:
        for _ in range(rounds):
            with lock.blocking_write(WAIT) as guard:
                guard.value += 1
            with lock.blocking_read(WAIT) as reader:
                seen = reader.value
                assert reader.value == seen
            with lock.blocking_upgradable_read(WAIT) as upgradable:
                seen = upgradable.value
                try:
                    with upgradable.try_upgrade() as writer:
                        assert writer.value == seen
                        writer.value += 1
                except TryLockError:  # readers are in
                    missed.append(1)

    missed: list[int] = []
    working = [threads.submit(run, on_a_loop) for run in RUNNERS.values()]
    working += [threads.submit(in_a_thread) for _ in range(2)]
    for one in working:
        one.result(WAIT)
    assert lock.into_inner() == 2 * tasks * rounds + 2 * 2 * rounds - len(missed)


# --- blocking_*

BLOCKING: dict[str, Callable[..., Any]] = {
    "read": RwLock.blocking_read,
    "write": RwLock.blocking_write,
    "upgradable_read": RwLock.blocking_upgradable_read,
}


def waiting(lock: RwLock[Any]) -> int:
    statistics = lock.statistics()
    return statistics.waiting_readers + statistics.waiting_writers


@pytest.mark.parametrize("take", BLOCKING.values(), ids=BLOCKING)
@pytest.mark.parametrize("timeout", [None, 0, -1, 10])
def test_a_free_lock_is_taken_whatever_the_timeout(take: Callable[..., Any], timeout: float | None) -> None:
    """Zero or less tries once, and that may succeed."""
    lock = RwLock("value")
    with take(lock, timeout) as guard:
        assert guard.value == "value"
    lock.try_write().release()


@pytest.mark.parametrize("take", BLOCKING.values(), ids=BLOCKING)
def test_a_blocked_thread_waits_for_the_writer(threads: ThreadPoolExecutor, take: Callable[..., Any]) -> None:
    """It is granted at release time, as a task is."""
    lock = RwLock()
    guard = lock.try_write()
    blocked = threads.submit(take, lock)
    wait_until(lambda: waiting(lock) == 1)
    guard.release()
    assert waiting(lock) == 0
    blocked.result(WAIT).release()


@pytest.mark.parametrize(("what", "take"), BLOCKING.items(), ids=BLOCKING)
@pytest.mark.parametrize("timeout", [0, -1, 0.01])
def test_a_timeout_leaves_nothing_behind(what: str, take: Callable[..., Any], timeout: float) -> None:
    """TimeoutError, nothing held and nobody in line."""
    lock = RwLock(name="l")
    with lock.try_write():
        with pytest.raises(TimeoutError, match=rf"blocking_{what}\(\) of <RwLock 'l' written>"):
            take(lock, timeout)
        assert waiting(lock) == 0
    lock.try_write().release()


# thread 1: reads     thread 2: blocking_write(1.5)     thread 3: blocking_read()
#                     its time is over, it leaves
#                                                       reads
def test_a_writer_whose_time_is_over_lets_the_readers_behind_it_in(threads: ThreadPoolExecutor) -> None:
    """At once, while the first reader still reads."""
    lock = RwLock()
    with lock.blocking_read():
        writer = threads.submit(lock.blocking_write, 1.5)
        wait_until(lambda: waiting(lock) == 1)
        reader = threads.submit(lock.blocking_read)
        wait_until(lambda: waiting(lock) == 2)
        with pytest.raises(TimeoutError):
            writer.result(WAIT)
        reader.result(WAIT).release()


def test_a_second_upgradable_reader_waits_beside_plain_ones(threads: ThreadPoolExecutor) -> None:
    """They coexist with readers, not with each other."""
    lock = RwLock()
    with lock.blocking_upgradable_read(), lock.blocking_read(0):
        with pytest.raises(TimeoutError):
            lock.blocking_upgradable_read(0.01)
        second = threads.submit(lock.blocking_upgradable_read)
        wait_until(lambda: waiting(lock) == 1)
    second.result(WAIT).release()


@pytest.mark.parametrize("loop", RUNNERS)
@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
def test_blocking_calls_are_refused_where_a_loop_runs(loop: str, held: bool) -> None:
    """RuntimeError that names the way out, even if nothing would have to be waited for."""
    lock = RwLock()
    guard = lock.try_write() if held else None

    async def main() -> None:
        for take in BLOCKING.values():
            for timeout in (None, 0):
                with pytest.raises(RuntimeError, match=f"would block the running {loop} loop; await instead"):
                    take(lock, timeout)

    RUNNERS[loop](main)
    if guard is not None:
        guard.release()


def test_any_thread_may_release_a_guard(threads: ThreadPoolExecutor) -> None:
    """The guard owns the lock, neither task nor thread."""
    lock = RwLock()

    async def main() -> None:
        async with lock.read():
            guard = await lock.read()
            threads.submit(guard.release).result(WAIT)
        threads.submit((await lock.write_owned()).release).result(WAIT)

    for run in RUNNERS.values():
        run(main)
    lock.try_write().release()


# --- Condvar.blocking_wait


def test_a_notified_thread_holds_the_mutex_again(threads: ThreadPoolExecutor) -> None:
    """By the same guard, when the notifier has let go."""
    mutex, condvar = Mutex[list[str]]([]), Condvar()

    def wait() -> str:
        with mutex.blocking_lock() as guard:
            condvar.blocking_wait(guard)
            assert mutex.locked()
            return guard.value.pop()

    told = threads.submit(wait)
    wait_until(lambda: condvar.statistics().waiting == 1)
    with mutex.blocking_lock() as guard:
        guard.value.append("news")
        assert condvar.notify_one()
        assert not told.done()
    assert told.result(WAIT) == "news"
    assert not mutex.locked()


@pytest.mark.parametrize("timeout", [0, -1, 0.01, float("nan")])
def test_a_wait_that_timed_out_holds_the_mutex_again(timeout: float) -> None:
    """TimeoutError, nobody waits any more, and the guard is as good as before."""
    mutex, condvar = Mutex(1), Condvar()
    with mutex.blocking_lock() as guard:
        with pytest.raises(TimeoutError, match=r"blocking_wait\(\) of"):
            condvar.blocking_wait(guard, timeout)
        assert not guard.released
        guard.value += 1
        assert not condvar.notify_one()
    assert mutex.into_inner() == 2


@pytest.mark.parametrize("timeout", ["1", 10**400], ids=["text", "huge"])
def test_a_timeout_that_is_no_time_is_refused_before_the_mutex_is_given_up(timeout: float) -> None:
    """The guard holds on, and nobody waits."""
    mutex, condvar = Mutex(), Condvar()
    with mutex.blocking_lock() as guard:
        with pytest.raises((TypeError, OverflowError)):
            condvar.blocking_wait(guard, timeout)
        assert not guard.released
        assert condvar.statistics().waiting == 0
    assert not mutex.locked()


# thread: holds            main: blocking_lock() queues
#         blocking_wait()  holds
#         its time is over
#         queues           releases
#         TimeoutError, holds
def test_the_timeout_does_not_bound_the_wait_for_the_mutex(threads: ThreadPoolExecutor) -> None:
    """It raises when the mutex is held again, not before."""
    mutex, condvar = Mutex(), Condvar()

    def wait() -> bool:
        with mutex.blocking_lock() as guard, pytest.raises(TimeoutError):
            wait_until(lambda: mutex.statistics().waiting == 1)
            condvar.blocking_wait(guard, 0.01)
        return True

    waiter = threads.submit(wait)
    wait_until(mutex.locked)
    with mutex.blocking_lock():
        wait_until(lambda: mutex.statistics().waiting == 1)
        assert condvar.statistics().waiting == 0
        assert not waiter.done()
    assert waiter.result(WAIT)


@pytest.mark.parametrize("loop", RUNNERS)
def test_blocking_wait_is_refused_where_a_loop_runs(loop: str) -> None:
    """The mutex stays held."""
    mutex, condvar = Mutex(), Condvar()

    async def main() -> None:
        async with mutex as guard:
            with pytest.raises(RuntimeError, match="would block"):
                condvar.blocking_wait(guard, 0)
            assert not guard.released
            assert condvar.statistics().waiting == 0

    RUNNERS[loop](main)
    assert not mutex.locked()


def test_a_thread_cannot_wait_with_a_guard_that_let_go() -> None:
    """GuardReleasedError; and no other mutex than the first."""
    mutex, condvar = Mutex(), Condvar()
    guard = mutex.blocking_lock()
    with pytest.raises(TimeoutError):
        condvar.blocking_wait(guard, 0)
    guard.release()
    with pytest.raises(GuardReleasedError):
        condvar.blocking_wait(guard, 0)
    with Mutex().blocking_lock() as other, pytest.raises(ValueError, match="belongs to"):
        condvar.blocking_wait(other, 0)


# --- Condvar.blocking_wait_while


def test_a_thread_waits_as_long_as_its_condition_holds(threads: ThreadPoolExecutor) -> None:
    """A notification after which the condition still holds does not end the wait."""
    mutex, condvar = Mutex(0), Condvar()

    def wait() -> int:
        with mutex.blocking_lock() as guard:
            condvar.blocking_wait_while(guard, lambda value: value < 2)
            return guard.value

    waiter = threads.submit(wait)
    for _ in range(2):
        wait_until(lambda: condvar.statistics().waiting == 1)
        with mutex.blocking_lock() as guard:
            guard.value += 1
            condvar.notify_all()
    assert waiter.result(WAIT) == 2


def test_a_condition_that_does_not_hold_is_not_waited_for() -> None:
    """Whatever the timeout."""
    mutex, condvar = Mutex(0), Condvar()
    with mutex.blocking_lock() as guard:
        for timeout in (None, 1, 0, -1):
            condvar.blocking_wait_while(guard, lambda value: value > 0, timeout)


# thread: waits at most 0.2 s
#         notified, the condition still holds: waits again       main: notifies every 5 ms
#         its time is over: TimeoutError, holds
def test_a_timeout_of_a_thread_counts_over_all_rounds(threads: ThreadPoolExecutor) -> None:
    """However often it is notified."""
    mutex, condvar = Mutex(0), Condvar()

    def wait() -> int:
        with mutex.blocking_lock() as guard:
            with pytest.raises(TimeoutError, match=r"blocking_wait_while\(\) of"):
                condvar.blocking_wait_while(guard, lambda value: value >= 0, timeout=0.2)
            assert not guard.released
            return guard.value

    waiter = threads.submit(wait)
    deadline = time.monotonic() + WAIT
    while not waiter.done():
        assert time.monotonic() < deadline
        with mutex.blocking_lock() as guard:
            guard.value += 1
            condvar.notify_all()
        time.sleep(0.005)
    assert waiter.result(WAIT) > 2


@pytest.mark.parametrize("loop", RUNNERS)
def test_blocking_wait_while_is_refused_where_a_loop_runs(loop: str) -> None:
    """Though there is nothing to wait for."""
    mutex, condvar = Mutex(0), Condvar()

    async def main() -> None:
        async with mutex as guard:
            with pytest.raises(RuntimeError, match="would block"):
                condvar.blocking_wait_while(guard, lambda value: value > 0)

    RUNNERS[loop](main)


TASKS = 4  # in a loop


def in_tasks(loop: str, work: Callable[[int], Awaitable[None]]) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(TASKS):
                group.start_soon(work, number)

    RUNNERS[loop](main)


class Pipe:
    """A queue of a few places: two Condvars on one Mutex, used by threads and tasks alike."""

    def __init__(self) -> None:
        self.items: Mutex[deque[int]] = Mutex(deque())
        self.filled, self.emptied = Condvar(), Condvar()

    async def put(self, item: int) -> None:
        async with self.items as guard:
            await self.emptied.wait_while(guard, lambda items: len(items) >= 3)
            guard.value.append(item)
            self.filled.notify_one()

    async def get(self) -> int:
        async with self.items as guard:
            await self.filled.wait_while(guard, lambda items: not items)
            self.emptied.notify_one()
            return guard.value.popleft()

    def blocking_put(self, item: int) -> None:
        with self.items.blocking_lock() as guard:
            while len(guard.value) >= 3:
                self.emptied.blocking_wait(guard)
            guard.value.append(item)
            self.filled.notify_one()

    def blocking_get(self) -> int:
        with self.items.blocking_lock() as guard:
            while not guard.value:
                try:
                    self.filled.blocking_wait(guard, 0.001)  # often just as the notification comes
                except TimeoutError:
                    continue
            self.emptied.notify_one()
            return guard.value.popleft()

    def put_from_thread(self, items: range) -> None:
        for item in items:
            self.blocking_put(item)

    def put_from_loop(self, loop: str, items: range) -> None:
        async def put(number: int) -> None:
            for item in items[number::TASKS]:
                await self.put(item)

        in_tasks(loop, put)

    def get_in_thread(self, count: int) -> list[int]:
        return [self.blocking_get() for _ in range(count)]

    def get_in_loop(self, loop: str, count: int) -> list[int]:
        got: list[list[int]] = []

        async def get(_: int) -> None:
            got.append([await self.get() for _ in range(count // TASKS)])

        in_tasks(loop, get)
        return [item for part in got for item in part]


@pytest.mark.usefixtures("switching")
def test_producers_and_consumers_in_threads_and_loops_lose_nothing(threads: ThreadPoolExecutor) -> None:
    """Every item comes out once; no notification is lost, or somebody would wait for good."""
    pipe, each = Pipe(), 60 * TASKS
    shares = [range(first, first + each) for first in range(0, 4 * each, each)]
    putting = [threads.submit(pipe.put_from_thread, share) for share in shares[:2]]
    putting += [threads.submit(pipe.put_from_loop, *both) for both in zip(RUNNERS, shares[2:], strict=True)]
    getting = [threads.submit(pipe.get_in_thread, each) for _ in range(2)]
    getting += [threads.submit(pipe.get_in_loop, loop, each) for loop in RUNNERS]
    for one in putting:
        one.result(WAIT)
    assert sorted(item for one in getting for item in one.result(WAIT)) == list(range(4 * each))
    assert not pipe.items.into_inner()
    assert pipe.filled.statistics().waiting == pipe.emptied.statistics().waiting == 0
