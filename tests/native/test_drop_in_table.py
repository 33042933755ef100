"""Every row of "What differs on purpose" in docs/drop_in.md has a test; this is where each row's tests are named."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "drop_in.md"
SHOWN_IN = ("conformance/test_drop_in.py", "native/test_drop_in_threads.py")

# By how a row begins.
TESTS_OF = {
    "all | belongs to the loop": ["test_one_mutex_in_every_spelling_lets_one_in_at_a_time"],
    "all | asyncio's and threading's: a task that comes later": [
        "test_a_released_lock_goes_to_who_waits_and_not_to_a_newcomer",
        "test_released_twice_just_in_case_is_harmless",
    ],
    "all | a Condition takes only": ["test_only_our_locks_and_primitives_are_taken"],
    "all | is of the original's class": ["test_the_classes_are_ours"],
    "asyncio | `Semaphore.acquire` waits": [
        "test_a_free_permit_of_asyncio_s_semaphore_is_taken_beside_a_waiter_that_was_let_in"
    ],
    "anyio | a lock has no owner": ["test_an_owner_in_another_loop_is_told_as_well"],
    "anyio | needs anyio": [
        "test_a_drop_in_module_works_without_its_original",
        "test_without_anyio_a_free_lock_of_its_module_is_no_checkpoint_on_asyncio",
    ],
    "anyio, trio | `to_thread.run_sync": ["test_what_runs_functions_in_threads_takes_our_limiters"],
    "trio | a lock whose owner exits": [
        "test_a_waiter_of_an_owner_that_exits_meanwhile_is_told",
        "test_the_waiters_of_an_owner_that_exited_are_told_on_trio_only",
        "test_who_was_notified_by_an_owner_that_exited_waits_on",
    ],
    "threading | every wait blocks": ["test_a_lock_for_a_short_section_may_block_a_loop"],
    "threading | a Condition takes an RLock": [
        "test_only_our_locks_and_primitives_are_taken",
        "test_a_condition_s_own_lock_may_be_acquired_again",
    ],
    "aiorwlock | writers go before": ["test_writers_and_readers_of_an_rwlock_are_served_in_order"],
    "aiorwlock | readers that wait": [
        "test_readers_of_an_rwlock_go_on_when_the_writer_before_them_gives_up",
        "test_readers_of_an_rwlock_go_on_when_its_writer_only_reads_on",
    ],
    "aiorwlock | two tasks hang": ["test_a_cycle_of_rwlocks_gets_deadlock_error"],
}


def rows() -> list[str]:
    """Without the outer bars."""
    _, _, section = PAGE.read_text(encoding="utf-8").partition("## What differs on purpose\n")
    section, _, _ = section.partition("\n## ")
    _, _, *found = [line.strip("| ") for line in section.splitlines() if line.startswith("|")]
    return found


def test_every_row_has_its_tests() -> None:
    """And no test is named for a row that is gone."""
    begun = [[beginning for beginning in TESTS_OF if row.startswith(beginning)] for row in rows()]
    assert [len(which) for which in begun] == [1] * len(TESTS_OF)
    assert [beginning for (beginning,) in begun] == list(TESTS_OF)


def test_the_tests_of_the_rows_are_there() -> None:
    """In the two files that the page names."""
    there = set()
    for file in SHOWN_IN:
        assert f"tests/{file}" in PAGE.read_text(encoding="utf-8")
        for node in ast.parse((TESTS / file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                there.add(node.name)
    assert {name for names in TESTS_OF.values() for name in names} - there == set()
