"""What the tests share, the same on asyncio, uvloop, eager tasks, trio and Pyodide's loop.

Order tasks with `settle`, never by sleeping; start them with `spawn`, end them with `Running.cancel` or
`native_cancel`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar, TypeVarTuple

import sniffio
from anyio import CancelScope
from anyio.abc import TaskGroup

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

in_pyodide = sys.platform == "emscripten"


def on_trio() -> bool:
    """Does this test run on trio? Else it runs on asyncio's kind."""
    return sniffio.current_async_library() == "trio"


def loop_name() -> str:
    """The loop this test runs on: asyncio, asyncio-eager, uvloop, trio or webloop, as in the test's id."""
    if on_trio():
        return "trio"
    if in_pyodide:
        return "webloop"
    loop = asyncio.get_running_loop()
    if type(loop).__module__.startswith("uvloop"):
        return "uvloop"
    return "asyncio" if loop.get_task_factory() is None else "asyncio-eager"


async def settle() -> None:
    """Wait until every other task of this loop is parked, and what is due has been done.

    A task that sleeps for some time, or waits for a thread, counts as parked. (anyio's own
    ``wait_all_tasks_blocked`` sleeps for 0.1 s where this takes a few trips through the loop.)
    """
    if on_trio():
        import trio.testing

        await trio.testing.wait_all_tasks_blocked()
        return
    quiet = 0
    while quiet < 3:  # a callback that is due may wake a task: only some quiet passes in a row are rest
        await asyncio.sleep(0)
        quiet = quiet + 1 if all(map(_rests, asyncio.all_tasks())) else 0


def _rests(task: asyncio.Task[Any]) -> bool:
    waiter = task._fut_waiter  # type: ignore[attr-defined]
    if waiter is not None:
        return not waiter.done()
    # In a step: the asking task itself, or one that Pyodide's run_sync suspended there.
    return bool(getattr(task.get_coro(), "cr_running", False))


class Running(Generic[T]):
    """A task that `spawn` started: what has become of it, and how to end it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: Literal["running", "returned", "raised", "cancelled"] = "running"
        self._scope = CancelScope()
        self._task: asyncio.Task[None] | None = None  # stays None on trio
        self._exception: Exception | None = None
        self._result: T

    def __repr__(self) -> str:
        return f"<task {self.name!r}: {self.state}>"

    @property
    def done(self) -> bool:
        return self.state != "running"

    @property
    def cancelled(self) -> bool:
        return self.state == "cancelled"

    @property
    def result(self) -> T:
        """What the task returned. Raises what it raised, and AssertionError if it runs or was cancelled."""
        if self.exception is not None:
            raise self.exception
        assert self.state == "returned", f"{self} has no result"
        return self._result

    @property
    def exception(self) -> Exception | None:
        """What the task raised, None if it returned or was cancelled. AssertionError if it still runs."""
        assert self.done, f"{self} has no outcome yet; settle first"
        unseen.discard(self)
        return self._exception

    def cancel(self) -> None:
        """Cancel the task as anyio and trio do: by a scope around it."""
        self._scope.cancel()

    async def _run(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> None:
        try:
            with self._scope:
                self._result = await function(*args)
                self.state = "returned"
        except AssertionError:  # the test has failed: its task group shall know at once
            self.state = "raised"
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the handle's reader gets it
            self.state, self._exception = "raised", error
            unseen.add(self)
        finally:
            if self.state == "running":
                self.state = "cancelled"

    async def _mind(self, task: asyncio.Task[None]) -> None:
        # A child of the task group that stands for `task`, which is none of anyio's.
        try:
            await asyncio.wait([task])
        finally:
            self._scope.cancel()
            with CancelScope(shield=True):
                await asyncio.wait([task])
        if task.cancelled():
            self.state = "cancelled"  # perhaps before its first step
        else:
            task.result()


unseen: set[Running[Any]] = set()  # tasks that failed, and nobody has asked yet


def spawn(group: TaskGroup, function: Callable[[*Ts], Awaitable[T]], *args: *Ts, name: str | None = None) -> Running[T]:
    """Start ``function(*args)`` in the task group, as a task called `name`, and return its handle.

    An AssertionError fails the group at once. Any other exception waits in the handle, and fails the test if nobody
    asks for it. On asyncio's kind the task is asyncio's own, not anyio's: eager where the loop makes eager tasks.
    """
    running: Running[T] = Running(name or getattr(function, "__name__", "task"))
    if on_trio():
        group.start_soon(running._run, function, *args, name=running.name)
    else:
        running._task = _task_on_asyncio(running._run(function, *args), running.name)
        group.start_soon(running._mind, running._task)
    return running


def _task_on_asyncio(coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    if factory is None:
        return loop.create_task(coroutine, name=name)
    return factory(loop, coroutine, name=name)  # create_task would name an eager task after its first step


def native_cancel(running: Running[Any]) -> None:
    """Cancel as the loop's own users do: ``task.cancel()`` on asyncio's kind, a scope on trio."""
    if running._task is None:
        running.cancel()
    else:
        running._task.cancel()


@contextmanager
def no_collector() -> Iterator[None]:
    """Let nothing but `collect` collect garbage here."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def collect() -> None:
    """Collect all garbage, also what the finalizers of a first round leave."""
    for _ in range(3):
        gc.collect()


def module_of(name: str, source: str, path: Path, **names: object) -> ModuleType:
    """Run the source as a module of this name, in which `names` are set before; a traceback shows the lines of `path`.

    With a loader: asyncio's debug mode looks up the lines that run, and 3.15 warns of a module without one.
    """
    module = module_from_spec(ModuleSpec(name, SourceFileLoader(name, str(path))))
    vars(module).update(names)
    exec(compile(source, path, "exec", dont_inherit=True), vars(module))
    return module
