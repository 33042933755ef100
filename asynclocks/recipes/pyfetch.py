"""A caching client on ``pyodide.http.pyfetch``, for browsers, Node and Workers."""

from __future__ import annotations

import time
from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import attrs

from asynclocks.recipes._http_caching import Caching
from asynclocks.recipes._http_exchange import Answered, Head, Joined, Outcome, Recording
from asynclocks.recipes._http_fields import fields
from asynclocks.recipes._http_shelf import OnError
from asynclocks.recipes._stored import PIECE, AnyStorage, Header, Kind
from asynclocks.recipes.http_cache import InMemoryCache


@attrs.frozen(kw_only=True)
class _Answered:
    status: int
    headers: tuple[Header, ...] = attrs.field(repr=False)
    from_cache: bool
    cache_status: Kind | None = None  # how the cache answered, if it did

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@attrs.frozen(kw_only=True)
class Answer(_Answered):
    """A whole response. Neither its headers nor its body are in its repr."""

    body: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Streaming(_Answered):
    """A response whose body comes part by part."""

    body: AsyncIterator[bytes] = attrs.field(repr=False)


class CachingFetch:
    """``pyfetch`` with the HTTP cache: answers from the cache what the server confirms with a 304.

    What came by a redirection passes through: only where it came from is known, not the way there. `fetcher` takes
    the place of JavaScript's ``fetch``, as a Worker's service binding does. The other arguments are those of
    `asynclocks.recipes.httpx.CachingTransport`.
    """

    def __init__(
        self,
        *,
        storage: AnyStorage | None = None,
        fetcher: Any = None,
        freshness: bool = False,
        ignore_headers: Iterable[str] = (),
        namespace: str = "",
        coalesce: bool = False,
        on_storage_error: OnError = "miss",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._caching = Caching(
            InMemoryCache() if storage is None else storage,
            freshness=freshness,
            ignore_headers=ignore_headers,
            namespace=namespace,
            coalesce=coalesce,
            on_storage_error=on_storage_error,
            clock=clock,
        )
        self._fetcher = fetcher

    async def request(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> Answer:
        """Send a request and read the whole answer.

        Raises:
            OSError: the server cannot be reached, or breaks off.
        """
        outcome = await self._exchanged(url, method, headers, body)
        if isinstance(outcome, Answered):
            return Answer(**_told(outcome), body=outcome.answer.body)
        head = _head(outcome.response)
        if isinstance(outcome, Joined):
            async with aclosing(outcome.body) as parts:
                joined = b"".join([part async for part in parts])
            return Answer(status=head.status, headers=head.headers, body=joined, from_cache=False)
        content: bytes = await outcome.response.bytes()
        if outcome.recording is not None:
            await outcome.recording.write(content)
            await outcome.recording.finish()
        return Answer(status=head.status, headers=head.headers, body=content, from_cache=False)

    @asynccontextmanager
    async def stream(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> AsyncIterator[Streaming]:
        """Send a request and read its answer as it comes. It is stored if it is read to its end; leaving ends it.

        Raises:
            OSError: the server cannot be reached, or breaks off.
        """
        outcome = await self._exchanged(url, method, headers, body)
        if isinstance(outcome, Answered):
            async with aclosing(_stored(outcome.answer.body)) as parts:
                yield Streaming(**_told(outcome), body=parts)
            return
        head = _head(outcome.response)
        if isinstance(outcome, Joined):
            async with aclosing(outcome.body) as parts:
                yield Streaming(status=head.status, headers=head.headers, body=parts, from_cache=False)
            return
        try:
            async with aclosing(_parts(outcome.response, outcome.recording)) as parts:
                yield Streaming(status=head.status, headers=head.headers, body=parts, from_cache=False)
        finally:
            outcome.response.abort()  # nothing, if it was read to its end

    async def _exchanged(self, url: str, method: str, headers: Mapping[str, str] | None, body: str | None) -> Outcome:
        sent = dict(headers or {})
        client = _Client(url, method.upper(), sent, body, self._fetcher)
        asked = tuple(sent.items()) if body is None else (*sent.items(), ("Content-Length", str(len(body))))
        return await self._caching.exchange(client, method.upper(), url, asked)


def _told(outcome: Answered) -> dict[str, Any]:
    answer = outcome.answer
    found = {"status": answer.status, "headers": answer.headers}
    if outcome.kind == "miss":  # a 504 of ours: nothing is stored, and the server was not to be asked
        return {**found, "from_cache": False}
    return {**found, "from_cache": True, "cache_status": outcome.kind}


def _head(response: Any) -> Head:
    headers = tuple(response.headers.items())
    if any(name.lower() == "content-encoding" for name, _ in headers):
        # fetch has decoded the body already, and leaves the headers as they were
        headers = tuple(h for h in headers if h[0].lower() not in {"content-encoding", "content-length"})
    return Head(response.status, headers, fields(headers), sound=not response.redirected)


class _Client:
    failures = OSError

    def __init__(self, url: str, method: str, headers: dict[str, str], body: str | None, fetcher: Any) -> None:
        self._url = url
        # The browser's own cache would hide 304s.
        given = {"method": method, "cache": "no-store", "body": body, "fetcher": fetcher}
        self._options = {name: value for name, value in given.items() if value is not None}
        self._headers = headers

    async def send(self, condition: Header | None) -> Any:
        from pyodide.http import pyfetch  # type: ignore[import-not-found, unused-ignore] # exists in Pyodide only

        headers = self._headers if condition is None else {**self._headers, condition[0]: condition[1]}
        return await pyfetch(self._url, headers=headers, **self._options)

    def head(self, response: Any) -> Head:
        return _head(response)

    async def discard(self, response: Any) -> None:
        await response.bytes()  # a 304 has none; reading it lets the connection go

    def parts(self, response: Any) -> AsyncIterator[bytes]:
        return _parts(response, None)

    async def abandon(self, response: Any) -> None:
        response.abort()


async def _stored(body: bytes) -> AsyncGenerator[bytes, None]:
    """A stored body, in pieces, between which others run."""
    for begin in range(0, len(body), PIECE):
        if begin:
            await sleep(0)
        yield body[begin : begin + PIECE]


async def _parts(response: Any, recording: Recording | None) -> AsyncGenerator[bytes, None]:
    """The body as it comes; whoever records is told of its end only if it is reached."""
    stream = response.js_response.body
    if stream:  # JavaScript's null where there is no body: HEAD, 204
        reader = stream.getReader()
        while (part := await _read(reader)) is not None:
            if recording is not None:
                await recording.write(part)
            yield part
    if recording is not None:
        await recording.finish()


async def _read(reader: Any) -> bytes | None:
    from pyodide.ffi import JsException  # type: ignore[import-not-found, unused-ignore] # exists in Pyodide only

    try:
        part = await reader.read()
    except JsException as error:
        raise OSError(f"the body broke off: {error}") from None
    if part.done:
        return None
    found: bytes = part.value.to_bytes()
    return found
