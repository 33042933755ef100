"""Semaphore against every semaphore there is."""

from __future__ import annotations

import asyncio
from functools import partial

import aiologic
import anyio
import trio

from asynclocks import Semaphore
from benchmarks import shapes, trio_shapes
from benchmarks.harness import Case, Workload, first_against_rest, over
from benchmarks.shapes import Make

SEMAPHORES = {
    "asynclocks.Semaphore": Semaphore,
    "asyncio.Semaphore": asyncio.Semaphore,
    "trio.Semaphore": trio.Semaphore,
    "anyio.Semaphore": anyio.Semaphore,
    "anyio.Semaphore(fast_acquire=True)": partial(anyio.Semaphore, fast_acquire=True),
    "aiologic.Semaphore": aiologic.Semaphore,
}


def of(permits: int, loop: str) -> dict[str, Make]:
    """Those that run on this loop."""
    other = "trio.Semaphore" if loop == "asyncio" else "asyncio.Semaphore"
    return {name: partial(make, permits) for name, make in SEMAPHORES.items() if name != other}


def workloads() -> list[Workload]:
    found = []

    def add(name: str, cases: dict[str, Case], loop: str = "asyncio", **targets: float) -> None:
        where = "" if loop == "asyncio" else f" on {loop}"
        found.append(Workload(f"Semaphore{where}: {name}", cases, first_against_rest(cases, **targets), loop))

    add("uncontended", over(shapes.uncontended, of(10, "asyncio")), asyncio_Semaphore=1.25)
    # The issue sets no target for these on asyncio.
    add("ping-pong of 100 tasks", over(shapes.ping_pong, of(10, "asyncio"), 100, operations=100))
    add("convoy of 1,000 tasks", over(shapes.convoy, of(1, "asyncio"), 1_000, operations=1_000))
    add("uncontended", over(shapes.uncontended, of(10, "trio")), "trio", trio_Semaphore=1.0)
    cases = over(trio_shapes.ping_pong, of(10, "trio"), 100, operations=100)
    add("ping-pong of 100 tasks", cases, "trio", trio_Semaphore=1.0)
    cases = over(trio_shapes.convoy, of(1, "trio"), 1_000, operations=1_000)
    add("convoy of 1,000 tasks", cases, "trio", trio_Semaphore=1.0)
    return found


WORKLOADS = workloads()
