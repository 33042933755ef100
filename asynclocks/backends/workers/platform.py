"""Cloudflare Workers: a webloop where every request has a context of its own. What follows from that is in `monitor`.

Which request runs is told by an object that only its own request may use. A message is a promise made in the request
that gets it: whoever resolves the promise, what waits for it runs in that request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import cache
from typing import TYPE_CHECKING, Any

from pyodide.ffi import JsException, create_proxy

from asynclocks.backends.webloop import WebloopBackend, WebloopParker
from asynclocks.backends.workers.monitor import Monitor, RequestParker
from asynclocks.backends.workers.request import NoRequest, RequestContext, current_request

HEARTBEAT = 40  # milliseconds: six of them, and what is under way, are less than half a second


class Request(RequestContext):
    """The context of one request, or a Durable Object's."""

    _own_object: Any
    _message: Any  # resolves the promise that brings the next message
    _interval: Any
    _lease: Any = None

    def do_check_later(self) -> None:
        asyncio.get_running_loop().call_soon(self.check_lease)

    def do_open(self) -> None:
        import js

        self._own_object = js.Reflect.get(js.WebSocketPair.new(), "0")

    def do_expect_message(self) -> None:
        import js

        message = js.Promise.withResolvers()
        message.promise.then(_on_message())
        self._message = message

    def do_send_message(self) -> None:
        self._message.resolve(self.number)

    def do_heartbeat(self, on: bool) -> None:
        import js

        if on:
            self._interval = js.setInterval(_on_heartbeat(), HEARTBEAT, self.number)
        else:
            js.clearInterval(self._interval)

    def do_lease(self, on: bool) -> None:
        import js

        if not on:
            if self._lease is not None:
                self._lease.resolve()
            self._lease = None
        elif (wait_until := _wait_until()) is not None:
            lease = js.Promise.withResolvers()
            wait_until(lease.promise)
            self._lease = lease

    def do_close(self) -> None:
        self._own_object = self._message = None
        if not any(request._expects_messages for request in monitor.requests.values()):
            for callback in (_on_message, _on_heartbeat):
                if callback.cache_info().currsize:
                    callback().destroy()
                    callback.cache_clear()

    def do_is_here(self) -> bool:
        try:
            self._own_object.readyState  # noqa: B018  # raises in another request
        except JsException:
            return False
        return True


monitor: Monitor = Monitor(Request)


NoRequest.hint = monitor.first_use


def hint(request: Callable[[], Any] = current_request.get) -> Any:  # an argument is found quickly, in each acquisition
    """The running task, whose request is known from now on."""
    return request().hint()


@cache
def _on_message() -> Any:
    """What JavaScript calls with a request's number when a message came."""
    return create_proxy(monitor.receive)


@cache
def _on_heartbeat() -> Any:
    return create_proxy(monitor.beat)


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


class WorkersParker(RequestParker, WebloopParker):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(monitor.request_of_a_parker())


class WorkersBackend(WebloopBackend):
    if TYPE_CHECKING:

        def parker(self) -> WorkersParker: ...

    else:
        parker = WorkersParker

    def blocking_parker(self) -> WorkersParker:
        parker = WorkersParker()
        parker._request.note_blocking(parker)
        return parker

    def current_task(self) -> Hashable:
        task: Hashable = hint()
        return task
