"""Deadlocks through awaits: a child waits for what its parent holds, and the parent waits for the child.

Each shape of waiting has an innocent twin: the parent starts the same child and lets go before it waits.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asynclocks import ConcurrentMap, DeadlockError, Mutex, OnceCell, RwLock, Semaphore
from asynclocks._engine import synchronizer
from asynclocks._engine.deadlock import Look, check as check_deadlock
from asynclocks.backends import awaits, running as running_here
from asynclocks.backends.awaits import awaited_of
from asynclocks.backends.seam import coroutines_in
from tests.support import on_trio, settle

Work = Callable[[], Any]
Shape = Callable[[Work, Work], Awaitable[object]]  # starts a child, does something, waits for the child


async def by_anyio_group(child: Work, meanwhile: Work) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child, name="child")
        await meanwhile()


async def by_grandchild(child: Work, meanwhile: Work) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(by_anyio_group, child, meanwhile, name="middle")


async def by_nursery(child: Work, meanwhile: Work) -> None:
    import trio

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child, name="child")
        await meanwhile()


async def by_task_group(child: Work, meanwhile: Work) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_run(child), name="child")
        await meanwhile()


def started(child: Work) -> asyncio.Task[object]:
    return asyncio.get_running_loop().create_task(_run(child), name="child")


async def by_await(child: Work, meanwhile: Work) -> None:
    task = started(child)
    await meanwhile()
    await task


async def by_gather(child: Work, meanwhile: Work) -> None:
    task = started(child)
    await meanwhile()
    await asyncio.gather(asyncio.sleep(0), task)


async def by_shield(child: Work, meanwhile: Work) -> None:
    task = started(child)
    await meanwhile()
    await asyncio.shield(task)


async def by_wait(child: Work, meanwhile: Work) -> None:
    task = started(child)
    await meanwhile()
    await asyncio.wait([task])
    task.result()


async def by_wait_for_the_first(child: Work, meanwhile: Work) -> None:
    task = started(child)
    await meanwhile()
    await asyncio.wait([task], return_when=asyncio.FIRST_COMPLETED)
    task.result()


async def by_wait_for_without_a_timeout(child: Work, meanwhile: Work) -> None:
    task = started(child)
    await meanwhile()
    await asyncio.wait_for(task, None)


async def _run(work: Work) -> object:
    return await work()


async def nothing() -> None: ...


GROUPS: list[Shape] = [by_anyio_group, by_grandchild]
ASYNCIO: list[Shape] = [
    by_task_group, by_await, by_gather, by_shield, by_wait, by_wait_for_the_first, by_wait_for_without_a_timeout,
]  # fmt: skip
NEED_C_TASKS = [by_task_group, by_wait_for_without_a_timeout] if sys.version_info >= (3, 14) else []
on_asyncio = pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
both_kinds_of_tasks = pytest.mark.parametrize("python_tasks", [False, True], ids=["C tasks", "Python tasks"])


@contextmanager
def tasks_in_python(yes: bool) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        options.pop("eager_start", None)
        return asyncio.tasks._PyTask(coroutine, loop=loop, **options)  # type: ignore[attr-defined]

    if yes:
        loop.set_task_factory(factory)
    try:
        yield
    finally:
        loop.set_task_factory(before)


def deadlock_in(error: BaseException) -> DeadlockError:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, DeadlockError)
    return error


async def told(work: Work, *, python_tasks: bool = False) -> DeadlockError:
    """What `work` is told in a task called parent."""
    if on_trio():
        with pytest.raises(BaseException) as caught:  # noqa: PT011  # perhaps in a group
            await work()
    else:
        with tasks_in_python(python_tasks):
            parent = asyncio.get_running_loop().create_task(_run(work), name="parent")
            with pytest.raises(BaseException) as caught:  # noqa: PT011
                await parent
    return deadlock_in(caught.value)


async def check_guilty(shape: Shape, *, python_tasks: bool = False, meanwhile: Work = nothing) -> None:
    mutex = Mutex(name="m")

    async def take() -> None:
        async with mutex:
            pytest.fail("its parent has it")

    async def parent() -> None:
        async with mutex:
            await shape(take, meanwhile)

    error = await told(parent, python_tasks=python_tasks)
    assert "waits for Mutex 'm' held by task" in error.cycle[0]
    assert all(" awaits task " in link for link in error.cycle[1:])
    assert len(error.cycle) == (3 if shape is by_grandchild else 2)
    assert "what you hold" in str(error)
    if not on_trio() and shape in ASYNCIO:
        assert error.cycle == (
            "task 'child' waits for Mutex 'm' held by task 'parent'",
            "task 'parent' awaits task 'child'",
        )
    assert not mutex.locked()
    assert mutex.statistics().waiting == 0


async def check_innocent(shape: Shape, *, python_tasks: bool = False) -> None:
    mutex = Mutex()
    guard = await mutex.lock()
    got: list[int] = []

    async def take() -> None:
        async with mutex:
            got.append(1)

    async def let_go() -> None:
        await settle()
        assert mutex.statistics().waiting == 1
        await anyio.sleep(0.01)
        guard.release()

    if on_trio():
        await shape(take, let_go)
    else:
        with tasks_in_python(python_tasks):
            await asyncio.get_running_loop().create_task(_run(lambda: shape(take, let_go)))
    assert got == [1]


@pytest.mark.parametrize("shape", GROUPS)
async def test_a_child_that_waits_for_what_its_group_s_task_holds_is_told(shape: Shape) -> None:
    """The commonest deadlock of all; the words say who awaits whom."""
    await check_guilty(shape)


@pytest.mark.parametrize("shape", GROUPS)
async def test_a_task_that_lets_go_before_its_group_ends_is_innocent(shape: Shape) -> None:
    """Though it will wait for the child."""
    await check_innocent(shape)


@pytest.mark.parametrize("shape", GROUPS)
async def test_a_task_that_comes_to_wait_later_is_found_as_well(shape: Shape) -> None:
    """The child waits first; it looks again from time to time."""
    await check_guilty(shape, meanwhile=lambda: anyio.sleep(0.01))


@on_asyncio
async def test_a_task_that_comes_to_await_a_plain_child_later_is_found_as_well() -> None:
    """No group says so before. The loop looks at what has stood for half a second (`test_deadlock_late`)."""
    await check_guilty(by_await, meanwhile=lambda: anyio.sleep(0.01))


@pytest.mark.parametrize("shape", GROUPS)
async def test_a_child_that_was_granted_looks_no_more(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a long line would look as it goes."""
    looks: list[float] = []  # how long the line was

    def check(task: Any, ticket: Any) -> Look:
        looks.append(mutex.statistics().waiting)
        return check_deadlock(task, ticket)

    async def take() -> None:
        async with mutex:
            pass

    async def start() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(take)
            await settle()
            guard.release()

    mutex = Mutex()
    monkeypatch.setattr(synchronizer, "SOON", 60.0)
    monkeypatch.setattr(synchronizer, "check_deadlock", check)
    guard = mutex.try_lock()
    await shape(start, nothing)
    assert looks == [*range(1, 11)]  # each as it parked


@pytest.mark.loops("trio")
async def test_a_nursery_s_own_are_followed() -> None:
    """Without anyio: in time, late, and innocent."""
    await check_guilty(by_nursery)
    await check_guilty(by_nursery, meanwhile=lambda: anyio.sleep(0.01))
    await check_innocent(by_nursery)


@on_asyncio
@both_kinds_of_tasks
@pytest.mark.parametrize("shape", ASYNCIO)
async def test_every_way_to_await_a_child_is_followed(shape: Shape, python_tasks: bool) -> None:
    """Each tells the child, whatever its tasks are made of."""
    if python_tasks and shape in NEED_C_TASKS:
        pytest.skip("asyncio itself does not know such tasks here")
    await check_guilty(shape, python_tasks=python_tasks)


@on_asyncio
@both_kinds_of_tasks
@pytest.mark.parametrize("shape", ASYNCIO)
async def test_whoever_does_not_await_the_child_yet_is_innocent(shape: Shape, python_tasks: bool) -> None:
    """It lets go first."""
    if python_tasks and shape in NEED_C_TASKS:
        pytest.skip("asyncio itself does not know such tasks here")
    await check_innocent(shape, python_tasks=python_tasks)


@on_asyncio
async def test_a_parent_that_waits_for_the_first_of_several_is_innocent() -> None:
    """Another child may end first."""
    mutex = Mutex()

    async def take() -> None:
        async with mutex:
            pass

    async def other() -> None:
        await settle()

    async with mutex:
        tasks = [started(take), started(other)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert done == {tasks[1]}
    await tasks[0]


@on_asyncio
@pytest.mark.parametrize("wait", [asyncio.wait, asyncio.wait_for])
async def test_a_parent_that_awaits_with_a_timeout_is_innocent(wait: Any) -> None:
    """Its wait ends by itself."""
    mutex = Mutex()
    waiting: list[Any] = []

    async def take() -> None:
        async with mutex:
            pass

    async with mutex:
        waiting.append(started(take))
        with suppress(TimeoutError):
            await (wait(waiting, timeout=0.05) if wait is asyncio.wait else wait(waiting[0], 0.05))
    with suppress(asyncio.CancelledError):
        await waiting[0]


async def test_a_child_that_limits_its_own_time_is_innocent() -> None:
    """It gives up, and the parent goes on."""
    mutex = Mutex()

    async def take() -> None:
        with pytest.raises(TimeoutError):
            async with mutex.lock(timeout=0.01):
                pytest.fail("held")
        with anyio.move_on_after(0.01):
            await mutex.lock()
        if not on_trio():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await mutex.lock()

    async with mutex:
        await by_anyio_group(take, nothing)


@on_asyncio
@pytest.mark.parametrize("way", [by_await, by_gather])
async def test_a_child_that_cancelled_its_parent_is_innocent(way: Shape) -> None:
    """It is cancelled with it, where it waits next."""
    mutex = Mutex()

    async def child() -> None:
        await asyncio.sleep(0)  # the parent awaits it then
        task.cancel()
        async with mutex:
            pytest.fail("its parent has it")

    async def parent() -> None:
        async with mutex:
            await way(child, nothing)

    task = started(parent)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_child_in_a_scope_that_was_cancelled_is_innocent() -> None:
    """Its wait ends at once; another's, which is shielded from that, does not."""
    mutex = Mutex()

    async def wait_in_vain() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with mutex:
                pytest.fail("its parent has it")
        assert scope.cancelled_caught

    async def wait_on() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await mutex.lock()

    async def parent() -> None:
        async with mutex:
            await by_anyio_group(wait_in_vain, nothing)
            with pytest.raises(BaseException) as caught:  # noqa: PT011  # in a group
                await by_anyio_group(wait_on, nothing)
            deadlock_in(caught.value)

    await by_anyio_group(parent, nothing)


async def test_a_child_that_cleans_up_as_its_group_ends_is_cancelled_again() -> None:
    """Not told of a deadlock."""
    mutex = Mutex()

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()  # its parent waits again then
            async with mutex:
                pytest.fail("its parent has it")

    async def fail() -> None:
        await settle()
        raise LookupError("in vain")

    with pytest.raises(ExceptionGroup) as caught:
        async with mutex, anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            tasks.start_soon(fail)
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


@pytest.mark.parametrize("shape", ASYNCIO)
@pytest.mark.parametrize("what", ["_behind", "_variables", "_innermost", "is_task"])
@on_asyncio
async def test_what_a_later_asyncio_may_tell_in_another_way_is_not_told(
    shape: Shape, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Perhaps by another way. Who waits for a lock knows nothing of it."""

    def fail(*_: Any) -> Any:
        raise AttributeError(what)

    mutex = Mutex()

    async def take() -> None:
        with suppress(DeadlockError):  # nobody may be there any more whom it would reach
            async with Mutex(), mutex:
                pass

    monkeypatch.setattr(awaits, what, fail)
    async with mutex:
        with anyio.move_on_after(0.05):
            await shape(take, nothing)
    await settle()  # what a shield has kept from the cancellation goes on
    async with mutex:
        pass


# the parent holds something, awaits the child      another: stands in line
#     the child: waits behind the other
async def behind_another(kind: str, how: str) -> None:
    lock, shared = RwLock[None](), ConcurrentMap({"k": 1})
    scope = anyio.CancelScope()

    async def upgrade(timeout: float | None) -> None:
        async with lock.upgradable_read() as guard:
            await guard.upgrade(timeout)

    wait: dict[str, Callable[[float | None], Any]] = {
        "write": lock.write,
        "upgrade": upgrade,
        "upgradable": lock.upgradable_read,
        "entry": lambda timeout: shared.entry("k", timeout=timeout),
    }

    async def another() -> None:
        with scope, suppress(TimeoutError):
            await wait[kind](0.05 if how == "timeout" else None)

    async def leave_late() -> None:
        await wait[kind](1000)

    async def child() -> None:
        if how == "cancelled":
            scope.cancel()
        async with shared.ref("k") if kind == "entry" else lock.read():
            pass

    async def parent() -> None:
        hold: dict[str, Work] = {"entry": lambda: shared.ref("k"), "upgradable": lock.upgradable_read}
        async with hold.get(kind, lock.read)():
            others.start_soon(another)
            await settle()
            if how == "scope":
                scope.deadline = anyio.current_time() + 0.05
            if how == "two":
                others.start_soon(leave_late)
                await settle()
            try:
                await by_anyio_group(child, nothing)
            finally:
                if how in {"stays", "two"}:
                    others.cancel_scope.cancel()

    async with anyio.create_task_group() as others:
        others.start_soon(parent)


@pytest.mark.parametrize("kind", ["write", "upgrade", "upgradable", "entry"])
@pytest.mark.parametrize("how", ["timeout", "scope", "cancelled"])
async def test_a_child_behind_one_that_leaves_the_line_by_itself_is_innocent(kind: str, how: str) -> None:
    """It is let in beside its parent then."""
    await behind_another(kind, how)


@pytest.mark.parametrize("kind", ["write", "upgradable", "entry"])
@pytest.mark.parametrize("how", ["stays", "two"])
async def test_a_child_behind_one_that_stays_in_line_is_told(kind: str, how: str) -> None:
    """Also if another one leaves."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # in groups
        await behind_another(kind, how)
    deadlock_in(caught.value)


@pytest.mark.parametrize("kind", ["upgradable", "one reader"])
async def test_a_child_that_would_wait_also_without_those_before_it_is_told(kind: str) -> None:
    """That one of them leaves is no help."""
    lock = RwLock[None](max_readers=1) if kind == "one reader" else RwLock[None]()
    take = lock.read if kind == "one reader" else lock.upgradable_read

    async def another() -> None:
        with pytest.raises(TimeoutError):
            await lock.write(timeout=0.05)

    async def parent() -> None:
        async with take():
            others.start_soon(another)
            await settle()
            with pytest.raises(BaseException) as caught:  # noqa: PT011  # in a group
                await by_anyio_group(take, nothing)
            deadlock_in(caught.value)
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as others:
        others.start_soon(parent)


async def test_a_child_that_somebody_else_frees_is_innocent() -> None:
    """The guard was disowned: a sibling releases."""
    mutex = Mutex()
    guard = (await mutex.lock()).disown()

    async def take() -> None:
        async with mutex:
            assert guard.released

    async def release() -> None:
        await settle()
        guard.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        tasks.start_soon(release)


async def test_a_background_task_that_nobody_awaits_is_innocent() -> None:
    """The holder waits for somebody else."""
    mutex = Mutex()

    async def take() -> None:
        async with mutex:
            pass

    async with anyio.create_task_group() as tasks, mutex:
        tasks.start_soon(take)
        await by_anyio_group(settle, nothing)


async def two_parents(shape: Shape, *, noted: bool) -> list[DeadlockError]:
    """What is told to the children of two parents, who hold nothing, while each parent holds what the other's wants."""
    first, second = Mutex(name="A"), Mutex(name="B")
    errors: list[DeadlockError] = []
    go, parked = anyio.Event(), anyio.Event()

    async def take(theirs: Mutex[Any]) -> None:
        await go.wait()
        if theirs is first:
            await parked.wait()
        try:
            async with theirs:
                pass
        except DeadlockError as error:
            errors.append(error)

    async def a() -> None:
        async with first:
            await shape(lambda: take(second), nothing)

    async def b() -> None:
        async with second:
            if not noted:  # who waits for one that is awake need not be noted
                go.set()
                while not second.statistics().waiting:
                    await anyio.lowlevel.checkpoint()
            await shape(lambda: take(first), nothing)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(a, name="a")
        await settle()
        tasks.start_soon(b, name="b")
        await settle()
        go.set()
        await settle()
        parked.set()
    return errors


# a: holds A, awaits its child      b: holds B, awaits its child
#     a's child: waits for B
#                                       b's child: waits for A, is told
@pytest.mark.parametrize("noted", [True, False])
async def test_a_cycle_through_two_groups_is_found(noted: bool) -> None:
    """Of children who hold nothing."""
    (error,) = await two_parents(by_anyio_group, noted=noted)
    assert len(error.cycle) == 4
    assert len([link for link in error.cycle if "awaits" in link]) == 2


@on_asyncio
@pytest.mark.parametrize("shape", ASYNCIO)
async def test_a_cycle_through_two_parents_is_found_however_they_await(shape: Shape) -> None:
    """Also from the parent to its children."""
    (error,) = await two_parents(shape, noted=True)
    assert len(error.cycle) == 4


# a: holds A, waits for one of its children     b: holds B, awaits its child
#     one: waits for B   other: ends
#                                                   b's child: waits for A
@on_asyncio
@pytest.mark.parametrize("how", ["the first", "with a timeout"])
async def test_a_parent_in_the_middle_that_may_go_on_is_innocent(how: str) -> None:
    """It waits for the first of several, or with a timeout."""

    async def wait(child: Work, meanwhile: Work) -> None:
        one, other = started(child), started(anyio.Event().wait)
        await meanwhile()
        if how == "the first":
            loop.call_later(0.05, other.cancel)
            await asyncio.wait([one, other], return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.wait([one], timeout=0.05)
        other.cancel()
        left.extend([one, other])

    loop = asyncio.get_running_loop()
    left: list[asyncio.Task[object]] = []
    assert await two_parents(wait, noted=True) == []
    await asyncio.wait(left)


async def test_a_child_in_the_middle_that_waits_for_what_nobody_owns_is_innocent() -> None:
    """A permit, say: nobody knows who gives it back."""
    mutex, limit = Mutex(), Semaphore(0)

    async def acquire() -> None:
        (await limit.acquire()).forget()

    async def hold() -> None:
        async with mutex:
            await by_anyio_group(acquire, nothing)

    async def work() -> None:
        async with Mutex(), mutex:
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await settle()
        tasks.start_soon(work)
        await settle()
        assert mutex.statistics().waiting == 1
        limit.add_permits(1)


@on_asyncio
async def test_a_parent_that_awaits_twice_over_is_found_once() -> None:
    """It gathers what its task group started."""
    mutex = Mutex(name="m")

    async def parent() -> None:
        async with mutex, asyncio.TaskGroup() as tasks:
            await asyncio.gather(tasks.create_task(_run(mutex.lock)))

    assert len((await told(parent)).cycle) == 2


# readers: wait for L      main: holds L      writer: waits for both
async def test_two_that_wait_for_the_same_are_followed_once() -> None:
    """And nobody is told: the holder works."""
    lock, mutex = RwLock(), Mutex()

    async def read() -> None:
        async with lock.read(), mutex:
            pass

    async def write() -> None:
        async with Mutex(), lock.write():
            pass

    async with anyio.create_task_group() as tasks, mutex:
        tasks.start_soon(read)
        tasks.start_soon(read)
        await settle()
        tasks.start_soon(write)
        await settle()
        assert lock.statistics().waiting_writers == 1


@pytest.mark.parametrize("kind", ["read", "write", "entry", "cell", "init"])
async def test_every_kind_of_hold_is_followed_through_awaits(kind: str) -> None:
    """Read and write guards, entries, and initializers."""
    lock, shared, cell = RwLock(), ConcurrentMap[str, int](), OnceCell[int]()
    waits: dict[str, Work] = {
        "read": lock.write,
        "write": lock.read,
        "entry": lambda: shared.entry("k"),
        "cell": cell.wait,
        "init": lambda: shared.get_or_insert_with("k", lambda: 1),
    }
    child = waits[kind]

    async def init() -> int:
        await by_anyio_group(child, nothing)
        return 1

    async def parent() -> None:
        if kind in {"read", "write"}:
            async with lock.read() if kind == "read" else lock.write():
                await init()
        elif kind == "entry":
            async with shared.entry("k"):
                await init()
        elif kind == "cell":
            await cell.get_or_init(init)
        else:
            await shared.get_or_insert_with("k", init)

    assert len((await told(parent)).cycle) == 2


async def test_a_holder_with_very_many_children_is_looked_at_in_part() -> None:
    """An outsider who waits for it asks a few of them only, and waits."""
    mutex = Mutex()
    go = anyio.Event()

    async def hold() -> None:
        async with mutex, anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(go.wait)

    async def outsider() -> None:
        async with Mutex(), mutex:
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await settle()
        tasks.start_soon(outsider)
        await settle()
        assert mutex.statistics().waiting == 1
        go.set()


class Opaque(Coroutine[Any, Any, Any]):
    """A coroutine that shows nobody what it awaits, as a compiled one."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = [inner]

    def send(self, value: Any) -> Any:
        return self._inner[0].send(value)

    def throw(self, *error: Any) -> Any:
        return self._inner[0].throw(*error)

    def close(self) -> None:
        self._inner[0].close()

    def __await__(self) -> Any:
        raise NotImplementedError


@on_asyncio
async def test_what_a_coroutine_does_not_show_is_not_guessed() -> None:
    """Nobody can tell what its task waits for."""
    end = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await end

    task = asyncio.get_running_loop().create_task(Opaque(wait()))
    await settle()
    assert list(awaited_of(task)) == []
    end.set_result(None)
    await task


async def test_without_a_gil_only_the_tasks_of_the_looking_loop_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's may be in the middle of a step, and what cannot be told is not guessed."""
    backend, task = running_here()
    monkeypatch.setattr(sys.modules[type(backend).__module__], "TASKS_HOLD_STILL", False)
    assert backend.holds_still(task)
    assert not await anyio.to_thread.run_sync(backend.holds_still, task)


@on_asyncio
async def test_without_a_gil_a_task_of_another_thread_may_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """That cannot be told, so a waiter looks."""
    backend, task = running_here()
    monkeypatch.setattr(sys.modules[type(backend).__module__], "TASKS_HOLD_STILL", False)
    assert await anyio.to_thread.run_sync(backend.sleeps, task)


def test_a_holder_whom_nobody_awaits_is_a_holder() -> None:
    """The only task above the child is the main one."""
    mutex = Mutex(name="m")

    async def child() -> None:
        async with mutex:
            raise AssertionError("its parent holds it")

    async def main() -> None:
        async with mutex:
            await asyncio.create_task(child())

    with pytest.raises(DeadlockError):
        asyncio.run(main())


def test_what_runs_is_not_asked_what_it_awaits() -> None:
    """CPython 3.11 and 3.12 may crash if it is: one that runs in another thread, say."""
    running: list[Any] = []

    def look() -> list[Any]:
        return list(coroutines_in(running[-1]))

    async def coroutine() -> list[Any]:
        return look()

    def generator() -> Iterator[list[Any]]:
        yield look()

    async def async_generator() -> AsyncIterator[list[Any]]:
        yield look()

    running.append(coroutine())
    with pytest.raises(StopIteration) as end:
        running[-1].send(None)
    assert end.value.value == running[-1:]
    running.append(generator())
    assert next(running[-1]) == running[-1:]
    running.append(async_generator())
    with pytest.raises(StopIteration) as end:
        anext(running[-1]).__await__().send(None)
    assert end.value.value == running[-1:]
