"""ConcurrentMap's guards between tasks: order, transactions, cancellation, deadlocks, and what is left behind."""

from __future__ import annotations

import gc
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asynclocks import (
    Acquisition,
    ConcurrentMap,
    ConcurrentMapStatistics,
    DeadlockError,
    Entry,
    GuardReleasedError,
    KeyLockedError,
    Mutex,
)
from tests.conformance.line import Cancel, Line, both_cancels
from tests.conformance.test_concurrent_map import assert_idle
from tests.conformance.turns import in_turn
from tests.support import collect, on_trio, settle, spawn

Map = ConcurrentMap[str, Any]


async def test_entries_of_one_key_come_in_order_and_other_keys_are_free() -> None:
    m: Map = ConcurrentMap()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: m.entry("a"))
        await line.join("1", "2", "3")
        await line.join("other", enter=lambda: m.entry("b"))
        assert line.log == ["1", "other"]
        assert m.statistics() == ConcurrentMapStatistics(size=0, locked_keys=2, waiting=2)
        await line.let_go("1", "2", "3", "other")
    assert line.log == ["1", "other", "2", "3"]
    assert_idle(m)


async def test_refs_share_and_an_entry_waits_for_all_of_them() -> None:
    """A ref that comes after the entry waits behind it."""
    m: Map = ConcurrentMap({"a": 1})
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: m.ref("a"))
        await line.join("r1", "r2")
        await line.join("w", enter=lambda: m.entry("a"))
        await line.join("r3", "r4")
        assert line.log == ["r1", "r2"]
        with pytest.raises(KeyLockedError):
            m.try_ref("a")
        await line.let_go("r1")
        assert line.log == ["r1", "r2"]
        await line.let_go("r2")
        assert line.log[2:] == ["w"]
        await line.let_go("w")
        assert sorted(line.log) == ["r1", "r2", "r3", "r4", "w"]  # two that wake together wake in any order on trio
        await line.let_go("r3", "r4")
    assert_idle(m)


async def test_increments_of_many_tasks_are_all_there() -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 0})

    async def increment() -> None:
        for _ in range(10):
            async with m.entry("a") as entry:
                value = entry.value
                await anyio.lowlevel.checkpoint()
                entry.value = value + 1

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(increment)
    assert m == {"a": 100}
    assert_idle(m)


async def test_an_entry_commits_at_the_end_of_its_block_and_not_before() -> None:
    m: Map = ConcurrentMap({"a": 1})
    async with m.entry("a") as entry:
        assert isinstance(entry, Entry)
        assert entry.key == "a"
        entry.value += 1
        await anyio.lowlevel.checkpoint()
        assert (entry.value, m["a"]) == (2, 1)
    assert m["a"] == 2
    assert_idle(m)


async def test_an_entry_that_changes_nothing_and_one_that_removes() -> None:
    m: Map = ConcurrentMap({"a": 1})
    async with m.entry("a"):
        pass
    assert m == {"a": 1}
    async with m.entry("a") as entry:
        entry.remove()
    assert m == {}
    assert_idle(m)


async def test_an_entry_whose_block_raises_changes_nothing() -> None:
    m: Map = ConcurrentMap({"a": 1})
    with pytest.raises(ValueError, match="block"):
        async with m.entry("a") as entry:
            entry.value = 2
            raise ValueError("block")
    assert m == {"a": 1}
    assert_idle(m)


@both_cancels
async def test_an_entry_whose_block_is_cancelled_changes_nothing(cancel: Cancel) -> None:
    m: Map = ConcurrentMap({"a": 1})

    async def change() -> None:
        async with m.entry("a") as entry:
            entry.value = 2
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        running = spawn(tasks, change)
        await settle()
        cancel(running)
    assert m == {"a": 1}
    assert_idle(m)


async def test_an_entry_that_others_wait_for_is_a_transaction_all_the_same() -> None:
    """The first is committed, the second raises, the third sees what the first left."""
    m: Map = ConcurrentMap({"a": 1})
    seen: list[int] = []

    async def change(to: int, fail: bool, go: anyio.Event) -> None:
        async with m.entry("a") as entry:
            await go.wait()
            seen.append(entry.value)
            entry.value = to
            if fail:
                raise ValueError

    go = anyio.Event()
    async with anyio.create_task_group() as tasks:
        _, second, _ = await in_turn(
            tasks, partial(change, 2, False, go), partial(change, 3, True, go), partial(change, 4, False, go)
        )
        go.set()
    assert isinstance(second.exception, ValueError)
    assert seen == [1, 2, 2]
    assert m == {"a": 4}
    assert_idle(m)


async def test_a_block_left_after_an_early_release_does_nothing() -> None:
    """Whoever holds the key by then, and whoever came while it was held."""
    m: Map = ConcurrentMap({"a": 1})
    async with m.entry("a") as entry:
        entry.value = 2
        entry.release()
        assert m["a"] == 2
        with pytest.raises(GuardReleasedError):
            entry.release()
        other = m.try_entry("a")
    assert not other.released
    other.release()
    assert_idle(m)


async def test_an_awaited_entry_is_the_callers_to_release() -> None:
    m: Map = ConcurrentMap()
    entry = await m.entry("a")
    entry.value = 1
    assert "a" not in m
    entry.release()
    assert m == {"a": 1}
    with await m.entry("a") as entry:
        entry.value = 2
    assert m == {"a": 2}
    with await m.ref("a") as ref:
        assert ref.value == 2
    assert_idle(m)


async def test_an_acquisition_is_used_once_and_holds_nothing_before() -> None:
    m: Map = ConcurrentMap({"a": 1})
    acquisition = m.entry("a")
    assert isinstance(acquisition, Acquisition)
    assert repr(acquisition).startswith("<entry() of key 'a' of ConcurrentMap at ")
    with pytest.raises(RuntimeError, match="async with"), acquisition:  # type: ignore[attr-defined]
        pass
    with pytest.raises(RuntimeError, match="async with"):
        acquisition.value = 2  # type: ignore[attr-defined]
    assert_idle(m)
    async with acquisition:
        pass
    with pytest.raises(RuntimeError, match="already"):
        await acquisition
    with pytest.raises(RuntimeError, match="already"):
        async with acquisition:
            pass
    assert_idle(m)


async def test_a_block_may_be_left_by_another_task_than_entered_it() -> None:
    """As a fixture's is: the key is free then, and what was changed is there."""
    m: Map = ConcurrentMap({"a": 1})
    stack = AsyncExitStack()
    entered = anyio.Event()

    async def enter() -> None:
        entry = await stack.enter_async_context(m.entry("a"))
        entry.value = 2
        entered.set()
        await settle()

    async with anyio.create_task_group() as tasks:
        spawn(tasks, enter)
        await entered.wait()
        await stack.aclose()
    assert m == {"a": 2}
    assert_idle(m)


@pytest.mark.parametrize("ask", [ConcurrentMap.entry, ConcurrentMap.ref])
async def test_asking_for_a_key_does_not_ask_for_its_repr(ask: Any) -> None:
    """Which may be long, or raise: only messages need it."""

    class Shy:
        def __repr__(self) -> str:
            raise AssertionError

    m: ConcurrentMap[Shy, int] = ConcurrentMap()
    key = Shy()
    m[key] = 1
    async with ask(m, key) as guard:
        assert guard.value == 1
    assert_idle(m)


async def test_an_entry_is_no_barrier_to_a_copy() -> None:
    """The copy has what was committed, and its keys are free."""
    m: Map = ConcurrentMap({"a": 1})
    async with m.entry("a") as entry:
        entry.value = 2
        other = m.copy()
        other["a"] += 10
    assert (m, other) == ({"a": 2}, {"a": 11})


@pytest.mark.parametrize("ask", [lambda m: m.entry("a"), lambda m: m.ref("a")], ids=["entry", "ref"])
async def test_an_acquisition_that_is_dropped_unused_warns(ask: Any) -> None:
    m: Map = ConcurrentMap({"a": 1})
    with pytest.warns(RuntimeWarning, match="never awaited"):  # noqa: PT031 - what warns takes two steps
        ask(m)
        collect()
    assert_idle(m)


async def test_an_entry_is_handed_over_without_a_gap() -> None:
    """A newcomer does not overtake who was waiting: the key is theirs before they wake."""
    m: Map = ConcurrentMap()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: m.entry("a"))
        await line.join("1", "2")
        line.may_leave("1")
        while line["1"].done is False:
            with pytest.raises(KeyLockedError):
                m.try_entry("a")
            with pytest.raises(KeyLockedError):
                m["a"] = 1
            await anyio.lowlevel.checkpoint()
        await line.let_go("2")
    assert_idle(m)


@both_cancels
async def test_a_cancelled_waiter_loses_its_place(cancel: Cancel) -> None:
    m: Map = ConcurrentMap({"a": 1})
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: m.entry("a"))
        await line.join("1", "2", "3")
        cancel(line["2"])
        await settle()
        assert m.statistics().waiting == 1
        await line.let_go("1", "3")
    assert line.log == ["1", "3"]
    assert_idle(m)


@both_cancels
async def test_a_cancelled_writer_lets_the_readers_behind_it_in(cancel: Cancel) -> None:
    m: Map = ConcurrentMap({"a": 1})
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: m.ref("a"))
        await line.join("r1")
        await line.join("w", enter=lambda: m.entry("a"))
        await line.join("r2")
        cancel(line["w"])
        await settle()
        assert line.log == ["r1", "r2"]
        await line.let_go("r1", "r2")
    assert_idle(m)


@both_cancels
async def test_a_grant_that_crosses_a_cancellation_goes_on(cancel: Cancel) -> None:
    m: Map = ConcurrentMap({"a": 1})
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: m.entry("a"))
        holder = await m.entry("a")
        await line.join("1", "2")
        holder.release()
        cancel(line["1"])
        await settle()
        assert line.log[-1] == "2"
        await line.let_go("1", "2")
    assert_idle(m)


async def test_an_abandoned_block_gives_back_and_changes_nothing() -> None:
    """Its coroutine is destroyed in the middle, alone or with somebody waiting."""
    m: Map = ConcurrentMap({"a": 1})

    async def block() -> None:
        async with m.entry("a") as entry:
            entry.value = 2
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()

    if on_trio():
        pytest.skip("trio's awaitables cannot be driven by hand")
    for waiting in (False, True):
        coroutine = block()
        coroutine.send(None)
        assert m.statistics().locked_keys == 1
        if waiting:
            async with anyio.create_task_group() as tasks:
                line = Line(tasks, lambda: m.entry("a"))
                await line.join("1")
                coroutine.close()
                await settle()
                assert line.log == ["1"]
                await line.let_go("1")
        else:
            del coroutine
            gc.collect()
        assert m == {"a": 1}
        assert_idle(m)


async def test_a_dropped_entry_lets_the_next_in_and_changes_nothing() -> None:
    m: Map = ConcurrentMap({"a": 1})
    entry: Any = await m.entry("a")
    entry.value = 2
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: m.entry("a"))
        await line.join("1")
        with pytest.warns(ResourceWarning, match="Entry of key 'a'"):  # noqa: PT031 - what warns takes two steps
            del entry
            collect()
        await settle()
        assert line.log == ["1"]
        await line.let_go("1")
    assert m == {"a": 1}
    assert_idle(m)


async def test_ref_of_a_key_that_appears_while_it_waits() -> None:
    m: Map = ConcurrentMap()
    entry = await m.entry("a")
    async with anyio.create_task_group() as tasks:

        async def read() -> Any:
            async with m.ref("a") as ref:
                return ref.value

        (reader,) = await in_turn(tasks, read)
        entry.value = 1
        entry.release()
    assert reader.result == 1
    assert_idle(m)


async def test_ref_of_an_absent_key_is_a_key_error() -> None:
    m: Map = ConcurrentMap()
    with pytest.raises(KeyError, match="'a'"):
        await m.ref("a")
    with pytest.raises(KeyError, match="'a'"):
        async with m.ref("a"):
            pass
    assert_idle(m)


async def test_or_insert_with_makes_the_value_only_where_there_is_none() -> None:
    m: Map = ConcurrentMap()

    async def make() -> int:
        await anyio.lowlevel.checkpoint()
        return 1

    async with m.entry("a") as entry:
        assert await entry.or_insert_with(make) == 1
        assert await entry.or_insert_with(lambda: 2) == 1
    async with m.entry("b") as entry:
        assert await entry.or_insert_with(lambda: 3) == 3
        entry.release()
        with pytest.raises(GuardReleasedError):
            await entry.or_insert_with(make)
    assert m == {"a": 1, "b": 3}
    assert_idle(m)


async def test_or_insert_with_that_raises_stages_nothing() -> None:
    m: Map = ConcurrentMap()

    async def fail() -> int:
        raise ValueError("init")

    async with m.entry("a") as entry:
        with pytest.raises(ValueError, match="init"):
            await entry.or_insert_with(fail)
        assert entry.is_vacant
    assert m == {}


# --- compute


async def test_compute_replaces_inserts_and_removes() -> None:
    m: Map = ConcurrentMap({"a": 1})

    async def change(to: Any, value: Any) -> Any:
        seen.append(value)
        return to

    seen: list[Any] = []
    assert await m.compute("a", partial(change, 2)) == 2
    assert await m.compute("b", partial(change, 3)) == 3
    assert await m.compute("a", partial(change, None)) is None
    assert await m.compute("a", partial(change, None)) is None
    assert seen == [1, None, 2, None]
    assert m == {"b": 3}
    assert_idle(m)


async def test_compute_runs_one_at_a_time_per_key_in_order() -> None:
    m: Map = ConcurrentMap()

    async def append(name: str, value: str | None) -> str:
        await anyio.lowlevel.checkpoint()
        return (value or "") + name

    async with anyio.create_task_group() as tasks:
        hold = await m.entry("a")
        await in_turn(tasks, *(partial(m.compute, "a", partial(append, name)) for name in "1234"))
        assert await m.compute("b", partial(append, "x")) == "x"
        hold.release()
    assert m == {"a": "1234", "b": "x"}
    assert_idle(m)


@both_cancels
async def test_a_cancelled_or_raising_compute_changes_nothing(cancel: Cancel) -> None:
    m: Map = ConcurrentMap({"a": 1})

    async def fail(_: Any) -> Any:
        raise ValueError("change")

    async def forever(_: Any) -> Any:
        await anyio.sleep_forever()

    with pytest.raises(ValueError, match="change"):
        await m.compute("a", fail)
    async with anyio.create_task_group() as tasks:
        (running,) = await in_turn(tasks, partial(m.compute, "a", forever))
        with pytest.raises(KeyLockedError):
            m["a"] = 2
        cancel(running)
    assert m == {"a": 1}
    assert_idle(m)


# --- deadlocks


async def test_waiting_for_a_key_that_the_task_holds_is_a_deadlock() -> None:
    """Whatever holds it, and whatever asks."""
    m: Map = ConcurrentMap({"a": 1})
    for hold in (m.entry, m.ref):
        async with hold("a"):
            with pytest.raises(DeadlockError, match="key 'a' of ConcurrentMap"):
                await m.entry("a")
            with pytest.raises(DeadlockError, match="key 'a' of ConcurrentMap"):
                await m.compute("a", anyio.sleep)  # type: ignore[arg-type]
    async with m.entry("b"):
        with pytest.raises(DeadlockError, match="key 'b'"):
            await m.get_or_insert_with("b", lambda: 1)
        with pytest.raises(DeadlockError, match="key 'b'"):
            await m.ref("b")
    assert_idle(m)


async def test_a_second_ref_behind_a_waiting_writer_is_a_deadlock() -> None:
    m: Map = ConcurrentMap({"a": 1})
    async with anyio.create_task_group() as tasks:
        async with m.ref("a"):
            line = Line(tasks, lambda: m.entry("a"))
            await line.join("w")
            with pytest.raises(DeadlockError):
                await m.ref("a")
        await settle()
        await line.let_go("w")
    assert_idle(m)


async def test_a_cycle_of_keys_and_locks_is_a_deadlock() -> None:
    m: Map = ConcurrentMap()
    mutex = Mutex(name="m")

    async def one(go: anyio.Event) -> None:
        async with m.entry("a"):
            await go.wait()
            async with mutex:
                pass

    go = anyio.Event()
    async with anyio.create_task_group() as tasks, mutex:
        spawn(tasks, one, go)
        await settle()
        go.set()
        await settle()
        with pytest.raises(DeadlockError) as caught:
            await m.entry("a")
    assert len(caught.value.cycle) == 2
    assert_idle(m)


# --- checkpoints and memory


@pytest.mark.loops("trio")
async def test_on_trio_every_acquisition_is_a_checkpoint_and_honours_a_cancelled_scope() -> None:
    m: Map = ConcurrentMap({"a": 1})

    async def block() -> None:
        async with m.entry("a"):
            pass

    async def ref() -> None:
        async with m.ref("a"):
            pass

    async def change(value: Any) -> Any:
        return value

    uses = {
        "entry": block,
        "ref": ref,
        "hit": partial(m.get_or_insert_with, "a", lambda: 2),
        "miss": partial(m.get_or_insert_with, "b", lambda: 2),
        "compute": partial(m.compute, "a", change),
    }
    import trio.testing

    for use in uses.values():
        with trio.testing.assert_checkpoints():
            await use()
        m.remove("b", None)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await use()
        assert scope.cancelled_caught
        assert m == {"a": 1}
        assert_idle(m)


async def test_on_asyncio_what_is_free_does_not_yield() -> None:
    if on_trio():
        pytest.skip("trio's are checkpoints")
    m: Map = ConcurrentMap({"a": 1})
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with m.entry("a") as entry:
            entry.value += 1
        async with m.ref("a"):
            pass
        await m.get_or_insert_with("a", lambda: 0)
        assert await m.get_or_insert_with("b", lambda: 5) == 5
    assert m == {"a": 2, "b": 5}


async def test_after_much_traffic_only_items_are_left() -> None:
    """Whatever was cancelled, raised, dropped or released early."""
    m: ConcurrentMap[int, int] = ConcurrentMap()

    async def user(number: int) -> None:
        for key in range(20):
            async with m.entry(key) as entry:
                entry.or_insert(number)
                if number % 3 == 0:
                    entry.remove()
                if number % 4 == 0:
                    entry.release()
                await anyio.lowlevel.checkpoint()
                if number % 5 == 0:
                    raise ValueError

    async with anyio.create_task_group() as tasks:
        running = [spawn(tasks, user, number) for number in range(40)]
        await anyio.lowlevel.checkpoint()
        for one in running[::7]:
            one.cancel()
    failed = [one.exception for one in running if one.state == "raised"]
    assert all(isinstance(error, ValueError) for error in failed)
    assert_idle(m)


def test_popitem_skips_however_many_held_keys_are_the_newest() -> None:
    stock = ConcurrentMap([("a", 1), ("b", 2), ("c", 3)])
    with stock.try_entry("b"), stock.try_entry("c"):
        assert stock.popitem() == ("a", 1)
    assert stock == {"b": 2, "c": 3}
