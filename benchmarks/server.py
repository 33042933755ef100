"""An HTTP server on 127.0.0.1 for `benchmarks.workloads.recipes`, in a process of its own, as servers are.

In ours it would fight for the interpreter's lock, and its time would count as the client's.
"""

from __future__ import annotations

import atexit
import socket
import subprocess
import sys
from functools import cache
from itertools import count
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BODY = b"x" * 2000
ROOT = Path(__file__).parents[1]
numbers = count()


async def answer(request: Request) -> Response:
    """`plain`: nothing to cache. `changing`: another ETag each time. `lasting`: one ETag, and 304 to who has it.

    `fresh`: good for a day.
    """
    kind = request.path_params["kind"]
    if kind == "plain":
        return Response(BODY)
    if kind == "fresh":
        return Response(BODY, headers={"Cache-Control": "max-age=86400"})
    etag = '"lasting"' if kind == "lasting" else f'"{next(numbers)}"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"ETag": etag})
    return Response(BODY, headers={"ETag": etag})


def serve() -> None:
    """Serve until stopped; the first line printed is the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        app = Starlette(routes=[Route("/{kind}", answer)])
        uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run([listening])


@cache
def address() -> str:
    """Of a server that is started now and stopped with us."""
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.server"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    atexit.register(server.wait)
    atexit.register(server.terminate)
    assert server.stdout is not None
    return f"http://127.0.0.1:{server.stdout.readline().strip()}"


if __name__ == "__main__":
    serve()
