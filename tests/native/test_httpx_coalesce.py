"""CachingTransport with coalesce=True: identical requests that find nothing stored share one response."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self

import anyio
import pytest

from asynclocks.recipes import InMemoryCache
from tests.support import Running, native_cancel, settle, spawn

httpx = pytest.importorskip("httpx")

from asynclocks.recipes.httpx import CachingTransport  # noqa: E402 - needs the extra

URL = "http://origin.example/"
PARTS = [b"one", b"two", b"three"]


class Body(httpx.AsyncByteStream, AsyncIterator[bytes]):
    """Gives a part each time the test says so. No generator, which would stay for the loop's finalizer to end."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.allowed = anyio.Semaphore(0)
        self.closed = False
        self.failure = failure
        self.left = PARTS.copy()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self.left:
            await self.allowed.acquire()
            return self.left.pop(0)
        if self.failure is not None:
            raise self.failure
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True

    def allow(self, parts: int = len(PARTS)) -> None:
        for _ in range(parts):
            self.allowed.release()


class Origin(httpx.AsyncBaseTransport):
    """Answers when the test says so."""

    def __init__(self, **headers: str) -> None:
        self.headers = {"ETag": '"v1"', **{name.replace("_", "-"): value for name, value in headers.items()}}
        self.ready = anyio.Event()
        self.bodies: list[Body] = []
        self.failure: Exception | None = None
        self.of_body: Exception | None = None
        self.read = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = Body(self.of_body)
        self.bodies.append(body)
        await self.ready.wait()
        if self.failure is not None:
            raise self.failure
        if self.read:
            return httpx.Response(200, headers=self.headers, content=b"".join(PARTS))
        return httpx.Response(200, headers=self.headers, stream=body)


class Scene:
    """Some callers of one client."""

    def __init__(self, origin: Origin, group: Any, **options: Any) -> None:
        self.origin, self.group, self.storage = origin, group, InMemoryCache()
        transport = CachingTransport(origin, storage=self.storage, coalesce=True, **options)
        self.client = httpx.AsyncClient(transport=transport)

    async def ask(self, url: str = URL, **headers: str) -> Running[bytes]:
        caller = spawn(self.group, self._get, url, {name.replace("_", "-"): value for name, value in headers.items()})
        await settle()
        return caller

    async def _get(self, url: str, headers: dict[str, str]) -> bytes:
        response = await self.client.get(url, headers=headers, timeout=None)
        content: bytes = response.content
        return content


@pytest.mark.parametrize("freshness", [False, True])
async def test_fifty_cold_requests_are_one(freshness: bool) -> None:
    origin = Origin()
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group, freshness=freshness)
        callers = [await scene.ask(traceparent=str(number)) for number in range(50)]
        origin.ready.set()
        await settle()
        origin.bodies[0].allow()
    assert {caller.result for caller in callers} == {b"onetwothree"}
    assert (len(origin.bodies), origin.bodies[0].closed) == (1, True)
    counts = scene.storage.statistics()
    assert (counts.entries, counts.hits, counts.misses) == (1, 0, 50)


async def test_one_that_comes_while_the_body_does_has_it_from_its_beginning() -> None:
    origin = Origin()
    origin.ready.set()
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group)
        first = await scene.ask()
        origin.bodies[0].allow(2)
        await settle()
        second = await scene.ask()
        origin.bodies[0].allow(1)
    assert (first.result, second.result) == (b"onetwothree", b"onetwothree")
    assert len(origin.bodies) == 1


@pytest.mark.parametrize("cancel", [native_cancel, lambda running: running.cancel()])
async def test_one_that_leaves_ends_it_for_nobody_else(cancel: Any) -> None:
    """Not the one that sent the request either, in the middle of a part."""
    origin = Origin()
    origin.ready.set()
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group)
        callers = [await scene.ask() for _ in range(3)]
        origin.bodies[0].allow(1)
        await settle()
        for caller in callers[:2]:
            cancel(caller)
        await settle()
        origin.bodies[0].allow(2)
    assert callers[2].result == b"onetwothree"
    assert (len(origin.bodies), scene.storage.statistics().entries) == (1, 1)


async def test_sender_that_leaves_before_the_response_comes_hands_the_request_on() -> None:
    origin = Origin()
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group)
        first, second = await scene.ask(), await scene.ask()
        first.cancel()
        await settle()
        origin.ready.set()
        await settle()
        origin.bodies[1].allow()
    assert (second.result, len(origin.bodies)) == (b"onetwothree", 2)


async def test_response_that_everybody_left_is_given_up_and_not_stored() -> None:
    origin = Origin()
    origin.ready.set()
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group)
        callers = [await scene.ask() for _ in range(2)]
        for caller in callers:
            caller.cancel()
        await settle()
        origin.bodies[0].allow(1)  # the part under way comes still
        await settle()
        assert origin.bodies[0].closed
        assert scene.storage.statistics().entries == 0
        third = await scene.ask()
        origin.bodies[1].allow()
    assert third.result == b"onetwothree"


# trio says so of httpx's own generators.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
async def test_readers_that_leave_between_parts_close_the_response() -> None:
    origin = Origin()
    origin.ready.set()
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group)
        origin.bodies.clear()
        async with scene.client.stream("GET", URL) as response, scene.client.stream("GET", URL) as other:
            assert len(origin.bodies) == 1
            origin.bodies[0].allow(1)
            parts = response.aiter_raw()
            assert await anext(parts) == PARTS[0]
            await parts.aclose()
            del parts
            await other.aclose()
            assert not origin.bodies[0].closed
            await response.aclose()
            await response.stream.aclose()
        assert origin.bodies[0].closed
        del response, other
        await settle()  # the loop ends the generators that httpx left


async def test_body_that_breaks_off_fails_all_and_is_not_stored() -> None:
    origin = Origin()
    origin.ready.set()
    origin.of_body = httpx.ReadError("broke off")
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group)
        callers = [await scene.ask() for _ in range(3)]
        origin.bodies[0].allow()
    assert [str(caller.exception) for caller in callers] == ["broke off"] * 3
    assert (len(origin.bodies), scene.storage.statistics().entries) == (1, 0)


async def test_request_that_fails_fails_all_and_the_next_is_sent() -> None:
    origin = Origin()
    origin.failure = httpx.ConnectError("refused")
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group)
        callers = [await scene.ask() for _ in range(3)]
        origin.ready.set()
        await settle()
        assert [str(caller.exception) for caller in callers] == ["refused"] * 3
        origin.failure = None
        again = await scene.ask()
        origin.bodies[1].allow()
    assert again.result == b"onetwothree"


async def test_response_that_must_not_be_stored_is_nobody_elses() -> None:
    origin = Origin(Cache_Control="no-store")
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group)
        callers = [await scene.ask() for _ in range(3)]
        origin.ready.set()
        await settle()
        for body in origin.bodies:
            body.allow()
    assert [caller.result for caller in callers] == [b"onetwothree"] * 3
    assert len(origin.bodies) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "other"},
        {"User_Agent": "other"},
        {"Cache_Control": "no-cache"},
        {"If_None_Match": '"v0"'},
        {"Authorization": 'Digest username="me"'},
    ],
)
async def test_request_that_is_not_the_same_is_sent_by_itself(headers: dict[str, str]) -> None:
    origin = Origin()
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group)
        callers = [await scene.ask(), await scene.ask(**headers), await scene.ask(URL + "other")]
        origin.ready.set()
        await settle()
        for body in origin.bodies:
            body.allow()
    assert [caller.result for caller in callers] == [b"onetwothree"] * 3
    assert len(origin.bodies) == 3


async def test_what_is_stored_is_not_coalesced() -> None:
    origin = Origin(Cache_Control="max-age=60")
    origin.ready.set()
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group, freshness=True)
        await scene.ask()
        origin.bodies[0].allow()
        await settle()
        again = await scene.ask()
        assert again.done
    assert scene.storage.statistics().fresh == 1


async def test_response_that_was_read_below_is_shared_as_well() -> None:
    origin = Origin()
    origin.read = True
    async with anyio.create_task_group() as group:
        scene = Scene(origin, group)
        callers = [await scene.ask() for _ in range(2)]
        origin.ready.set()
    assert [caller.result for caller in callers] == [b"onetwothree"] * 2
    assert len(origin.bodies) == 1
