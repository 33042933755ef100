"""What the library costs before it does anything: memory of a waiter, time of the import."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import asynclocks
from benchmarks.harness import Case, Comparison, Workload, over
from benchmarks.shapes import Make, settle
from benchmarks.workloads.mutex import ON_ASYNCIO

WAITERS = 2_000
SPARE_BYTES = 300
IMPORTS = {
    "asynclocks": "import asynclocks",
    "asynclocks.Mutex": "from asynclocks import Mutex",
    "all of asynclocks": "from asynclocks import *",
    **{name: f"import {name}" for name in ("anyio", "trio", "aiologic")},
}
IMPORT_SECONDS = {"asynclocks": 0.015, "asynclocks.Mutex": 0.005}

# The processor's time: beside other programs the clock on the wall tells of them.
IMPORT = """
import asyncio, attrs, sniffio, time
start = time.process_time()
{statement}
print(time.process_time() - start)
"""


async def waiter_bytes(make: Make, rounds: int) -> float:
    """What is allocated for a task that queues, less what is for a task that waits for a future they all share."""
    lock = make()
    shared = asyncio.get_running_loop().create_future()

    async def queue() -> None:
        async with lock:
            pass

    async def wait() -> None:
        await shared

    spent = 0
    for _ in range(rounds):
        async with lock:
            spent += await parked_bytes(queue) - await parked_bytes(wait)
    shared.cancel()
    return spent


async def parked_bytes(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """What is allocated for WAITERS tasks by the time they are all parked."""
    tracemalloc.start()
    tasks = [asyncio.create_task(work()) for _ in range(WAITERS)]
    await settle()
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return allocated


def import_seconds(statement: str, rounds: int) -> float:
    """What a new interpreter needs for it, with asyncio, attrs and sniffio there already: the best of `rounds`."""
    paths = [str(Path(asynclocks.__file__).parents[1]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody measures the compiler
    command = [sys.executable, "-c", IMPORT.format(statement=statement)]
    told = [subprocess.run(command, env=environment, check=True, capture_output=True, text=True) for _ in range(rounds)]
    return min(float(one.stdout) for one in told) * rounds  # what else the machine does only adds


def workloads() -> list[Workload]:
    memory = over(waiter_bytes, ON_ASYNCIO, operations=WAITERS, rounds=1)
    ours, *peers = memory
    beside = [Comparison(ours, peer, 1.0 if peer == "asyncio.Lock" else None, SPARE_BYTES) for peer in peers]
    imports = {name: Case(partial(import_seconds, statement), rounds=5) for name, statement in IMPORTS.items()}
    ours, _, everything, *peers = imports
    limits = [Comparison(name, None, extra=seconds) for name, seconds in IMPORT_SECONDS.items()]
    limits += [Comparison(name, peer) for peer in peers for name in (ours, everything)]
    return [
        Workload("Mutex: memory of a queued waiter beyond its task", memory, beside, unit="B"),
        Workload("import, beyond asyncio, attrs and sniffio", imports, limits, "process", unit="ms"),
    ]


WORKLOADS = workloads()
