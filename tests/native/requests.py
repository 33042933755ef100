"""Requests that may die, on asyncio: what Cloudflare Workers do, in a form that a test moves step by step."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import wraps
from inspect import Signature, signature
from typing import Any

import pytest

from asynclocks import backends
from asynclocks.backends.workers import request as request_module
from asynclocks.backends.workers.monitor import Monitor, RequestParker
from asynclocks.backends.workers.request import MISSED, NoRequest, RequestContext, current_request
from tests.support import settle


class Place(RequestContext):
    """A request on no platform: it notes what it is asked to do, and gets messages while it is `alive`."""

    def __init__(self, monitor: Monitor, task: Any) -> None:
        super().__init__(monitor, task)
        self.did: list[str] = []
        self.alive = True  # messages that come while it is not wait
        self.message = False
        self.context = copy_context()

    def do_check_later(self) -> None:
        asyncio.get_running_loop().call_soon(lambda: self.alive and self.check_lease())

    def do_open(self) -> None:
        self.did.append("open")

    def do_expect_message(self) -> None:
        self.message = False

    def do_send_message(self) -> None:
        self.did.append("message")
        self.message = True
        asyncio.get_running_loop().call_soon(self.read)

    def read(self) -> None:
        if self.message and self.alive:
            self.context.run(self.monitor.receive, self.number)

    def do_heartbeat(self, on: bool) -> None:
        self.did.append("heartbeat" if on else "no heartbeat")

    def do_lease(self, on: bool) -> None:
        self.did.append("lease" if on else "no lease")

    def do_close(self) -> None:
        self.did.append("close")

    def do_is_here(self) -> bool:
        return current_request.get() is self


class Requests:
    """All there are, by name."""

    def __init__(self) -> None:
        self.monitor = Monitor(Place)
        self._contexts: dict[asyncio.Task[Any], Context] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    def hint(self) -> Any:
        request = current_request.get()
        return self.monitor.first_use() if request is NoRequest else request.hint()

    def parker(self) -> RequestParker:
        return RequestParker(self.monitor.request_of_a_parker())

    def context_of(self, task: asyncio.Task[Any]) -> Context:
        return self._contexts.get(task, Context())

    async def begin(self, name: str, work: Coroutine[Any, Any, Any], *, of: str | None = None) -> asyncio.Task[Any]:
        """A task of a request of its own, or of another's, run until it sleeps."""
        context = Context() if of is None else self._contexts[self._tasks[of]].copy()
        task = asyncio.get_running_loop().create_task(work, name=name, context=context)
        self._contexts[task] = context
        self._tasks[name] = task
        await settle()
        return task

    def request(self, name: str) -> Place:
        request: Place = self._contexts[self._tasks[name]][current_request]
        return request

    def kill(self, *names: str) -> None:
        """Let them get nothing any more."""
        for name in names:
            self.request(name).alive = False

    async def beat(self, *names: str, times: int = MISSED) -> None:
        """Let these requests beat in turn, so often."""
        for _ in range(times):
            for name in names:
                request = self.request(name)
                request.alive = True
                request.context.run(self.monitor.beat, request.number)
                request.read()
            await settle()

    async def end(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await settle()


def in_requests(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """Give the test asyncio as if every task was a request of its own, by its first argument."""

    @wraps(test)
    async def run(**fixtures: Any) -> None:
        world = Requests()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backends, "hint", world.hint)
            patch.setattr(backends, "own", world.monitor.own)
            patch.setattr(backends.native, "parker", world.parker)
            if sys.version_info < (3, 12):  # a task does not tell its context
                patch.setattr(request_module, "context_of", world.context_of)
            try:
                await test(world, **fixtures)
            finally:
                await world.end()

    _, *others = signature(test).parameters.values()
    run.__signature__ = Signature(others)  # type: ignore[attr-defined]  # what pytest reads
    return run
