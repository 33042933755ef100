"""Cloudflare Workers: a webloop where every request has a context of its own. What follows from that is in `_mortal`.

Whose context runs is told by a badge, an object that only its own request may use. A letter is a promise made in the
request that gets it: whoever resolves it, what waits for it runs there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from functools import cache
from typing import TYPE_CHECKING, Any

from pyodide.ffi import JsException, create_proxy

from asynclocks.backends._mortal import Home, MortalParker, Watch, dwelling
from asynclocks.backends.asyncio import current_task
from asynclocks.backends.webloop import WebloopBackend, WebloopParker

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
        letter.promise.then(_callbacks()[0])
        self._letter = letter

    def do_ring(self) -> None:
        self._letter.resolve(self.number)

    def do_tick(self, on: bool) -> None:
        import js

        if on:
            self._interval = js.setInterval(_callbacks()[1], TICK, self.number)
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
        if not any(home._open for home in watch.homes.values()):
            for callback in _callbacks():
                callback.destroy()
            _callbacks.cache_clear()

    def do_tell_here(self) -> bool:
        try:
            self._badge.readyState  # noqa: B018  # raises in another request
        except JsException:
            return False
        return True


watch = Watch(Request)


def hint() -> Any:
    """The running task, at home somewhere."""
    return current_task() if dwelling.get().settled else watch.first_use()


@cache
def _callbacks() -> tuple[Any, Any]:
    """What JavaScript calls with a home's number: when a letter came, and for each tick."""
    return create_proxy(watch.receive), create_proxy(watch.tick)


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
        super().__init__(watch.dwell(current_task()))


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
