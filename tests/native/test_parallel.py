"""Each primitive between threads that really run at once: plain ones, asyncio's and trio's loops, all on one object.

Written for builds without a GIL, where the operations of two threads overlap at every instruction (``PYTHON_GIL=0``).
With a GIL the same tests take less time, and threads take turns as often as they can. ASYNCLOCKS_PARALLEL says for how
many seconds each one runs.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from asynclocks import Barrier
from tests.native.stress import Operation, Stress
from tests.native.workers import (
    TASKS,
    LoopWorker,
    Workload,
    run_in_thread,
    run_on_asyncio,
    run_on_trio,
    start_thread,
)
from tests.native.workloads import FamilyWorkload, MutexWorkload, NestedWorkload, RwLockWorkload, SemaphoreWorkload
from tests.native.workloads_of_signals import BarrierWorkload, CondvarWorkload, NotifyWorkload
from tests.native.workloads_of_values import FlightsWorkload, KeysWorkload, OnceCellWorkload

HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
SECONDS = float(os.environ.get("ASYNCLOCKS_PARALLEL", "5" if HAS_GIL else "60"))
LOOPS = {"asyncio A": run_on_asyncio, "asyncio B": run_on_asyncio, "trio": run_on_trio}
THREADS = ("thread A", "thread B", "thread C", "thread D")

pytestmark = [pytest.mark.freethreaded, pytest.mark.usefixtures("switching")]


@pytest.fixture
def stress() -> Stress:
    return Stress(random.SystemRandom().getrandbits(32))


def hammer(stress: Stress, *workloads: Workload) -> None:
    """Let the tasks of all loops and all threads work at these."""
    finish(stress, [*start_loops(stress, lambda me: me.work([*workloads])), *start_threads(stress, [*workloads])])


def start_loops(stress: Stress, work: Callable[[LoopWorker], Awaitable[None]]) -> list[threading.Thread]:
    return [start_thread(run, stress, name, work, name=name) for name, run in LOOPS.items()]


def start_threads(stress: Stress, workloads: list[Workload]) -> list[threading.Thread]:
    return [start_thread(run_in_thread, stress, name, workloads, name=name) for name in THREADS]


def finish(stress: Stress, threads: list[threading.Thread]) -> None:
    """When the time is over, everybody has ended, nothing is held, and nothing was lost."""
    end = time.monotonic() + SECONDS
    while not stress.stopping and time.monotonic() < end:
        stress.watch()
        time.sleep(0.05)
    stress.wait_for(threads)
    for workload in stress.workloads:
        with stress.reporting():
            workload.check_at_the_end()
    print(f"{stress.finished()} operations, seed {stress.seed}")
    assert not stress.faults, "\n".join([f"seed {stress.seed}", *stress.faults])
    assert stress.finished() > TASKS


def test_a_mutex_keeps_everybody_apart(stress: Stress) -> None:
    """Its value is read, and written some time later, in all the ways there are to hold it: no update is lost."""
    hammer(stress, MutexWorkload(stress))


def test_readers_and_writers_keep_apart(stress: Stress) -> None:
    """Nobody writes beside anybody else, also at upgrades and downgrades; no update is lost."""
    hammer(stress, RwLockWorkload(stress))


def test_no_more_permits_are_in_use_than_there_are(stress: Stress) -> None:
    """Whatever is acquired, split, merged and let go early: never too many at once, and all come back."""
    hammer(stress, SemaphoreWorkload(stress))


def test_a_cell_is_initialized_once_each_time_it_was_emptied(stress: Stress) -> None:
    """One initializer at a time, one value between two takes, and nobody takes a value that another one took."""
    hammer(stress, OnceCellWorkload(stress))


def test_producers_and_consumers_lose_nothing(stress: Stress) -> None:
    """With a Condvar: every item that was produced is consumed once, or is still in the queue."""
    hammer(stress, CondvarWorkload(stress, counts_wakes=True))


def test_a_wake_up_is_neither_lost_nor_doubled(stress: Stress) -> None:
    """One wake-up of a Notify goes round between tasks and threads, whoever is cancelled or drops what he enabled."""
    hammer(stress, NotifyWorkload(stress))


def test_those_who_leave_a_barrier_hinder_nobody(stress: Stress) -> None:
    """A cancelled waiter un-arrives; the others meet."""
    hammer(stress, BarrierWorkload(stress))


def test_a_map_loses_no_update_of_a_key(stress: Stress) -> None:
    """By entry, compute and alter; nobody writes beside a ref; others insert, remove and iterate meanwhile."""
    hammer(stress, KeysWorkload(stress))


def test_one_init_runs_for_all_who_ask_for_a_key(stress: Stress) -> None:
    """One `init` at a time for each key, one value between two removals."""
    hammer(stress, FlightsWorkload(stress))


def test_locks_nest(stress: Stress) -> None:
    """Taken inside each other in one order, also by the children of a task that holds one: nobody deadlocks."""
    locks = [MutexWorkload(stress), RwLockWorkload(stress), SemaphoreWorkload(stress), KeysWorkload(stress)]
    hammer(stress, *locks, NestedWorkload(stress, locks), FamilyWorkload(stress, locks))


def test_every_round_of_a_barrier_has_one_leader(stress: Stress) -> None:
    """Nobody goes on before all of a round are there, and one of them leads."""
    rounds = Rounds(stress, parties=TASKS * len(LOOPS))
    finish(stress, start_loops(stress, rounds.work))
    assert len(rounds.leaders) > 1


class Rounds(Workload):
    """Everybody meets, again and again."""

    def __init__(self, stress: Stress, parties: int) -> None:
        super().__init__(stress)
        self.barrier = Barrier(parties)
        self.at: dict[object, int] = {}  # in which round each of them is
        self.leaders: dict[int, object] = {}
        self.last: int | None = None

    def subject(self) -> Barrier:
        return self.barrier

    async def work(self, me: LoopWorker) -> None:
        """What each task does until the run is over, for all of them after the same round."""
        myself, number = object(), 0
        while self.last is None or number <= self.last:
            self.at[myself] = number
            with Operation(me, f"round {number}"):
                await me.pause()
                result = await self.barrier.wait()
            self.check(myself, number, leads=result.is_leader)
            number += 1

    def check(self, myself: object, number: int, *, leads: bool) -> None:
        """The end of a round, for one of those who met."""
        rounds = {*self.at.copy().values()}
        self.stress.expect(rounds <= {number, number + 1}, f"somebody is in {rounds} at the end of round {number}")
        self.stress.expect(number == 0 or number - 1 in self.leaders, f"nobody led round {number - 1}")
        if leads:
            first = self.leaders.setdefault(number, myself)
            self.stress.expect(first is myself, f"two led round {number}")
            if self.stress.stopping and self.last is None:
                self.last = number + 1  # nobody ends that round before all know that it is the last one

    def check_at_the_end(self) -> None:
        assert self.barrier.waiting == 0
        assert self.last in self.leaders
