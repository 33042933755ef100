"""Guards: what holding a Mutex allows, and every way a hold can end."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asynclocks import Guard, GuardReleasedError, MappedGuard, Mutex, MutexGuard, TryLockError
from tests.conformance.line import Line
from tests.support import collect, no_collector, settle, spawn

Block = Callable[[Mutex[Any]], AbstractAsyncContextManager[MutexGuard[Any]]]


@asynccontextmanager
async def with_await_lock(mutex: Mutex[Any]) -> AsyncIterator[MutexGuard[Any]]:
    with await mutex.lock() as guard:
        yield guard


@asynccontextmanager
async def with_try_lock(mutex: Mutex[Any]) -> AsyncIterator[MutexGuard[Any]]:
    with mutex.try_lock() as guard:
        yield guard


every_block = pytest.mark.parametrize(
    "block",
    [
        pytest.param(lambda mutex: mutex, id="async with mutex"),
        pytest.param(Mutex.lock, id="async with lock()"),
        pytest.param(Mutex.lock_owned, id="async with lock_owned()"),
        pytest.param(with_await_lock, id="with await lock()"),
        pytest.param(with_try_lock, id="with try_lock()"),
    ],
)


@every_block
async def test_a_guard_holds_until_its_block_ends(block: Block) -> None:
    """Then it is released, and stays so."""
    mutex = Mutex("v")
    async with block(mutex) as guard:
        assert isinstance(guard, Guard)
        assert not guard.released
        assert not guard.recovered
        assert guard.mutex is mutex
        assert mutex.locked()
    assert guard.released
    assert guard.mutex is mutex
    assert not mutex.locked()


@every_block
async def test_a_released_guard_is_good_for_nothing(block: Block) -> None:
    """Reading, writing, mapping, entering and releasing it again raise, and say which lock it was."""
    mutex = Mutex("v", name="m")
    async with block(mutex) as guard:
        guard.release()
        uses: list[Callable[[], object]] = [
            lambda: guard.value,
            lambda: setattr(guard, "value", "w"),
            lambda: guard.map(str.upper),
            guard.release,
            guard.__enter__,
        ]
        for use in uses:
            with pytest.raises(GuardReleasedError, match="MutexGuard of Mutex 'm'"):
                use()
    assert mutex.into_inner() == "v"


@every_block
async def test_a_guard_does_not_come_to_life_again(block: Block) -> None:
    """A later hold of the same mutex is not the old guard's."""
    mutex = Mutex(0)
    async with block(mutex) as old:
        pass
    async with block(mutex):
        assert old.released
        with pytest.raises(GuardReleasedError):
            old.value = 1
        with pytest.raises(GuardReleasedError):
            old.release()
        assert mutex.locked()
    assert mutex.into_inner() == 0


@every_block
async def test_an_error_in_the_block_passes_and_releases(block: Block) -> None:
    """The exit swallows nothing."""
    mutex = Mutex()
    with pytest.raises(ZeroDivisionError):
        async with block(mutex):
            raise ZeroDivisionError
    assert not mutex.locked()


@every_block
async def test_leaving_a_block_after_an_early_release_is_fine(block: Block) -> None:
    """The exit has nothing to do then."""
    mutex = Mutex()
    async with block(mutex) as guard:
        guard.release()
        assert guard.released
        assert not mutex.locked()
    assert not mutex.locked()


# A: in its block            B: queued
# guard.release(): m is B's
#                            runs, in its block
# leaves its block
#                            holds still
@every_block
async def test_an_exit_after_an_early_release_leaves_the_next_holder_alone(block: Block) -> None:
    """Whoever holds the lock by then."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        async with block(mutex) as guard:
            await line.join("b")
            guard.release()
            await settle()
            assert line.log == ["b"]
        assert mutex.locked()
        assert mutex.statistics().owner == "b"
        await line.let_go("b")
    assert not mutex.locked()


@every_block
async def test_an_exit_after_an_early_release_leaves_a_granted_waiter_alone(block: Block) -> None:
    """Also one that was granted and has not run yet."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        async with block(mutex) as guard:
            await line.join("b", "c")
            guard.release()
        assert mutex.statistics().owner == "b"
        await line.let_go("b", "c")
    assert line.log == ["b", "c"]
    assert not mutex.locked()


async def _acquire(mutex: Mutex[Any]) -> Callable[[], None]:
    await mutex.acquire()
    return mutex.release


async def _lock(mutex: Mutex[Any]) -> Callable[[], None]:
    return (await mutex.lock()).release


async def _map(mutex: Mutex[Any]) -> Callable[[], None]:
    return (await mutex.lock()).map(str).release


@pytest.mark.parametrize("take_again", [_acquire, _lock, _map])
@every_block
async def test_an_exit_after_an_early_release_leaves_its_own_task_s_next_hold_alone(
    block: Block, take_again: Callable[[Mutex[Any]], Any]
) -> None:
    """The same task may have taken the lock anew, in whatever way."""
    mutex = Mutex()
    async with block(mutex) as guard:
        guard.release()
        release = await take_again(mutex)
    assert mutex.locked()
    release()
    assert not mutex.locked()


async def test_nested_blocks_of_one_task_each_end_their_own_hold() -> None:
    """Let go early, entered again, let go early again: exits in order have nothing to do."""
    mutex = Mutex()
    async with mutex as outer:
        outer.release()
        async with mutex as middle:
            middle.release()
            async with mutex as inner:
                assert not inner.released
            assert inner.released
            assert not mutex.locked()
        async with mutex:
            assert mutex.locked()
        assert not mutex.locked()
    async with mutex:
        assert mutex.locked()
    assert not mutex.locked()


# A: released early        B: released early        C: in its block
# leaves
#                          leaves
#                                                   holds still
@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_many_early_releases_are_told_apart(order: str) -> None:
    """Each exit belongs to the task that entered, in whatever order they come."""
    mutex = Mutex()
    leave = {name: anyio.Event() for name in "ab"}

    async def release_early(name: str) -> None:
        async with mutex as guard:
            guard.release()
            await leave[name].wait()

    async with anyio.create_task_group() as tasks:
        for name in "ab":
            spawn(tasks, release_early, name)
            await settle()
        line = Line(tasks, lambda: mutex)
        await line.join("c", "d")
        for name in order:
            leave[name].set()
            await settle()
            assert line.log == ["c"]
            assert mutex.statistics().owner == "c"
        await line.let_go("c", "d")
    assert line.log == ["c", "d"]
    assert not mutex.locked()


async def test_an_exit_in_another_task_releases_all_the_same() -> None:
    """Fixtures and exit stacks enter in one task and leave in another."""
    mutex = Mutex()
    stack = AsyncExitStack()
    async with anyio.create_task_group() as tasks:
        spawn(tasks, stack.enter_async_context, mutex)
    assert mutex.locked()
    async with anyio.create_task_group() as tasks:
        spawn(tasks, stack.aclose)
    assert not mutex.locked()


async def test_an_exit_in_another_task_releases_though_somebody_let_go_early_before() -> None:
    """An early release of one block does not swallow the exit of another."""
    mutex = Mutex()
    stack = AsyncExitStack()
    async with anyio.create_task_group() as tasks, mutex as guard:
        guard.release()
        spawn(tasks, stack.enter_async_context, mutex)
        await settle()
        assert mutex.locked()
        spawn(tasks, stack.aclose)
        await settle()
        assert not mutex.locked()
    async with mutex:
        assert mutex.locked()
    assert not mutex.locked()


async def test_an_exit_in_another_task_of_a_block_that_was_let_go_early_is_forgotten() -> None:
    """Afterwards the mutex works as ever."""
    mutex = Mutex()
    stack = AsyncExitStack()

    async def enter() -> None:
        guard = await stack.enter_async_context(mutex)
        guard.release()

    async with anyio.create_task_group() as tasks:
        spawn(tasks, enter)
    await stack.aclose()
    assert not mutex.locked()
    async with mutex:
        assert mutex.locked()
    assert not mutex.locked()


async def test_a_superfluous_exit_does_nothing() -> None:
    """Like a second close."""
    mutex = Mutex()
    await mutex.__aexit__(None, None, None)
    assert not mutex.locked()
    async with mutex:
        assert mutex.locked()
    assert not mutex.locked()


async def test_a_guard_may_be_released_by_another_task() -> None:
    """The guard owns the lock, not the task."""
    mutex = Mutex()

    async def release() -> None:
        guard.release()

    async with mutex as guard:
        async with anyio.create_task_group() as tasks:
            spawn(tasks, release)
        assert not mutex.locked()
    guard = await mutex.lock_owned()
    async with anyio.create_task_group() as tasks:
        spawn(tasks, release)
    assert not mutex.locked()


async def test_a_guard_that_outlives_its_task_holds() -> None:
    """Nothing ends with the task that took it."""
    mutex = Mutex()
    guards: list[MutexGuard[None]] = []

    async def take() -> None:
        guards.append(await mutex.lock())

    async with anyio.create_task_group() as tasks:
        spawn(tasks, take)
    collect()
    assert mutex.locked()
    assert not guards[0].released
    guards[0].release()
    assert not mutex.locked()


# --- map


@every_block
async def test_a_mapped_guard_holds_in_its_origin_s_place(block: Block) -> None:
    """The origin is consumed, the part is read through the mapped guard, and the exit releases that."""
    mutex = Mutex({"a": [1]}, name="m")
    async with block(mutex) as guard:
        mapped: MappedGuard[list[int]] = guard.map(lambda value: value["a"])
        assert guard.released
        assert not mapped.released
        assert not mapped.recovered
        assert mapped.value == [1]
        mapped.value.append(2)
        with pytest.raises(GuardReleasedError):
            assert guard.value
        with pytest.raises(GuardReleasedError):
            guard.release()
        assert mutex.locked()
        assert mutex.statistics().owner in {None, anyio.get_current_task().name}
    assert mapped.released
    with pytest.raises(GuardReleasedError, match="MappedGuard of Mutex 'm'"):
        assert mapped.value
    assert mutex.into_inner() == {"a": [1, 2]}


@every_block
async def test_a_mapped_guard_can_be_mapped_further(block: Block) -> None:
    """Each map consumes the guard before."""
    mutex = Mutex([["x"]])
    async with block(mutex) as guard:
        first = guard.map(lambda value: value[0])
        second = first.map(lambda value: value[0])
        assert first.released
        assert second.value == "x"
        for use in (first.release, lambda: first.value, lambda: first.map(str)):
            with pytest.raises(GuardReleasedError):
                use()
        assert mutex.locked()
    assert second.released
    assert not mutex.locked()


@every_block
async def test_a_mapped_guard_may_be_released_early(block: Block) -> None:
    """The exit of the block leaves the next holder alone then."""
    mutex = Mutex(1)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        async with block(mutex) as guard:
            mapped = guard.map(str).map(int)
            await line.join("b")
            mapped.release()
            with pytest.raises(GuardReleasedError):
                mapped.release()
        await settle()
        assert mutex.statistics().owner == "b"
        await line.let_go("b")
    assert not mutex.locked()


@every_block
async def test_a_projection_that_raises_leaves_the_guard_held(block: Block) -> None:
    """For guards and mapped guards."""
    mutex = Mutex([[]])
    async with block(mutex) as guard:
        with pytest.raises(ZeroDivisionError):
            guard.map(lambda _: 1 / 0)
        assert guard.value == [[]]
        mapped = guard.map(lambda value: value[0])
        with pytest.raises(IndexError):
            mapped.map(lambda value: value[0])
        assert mapped.value == []
        assert mutex.locked()
    assert not mutex.locked()


async def test_a_projection_that_releases_its_own_guard_gets_nothing() -> None:
    """It has only itself to blame, and the lock stays sound."""
    mutex = Mutex(1)

    def release(_: object) -> None:
        guard.release()

    async with mutex as guard:
        with pytest.raises(GuardReleasedError):
            guard.map(release)
    guard = await mutex.lock()
    with pytest.raises(GuardReleasedError):
        guard.map(release)
    assert not mutex.locked()


async def test_projections_see_the_value_at_once() -> None:
    """The projection runs inside map, once."""
    calls: list[int] = []
    async with Mutex(1) as guard:
        guard.map(calls.append)
        assert calls == [1]
    mapped = guard.mutex.try_lock().map(calls.append)
    with pytest.raises(GuardReleasedError):
        guard.map(calls.append)
    assert calls == [1, 1]
    mapped.release()


async def test_the_part_of_a_mapped_guard_cannot_be_set() -> None:
    """Reading gives the part; setting it is refused."""
    async with Mutex([1]) as guard:
        mapped = guard.map(lambda value: value[0])
        with pytest.raises(AttributeError):
            mapped.value = 2  # type: ignore[misc]


async def test_a_mapped_guard_is_a_context_manager() -> None:
    """`with guard.map(…) as part:` releases at its end."""
    mutex = Mutex([1])
    with (await mutex.lock()).map(len) as mapped:
        assert mapped.value == 1
        inner = mapped.map(str)
    assert inner.released
    assert not mutex.locked()
    with pytest.raises(GuardReleasedError):
        mapped.__enter__()


async def test_release_spelled_as_in_other_locks_refuses_a_mapped_guard_s_hold() -> None:
    """It is the guard's."""
    mutex = Mutex([1])
    async with mutex as guard:
        guard.map(len)
        with pytest.raises(RuntimeError, match="guard"):
            mutex.release()
    with mutex.try_lock() as guard:
        guard.map(len)
        with pytest.raises(RuntimeError, match="guard"):
            mutex.release()
    assert not mutex.locked()


# --- dropped


@pytest.mark.parametrize("take", ["lock", "lock_owned", "try_lock", "map", "map twice"])
async def test_a_dropped_loose_guard_warns_and_releases(take: str) -> None:
    """Forgetting a guard is a bug that costs a warning, not a hang."""
    mutex = Mutex("v", name="m")

    async def drop() -> None:
        if take == "try_lock":
            mutex.try_lock()
        elif take == "map":
            mutex.try_lock().map(str)
        elif take == "map twice":
            (await mutex.lock()).map(str).map(str)
        else:
            await getattr(mutex, take)()

    with pytest.warns(ResourceWarning, match=r"MutexGuard of Mutex 'm' was dropped.*async with") as caught:
        await drop()
    assert len(caught) == 1
    assert not mutex.locked()


async def test_a_dropped_guard_lets_the_next_one_in() -> None:
    """Its release serves the line."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        guards = [mutex.try_lock()]
        await line.join("b")
        with pytest.warns(ResourceWarning, match="was dropped"):
            guards.clear()
        await settle()
        assert line.log == ["b"]
        await line.let_go("b")


class Knot:
    """Keeps something in a reference cycle, so that only the collector frees it."""

    def __init__(self, kept: object) -> None:
        self.kept = kept
        self.knot = self


async def test_a_guard_in_a_reference_cycle_is_released_by_the_collector() -> None:
    """And the loop, which may sleep, is woken for the next in line."""
    mutex = Mutex()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: mutex)
        with no_collector():
            Knot(mutex.try_lock())
            await line.join("b")
            with pytest.warns(ResourceWarning, match="was dropped"):
                collect()
        await settle()
        assert line.log == ["b"]
        await line.let_go("b")


@every_block
async def test_a_block_holds_though_nobody_keeps_what_its_guard_was_turned_into(block: Block) -> None:
    """The exit releases it, and not the end of the mapped guard's last reference."""
    mutex = Mutex("v")
    async with block(mutex) as guard:
        assert guard.map(str).map(len).value == 1
        del guard
        collect()
        assert mutex.locked()
    assert not mutex.locked()


@every_block
async def test_a_guard_that_was_released_is_dropped_in_silence(block: Block) -> None:
    """By its block, early, or by what it was turned into (warnings are errors here)."""
    mutex = Mutex("v")
    async with block(mutex):
        pass
    async with block(mutex) as guard:
        guard.release()
    async with block(mutex) as guard:
        guard.map(str).map(str)
    del guard
    collect()
    assert not mutex.locked()


async def test_the_guard_of_a_block_need_not_be_kept() -> None:
    """`async with mutex:` holds though nobody keeps the guard."""
    mutex = Mutex()
    async with mutex:
        collect()
        assert mutex.locked()
        with pytest.raises(TryLockError):
            mutex.try_lock()
    async with mutex.lock():
        collect()
        assert mutex.locked()
    assert not mutex.locked()


async def test_a_value_s_finalizer_may_use_the_mutex() -> None:
    """Replacing the value drops the old one where nothing of the lock is in the middle of anything."""

    class Final:
        def __del__(self) -> None:
            seen.append(mutex.locked())
            with pytest.raises(TryLockError):
                mutex.try_lock()

    seen: list[bool] = []
    mutex: Mutex[object] = Mutex(Final())
    async with mutex as guard:
        guard.value = Final()
    with mutex.try_lock() as guard:
        guard.value = None
    assert seen == [True, True]
    assert not mutex.locked()


# --- the rest


@every_block
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_guards_refuse_to_be_copied(block: Block, copier: Callable[[object], object]) -> None:
    """Only one may hold it."""
    async with block(Mutex(name="m")) as guard:
        with pytest.raises(TypeError, match="Mutex 'm'"):
            copier(guard)
        with pytest.raises(TypeError, match="Mutex 'm'"):
            copier(guard.map(str))


@every_block
async def test_repr_tells_the_lock_and_whether_it_holds(block: Block) -> None:
    """By public names."""
    async with block(Mutex(name="m")) as guard:
        assert repr(guard) == "<MutexGuard of Mutex 'm'>"
        mapped = guard.map(str)
        assert repr(guard) == "<MutexGuard of Mutex 'm', released>"
        assert repr(mapped) == "<MappedGuard of Mutex 'm'>"
    assert repr(mapped) == "<MappedGuard of Mutex 'm', released>"


@every_block
async def test_a_guard_may_be_entered_inside_its_block(block: Block) -> None:
    """The inner block releases, and the outer one's exit has nothing to do."""
    mutex = Mutex()
    async with block(mutex) as guard:
        with guard as same:
            assert same is guard
            assert mutex.locked()
        assert not mutex.locked()
        other = mutex.try_lock()
    assert mutex.locked()
    other.release()
    assert not mutex.locked()


async def test_a_guard_may_be_entered_and_left_by_hand() -> None:
    """`with guard:` releases at its end, once."""
    mutex = Mutex()
    guard = await mutex.lock()
    with guard as entered:
        assert entered is guard
    assert guard.released
    with pytest.raises(GuardReleasedError), guard:
        pytest.fail("released")
    assert not mutex.locked()
