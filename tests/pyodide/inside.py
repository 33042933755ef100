"""Inside Pyodide: pytest's drivers for coroutine tests, and the script runner.

Pyodide has one loop that always runs, so no plugin that brings its own loop works. Where stacks can be
switched, ``run_sync`` waits for each test. Elsewhere `run_pytest_awaiting` is pytest's own main loop once more,
as a coroutine.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import asyncio
import math
import os
import shutil
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isawaitable, iscoroutinefunction
from itertools import pairwise
from pathlib import Path
from tempfile import gettempdir
from typing import Any, TypeVar

import coverage
import pyodide
import pytest
from _pytest.config import ExitCode, _prepareconfig
from _pytest.main import Session
from _pytest.runner import CallInfo, call_and_report, check_interactive_exception
from pyodide.ffi import can_run_sync, run_sync

T = TypeVar("T")

OPTIONS = [
    "--override-ini=testpaths=tests/conformance tests/seam/test_backend_laws.py",
    "--override-ini=faulthandler_timeout=0",  # needs a thread
    *("-p", "no:anyio"),  # needs its own loop
    *("-p", "no:cacheprovider"),
]


def deadline_passed(scope: Any) -> None:
    """In the place of anyio's own, which lost one deadline in forty here, and the test hung.

    JavaScript's timers fire a little early. anyio then asks for the rest by ``call_at``, and if the time has come
    between its look at the clock and that, the loop refuses: "Can't schedule in the past".
    """
    left = scope._deadline - asyncio.get_running_loop().time()
    if left <= 0:
        scope.cancel("deadline exceeded")
    elif left < math.inf:
        scope._timeout_handle = asyncio.get_running_loop().call_later(left, scope._timeout)


def run_pytest_switching_stacks(args: list[str], measure: bool) -> int:
    print(about("run by run_sync"), flush=True)
    with measured("jspi") if measure else nullcontext():
        return int(pytest.main([*OPTIONS, *args], plugins=[StackSwitching()]))


async def run_pytest_awaiting(args: list[str], measure: bool) -> int:
    print(about("awaited"), flush=True)
    with measured("await") if measure else nullcontext():
        return int(await Awaiting().main([*OPTIONS, *args]))


def about(how: str) -> str:
    stacks = "stack switching" if can_run_sync() else "no stack switching"
    return f"Pyodide {pyodide.__version__}, {stacks}: coroutine tests {how}"


@contextmanager
def measured(driver: str) -> Iterator[None]:
    """Measure coverage into the repository's ``.coverage.pyodide-…``."""
    data = Path(gettempdir(), "coverage")  # SQLite wants a file system of Pyodide's own
    measure = coverage.Coverage(data_file=str(data), data_suffix=False)
    measure.set_option("run:core", "sysmon")
    measure.set_option("run:disable_warnings", ["no-data-collected"])  # the harness's own tests need no library
    measure.start()
    try:
        yield
    finally:
        measure.stop()
        measure.save()
        if data.exists():
            shutil.copyfile(data, f".coverage.pyodide-{driver}")


def coroutine(item: pytest.Function) -> Coroutine[Any, Any, None]:
    return item.obj(**{name: item.funcargs[name] for name in item._fixtureinfo.argnames})


class Driver:
    """What both drivers are as plugins."""

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        parser.addini("anyio_mode", "here in the place of anyio's plugin, so that the configuration is understood")

    def pytest_configure(self) -> None:
        from anyio._backends import _asyncio  # not before pytest: it warns of modules it comes too late to rewrite

        _asyncio.CancelScope._timeout = deadline_passed


class StackSwitching(Driver):
    """A plugin that waits for coroutine tests in a plain call."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        if not iscoroutinefunction(pyfuncitem.obj):
            return None
        run_sync(coroutine(pyfuncitem))
        return True


class Awaiting(Driver):
    """A plugin that puts coroutine tests aside, and the main loop that awaits them then."""

    def __init__(self) -> None:
        self._aside: Coroutine[Any, Any, None] | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        if not iscoroutinefunction(pyfuncitem.obj):
            return None
        self._aside = coroutine(pyfuncitem)
        return True

    async def main(self, args: list[str]) -> int:
        """What ``pytest.main`` does, see ``_pytest.main.wrap_session``."""
        config = _prepareconfig(args, [self])
        session = Session.from_config(config)
        session.exitstatus = ExitCode.INTERNAL_ERROR
        config._do_configure()
        try:
            config.hook.pytest_sessionstart(session=session)
            session.exitstatus = await self._session(session)
        except pytest.UsageError as error:
            print(f"ERROR: {error}", file=sys.stderr)
            session.exitstatus = ExitCode.USAGE_ERROR
        except Session.Failed:
            session.exitstatus = ExitCode.TESTS_FAILED
        except (KeyboardInterrupt, Session.Interrupted):
            config.hook.pytest_keyboard_interrupt(excinfo=pytest.ExceptionInfo.from_current())
            session.exitstatus = ExitCode.INTERRUPTED
        except Exception:  # noqa: BLE001 - as pytest does
            config.notify_exception(pytest.ExceptionInfo.from_current(), config.option)
        finally:
            os.chdir(session.startpath)
            config.hook.pytest_sessionfinish(session=session, exitstatus=session.exitstatus)
            config._ensure_unconfigure()
        return session.exitstatus

    async def _session(self, session: Session) -> ExitCode:
        session.config.hook.pytest_collection(session=session)
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        if not session.config.option.collectonly:
            with wrapped_by(session.config.hook.pytest_runtestloop, session=session):
                await self._loop(session)
        if session.testsfailed:
            return ExitCode.TESTS_FAILED
        return ExitCode.OK if session.testscollected else ExitCode.NO_TESTS_COLLECTED

    async def _loop(self, session: Session) -> None:
        for item, following in pairwise([*session.items, None]):
            await self._protocol(item, following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)

    async def _protocol(self, item: pytest.Item, following: pytest.Item | None) -> None:
        with wrapped_by(item.ihook.pytest_runtest_protocol, item=item, nextitem=following):
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            if not getattr(item, "_request", True):
                item._initrequest()
            setup = await in_no_task(call_and_report, item, "setup")
            if setup.passed and not item.config.option.setuponly:
                await self._call(item)
            await in_no_task(call_and_report, item, "teardown", nextitem=following)
            item._request = False
            item.funcargs = None
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    async def _call(self, item: pytest.Item) -> None:
        if not iscoroutinefunction(getattr(item, "obj", None)):
            await in_no_task(call_and_report, item, "call")
            return
        call = await awaited_call(lambda: self._run(item))
        report = item.ihook.pytest_runtest_makereport(item=item, call=call)
        item.ihook.pytest_runtest_logreport(report=report)
        if check_interactive_exception(call, report):
            item.ihook.pytest_exception_interact(node=item, call=call, report=report)

    async def _run(self, item: pytest.Item) -> None:
        with wrapped_by(item.ihook.pytest_runtest_call, item=item):
            item.runtest()
            assert self._aside is not None
            test, self._aside = self._aside, None
            await test


async def in_no_task(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call it where plain tests and fixtures belong: outside of this driver's task."""
    result: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def call() -> None:
        try:
            result.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - whatever ends the session
            result.set_exception(error)

    asyncio.get_running_loop().call_soon(call)
    return await result


async def awaited_call(function: Any) -> CallInfo[None]:
    """``CallInfo.from_call`` for a coroutine."""
    timing = CallInfo.from_call(lambda: None, when="call")
    raised: BaseException | None = None
    try:
        await function()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - pytest's outcomes are no Exceptions
        raised = error

    def outcome() -> None:
        if raised is not None:
            raise raised

    call = CallInfo.from_call(outcome, when="call")
    call.start, call.duration = timing.start, call.stop - timing.start
    return call


@contextmanager
def wrapped_by(hook: Any, **values: object) -> Iterator[None]:
    """What all plugins wrap around this hook (capture, warnings, xfail, …), around a block that awaits."""
    with ExitStack() as stack:
        for implementation in reversed(hook.get_hookimpls()):
            assert not implementation.hookwrapper, f"{implementation.plugin_name} wraps in the old way"
            if implementation.wrapper:
                arguments = [values[name] for name in implementation.argnames]
                stack.enter_context(contextmanager(implementation.function)(*arguments))
        yield


async def run_script(argv: list[str]) -> int:
    """Import the script and call its ``main(argv)``; see ``python -m tests.pyodide --help``."""
    path, *rest = argv
    sys.argv = argv
    spec = spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        code = module.main(rest)
        code = await code if isawaitable(code) else code
    except SystemExit as leaving:
        code = leaving.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
        return 1
    return code or 0
