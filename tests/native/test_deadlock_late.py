"""A circle that closes after everybody has parked: the parent comes to await a child that waits for what it holds.

Nobody tells asyncio who is going to await a task that was merely started, so each loop looks at the waits that have
stood for a while (`backends.watch`). Each shape has innocent twins, which stand for several looks.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any
from weakref import ref

import anyio
import pytest

from asynclocks import ConcurrentMap, DeadlockError, Event, Mutex, RwLock, Semaphore, set_deadlock_policy
from asynclocks._engine.deadlock import is_stuck, waits
from asynclocks._engine.synchronizer import QueuedSynchronizer
from asynclocks.backends import watch
from tests.native.abandoned import passes
from tests.native.test_deadlock_awaits import (
    ASYNCIO,
    NEED_C_TASKS,
    Shape,
    Work,
    both_kinds_of_tasks,
    by_await,
    check_guilty,
    on_asyncio,
    started,
    two_parents,
)
from tests.support import no_collector, settle

LATE = 0.05  # seconds: everybody else has parked by then
LONG = 0.5  # and there were looks


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks every few milliseconds."""
    monkeypatch.setattr(watch, "SOON", 0.002)
    monkeypatch.setattr(watch, "SELDOM", 0.004)
    monkeypatch.setattr(watch, "AT_ONCE", 10)
    monkeypatch.setattr(watch, "PART", 0.001)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What each look at a wait said."""
    said: list[bool] = []

    def is_stuck_and_told(self: Any, ticket: Any) -> bool:
        said.append(is_stuck(ticket))
        return said[-1]

    monkeypatch.setattr(QueuedSynchronizer, "_is_stuck", is_stuck_and_told)
    return said


def table() -> Any:
    """The running loop's, if it is watched."""
    return getattr(asyncio.get_running_loop(), "_asynclocks_parked", None)


def look() -> None:
    """What the timer does. A wait is looked at the second time it is seen."""
    known: Any = table()
    known.watch._due = {id(ticket): (0.0, 1.0) for ticket in known}
    known.watch(known.watch._begun)


def later() -> Any:
    return anyio.sleep(LATE)


async def take(mutex: Mutex[Any]) -> str:
    async with mutex:
        return "got it"


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  # it comes by a timer
        await anyio.sleep(0.005)


async def until_looked(looks: list[bool]) -> None:
    await until(lambda: len(looks) >= 5)


@both_kinds_of_tasks
@pytest.mark.parametrize("shape", ASYNCIO)
@on_asyncio
async def test_a_task_that_comes_to_await_a_child_later_is_found_however_it_awaits(
    shape: Shape, python_tasks: bool
) -> None:
    """The child is told."""
    if python_tasks and shape in NEED_C_TASKS:
        pytest.skip("asyncio itself does not know such tasks here")
    await check_guilty(shape, python_tasks=python_tasks, meanwhile=later)
    assert not waits


@pytest.mark.parametrize("kind", ["acquire", "lock", "read", "write", "entry"])
@on_asyncio
async def test_every_kind_of_wait_is_looked_at(kind: str) -> None:
    """In C, in Python, and of a child that holds something itself."""
    mutex, lock, shared = Mutex(), RwLock(), ConcurrentMap[str, int]()
    held: dict[str, Any] = {"read": lock.write, "write": lock.read, "entry": lambda: shared.entry("k")}
    wait: dict[str, Any] = {
        "acquire": mutex.acquire,
        "read": lock.read,
        "write": lock.write,
        "entry": lambda: shared.entry("k"),
    }

    async def child() -> None:
        async with Mutex():
            with pytest.raises(DeadlockError):
                await wait.get(kind, mutex.lock)()

    async def parent() -> None:  # the test's own task has a time limit
        async with held.get(kind, mutex.lock)():
            await by_await(child, later)

    await started(parent)
    assert not waits


@on_asyncio
async def test_a_circle_of_four_that_closes_late_is_found_once() -> None:
    """Through two parents who come to await their children."""

    async def by_await_later(child: Work, meanwhile: Work) -> None:
        await by_await(child, later)

    errors = await two_parents(by_await_later, noted=True)
    await until(lambda: errors)  # they are told after that
    (error,) = errors
    assert len(error.cycle) == 4


# limited: holds A      parent: holds B      child: waits for A
#          waits for B          awaits the child, later
@on_asyncio
async def test_who_waits_for_a_lock_within_a_time_limit_is_part_of_a_circle_all_the_same() -> None:
    """As where that wait closes the circle."""
    a, b = Mutex(), Mutex()
    errors: list[DeadlockError] = []

    async def parent() -> None:
        async with b:
            task = started(lambda: take(a))
            await later()
            try:
                await task
            except DeadlockError as error:
                errors.append(error)

    async def limited() -> None:
        async with asyncio.timeout(1000), a:
            task = started(parent)
            await passes()
            try:
                await take(b)
            except DeadlockError as error:
                errors.append(error)
        await task

    await started(limited)
    (error,) = errors
    assert len(error.cycle) == 3


@on_asyncio
async def test_of_two_children_one_is_told_and_the_other_served() -> None:
    """The error frees the mutex."""
    mutex = Mutex()

    async def parent() -> list[asyncio.Task[object]]:
        with pytest.raises(DeadlockError):
            async with mutex:
                tasks = [started(lambda: take(mutex)) for _ in range(2)]
                await later()
                await asyncio.gather(*tasks)
        await asyncio.wait(tasks)
        return tasks

    first, second = await asyncio.create_task(parent())
    assert isinstance(first.exception(), DeadlockError)
    assert second.result() == "got it"


@on_asyncio
async def test_a_parent_that_never_awaits_the_child_is_innocent(looks: list[bool]) -> None:
    """It lets go after a while."""
    mutex = Mutex()
    async with mutex:
        child = started(lambda: take(mutex))
        await until_looked(looks)
    assert await child == "got it"
    assert not any(looks)


async def until_done(child: asyncio.Task[object]) -> None:
    await child


async def first_of_two(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    await asyncio.wait([child, other], return_when=asyncio.FIRST_COMPLETED)


async def until_one_fails(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    await asyncio.wait([child, other], return_when=asyncio.FIRST_EXCEPTION)


async def gather(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    await asyncio.gather(child, other)


async def gather_two_gatherings(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    await asyncio.gather(asyncio.gather(child), other)


async def gather_what_gathers_the_other(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    await asyncio.gather(asyncio.shield(asyncio.gather(child)), asyncio.gather(other))


async def gather_what_shields_the_other(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    await asyncio.gather(child, asyncio.shield(other))


async def until_what_gathers_one_fails(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    gathering = asyncio.gather(other)
    await asyncio.wait([child, gathering], return_when=asyncio.FIRST_EXCEPTION)
    with suppress(LookupError):
        await gathering


async def wait_with_a_timeout(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    await asyncio.wait([child], timeout=LATE)


async def wait_for(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(child), LATE)


async def wait_for_in_a_helper(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(asyncio.shield(child)), LATE)


async def with_a_time_limit(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LATE):
            await asyncio.shield(child)


async def in_a_scope(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    with anyio.move_on_after(LATE):
        await asyncio.shield(child)


async def for_something_else(child: asyncio.Task[object], other: asyncio.Task[object]) -> None:
    done = asyncio.Event()
    child.add_done_callback(lambda _: None)
    asyncio.get_running_loop().call_later(LATE, done.set)
    await done.wait()


ENDS_BY_ITSELF = [
    first_of_two, wait_with_a_timeout, wait_for, wait_for_in_a_helper, with_a_time_limit, in_a_scope,
    for_something_else,
]  # fmt: skip


@pytest.mark.parametrize("way", ENDS_BY_ITSELF)
@on_asyncio
async def test_a_parent_whose_wait_ends_by_itself_is_innocent(way: Callable[..., Any], looks: list[bool]) -> None:
    """Whether the child was looked at before or meanwhile."""
    mutex = Mutex()

    async def parent() -> None:  # the test's own task has a time limit
        async with mutex:
            child = started(lambda: take(mutex))
            await until_looked(looks)
            other = started(later)
            await way(child, other)
            assert not child.done()
        assert await child == "got it"
        await other

    await started(parent)
    assert not any(looks)


@pytest.mark.parametrize("how", ["lock", "timeout", "scope"])
@on_asyncio
async def test_a_child_that_limits_its_own_time_is_not_told_late_either(how: str, looks: list[bool]) -> None:
    """It gives up, and the parent goes on."""
    mutex = Mutex()

    async def child() -> str:
        if how == "scope":
            with anyio.move_on_after(LONG):
                await mutex.lock()
            return "gave up"
        with pytest.raises(TimeoutError):
            if how == "lock":
                await mutex.lock(timeout=LONG)
            else:
                async with asyncio.timeout(LONG):
                    await mutex.lock()
        return "gave up"

    async def parent() -> None:  # the test's own task has a time limit
        async with mutex:
            task = started(child)
            await passes()
            await anyio.sleep(0.01)
            assert await task == "gave up"

    await started(parent)
    assert looks
    assert not any(looks)


@pytest.mark.parametrize("how", ["disowned", "acquired"])
@on_asyncio
async def test_a_mutex_that_somebody_else_may_release_is_not_followed_late_either(how: str, looks: list[bool]) -> None:
    """A sibling does."""
    mutex = Mutex()

    async def parent() -> None:  # the test's own task has a time limit
        if how == "disowned":
            release = (await mutex.lock()).disown().release
        else:
            await mutex.acquire()
            release = mutex.release

        async def let_go() -> None:
            await until_looked(looks)
            release()

        sibling = started(let_go)
        child = started(lambda: take(mutex))
        await anyio.sleep(0.01)
        assert await child == "got it"
        await sibling

    await started(parent)
    assert not any(looks)


async def begin_and_fail(begin: asyncio.Future[None]) -> None:
    """When everybody waits, let one begin: its step comes before anybody is told of the failure."""
    await settle()
    begin.set_result(None)
    raise LookupError("in vain")


TOLD_BY_CALLBACKS = [
    first_of_two, until_one_fails, gather, gather_two_gatherings, gather_what_gathers_the_other,
    gather_what_shields_the_other, until_what_gathers_one_fails, "asyncio", "anyio",
]  # fmt: skip


# the parent holds the mutex, awaits the child and another
# the other one ends; the child comes to the mutex; the parent is told
@pytest.mark.parametrize("way", TOLD_BY_CALLBACKS)
@pytest.mark.parametrize("from_above", [True, False])
@on_asyncio
async def test_a_parent_that_is_about_to_be_told_to_go_on_is_innocent(
    way: Any, from_above: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the child is found to be awaited, or the parent to await."""
    if from_above:
        monkeypatch.setattr("asynclocks.backends.asyncio.AsyncioBackend.awaiters", lambda self, task: ())
    mutex = Mutex()
    begin = asyncio.get_running_loop().create_future()

    async def take_then() -> None:
        async with Mutex():  # else nobody looks from the parent on
            await begin
            with suppress(asyncio.CancelledError):
                await take(mutex)

    async def parent() -> None:
        async with mutex:
            if way == "asyncio":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(take_then())
                    tasks.create_task(begin_and_fail(begin))
            elif way == "anyio":
                async with anyio.create_task_group() as group:
                    group.start_soon(take_then)
                    group.start_soon(begin_and_fail, begin)
            else:
                children.extend([started(take_then), started(lambda: begin_and_fail(begin))])
                await way(*children)

    children: list[Any] = []
    try:
        await started(parent)
    except* LookupError:
        pass
    for child in children:
        with suppress(LookupError):
            await child


# the parent holds the mutex, in a group awaits a child
# one of the group fails; the child comes to the mutex; the group cancels the parent
@pytest.mark.parametrize("group", ["asyncio", "anyio"])
@on_asyncio
async def test_a_parent_whose_group_is_about_to_cancel_it_is_innocent(group: str) -> None:
    """It awaits something else in the group's block."""
    mutex = Mutex()
    begin = asyncio.get_running_loop().create_future()

    async def take_then() -> str:
        await begin
        return await take(mutex)

    async def parent() -> None:
        async with mutex:
            if group == "asyncio":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(begin_and_fail(begin))
                    await asyncio.shield(child)
            else:
                async with anyio.create_task_group() as theirs:
                    theirs.start_soon(begin_and_fail, begin)
                    await asyncio.shield(child)

    child = started(take_then)
    with pytest.raises(ExceptionGroup):
        await started(parent)
    assert await child == "got it"


# the child parks      the parent holds the mutex, awaits the child
# look: the child is roused, and then, before its step …
async def stuck(
    mutex: Mutex[Any], monkeypatch: pytest.MonkeyPatch, work: Callable[[Mutex[Any]], Any] = take
) -> tuple[Any, asyncio.Task[Any], asyncio.Task[Any]]:
    """A guard, a child that waits for it, and the parent, who owns it and awaits the child, just before a look."""
    monkeypatch.setattr(watch, "SOON", 60)
    monkeypatch.setattr(watch, "PART", 50)  # in a large process a look may take long, and no more come meanwhile
    guards: list[Any] = []
    children: list[asyncio.Task[Any]] = []

    async def hold() -> None:
        guards.append(await mutex.lock())
        children.append(asyncio.Task(work(mutex)))  # not eager: that one would look again by itself
        await passes()
        await asyncio.shield(children[0])

    parent = started(hold)
    await settle()
    return guards[0], children[0], parent


async def in_one_pass(*steps: Callable[[], object]) -> None:
    """In a callback of the loop's, where no task runs."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: (*(step() for step in steps), done.set_result(None)))
    await done
    await settle()


@on_asyncio
async def test_the_look_finds_what_the_others_here_race_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself it tells the child."""
    guard, child, parent = await stuck(Mutex(), monkeypatch)
    await in_one_pass(look)
    with pytest.raises(DeadlockError):
        await parent
    assert child.done()
    guard.release()


@pytest.mark.parametrize("first", ["the look", "the grant"])
@on_asyncio
async def test_a_grant_that_races_with_the_look_wins(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has the mutex, and no error."""
    mutex = Mutex()
    guard, child, parent = await stuck(mutex, monkeypatch)
    await in_one_pass(*((look, guard.release) if first == "the look" else (guard.release, look)))
    assert await child == "got it"
    await parent
    assert not mutex.locked()


@pytest.mark.parametrize("first", ["the look", "the cancellation"])
@on_asyncio
async def test_a_cancellation_that_races_with_the_look_is_one(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left in line, and nobody is told of a deadlock."""
    mutex = Mutex()
    guard, child, parent = await stuck(mutex, monkeypatch)
    await in_one_pass(*((look, child.cancel) if first == "the look" else (child.cancel, look)))
    with pytest.raises(asyncio.CancelledError):
        await child
    with pytest.raises(asyncio.CancelledError):
        await parent
    assert mutex.statistics().waiting == 0
    guard.release()
    assert not mutex.locked()


@pytest.mark.parametrize("first", ["the look", "the cancellation"])
@on_asyncio
async def test_a_circle_that_breaks_before_the_child_runs_is_none(
    first: str, monkeypatch: pytest.MonkeyPatch, looks: list[bool]
) -> None:
    """The child looks for itself, and waits on; or it is not even roused."""
    mutex = Mutex()
    guard, child, parent = await stuck(mutex, monkeypatch)
    await in_one_pass(*((look, parent.cancel) if first == "the look" else (parent.cancel, look)))
    assert looks[0] == (first == "the look")  # it is looked at again before long
    with pytest.raises(asyncio.CancelledError):
        await parent
    assert not child.done()
    assert mutex.statistics().waiting == 1
    guard.release()
    assert await child == "got it"
    assert not waits


@on_asyncio
async def test_a_child_that_holds_something_is_known_to_wait_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The circle broke before it ran; others may wait for it."""

    async def take_both(mutex: Mutex[Any]) -> str:
        async with Mutex():
            return await take(mutex)

    guard, child, parent = await stuck(Mutex(), monkeypatch, take_both)
    noted = dict(waits)
    assert len(noted) == 1
    await in_one_pass(look, parent.cancel)
    assert waits == noted
    guard.release()
    assert await child == "got it"
    assert not waits


@on_asyncio
async def test_who_was_roused_is_not_roused_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be told any more what it does."""
    guard, child, parent = await stuck(Mutex(), monkeypatch)
    await in_one_pass(look, look)
    with pytest.raises(DeadlockError):
        await parent
    assert child.done()
    guard.release()


@pytest.fixture
def policy() -> Iterator[Callable[[Any], Any]]:
    old = set_deadlock_policy("raise")
    yield set_deadlock_policy
    set_deadlock_policy(old)


@on_asyncio
async def test_a_policy_that_warns_lets_the_child_wait_on(
    policy: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told at each look."""
    policy("warn")
    guard, child, parent = await stuck(Mutex(), monkeypatch)
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="deadlock: .* awaits "):
            await in_one_pass(look)
    guard.release()
    assert await child == "got it"
    await parent


@on_asyncio
async def test_a_policy_that_does_not_look_does_not_look_late(
    policy: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, looks: list[bool]
) -> None:
    """Not even then."""
    policy("off")
    guard, child, parent = await stuck(Mutex(), monkeypatch)
    await in_one_pass(look)
    assert looks
    assert not any(looks)
    assert not child.done()
    guard.release()
    await parent


@on_asyncio
async def test_without_a_gil_the_tasks_of_the_watching_loop_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold still between two steps."""
    from asynclocks.backends import asyncio as backend

    monkeypatch.setattr(backend, "TASKS_HOLD_STILL", False)
    guard, child, parent = await stuck(Mutex(), monkeypatch)
    await in_one_pass(look)
    with pytest.raises(DeadlockError):
        await parent
    assert child.done()
    guard.release()


@on_asyncio
async def test_a_coroutine_that_a_callback_drives_is_not_followed() -> None:
    """It has no task."""
    mutex = Mutex()
    guard = await mutex.lock_owned()
    coroutine = mutex.lock_owned().__await__()
    await in_one_pass(lambda: coroutine.send(None), look)
    (ticket,) = table()
    ticket.rouse()
    await in_one_pass(lambda: coroutine.send(None))  # it is in line still, and parks again
    assert mutex.statistics().waiting == 1
    guard.release()
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    end.value.value.release()
    assert not mutex.locked()


@on_asyncio
async def test_a_loop_where_nobody_waits_is_not_watched() -> None:
    """The next one who waits has it watched again."""
    mutex = Mutex()
    for _ in range(2):
        async with mutex:
            child = started(lambda: take(mutex))
            await settle()
            assert len(table()) == 1
        await child
        await until(lambda: table() is None)


@on_asyncio
async def test_a_loop_where_nobody_waits_for_an_owner_is_not_watched() -> None:
    """Permits and events have none; such a wait is served as ever."""
    limit, event = Semaphore(0), Event()
    waiting = [started(limit.acquire), started(event.wait)]
    await settle()
    await until(lambda: table() is None)
    event.set()
    limit.add_permits(1)
    permit, _ = await asyncio.gather(*waiting)
    permit.release()  # type: ignore[attr-defined]


@on_asyncio
async def test_a_look_that_is_struck_leaves_the_loop_to_the_next_one_who_parks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C, say."""
    mutex = Mutex()
    guard, child, parent = await stuck(mutex, monkeypatch)

    def strike(self: Any, ticket: Any) -> bool:
        raise ZeroDivisionError

    def struck_look() -> None:
        with pytest.raises(ZeroDivisionError):
            look()

    with monkeypatch.context() as struck:
        struck.setattr(QueuedSynchronizer, "_is_stuck", strike)
        await in_one_pass(struck_look)
    assert table() is None
    another = started(lambda: take(mutex))
    await settle()
    assert len(table()) == 2
    guard.release()
    await asyncio.gather(child, parent, another)


@on_asyncio
async def test_of_two_timers_the_later_one_counts(looks: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """One was struck as it began, and another one had to be begun."""
    guard, child, parent = await stuck(Mutex(), monkeypatch)
    known = table()
    first = known.watch._begun
    known.watch.begin(asyncio.get_running_loop())
    await in_one_pass(lambda: known.watch(first))
    assert table() is known
    assert known.watch._due == {}
    await in_one_pass(lambda: known.watch(first + 1))
    assert len(known.watch._due) == 1
    guard.release()
    await asyncio.gather(child, parent)


@on_asyncio
async def test_a_look_takes_a_part_of_the_time_however_many_wait(
    monkeypatch: pytest.MonkeyPatch, looks: list[bool]
) -> None:
    """The rest are looked at another time, the most overdue first."""
    monkeypatch.setattr(watch, "SOON", 60)
    monkeypatch.setattr(watch, "SELDOM", 60)
    monkeypatch.setattr(watch, "AT_ONCE", -1)
    mutex = Mutex()
    async with mutex:
        children = [started(lambda: take(mutex)) for _ in range(3)]
        await settle()
        known = table()
        known.watch._due = {id(ticket): (-due, 1.0) for due, ticket in enumerate(known)}
        for seen, ticket in enumerate(reversed(list(known))):
            assert known.watch._due[id(ticket)][0] <= 0
            known.watch(known.watch._begun)
            assert known.watch._due[id(ticket)][0] > 0
            assert len(looks) == seen + 1
    await asyncio.gather(*children)


@on_asyncio
async def test_after_a_long_look_the_next_one_waits_for_as_many_times_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also longer than a wait is left alone otherwise."""
    monkeypatch.setattr(watch, "PART", 50)

    def look_long(self: Any, ticket: Any) -> bool:
        time.sleep(0.01)
        return False

    monkeypatch.setattr(QueuedSynchronizer, "_is_stuck", look_long)
    pauses: list[float] = []
    mutex = Mutex()
    async with mutex:
        child = started(lambda: take(mutex))
        await settle()
        monkeypatch.setattr(watch.Watch, "_begin", lambda self, loop, pause: pauses.append(pause))
        await in_one_pass(look)
    await child
    assert pauses[0] >= 0.5 > watch.SELDOM


def test_a_loop_without_timers_serves_all_the_same() -> None:
    """Nobody watches there."""

    class Timerless(asyncio.SelectorEventLoop):
        def call_later(self, *args: Any, **options: Any) -> Any:
            raise NotImplementedError

    async def main() -> None:
        mutex = Mutex()
        async with mutex:
            child = started(lambda: take(mutex))
            await asyncio.sleep(0)
        assert await child == "got it"

    loop = Timerless()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_watch_keeps_nothing_alive() -> None:
    """No context's values, no lock that a wait is over for, no loop that was closed and dropped."""
    variable: ContextVar[Any] = ContextVar("variable")

    async def main() -> list[ref[Any]]:
        mutex, value = Mutex(), Event()
        variable.set(value)
        async with mutex:
            child = started(lambda: take(mutex))
            await anyio.sleep(0.01)
        await child
        variable.set(None)
        return [ref(mutex), ref(value)]

    loop = asyncio.new_event_loop()
    things = loop.run_until_complete(loop.create_task(main()))
    gc.collect()
    assert [thing() for thing in things] == [None, None]
    assert hasattr(loop, "_asynclocks_parked")  # the timer is due yet
    things = [ref(loop), loop._asynclocks_parked.reference]
    loop.close()
    with no_collector():
        del loop
        assert [thing() for thing in things] == [None, None]
