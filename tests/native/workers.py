"""Who works in a `tests.native.stress` run, plain threads and the tasks of loops, and what a workload is."""

from __future__ import annotations

import asyncio
import math
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any
from weakref import ref

import anyio
import trio

from tests.native.stress import Operation, Stress, Worker

TASKS = 8  # of each loop

Body = Callable[[], Awaitable[None]]  # what a task does while it holds something


class Workload:
    """One primitive, what workers do with it, and what must hold all the time."""

    may_be_cancelled = True

    def __init__(self, stress: Stress, name: str = "") -> None:
        self.stress = stress
        self.name = name or type(self).__name__
        stress.workloads.append(self)

    def __str__(self) -> str:
        return self.name

    def subject(self) -> Any:
        """The object of the library."""
        raise NotImplementedError

    async def within(self, me: LoopWorker, body: Body) -> None:
        """Take it in one of the ways there are on a loop, and hold it for the time of `body`."""
        raise NotImplementedError

    def blocking_within(self, me: ThreadWorker, body: Callable[[], None]) -> None:
        """Take it in one of the ways there are in a plain thread, and hold it for the time of `body`."""
        raise NotImplementedError

    async def turn(self, me: LoopWorker) -> None:
        """One operation on a loop."""
        await self.within(me, me.pause)

    def blocking_turn(self, me: ThreadWorker) -> None:
        """One operation in a plain thread."""
        self.blocking_within(me, me.pause)

    def nudge(self) -> None:
        """The run is over: let those go who wait for others to do something."""

    def check_at_the_end(self) -> None:
        """Nobody is here any more: nothing is held, and nothing was lost."""
        raise NotImplementedError

    def state(self) -> str:
        """For the report."""
        subject = self.subject()
        statistics = getattr(subject, "statistics", None)
        return f"{self.name}: {subject!r}" + (f" {statistics()}" if statistics is not None else "")


class ThreadWorker(Worker):
    """A plain thread."""

    def pause(self) -> None:
        if self.chance(0.3):
            time.sleep(0 if self.chance(0.9) else 0.001)

    def run(self, workloads: list[Workload]) -> None:
        """Perform operations of these workloads until the run is over."""
        with self.stress.reporting():
            while not self.stress.stopping:
                workload = self.random.choice(workloads)
                with Operation(self, str(workload)):
                    workload.blocking_turn(self)


class LoopWorker(Worker):
    """The tasks of one loop, as long as it lives."""

    def sleep(self, seconds: float) -> Awaitable[None]:
        raise NotImplementedError

    def limit(self, seconds: float) -> AbstractAsyncContextManager[Any]:
        """What cancels its block after some seconds, and leaves quietly."""
        raise NotImplementedError

    async def together(self, *functions: Body) -> None:
        """Run all of them as tasks; when the running task is cancelled, they are as well."""
        raise NotImplementedError

    def ways_to_cancel(self) -> list[Callable[[Body], Awaitable[None]]]:
        """The ways to run something and cancel it after a moment."""
        return [self._in_time]

    async def pause(self) -> None:
        """Let the other tasks run: not at all, for some passes of the loop, or for a moment."""
        chance = self.random.random()
        if chance < 0.3:
            return
        if chance > 0.9:
            await self.sleep(self.random.random() * 0.003)
            return
        for _ in range(self.random.randrange(1, 4)):
            await self.sleep(0)

    async def work(self, workloads: list[Workload]) -> None:
        """What each task does: operations of these workloads, some of them cancelled, until the run is over."""
        try:
            while not self.stress.stopping:
                workload = self.random.choice(workloads)
                with Operation(self, str(workload)):
                    await self.perform(workload)
                await self.sleep(0)
        except Exception:  # noqa: BLE001  # to be reported with its traceback
            self.stress.fail(traceback.format_exc())

    async def perform(self, workload: Workload) -> None:
        async def turn() -> None:
            await workload.turn(self)

        if workload.may_be_cancelled and self.chance(0.3):
            await self.random.choice(self.ways_to_cancel())(turn)
        else:
            await turn()

    def moment(self) -> float:
        """Seconds until something is cancelled: in the first line it stands in, while it holds, or in a later line."""
        return self.random.choice([0, 0, 0.0005, 0.002, 0.02, 0.1]) * self.random.random()

    async def _in_time(self, body: Body) -> None:
        async with self.limit(self.moment()):
            await body()


class AsyncioWorker(LoopWorker):
    """The tasks of a loop of asyncio's kind."""

    sleep = staticmethod(asyncio.sleep)  # type: ignore[assignment]

    def __init__(self, stress: Stress, name: str, loop: asyncio.AbstractEventLoop, *, abandoned: bool = False) -> None:
        super().__init__(stress, name)
        self.loop = ref(loop)  # weakly: nothing here may keep a closed loop's tasks
        # Anyio's scopes, or asyncio's timeouts: in each other they now and then let a cancellation through. And anyio
        # keeps a task that is in one of its scopes when its loop is closed abruptly, for ever, with whatever it holds:
        # a value in anyio's table of tasks leads to its own key.
        self.has_scopes = not abandoned and self.chance(0.5)

    def stacks(self) -> str:
        loop = self.loop()
        if loop is None:
            return ""
        lines = [f"tasks of {self}:"]
        for task in asyncio.all_tasks(loop):
            lines.append(f"  {task!r}")
            awaited: Any = task.get_coro()
            while awaited is not None:
                frame = getattr(awaited, "cr_frame", None)
                if frame is not None:
                    lines.append(f"    {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
                awaited = getattr(awaited, "cr_await", None)
        return "\n".join(lines)

    def start(self, function: Body) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        return loop.create_task(_coroutine(function))

    def limit(self, seconds: float) -> AbstractAsyncContextManager[Any]:
        return _Scope(anyio.move_on_after(seconds)) if self.has_scopes else _QuietTimeout(seconds)

    def ways_to_cancel(self) -> list[Callable[[Body], Awaitable[None]]]:
        return [self._in_time, self._natively, *([] if self.has_scopes else [self._by_wait_for])]

    async def _natively(self, body: Body) -> None:
        task = self.start(body)
        try:
            await asyncio.sleep(self.moment())
        finally:
            if not task.get_loop().is_closed():
                task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def _by_wait_for(self, body: Body) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(_coroutine(body), self.moment())

    async def together(self, *functions: Body) -> None:
        await self.random.choice([self._in_a_list, self._gathered, self._in_a_task_group])(functions)

    async def _in_a_list(self, functions: Iterable[Body]) -> None:
        children = [self.start(function) for function in functions]
        try:
            await asyncio.wait(children)
        except asyncio.CancelledError:
            for child in children:
                child.cancel()
            raise
        for child in children:
            child.result()

    async def _gathered(self, functions: Iterable[Body]) -> None:
        await asyncio.gather(*map(_coroutine, functions))

    async def _in_a_task_group(self, functions: Iterable[Body]) -> None:
        async with asyncio.TaskGroup() as group:
            for function in functions:
                group.create_task(_coroutine(function))


class _QuietTimeout(AbstractAsyncContextManager[None]):
    """``asyncio.timeout`` that tells nobody."""

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(None if seconds == math.inf else seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *exc: object) -> bool | None:
        try:
            return await self._timeout.__aexit__(*exc)  # type: ignore[arg-type]
        except TimeoutError:
            return True


class TrioWorker(LoopWorker):
    """The tasks of a trio loop."""

    sleep = staticmethod(trio.sleep)  # type: ignore[assignment]

    def limit(self, seconds: float) -> AbstractAsyncContextManager[Any]:
        return _Scope(trio.move_on_after(seconds))

    async def together(self, *functions: Body) -> None:
        async with trio.open_nursery() as nursery:
            for function in functions:
                nursery.start_soon(_coroutine, function)


class _Scope(AbstractAsyncContextManager[None]):
    """A scope of trio's or anyio's, for ``async with``."""

    def __init__(self, scope: trio.CancelScope | anyio.CancelScope) -> None:
        self._scope = scope

    async def __aenter__(self) -> None:
        self._scope.__enter__()

    async def __aexit__(self, *exc: object) -> bool | None:
        return self._scope.__exit__(*exc)  # type: ignore[arg-type]


async def _coroutine(function: Body) -> None:
    await function()


# --- running them


def run_in_thread(stress: Stress, name: str, workloads: list[Workload]) -> None:
    with stress.reporting():
        worker = ThreadWorker(stress, name)
        stress.begin(worker)
        worker.run(workloads)
        stress.end(worker)


def run_on_asyncio(stress: Stress, name: str, what: Callable[[LoopWorker], Awaitable[None]]) -> None:
    """Run `what` in each of a loop's tasks."""

    async def main() -> None:
        worker = AsyncioWorker(stress, name, asyncio.get_running_loop())
        stress.begin(worker)
        await asyncio.gather(*(what(worker) for _ in range(TASKS)))
        stress.end(worker)

    with stress.reporting():
        asyncio.run(main())


def run_on_trio(stress: Stress, name: str, what: Callable[[LoopWorker], Awaitable[None]]) -> None:
    """Run `what` in each of a loop's tasks."""

    async def main() -> None:
        worker = TrioWorker(stress, name)
        stress.begin(worker)
        async with trio.open_nursery() as nursery:
            for _ in range(TASKS):
                nursery.start_soon(what, worker)
        stress.end(worker)

    with stress.reporting():
        trio.run(main)


def start_thread(target: Callable[..., None], *arguments: Any, name: str) -> threading.Thread:
    """A thread that cannot keep the process: what is stuck stays so."""
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    thread.start()
    return thread
