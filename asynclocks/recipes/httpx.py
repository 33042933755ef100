"""CachingTransport: the HTTP cache for httpx, on asyncio and on trio (extra ``httpx``)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Self

try:
    import anyio.lowlevel  # httpx stands on it
    import httpx
except ModuleNotFoundError as _absent:
    raise ImportError(
        f"asynclocks.recipes.httpx needs {_absent.name}: pip install 'asynclocks[httpx]'", name=_absent.name
    ) from _absent

from asynclocks.recipes import _http_fields as fields
from asynclocks.recipes._http_caching import Caching
from asynclocks.recipes._http_coalesce import Reader
from asynclocks.recipes._http_exchange import Answered, Head, Joined, Recording
from asynclocks.recipes._http_shelf import OnError
from asynclocks.recipes._stored import PIECE, AnyStorage, Header
from asynclocks.recipes.http_cache import InMemoryCache

# httpx's ways to ask for another URI, or another server, than the URL says. No key would cover that.
ELSEWHERE = frozenset({"sni_hostname", "target"})


class CachingTransport(httpx.AsyncBaseTransport):
    """Answers from the cache what the server confirms with a 304; everything else passes through.

    ``freshness=True`` answers unasked while a response is fresh (RFC 9111 § 4.2), as a private cache, on `clock`
    (seconds since the epoch). `ignore_headers` are request headers that select no answer, beside those known not to.
    `namespace` keeps apart what has the same URL on two servers (a socket, a proxy). ``on_storage_error="raise"`` has
    a failing storage fail the request; else that is a miss, and one warning says so. ``coalesce=True`` lets identical
    requests that find nothing stored share one, whose body is streamed to all.

    Give one `storage` to several transports to share it. A body reaches the caller as it comes, and is stored only
    when it is complete. An answer from the cache says so: ``response.extensions["from_cache"]`` is True, and
    ``["cache_status"]`` is "confirmed", "fresh" or "stale".

    It enters, leaves and closes the transport that it is given, as a client does. The storage is its owner's to close.
    What the client would have told a transport of its own (``http2``, ``verify``, ``limits``, a proxy), tell the one
    you give: ``CachingTransport(httpx.AsyncHTTPTransport(http2=True))``.

    ::

        async with httpx.AsyncClient(transport=CachingTransport()) as client:
            response = await client.get("https://api.github.com/users/octocat")
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        storage: AnyStorage | None = None,
        freshness: bool = False,
        ignore_headers: Iterable[str] = (),
        namespace: str = "",
        coalesce: bool = False,
        on_storage_error: OnError = "miss",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transport = httpx.AsyncHTTPTransport() if transport is None else transport
        self._caching = Caching(
            InMemoryCache() if storage is None else storage,
            freshness=freshness,
            ignore_headers=ignore_headers,
            namespace=namespace,
            coalesce=coalesce,
            on_storage_error=on_storage_error,
            clock=clock,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not ELSEWHERE.isdisjoint(request.extensions):
            return await self._transport.handle_async_request(request)
        client = _Client(self._transport, request)
        outcome = await self._caching.exchange(client, request.method, str(request.url), _decoded(request.headers))
        if isinstance(outcome, Answered):
            return _from_cache(outcome)
        response: httpx.Response = outcome.response
        if isinstance(outcome, Joined):
            return _joined(response, outcome)
        if outcome.recording is not None:
            return await _recorded(response, outcome.recording)
        return response

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc_value, traceback)

    async def aclose(self) -> None:
        await self._transport.aclose()


class _Client:
    failures = httpx.TransportError

    def __init__(self, transport: httpx.AsyncBaseTransport, request: httpx.Request) -> None:
        self._transport = transport
        self._request = request

    async def send(self, condition: Header | None) -> httpx.Response:
        request = self._request
        if condition is not None:  # the caller's own request stays as it is
            headers = [*request.headers.raw, (condition[0].encode(), condition[1].encode("latin-1"))]
            stream, extensions = request.stream, request.extensions
            request = httpx.Request(request.method, request.url, headers=headers, stream=stream, extensions=extensions)
        return await self._transport.handle_async_request(request)

    def head(self, response: httpx.Response) -> Head:
        headers = _decoded(response.headers)
        found = fields.fields(headers)
        return Head(response.status_code, headers, found, _is_delimited(response, found) and _is_whole(response, found))

    async def discard(self, response: httpx.Response) -> None:
        try:
            if not response.is_closed and not response.is_stream_consumed:  # else the transport below has read it
                # A 304 has no content. Once its end was read, the connection can be used again.
                assert isinstance(response.stream, httpx.AsyncByteStream)
                _ = [part async for part in response.stream]
        finally:
            await response.aclose()

    def parts(self, response: httpx.Response) -> AsyncIterator[bytes]:
        if response.is_stream_consumed:
            return _Stored(response.content)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return aiter(response.stream)

    async def abandon(self, response: httpx.Response) -> None:
        await response.aclose()


class _Recorded(httpx.AsyncByteStream):
    """A body on its way to the caller, with the cache listening.

    No async generator: one that a caller leaves half-way would stay for the loop's finalizer to end.
    """

    def __init__(self, stream: httpx.AsyncByteStream, recording: Recording) -> None:
        self._stream = stream
        self._recording = recording
        self._chunks: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._chunks is not None:  # from the start once more: what was taken in so far is no beginning of that
            self._recording.abandon()
        self._chunks = aiter(self._stream)
        return self

    async def __anext__(self) -> bytes:
        assert self._chunks is not None
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            await self._recording.finish()
            raise
        except BaseException:  # the connection broke, or the caller was cancelled; who goes on meets a mere end
            self._recording.abandon()
            raise
        await self._recording.write(chunk)
        return chunk

    async def aclose(self) -> None:
        self._recording.abandon()
        await self._stream.aclose()


class _Joined(httpx.AsyncByteStream):
    """A body that other requests have, too."""

    def __init__(self, body: Reader) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body

    async def aclose(self) -> None:
        await self._body.aclose()


class _Stored(httpx.AsyncByteStream, AsyncIterator[bytes]):
    """A stored body, in pieces, between which others run: decoding a large one at once would hold up the loop."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._given = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        begin = self._given
        if begin >= len(self._body):
            raise StopAsyncIteration
        if begin:
            await anyio.lowlevel.checkpoint()
        self._given += PIECE
        return self._body[begin : begin + PIECE]  # all of it is not copied


async def _recorded(response: httpx.Response, recording: Recording) -> httpx.Response:
    if response.is_stream_consumed:  # the transport below, or a mock, has read it
        await recording.write(response.content)
        await recording.finish()
        return response
    assert isinstance(response.stream, httpx.AsyncByteStream)
    response.stream = _Recorded(response.stream, recording)
    return response


def _joined(response: httpx.Response, outcome: Joined) -> httpx.Response:
    # Not the network stream, which is nobody's in particular.
    extensions = {name: value for name, value in response.extensions.items() if name != "network_stream"}
    stream = _Joined(outcome.body)
    return httpx.Response(response.status_code, headers=response.headers, stream=stream, extensions=extensions)


def _from_cache(outcome: Answered) -> httpx.Response:
    answer = outcome.answer
    extensions: dict[str, object] = {"from_cache": True, "cache_status": outcome.kind}
    if outcome.kind == "miss":  # a 504 of ours: nothing is stored, and the server was not to be asked
        extensions = {}
    elif outcome.response is not None and "http_version" in outcome.response.extensions:
        # Not the others: the reason phrase is the 304's, the network stream has gone back to the pool.
        extensions["http_version"] = outcome.response.extensions["http_version"]
    return httpx.Response(
        answer.status,
        headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers],
        stream=_Stored(answer.body),
        extensions=extensions,
    )


def _is_delimited(response: httpx.Response, found: fields.Fields) -> bool:
    """Does the message say where it ends? HTTP/1 may leave that to the end of the connection (RFC 9112, 6.3)."""
    version = response.extensions.get("http_version")
    if version not in {b"HTTP/1.0", b"HTTP/1.1"} or response.status_code in {204, 304}:
        return True
    return "content-length" in found or "transfer-encoding" in found


def _is_whole(response: httpx.Response, found: fields.Fields) -> bool:
    """Is its body still to be had as it was sent? Who reads a response has it decoded, or nothing once it is closed."""
    if not response.is_stream_consumed:
        return not response.is_closed
    try:
        response.content  # noqa: B018 - a property that may raise
    except httpx.ResponseNotRead:
        return False
    return "content-encoding" not in found


def _decoded(headers: httpx.Headers) -> tuple[Header, ...]:
    # Latin-1 maps every byte to a character and back, whatever the bytes meant (RFC 9110, 5.5).
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw)
