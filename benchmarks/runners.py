"""Who runs a workload: each sample gets a fresh loop, and no garbage collection while it lasts."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import trio

from benchmarks.harness import Case

LoopFactory = Callable[[], asyncio.AbstractEventLoop] | None
Run = Callable[..., Any]


def loop_factory(name: str) -> LoopFactory:
    """None for asyncio's own, as `asyncio.Runner` has it."""
    if name == "asyncio":
        return None
    import uvloop

    return uvloop.new_event_loop


def on_asyncio(factory: LoopFactory) -> Run:
    """Like `trio.run`: a coroutine function and its arguments, on a fresh loop."""

    def run(work: Callable[..., Any], *args: Any) -> Any:
        with asyncio.Runner(debug=False, loop_factory=factory) as runner:
            return runner.run(work(*args))

    return run


# How a case is run, given how to run something on asyncio.
RUNNERS: dict[str, Callable[[Case, int, Run], float]] = {
    "asyncio": lambda case, rounds, run: run(case.work, rounds),
    "trio": lambda case, rounds, _: trio.run(case.work, rounds),
    "threads": lambda case, rounds, run: case.work(run, rounds),  # makes its own threads, and their loops with `run`
    "process": lambda case, rounds, _: case.work(rounds),
}


def measuring(loop: str, factory: LoopFactory) -> Callable[[Case, int], float]:
    """A measurement under the same conditions for everybody."""
    runner = RUNNERS[loop]
    run = on_asyncio(factory)

    def measure(case: Case, rounds: int) -> float:
        gc.collect()  # the last sample's leavings are nobody else's
        gc.disable()
        try:
            return runner(case, rounds, run)
        finally:
            gc.enable()

    return measure
