"""The blocking forms inside Pyodide: they wait by switching stacks, and are refused where that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from asynclocks import ConcurrentMap, Condvar, LazyLock, Mutex, OnceCell, RwLock, Semaphore
from tests.support import in_pyodide, settle, spawn

pytestmark = pytest.mark.skipif(not in_pyodide, reason="threads block elsewhere: tests/native/test_threads.py")

# What is made, who holds it up, and who waits for it, for so many seconds at most.
HELD: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any, float], Any]]] = {
    "blocking_lock": (Mutex, Mutex.try_lock, lambda mutex, limit: mutex.blocking_lock(timeout=limit)),
    "blocking_acquire": (
        lambda: Semaphore(2),
        lambda semaphore: semaphore.try_acquire(1),
        lambda semaphore, limit: semaphore.blocking_acquire(2, timeout=limit),
    ),
    "blocking_read": (RwLock, RwLock.try_write, lambda rwlock, limit: rwlock.blocking_read(timeout=limit)),
    "blocking_write": (RwLock, RwLock.try_read, lambda rwlock, limit: rwlock.blocking_write(timeout=limit)),
    "blocking_upgradable_read": (
        RwLock,
        RwLock.try_upgradable_read,
        lambda rwlock, limit: rwlock.blocking_upgradable_read(timeout=limit),
    ),
    "blocking_entry": (
        ConcurrentMap,
        lambda mapping: mapping.try_entry("key"),
        lambda mapping, limit: mapping.blocking_entry("key", timeout=limit),
    ),
}

# What is made, who initializes it, and who waits for that.
INITIALIZED: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any], Callable[[Any, float], Any]]] = {
    "blocking_get_or_init": (
        lambda init: OnceCell(),
        lambda cell, init: cell.get_or_init(init),
        lambda cell, limit: cell.blocking_get_or_init(int, timeout=limit),
    ),
    "blocking_get": (
        LazyLock,
        lambda lazy, init: initialized(lazy),
        lambda lazy, limit: lazy.blocking_get(timeout=limit),
    ),
    "blocking_get_or_insert_with": (
        lambda init: ConcurrentMap(),
        lambda mapping, init: mapping.get_or_insert_with("key", init),
        lambda mapping, limit: mapping.blocking_get_or_insert_with("key", int, timeout=limit),
    ),
}


async def initialized(lazy: LazyLock[int]) -> int:
    return await lazy


def can_switch() -> bool:
    from pyodide.ffi import can_run_sync

    return can_run_sync()


@pytest.fixture
def stacks_switch() -> None:
    if not can_switch():
        pytest.skip("no stack switching here")


@pytest.mark.parametrize("form", [*HELD, *INITIALIZED])
async def test_without_stack_switching_a_blocking_form_is_refused(form: str) -> None:
    """Even if nobody holds or initializes it."""
    if can_switch():
        pytest.skip("there is stack switching here")
    made = HELD[form][0]() if form in HELD else INITIALIZED[form][0](int)
    wait = {**HELD, **INITIALIZED}[form][2]
    with pytest.raises(RuntimeError, match="stack switching"):
        wait(made, 0)


@pytest.mark.parametrize("form", HELD)
async def test_a_blocking_form_waits_while_the_loop_goes_on(form: str, stacks_switch: None) -> None:
    """The holder, a task of the same loop, can let go meanwhile."""
    make, hold, wait = HELD[form]
    made = make()
    async with anyio.create_task_group() as tasks:
        holder = hold(made)

        async def let_go() -> None:
            holder.release()

        letting_go = spawn(tasks, let_go)
        with wait(made, 30):
            assert letting_go.done
    wait(made, 0).release()


@pytest.mark.parametrize("form", HELD)
async def test_a_blocking_form_gives_up_when_its_time_is_over(form: str, stacks_switch: None) -> None:
    """TimeoutError, nothing is held, and nobody is left in the line."""
    make, hold, wait = HELD[form]
    made = make()
    with hold(made):
        for limit in (0.01, 0):
            with pytest.raises(TimeoutError):
                wait(made, limit)
    wait(made, 0).release()


@pytest.mark.parametrize("form", INITIALIZED)
async def test_a_blocking_form_waits_for_a_task_that_initializes(form: str, stacks_switch: None) -> None:
    """And gets what it made; until then a time can be over."""
    make, initialize, wait = INITIALIZED[form]
    begun, may_end = anyio.Event(), anyio.Event()

    async def init() -> int:
        begun.set()
        await may_end.wait()
        return 7

    made = make(init)
    async with anyio.create_task_group() as tasks:
        spawn(tasks, initialize, made, init)
        await begun.wait()
        with pytest.raises(TimeoutError):
            wait(made, 0.01)

        async def let_end() -> None:
            may_end.set()

        spawn(tasks, let_end)
        assert wait(made, 30) == 7


async def test_a_blocking_wait_for_a_notification_gives_up_the_mutex_meanwhile(stacks_switch: None) -> None:
    """And holds it again when it returns or raises."""
    mutex, condvar = Mutex(0), Condvar()

    async def notify() -> None:
        async with mutex as guard:
            guard.value = 7
            condvar.notify_one()

    async with anyio.create_task_group() as tasks:
        with mutex.blocking_lock() as guard:
            with pytest.raises(TimeoutError):
                condvar.blocking_wait(guard, timeout=0.01)
            spawn(tasks, notify)
            condvar.blocking_wait(guard, timeout=30)
            assert guard.value == 7
            assert mutex.locked()
        await settle()
    assert not mutex.locked()
