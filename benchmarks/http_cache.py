"""What CachingTransport adds to httpx, per request, against a server on 127.0.0.1: `python -m benchmarks.http_cache`.

Plain and caching requests take turns, so that both see the same machine. Three cases: an answer that is not stored,
one that is stored (each by another ETag), and one that the server confirms (a 304 in place of the body).
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from asynclocks.recipes.httpx import CachingTransport

BODY = b"x" * 2000
ROUNDS = 1500
WARM_UP = 100


async def answer(request: Request) -> Response:
    case = request.path_params["case"]
    if case == "unstored":
        return Response(BODY)
    etag = f'"{time.perf_counter_ns()}"' if case == "stored" else '"always"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"ETag": etag})
    return Response(BODY, headers={"ETag": etag})


def serve() -> None:
    """Serve until killed; the first line printed is the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    app = Starlette(routes=[Route("/{case}", answer)])
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run([listening])


@contextmanager
def serving() -> Iterator[str]:
    """A server in a process of its own, as servers are: in ours it would fight for the interpreter's lock."""
    command = [sys.executable, "-m", "benchmarks.http_cache", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.terminate()


async def once(client: httpx.AsyncClient, url: str) -> float:
    """Seconds for one request and its body."""
    start = time.perf_counter()
    response = await client.get(url)
    assert len(response.content) == len(BODY)
    return time.perf_counter() - start


async def measure(base: str) -> None:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport()) as plain:  # noqa: SIM117 - two that compare
        async with httpx.AsyncClient(transport=CachingTransport()) as caching:
            for case in ("unstored", "stored", "confirmed"):
                await compare(case, plain, caching, f"{base}/{case}")


async def compare(case: str, plain: httpx.AsyncClient, caching: httpx.AsyncClient, url: str) -> None:
    times: dict[httpx.AsyncClient, list[float]] = {plain: [], caching: []}
    for number in range(ROUNDS + WARM_UP):
        for client in (plain, caching) if number % 2 else (caching, plain):
            took = await once(client, url)
            if number >= WARM_UP:
                times[client].append(took)
    base, ours = (statistics.median(times[client]) * 1e6 for client in (plain, caching))
    print(f"{case:>10}: httpx {base:6.0f} us, with the cache {ours:6.0f} us: {ours / base - 1:+.1%}")


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        with serving() as url:
            asyncio.run(measure(url))
