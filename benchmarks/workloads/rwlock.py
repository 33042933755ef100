"""RwLock against aiorwlock, which runs on asyncio only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import aiorwlock
import trio

from asynclocks import RwLock
from benchmarks.clock import clock
from benchmarks.harness import Case, Workload, first_against_rest, own_copy
from benchmarks.shapes import Make

READERS, WRITERS = 90, 10
PEERS = {"aiorwlock.RWLock(fast=True)": partial(aiorwlock.RWLock, fast=True), "aiorwlock.RWLock": aiorwlock.RWLock}
TARGETS = {"aiorwlock_RWLock_fast_True": 1.1, "aiorwlock_RWLock": 0.5}


# `read()` and `write()` are part of what is measured, as its users write them. Ours serve trio as well.
async def read(rounds: int) -> float:
    lock = RwLock()
    start = clock()
    for _ in range(rounds):
        async with lock.read():
            pass
    return clock() - start


async def write(rounds: int) -> float:
    lock = RwLock()
    start = clock()
    for _ in range(rounds):
        async with lock.write():
            pass
    return clock() - start


async def peer_reads(make: Make, rounds: int) -> float:
    lock = make()
    start = clock()
    for _ in range(rounds):
        async with lock.reader:
            pass
    return clock() - start


async def peer_writes(make: Make, rounds: int) -> float:
    lock = make()
    start = clock()
    for _ in range(rounds):
        async with lock.writer:
            pass
    return clock() - start


async def crowd(rounds: int) -> float:
    """Each of the readers and writers, again and again: lock, ``await sleep(0)``, unlock."""
    lock = RwLock()
    sleep = asyncio.sleep

    async def reads() -> None:
        for _ in range(rounds):
            async with lock.read():
                await sleep(0)

    async def writes() -> None:
        for _ in range(rounds):
            async with lock.write():
                await sleep(0)

    start = clock()
    await asyncio.gather(*[reads() for _ in range(READERS)], *[writes() for _ in range(WRITERS)])
    return clock() - start


async def peers_crowd(make: Make, rounds: int) -> float:
    lock = make()
    sleep = asyncio.sleep

    async def reads() -> None:
        for _ in range(rounds):
            async with lock.reader:
                await sleep(0)

    async def writes() -> None:
        for _ in range(rounds):
            async with lock.writer:
                await sleep(0)

    start = clock()
    await asyncio.gather(*[reads() for _ in range(READERS)], *[writes() for _ in range(WRITERS)])
    return clock() - start


async def trio_lock(rounds: int) -> float:
    """There is no RwLock of trio's: what its users have instead."""
    lock = trio.Lock()
    start = clock()
    for _ in range(rounds):
        async with lock:
            pass
    return clock() - start


def both(ours: Callable[..., Any], theirs: Callable[..., Any], operations: int = 1) -> dict[str, Case]:
    peers = {name: Case(partial(own_copy(theirs), make), operations) for name, make in PEERS.items()}
    return {"asynclocks.RwLock": Case(ours, operations)} | peers


def workloads() -> list[Workload]:
    found = []

    def add(name: str, cases: dict[str, Case], loop: str = "asyncio", **targets: float) -> None:
        where = "" if loop == "asyncio" else f" on {loop}"
        found.append(Workload(f"RwLock{where}: {name}", cases, first_against_rest(cases, **targets), loop))

    add("read, uncontended", both(read, peer_reads), **TARGETS)
    add("write, uncontended", both(write, peer_writes), **TARGETS)
    add(
        f"{READERS} readers and {WRITERS} writers",
        both(crowd, peers_crowd, READERS + WRITERS),
        aiorwlock_RWLock_fast_True=0.9,
    )
    for name, ours in {"read": read, "write": write}.items():  # no target: a Lock does less
        subjects = {"asynclocks.RwLock": Case(own_copy(ours)), "trio.Lock": Case(own_copy(trio_lock))}
        add(f"{name}, uncontended", subjects, "trio")
    return found


WORKLOADS = workloads()
