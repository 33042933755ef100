"""A server and a client of it without a network, for the HTTP cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from email.utils import formatdate
from typing import Any

from asynclocks.recipes import InMemoryCache, StoredResponse, Validator
from asynclocks.recipes._http_caching import Caching
from asynclocks.recipes._http_exchange import Answered, Head, Passed
from asynclocks.recipes._http_fields import fields

URI = "https://api.example/users/octocat"
Headers = Iterable[tuple[str, str]]


class Reply:
    def __init__(self, status: int, headers: Headers = (), body: bytes = b"") -> None:
        self.status, self.headers, self.body = status, tuple(headers), body
        self.discarded = self.read = False


class Server:
    """A resource with an ETag, or whatever `answer` says. Also the client of an exchange."""

    failures = OSError

    def __init__(self, body: bytes = b"octocat", **headers: str) -> None:
        self.body = body
        self.headers = {
            "ETag": '"v1"',
            "Content-Length": str(len(body)),
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        self.on_304: dict[str, str] = {}
        self.asked: list[tuple[str, str] | None] = []
        self.replies: list[Reply] = []
        self.sound = True
        self.answer: Callable[[tuple[str, str] | None], Reply] = self.answer_by_etag

    def answer_by_etag(self, condition: tuple[str, str] | None) -> Reply:
        expected = {
            ("If-None-Match", self.headers.get("ETag")),
            ("If-Modified-Since", self.headers.get("Last-Modified")),
        }
        if condition in expected:
            return Reply(304, self.on_304.items())
        return Reply(200, self.headers.items(), self.body)

    async def send(self, condition: tuple[str, str] | None) -> Reply:
        self.asked.append(condition)
        self.replies.append(self.answer(condition))
        return self.replies[-1]

    def head(self, response: Reply) -> Head:
        return Head(response.status, response.headers, fields(response.headers), self.sound)

    async def discard(self, response: Reply) -> None:
        response.discarded = True

    abandon = discard


async def fetch(server: Server, storage: Any, *, method: str = "GET", uri: str = URI, **headers: str) -> StoredResponse:
    """The answer to a request by way of a storage, or of a `Caching`; read to its end."""
    sent = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    caching = storage if isinstance(storage, Caching) else Caching(storage)
    outcome = await caching.exchange(server, method, uri, sent)
    if isinstance(outcome, Answered):
        assert outcome.response is None or outcome.response.discarded
        return outcome.answer
    assert isinstance(outcome, Passed)
    reply = outcome.response
    reply.read = True
    body = b"" if method == "HEAD" else reply.body
    if outcome.recording is not None:
        for byte in body:
            await outcome.recording.write(bytes([byte]))
        await outcome.recording.finish()
    return StoredResponse(reply.status, reply.headers, body)


NOW = 1_800_000_000.0


class World:
    """A server, a cache of it, and the clock of both."""

    def __init__(self, storage: Any = None, *, etag: str | None = '"v1"', **headers: str) -> None:
        self.now = NOW
        self.server = Server(**headers)
        if etag is None:
            del self.server.headers["ETag"]
        else:
            self.server.headers["ETag"] = etag
        self.storage = InMemoryCache() if storage is None else storage
        self.caching = Caching(self.storage, freshness=True, clock=lambda: self.now)

    async def get(self, method: str = "GET", uri: str = URI, **headers: str) -> StoredResponse:
        return await fetch(self.server, self.caching, method=method, uri=uri, **headers)

    @property
    def requests(self) -> int:
        return len(self.server.asked)


def date(ahead: float = 0) -> str:
    return formatdate(NOW + ahead, usegmt=True)


def header(answer: StoredResponse, name: str) -> str | None:
    return next((value for key, value in answer.headers if key.lower() == name.lower()), None)


def store(storage: InMemoryCache, key: Hashable, body: bytes, etag: str = '"e"') -> None:
    """Put a response there."""
    writer = storage.writer(key, Validator(etag, None), 200, [("ETag", etag)])
    writer.write(body)
    writer.finish()
