"""Every ``async def test_…`` runs on every loop, with a time limit, and must leave nothing behind.

No marker is needed. Natively anyio's pytest plugin drives the loops; inside Pyodide `tests.pyodide.inside` does.
``@pytest.mark.loops("asyncio", "uvloop")`` keeps a test to some of the loops, ``@pytest.mark.pure(why)`` to the engine
without its parts in C.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.util import find_spec
from inspect import iscoroutinefunction
from typing import Any

import anyio.lowlevel
import pytest

import asynclocks
from tests.support import in_pyodide, on_trio, unseen

asyncio.constants.DEBUG_STACK_DEPTH = 1  # or debug mode spends a seventh of the time on stacks that nobody reads
LIMIT = 60  # seconds for a test; ten times as many for a slow one
AsyncTest = Callable[..., Coroutine[Any, Any, None]]


def eager_loop() -> asyncio.AbstractEventLoop:
    """A loop whose tasks take their first step at once."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def loops() -> dict[str, object]:
    """The loops there are here, by the name in a test's id, as `anyio_backend` values."""
    if in_pyodide:
        return {"webloop": "asyncio"}
    found: dict[str, object] = {"asyncio": ("asyncio", {"debug": True})}
    if sys.version_info >= (3, 12):
        found["asyncio-eager"] = ("asyncio", {"loop_factory": eager_loop})
    if find_spec("uvloop"):
        found["uvloop"] = ("asyncio", {"use_uvloop": True})
    if find_spec("trio"):
        found["trio"] = "trio"
    return found


LOOPS = loops()


@pytest.fixture(scope="module", params=LOOPS.values(), ids=LOOPS.keys())
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """The loop; anyio's plugin runs coroutine tests and fixtures on it."""
    return request.param


@pytest.fixture
def policy() -> Iterator[Callable[[Any], str]]:
    """`set_deadlock_policy`, undone at the end."""
    before = asynclocks.set_deadlock_policy("raise")
    yield asynclocks.set_deadlock_policy
    asynclocks.set_deadlock_policy(before)


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """No test's own collection looks through the thousands of tests there are, nor through what is known of them.

    It is over in a sixth of the time; tests that collect hundreds of times in a tenth.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "loops(*names): only these loops can show it")


ENGINE = "compiled" if asynclocks.compiled else "pure"


def pytest_report_header() -> str:
    absent = {"asyncio", "asyncio-eager", "uvloop", "trio"} - LOOPS.keys()
    return f"asynclocks: {ENGINE}; loops: {', '.join(LOOPS)}" + (
        f" (not here: {', '.join(sorted(absent))})" if absent else ""
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran = sum(len(terminalreporter.getreports(outcome)) for outcome in ("passed", "failed", "xfailed", "xpassed"))
    terminalreporter.write_line(f"asynclocks: {ran} tests ran on the {ENGINE} engine")


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> None:
    """Have every coroutine test driven, whoever forgot what."""
    if collector.istestfunction(obj, name) and iscoroutinefunction(_innermost(obj)):
        pytest.mark.usefixtures("anyio_backend")(obj)


def _innermost(test: Any) -> object:
    return test.hypothesis.inner_test if hasattr(test, "hypothesis") else test


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unfit = [item for item in items if not _fits(item)]
    items[:] = [item for item in items if _fits(item)]
    config.hook.pytest_deselected(items=unfit)
    if asynclocks.compiled:
        for item in items:
            for mark in item.iter_markers("pure"):
                item.add_marker(pytest.mark.skip(f"shown on the pure engine: {mark.args[0]}"))


def _fits(item: pytest.Item) -> bool:
    wanted = item.get_closest_marker("loops")
    if wanted is None:
        return True
    assert isinstance(item, pytest.Function)
    return item.callspec.params["anyio_backend"] in [LOOPS.get(name) for name in wanted.args]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    test = pyfuncitem.obj
    if not iscoroutinefunction(test):
        return (yield)
    pyfuncitem.obj = watched(test, LIMIT * 10 if pyfuncitem.get_closest_marker("slow") else LIMIT)
    try:
        return (yield)
    finally:
        pyfuncitem.obj = test


def watched(test: AsyncTest, limit: float) -> AsyncTest:
    """The test, failing also if it takes more than `limit` seconds or leaves something behind.

    Left behind are: a task that still runs, a failed `spawn` that nobody asked about, a complaint to
    asyncio's exception handler.
    """

    @wraps(test)
    async def watched_test(*args: Any, **kwargs: Any) -> None:
        unseen.clear()
        with no_leftovers():
            with anyio.fail_after(limit):
                await test(*args, **kwargs)
            await anyio.lowlevel.cancel_shielded_checkpoint()  # what was about to end ends
            gc.collect(1)  # young garbage, which is cheap: a finalizer's complaint belongs to this test
        for running in unseen:
            raise running._exception

    return watched_test


@contextmanager
def no_leftovers() -> Iterator[None]:
    if on_trio():  # a nursery leaves no task, and trio has no such handler
        yield
        return
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before, handler = asyncio.all_tasks(), loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        yield
    finally:
        loop.set_exception_handler(handler)
        left = asyncio.all_tasks() - before
        for task in left:  # Pyodide's loop outlives the test
            task.cancel()
    assert not left, f"tasks left behind: {left}"
    for context in complaints:
        raise AssertionError(f"the loop complained: {context}") from context.get("exception")
