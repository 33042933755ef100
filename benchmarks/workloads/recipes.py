"""What a warm CachedToken costs, and what CachingTransport adds to httpx."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter

import httpx

from asynclocks.recipes import CachedToken
from asynclocks.recipes.httpx import CachingTransport
from benchmarks import server, shapes
from benchmarks.clock import clock
from benchmarks.harness import Case, Workload, first_against_rest, own_copy

Around = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]
REQUESTS = 20  # in a sample: turns are short, so that a busy machine is busy for both
KINDS = {"plain": "not stored", "changing": "stored", "lasting": "confirmed by 304", "fresh": "fresh, so unasked"}


async def warm(expires_at: float | None, rounds: int) -> float:
    async def fetch() -> tuple[str, float | None]:
        return "token", expires_at

    token = CachedToken(fetch)
    await token.get()
    start = clock()
    for _ in range(rounds):
        await token.get()
    return clock() - start


async def requests(around: Around, kind: str, rounds: int) -> float:
    """One after the other, over one connection that is open. The server's time counts, so by the wall's clock."""
    url = f"{server.address()}/{kind}"
    async with httpx.AsyncClient(transport=around(httpx.AsyncHTTPTransport(verify=False))) as client:
        await client.get(url)
        start = perf_counter()
        for _ in range(rounds):
            response = await client.get(url)
            assert len(response.content) == len(server.BODY)
        return perf_counter() - start


def alone(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    return transport


def workloads() -> list[Workload]:
    tokens = {
        "asynclocks.CachedToken": Case(partial(own_copy(warm), float("inf"))),
        "asyncio.Lock": Case(partial(own_copy(shapes.uncontended), asyncio.Lock)),
    }
    found = [Workload("CachedToken: get, valid", tokens, first_against_rest(tokens, asyncio_Lock=3.0))]
    for kind, what in KINDS.items():
        around = partial(CachingTransport, freshness=kind == "fresh")
        clients = {
            "asynclocks.CachingTransport": Case(partial(own_copy(requests), around, kind), rounds=REQUESTS),
            "httpx": Case(partial(own_copy(requests), alone, kind), rounds=REQUESTS),
        }
        name = f"HTTP cache: a request, {what}"
        found.append(Workload(name, clients, first_against_rest(clients, httpx=1.15), unit="ms", quick=False))
    return found


WORKLOADS = workloads()
