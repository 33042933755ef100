"""The harness itself: tests really run, on the loop they name, and `tests.support` keeps its promises."""

from __future__ import annotations

import asyncio
import gc
import warnings
import weakref
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import pytest
import sniffio

from tests.conftest import LOOPS, watched
from tests.support import Running, collect, in_pyodide, loop_name, native_cancel, settle, spawn

ran: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def every_loop_ran() -> Iterator[None]:
    yield
    assert not ran or ran == list(LOOPS)


async def test_a_coroutine_test_runs_on_the_loop_it_names(request: pytest.FixtureRequest) -> None:
    await anyio.lowlevel.checkpoint()
    assert loop_name() in request.node.name
    assert sniffio.current_async_library() == ("trio" if loop_name() == "trio" else "asyncio")
    ran.append(loop_name())


@pytest.fixture
def task_of_a_fixture() -> object:
    return task_here()


def task_here() -> object:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop at all
        return None


def test_a_plain_test_runs_once_and_in_no_task(request: pytest.FixtureRequest, task_of_a_fixture: object) -> None:
    assert "anyio_backend" not in request.fixturenames
    assert task_here() is None
    assert task_of_a_fixture is None


def test_pyodide_has_its_one_loop() -> None:
    assert (list(LOOPS) == ["webloop"]) == in_pyodide


class TestInAClass:
    async def test_coroutine_methods_run_too(self, anyio_backend: object) -> None:
        await anyio.lowlevel.checkpoint()
        assert anyio_backend in LOOPS.values()


@pytest.mark.parametrize("n", [1, 2])
async def test_parameters_and_fixtures_arrive(n: int, tmp_path: object) -> None:
    await anyio.lowlevel.checkpoint()
    assert n in {1, 2}
    assert tmp_path


@pytest.mark.loops("asyncio", "webloop")
async def test_a_test_can_be_kept_to_some_loops() -> None:
    assert loop_name() in {"asyncio", "webloop"}


@pytest.mark.xfail(strict=True, raises=ZeroDivisionError)
async def test_a_failure_in_a_coroutine_fails() -> None:
    await anyio.lowlevel.checkpoint()
    raise ZeroDivisionError


async def test_skipping_inside_works() -> None:
    await anyio.lowlevel.checkpoint()
    with pytest.raises(pytest.skip.Exception):
        pytest.skip("only to see the exception")


async def test_warnings_are_errors() -> None:
    await anyio.lowlevel.checkpoint()
    with pytest.raises(RuntimeWarning, match="seen"):
        warnings.warn("seen", RuntimeWarning, stacklevel=1)


async def test_settling_runs_others_until_they_park() -> None:
    steps: list[int] = []
    gate = anyio.Event()

    async def work() -> None:
        for step in range(20):
            steps.append(step)
            await anyio.lowlevel.checkpoint()
        await gate.wait()
        steps.append(20)

    async with anyio.create_task_group() as group:
        task = spawn(group, work)
        await settle()
        assert steps == list(range(20))
        assert not task.done
        gate.set()
        await settle()
        assert task.done
    assert steps == list(range(21))


async def test_settling_follows_a_chain_of_wakes() -> None:
    gates = [anyio.Event() for _ in range(10)]

    async def pass_on(n: int) -> None:
        await gates[n].wait()
        gates[n + 1].set()

    async with anyio.create_task_group() as group:
        for n in range(9):
            spawn(group, pass_on, n)
        await settle()
        assert not gates[9].is_set()
        gates[0].set()
        await settle()
        assert gates[9].is_set()


async def test_settling_does_not_wait_for_sleepers() -> None:
    async with anyio.create_task_group() as group:
        task = spawn(group, anyio.sleep, 100)
        with anyio.fail_after(5):
            await settle()
        assert not task.done
        task.cancel()


async def test_a_result_is_read_from_the_handle() -> None:
    async def double(n: int) -> int:
        await anyio.lowlevel.checkpoint()
        return 2 * n

    async with anyio.create_task_group() as group:
        task = spawn(group, double, 4)
        with pytest.raises(AssertionError, match="no outcome yet"):
            _ = task.result
    assert (task.done, task.cancelled, task.exception, task.result) == (True, False, None, 8)


async def fail() -> None:
    await anyio.lowlevel.checkpoint()
    raise KeyError("x")


async def test_an_exception_is_read_from_the_handle() -> None:
    async with anyio.create_task_group() as group:
        task = spawn(group, fail)
    assert isinstance(task.exception, KeyError)
    with pytest.raises(KeyError):
        _ = task.result


@pytest.mark.xfail(strict=True, raises=KeyError)
async def test_an_exception_that_nobody_looks_at_fails_the_test() -> None:
    async with anyio.create_task_group() as group:
        spawn(group, fail)


async def test_a_failed_assertion_in_a_task_fails_its_group_at_once() -> None:
    async def deny() -> None:
        await anyio.lowlevel.checkpoint()
        raise AssertionError("denied")

    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            spawn(group, deny)
            await anyio.sleep_forever()
    assert caught.group_contains(AssertionError, match="denied")


@pytest.mark.parametrize("cancel", [Running.cancel, native_cancel])
@pytest.mark.parametrize("started", [True, False])
async def test_a_cancelled_task_ends_alone(cancel: object, started: bool) -> None:
    async with anyio.create_task_group() as group:
        task, other = spawn(group, anyio.sleep_forever), spawn(group, anyio.sleep_forever)
        if started:
            await settle()
        cancel(task)
        await settle()
        assert (task.done, task.cancelled, other.done) == (True, True, False)
        with pytest.raises(AssertionError, match="no result"):
            _ = task.result
        other.cancel()


async def test_leaving_the_group_by_an_exception_cancels_its_tasks() -> None:
    with pytest.raises(ExceptionGroup):
        async with anyio.create_task_group() as group:
            task = spawn(group, anyio.sleep_forever)
            await settle()
            raise LookupError
    assert task.cancelled


async def test_a_task_has_the_name_it_was_given() -> None:
    async def my_name() -> str | None:
        return anyio.get_current_task().name

    async with anyio.create_task_group() as group:
        task = spawn(group, my_name, name="a name")
    assert task.result == "a name"


@pytest.mark.loops("asyncio-eager")
async def test_eager_tasks_step_at_once() -> None:
    steps: list[int] = []

    async def step() -> None:
        steps.append(1)

    async with anyio.create_task_group() as group:
        spawn(group, step)
        assert steps == [1]


@pytest.mark.loops("asyncio")
async def test_asyncio_runs_in_debug_mode() -> None:
    assert asyncio.get_running_loop().get_debug()


async def test_collecting_collects_cycles() -> None:
    class Node:
        pass

    node = Node()
    node.itself = node  # type: ignore[attr-defined]
    reference = weakref.ref(node)
    gc.disable()
    try:
        del node
        collect()
    finally:
        gc.enable()
    assert reference() is None


async def test_a_test_over_its_time_limit_fails() -> None:
    with pytest.raises(TimeoutError):
        await watched(anyio.sleep_forever, 0.01)()


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop", "webloop")
async def test_a_task_left_behind_fails_the_test() -> None:
    async def leave() -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(100), name="left over"))

    tasks: list[object] = []
    with pytest.raises(AssertionError, match="left over"):
        await watched(leave, 1)()
    await settle()


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop", "webloop")
async def test_a_complaint_to_the_exception_handler_fails_the_test() -> None:
    async def upset() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="complained") as caught:
        await watched(upset, 1)()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop", "webloop")
async def test_a_task_exception_never_retrieved_fails_the_test() -> None:
    async def forget() -> None:
        task = asyncio.create_task(fail())
        await settle()
        del task

    with pytest.raises(AssertionError, match=r"complained.*KeyError"):
        await watched(forget, 1)()
