"""Mutex against asyncio.Lock inside Pyodide: ``python -m tests.pyodide --script benchmarks/pyodide.py [--quick]``.

Pyodide has one loop and it always runs, so all samples share it; the rest is as in `benchmarks.__main__`.
"""

from __future__ import annotations

import asyncio
import gc
import platform
from datetime import UTC, datetime
from typing import Any

from asynclocks import Mutex
from benchmarks import report, shapes
from benchmarks.harness import FULL, QUICK, Case, Outcome, Plan, Workload, first_against_rest, over, plan

LOCKS = {"asynclocks.Mutex": Mutex, "asyncio.Lock": asyncio.Lock}


def workloads() -> list[Workload]:
    found = []

    def add(name: str, cases: dict[str, Case], target: float) -> None:
        comparisons = first_against_rest(cases, asyncio_Lock=target)
        found.append(Workload(f"Mutex in Pyodide: {name}", cases, comparisons, "webloop"))

    add("uncontended", over(shapes.uncontended, LOCKS), 1.25)
    for tasks in (2, 100):
        add(f"ping-pong of {tasks} tasks", over(shapes.ping_pong, LOCKS, tasks, operations=tasks), 1.1)
    return found


async def main(argv: list[str]) -> int:
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
    }
    effort = QUICK if "--quick" in argv else FULL
    outcomes = [await drive(plan(workload, effort)) for workload in workloads()]
    print(", ".join(about.values()), report.table(outcomes), sep="\n\n")
    print(report.as_json(about, outcomes, indent=None))
    return 0


async def drive(requests: Plan) -> Outcome:
    """What `natively` is elsewhere, with the one loop there is."""
    answer: Any = None
    while True:
        try:
            case, rounds = requests.send(answer)
        except StopIteration as end:
            return end.value
        gc.collect()
        gc.disable()
        try:
            answer = await case.work(rounds)
        finally:
            gc.enable()
