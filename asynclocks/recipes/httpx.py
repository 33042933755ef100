"""CachingTransport: the HTTP cache for httpx, on asyncio and on trio (extra ``httpx``)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import httpx

from asynclocks.recipes import _http_rules as rules
from asynclocks.recipes._http_exchange import Head, Recording, Revalidated, exchange
from asynclocks.recipes._stored import AnyStorage, Header
from asynclocks.recipes.http_cache import InMemoryCache

# httpx's ways to ask for another URI, or another server, than the URL says. No key would cover that.
ELSEWHERE = frozenset({"sni_hostname", "target"})


class CachingTransport(httpx.AsyncBaseTransport):
    """Answers from the cache what the server confirms with a 304; everything else passes through.

    Give one `storage` to several transports to share it. A body reaches the caller as it comes, and is stored only
    when it is complete. An answer from the cache says so: ``response.extensions["from_cache"]`` is True.

    It enters, leaves and closes the transport that it is given, as a client does. The storage is its owner's to close.
    What the client would have told a transport of its own (``http2``, ``verify``, ``limits``, a proxy), tell the one
    you give: ``CachingTransport(httpx.AsyncHTTPTransport(http2=True))``.

    ::

        async with httpx.AsyncClient(transport=CachingTransport()) as client:
            response = await client.get("https://api.github.com/users/octocat")
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, *, storage: AnyStorage | None = None) -> None:
        self._transport = httpx.AsyncHTTPTransport() if transport is None else transport
        self._storage: AnyStorage = InMemoryCache() if storage is None else storage

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not ELSEWHERE.isdisjoint(request.extensions):
            return await self._transport.handle_async_request(request)
        headers = _decoded(request.headers)
        client = _Client(self._transport, request)
        outcome = await exchange(client, self._storage, request.method, str(request.url), headers)
        response: httpx.Response = outcome.response
        if isinstance(outcome, Revalidated):
            return _from_cache(outcome, head_only=request.method == "HEAD")
        if outcome.recording is not None:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            return _with_stream(response, _Recorded(response.stream, outcome.recording))
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
        fields = rules.fields(headers)
        return Head(response.status_code, headers, fields, _is_delimited(response, fields))

    async def discard(self, response: httpx.Response) -> None:
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            async for _ in stream:  # a 304 has no content; read to its end, the connection can be used again
                pass
        finally:
            await stream.aclose()

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


def _with_stream(response: httpx.Response, stream: httpx.AsyncByteStream) -> httpx.Response:
    if response.is_closed:  # a mock's, read already: it would never look at its stream again
        return httpx.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )
    response.stream = stream
    return response


def _from_cache(outcome: Revalidated, *, head_only: bool) -> httpx.Response:
    answer = outcome.answer
    return httpx.Response(
        answer.status,
        headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers],
        stream=httpx.ByteStream(b"" if head_only else answer.body),
        extensions={**_kept(outcome.response.extensions), "from_cache": True},
    )


def _is_delimited(response: httpx.Response, fields: rules.Fields) -> bool:
    """Does the message say where it ends? HTTP/1 may leave that to the end of the connection (RFC 9112, 6.3)."""
    if response.extensions.get("http_version") not in {b"HTTP/1.0", b"HTTP/1.1"} or response.status_code == 304:
        return True
    return "content-length" in fields or "transfer-encoding" in fields


def _kept(extensions: dict[str, object]) -> dict[str, object]:
    # The reason phrase is the 304's, the network stream has gone back to the pool.
    return {name: value for name, value in extensions.items() if name == "http_version"}


def _decoded(headers: httpx.Headers) -> tuple[Header, ...]:
    # Latin-1 maps every byte to a character and back, whatever the bytes meant (RFC 9110, 5.5).
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw)
