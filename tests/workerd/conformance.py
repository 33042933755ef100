"""A Worker that runs pytest: the conformance tests in one request, or in one call of a Durable Object."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from workers import DurableObject, Response, WorkerEntrypoint

from tests.pyodide.inside import in_no_task, run_pytest_awaiting, run_pytest_switching_stacks


async def run_pytest(request: Any) -> Response:
    """Answer what pytest printed, and its exit code. The request's body has the driver and pytest's arguments."""
    order = json.loads(await request.text())
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        if order["driver"] == "jspi":
            code = await in_no_task(run_pytest_switching_stacks, order["args"], False)
        else:
            code = await run_pytest_awaiting(order["args"], False)
    return Response.json({"code": code, "printed": printed.getvalue()})


class Conformance(DurableObject):
    async def fetch(self, request: Any) -> Response:
        return await run_pytest(request)


class Default(WorkerEntrypoint):
    async def fetch(self, request: Any) -> Any:
        if request.url.endswith("/object"):
            namespace = self.env.Conformance
            return await namespace.get(namespace.idFromName("one")).fetch(request.js_object)
        return await run_pytest(request)
