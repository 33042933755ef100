"""The blocking forms inside Pyodide: they wait by switching stacks, and are refused where that cannot be."""

from __future__ import annotations

import anyio
import pytest

from asynclocks import Mutex, Semaphore
from tests.support import in_pyodide, settle, spawn

pytestmark = pytest.mark.skipif(not in_pyodide, reason="threads block elsewhere: tests/native/test_threads.py")


def can_switch() -> bool:
    from pyodide.ffi import can_run_sync

    return can_run_sync()


async def test_without_stack_switching_a_blocking_form_is_refused() -> None:
    """Even if the lock is free."""
    if can_switch():
        pytest.skip("there is stack switching here")
    with pytest.raises(RuntimeError, match="stack switching"):
        Mutex(0).blocking_lock()
    with pytest.raises(RuntimeError, match="stack switching"):
        Semaphore(1).blocking_acquire(timeout=0)


async def test_a_blocking_form_waits_while_the_loop_goes_on() -> None:
    """The holder, a task of the same loop, can let go meanwhile."""
    if not can_switch():
        pytest.skip("no stack switching here")
    mutex = Mutex(0)
    async with anyio.create_task_group() as tasks:
        guard = await mutex.lock()

        async def let_go() -> None:
            guard.release()

        spawn(tasks, let_go)
        with mutex.blocking_lock(timeout=30) as held:
            assert held.mutex is mutex
        await settle()
    assert not mutex.locked()


async def test_a_blocking_form_gives_up_when_its_time_is_over() -> None:
    """TimeoutError, nothing is held, and nobody is left in the line."""
    if not can_switch():
        pytest.skip("no stack switching here")
    mutex = Mutex(0)
    async with mutex:
        for timeout in (0.01, 0):
            with pytest.raises(TimeoutError):
                mutex.blocking_lock(timeout=timeout)
        assert mutex.statistics().waiting == 0
    mutex.try_lock().release()
