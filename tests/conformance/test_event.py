"""Event: a flag that is set and cleared, and that tasks wait for."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from asynclocks import Event, EventStatistics
from tests.conformance.line import Cancel, both_cancels
from tests.conformance.turns import in_turn
from tests.support import on_trio, settle, spawn


async def test_a_set_lets_go_everybody_who_waits() -> None:
    """And nobody before it."""
    event = Event()
    async with anyio.create_task_group() as tasks:
        waiting = await in_turn(tasks, event.wait, event.wait, event.wait)
        assert event.statistics() == EventStatistics(waiting=3, set=False)
        assert not any(task.done for task in waiting)
        event.set()
        assert event.statistics() == EventStatistics(waiting=0, set=True)
        await settle()
        assert all(task.result is None for task in waiting)


async def test_a_set_flag_is_not_waited_for() -> None:
    """Until it is cleared."""
    event = Event()
    assert not event.is_set()
    event.set()
    assert event.is_set()
    await event.wait()
    event.clear()
    assert not event.is_set()
    async with anyio.create_task_group() as tasks:
        (waiter,) = await in_turn(tasks, event.wait)
        assert not waiter.done
        event.set()


async def test_a_clear_right_after_the_set_keeps_nobody_who_waited() -> None:
    """Those who waited at the set go on; those who come after the clear wait for the next one."""
    event = Event()
    async with anyio.create_task_group() as tasks:
        early = await in_turn(tasks, event.wait, event.wait)
        event.set()
        event.clear()
        late = spawn(tasks, event.wait)
        await settle()
        assert all(task.done for task in early)
        assert not late.done
        assert event.statistics() == EventStatistics(waiting=1, set=False)
        event.set()


async def test_setting_and_clearing_again_changes_nothing() -> None:
    """Either is idempotent."""
    event = Event()
    event.clear()
    for _ in range(2):
        event.set()
    await event.wait()
    for _ in range(2):
        event.clear()
    assert event.statistics() == EventStatistics(waiting=0, set=False)


async def test_a_wait_that_began_before_a_set_and_a_clear_does_not_join_those_after() -> None:
    """Whoever was about to stand in line when both came is let go, though others stand there by then.

    late: looks at the flag    other: set(), clear(), wait(): stands in line    late: stands in line
    """

    class LateEvent(Event):
        async def _acquire(self, request: Any = None, **rest: Any) -> Any:
            await passed.wait()
            return await super()._acquire(request, **rest)

    event, passed = LateEvent(), anyio.Event()
    async with anyio.create_task_group() as tasks:
        (late,) = await in_turn(tasks, event.wait)
        event.set()
        event.clear()
        other = spawn(tasks, Event._acquire, event, event._generation)
        await settle()
        passed.set()
        await settle()
        assert late.done
        assert not other.done
        event.set()


@both_cancels
async def test_a_cancelled_waiter_leaves_and_the_others_stay(cancel: Cancel) -> None:
    """Nothing of it is left behind."""
    event = Event()
    async with anyio.create_task_group() as tasks:
        first, middle, last = await in_turn(tasks, event.wait, event.wait, event.wait)
        cancel(middle)
        await settle()
        assert middle.cancelled
        assert event.statistics() == EventStatistics(waiting=2, set=False)
        event.set()
        await settle()
        assert first.result is last.result is None


@both_cancels
async def test_a_waiter_cancelled_as_the_flag_is_set_raises_alone(cancel: Cancel) -> None:
    """The others were let go all the same; on trio, who was rescheduled already goes on, too."""
    event = Event()
    async with anyio.create_task_group() as tasks:
        first, second = await in_turn(tasks, event.wait, event.wait)
        event.set()
        cancel(first)
        await settle()
        assert first.done
        assert second.result is None
        assert event.statistics() == EventStatistics(waiting=0, set=True)


@pytest.mark.parametrize("flag", [False, True])
async def test_a_cancelled_scope_raises_on_trio_also_if_the_flag_is_set(flag: bool) -> None:
    """A wait is a checkpoint there; elsewhere only a wait notices the cancellation."""
    event = Event()
    if flag:
        event.set()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await event.wait()
    assert scope.cancelled_caught == (on_trio() or not flag)
    assert event.statistics().waiting == 0


async def test_a_wait_for_a_set_flag_yields_on_trio_only() -> None:
    """It passes a checkpoint there, and does not yield on the others."""
    event = Event()
    event.set()
    steps: list[str] = []

    async def other() -> None:
        steps.append("other")

    async with anyio.create_task_group() as tasks:
        spawn(tasks, other)
        before = len(steps)  # an eager task has run already
        for _ in range(50):  # trio shuffles whose step is next
            await event.wait()
        assert (len(steps) > before) == on_trio()


def test_repr_tells_the_flag_and_how_many_wait() -> None:
    """In words."""
    event = Event()
    assert repr(event).endswith(" not set>")
    event.set()
    assert repr(event) == f"<Event at {id(event):#x} set>"


async def test_repr_tells_how_many_wait() -> None:
    """While somebody does."""
    event = Event()
    async with anyio.create_task_group() as tasks:
        await in_turn(tasks, event.wait, event.wait)
        assert repr(event).endswith(" not set, 2 waiting>")
        event.set()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_events_refuse_to_be_copied(copied: Callable[[Any], Any]) -> None:
    """As threading.Lock does."""
    with pytest.raises(TypeError, match="cannot pickle or copy"):
        copied(Event())
