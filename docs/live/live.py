"""What a program on the live page imports: ``shown(lock)`` lets the page see who waits for the lock and who holds it.

The lock does what it always does: the page is told before and after. Outside of the page nobody is told, so that the
programs run on any machine, beside this file.
"""

from __future__ import annotations

import asyncio
import linecache
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from asynclocks import DeadlockError

T = TypeVar("T")

# What gives a hold once it is awaited or entered; what a task only waits for; what gives a hold now, or raises.
HOLDS = {
    "acquire",
    "acquire_owned",
    "lock",
    "lock_owned",
    "read",
    "read_owned",
    "upgradable_read",
    "write",
    "write_owned",
}
PASSES = {"wait", "wait_for", "wait_while"}
TRIES = {"try_acquire", "try_lock", "try_read", "try_upgradable_read", "try_write"}


class Run:
    """One run of one program: whom to tell what happens in it."""

    def __init__(self, to: Callable[[dict[str, Any]], object]) -> None:
        self._to = to
        self._start = monotonic()
        self.mains: list[Coroutine[Any, Any, Any]] = []

    def tell(self, kind: str, **more: Any) -> None:
        self._to({"kind": kind, "at": (monotonic() - self._start) * 1000, **more})

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Those of this run that are not done, but for who asks."""
        asking = asyncio.current_task()
        return [task for task in asyncio.all_tasks() if task.get_context().get(_run) is self and task is not asking]


_run: ContextVar[Run] = ContextVar("run")


def shown(lock: T, name: str) -> T:
    """The same lock, under this name on the page."""
    return Shown(lock, name)  # type: ignore[return-value]


class Shown:
    """A lock, an acquisition or a guard, which tells the page what is done with it."""

    def __init__(self, thing: Any, name: str, how: str = "", then: str = "holds") -> None:
        vars(self).update(_thing=thing, _name=name, _how=how, _then=then)

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._thing, attribute)
        if attribute in HOLDS:
            return lambda *args, **named: Shown(found(*args, **named), self._name, attribute)
        if attribute == "notified":
            return lambda *args: Shown(found(*args), self._name, then="passes")
        if attribute in PASSES:
            return partial(self._pass, found)
        if attribute in TRIES:
            return partial(self._try, found, attribute)
        if attribute == "release":
            self._tell("frees")
        return found

    def __setattr__(self, attribute: str, value: Any) -> None:
        setattr(self._thing, attribute, value)

    def __repr__(self) -> str:
        return repr(self._thing)

    async def __aenter__(self) -> Any:
        return self._guard(await self._wait(self._thing.__aenter__))

    async def __aexit__(self, *error: object) -> Any:
        self._tell("frees")
        return await self._thing.__aexit__(*error)

    def __await__(self) -> Generator[Any, None, Any]:
        got = yield from self._wait(self._itself).__await__()
        return self._guard(got)

    def __enter__(self) -> Any:
        self._thing.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        self._tell("frees")
        return self._thing.__exit__(*error)

    async def _itself(self) -> Any:
        return await self._thing

    def _guard(self, got: Any) -> Any:
        return got if got is None or self._then == "passes" else Shown(got, self._name)

    def _try(self, take: Callable[..., Any], how: str, *args: Any) -> Shown:
        guard = Shown(take(*args), self._name, how)
        guard._tell("holds")
        return guard

    async def _pass(self, wait: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Any:
        """A condition variable frees the mutex of the guard, and has it again when it is back."""
        guards = [one for one in args if isinstance(one, Shown)]
        for guard in guards:
            guard._tell("frees")
        try:
            bare = [one._thing if isinstance(one, Shown) else one for one in args]
            return await self._wait(partial(wait, *bare, **named), "passes")
        finally:
            for guard in guards:
                guard._tell("holds")

    async def _wait(self, begin: Callable[[], Awaitable[Any]], then: str | None = None) -> Any:
        self._tell("waits")
        try:
            got = await begin()
        except asyncio.CancelledError:
            self._tell("cancelled")
            raise
        except DeadlockError as error:
            self._tell("deadlock", cycle=list(error.cycle))
            raise
        except BaseException:
            self._tell("leaves")
            raise
        self._tell(then or self._then)
        return got

    def _tell(self, kind: str, **more: Any) -> None:
        run = _run.get(None)
        if run is not None:
            task = asyncio.current_task()
            name = "no task" if task is None else task.get_name()
            run.tell(kind, task=name, lock=self._name, how=self._how, **more)


# The rest is for the page.


_started: dict[str, asyncio.Task[None]] = {}


def start(source: str, name: str, to: Callable[[dict[str, Any]], object]) -> None:
    """Let the program run; `to` is told how it ends."""
    _started[name] = asyncio.create_task(run(source, name, to), name="main")


def cancel(name: str) -> None:
    """As Ctrl-C does with `asyncio.run`: cancel the program's main task."""
    _started[name].cancel()


async def run(source: str, name: str, to: Callable[[dict[str, Any]], object]) -> None:
    """Run a program, tell `to` what its locks and its output do, and at last how it ended."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # for its tracebacks
    this = Run(to)
    _run.set(this)
    try:
        exec(compile(source, name, "exec"), {"__name__": "__main__"})  # noqa: S102  # it is the visitor's own
        for main in this.mains:
            await main
    except asyncio.CancelledError:
        this.tell("stopped")
    except BaseException as error:  # noqa: BLE001  # whatever ends a program
        this.tell("says", text=_told(error, name))
        this.tell("failed")
    else:
        this.tell("ended")
    finally:
        for task in this.tasks():
            task.cancel()


def _told(error: BaseException, name: str) -> str:
    """The traceback, with the program's own lines only."""
    told = traceback.TracebackException.from_exception(error)
    todo = [told]
    while todo:
        one = todo.pop()
        one.stack = traceback.StackSummary.from_list([frame for frame in one.stack if frame.filename == name])
        todo += filter(None, [one.__cause__, one.__context__, *(one.exceptions or ())])
    return "".join(told.format())


def run_by_the_page(main: Coroutine[Any, Any, Any], **_: Any) -> None:
    """In the place of `asyncio.run`: the page's loop runs already. It runs `main` when the program's text is done."""
    _run.get().mains.append(main)


class Output:
    """In the place of `sys.stdout`: what is printed belongs to a run."""

    def write(self, text: str) -> int:
        _run.get().tell("says", text=text)
        return len(text)

    def flush(self) -> None:
        """There is nothing to flush."""


def settle_in() -> None:
    """Make this interpreter the page's."""
    asyncio.run = run_by_the_page  # type: ignore[assignment]
    sys.stdout = sys.stderr = Output()  # type: ignore[assignment]
