"""CachingFetch on Pyodide's own pyfetch, with JavaScript's own Response; only the network is played."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from asynclocks.recipes import InMemoryCache
from asynclocks.recipes.pyfetch import CachingFetch
from tests.support import in_pyodide, settle, spawn

if not in_pyodide:
    pytest.skip("needs Pyodide's fetch", allow_module_level=True)

from js import Error, Object, ReadableStream, Response
from pyodide.ffi import create_once_callable, to_js

URL = "http://a/user"


def response(body: object = "octocat", status: int = 200, **headers: str) -> Any:
    options = {"status": status, "headers": {name.replace("_", "-"): value for name, value in headers.items()}}
    return Response.new(body, to_js(options, dict_converter=Object.fromEntries))


class Server:
    """Plays JavaScript's fetch: `plain()`, or a 304 to the ETag "v1"."""

    def __init__(self, plain: Callable[[], Any] = lambda: response(ETag='"v1"', X_Name="caf\xe9")) -> None:
        self.plain = plain
        self.conditions: list[str | None] = []
        self.signals: list[Any] = []

    async def __call__(self, request: Any, options: Any) -> Any:
        self.conditions.append(request.headers.get("If-None-Match") or None)  # null is no None here
        self.signals.append(options.signal)
        return response(None, 304, X_RateLimit="9") if self.conditions[-1] == '"v1"' else self.plain()


class Body:
    """A body whose parts come when the test says so."""

    def __init__(self) -> None:
        source = to_js({"start": create_once_callable(self.start)}, dict_converter=Object.fromEntries)
        self.stream = ReadableStream.new(source)

    def start(self, controller: Any) -> None:
        self.controller = controller

    def server(self) -> Server:
        return Server(lambda: response(self.stream, ETag='"v1"'))


async def test_thrice_the_same_user_is_one_body_and_two_304s() -> None:
    server = Server()
    client = CachingFetch(fetcher=server)
    answers = [await client.request(URL) for _ in range(3)]
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"octocat")] * 3
    assert [answer.from_cache for answer in answers] == [False, True, True]
    assert [answer.header("X-Name") for answer in answers] == ["caf\xe9"] * 3
    assert answers[1].header("x-ratelimit") == "9"
    assert server.conditions == [None, '"v1"', '"v1"']


async def test_streamed_body_comes_from_the_cache_too() -> None:
    client = CachingFetch(fetcher=Server())
    for from_cache in (False, True):
        async with client.stream(URL) as answer:
            assert (answer.from_cache, answer.status) == (from_cache, 200)
            assert b"".join([part async for part in answer.body]) == b"octocat"


async def test_body_reaches_the_caller_as_it_comes_and_is_stored_when_complete() -> None:
    storage, body = InMemoryCache(), Body()
    async with CachingFetch(storage=storage, fetcher=body.server()).stream(URL) as answer:
        body.controller.enqueue(to_js(b"octo"))
        assert await anext(answer.body) == b"octo"
        assert storage.statistics().entries == 0
        body.controller.enqueue(to_js(b"cat"))
        body.controller.close()
        assert [part async for part in answer.body] == [b"cat"]
        assert storage.statistics().entries == 1


async def test_body_that_is_left_early_is_aborted_and_not_stored() -> None:
    storage, body = InMemoryCache(), Body()
    server = body.server()
    async with CachingFetch(storage=storage, fetcher=server).stream(URL) as answer:
        body.controller.enqueue(to_js(b"octo"))
        await anext(answer.body)
    assert server.signals[0].aborted
    assert storage.statistics().entries == 0


async def test_body_that_breaks_off_is_an_oserror_and_not_stored() -> None:
    storage, body = InMemoryCache(), Body()
    async with CachingFetch(storage=storage, fetcher=body.server()).stream(URL) as answer:
        body.controller.enqueue(to_js(b"octo"))
        await anext(answer.body)
        body.controller.error(Error.new("terminated"))
        with pytest.raises(OSError, match=r"the body broke off.*terminated"):
            await anext(answer.body)
    assert storage.statistics().entries == 0


async def test_caller_cancelled_in_the_body_stores_nothing() -> None:
    storage, body = InMemoryCache(), Body()
    server = body.server()

    async def read() -> list[bytes]:
        async with CachingFetch(storage=storage, fetcher=server).stream(URL) as answer:
            return [part async for part in answer.body]

    async with anyio.create_task_group() as group:
        caller = spawn(group, read)
        await settle()
        caller.cancel()
    assert caller.cancelled
    assert server.signals[0].aborted
    assert storage.statistics().entries == 0


async def test_identical_requests_share_one_body_though_the_first_leaves() -> None:
    storage, body = InMemoryCache(), Body()
    server = body.server()
    client = CachingFetch(storage=storage, fetcher=server, coalesce=True)
    async with anyio.create_task_group() as group:
        callers = [spawn(group, client.request, URL) for _ in range(3)]
        await settle()
        body.controller.enqueue(to_js(b"octo"))
        await settle()
        callers[0].cancel()
        await settle()
        body.controller.enqueue(to_js(b"cat"))
        body.controller.close()
    assert [caller.result.body for caller in callers[1:]] == [b"octocat"] * 2
    assert len(server.conditions) == 1
    assert storage.statistics().entries == 1


async def test_fresh_answer_comes_unasked() -> None:
    server = Server(lambda: response(Cache_Control="max-age=60"))
    client = CachingFetch(fetcher=server, freshness=True)
    answers = [await client.request(URL) for _ in range(2)]
    assert [(answer.body, answer.cache_status) for answer in answers] == [(b"octocat", None), (b"octocat", "fresh")]
    assert len(server.conditions) == 1


async def test_answer_without_a_body_is_empty() -> None:
    client = CachingFetch(fetcher=Server(lambda: response(None, 204)))
    assert (await client.request(URL)).body == b""
    async with client.stream(URL, method="delete") as answer:
        assert [part async for part in answer.body] == []


async def test_empty_body_is_stored_and_streamed_like_any() -> None:
    storage = InMemoryCache()
    client = CachingFetch(storage=storage, fetcher=Server(lambda: response("", ETag='"v1"')))
    for from_cache in (False, True):
        async with client.stream(URL) as answer:
            assert answer.from_cache == from_cache
            assert [part async for part in answer.body] == []
    assert storage.statistics().entries == 1


async def test_streamed_body_that_is_not_to_be_stored_comes_all_the_same() -> None:
    storage = InMemoryCache()
    async with CachingFetch(storage=storage, fetcher=Server(response)).stream(URL) as answer:
        assert b"".join([part async for part in answer.body]) == b"octocat"
    assert storage.statistics().entries == 0
