"""ConcurrentMap's single flight: one run for all, its failure, its hand-over, and who waits for its end."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asynclocks import ConcurrentMap, ConcurrentMapStatistics, DeadlockError, KeyLockedError, OnceCell
from tests.conformance.line import Cancel, Line, both_cancels
from tests.conformance.test_concurrent_map import assert_idle
from tests.conformance.test_once import Init, never
from tests.conformance.turns import in_turn
from tests.support import Running, collect, on_trio, settle, spawn

Map = ConcurrentMap[str, Any]


class Stop(BaseException):
    """No Exception: as good as a cancellation."""


async def test_a_value_that_is_present_runs_nothing() -> None:
    m: Map = ConcurrentMap({"a": 1, "none": None})
    assert await m.get_or_insert_with("a", never) == 1
    assert await m.get_or_insert_with("none", never) is None
    async with m.entry("a") as entry:
        entry.value = 2
        assert await m.get_or_insert_with("a", never) == 1


async def test_an_init_may_be_a_function_or_a_coroutine_function() -> None:
    """What it returns is awaited if it can be; None is a value."""
    m: Map = ConcurrentMap()

    async def make() -> int:
        await anyio.lowlevel.checkpoint()
        return 1

    assert await m.get_or_insert_with("a", make) == 1
    assert await m.get_or_insert_with("b", lambda: 2) == 2
    assert await m.get_or_insert_with("c", lambda: make()) == 1  # noqa: PLW0108 - no coroutine function itself
    assert await m.get_or_insert_with("d", lambda: None) is None
    assert m == {"a": 1, "b": 2, "c": 1, "d": None}
    assert_idle(m)


async def test_many_callers_share_one_run() -> None:
    m: Map = ConcurrentMap()
    init = Init()
    async with anyio.create_task_group() as tasks:
        callers = [spawn(tasks, m.get_or_insert_with, "a", init) for _ in range(100)]
        await settle()
        assert m.statistics() == ConcurrentMapStatistics(size=0, locked_keys=1, waiting=99)
        init.end.set()
    assert {caller.result for caller in callers} == {"made"}
    assert init.runs == 1
    assert m == {"a": "made"}
    assert_idle(m)


async def test_different_keys_run_side_by_side() -> None:
    m: Map = ConcurrentMap()
    inits = {key: Init(key) for key in "abc"}
    async with anyio.create_task_group() as tasks:
        for key, init in inits.items():
            spawn(tasks, m.get_or_insert_with, key, init)
        await settle()
        assert [init.runs for init in inits.values()] == [1, 1, 1]
        for init in inits.values():
            init.end.set()
    assert m == {"a": "a", "b": "b", "c": "c"}


async def test_a_failure_is_one_exception_for_all_who_wait_and_is_not_stored() -> None:
    m: Map = ConcurrentMap()
    failing = Init(failure=ValueError("init"))
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(m.get_or_insert_with, "a", failing) for _ in range(3)))
        failing.end.set()
        await settle()
        assert {caller.exception for caller in callers} == {failing.failure}
        assert "a" not in m
        assert_idle(m)
    assert await m.get_or_insert_with("a", lambda: 1) == 1


async def test_a_function_that_raises_at_once_fails_its_caller_only() -> None:
    m: Map = ConcurrentMap()

    def fail() -> int:
        raise ValueError("init")

    for _ in range(2):
        with pytest.raises(ValueError, match="init"):
            await m.get_or_insert_with("a", fail)
        assert_idle(m)


async def test_a_shared_failure_does_not_grow_a_traceback_per_caller() -> None:
    m: Map = ConcurrentMap()
    failing = Init(failure=ValueError("init"))
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(m.get_or_insert_with, "a", failing) for _ in range(20)))
        failing.end.set()
        await settle()
        error = callers[-1].exception
        assert all(caller.exception is error for caller in callers)
    traceback, depth = error and error.__traceback__, 0
    while traceback is not None:
        traceback, depth = traceback.tb_next, depth + 1
    assert depth < 12


async def test_a_failure_is_kept_by_nobody() -> None:
    """Neither by the map nor by a cycle."""
    m: Map = ConcurrentMap()
    if on_trio():
        pytest.skip("trio's nursery refers to its children's frames")
    gc.collect()
    gc.disable()
    try:

        class Failure(ValueError):
            pass

        async def caller() -> weakref.ref[Failure]:
            async def fail() -> None:
                await anyio.lowlevel.checkpoint()
                raise Failure

            try:
                await m.get_or_insert_with("a", fail)
            except Failure as error:
                return weakref.ref(error)
            raise AssertionError

        async with anyio.create_task_group() as tasks:
            callers = [spawn(tasks, caller) for _ in range(3)]
        failures = [one.result for one in callers]
        await anyio.lowlevel.checkpoint()
        assert [failure() for failure in failures] == [None] * 3
    finally:
        gc.enable()


@both_cancels
async def test_a_cancelled_leader_hands_the_run_to_the_next(cancel: Cancel) -> None:
    """The key stays held all the time, and the others share the second run."""
    m: Map = ConcurrentMap()
    inits = [Init("first"), Init("second"), Init("third")]
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(m.get_or_insert_with, "a", init) for init in inits))
        cancel(callers[0])
        await settle()
        assert [init.runs for init in inits] == [1, 1, 0]
        with pytest.raises(KeyLockedError):
            m["a"] = 1
        inits[1].end.set()
    assert callers[0].cancelled
    assert [caller.result for caller in callers[1:]] == ["second", "second"]
    assert inits[2].runs == 0
    assert_idle(m)


@both_cancels
async def test_a_cancelled_follower_costs_nobody_anything(cancel: Cancel) -> None:
    m: Map = ConcurrentMap()
    init = Init()
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(m.get_or_insert_with, "a", init) for _ in range(3)))
        cancel(callers[1])
        await settle()
        assert m.statistics().waiting == 1
        init.end.set()
    assert [callers[0].result, callers[2].result] == ["made", "made"]
    assert callers[1].cancelled
    assert init.runs == 1
    assert_idle(m)


@both_cancels
async def test_a_follower_cancelled_as_the_value_comes_costs_nobody_anything(cancel: Cancel) -> None:
    """Woken with the value and cancelled in the same tick."""
    m: Map = ConcurrentMap()
    init = Init()
    followers: list[Running[Any]] = []

    async def lead() -> Any:
        value = await m.get_or_insert_with("a", init)
        cancel(followers[0])
        return value

    async with anyio.create_task_group() as tasks:
        leader = spawn(tasks, lead)
        await settle()
        followers += await in_turn(tasks, *(partial(m.get_or_insert_with, "a", never) for _ in range(2)))
        init.end.set()
    assert leader.result == followers[1].result == "made"
    assert followers[0].cancelled or followers[0].result == "made"
    assert m == {"a": "made"}
    assert_idle(m)


@both_cancels
async def test_a_hand_over_that_crosses_a_cancellation_goes_on(cancel: Cancel) -> None:
    """The second gets the run and is cancelled in the same tick: the third runs."""
    m: Map = ConcurrentMap()
    inits = [Init("first"), Init("second"), Init("third")]
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(m.get_or_insert_with, "a", init) for init in inits))
        cancel(callers[0])
        cancel(callers[1])
        await settle()
        inits[1].end.set()
        inits[2].end.set()
    assert callers[2].result in {"second", "third"}
    assert_idle(m)


async def test_when_all_callers_are_cancelled_the_key_is_free() -> None:
    m: Map = ConcurrentMap()
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(m.get_or_insert_with, "a", Init()) for _ in range(3)))
        for caller in reversed(callers):
            caller.cancel()
            await settle()
        assert_idle(m)
        m["a"] = 1


async def test_what_is_no_exception_counts_as_a_cancellation() -> None:
    """The caller gets it, the next runs its own."""
    m: Map = ConcurrentMap()
    stopping = Init(failure=Stop())

    async def caller() -> str:
        try:
            return str(await m.get_or_insert_with("a", stopping))
        except Stop:
            return "stopped"

    async with anyio.create_task_group() as tasks:
        first, second = await in_turn(tasks, caller, partial(m.get_or_insert_with, "a", lambda: "made"))
        stopping.end.set()
    assert (first.result, second.result) == ("stopped", "made")
    assert_idle(m)


@both_cancels
async def test_killing_the_leader_a_thousand_times_in_a_row_never_strands_a_follower(cancel: Cancel) -> None:
    """Each of them is killed in the middle of its init; the one that is left makes the value."""
    m: Map = ConcurrentMap()
    leaders: list[int] = []

    async def forever(number: int) -> Any:
        leaders.append(number)
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        callers = [spawn(tasks, m.get_or_insert_with, "a", partial(forever, number)) for number in range(1000)]
        await settle()  # trio starts tasks in any order
        last = spawn(tasks, m.get_or_insert_with, "a", lambda: "made")
        await settle()
        for killed in range(1, 1000):
            cancel(callers[leaders[-1]])
            while len(leaders) == killed:
                await anyio.lowlevel.checkpoint()
        assert sorted(leaders) == list(range(1000))
        assert not last.done
        cancel(callers[leaders[-1]])
    assert all(caller.cancelled for caller in callers)
    assert last.result == "made"
    assert_idle(m)


@both_cancels
async def test_killing_all_leaders_to_be_at_once_strands_nobody(cancel: Cancel) -> None:
    """Each is cancelled in the tick in which it gets the run."""
    m: Map = ConcurrentMap()
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(m.get_or_insert_with, "a", Init()) for _ in range(20)))
        (last,) = await in_turn(tasks, partial(m.get_or_insert_with, "a", lambda: "made"))
        for caller in callers:
            cancel(caller)
    assert all(caller.cancelled for caller in callers)
    assert last.result == "made"
    assert_idle(m)


async def test_an_init_that_raises_stop_iteration_is_a_runtime_error_for_all() -> None:
    """As everywhere: StopIteration cannot come out of a coroutine."""
    m: Map = ConcurrentMap()

    def stop() -> Any:
        raise StopIteration

    entry = await m.entry("a")
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *[partial(m.get_or_insert_with, "a", stop)] * 2)
        entry.release()
        await settle()
        assert [type(caller.exception) for caller in callers] == [RuntimeError, RuntimeError]
    assert_idle(m)


# --- the key meanwhile


async def test_a_running_init_holds_its_key_and_no_other() -> None:
    m: Map = ConcurrentMap()
    init = Init()
    async with anyio.create_task_group() as tasks:
        await in_turn(tasks, partial(m.get_or_insert_with, "a", init))
        for refused in (
            partial(m.insert, "a", 1),
            partial(m.setdefault, "a", 1),
            partial(m.remove, "a", None),
            partial(m.try_entry, "a"),
            partial(m.try_ref, "a"),
        ):
            with pytest.raises(KeyLockedError, match="'a'"):
                refused()
        m.update(b=1)
        m.clear()
        assert m == {}
        init.end.set()
    assert m == {"a": "made"}


async def test_entries_asked_for_meanwhile_wait_for_the_runs_end() -> None:
    """Also while it is handed on."""
    m: Map = ConcurrentMap()
    inits = [Init("first"), Init("second")]
    async with anyio.create_task_group() as tasks:
        (first,) = await in_turn(tasks, partial(m.get_or_insert_with, "a", inits[0]))
        line = Line(tasks, lambda: m.entry("a"))
        await line.join("entry")
        await in_turn(tasks, partial(m.get_or_insert_with, "a", inits[1]))
        first.cancel()
        await settle()
        assert line.log == []
        inits[1].end.set()
        await settle()
        assert line.log == ["entry"]
        assert m == {"a": "second"}
        await line.let_go("entry")
    assert_idle(m)


async def test_a_flight_waits_for_the_entry_that_holds_its_key() -> None:
    """And has no need to run if that inserts; all callers are told, in front of who waits behind them."""
    m: Map = ConcurrentMap()
    entry = await m.entry("a")
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(m.get_or_insert_with, "a", never) for _ in range(3)))
        assert m.statistics() == ConcurrentMapStatistics(size=0, locked_keys=1, waiting=3)
        line = Line(tasks, lambda: m.entry("a"))
        await line.join("behind")
        assert m.statistics().waiting == 4
        entry.value = 1
        entry.release()
        await settle()
        assert [caller.result for caller in callers] == [1, 1, 1]
        await line.let_go("behind")
    assert_idle(m)


async def test_callers_behind_another_waiter_have_the_value_as_soon_as_it_is_there() -> None:
    """They only read, and reading waits for nobody."""
    m: Map = ConcurrentMap()
    entry = await m.entry("a")
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: m.entry("a"))
        await line.join("before")
        (caller,) = await in_turn(tasks, partial(m.get_or_insert_with, "a", never))
        entry.value = 1
        entry.release()
        await settle()
        assert line.log == ["before"]
        assert caller.result == 1
        await line.let_go("before")
    assert_idle(m)


async def test_a_flight_runs_when_the_entry_before_it_inserts_nothing() -> None:
    m: Map = ConcurrentMap()
    entry = await m.entry("a")
    init = Init()
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(m.get_or_insert_with, "a", init) for _ in range(2)))
        assert init.runs == 0
        entry.release()
        await settle()
        assert init.runs == 1
        init.end.set()
    assert [caller.result for caller in callers] == ["made", "made"]
    assert_idle(m)


@both_cancels
async def test_a_flight_that_loses_all_its_callers_leaves_the_line(cancel: Cancel) -> None:
    """Before it was its turn; the first caller's place is kept by those who came later."""
    m: Map = ConcurrentMap()
    entry = await m.entry("a")
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(m.get_or_insert_with, "a", Init(name)) for name in "12"))
        line = Line(tasks, lambda: m.entry("a"))
        await line.join("behind")
        cancel(callers[0])
        await settle()
        assert m.statistics().waiting == 2
        cancel(callers[1])
        await settle()
        assert m.statistics().waiting == 1
        entry.release()
        await settle()
        assert line.log == ["behind"]
        await line.let_go("behind")
    assert_idle(m)


async def test_a_flights_place_outlives_the_caller_that_took_it() -> None:
    m: Map = ConcurrentMap()
    entry = await m.entry("a")
    async with anyio.create_task_group() as tasks:
        first, second = await in_turn(
            tasks, partial(m.get_or_insert_with, "a", Init()), partial(m.get_or_insert_with, "a", lambda: "made")
        )
        line = Line(tasks, lambda: m.entry("a"))
        await line.join("behind")
        first.cancel()
        entry.release()
        await settle()
        assert second.result == "made"
        await line.let_go("behind")
    assert_idle(m)


async def test_a_new_flight_takes_off_while_an_old_ones_key_is_still_in_use() -> None:
    m: Map = ConcurrentMap()
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: m.entry("a"))
        init = Init()
        (first,) = await in_turn(tasks, partial(m.get_or_insert_with, "a", init))
        await line.join("between")
        init.failure = ValueError("init")
        init.end.set()
        await settle()
        assert isinstance(first.exception, ValueError)
        assert line.log == ["between"]
        (second,) = await in_turn(tasks, partial(m.get_or_insert_with, "a", lambda: 2))
        await line.let_go("between")
        await settle()
        assert second.result == 2
    assert_idle(m)


async def test_an_init_may_use_the_map() -> None:
    m: Map = ConcurrentMap()

    async def make() -> int:
        m["b"] = 1
        async with m.entry("c") as entry:
            entry.value = 2
        return int(await m.get_or_insert_with("d", lambda: 3)) + m["b"] + m["c"]

    assert await m.get_or_insert_with("a", make) == 6
    assert_idle(m)


# --- deadlocks


async def test_an_init_that_waits_for_its_own_key_is_a_deadlock() -> None:
    """By any way; everybody who waits for the run is told."""
    m: Map = ConcurrentMap()

    async def enter() -> None:
        async with m.entry("a"):
            pass

    async def read() -> None:
        async with m.ref("a"):
            pass

    async def change(value: Any) -> Any:
        return value

    for wait in (
        partial(m.get_or_insert_with, "a", never),
        enter,
        read,
        partial(m.compute, "a", change),
    ):
        with pytest.raises(DeadlockError, match="key 'a' of ConcurrentMap"):
            await m.get_or_insert_with("a", wait)
        assert_idle(m)


async def test_two_inits_that_wait_for_each_others_keys_are_a_deadlock() -> None:
    m: Map = ConcurrentMap()
    go = anyio.Event()

    async def make(other: str) -> str:
        await go.wait()
        return str(await m.get_or_insert_with(other, lambda: "own"))

    async with anyio.create_task_group() as tasks:
        callers = await in_turn(
            tasks,
            partial(m.get_or_insert_with, "a", partial(make, "b")),
            partial(m.get_or_insert_with, "b", partial(make, "a")),
        )
        go.set()
    # One sees the cycle; the other waited for its run, and gets what that ended with.
    assert isinstance(callers[0].exception, DeadlockError)
    assert callers[0].exception is callers[1].exception
    assert_idle(m)


async def test_a_cycle_through_a_cell_a_key_and_a_flight_is_a_deadlock() -> None:
    m: Map = ConcurrentMap()
    cell: OnceCell[str] = OnceCell()
    go = anyio.Event()

    async def through_the_key() -> str:
        await go.wait()
        return str(await m.get_or_insert_with("a", lambda: "made"))

    async def through_the_cell() -> str:
        async with m.entry("a"):
            await go.wait()
            return await cell.get_or_init(lambda: "own")

    async with anyio.create_task_group() as tasks:
        first, second = await in_turn(tasks, partial(cell.get_or_init, through_the_key), through_the_cell)
        go.set()
    outcomes = [first.exception, second.exception]
    assert any(isinstance(outcome, DeadlockError) for outcome in outcomes)
    assert_idle(m)


async def test_an_abandoned_leader_hands_the_run_on() -> None:
    """Its coroutine is destroyed in the middle of its init."""
    if on_trio():
        pytest.skip("trio's awaitables cannot be driven by hand")
    m: Map = ConcurrentMap()

    async def forever() -> Any:
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()

    leader = m.get_or_insert_with("a", forever)
    leader.send(None)
    async with anyio.create_task_group() as tasks:
        (caller,) = await in_turn(tasks, partial(m.get_or_insert_with, "a", lambda: "made"))
        assert not caller.done
        del leader
        collect()
        await settle()
        assert caller.result == "made"
    assert_idle(m)
