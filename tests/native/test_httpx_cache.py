"""CachingTransport: httpx over the cache, against a mock and against a real server that also misbehaves."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import anyio
import anyio.lowlevel
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

    def lasting(self, condition: str | None) -> None:
        if condition == '"v1"':
            self.say(b"304 Not Modified", b'ETag: "v1"\r\n')
        else:
            headers = b'ETag: "v1"\r\nCache-Control: max-age=60\r\nContent-Length: 7\r\n'
            self.say(b"200 OK", headers, b"octocat")

    def empty(self, condition: str | None) -> None:
        self.say(b"204 No Content", b'ETag: "v1"\r\nCache-Control: max-age=60\r\n')

    def truncated(self, _: str | None) -> None:
        self.say(b"200 OK", b'ETag: "v1"\r\nContent-Length: 100\r\n', b"octocat")

    def truncated_chunks(self, _: str | None) -> None:
        self.say(b"200 OK", b'ETag: "v1"\r\nTransfer-Encoding: chunked\r\n', b"4\r\nocto\r\n")

    def huge(self, _: str | None) -> None:
        self.say(b"200 OK", b'ETag: "v1"\r\nContent-Length: 5368709120\r\n', b"octocat")

    def endless(self, _: str | None) -> None:
        self.say(b"200 OK", b'ETag: "v1"\r\n', b"octocat")

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


async def test_body_that_only_ends_with_its_connection_is_not_stored(server: Server) -> None:
    """It may have been cut short, and nobody would know."""
    storage = InMemoryCache()
    async with client_of(storage) as client:
        assert (await client.get(server.url("endless"))).content == b"octocat"
    assert entries(storage) == 0


async def test_relative_and_absolute_forms_are_one_entry(server: Server) -> None:
    storage = InMemoryCache()
    transport = CachingTransport(storage=storage)
    async with httpx.AsyncClient(transport=transport, base_url=server.url("")) as client:
        bodies = [(await client.get(form)).content for form in ("user", "/user", server.url("user"))]
    assert bodies == [b"octocat"] * 3
    assert server.seen == [None, '"v1"', '"v1"']
    assert entries(storage) == 1


async def test_storage_that_fails_gives_its_connection_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    storage = InMemoryCache()
    one_connection = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
    transport = CachingTransport(one_connection, storage=storage, on_storage_error="raise")
    async with httpx.AsyncClient(transport=transport) as client:
        for _ in range(2):  # the second would wait for the connection
            with monkeypatch.context() as failing, pytest.raises(OSError, match="disk full"):
                failing.setattr(storage, "writer", fail)
                await client.get(server.url("user"))
        assert (await client.get(server.url("user"))).content == b"octocat"


async def test_fresh_response_answers_unasked(server: Server) -> None:
    now = time.time()
    transport = CachingTransport(freshness=True, clock=lambda: now)
    async with httpx.AsyncClient(transport=transport) as client:
        responses = [await client.get(server.url("lasting")) for _ in range(2)]
        assert server.seen == [None]
        now += 60
        responses.append(await client.get(server.url("lasting")))
        responses.append(await client.get(server.url("user"), headers={"Cache-Control": "only-if-cached"}))
    assert [r.content for r in responses[:3]] == [b"octocat"] * 3
    assert [r.extensions.get("cache_status") for r in responses] == [None, "fresh", "confirmed", None]
    assert [r.extensions.get("from_cache", False) for r in responses] == [False, True, True, False]
    assert (responses[1].reason_phrase, responses[1].headers["age"]) == ("OK", "0")
    assert (responses[3].status_code, responses[3].content) == (504, b"")


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
            await client.get(server.url("silent"), timeout=httpx.Timeout(30, read=0.05))
        with anyio.move_on_after(0.05) as scope:
            await client.get(server.url("silent"))
        assert scope.cancelled_caught
        assert (await client.get(server.url("user"))).content == b"octocat"
    assert entries(storage) == 1


async def test_answer_without_content_need_not_say_where_it_ends(server: Server) -> None:
    async with httpx.AsyncClient(transport=CachingTransport(freshness=True)) as client:
        for _ in range(2):
            response = await client.get(server.url("empty"))
            assert (response.status_code, response.content) == (204, b"")
    assert server.seen == [None]


# transports below that do more than send
class Reading(httpx.AsyncBaseTransport):
    """Reads what comes before it hands it on, as one that logs does; `close` as well, if it is told to."""

    def __init__(self, below: httpx.AsyncBaseTransport, how: str) -> None:
        self.below = below
        self.how = how

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.below.handle_async_request(request)
        if "lost" in self.how:
            async for _ in response.aiter_raw():
                pass
        elif "read" in self.how:
            await response.aread()
        if "closed" in self.how:
            await response.aclose()
        return response


@pytest.mark.parametrize("how", ["read", "read and closed"])
async def test_response_that_was_read_below_is_stored_and_answered(server: Server, how: str) -> None:
    storage = InMemoryCache()
    async with client_of(storage, Reading(httpx.AsyncHTTPTransport(), how)) as client:
        responses = [await client.get(server.url("user"), timeout=5) for _ in range(3)]
    assert [r.content for r in responses] == [b"octocat"] * 3
    assert [r.extensions.get("from_cache", False) for r in responses] == [False, True, True]


@pytest.mark.parametrize("how", ["closed", "lost"])
async def test_response_whose_body_is_lost_passes_through(server: Server, how: str) -> None:
    storage = InMemoryCache()
    transport = CachingTransport(Reading(httpx.AsyncHTTPTransport(), how), storage=storage)
    async with transport:
        response = await transport.handle_async_request(httpx.Request("GET", server.url("user")))
        assert response.status_code == 200
        assert entries(storage) == 0


async def test_response_that_was_decoded_below_passes_through() -> None:
    """What it was encoded as is gone."""
    import gzip

    def answer(_: httpx.Request) -> httpx.Response:
        headers = {"ETag": '"v1"', "Content-Encoding": "gzip"}
        return httpx.Response(200, headers=headers, content=gzip.compress(b"octocat"))

    storage = InMemoryCache()
    async with client_of(storage, httpx.MockTransport(answer)) as client:
        assert (await client.get("http://a/")).content == b"octocat"
    assert entries(storage) == 0


@pytest.mark.parametrize("freshness", [False, True])
async def test_cache_over_a_cache_answers_as_one(server: Server, freshness: bool) -> None:
    inner = CachingTransport(freshness=freshness)
    outer = CachingTransport(inner, freshness=freshness)
    async with httpx.AsyncClient(transport=outer) as client:
        responses = [await client.get(server.url("lasting")) for _ in range(3)]
    assert [r.content for r in responses] == [b"octocat"] * 3
    assert len(server.seen) == (1 if freshness else 3)


async def test_storage_that_fails_is_a_miss_and_one_warning(server: Server) -> None:
    storage = InMemoryCache()
    storage.writer = lambda *_: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    async with client_of(storage) as client:
        with pytest.warns(RuntimeWarning, match="the HTTP cache's storage failed .ZeroDivisionError") as caught:
            assert [(await client.get(server.url("user"))).content for _ in range(2)] == [b"octocat"] * 2
    assert len(caught) == 1


# streaming, by a mock
async def test_large_stored_body_comes_in_pieces_between_which_others_run() -> None:
    """So that decoding it holds up nobody."""
    body = bytes(range(256)) * 1024
    storage = InMemoryCache()

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Cache-Control": "max-age=60"}, stream=httpx.ByteStream(body))

    transport = CachingTransport(httpx.MockTransport(answer), storage=storage, freshness=True)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with httpx.AsyncClient(transport=transport) as client, anyio.create_task_group() as group:
        await client.get("http://a/")
        group.start_soon(other)
        async with client.stream("GET", "http://a/") as response:
            before = turns
            pieces = [piece async for piece in response.aiter_raw()]
        assert (b"".join(pieces), max(map(len, pieces))) == (body, 64 * 1024)
        assert turns - before >= len(pieces) - 2
        group.cancel_scope.cancel()


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


def streaming(body: httpx.AsyncByteStream) -> httpx.MockTransport:
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


@pytest.mark.parametrize("extension", [{"target": b"/other"}, {"sni_hostname": "other"}])
async def test_request_that_goes_elsewhere_than_its_url_passes_by(extension: dict[str, Any]) -> None:
    storage = InMemoryCache()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers={"ETag": '"v1"'}, content=b"octocat"))
    async with client_of(storage, transport) as client:
        await client.get("http://a/")
        response = await client.get("http://a/", extensions=extension)
    assert (response.content, entries(storage)) == (b"octocat", 1)
    assert (storage.statistics().hits, storage.statistics().misses) == (0, 1)


async def test_post_with_a_body_passes_by() -> None:
    storage = InMemoryCache()
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"ETag": '"v1"'}, content=request.content)
    )
    async with client_of(storage, transport) as client:
        assert (await client.post("http://a/", content=b"sent")).content == b"sent"
    assert storage.statistics().misses == 0


class Broken(httpx.AsyncByteStream):
    """A body that breaks off after its first part. Whoever asks on is told that it has ended, as generators do."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield CHUNKS[0]
        raise httpx.RemoteProtocolError("peer closed connection")


async def chunks_of(storage: InMemoryCache, stream: httpx.AsyncByteStream) -> tuple[Any, httpx.Response]:
    """A body as the transport alone gives it, without what the client has around it."""
    transport = CachingTransport(streaming(stream), storage=storage)
    response = await transport.handle_async_request(httpx.Request("GET", "http://a/"))
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return aiter(response.stream), response


async def test_body_that_broke_off_is_not_stored_though_its_reader_goes_on() -> None:
    storage = InMemoryCache()
    chunks, response = await chunks_of(storage, Broken())
    assert await anext(chunks) == CHUNKS[0]
    with pytest.raises(httpx.RemoteProtocolError):
        await anext(chunks)
    assert await anext(chunks, b"the end") == b"the end"
    await response.aclose()
    assert entries(storage) == 0


async def test_body_that_was_closed_is_not_stored_though_its_reader_goes_on() -> None:
    storage, body = InMemoryCache(), Chunks()
    body.released.set()
    chunks, response = await chunks_of(storage, body)
    assert await anext(chunks) == CHUNKS[0]
    await response.aclose()
    assert [await anext(chunks, b"the end") for _ in range(3)] == [CHUNKS[1], b"the end", b"the end"]
    assert entries(storage) == 0


async def test_body_read_from_its_start_once_more_is_not_stored() -> None:
    class Twice(httpx.AsyncByteStream):
        def __aiter__(self) -> AsyncIterator[bytes]:
            self.left = CHUNKS.copy()
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    storage = InMemoryCache()
    chunks, response = await chunks_of(storage, Twice())
    assert await anext(chunks) == CHUNKS[0]
    assert [chunk async for chunk in chunks] == CHUNKS
    await response.aclose()
    assert entries(storage) == 0


async def test_transport_is_entered_left_and_closed() -> None:
    done: list[str] = []

    class Transport(httpx.AsyncBaseTransport):
        async def __aenter__(self) -> Self:
            done.append("enter")
            return self

        async def __aexit__(self, *exc: object) -> None:
            done.append("exit")

        async def aclose(self) -> None:
            done.append("close")

    async with client_of(InMemoryCache(), Transport()):
        assert done == ["enter"]
    assert done == ["enter", "exit"]
    await client_of(InMemoryCache(), Transport()).aclose()
    assert done == ["enter", "exit", "close"]
