"""Loops that are closed abruptly, with tasks in them, change nothing for anybody else: see `tests.native.soak`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from asynclocks import Mutex
from tests.native.programs import ROOT
from tests.native.stress import Exclusive, Operation, Shared, Stress, StuckError, Worker
from tests.native.workloads import MutexWorkload

SECONDS = float(os.environ.get("ASYNCLOCKS_SOAK", "30"))


@pytest.mark.slow
def test_everybody_goes_on_while_loops_are_closed_with_tasks_in_them() -> None:
    """Three asyncio loops, trio and four threads share every primitive; nobody is stuck, nothing is lost.

    It takes ASYNCLOCKS_SOAK seconds (30), in a process of its own: what is stuck there can be ended in no other way.
    """
    command = [sys.executable, "-m", "tests.native.soak", str(SECONDS)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout


# --- the machinery can fail


def test_what_is_stuck_is_reported_with_stacks_and_statistics() -> None:
    """An operation that takes longer than the watchdog's patience ends the run, and the report tells about it."""
    stress = Stress(seed=0, patience=0)
    workload = MutexWorkload(stress, "stuck one")
    worker = Worker(stress, "somebody")
    stress.begin(worker)
    guard = workload.mutex.try_lock()
    with Operation(worker, "waiting"), pytest.raises(StuckError) as stuck:
        stress.watch()
    guard.release()
    report = str(stuck.value)
    assert "somebody: waiting" in report
    assert "Mutex 'stuck one' held" in report
    assert "test_what_is_stuck_is_reported" in report


def test_two_inside_are_a_fault() -> None:
    """Whoever finds another one inside reports both, and the run ends."""
    stress = Stress(seed=0)
    alone, one, two = Exclusive(stress, "mutex"), Worker(stress, "one"), Worker(stress, "two")
    with alone(one):
        assert not stress.faults
        with alone(two):
            pass
    assert "<two in mutex> came in beside <one in mutex>" in stress.faults[0]
    assert stress.stopping


def test_a_writer_beside_a_reader_is_a_fault() -> None:
    """The writer reports all who read."""
    stress = Stress(seed=0)
    inside, one, two = Shared(stress, "rwlock"), Worker(stress, "one"), Worker(stress, "two")
    with inside.reading(one), inside.reading(two):
        assert not stress.faults
        with inside.writing(two):
            inside.nobody_reads()
    assert "<two in rwlock, writing> beside [<one reading rwlock>, <two reading rwlock>]" in stress.faults[0]
    assert len(stress.faults) == 1


def test_only_a_loose_guard_may_go_before_the_block_of_an_abandoned_task() -> None:
    """The collector may finalize such a guard first; a block's own guard never lets others in before the block ends."""
    stress = Stress(seed=0)
    alone, gone, other = Exclusive(stress, "mutex"), Worker(stress, "gone"), Worker(stress, "other")
    gone.is_gone = True
    guard = Mutex().try_lock()
    with alone(gone, guard), alone(other):
        pass
    assert not stress.faults
    guard.release()
    with alone(gone), alone(other):
        pass
    assert "<other in mutex> came in beside <gone in mutex>" in stress.faults[0]


def test_a_lost_update_is_a_fault() -> None:
    """A workload's count and its object's value must agree at the end."""
    stress = Stress(seed=0)
    workload = MutexWorkload(stress)
    workload.check_at_the_end()
    workload.mutex = Mutex(1)
    with pytest.raises(AssertionError):
        workload.check_at_the_end()


def test_the_run_goes_on_until_its_threads_have_ended() -> None:
    """Those who wait for others to do something are nudged meanwhile."""
    stress = Stress(seed=0)
    nudged = threading.Event()
    workload = MutexWorkload(stress)
    workload.nudge = nudged.set  # type: ignore[method-assign]
    thread = threading.Thread(target=nudged.wait, daemon=True)
    thread.start()
    stress.wait_for([thread])
    assert not thread.is_alive()
