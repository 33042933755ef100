"""Inside a Worker: calls the app's handlers as the runtime of Python Workers does."""

from __future__ import annotations

from importlib import import_module
from inspect import isawaitable
from types import ModuleType
from typing import Any

app: ModuleType


def load(name: str) -> None:
    global app
    app = import_module(name)


async def fetch(request: Any, env: Any, ctx: Any) -> Any:
    """Answer by the app's class ``Default``, or by its function ``on_fetch``, which needs no SDK."""
    if hasattr(app, "on_fetch"):
        return await app.on_fetch(request, env, ctx)
    return await fetch_from(app.Default(ctx, env), request)


def make(name: str, state: Any, env: Any) -> Any:
    return getattr(app, name)(state, env)


async def fetch_from(entrypoint: Any, request: Any) -> Any:
    """Answer by a WorkerEntrypoint or a DurableObject."""
    from workers import Request

    answer = entrypoint.fetch(Request(request))
    if isawaitable(answer):
        answer = await answer
    return getattr(answer, "js_object", answer)
