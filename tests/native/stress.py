"""Many workers on shared objects: what went wrong, and a watchdog for what never ends.

`Stress` is one run. A `Worker` is a plain thread, or one life of a loop with all of its tasks; the kinds of workers,
and what they work at, are in `tests.native.workers`. `tests.native.soak` closes loops abruptly on top of this;
`test_parallel.py` runs it for one primitive at a time.

Much of this is run by finalizers: the collector closes the coroutine of an abandoned task anywhere, also in the middle
of this module. So nothing here takes a lock, and what several threads change is changed in one atomic step.
"""

from __future__ import annotations

import faulthandler
import random
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from asynclocks import MappedGuard

PATIENCE = 20.0  # seconds: no operation takes longer unless something is stuck
MOST_FAULTS = 20  # that are reported; the first one ends the run, the others come while it ends

Body = Callable[[], Awaitable[None]]  # what a task does while it holds something


class Subject(Protocol):
    """What workers work at, as the report needs it."""

    def state(self) -> str: ...

    def nudge(self) -> None: ...

    def check_at_the_end(self) -> None: ...


class Stress:
    """One run of many workers."""

    def __init__(self, seed: int, patience: float = PATIENCE) -> None:
        self.seed = seed
        self.patience = patience
        self.faults: list[str] = []
        self.stopping = False
        self.workers: list[Worker] = []  # those of now
        self.totals: Counter[object] = Counter()  # of those that have ended
        self.workloads: list[Subject] = []
        self._totals_lock = threading.Lock()  # taken by threads that end a worker, and by no finalizer

    # What went wrong.
    def fail(self, fault: str) -> None:
        """Note a fault, and end the run."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(f"{threading.current_thread().name}: {fault}")
        self.stopping = True

    def expect(self, condition: object, fault: str) -> None:
        """Fail unless the condition holds, and say where."""
        if not condition:
            self.fail(f"{fault}\n{''.join(traceback.format_stack(limit=12))}")

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Whatever is raised here is a fault."""
        try:
            yield
        except BaseException:  # noqa: BLE001  # to be reported with its traceback
            self.fail(traceback.format_exc())

    # Workers come and go.
    def begin(self, worker: Worker) -> None:
        self.workers.append(worker)

    def end(self, worker: Worker) -> None:
        """This worker does nothing any more, whatever its operations still stand for: nobody waits for them."""
        with self._totals_lock:
            self.workers.remove(worker)
            self.totals.update(worker.counts)

    def total(self, what: object) -> int:
        return self.totals[what] + sum(worker.counts[what] for worker in list(self.workers))

    def finished(self) -> int:
        """How many operations were performed so far."""
        return self.total(Operation)

    # The watchdog.
    def oldest(self) -> Operation | None:
        """The operation that has been under way for the longest time."""
        return min(self._operations(), key=lambda operation: operation.since, default=None)

    def watch(self) -> None:
        """Fail if an operation never ends. To be called by the main thread all the time."""
        operation = self.oldest()
        if operation is not None and time.monotonic() - operation.since > self.patience:
            raise StuckError(self.report())

    def wait_for(self, threads: list[threading.Thread]) -> None:
        """End the run: wait until these threads have ended, and let those go who wait for others to do something."""
        self.stopping = True
        while any(thread.is_alive() for thread in threads):
            for workload in self.workloads:
                workload.nudge()
            self.watch()
            time.sleep(0.01)

    def report(self) -> str:
        """Every operation that is under way, all threads' stacks, the loops' tasks, and the objects' statistics."""
        now = time.monotonic()
        lines = [f"no end for {self.patience:g} s, after {self.finished()} operations (seed {self.seed})", "under way:"]
        under_way = sorted(self._operations(), key=lambda operation: operation.since)
        lines += [f"  {now - one.since:6.2f} s  {one.worker.name}: {one.what}" for one in under_way]
        lines += ["the objects:", *(f"  {workload.state()}" for workload in self.workloads)]
        lines += [stacks_of_threads(), *(worker.stacks() for worker in list(self.workers))]
        lines += self.faults
        return "\n".join(lines)

    def _operations(self) -> Iterable[Operation]:
        return [operation for worker in list(self.workers) for operation in list(worker.operations)]


class StuckError(AssertionError):
    """Something never ends; the message is the report."""


class Operation:
    """One operation while it is under way, for ``with``."""

    __slots__ = ("since", "what", "worker")

    def __init__(self, worker: Worker, what: str) -> None:
        self.worker = worker
        self.what = what

    def __enter__(self) -> None:
        self.since = time.monotonic()
        self.worker.operations[self] = None

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        del self.worker.operations[self]
        if kind is None:  # else it may be a finalizer's thread, and another one counts here too
            self.worker.counts[Operation] += 1


class Worker:
    """A plain thread, or one life of a loop with all of its tasks."""

    def __init__(self, stress: Stress, name: str) -> None:
        self.stress = stress
        self.name = name
        self.random = random.Random(f"{stress.seed} {name}")
        self.operations: dict[Operation, None] = {}
        self.counts: Counter[object] = Counter()  # changed by the worker's own thread, never by a finalizer
        self.is_gone = False  # its loop was closed with its tasks in it

    def __repr__(self) -> str:
        return self.name

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def stacks(self) -> str:
        """Where its tasks are, for the report."""
        return ""


# --- checks that workloads are made of


class Exclusive:
    """Nobody is inside together with anybody else, for ``with``: whoever is, holds this guard."""

    def __init__(self, stress: Stress, where: str) -> None:
        self.stress = stress
        self.where = where
        self.inside: _Inside | None = None

    def __call__(self, me: Worker, guard: object = None, *, loose: bool = False) -> _Inside:
        return _Inside(self, me, loose or is_loose(guard))


class _Inside:
    __slots__ = ("guarded", "me", "where")

    def __init__(self, where: Exclusive, me: Worker, guarded: bool) -> None:
        self.where = where
        self.me = me
        self.guarded = guarded

    def __enter__(self) -> None:
        where = self.where
        other, where.inside = where.inside, self
        where.stress.expect(other is None or other.is_left(), f"{self} came in beside {other}")

    def __exit__(self, *exc: object) -> None:
        where = self.where
        if self.is_left():
            return
        other, where.inside = where.inside, None
        where.stress.expect(other is self, f"{self} found {other} in its place")

    def is_left(self) -> bool:
        return self.guarded and self.me.is_gone

    def __repr__(self) -> str:
        return f"<{self.me} in {self.where.where}>"


class Shared:
    """Many readers or one writer, for ``with``: `reading`, `writing`."""

    def __init__(self, stress: Stress, where: str) -> None:
        self.stress = stress
        self.where = where
        self.readers: dict[_Reading, None] = {}
        self.writing = Exclusive(stress, f"{where}, writing")

    def reading(self, me: Worker, guard: object = None) -> _Reading:
        return _Reading(self, me, guard)

    def nobody_reads(self) -> None:
        readers = [reader for reader in self.readers.copy() if not reader.is_left()]
        self.stress.expect(not readers, f"{self.writing.inside} beside {readers}")


class _Reading:
    __slots__ = ("guarded", "me", "where")

    def __init__(self, where: Shared, me: Worker, guard: object) -> None:
        self.where = where
        self.me = me
        self.guarded = is_loose(guard)

    def __enter__(self) -> None:
        self.where.readers[self] = None
        self._nobody_writes()

    def __exit__(self, *exc: object) -> None:
        if not self.is_left():
            self._nobody_writes()
        del self.where.readers[self]

    def _nobody_writes(self) -> None:
        writer = self.where.writing.inside
        self.where.stress.expect(writer is None or writer.is_left(), f"{self} beside {writer}")

    def is_left(self) -> bool:
        return self.guarded and self.me.is_gone

    def __repr__(self) -> str:
        return f"<{self.me} reading {self.where.where}>"


def is_loose(guard: object) -> bool:
    """May this guard let go before its block has ended, when the loop of its task was closed?

    The collector finalizes what an abandoned task leaves in an order of its own, and a loose guard lets go when
    that guard is finalized: perhaps before the coroutine is, which ends the block. So its block may find others inside.
    """
    return hasattr(type(guard), "__del__") or isinstance(guard, MappedGuard)


# --- what the report says


def stacks_of_threads() -> str:
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        return file.read()
