"""Cloudflare Workers: a webloop where every request has a context of its own. What follows from that is in `watch`.

Whose context runs is told by a badge, an object that only its own request may use. A letter is a promise made in the
request that gets it: whoever resolves it, what waits for it runs there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import cache
from typing import TYPE_CHECKING, Any

from pyodide.ffi import JsException, create_proxy

from asynclocks.backends.webloop import WebloopBackend, WebloopParker
from asynclocks.backends.workers.request import Home, Nowhere, dwelling
from asynclocks.backends.workers.watch import MortalParker, Watch

TICK = 40  # milliseconds: six of them, and what is under way, are less than half a second


class Request(Home):
    """The context of one request, or a Durable Object's."""

    _badge: Any
    _letter: Any  # resolves the promise that brings the next letter
    _interval: Any
    _anchor: Any = None

    def do_look_later(self) -> None:
        asyncio.get_running_loop().call_soon(self.look)

    def do_open(self) -> None:
        import js

        self._badge = js.Reflect.get(js.WebSocketPair.new(), "0")

    def do_expect_letter(self) -> None:
        import js

        letter = js.Promise.withResolvers()
        letter.promise.then(_on_letter())
        self._letter = letter

    def do_ring(self) -> None:
        self._letter.resolve(self.number)

    def do_tick(self, on: bool) -> None:
        import js

        if on:
            self._interval = js.setInterval(_on_tick(), TICK, self.number)
        else:
            js.clearInterval(self._interval)

    def do_anchor(self, on: bool) -> None:
        import js

        if not on:
            if self._anchor is not None:
                self._anchor.resolve()
            self._anchor = None
        elif (wait_until := _wait_until()) is not None:
            anchor = js.Promise.withResolvers()
            wait_until(anchor.promise)
            self._anchor = anchor

    def do_close(self) -> None:
        self._badge = self._letter = None
        if not any(home._expects for home in watch.homes.values()):
            for callback in (_on_letter, _on_tick):
                if callback.cache_info().currsize:
                    callback().destroy()
                    callback.cache_clear()

    def do_tell_here(self) -> bool:
        try:
            self._badge.readyState  # noqa: B018  # raises in another request
        except JsException:
            return False
        return True


watch: Watch = Watch(Request)


Nowhere.hint = watch.first_use


def hint(home: Callable[[], Any] = dwelling.get) -> Any:  # an argument is found quickly; every acquisition comes here
    """The running task, at home somewhere."""
    return home().hint()


@cache
def _on_letter() -> Any:
    """What JavaScript calls with a home's number when a letter came."""
    return create_proxy(watch.receive)


@cache
def _on_tick() -> Any:
    return create_proxy(watch.tick)


@cache
def _wait_until() -> Any:
    """The platform's way to let a request go on without its client, by the names it is offered; or None."""
    try:
        from workers import wait_until
    except ImportError:
        try:
            import _pyodide_entrypoint_helper as helper
        except ImportError:
            return None
        return helper.cloudflareWorkersModule.waitUntil
    return wait_until


class WorkersParker(MortalParker, WebloopParker):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(watch.home_of_a_parker())


class WorkersBackend(WebloopBackend):
    if TYPE_CHECKING:

        def parker(self) -> WorkersParker: ...

    else:
        parker = WorkersParker

    def blocking_parker(self) -> WorkersParker:
        parker = WorkersParker()
        parker._home.note_blocking(parker)
        return parker

    def current_task(self) -> Hashable:
        task: Hashable = hint()
        return task
