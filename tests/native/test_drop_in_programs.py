"""Whole programs written for an original, run as scripts; those of `threading` also beside loops and in their threads.

What they are is in `tests/drop_in/program.py`. On every loop tests/conformance/test_drop_in_programs.py runs them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest

from tests.drop_in.elsewhere import stand_in
from tests.drop_in.program import ORIGINALS, PROGRAMS, Program, written_for
from tests.native.threaded import RUNNERS
from tests.support import spawn

every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)


def test_there_are_five_for_each_original() -> None:
    assert Counter(program.original for program in PROGRAMS) == dict.fromkeys(ORIGINALS, 5)


@every_program
def test_a_program_prints_what_it_says_with_its_original(program: Program) -> None:
    """What the tests of the others demand is what the original does."""
    if program.original == "aiorwlock":
        pytest.importorskip("aiorwlock", reason="not installed here; requirements/test.txt has it")
    assert program.run_with_the_original() == program.prints


@every_program
def test_a_program_prints_the_same_with_one_changed_import(program: Program) -> None:
    """Run as a script, on the loop that it is written for."""
    assert program.run() == program.prints


@pytest.mark.parametrize("program", written_for("threading"), ids=lambda program: program.name)
async def test_a_program_of_threads_runs_beside_a_loop(program: Program) -> None:
    """In threads, as its original does; the loop goes on meanwhile."""
    module, printed = program.load()
    laps = 0
    async with anyio.create_task_group() as tasks:
        running = spawn(tasks, anyio.to_thread.run_sync, module.main)
        while not running.done:
            await anyio.sleep(0.001)
            laps += 1
    assert printed == program.prints
    assert laps > 1


# Why a program cannot run in threads in which a loop runs. A row of the table in docs/drop_in.md says so, and
# test_a_lock_for_a_short_section_may_block_a_loop shows it.
WAITS_FOR_LONG = "it waits for an Event, a Condition or a Barrier, which would block the loop: RuntimeError"
NOT_WHERE_A_LOOP_RUNS = dict.fromkeys(("threading_buffer", "threading_heartbeat", "threading_stages"), WAITS_FOR_LONG)


@pytest.mark.parametrize("loop", RUNNERS)
@pytest.mark.parametrize("program", written_for("threading"), ids=lambda program: program.name)
def test_a_program_of_threads_runs_where_loops_run(program: Program, loop: str) -> None:
    """Every function of it in the thread of a loop that runs."""
    if program.name in NOT_WHERE_A_LOOP_RUNS:
        pytest.skip(NOT_WHERE_A_LOOP_RUNS[program.name])

    def in_a_loop(function: Callable[[], object]) -> None:
        async def call() -> None:
            function()

        RUNNERS[loop](call)

    class Thread(threading.Thread):
        def run(self) -> None:
            in_a_loop(super().run)

    module, printed = program.load(threading=stand_in("threading", Thread=Thread))
    in_a_loop(module.main)
    assert printed == program.prints
