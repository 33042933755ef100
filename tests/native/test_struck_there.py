"""A signal's exception at one place of the library, on purpose: at each where something must be mended.

`test_struck.py` lets CPython decide where a signal's handler runs, and no tracer can look on there. Here it is the end
or the beginning of one call, so that each way of mending is seen at work.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Literal

import anyio
import pytest

from asynclocks import (
    ConcurrentMap,
    Condvar,
    GuardReleasedError,
    KeyLockedError,
    Mutex,
    Notify,
    RwLock,
    Semaphore,
    TryLockError,
    backends,
    detached,
)
from asynclocks._detached import _Run
from asynclocks._engine.acquisition import Acquisition
from asynclocks._engine.synchronizer import QueuedSynchronizer
from asynclocks._permits import LoosePermit
from asynclocks.backends.asyncio import AsyncioParker, _Wake
from asynclocks.backends.threads import ThreadParker
from asynclocks.concurrent_map.entries import Entry
from asynclocks.concurrent_map.flights import Flight
from asynclocks.drop_in import asyncio as drop_in_asyncio, threading as drop_in_threading
from asynclocks.drop_in._rounds import Rounds
from asynclocks.recipes import CachedToken, Global, InMemoryCache, RateLimiter
from asynclocks.recipes._stored import Validator
from asynclocks.recipes.rate_limiter import _Wish
from tests.native.striking import InternalLock, Struck, strike_once
from tests.native.threaded import WAIT, elsewhere, wait_until
from tests.support import collect, settle, spawn

pytestmark = [
    pytest.mark.pure("what is in C is not interrupted, and calls no Python that could be struck"),
    pytest.mark.filterwarnings("ignore:.*dropped unreleased:ResourceWarning"),
]
on_asyncio = pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
End = Literal["begins", "ends"]
at_the_lock = pytest.mark.parametrize("call", ["acquire", "release"])


def in_line(thing: Any, count: int) -> Callable[[], bool]:
    return lambda: thing._waiting == count


def struck_at_the_lock(patch: pytest.MonkeyPatch, thing: Any, call: str) -> None:
    thing._lock = InternalLock()
    strike_once(patch, thing._lock, call, "ends")


def take_one(semaphore: Semaphore) -> None:
    semaphore.blocking_take(WAIT)


@pytest.fixture
def waiting(threads: ThreadPoolExecutor) -> Iterator[Callable[[Any, Callable[[Any], object], int], None]]:
    """Let threads wait for a thing. In the end they must all have got it."""
    started: list[Future[object]] = []

    def wait(thing: Any, take: Callable[[Any], object], count: int) -> None:
        started.extend(threads.submit(take, thing) for _ in range(count))
        wait_until(in_line(thing, count))

    yield wait
    for one in started:
        one.result(WAIT)


# The one door.
@pytest.mark.parametrize(("call", "arrived"), [("acquire", False), ("release", True)])
def test_a_change_that_is_struck_at_its_lock_is_made_whole(
    call: str, arrived: bool, waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made or not, the lock is free, and whoever was granted something is awake."""
    semaphore = Semaphore(0)
    waiting(semaphore, take_one, 1)
    struck_at_the_lock(monkeypatch, semaphore, call)
    with pytest.raises(Struck):
        semaphore.add_permits(1)
    assert semaphore.total_permits == arrived
    if not arrived:
        semaphore.add_permits(1)
    wait_until(in_line(semaphore, 0))


@pytest.mark.parametrize("when", ["begins", "ends"])
def test_one_that_is_struck_as_it_wakes_wakes_again(when: End, waiting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To be woken twice does no harm."""
    semaphore = Semaphore(0)
    waiting(semaphore, take_one, 2)
    strike_once(monkeypatch, QueuedSynchronizer, "_unpark", when)
    with pytest.raises(Struck):
        semaphore.add_permits(2)


def test_a_thread_that_is_woken_twice_was_woken_once() -> None:
    """What is left of the second time does not wake it from its next sleep."""
    parker = ThreadParker()
    assert parker.unpark()
    assert parker.unpark()
    assert parker.park_blocking(0)
    assert not parker.park_blocking(0)


def test_a_wake_that_an_error_stopped_is_posted_again() -> None:
    """A signal's handler may raise RuntimeError as well; that does not say that the loop is closed."""
    mutex = Mutex()
    mutex.acquire_nowait()
    loops: list[Any] = []

    async def take() -> None:
        loops.append(asyncio.get_running_loop())
        await mutex.acquire()

    waiter = threading.Thread(target=asyncio.run, args=(take(),))
    waiter.start()
    wait_until(in_line(mutex, 1))
    post = loops[0].call_soon_threadsafe

    def raise_once(*_: object) -> None:
        loops[0].call_soon_threadsafe = post
        raise RuntimeError("the handler's")

    loops[0].call_soon_threadsafe = raise_once
    with pytest.raises(RuntimeError, match="the handler's"):
        mutex.release()
    waiter.join(WAIT)
    assert not waiter.is_alive()


def quietly(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run it. What a callback of the loop raises is not told."""

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        return await coroutine

    return asyncio.run(main())


@pytest.mark.parametrize("when", ["begins", "ends"])
def test_a_wake_that_is_struck_as_it_arrives_is_posted_again(when: End, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its loop has dropped it, exception and all."""
    mutex = Mutex()
    mutex.acquire_nowait()
    waiter = threading.Thread(target=quietly, args=(mutex.acquire(),))
    waiter.start()
    wait_until(in_line(mutex, 1))
    strike_once(monkeypatch, _Wake, "__call__", when)
    mutex.release()
    wait_until(lambda: collect() or not waiter.is_alive())
    mutex.release()


@pytest.mark.parametrize("when", ["begins", "ends"])
def test_a_timeout_that_is_struck_as_it_ends_a_wait_ends_it(when: End, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would."""
    mutex = Mutex()
    strike_once(monkeypatch, AsyncioParker, "rouse", when)
    with mutex.try_lock(), pytest.raises(TimeoutError):
        quietly(mutex.acquire(0.001))


@pytest.mark.parametrize(
    "where",
    [
        (Semaphore, "_admit", "begins", 2),
        (Semaphore, "_end_grants", "begins", 1),
        (Semaphore, "_end_grants", "ends", 1),
    ],
)
def test_those_granted_before_the_strike_go_and_the_others_stay(
    where: Any, waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is served one after the other: the strike comes in the middle of that, or right behind."""
    semaphore = Semaphore(0)
    waiting(semaphore, take_one, 3)
    strike_once(monkeypatch, *where)
    with pytest.raises(Struck):
        semaphore.add_permits(2)
    assert semaphore.statistics().waiting == 1
    semaphore.add_permits(1)


def test_what_was_put_off_is_done_though_a_strike_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would do it."""
    semaphore = Semaphore(0)
    strike_once(monkeypatch, Semaphore, "_add", "begins")
    with semaphore._lock:
        semaphore.add_permits(1)
    with pytest.raises(Struck):
        semaphore._catch_up()
    assert semaphore.available_permits == 1
    semaphore.try_take()


def test_what_cannot_be_used_goes_back_though_a_strike_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """Struck as its permit is made, and again as it is given back."""
    semaphore = Semaphore(2)
    strike_once(monkeypatch, Semaphore, "_permit_of", "begins")
    strike_once(monkeypatch, Semaphore, "_retract", "begins")
    with pytest.raises(Struck):
        semaphore.try_acquire(2)
    assert semaphore.available_permits == 2


# The mutex.
@on_asyncio
@at_the_lock
async def test_a_block_s_end_that_is_struck_hands_the_mutex_over(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The strike comes right behind the lock's taking, or behind the hand-over."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        with pytest.raises(Struck):
            async with mutex:
                waiter = spawn(tasks, mutex.acquire)
                await settle()
                struck_at_the_lock(monkeypatch, mutex, call)
        await settle()
        assert waiter.result
    mutex.release()


@on_asyncio
@at_the_lock
async def test_a_release_that_is_struck_hands_the_mutex_over(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a block's end does."""
    mutex = Mutex()
    await mutex.acquire()
    async with anyio.create_task_group() as tasks:
        waiter = spawn(tasks, mutex.acquire)
        await settle()
        struck_at_the_lock(monkeypatch, mutex, call)
        with pytest.raises(Struck):
            mutex.release()
        await settle()
        assert waiter.result
    mutex.release()


def given_back_without_the_lock(mutex: Mutex[None]) -> None:
    """What a holder has done right before it looks whether anybody stands in line."""
    mutex._held = None
    mutex._spelled.clear()
    mutex._free.append(None)


@pytest.mark.parametrize(("owner", "name"), [(Mutex, "_hand_on"), (InternalLock, "acquire")])
def test_who_gives_way_to_the_line_and_is_struck_serves_it(
    owner: Any, name: str, waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the token of a mutex for which somebody queues, and puts it back."""
    mutex = Mutex()
    mutex.acquire_nowait()
    waiting(mutex, Mutex.blocking_acquire, 1)
    given_back_without_the_lock(mutex)
    mutex._lock = InternalLock()
    strike_once(monkeypatch, owner, name, "begins" if owner is Mutex else "ends")
    with pytest.raises(Struck):
        mutex.acquire_nowait()
    assert mutex.statistics().waiting == 0


def test_a_guard_that_another_thread_releases_as_it_is_disowned_disowns_nobody() -> None:
    """The owner of whoever comes next is theirs."""
    mutex = Mutex(name="m")
    guard = mutex.try_lock()
    mutex._lock = InternalLock(guard.release)
    guard.disown()
    assert guard.released
    assert not mutex.locked()


@at_the_lock
def test_a_guard_that_is_struck_as_it_is_narrowed_stays_what_it_was(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds, and lets go in the end."""
    mutex = Mutex([1])
    guard = mutex.try_lock()
    struck_at_the_lock(monkeypatch, mutex, call)
    with pytest.raises(Struck):
        guard.map(len)
    assert not guard.released
    guard.release()
    assert not mutex.locked()


# The semaphore.
@on_asyncio
@pytest.mark.parametrize("before", [False, True])
@at_the_lock
async def test_a_block_s_end_that_is_struck_gives_its_permit_back(
    call: str, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before it knew which block it ends."""
    semaphore = Semaphore(1)
    async with anyio.create_task_group() as tasks:
        with pytest.raises(Struck):
            async with semaphore:
                waiter = spawn(tasks, semaphore.take)
                await settle()
                if before:
                    strike_once(monkeypatch, backends, "task_here", "ends")
                else:
                    struck_at_the_lock(monkeypatch, semaphore, call)
        await settle()
        assert waiter.result
    semaphore.give()
    assert semaphore.available_permits == 1


@at_the_lock
def test_a_give_that_is_struck_gives_one_permit(call: str, waiting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The strike comes right behind the lock's taking, or behind the hand-over."""
    semaphore = Semaphore(1)
    semaphore.try_take()
    waiting(semaphore, take_one, 1)
    struck_at_the_lock(monkeypatch, semaphore, call)
    with pytest.raises(Struck):
        semaphore.give()
    wait_until(in_line(semaphore, 0))
    assert semaphore.available_permits == 0


def test_a_give_that_is_struck_when_nobody_waits_gives_one_permit() -> None:
    """It was back by then."""
    semaphore = Semaphore(2)
    semaphore.try_take()
    semaphore.try_take()
    semaphore._tokens = StruckAtAppend()
    with pytest.raises(Struck):
        semaphore.give()
    assert semaphore.available_permits == 1


@on_asyncio
async def test_an_end_without_a_block_that_is_struck_gives_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing."""
    semaphore = Semaphore(1)
    semaphore.try_take()
    strike_once(monkeypatch, Semaphore, "_leave", "begins")
    with pytest.raises(Struck):
        await semaphore.__aexit__()
    assert semaphore.available_permits == 0


class TakenMeanwhile(dict[int, Any]):
    """Another thread takes each permit out, and gives it back, right after somebody found it here."""

    def get(self, key: int, default: Any = None) -> Any:
        permit = super().pop(key, default)
        if permit is not None:
            permit._leave_block()
        return permit


@on_asyncio
@pytest.mark.parametrize("own", [True, False], ids=["its own", "another task's"])
async def test_a_permit_that_another_thread_takes_out_first_is_given_back_once(own: bool) -> None:
    """It took the block for one whose task is gone."""
    semaphore = Semaphore(1)
    if own:
        async with semaphore:
            semaphore._entered = TakenMeanwhile(semaphore._entered)
    else:
        await asyncio.create_task(semaphore.__aenter__())
        semaphore._entered = TakenMeanwhile(semaphore._entered)
        await semaphore.__aexit__()
    assert semaphore.available_permits == 1


@pytest.mark.loops("trio")
async def test_take_is_told_when_it_does_not_run_on_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before the first task of trio came."""
    monkeypatch.setattr(backends, "hint", backends._asyncio.current_task)
    semaphore = Semaphore(1)
    await semaphore.take()
    assert semaphore.available_permits == 0
    semaphore.give()


@on_asyncio
async def test_a_permit_given_to_who_wants_more_waits_for_the_others() -> None:
    """It is kept for the first in line."""
    semaphore = Semaphore(2)
    await semaphore.take()
    await semaphore.take()
    async with anyio.create_task_group() as tasks:
        both = spawn(tasks, semaphore.acquire, 2)
        await settle()
        semaphore.give()
        await settle()
        assert not both.done
        semaphore.give()
        await settle()
        both.result.release()


# The condvar.
async def notified_in_a_moment(condvar: Condvar, mutex: Mutex[int]) -> None:
    await settle()
    async with mutex:
        condvar.notify_all()


@on_asyncio
@pytest.mark.parametrize(
    ("owner", "name", "when"),
    [
        (Condvar, "_sleep", "begins"),
        (Mutex, "_resume", "begins"),
        (Mutex, "_resume", "ends"),
        (Condvar, "_stand_in_line", "ends"),
        (Mutex, "_suspend", "begins"),
        (Mutex, "_suspend", "ends"),
    ],
)
async def test_a_task_s_wait_that_is_struck_ends_with_the_mutex_held(
    owner: Any, name: str, when: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes: before the mutex was given up, meanwhile, and when it is held again."""
    mutex, condvar = Mutex(0), Condvar()
    async with anyio.create_task_group() as tasks, mutex as guard:
        spawn(tasks, notified_in_a_moment, condvar, mutex)
        with monkeypatch.context() as patch, pytest.raises(Struck):
            strike_once(patch, owner, name, when)
            await condvar.wait(guard, WAIT)
        assert not guard.released
    assert condvar.statistics().waiting == 0
    assert not mutex.locked()


class StruckAtAppend(list[Any]):
    """A signal's handler raises when a token has come back."""

    def append(self, one: Any) -> None:
        super().append(one)
        raise Struck


@pytest.mark.pure("appends to nobody's list")
def test_a_guard_that_is_struck_as_it_releases_has_released() -> None:
    """The token was back by then."""
    mutex, semaphore = Mutex(0), Semaphore(1)
    guard, permit = mutex.try_lock(), semaphore.try_acquire()
    mutex._free, semaphore._tokens = StruckAtAppend(), StruckAtAppend()
    for hold in (guard, permit):
        with pytest.raises(Struck):
            hold.release()
        assert hold.released
    assert not mutex.locked()
    assert semaphore.available_permits == 1


@on_asyncio
async def test_a_wait_that_is_struck_as_it_gives_the_mutex_up_takes_it_back() -> None:
    """It was free by then."""
    mutex, condvar = Mutex(0), Condvar()
    async with mutex as guard:
        tokens, mutex._free = mutex._free, StruckAtAppend()
        with pytest.raises(Struck):
            await condvar.wait(guard, WAIT)
        assert not guard.released
        assert not mutex._free
        mutex._free = tokens
    assert not mutex.locked()


@pytest.mark.parametrize(
    ("owner", "name", "when"),
    [
        (Condvar, "_sleep_blocking", "begins"),
        (Condvar, "_sleep_blocking", "ends"),
        (Mutex, "_resume", "begins"),
        (Mutex, "_resume", "ends"),
        (Condvar, "_stand_in_line", "ends"),
        (Mutex, "_suspend", "ends"),
    ],
)
def test_a_thread_s_wait_that_is_struck_ends_with_the_mutex_held(
    owner: Any, name: str, when: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a task's."""
    mutex, condvar = Mutex(0), Condvar()
    with mutex.blocking_lock() as guard:
        strike_once(monkeypatch, owner, name, when)
        with pytest.raises((Struck, TimeoutError)) as caught:
            condvar.blocking_wait(guard, 0.01)
        assert caught.type is Struck or caught.value.__context__ is not None
        assert not guard.released
    assert condvar.statistics().waiting == 0
    assert not mutex.locked()


@pytest.mark.parametrize(
    "where",
    [
        (Condvar, "_take_oldest", "ends"),
        (Mutex, "_wake", "begins"),
        (Mutex, "_stand_in_line", "begins"),
        (Mutex, "_stand_in_line", "ends"),
    ],
)
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("tell", [Condvar.notify_one, lambda condvar: condvar.notify(1)], ids=["notify_one", "notify"])
def test_a_notification_that_is_struck_loses_nobody(
    tell: Any, held: bool, where: Any, waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was taken out of the condvar's line gets the mutex."""
    mutex, condvar = Mutex(0), Condvar()

    def wait(condvar: Condvar) -> None:
        with mutex.blocking_lock(WAIT) as guard:
            condvar.blocking_wait(guard)

    waiting(condvar, wait, 1)
    guard = mutex.blocking_lock(WAIT) if held else None
    with monkeypatch.context() as patch:
        strike_once(patch, *where)
        with suppress(Struck):  # not all of these come there
            tell(condvar)
    if guard is not None:
        guard.release()


@on_asyncio
async def test_a_notification_in_the_middle_of_the_condvar_s_own_work_is_made_afterwards() -> None:
    """By a finalizer or signal handler: it says how many it will be."""
    mutex, condvar = Mutex(0), Condvar()

    async def wait() -> None:
        async with mutex as guard:
            await condvar.wait(guard)

    async with anyio.create_task_group() as tasks:
        waiters = [spawn(tasks, wait) for _ in range(3)]
        await settle()
        with condvar._lock:
            assert condvar.notify(2) == 2
            assert condvar.statistics().waiting == 3
        condvar._catch_up()
        await settle()
        assert [waiter.done for waiter in waiters] == [True, True, False]
        condvar.notify_one()


# Notify.
@on_asyncio
async def test_the_newest_that_is_moved_to_the_front_arrives_there_though_a_strike_comes_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It had left its place at the end."""
    notify = Notify()

    async def wait() -> None:
        await notify.notified()

    async with anyio.create_task_group() as tasks:
        waiters = [spawn(tasks, wait) for _ in range(3)]
        await settle()
        strike_once(monkeypatch, Notify, "_link_before", "begins")
        with pytest.raises(Struck):
            notify.notify_last()
        assert notify.statistics().waiting == 3
        notify.notify_one()
        await settle()
        assert [waiter.done for waiter in waiters] == [False, False, True]
        notify.notify_waiters()


# RwLock.
@on_asyncio
@at_the_lock
async def test_a_block_that_is_struck_as_it_begins_holds_nothing(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it had by then."""
    lock = RwLock()
    struck_at_the_lock(monkeypatch, lock, call)
    with pytest.raises(Struck):
        async with lock.read():
            pytest.fail("it was interrupted")
    assert not lock.locked()


@on_asyncio
async def test_a_reader_s_block_finds_a_writer_that_was_quicker() -> None:
    """It took the lock between the look at it and the taking."""
    lock = RwLock()
    guards: list[Any] = []
    lock._lock = InternalLock(lambda: elsewhere(lambda: guards.append(lock.try_write())))
    async with anyio.create_task_group() as tasks:

        async def read() -> None:
            async with lock.read():
                pass

        reader = spawn(tasks, read)
        await settle()
        assert not reader.done
        guards[0].release()


@on_asyncio
@at_the_lock
async def test_a_reader_s_end_that_is_struck_lets_the_writer_in(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in line."""
    lock = RwLock()
    async with anyio.create_task_group() as tasks:
        with pytest.raises(Struck):
            async with lock.read():
                writer = spawn(tasks, lock.write)
                await settle()
                struck_at_the_lock(monkeypatch, lock, call)
        await settle()
        writer.result.release()


@pytest.mark.parametrize(("call", "held"), [("acquire", True), ("release", False)])
def test_a_guard_that_is_struck_as_it_is_turned_holds_or_has_let_go(
    call: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has the new one, so nobody could release it."""
    lock = RwLock()
    guard = lock.try_write()
    struck_at_the_lock(monkeypatch, lock, call)
    with pytest.raises(Struck):
        guard.downgrade()
    assert guard.released is not held
    assert lock.locked() is held
    if held:
        guard.release()


@on_asyncio
async def test_a_writer_that_looks_at_readers_of_whom_one_goes_queues_all_the_same() -> None:
    """In another thread, in the middle of the look."""
    lock = RwLock()
    stays, goes = lock.try_read(), lock.try_read()
    stays._hold.owner = lambda: None if goes.released else goes.release()
    async with anyio.create_task_group() as tasks:
        writer = spawn(tasks, lock.write)
        await settle()
        assert goes.released
        assert not writer.done
        stays.release()
        await settle()
        writer.result.release()


# The map.
@on_asyncio
async def test_an_entry_that_is_struck_as_it_hands_its_key_on_hands_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is there."""
    shared = ConcurrentMap({"a": 0})
    async with anyio.create_task_group() as tasks:
        with pytest.raises(Struck):
            async with shared.entry("a") as entry:
                waiter = spawn(tasks, shared.ref, "a")
                await settle()
                entry.value = 1
                strike_once(monkeypatch, Entry, "_hand_back", "begins")
        await settle()
        with waiter.result as ref:
            assert ref.value == 1


@on_asyncio
async def test_an_entry_whose_block_s_end_never_began_lets_go_when_it_is_dropped() -> None:
    """Somebody waits for the key by then. Nothing is written."""
    shared = ConcurrentMap({"a": 0})
    async with anyio.create_task_group() as tasks:
        entry: Any = shared.entry("a")
        await entry.__aenter__()
        entry.value = 1
        waiter = spawn(tasks, shared.ref, "a")
        await settle()
        del entry
        collect()
        await settle()
        with waiter.result as ref:
            assert ref.value == 0


@pytest.mark.parametrize("later", [False, True], ids=["at once", "put off"])
def test_a_flight_that_is_struck_as_it_lands_gives_the_key_back(later: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one can have it."""
    shared: ConcurrentMap[str, int] = ConcurrentMap()

    def come() -> None:
        with pytest.raises(KeyLockedError):
            shared.try_entry("a")

    def init() -> int:
        elsewhere(come)  # else there would be no flight
        strike_once(monkeypatch, Flight, "_land", "begins")
        if later:
            monkeypatch.setattr(Flight, "_give", Flight._give_from_finalizer)
        return 1

    with pytest.raises(Struck):
        shared.blocking_get_or_insert_with("a", init)
    shared.blocking_entry("a", WAIT).release()


# What has a short lock of its own.
@at_the_lock
def test_a_lock_of_a_recipe_s_own_is_free_though_a_strike_comes_between(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads get through."""
    shared = Global(lambda: 1)
    struck_at_the_lock(monkeypatch, shared, call)
    with pytest.raises(Struck):
        shared.initialise(2)
    elsewhere(lambda: shared.initialise(3))
    assert shared.instance() == 3


@pytest.mark.parametrize("blocking", [True, False])
def test_a_wish_that_is_struck_as_it_ends_is_no_wish(blocking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who comes later waits for it."""
    limiter = RateLimiter(1)
    strike_once(monkeypatch, _Wish, "count", "begins", 2)
    with pytest.raises(Struck):
        limiter.blocking_acquire() if blocking else asyncio.run(limiter.acquire())
    assert "asked for" not in repr(limiter)


def test_a_detached_run_that_is_struck_as_it_ends_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call of that function is a run of its own."""
    runs: list[int] = []

    async def main() -> None:
        goes_on = asyncio.Event()

        async def run() -> int:
            runs.append(1)
            await goes_on.wait()
            return len(runs)

        caller = asyncio.ensure_future(detached(run)())
        await asyncio.sleep(0.001)
        caller.cancel()
        await asyncio.wait([caller])
        strike_once(monkeypatch, _Run, "_end", "begins")
        goes_on.set()
        await asyncio.sleep(0.001)
        assert await detached(run)() == 2

    quietly(main())


def test_a_fetch_that_is_struck_as_it_lands_has_brought_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not under way for ever."""
    values = iter([1, 2])
    token = CachedToken(lambda: (next(values), None))
    strike_once(monkeypatch, CachedToken, "_take_off", "begins")
    with pytest.raises(Struck):
        token.blocking_get()
    assert token.blocking_get() == 1
    token.clear()
    assert token.blocking_get() == 2


@pytest.mark.parametrize("again", [False, True])
def test_a_cache_that_is_struck_as_it_stores_forgets_everything(again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it would not fit together. So it is when it is struck again as it forgets."""
    cache = InMemoryCache(10_000)

    def store(path: str) -> None:
        writer = cache.writer(("GET", path, "-"), Validator("etag", None, vary="accept"), 200, [])
        writer.write(b"body")
        writer.finish()

    store("/a")
    strike_once(monkeypatch, InMemoryCache, "_index", "begins")
    if again:
        strike_once(monkeypatch, InMemoryCache, "_clear", "begins")
    with pytest.raises(Struck):
        store("/b")
    assert (cache.statistics().entries, cache.statistics().bytes) == (0, 0)
    assert cache.load(("GET", "/a", "-")) is None
    store("/c")
    assert cache.load(("GET", "/c", "-")) is not None


@pytest.mark.parametrize("blocking", [True, False])
def test_who_is_struck_as_it_leaves_a_barrier_has_left_it(blocking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next round is whole without it."""
    strike_once(monkeypatch, Rounds, "leave", "begins")
    barrier: Any = drop_in_threading.Barrier(1) if blocking else drop_in_asyncio.Barrier(1)

    async def wait() -> int:
        return await barrier.wait()  # type: ignore[no-any-return]

    with pytest.raises(Struck):
        barrier.wait() if blocking else asyncio.run(wait())
    assert (barrier.wait(1) if blocking else asyncio.run(wait())) == 0


# What is made, taken and given back without the internal lock.
def test_who_finds_somebody_in_line_gives_way_by_each_spelling(waiting: Any) -> None:
    """It took the token first, and puts it back."""
    for take in (Mutex.acquire_nowait, Mutex.try_lock):
        mutex = Mutex()
        mutex.acquire_nowait()
        waiting(mutex, Mutex.blocking_acquire, 1)
        given_back_without_the_lock(mutex)
        with pytest.raises(TryLockError):
            take(mutex)
        wait_until(in_line(mutex, 0))


class GoneByNow(list[Any]):
    """There was a token when somebody looked."""

    def __bool__(self) -> bool:
        return True


def test_who_finds_the_token_gone_is_told_so() -> None:
    """Somebody in another thread was quicker."""
    mutex = Mutex()
    mutex._free = GoneByNow()
    with pytest.raises(TryLockError):
        mutex.acquire_nowait()


def test_a_guard_s_release_that_is_struck_has_released() -> None:
    """The token was back by then."""
    mutex, semaphore = Mutex(), Semaphore(1)
    guard, permit = mutex.try_lock(), semaphore.try_acquire()
    mutex._free, semaphore._tokens = StruckAtAppend(), StruckAtAppend()
    for one in (guard, permit):
        with pytest.raises(Struck):
            one.release()  # type: ignore[attr-defined]
        assert one.released  # type: ignore[attr-defined]
    assert not mutex.locked()
    assert semaphore.available_permits == 1


def test_what_was_struck_as_it_was_made_is_dropped_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    """Nobody got it."""
    for kind in (Acquisition, LoosePermit):
        made = kind.__new__(kind)
        del made
        collect()
    assert not recwarn.list


@pytest.mark.loops("trio")
async def test_a_lock_block_is_told_when_it_does_not_run_on_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before the first task of trio came."""
    monkeypatch.setattr(backends, "glance", backends._asyncio.current_task)
    mutex = Mutex()
    async with mutex.lock():
        assert mutex.locked()
    assert not mutex.locked()


@on_asyncio
async def test_a_guard_that_let_go_cannot_be_left_held() -> None:
    """Its block has ended."""
    mutex = Mutex()
    async with mutex as guard:
        pass
    with pytest.raises(GuardReleasedError):
        guard.leave_held()
