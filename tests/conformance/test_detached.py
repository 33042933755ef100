"""detached: what has begun runs to its end, and the next caller joins it."""

from __future__ import annotations

import weakref
from functools import partial

import anyio
import pytest
from anyio import lowlevel

from asynclocks import ConcurrentMap, OnceCell, detached
from asynclocks._detached import _left
from tests.support import no_collector, on_trio, settle, spawn


class Load:
    """Ends when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.released = anyio.Event()
        self.failure: Exception | None = None

    async def __call__(self, *args: object) -> str:
        self.begun += 1
        mine = f"value {self.begun}"
        await self.released.wait()
        self.ended += 1
        if self.failure is not None:
            raise self.failure
        return mine


async def test_run_ends_though_its_caller_left_and_the_next_call_joins_it() -> None:
    """On trio the caller cannot leave before: its cancellation is held back."""
    load = Load()
    async with anyio.create_task_group() as group:
        first = spawn(group, detached(load))
        await settle()
        first.cancel()
        await settle()
        assert first.done == (not on_trio())
        if not on_trio():
            second = spawn(group, detached(load))
            await settle()
        load.released.set()
    if not on_trio():
        assert second.result == "value 1"
    assert (load.begun, load.ended) == (1, 1)
    assert not _left


async def test_run_that_ends_while_its_caller_leaves_is_not_kept_for_others() -> None:
    load = Load()
    async with anyio.create_task_group() as group:
        caller = spawn(group, detached(load))
        await settle()
        load.released.set()
        caller.cancel()
    await settle()
    assert (load.ended, _left) == (1, {})


async def test_run_that_nobody_joins_ends_and_is_forgotten() -> None:
    load = Load()
    async with anyio.create_task_group() as group:
        caller = spawn(group, detached(load))
        await settle()
        caller.cancel()
        await settle()
        load.released.set()
    await settle()
    assert load.ended == 1
    assert not _left


async def test_joined_run_that_is_left_again_is_joined_again() -> None:
    load = Load()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            caller = spawn(group, detached(load))
            await settle()
            caller.cancel()
            await settle()
            if on_trio():
                break
        load.released.set()
    await settle()
    assert load.begun == 1


async def test_load_slower_than_every_callers_timeout_ends_in_a_map() -> None:
    """Each caller leaves before the load ends; on trio the first is kept until it does."""
    load = Load()
    cache: ConcurrentMap[str, str] = ConcurrentMap()
    async with anyio.create_task_group() as group:
        callers = [spawn(group, cache.get_or_insert_with, "key", partial(detached(load), "key")) for _ in range(4)]
        await settle()
        for caller in callers[:3]:
            caller.cancel()
            await settle()
        load.released.set()
    assert callers[3].result == "value 1"
    assert load.begun == 1
    assert cache.get("key") == "value 1"


async def test_once_cell_is_initialized_by_the_run_that_was_left() -> None:
    load, cell = Load(), OnceCell[str]()
    async with anyio.create_task_group() as group:
        first, second = (spawn(group, cell.get_or_init, detached(load)) for _ in range(2))
        await settle()
        first.cancel()
        await settle()
        load.released.set()
    assert (second.result, load.begun) == ("value 1", 1)


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop", "webloop")
async def test_failure_of_a_run_is_its_joiners_and_is_not_tried_again() -> None:
    """As a server that has spent a refresh token would revoke all if it came again."""
    load = Load()
    load.failure = OSError("revoked")
    async with anyio.create_task_group() as group:
        first = spawn(group, detached(load))
        await settle()
        first.cancel()
        await settle()
        second = spawn(group, detached(load))
        await settle()
        load.released.set()
    assert second.exception is load.failure
    assert load.begun == 1


async def test_runs_whose_callers_stay_are_each_their_own() -> None:
    load = Load()
    async with anyio.create_task_group() as group:
        callers = [spawn(group, detached(load)) for _ in range(2)]
        await settle()
        load.released.set()
    assert {caller.result for caller in callers} == {"value 1", "value 2"}


async def test_call_with_other_arguments_is_another_run() -> None:
    load = Load()
    async with anyio.create_task_group() as group:
        for argument in "ab":
            caller = spawn(group, detached(load), argument)
            await settle()
            caller.cancel()
            await settle()
        load.released.set()
    await settle()
    assert load.begun == 2


async def test_plain_function_and_its_failure_pass_through() -> None:
    assert await detached(lambda: 42)() == 42
    assert await detached(divmod)(7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await detached(divmod)(7, 0)


class Down(Exception):
    """Of Python's own making, so that one may refer to it weakly."""


async def test_failure_is_gone_when_its_caller_has_seen_it() -> None:
    seen: weakref.WeakSet[Down] = weakref.WeakSet()

    async def fail() -> None:
        await lowlevel.checkpoint()
        raise Down

    with no_collector():
        try:
            await detached(fail)()
        except Down as error:
            seen.add(error)
        await settle()
        assert len(seen) == 0


async def test_what_cannot_be_called_or_told_apart_is_refused() -> None:
    with pytest.raises(TypeError, match=r"detached\(\) takes a function"):
        detached(42)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="unhashable"):
        await detached(len)([])
