"""A soak: loops and threads on shared objects, while loops are closed abruptly with tasks in them.

``python -m tests.native.soak 600`` runs it for ten minutes, ``… 600 SEED`` with the seed of another run. (Threads take
turns as they like, so the seed fixes who tries what, not who comes first.) It exits with 0 if nothing went wrong, else
with 1 and a report, also where something is stuck.

A loop that is closed has tasks parked in it, holding, or granted with their wake still on its way. Nobody cleans up
as ``asyncio.run`` would: the tasks are destroyed when they are collected, in any thread, also in the middle of another
task's step. That must change nothing for anybody else. The collector is the interpreter's own, as in any process; what
makes it run is a thread that makes garbage, as the rest of a process does.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import random
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import trio

from tests.native.stress import Operation, Stress, StuckError, Worker
from tests.native.workers import TASKS, AsyncioWorker, LoopWorker, TrioWorker, Workload, run_in_thread, start_thread
from tests.native.workloads import (
    FamilyWorkload,
    MutexWorkload,
    NestedWorkload,
    RwLockWorkload,
    SemaphoreWorkload,
)
from tests.native.workloads_of_signals import BarrierWorkload, CondvarWorkload, NotifyWorkload
from tests.native.workloads_of_values import FlightsWorkload, KeysWorkload, OnceCellWorkload

LONGEST_LIFE = 0.5  # seconds, of a loop that is closed abruptly
TRIO_LIFE = 5.0
CLEANING = 15.0  # seconds between full collections; the ordinary ones come as they come
REPORTING = 10.0
UVLOOP = "uvloop"


class EveryPrimitive:
    """The workloads that all workers share."""

    def __init__(self, stress: Stress) -> None:
        # The order in which locks are nested.
        locks: list[Workload] = [
            MutexWorkload(stress, "first mutex"),
            RwLockWorkload(stress),
            SemaphoreWorkload(stress),
            KeysWorkload(stress),
            MutexWorkload(stress, "last mutex"),
        ]
        family = FamilyWorkload(stress, locks)
        in_threads = [
            *locks,
            NestedWorkload(stress, locks),
            OnceCellWorkload(stress),
            CondvarWorkload(stress),
            NotifyWorkload(stress),
            FlightsWorkload(stress),
            BarrierWorkload(stress),
            family.outer,
        ]
        self.in_threads = in_threads
        self.on_loops = [*in_threads, family]


class AsyncioThread:
    """A thread that runs one loop after the other, and closes most of them abruptly."""

    def __init__(self, stress: Stress, name: str, make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.stress = stress
        self.name = name
        self.make_loop = make_loop
        self.random = random.Random(f"{stress.seed} {name}")
        self.lives = 0
        self.closed: Counter[str] = Counter()
        self.left_in_closed_loops = 0  # operations

    def run(self, workloads: list[Workload]) -> None:
        with self.stress.reporting():
            while not self.stress.stopping:
                self.lives += 1
                self.live(workloads)

    def live(self, workloads: list[Workload]) -> None:
        """One loop from beginning to end. Nothing that refers to it may outlive the call."""
        loop = self.make_loop()
        if sys.version_info >= (3, 12) and self.name != UVLOOP and self.random.random() < 0.3:
            loop.set_task_factory(asyncio.eager_task_factory)
        loop.set_exception_handler(self.complain)
        way = self.random.choice([None, self.stop_after_a_while, self.stop_from_a_thread, self.interrupt])
        worker = AsyncioWorker(self.stress, f"{self.name} {self.lives}", loop, abandoned=way is not None)
        self.stress.begin(worker)
        try:
            parent = loop.create_task(have_children(worker, workloads))
            if way is not None:
                way(loop)
            if way is None or self.stress.stopping:
                self.run_to_the_end(loop, parent)
            else:
                worker.is_gone = True
            self.left_in_closed_loops += len(worker.operations)
        finally:
            self.stress.end(worker)
        closing = Worker(self.stress, self.name)
        self.stress.begin(closing)
        with Operation(closing, "closing a loop"):
            time.sleep(self.random.choice([0, 0, 0.001, 0.005]))  # others may grant something to its tasks meanwhile
            loop.close()
            del loop, parent, worker  # what only reference counts keep goes here
        self.stress.end(closing)

    def lifetime(self) -> float:
        return self.random.random() * LONGEST_LIFE

    def stop_after_a_while(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed["by its own time"] += 1
        loop.run_until_complete(asyncio.sleep(self.lifetime()))

    def stop_from_a_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed["from a thread"] += 1
        timer = threading.Timer(self.lifetime(), loop.call_soon_threadsafe, [loop.stop])
        timer.start()
        loop.run_forever()
        timer.join()

    def interrupt(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed["by SystemExit"] += 1
        loop.call_later(self.lifetime(), sys.exit)
        with suppress(SystemExit):
            loop.run_forever()

    def run_to_the_end(self, loop: asyncio.AbstractEventLoop, parent: asyncio.Task[None]) -> None:
        """Clean up as `asyncio.run` does, or wait if the run is over."""
        self.closed["cleanly"] += 1
        if not self.stress.stopping:
            loop.run_until_complete(asyncio.sleep(self.lifetime()))
        if not self.stress.stopping:
            for task in asyncio.all_tasks(loop):
                task.cancel()
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(parent)
        while tasks := asyncio.all_tasks(loop):
            loop.run_until_complete(asyncio.wait(tasks))

    def complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Asyncio reports something: that a task was destroyed is what this is about, the rest is a fault."""
        message = context["message"]
        if message == "Task was destroyed but it is pending!":
            return
        error = context.get("exception")
        # The loop was closed between the end of its children, which were cancelled, and their parent's next step.
        if message.startswith("_GatheringFuture") and isinstance(error, asyncio.CancelledError):
            return
        lines = [] if error is None else traceback.format_exception(error)
        self.stress.fail(f"{message} {context}\n{''.join(lines)}")


async def have_children(me: AsyncioWorker, workloads: list[Workload]) -> None:
    """The parent of a loop's tasks, which keeps a list of them; each of them knows the list as well."""
    children: list[asyncio.Task[None]] = []

    async def child() -> None:
        await me.work(workloads)
        assert len(children) <= TASKS

    children.extend(me.start(child) for _ in range(TASKS))
    await asyncio.gather(*children)


class TrioThread:
    """A thread that runs one trio loop after the other. Trio closes none without cancelling its tasks."""

    def __init__(self, stress: Stress, name: str) -> None:
        self.stress = stress
        self.name = name
        self.lives = 0

    def run(self, workloads: list[Workload]) -> None:
        with self.stress.reporting():
            while not self.stress.stopping:
                self.lives += 1
                worker = TrioWorker(self.stress, f"{self.name} {self.lives}")
                self.stress.begin(worker)
                trio.run(self.live, worker, workloads)
                self.stress.end(worker)

    async def live(self, me: LoopWorker, workloads: list[Workload]) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(TASKS):
                nursery.start_soon(me.work, workloads)
            with trio.move_on_after(TRIO_LIFE):
                while not self.stress.stopping:  # noqa: ASYNC110  # a plain flag: finalizers set it too
                    await trio.sleep(0.05)
            if not self.stress.stopping:
                nursery.cancel_scope.cancel()


def make_garbage() -> None:
    """What the rest of a process does: it leaves objects that refer to themselves, so that the collector runs."""
    while True:
        for _ in range(2_000):
            garbage: list[object] = []
            garbage.append(garbage)
        time.sleep(0.01)


def watch_finalizers(stress: Stress) -> None:
    """An exception that the interpreter can tell nobody is a fault, but for those of asyncio's and anyio's own."""

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        text = "".join(traceback.format_exception(error))
        # A scope or a task group in an abandoned task is left where nothing of it can work any more.
        if "in a different task than it was entered in" in text or "no running event loop" in text:
            return
        if "asyncio/taskgroups.py" in text or "coroutine ignored GeneratorExit" in text:
            return
        stress.fail(f"unraisable, in {unraisable.object!r}: {text}")

    sys.unraisablehook = hook


def loop_makers() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Three loops of asyncio's kind, one of them uvloop if there is one."""
    third: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    name = "asyncio C"
    if find_spec("uvloop"):
        import uvloop

        third, name = uvloop.new_event_loop, UVLOOP
    return {"asyncio A": asyncio.new_event_loop, "asyncio B": asyncio.new_event_loop, name: third}


class Soak:
    """The soak as a whole."""

    def __init__(self, seed: int) -> None:
        self.stress = Stress(seed)
        self.every = EveryPrimitive(self.stress)
        self.loops = [AsyncioThread(self.stress, name, make) for name, make in loop_makers().items()]
        self.begun = time.monotonic()

    def run(self, seconds: float) -> bool:
        """Run it, and print what happens. True: no fault."""
        names = ", ".join(loop.name for loop in self.loops)
        print(f"soak of {seconds:g} s, seed {self.stress.seed}, Python {sys.version}, loops: {names}, trio")
        watch_finalizers(self.stress)
        warnings.simplefilter("ignore")  # a loose guard that is dropped with its task warns
        gc.collect()
        gc.freeze()  # what was imported is nothing that the collector should look through again and again
        threads = self.start()
        try:
            self.supervise(seconds)
            self.guard_the_watchdog(lives=20)
            self.stress.wait_for(threads)
        except StuckError as stuck:
            self.tell()
            self.stress.faults += [str(stuck), self.what_collecting_changes()]
            print(*self.stress.faults, sep="\n\n", flush=True)
            os._exit(1)  # the stuck threads cannot be ended
        faulthandler.cancel_dump_traceback_later()
        self.tell()
        self.check_at_the_end()
        print(*self.stress.faults or ["no fault"], sep="\n\n", flush=True)
        return not self.stress.faults

    def start(self) -> list[threading.Thread]:
        """The threads that share everything; one more, which does not count, makes garbage."""
        start_thread(make_garbage, name="garbage")
        loops = [*self.loops, TrioThread(self.stress, "trio")]
        return [
            *(start_thread(loop.run, self.every.on_loops, name=loop.name) for loop in loops),
            *(
                start_thread(run_in_thread, self.stress, f"thread {letter}", self.every.in_threads, name=letter)
                for letter in "ABCD"
            ),
        ]

    def supervise(self, seconds: float) -> None:
        """Watch the others until the time is over, or something is wrong."""
        self.begun = cleaned = told = now = time.monotonic()
        while not self.stress.stopping and now - self.begun < seconds:
            self.guard_the_watchdog(lives=2)
            self.stress.watch()
            if now - cleaned > CLEANING:
                cleaned = now
                gc.collect()
            if now - told > REPORTING:
                told = now
                self.tell()
            time.sleep(0.05)
            now = time.monotonic()

    def guard_the_watchdog(self, lives: int) -> None:
        """End the process if this thread, which watches the others, is stuck itself, in a finalizer perhaps."""
        faulthandler.dump_traceback_later(self.stress.patience * lives, exit=True, file=sys.stdout)

    def tell(self) -> None:
        closed = sum((loop.closed for loop in self.loops), Counter())
        left = sum(loop.left_in_closed_loops for loop in self.loops)
        print(
            f"{time.monotonic() - self.begun:6.1f} s: {self.stress.finished()} operations;",
            f"loops ended: {dict(closed)}, with {left} operations under way in them",
            flush=True,
        )

    def what_collecting_changes(self) -> str:
        """Does a full collection set anything free? For the report about what is stuck."""
        before = [workload.state() for workload in self.stress.workloads]
        gc.collect()
        time.sleep(1)
        after = [workload.state() for workload in self.stress.workloads]
        changes = [f"  {old}\n    {new}" for old, new in zip(before, after, strict=True) if old != new]
        return "\n".join(["a full collection changed:", *(changes or ["  nothing"])])

    def check_at_the_end(self) -> None:
        """With all threads ended and all tasks collected, nothing is held, and nothing was lost."""
        for _ in range(3):
            gc.collect()
        for workload in self.stress.workloads:
            with self.stress.reporting():
                workload.check_at_the_end()


def main(seconds: str = "30", seed: str = "") -> bool:
    return Soak(int(seed) if seed else random.SystemRandom().getrandbits(32)).run(float(seconds))


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
