"""A caching client on ``pyodide.http.pyfetch``, for browsers and Node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from asynclocks.recipes import _http_rules as rules
from asynclocks.recipes._http_exchange import Head, Revalidated, exchange
from asynclocks.recipes._stored import AnyStorage, Header
from asynclocks.recipes.http_cache import InMemoryCache


@attrs.frozen
class Answer:
    """A whole response. Neither its headers nor its body are in its repr."""

    status: int
    headers: tuple[Header, ...] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    from_cache: bool

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class CachingFetch:
    """``pyfetch`` with the HTTP cache: answers from the cache what the server confirms with a 304.

    What came by a redirection passes through: only where it came from is known, not the way there.
    """

    def __init__(self, *, storage: AnyStorage | None = None) -> None:
        self._storage: AnyStorage = InMemoryCache() if storage is None else storage

    async def request(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> Answer:
        """Send a request and read the whole answer.

        Raises:
            OSError: what `pyfetch` raises when the server cannot be reached or breaks off.
        """
        sent = dict(headers or {})
        client = _Client(url, method.upper(), sent, body)
        asked = tuple(sent.items()) if body is None else (*sent.items(), ("Content-Length", str(len(body))))
        outcome = await exchange(client, self._storage, method.upper(), url, asked)
        if isinstance(outcome, Revalidated):
            return Answer(outcome.answer.status, outcome.answer.headers, outcome.answer.body, from_cache=True)
        head = client.head(outcome.response)
        content: bytes = await outcome.response.bytes()
        if outcome.recording is not None:
            await outcome.recording.write(content)
            await outcome.recording.finish()
        return Answer(head.status, head.headers, content, from_cache=False)


class _Client:
    def __init__(self, url: str, method: str, headers: dict[str, str], body: str | None) -> None:
        self._url = url
        self._options: dict[str, Any] = {"method": method, "cache": "no-store"}  # the browser's own cache hides 304s
        self._headers = headers
        if body is not None:
            self._options["body"] = body

    async def send(self, condition: Header | None) -> Any:
        from pyodide.http import pyfetch  # type: ignore[import-not-found, unused-ignore]

        headers = self._headers if condition is None else {**self._headers, condition[0]: condition[1]}
        return await pyfetch(self._url, headers=headers, **self._options)

    def head(self, response: Any) -> Head:
        headers = tuple(response.headers.items())
        if any(name.lower() == "content-encoding" for name, _ in headers):
            # fetch has decoded the body already, and leaves the headers as they were
            headers = tuple(h for h in headers if h[0].lower() not in {"content-encoding", "content-length"})
        return Head(response.status, headers, rules.fields(headers), sound=not response.redirected)

    async def discard(self, response: Any) -> None:
        await response.bytes()  # a 304 has none; reading it lets the connection go

    async def abandon(self, response: Any) -> None:
        response.abort()
