"""Which of the originals' tests are skipped, and why. Docs: docs/drop_in.md."""

from __future__ import annotations

PRIVATE = "looks at what is private there"
REPR = "expects a module's name of one word in the repr"
LOOPS = "ours are of any loop, and never bound to one"

SKIPPED: dict[str, dict[str, str]] = {
    "asyncio": {
        "LockTests::test_cancel_race": PRIVATE,
        "LockTests::test_finished_waiter_cancelled": "counts on a newcomer who takes the lock before it is handed on",
        "EventTests::test_clear_with_waiters": PRIVATE,
        "EventTests::test_repr": PRIVATE,
        "ConditionTests::test_ambiguous_loops": LOOPS,
        "ConditionTests::test_repr": PRIVATE,
        "SemaphoreTests::test_repr": PRIVATE,
        "SemaphoreTests::test_acquire_fifo_order_2": "expects a wait though one is free, if another waiter has not run",
        "SemaphoreTests::test_acquire_fifo_order_4": PRIVATE,
        "BarrierTests::test_reset_barrier_when_tasks_half_draining": PRIVATE,
    },
    "threading": {
        "LockTests::test_at_fork_reinit": PRIVATE,
        "EventTests::test_at_fork_reinit": PRIVATE,
        "EventTests::test_repr": REPR,
        "SemaphoreTests::test_repr": REPR,
        "BoundedSemaphoreTests::test_repr": REPR,
        "BarrierTests::test_repr": REPR,
        "ConditionTests::test_acquire": "has threading's own Lock for the condition's",
    },
    "anyio": {"TestCapacityLimiter::test_current_default_thread_limiter": "anyio's own limiter stays anyio's"},
    "trio": {"test_lock_handover": PRIVATE},
    "aiorwlock": {
        "test_ctor_loop_reader": PRIVATE,
        "test_ctor_loop_writer": PRIVATE,
        "test_ctor_noloop_reader": PRIVATE,
        "test_ctor_noloop_writer": PRIVATE,
        "test_reader_ambiguous_loops": LOOPS,
        "test_writer_ambiguous_loops": LOOPS,
    },
}
