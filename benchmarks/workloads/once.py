"""OnceCell and once, when the value is there, against what caches a coroutine's result."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import asyncstdlib
import trio
from async_lru import alru_cache

from asynclocks import OnceCell, once
from benchmarks.clock import clock
from benchmarks.harness import Case, Workload, first_against_rest, own_copy

Function = Callable[[], Coroutine[Any, Any, None]]


async def empty() -> None: ...


async def hit(rounds: int) -> float:
    """Serves trio as well."""
    cell: OnceCell[None] = OnceCell()
    await cell.get_or_init(empty)
    start = clock()
    for _ in range(rounds):
        await cell.get_or_init(empty)
    return clock() - start


async def call(decorate: Callable[[Function], Function], rounds: int) -> float:
    function = decorate(empty)
    await function()
    start = clock()
    for _ in range(rounds):
        await function()
    return clock() - start


def plain(function: Function) -> Function:
    return function


def checkpoint(_: Function) -> Function:
    return trio.lowlevel.checkpoint


def workloads() -> list[Workload]:
    found = []

    def add(name: str, cases: dict[str, Case], loop: str = "asyncio", **targets: float) -> None:
        where = "" if loop == "asyncio" else f" on {loop}"
        found.append(Workload(name.format(where), cases, first_against_rest(cases, **targets), loop))

    peers = {
        "async_lru.alru_cache": alru_cache,
        "asyncstdlib.cache": asyncstdlib.cache,
        "an empty coroutine": plain,
    }
    limits = {"async_lru_alru_cache": 0.8, "an_empty_coroutine": 2.5}

    def theirs() -> dict[str, Case]:
        return {name: Case(partial(own_copy(call), decorate)) for name, decorate in peers.items()}

    add("OnceCell{}: get_or_init once set", {"asynclocks.OnceCell": Case(hit)} | theirs(), **limits)
    add("once{}: called again", {"asynclocks.once": Case(partial(own_copy(call), once))} | theirs())
    on_trio = {
        "asynclocks.OnceCell": Case(own_copy(hit)),
        "trio's checkpoint": Case(partial(own_copy(call), checkpoint)),
    }
    add("OnceCell{}: get_or_init once set", on_trio, "trio")  # no target: a hit is a checkpoint, and more
    return found


WORKLOADS = workloads()
