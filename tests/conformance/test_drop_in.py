"""`asynclocks.drop_in`: the originals' classes on every loop, and where they differ from the originals on purpose.

The originals' own tests run as well: `python -m tests.drop_in`. Every row of the table in docs/drop_in.md has a test
here or in tests/native/test_drop_in_threads.py: tests/native/test_drop_in_table.py knows which.
"""

from __future__ import annotations

import asyncio
import math
import threading
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import asynclocks
from asynclocks import Condvar, DeadlockError, Mutex, RwLock
from asynclocks.drop_in import (
    aiorwlock,
    anyio as in_anyio,
    asyncio as in_asyncio,
    threading as in_threading,
    trio as in_trio,
)
from tests.conformance.line import both_cancels
from tests.conformance.turns import in_turn
from tests.support import collect, on_trio, settle, spawn

ASYNC = [in_asyncio, in_anyio, in_trio]
libraries = pytest.mark.parametrize("library", ASYNC, ids=["asyncio", "anyio", "trio"])


async def hold(lock: Any, log: list[str], name: str, leave: anyio.Event) -> None:
    async with lock:
        log.append(name)
        await leave.wait()


# --- on every loop


@libraries
@pytest.mark.parametrize("make", [lambda of: of.Lock(), lambda of: of.Semaphore(1), lambda of: of.Condition()])
async def test_a_lock_of_any_library_lets_one_in_at_a_time_in_order(library: Any, make: Callable[[Any], Any]) -> None:
    """On every loop, whichever library's it is; its block yields None (anyio's semaphore: itself)."""
    lock, log = make(library), list[str]()
    leaves = [anyio.Event() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        await in_turn(tasks, *[lambda n=n: hold(lock, log, str(n), leaves[n]) for n in range(3)])
        for number in range(3):
            await settle()
            assert log == [str(n) for n in range(number + 1)]
            leaves[number].set()
    async with lock as entered:
        assert entered is (lock if isinstance(lock, in_anyio.Semaphore) else None)


@libraries
async def test_a_block_of_any_library_refuses_to_end_twice(library: Any) -> None:
    """Who released inside the block is told at its end, as by the original."""
    lock = library.Lock()
    with pytest.raises(RuntimeError):
        async with lock:
            lock.release()
    assert not lock.locked()
    async with lock:
        assert lock.locked()


@libraries
async def test_an_event_of_any_library_lets_all_go(library: Any) -> None:
    """Also on a loop that is not the original's."""
    event = library.Event()
    assert not event.is_set()
    async with anyio.create_task_group() as tasks:
        waiting = await in_turn(tasks, event.wait, event.wait)
        assert not any(task.done for task in waiting)
        event.set()
        await settle()
        assert all(task.done for task in waiting)
    await event.wait()
    assert event.is_set()


@libraries
async def test_a_condition_of_any_library_wakes_in_order(library: Any) -> None:
    """`notify(n)` wakes the n oldest, `notify_all` the rest; each holds the lock again."""
    condition = library.Condition()
    log: list[int] = []

    async def wait(number: int) -> None:
        async with condition:
            await condition.wait()
            assert condition.locked()
            log.append(number)

    async with anyio.create_task_group() as tasks:
        await in_turn(tasks, *[lambda n=n: wait(n) for n in range(4)])
        await condition.acquire()
        condition.notify(2)
        condition.release()
        await settle()
        assert log == [0, 1]
        async with condition:
            condition.notify_all()
        await settle()
        assert log == [0, 1, 2, 3]


@libraries
async def test_conditions_share_a_lock(library: Any) -> None:
    """Two conditions over one lock, as a bounded queue has them."""
    lock = library.Lock()
    first, second = library.Condition(lock), library.Condition(lock)

    async def wait() -> None:
        async with first:
            await first.wait()
            second.notify()

    async def wait_for_the_other() -> None:
        async with second:
            await second.wait()

    async with anyio.create_task_group() as tasks:
        await in_turn(tasks, wait_for_the_other, wait)
        async with lock:
            first.notify()
    assert not lock.locked()


@both_cancels
@libraries
async def test_a_cancelled_wait_of_a_condition_holds_the_lock_again(library: Any, cancel: Any) -> None:
    """And its notification goes to the next."""
    condition = library.Condition()

    async def wait() -> str:
        async with condition:
            try:
                await condition.wait()
            finally:
                assert condition.locked()
        return "notified"

    async with anyio.create_task_group() as tasks:
        first, second = await in_turn(tasks, wait, wait)
        async with condition:
            condition.notify()
            cancel(first)
        await settle()
        assert first.done
        if first.cancelled:
            assert second.result == "notified"
        else:
            async with condition:
                condition.notify()
    assert not condition.locked()


@libraries
async def test_a_condition_refuses_without_its_lock(library: Any) -> None:
    """As the original."""
    condition = library.Condition()
    for call in (condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(RuntimeError):
        await condition.wait()
    with pytest.raises(RuntimeError):
        condition.release()


async def test_waiting_for_a_predicate_returns_what_it_gave() -> None:
    """Both asyncio's and anyio's conditions have it."""
    for condition in (in_asyncio.Condition(), in_anyio.Condition()):
        values: list[str] = []

        async def wait(condition: Any = condition, values: list[str] = values) -> str:
            async with condition:
                return str(await condition.wait_for(lambda: values and values[0]))

        async with anyio.create_task_group() as tasks:
            (waiter,) = await in_turn(tasks, wait)
            for value in (None, "news"):
                async with condition:
                    values += [value] if value else []
                    condition.notify_all()
                await settle()
            assert waiter.result == "news"


# --- two spellings of one primitive


@libraries
async def test_two_spellings_of_a_mutex_are_one_lock(library: Any) -> None:
    """What one holds the other waits for; `threading`'s among them."""
    mutex = Mutex(name="shared")
    lock, other = library.Lock(mutex), in_threading.Lock(mutex)
    async with lock:
        assert other.locked()
        assert not other.acquire(blocking=False)
    with other:
        assert lock.locked()
        async with anyio.create_task_group() as tasks:
            (waiter,) = await in_turn(tasks, lock.acquire)
            assert not waiter.done
            other.release()
            await settle()
            assert waiter.done
            tasks.cancel_scope.cancel()
        if library is in_asyncio:  # which anybody releases
            lock.release()
            other.acquire()
        else:
            mutex.release()
            other.acquire()
    assert not mutex.locked()


@libraries
async def test_a_guard_and_a_spelling_share_a_mutex(library: Any) -> None:
    """The lock is locked while a guard holds, and its release is refused."""
    mutex = Mutex()
    lock = library.Lock(mutex)
    async with mutex:
        assert lock.locked()
        with pytest.raises(RuntimeError):
            lock.release()
    async with lock:
        assert mutex.locked()


@libraries
async def test_two_spellings_of_a_semaphore_count_together(library: Any) -> None:
    """And of an event, and of a condition."""
    semaphore = asynclocks.Semaphore(2)
    async with library.Semaphore(semaphore):
        assert in_threading.Semaphore(semaphore).acquire(blocking=False)
        assert semaphore.available_permits == 0
    in_threading.Semaphore(semaphore).release()
    assert semaphore.available_permits == 2

    event = asynclocks.Event()
    in_threading.Event(event).set()
    await library.Event(event).wait()

    mutex, condvar = Mutex(), Condvar()
    condition = library.Condition(mutex, condvar=condvar)

    async def wait() -> None:
        async with condition:
            await condition.wait()

    async with anyio.create_task_group() as tasks:
        await in_turn(tasks, wait)
        with in_threading.Condition(mutex, condvar=condvar) as other_condition:
            assert other_condition is True
            in_threading.Condition(mutex, condvar=condvar).notify()


# --- where they differ on purpose


@libraries
async def test_a_released_lock_goes_to_who_waits_and_not_to_a_newcomer(library: Any) -> None:
    """Also before the one who waited has run. asyncio's says it is unlocked in that moment, as the original does."""
    lock = library.Lock()
    log: list[str] = []
    leave = anyio.Event()
    leave.set()
    await lock.acquire()
    async with anyio.create_task_group() as tasks:
        await in_turn(tasks, lambda: hold(lock, log, "waited", leave))
        lock.release()
        assert lock.locked() is (library is not in_asyncio)
        await hold(lock, log, "came later", leave)
    assert log == ["waited", "came later"]


async def test_released_twice_just_in_case_is_harmless() -> None:
    """`if lock.locked(): lock.release()` after a release neither fails nor takes the lock from who waits."""
    for make in (in_asyncio.Lock, in_threading.Lock):
        mutex = Mutex()
        lock = make(mutex)
        assert await in_asyncio.Lock(mutex).acquire()
        async with anyio.create_task_group() as tasks:
            (waiter,) = await in_turn(tasks, mutex.acquire)
            lock.release()
            if lock.locked():
                lock.release()
            with pytest.raises(RuntimeError):
                lock.release()
            await settle()
            assert waiter.done
            assert lock.locked()
        lock.release()


@libraries
async def test_a_lock_collected_while_held_says_nothing(library: Any) -> None:
    """No ResourceWarning: the originals give none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lock = library.Lock()
        await lock.acquire()
        semaphore = library.Semaphore(1)
        await semaphore.acquire()
        rwlock = aiorwlock.RWLock()
        await rwlock.writer_lock.acquire()
        del lock, semaphore, rwlock
        collect()


@pytest.mark.parametrize(
    "make",
    [
        lambda: in_asyncio.Condition(asyncio.Lock()),  # type: ignore[arg-type]
        lambda: in_anyio.Condition(anyio.Lock()),  # type: ignore[arg-type]
        lambda: in_trio.Condition(asyncio.Lock()),  # type: ignore[arg-type]
        lambda: in_trio.Condition(in_trio.StrictFIFOLock()),  # type: ignore[arg-type]
        lambda: in_threading.Condition(threading.RLock()),  # type: ignore[arg-type]
        lambda: in_asyncio.Lock(object()),  # type: ignore[arg-type]
    ],
)
async def test_only_our_locks_and_primitives_are_taken(make: Callable[[], object]) -> None:
    """The original's own do not fit; TypeError at once."""
    with pytest.raises(TypeError):
        make()


async def test_writers_and_readers_of_an_rwlock_are_served_in_order() -> None:
    """The original lets a writer overtake readers that wait."""
    lock = aiorwlock.RWLock(fast=True)
    log: list[str] = []
    leave = anyio.Event()
    async with anyio.create_task_group() as tasks:
        async with lock.writer_lock:
            await in_turn(tasks, lambda: hold(lock.reader_lock, log, "reader", leave))
            await in_turn(tasks, lambda: hold(lock.writer_lock, log, "writer", leave))
        await settle()
        assert log == ["reader"]
        leave.set()
    assert log == ["reader", "writer"]


@both_cancels
async def test_readers_of_an_rwlock_go_on_when_the_writer_before_them_gives_up(cancel: Any) -> None:
    """The original lets them in only when no reader is left."""
    lock = aiorwlock.RWLock()
    async with anyio.create_task_group() as tasks, lock.reader_lock:
        writer, reader = await in_turn(tasks, lock.writer_lock.acquire, lock.reader_lock.acquire)
        assert not reader.done
        cancel(writer)
        await settle()
        assert writer.cancelled
        assert reader.done


async def test_readers_of_an_rwlock_go_on_when_its_writer_only_reads_on() -> None:
    """The original lets them in only when that one has left."""
    lock = aiorwlock.RWLock()
    await lock.writer_lock.acquire()
    await lock.reader_lock.acquire()
    async with anyio.create_task_group() as tasks:
        (reader,) = await in_turn(tasks, lock.reader_lock.acquire)
        assert not reader.done
        lock.writer_lock.release()
        await settle()
        assert reader.done


async def test_a_cycle_of_rwlocks_gets_deadlock_error() -> None:
    """The original hangs."""
    one, two = aiorwlock.RWLock(), aiorwlock.RWLock()
    both = anyio.Event()

    async def cross(first: aiorwlock.RWLock, second: aiorwlock.RWLock) -> None:
        async with first.writer_lock:
            await both.wait()
            async with second.writer_lock:
                pass

    async with anyio.create_task_group() as tasks:
        crossing = await in_turn(tasks, lambda: cross(one, two), lambda: cross(two, one))
        both.set()
        await settle()
        errors = [task.exception for task in crossing]
        assert [type(error) for error in errors if error is not None] == [DeadlockError]


async def test_a_cycle_of_asyncio_s_locks_hangs_as_there() -> None:
    """Anybody may release what `acquire` took, so nobody can say that it would never end."""
    one, two = in_asyncio.Lock(), in_asyncio.Lock()
    async with anyio.create_task_group() as tasks:
        async with one:
            (waiter,) = await in_turn(tasks, one.acquire)
            assert not waiter.done
            two.locked()
        await settle()
        assert waiter.done
        one.release()


@libraries
async def test_the_classes_are_ours(library: Any) -> None:
    """None is the original's or has its private names, and the repr tells our module's."""
    original = {in_asyncio: asyncio, in_anyio: anyio}.get(library)
    lock, event = library.Lock(), library.Event()
    if original is not None:
        assert not isinstance(lock, original.Lock)
        assert not isinstance(event, original.Event)
    assert not hasattr(lock, "_waiters")
    assert not hasattr(event, "_waiters")
    assert "asynclocks.drop_in." in repr(event)


# --- asyncio's


async def test_asyncio_s_reprs_tell_the_state() -> None:
    """In brackets, with the number of waiters."""
    lock, event, semaphore, barrier = (
        in_asyncio.Lock(),
        in_asyncio.Event(),
        in_asyncio.Semaphore(2),
        in_asyncio.Barrier(2),
    )
    condition = in_asyncio.Condition(lock)
    assert repr(lock).endswith("[unlocked]>")
    assert repr(lock).startswith("<asynclocks.drop_in.asyncio.Lock object at 0x")
    assert repr(event).endswith("[unset]>")
    assert repr(condition).endswith("[unlocked]>")
    assert repr(semaphore).endswith("[unlocked, value:2]>")
    assert repr(barrier).endswith("[filling, waiters:0/2]>")
    await lock.acquire()
    await semaphore.acquire()
    await semaphore.acquire()
    async with anyio.create_task_group() as tasks:
        await in_turn(tasks, lock.acquire, event.wait, semaphore.acquire, barrier.wait)
        assert repr(lock).endswith("[locked, waiters:1]>")
        assert repr(event).endswith("[unset, waiters:1]>")
        assert repr(semaphore).endswith("[locked, waiters:1]>")
        assert repr(barrier).endswith("[filling, waiters:1/2]>")
        tasks.cancel_scope.cancel()
    event.set()
    assert repr(event).endswith("[set]>")
    event.clear()
    assert not event.is_set()
    await barrier.abort()
    assert repr(barrier).endswith("[broken]>")


async def test_a_free_permit_of_asyncio_s_semaphore_is_taken_beside_a_waiter_that_was_let_in() -> None:
    """The original makes a newcomer wait until that one has run.

    waiter: waits    released twice    newcomer: takes the other permit    waiter: runs
    """
    semaphore = in_asyncio.Semaphore(0)
    async with anyio.create_task_group() as tasks:
        (waiter,) = await in_turn(tasks, semaphore.acquire)
        semaphore.release()
        semaphore.release()
        assert not semaphore.locked()
        await semaphore.acquire()
        assert on_trio() or not waiter.done  # on trio an acquisition lets others run
    assert semaphore.locked()


async def test_asyncio_s_semaphore_may_grow_and_its_bounded_one_not() -> None:
    """More releases than acquisitions."""
    semaphore = in_asyncio.Semaphore(0)
    assert semaphore.locked()
    semaphore.release()
    assert await semaphore.acquire()
    bounded = in_asyncio.BoundedSemaphore()
    with pytest.raises(ValueError, match="BoundedSemaphore released too many times"):
        bounded.release()
    async with bounded:
        assert bounded.locked()
    for kind in (in_asyncio.Semaphore, in_threading.Semaphore):
        with pytest.raises(ValueError, match=">= 0"):
            kind(-1)


async def test_asyncio_s_barrier_gives_numbers_and_breaks() -> None:
    """A cancelled waiter un-arrives; `reset` and `abort` break the round that is not over."""
    barrier = in_asyncio.Barrier(3)
    with pytest.raises(ValueError, match="parties must be >= 1"):
        in_asyncio.Barrier(0)
    async with anyio.create_task_group() as tasks:
        first, second = await in_turn(tasks, barrier.wait, barrier.wait)
        assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 2, False)
        second.cancel()
        await settle()
        assert barrier.n_waiting == 1
        (second,) = await in_turn(tasks, barrier.wait)
        async with barrier as number:
            pass
        await settle()
        assert sorted([first.result, second.result, number]) == [0, 1, 2]

        waiting = await in_turn(tasks, barrier.wait, barrier.wait)
        await barrier.reset()
        await barrier.reset()
        await settle()
        assert [type(task.exception) for task in waiting] == [in_asyncio.BrokenBarrierError] * 2
        waiting = await in_turn(tasks, barrier.wait, barrier.wait)
        await barrier.abort()
        await settle()
        assert [type(task.exception) for task in waiting] == [in_asyncio.BrokenBarrierError] * 2
    with pytest.raises(asyncio.BrokenBarrierError):
        await barrier.wait()
    await barrier.reset()
    assert not barrier.broken


async def test_who_comes_while_asyncio_s_barrier_is_left_waits_for_the_next_round() -> None:
    """It does not count in the round that is being left."""
    barrier = in_asyncio.Barrier(2)
    states: list[str] = []

    async def meet() -> None:
        await barrier.wait()
        states.append(repr(barrier))
        await barrier.wait()

    async with anyio.create_task_group() as tasks:
        spawn(tasks, meet)
        spawn(tasks, meet)
    assert "draining" in states[0]
    assert "filling" in states[1]
    assert barrier.n_waiting == 0


async def test_a_reset_breaks_those_that_have_not_left_asyncio_s_barrier_yet() -> None:
    """And leaves alone who came since."""
    barrier = in_asyncio.Barrier(2)
    async with anyio.create_task_group() as tasks:
        (first,) = await in_turn(tasks, barrier.wait)
        if on_trio():
            # Whoever completes the round passes a checkpoint there: break it from outside.
            second = spawn(tasks, barrier.wait)
            while barrier.n_waiting:
                await anyio.lowlevel.checkpoint()
            await barrier.reset()
            await settle()
            for task in (first, second):  # trio shuffles: perhaps one has left before
                assert task.exception is None or isinstance(task.exception, in_asyncio.BrokenBarrierError)
        else:
            await barrier.wait()
            await barrier.reset()
            assert "resetting" in repr(barrier)
            await settle()
            assert isinstance(first.exception, in_asyncio.BrokenBarrierError)
        assert barrier.n_waiting == 0
        tasks.cancel_scope.cancel()


# --- anyio's and trio's


@pytest.mark.parametrize("library", [in_anyio, in_trio], ids=["anyio", "trio"])
async def test_only_the_owner_releases(library: Any) -> None:
    """And it cannot acquire twice; who the owner is one knows from the grant on."""
    lock = library.Lock()
    task = asynclocks.backends.current_backend().current_task()

    def owner() -> int:
        held_by = lock.statistics().owner
        return held_by.id if library is in_anyio else id(held_by)

    await lock.acquire()
    assert lock.statistics().locked
    assert owner() == id(task)
    for again in (lock.acquire, lock.acquire_nowait):
        with pytest.raises(RuntimeError, match="already held Lock"):
            await (again() or anyio.lowlevel.checkpoint())

    async def other() -> None:
        with pytest.raises(library.WouldBlock):
            lock.acquire_nowait()
        with pytest.raises(RuntimeError):
            lock.release()
        async with lock:
            assert owner() not in (id(task), id(None))

    async with anyio.create_task_group() as tasks:
        (waiter,) = await in_turn(tasks, other)
        assert lock.statistics().tasks_waiting == 1
        lock.release()
        assert owner() not in (id(task), id(None))
        await settle()
        assert waiter.done
    assert lock.statistics() == type(lock.statistics())(False, None, 0)


@pytest.mark.parametrize("library", [in_anyio, in_trio], ids=["anyio", "trio"])
async def test_a_semaphore_with_a_bound_refuses_to_exceed_it(library: Any) -> None:
    """Its arguments are checked as the original's."""
    semaphore = library.Semaphore(1, max_value=2)
    assert (semaphore.value, semaphore.max_value) == (1, 2)
    semaphore.release()
    with pytest.raises(ValueError, match="semaphore released too many times"):
        semaphore.release()
    semaphore.acquire_nowait()
    semaphore.acquire_nowait()
    with pytest.raises(library.WouldBlock):
        semaphore.acquire_nowait()
    assert semaphore.statistics().tasks_waiting == 0
    for arguments in ((1.5, None), (1, 1.5)):
        with pytest.raises(TypeError):
            library.Semaphore(arguments[0], max_value=arguments[1])
    for first, bound in ((-1, None), (2, 1)):
        with pytest.raises(ValueError, match="value"):
            library.Semaphore(first, max_value=bound)


@pytest.mark.parametrize("library", [in_anyio, in_trio], ids=["anyio", "trio"])
async def test_a_limiter_knows_its_borrowers_from_the_grant_on(library: Any) -> None:
    """Also those that have not run since: their tokens can be returned."""
    limiter = library.CapacityLimiter(1)
    async with limiter:
        assert limiter.available_tokens == 0
        with pytest.raises(RuntimeError, match="already holding"):
            await limiter.acquire()
    with pytest.raises(RuntimeError, match="isn't holding any"):
        limiter.release()
    with pytest.raises(RuntimeError, match="isn't holding any"):
        limiter.release_on_behalf_of("nobody")
    limiter.acquire_on_behalf_of_nowait("a")
    async with anyio.create_task_group() as tasks:
        await in_turn(tasks, *[lambda n=n: limiter.acquire_on_behalf_of(n) for n in "bcd"])
        assert limiter.statistics().tasks_waiting == 3
        limiter.release_on_behalf_of("a")
        assert list(limiter.statistics().borrowers) == ["b"]
        limiter.release_on_behalf_of("b")
        assert list(limiter.statistics().borrowers) == ["c"]
        with pytest.raises(RuntimeError, match="isn't holding any"):
            limiter.release_on_behalf_of("b")
        limiter.total_tokens = 2
        assert sorted(limiter.statistics().borrowers) == ["c", "d"]
        await settle()
        assert sorted(limiter.statistics().borrowers) == ["c", "d"]
    limiter.release_on_behalf_of("c")
    limiter.release_on_behalf_of("d")
    assert (limiter.borrowed_tokens, limiter.available_tokens) == (0, 2)
    with pytest.raises(TypeError):
        limiter.total_tokens = 1.5
    with pytest.raises(ValueError, match="total_tokens must be >= 0"):
        limiter.total_tokens = -1
    limiter.total_tokens = math.inf
    limiter.acquire_nowait()
    assert limiter.available_tokens == math.inf
    limiter.release()


@both_cancels
@pytest.mark.parametrize("library", [in_anyio, in_trio], ids=["anyio", "trio"])
async def test_a_borrower_cancelled_after_its_token_was_returned_returns_it_once(library: Any, cancel: Any) -> None:
    """However the two cross.

    a: holds    b: waits    a's is returned: b is granted it    b's is returned    b is cancelled
    """
    limiter = library.CapacityLimiter(1)
    limiter.acquire_on_behalf_of_nowait("a")
    async with anyio.create_task_group() as tasks:
        (waiter,) = await in_turn(tasks, lambda: limiter.acquire_on_behalf_of("b"))
        limiter.release_on_behalf_of("a")
        limiter.release_on_behalf_of("b")
        cancel(waiter)
        await settle()
        assert waiter.done
    assert (limiter.borrowed_tokens, limiter.available_tokens) == (0, 1)
    limiter.acquire_nowait()
    with pytest.raises(library.WouldBlock):
        limiter.acquire_on_behalf_of_nowait("c")
    limiter.release()


@both_cancels
@pytest.mark.parametrize("library", [in_anyio, in_trio], ids=["anyio", "trio"])
async def test_a_cancelled_borrower_leaves_nothing_behind(library: Any, cancel: Any) -> None:
    """The token that comes back later is free."""
    limiter = library.CapacityLimiter(1)
    limiter.acquire_on_behalf_of_nowait("a")
    async with anyio.create_task_group() as tasks:
        (waiter,) = await in_turn(tasks, lambda: limiter.acquire_on_behalf_of("b"))
        cancel(waiter)
        await settle()
        assert waiter.cancelled
    assert limiter.statistics().tasks_waiting == 0
    limiter.release_on_behalf_of("a")
    assert limiter.available_tokens == 1


@pytest.mark.parametrize("library", [in_anyio, in_trio], ids=["anyio", "trio"])
async def test_a_condition_wakes_also_who_waits_in_another_spelling(library: Any) -> None:
    """Whom it does not know."""
    mutex, condvar = Mutex(), Condvar()
    one, other = library.Condition(mutex, condvar=condvar), in_asyncio.Condition(mutex, condvar=condvar)

    async def wait() -> None:
        async with other:
            await other.wait()

    async with anyio.create_task_group() as tasks:
        await in_turn(tasks, wait)
        async with one:
            one.notify()


async def test_who_was_notified_by_an_owner_that_exited_waits_on() -> None:
    """The lock is lost to it, though trio tells those that only wait for the lock; the original tells it as well."""
    mutex = Mutex()
    lock = in_trio.Lock(mutex)
    condition = in_trio.Condition(lock)

    async def wait() -> None:
        async with condition:
            await condition.wait()

    async def notify_and_exit() -> None:
        await condition.acquire()
        condition.notify()

    async with anyio.create_task_group() as tasks:
        waiter, owner = await in_turn(tasks, wait, notify_and_exit)
        assert owner.done
        assert not waiter.done
        mutex.release()
        await settle()
        assert waiter.done


@both_cancels
async def test_a_lock_acquired_at_once_is_free_again_if_its_checkpoint_is_cancelled(cancel: Any) -> None:
    """A lock of anyio yields also when it is free."""
    lock, semaphore, limiter = in_anyio.Lock(), in_anyio.Semaphore(1), in_anyio.CapacityLimiter(1)
    async with anyio.create_task_group() as tasks:
        for primitive in (lock, semaphore, limiter):
            acquiring = spawn(tasks, primitive.acquire)
            if not on_trio():
                await asyncio.sleep(0)
            cancel(acquiring)
            await settle()
            if not acquiring.cancelled:  # it was done already, or not shielded from
                return
    assert not lock.locked()
    assert semaphore.value == 1
    assert limiter.borrowed_tokens == 0


async def test_a_fast_lock_of_anyio_does_not_yield() -> None:
    """The others do, on every loop."""
    steps: list[str] = []

    async def other() -> None:
        steps.append("other")

    for fast in (True, False):
        for primitive in (in_anyio.Lock(fast_acquire=fast), in_anyio.Semaphore(1, fast_acquire=fast)):
            steps.clear()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other)
                before = len(steps)
                for _ in range(1 if fast else 50):  # trio shuffles whose step is next
                    async with primitive:
                        pass
                assert (len(steps) > before) is not fast or before


async def test_trio_s_reprs_and_bools() -> None:
    """As the original's, with our module's name."""
    lock = in_trio.StrictFIFOLock()
    assert repr(lock).startswith("<unlocked StrictFIFOLock object at 0x")
    async with lock:
        assert repr(lock).endswith(" with 0 waiters>")
    assert repr(in_trio.Semaphore(1, max_value=2)).startswith(
        "<asynclocks.drop_in.trio.Semaphore(1, max_value=2) at 0x"
    )
    assert "Semaphore(1) at" in repr(in_trio.Semaphore(1))
    assert repr(in_trio.CapacityLimiter(2)).endswith(", 0/2 with 0 waiting>")
    with pytest.raises(NotImplementedError, match="is_set"):
        bool(in_trio.Event())
    assert in_trio.Event().statistics().tasks_waiting == 0
    condition = in_trio.Condition()
    condition.acquire_nowait()
    statistics = condition.statistics()
    assert (statistics.tasks_waiting, statistics.lock_statistics.locked) == (0, True)
    condition.release()
    anyio_condition = in_anyio.Condition()
    assert anyio_condition.statistics().lock_statistics.owner is None


async def test_the_waiters_of_an_owner_that_exited_are_told_on_trio_only() -> None:
    """On another loop they wait on, as for any lock."""
    lock = in_trio.Lock()
    async with anyio.create_task_group() as tasks:
        (owner,) = await in_turn(tasks, lock.acquire)
        assert owner.done
        if on_trio():
            import trio

            for _ in range(2):
                with pytest.raises(trio.BrokenResourceError, match="Owner of this lock exited without releasing"):
                    await lock.acquire()
            return
        (waiter,) = await in_turn(tasks, lock.acquire)
        assert not waiter.done
        tasks.cancel_scope.cancel()


async def test_a_waiter_of_an_owner_that_exits_meanwhile_is_told() -> None:
    """On trio."""
    if not on_trio():
        return
    import trio

    lock, leave = in_trio.Lock(), anyio.Event()

    async def take() -> None:
        await lock.acquire()
        await leave.wait()

    async with anyio.create_task_group() as tasks:
        _, waiter = await in_turn(tasks, take, lock.acquire)
        leave.set()
        await settle()
        assert isinstance(waiter.exception, trio.BrokenResourceError)
    assert lock.locked()


# --- aiorwlock's


async def test_a_task_takes_each_side_of_an_rwlock_again() -> None:
    """Reading within writing, and on when the writing is over; not the other way round."""
    rwlock: RwLock[None] = RwLock()
    lock = aiorwlock.RWLock(rwlock)
    reader, writer = lock.reader_lock, lock.writer_lock
    assert reader is lock.reader
    assert writer is lock.writer
    await writer.acquire()
    await writer.acquire()
    await reader.acquire()
    assert (reader.locked, writer.locked) == (True, True)
    writer.release()
    writer.release()
    assert (reader.locked, writer.locked) == (True, False)
    with rwlock.try_read():
        pass
    with pytest.raises(RuntimeError, match="Cannot upgrade RWLock from read to write"):
        await writer.acquire()
    reader.release()
    assert not rwlock.locked()
    for side in (reader, writer):
        with pytest.raises(RuntimeError, match="Cannot release an un-acquired lock"):
            side.release()
        with pytest.raises(RuntimeError, match="await"), side:
            pass
    assert repr(lock) == "<RWLock: <ReaderLock: [unlocked]> <WriterLock: [unlocked]>>"


@both_cancels
async def test_an_rwlock_taken_at_once_is_free_again_if_its_pause_is_cancelled(cancel: Any) -> None:
    """On asyncio it lets others run after it took the lock, unless it is to be fast."""
    for name in ("reader_lock", "writer_lock"):
        lock = aiorwlock.RWLock()
        async with anyio.create_task_group() as tasks:
            taking = spawn(tasks, getattr(lock, name).acquire)
            if not on_trio():
                await asyncio.sleep(0)
            cancel(taking)
            await settle()
            assert taking.done
        assert getattr(lock, name).locked is not taking.cancelled
