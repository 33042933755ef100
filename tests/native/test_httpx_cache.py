"""CachingTransport: httpx over the cache, against a mock and against a real server that also misbehaves."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from asynclocks.recipes import InMemoryCache
from tests.support import settle, spawn

httpx = pytest.importorskip("httpx")

from asynclocks.recipes.httpx import CachingTransport  # noqa: E402 - needs the extra

CHUNKS = [b"octo", b"cat"]


class Script(socketserver.StreamRequestHandler):
    """Answers by path; `server.seen` are the requests' conditions."""

    server: Any

    def handle(self) -> None:
        path = self.rfile.readline().decode().split()[1]
        fields: dict[str, str] = {}
        while (line := self.rfile.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(": ")
            fields[name.lower()] = value
        condition = fields.get("if-none-match")
        self.server.seen.append(condition)
        getattr(self, path.strip("/"))(condition)

    def user(self, condition: str | None) -> None:
        if condition == '"v1"':
            self.say(b"304 Not Modified", b'ETag: "v1"\r\nX-RateLimit: 9\r\n')
        else:
            headers = b'ETag: "v1"\r\nX-RateLimit: 10\r\nX-Name: caf\xe9\r\nContent-Length: 7\r\n'
            self.say(b"200 OK", headers, b"octocat")

    def truncated(self, _: str | None) -> None:
        self.say(b"200 OK", b'ETag: "v1"\r\nContent-Length: 100\r\n', b"octocat")

    def truncated_chunks(self, _: str | None) -> None:
        self.say(b"200 OK", b'ETag: "v1"\r\nTransfer-Encoding: chunked\r\n', b"4\r\nocto\r\n")

    def huge(self, _: str | None) -> None:
        self.say(b"200 OK", b'ETag: "v1"\r\nContent-Length: 5368709120\r\n', b"octocat")

    def unasked(self, _: str | None) -> None:
        self.say(b"304 Not Modified", b'ETag: "v1"\r\n')

    def silent(self, _: str | None) -> None:
        self.server.ended.wait(30)

    def say(self, status: bytes, headers: bytes, body: bytes = b"") -> None:
        self.wfile.write(b"HTTP/1.1 " + status + b"\r\n" + headers + b"Connection: close\r\n\r\n" + body)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Script)
        self.seen: list[str | None] = []
        self.ended = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.ended.set()
        running.shutdown()
        thread.join()


def client_of(storage: InMemoryCache, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=CachingTransport(transport, storage=storage))


def entries(storage: InMemoryCache) -> int:
    return storage.statistics().entries


# a real server
async def test_thrice_the_same_user_is_one_body_and_two_304s(server: Server) -> None:
    async with client_of(InMemoryCache()) as client:
        responses = [await client.get(server.url("user")) for _ in range(3)]
    assert [(r.status_code, r.content) for r in responses] == [(200, b"octocat")] * 3
    assert server.seen == [None, '"v1"', '"v1"']
    assert [r.extensions.get("from_cache", False) for r in responses] == [False, True, True]
    assert [r.headers["x-ratelimit"] for r in responses] == ["10", "9", "9"]
    assert [r.reason_phrase for r in responses] == ["OK"] * 3


async def test_non_ascii_header_comes_back_byte_by_byte(server: Server) -> None:
    async with client_of(InMemoryCache()) as client:
        raw = [dict((await client.get(server.url("user"))).headers.raw) for _ in range(2)]
    assert [{name.lower(): value for name, value in one.items()}[b"x-name"] for one in raw] == [b"caf\xe9"] * 2


@pytest.mark.parametrize("path", ["truncated", "truncated_chunks", "huge"])
async def test_body_cut_short_fails_as_without_a_cache_and_is_not_stored(server: Server, path: str) -> None:
    storage = InMemoryCache()
    async with client_of(storage) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(server.url(path))
        assert (await client.get(server.url("user"))).content == b"octocat"
    assert entries(storage) == 1


async def test_304_for_nothing_stored_passes_through(server: Server) -> None:
    async with client_of(InMemoryCache()) as client:
        response = await client.get(server.url("unasked"))
    assert (response.status_code, response.content) == (304, b"")


async def test_callers_own_condition_draws_the_304(server: Server) -> None:
    async with client_of(InMemoryCache()) as client:
        await client.get(server.url("user"))
        response = await client.get(server.url("user"), headers={"If-None-Match": '"v1"'})
    assert (response.status_code, response.content) == (304, b"")


async def test_callers_timeout_works_and_nothing_stays_locked(server: Server) -> None:
    storage = InMemoryCache()
    async with client_of(storage) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(server.url("silent"), timeout=0.05)
        with anyio.move_on_after(0.05) as scope:
            await client.get(server.url("silent"))
        assert scope.cancelled_caught
        assert (await client.get(server.url("user"))).content == b"octocat"
    assert entries(storage) == 1


# streaming, by a mock
class Chunks(httpx.AsyncByteStream):
    def __init__(self) -> None:
        self.released = anyio.Event()
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield CHUNKS[0]
        await self.released.wait()
        yield CHUNKS[1]

    async def aclose(self) -> None:
        self.closed = True


def streaming(body: Chunks) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(200, headers={"ETag": '"v1"'}, stream=body))


async def test_body_reaches_the_caller_as_it_comes_and_is_stored_when_complete() -> None:
    storage, body = InMemoryCache(), Chunks()
    async with client_of(storage, streaming(body)) as client, client.stream("GET", "http://a/") as response:
        chunks = response.aiter_raw()
        assert await anext(chunks) == CHUNKS[0]
        assert entries(storage) == 0
        body.released.set()
        assert [chunk async for chunk in chunks] == CHUNKS[1:]
        assert entries(storage) == 1
    assert body.closed


# trio says so of httpx's own generators, and of the one above.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
async def test_caller_that_leaves_early_stores_nothing() -> None:
    storage, body = InMemoryCache(), Chunks()
    async with client_of(storage, streaming(body)) as client, client.stream("GET", "http://a/") as response:
        chunks = response.aiter_raw()
        await anext(chunks)
        await chunks.aclose()  # type: ignore[attr-defined]
    del chunks, response
    await settle()  # the loop ends the generators that httpx left
    assert body.closed
    assert entries(storage) == 0


async def test_caller_cancelled_in_the_body_stores_nothing() -> None:
    storage, body = InMemoryCache(), Chunks()
    async with client_of(storage, streaming(body)) as client, anyio.create_task_group() as group:
        caller = spawn(group, client.get, "http://a/")
        await settle()
        caller.cancel()
    assert caller.cancelled
    assert body.closed
    assert entries(storage) == 0


async def test_two_transports_of_one_storage_share_it() -> None:
    storage = InMemoryCache()
    conditions: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        conditions.append(request.headers.get("If-None-Match"))
        return httpx.Response(
            304 if conditions[-1] else 200, headers={"ETag": '"v1"'}, content=b"" if conditions[-1] else b"octocat"
        )

    for _ in range(2):
        async with client_of(storage, httpx.MockTransport(answer)) as client:
            response = await client.get("http://a/")
            assert response.content == b"octocat"
            assert "If-None-Match" not in response.request.headers
    assert conditions == [None, '"v1"']


async def test_encoded_body_is_decoded_from_the_cache_too() -> None:
    import gzip

    packed = gzip.compress(b"octocat")

    def answer(request: httpx.Request) -> httpx.Response:
        if "If-None-Match" in request.headers:
            return httpx.Response(304)
        headers = {
            "ETag": '"v1"',
            "Content-Encoding": "gzip",
            "Content-Length": str(len(packed)),
            "Vary": "Accept-Encoding",
        }
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(packed))

    async with client_of(InMemoryCache(), httpx.MockTransport(answer)) as client:
        assert [(await client.get("http://a/")).content for _ in range(2)] == [b"octocat"] * 2


async def test_post_with_a_body_passes_by() -> None:
    storage = InMemoryCache()
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"ETag": '"v1"'}, content=request.content)
    )
    async with client_of(storage, transport) as client:
        assert (await client.post("http://a/", content=b"sent")).content == b"sent"
    assert storage.statistics().misses == 0


async def test_a_body_that_was_left_ends_without_being_stored() -> None:
    """Its reader may go on after closing it, or ask once more after its end."""

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"etag": '"1"'}, stream=Body())

    storage = InMemoryCache()
    transport = CachingTransport(httpx.MockTransport(answer), storage=storage)
    response = await transport.handle_async_request(httpx.Request("GET", "http://test/"))
    assert isinstance(response.stream, httpx.AsyncByteStream)
    chunks = aiter(response.stream)
    assert await anext(chunks) == b"a"
    chunks._recording = None  # type: ignore[attr-defined]  # as a close in the middle leaves it
    assert await anext(chunks) == b"b"
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)
    await response.aclose()
    assert storage.statistics().entries == 0
