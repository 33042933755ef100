"""Barrier: a meeting point, again and again."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asynclocks import Barrier, BarrierWaitResult
from tests.conformance.line import Cancel, both_cancels
from tests.conformance.turns import in_turn
from tests.support import on_trio, settle, spawn


def leaders(tasks: list[Any]) -> list[bool]:
    return [task.result.is_leader for task in tasks]


async def test_nobody_goes_on_before_the_last_arrives() -> None:
    """Then all do."""
    barrier = Barrier(3)
    assert barrier.parties == 3
    async with anyio.create_task_group() as tasks:
        early = await in_turn(tasks, barrier.wait, barrier.wait)
        assert barrier.waiting == 2
        assert not any(task.done for task in early)
        last = spawn(tasks, barrier.wait)
    assert barrier.waiting == 0
    assert leaders([*early, last]) == [False, False, True]


@pytest.mark.parametrize("parties", [2, 3, 10])
async def test_each_round_has_one_leader_the_last_to_arrive(parties: int) -> None:
    """The barrier is as new after each."""
    barrier = Barrier(parties)
    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            arrived = await in_turn(tasks, *[barrier.wait] * parties)
        assert leaders(arrived) == [False] * (parties - 1) + [True]
        assert barrier.waiting == 0


async def test_more_tasks_than_parties_make_several_rounds() -> None:
    """The surplus waits for the next one."""
    barrier = Barrier(2)
    async with anyio.create_task_group() as tasks:
        arrived = await in_turn(tasks, *[barrier.wait] * 5)
        assert leaders(arrived[:4]) == [False, True] * 2
        assert barrier.waiting == 1
        spawn(tasks, barrier.wait)


async def test_a_fast_task_cannot_enter_the_round_it_has_left() -> None:
    """Who loops to the next round first does not rob a slower one of the present round."""
    barrier = Barrier(3)
    rounds: list[int] = []

    async def loop() -> int:
        led = 0
        for number in range(10):
            led += (await barrier.wait()).is_leader
            rounds.append(number)
        return led

    async with anyio.create_task_group() as tasks:
        loops = [spawn(tasks, loop) for _ in range(3)]
    assert rounds == sorted(rounds)
    assert sum(task.result for task in loops) == 10


@pytest.mark.parametrize("parties", [0, 1])
async def test_one_party_never_waits_and_leads(parties: int) -> None:
    """Zero behaves as one."""
    barrier = Barrier(parties)
    assert barrier.parties == 1
    for _ in range(2):
        assert await barrier.wait() == BarrierWaitResult(is_leader=True)
    assert barrier.waiting == 0


def test_negative_parties_are_refused() -> None:
    """And what is no integer."""
    with pytest.raises(ValueError, match="negative"):
        Barrier(-1)
    with pytest.raises(TypeError):
        Barrier(1.5)  # type: ignore[arg-type]


@both_cancels
@pytest.mark.parametrize("leaving", [0, 1])
async def test_a_cancelled_waiter_un_arrives(leaving: int, cancel: Cancel) -> None:
    """The round needs another one in its place."""
    barrier = Barrier(3)
    async with anyio.create_task_group() as tasks:
        arrived = await in_turn(tasks, barrier.wait, barrier.wait)
        cancelled = arrived.pop(leaving)
        cancel(cancelled)  # type: ignore[arg-type]
        await settle()
        assert cancelled.cancelled
        assert barrier.waiting == 1
        arrived += await in_turn(tasks, barrier.wait)
        assert not any(task.done for task in arrived)
        arrived += await in_turn(tasks, barrier.wait)
    assert leaders(arrived) == [False, False, True]


@both_cancels
async def test_a_round_that_was_complete_counts_although_one_is_cancelled(cancel: Cancel) -> None:
    """The others go on, the cancelled one just raises (on trio it goes on too), the next round is whole.

    last: arrives, lets a and b go; last cancels a; a raises
    """
    barrier = Barrier(3)
    async with anyio.create_task_group() as tasks:
        a, b = await in_turn(tasks, barrier.wait, barrier.wait)
        if on_trio():  # its arrivals yield: cancel from outside as soon as the round is complete
            last = spawn(tasks, barrier.wait)
            while barrier.waiting:
                await anyio.lowlevel.checkpoint()
            cancel(a)  # type: ignore[arg-type]
            await settle()
            assert last.result.is_leader
        else:
            assert (await barrier.wait()).is_leader
            cancel(a)  # type: ignore[arg-type]
            await settle()
        assert not b.result.is_leader
        assert barrier.waiting == 0
        assert leaders(await in_turn(tasks, barrier.wait, barrier.wait, barrier.wait)) == [False, False, True]


async def test_a_cancelled_scope_does_not_arrive_on_trio() -> None:
    """Elsewhere only a wait notices the cancellation."""
    barrier = Barrier(2)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await barrier.wait()
    assert scope.cancelled_caught
    assert barrier.waiting == 0


@pytest.mark.parametrize("parties", [1, 2])
async def test_the_last_to_arrive_passes_a_checkpoint_on_trio_only(parties: int) -> None:
    """On the others it does not yield."""
    barrier = Barrier(parties)
    resumed = False

    async def other() -> None:
        nonlocal resumed
        await barrier.wait()
        resumed = True

    async with anyio.create_task_group() as tasks:
        if parties == 2:
            await in_turn(tasks, other)
        assert (await barrier.wait()).is_leader
        assert not resumed or on_trio()


def test_repr_tells_how_many_have_arrived() -> None:
    """Of how many."""
    assert "0 of 3 arrived" in repr(Barrier(3))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_barriers_refuse_to_be_copied(copied: Callable[[Any], Any]) -> None:
    """As threading.Lock does."""
    with pytest.raises(TypeError, match="cannot pickle or copy"):
        copied(Barrier(2))
