"""Inside a Worker: calls the app's handlers as the runtime of Python Workers does."""

from __future__ import annotations

import base64
from importlib import import_module
from inspect import isawaitable
from pathlib import Path
from tempfile import gettempdir
from types import ModuleType
from typing import Any

COVERAGE = "/--coverage"  # a path
DATA = Path(gettempdir(), "coverage")

app: ModuleType
measure: Any = None


def load(name: str, measured: bool) -> None:
    """Import the app, and measure the coverage from here on, if that is wanted."""
    global app, measure
    if measured:
        import coverage

        measure = coverage.Coverage(data_file=str(DATA), data_suffix=False)
        measure.set_option("run:core", "sysmon")
        measure.start()
    app = import_module(name)


def measured() -> Any:
    """What was measured, as coverage's data file."""
    import js

    measure.stop()
    measure.save()
    return js.Response.new(base64.b64encode(DATA.read_bytes()).decode())


async def fetch(request: Any, env: Any, ctx: Any) -> Any:
    """Answer by the app's class ``Default``, or by its function ``on_fetch``, which needs no SDK."""
    if request.url.endswith(COVERAGE):
        return measured()
    if hasattr(app, "on_fetch"):
        return await app.on_fetch(request, env, ctx)
    return await fetch_from(app.Default(ctx, env), request)


def make(name: str, state: Any, env: Any) -> Any:
    return getattr(app, name)(state, env)


async def fetch_from(entrypoint: Any, request: Any) -> Any:
    """Answer by a WorkerEntrypoint or a DurableObject; to one of an app without the SDK the request goes as it is."""
    if not hasattr(app, "on_fetch"):
        from workers import Request

        request = Request(request)
    answer = entrypoint.fetch(request)
    if isawaitable(answer):
        answer = await answer
    return getattr(answer, "js_object", answer)
