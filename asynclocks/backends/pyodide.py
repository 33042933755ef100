"""Which of its platforms Pyodide runs on: a browser or Node, served by `webloop`, or Cloudflare Workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from asynclocks.backends.asyncio import current_task
from asynclocks.backends.seam import LoopBackend


def adapt(backend: LoopBackend) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Make this backend fit the Pyodide that runs here, which no import may ask; the native hint, and `own`, there."""
    import js

    if str(getattr(getattr(js, "navigator", None), "userAgent", None)) != "Cloudflare-Workers":
        return current_task, ref
    from asynclocks.backends.workers import platform

    backend.__class__ = platform.WorkersBackend
    return platform.hint, platform.monitor.own
