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
from asynclocks.backends.workers import request
from asynclocks.backends.workers.request import SILENT, Home, Nowhere, dwelling
from asynclocks.backends.workers.watch import MortalParker, Watch
from tests.support import settle


class Place(Home):
    """A home on no platform: it notes what it is asked to do, and gets letters while it is `alive`."""

    def __init__(self, watch: Watch, task: Any) -> None:
        super().__init__(watch, task)
        self.did: list[str] = []
        self.alive = True  # what comes while it is not waits
        self.letter = False
        self.context = copy_context()

    def do_look_later(self) -> None:
        asyncio.get_running_loop().call_soon(lambda: self.alive and self.look())

    def do_open(self) -> None:
        self.did.append("open")

    def do_expect_letter(self) -> None:
        self.letter = False

    def do_ring(self) -> None:
        self.did.append("ring")
        self.letter = True
        asyncio.get_running_loop().call_soon(self.read)

    def read(self) -> None:
        if self.letter and self.alive:
            self.context.run(self.watch.receive, self.number)

    def do_tick(self, on: bool) -> None:
        self.did.append("tick" if on else "tick no more")

    def do_anchor(self, on: bool) -> None:
        self.did.append("anchor" if on else "cast off")

    def do_close(self) -> None:
        self.did.append("close")

    def do_tell_here(self) -> bool:
        return dwelling.get() is self


class Requests:
    """All there are, by name."""

    def __init__(self) -> None:
        self.watch = Watch(Place)
        self._contexts: dict[asyncio.Task[Any], Context] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    def hint(self) -> Any:
        home = dwelling.get()
        return self.watch.first_use() if home is Nowhere else home.hint()

    def parker(self) -> MortalParker:
        return MortalParker(self.watch.home_of_a_parker())

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

    def home(self, name: str) -> Place:
        home: Place = self._contexts[self._tasks[name]][dwelling]
        return home

    def kill(self, *names: str) -> None:
        """Let them get nothing any more."""
        for name in names:
            self.home(name).alive = False

    async def tick(self, *names: str, times: int = SILENT) -> None:
        """Let these homes tick in turn, so often."""
        for _ in range(times):
            for name in names:
                home = self.home(name)
                home.alive = True
                home.context.run(self.watch.tick, home.number)
                home.read()
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
            patch.setattr(backends, "own", world.watch.own)
            patch.setattr(backends.native, "parker", world.parker)
            if sys.version_info < (3, 12):  # a task does not tell its context
                patch.setattr(request, "context_of", world.context_of)
            try:
                await test(world, **fixtures)
            finally:
                await world.end()

    _, *others = signature(test).parameters.values()
    run.__signature__ = Signature(others)  # type: ignore[attr-defined]  # what pytest reads
    return run
