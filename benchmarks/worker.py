"""The Worker of `benchmarks.workerd`: what locks cost inside one request and from one to the next.

Its clock shows whole milliseconds, as the platform's does, so everything is done often.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import js

from asynclocks import Mutex
from benchmarks import report, shapes
from benchmarks.harness import FULL, Workload, first_against_rest, over, plan
from benchmarks.pyodide import LOCKS, drive

EFFORT = attrs.evolve(FULL, sample=0.1, repeats=15, seconds=8.0)

baton = Mutex()
given = 0.0  # when the baton was last given on


async def ratios() -> str:
    """A table: uncontended, after the request's first, and contended within the request."""
    async with Mutex():
        await asyncio.sleep(0)
    uncontended = over(shapes.uncontended, LOCKS)
    contended = over(shapes.ping_pong, LOCKS, 2, operations=2)
    workloads = [
        Workload("Mutex in a Worker: uncontended", uncontended, first_against_rest(uncontended, asyncio_Lock=1.5)),
        Workload("Mutex in a Worker: ping-pong of 2 tasks", contended, first_against_rest(contended, asyncio_Lock=1.3)),
    ]
    return report.table([await drive(plan(workload, EFFORT)) for workload in workloads])


async def first(lock: str) -> float:
    """What the request's first acquisition costs, with a step in its block, in seconds."""
    made = LOCKS[lock]()
    begun = perf_counter()
    async with made:
        await asyncio.sleep(0)
    return perf_counter() - begun


async def relay(rounds: str) -> list[float]:
    """Give the baton to and fro with another request that does the same; how long each way to here took, in seconds."""
    global given
    took = []
    for _ in range(int(rounds)):
        waited = baton.locked()
        async with baton:
            if waited:
                took.append(perf_counter() - given)
            await asyncio.sleep(0.004)  # up to 2 ms are none to this loop
            given = perf_counter()
    return took


HANDLERS: dict[str, Callable[..., Any]] = {"/ratios": ratios, "/first": first, "/relay": relay}


async def on_fetch(request: Any, env: Any, ctx: Any) -> Any:  # noqa: ARG001 - the runtime's signature
    url = urlsplit(request.url)
    return js.Response.new(json.dumps(await HANDLERS[url.path](**dict(parse_qsl(url.query)))))
