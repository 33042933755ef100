"""The client: octocrab's, as far as the example goes. Nothing here knows a loop or an HTTP library."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlencode, urljoin, urlsplit

import attrs

from asynclocks import ConcurrentMap
from asynclocks.recipes import CachedToken

Json = dict[str, Any]
Signer = Callable[[Json], Awaitable[str]]  # makes a JWT of claims, with the app's private key (RS256)


@attrs.frozen
class Reply:
    """A whole response; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    from_cache: bool = False
    unasked: bool = False  # from the cache, and the server was not even asked


class Send(Protocol):
    """How a request is sent, through the HTTP cache."""

    async def __call__(self, method: str, url: str, headers: dict[str, str]) -> Reply:
        """Send it and read the whole answer.

        Raises:
            OSError: there is none, or none in time (TimeoutError).
        """


class GitHubError(Exception):
    """The server refused; `status` says how, the message says why and what."""

    def __init__(self, what: str, reply: Reply) -> None:
        self.status = reply.status
        super().__init__(f"{what}: {reply.status} {_message(reply)}".rstrip())


@attrs.frozen
class Counts:
    """Requests of one kind."""

    asked: int = 0
    from_cache: int = 0
    unasked: int = 0  # of those from the cache

    @property
    def spent(self) -> int:
        """Of the rate limit: what the server confirmed by a 304 is free."""
        return self.asked - self.from_cache

    @property
    def confirmed(self) -> int:
        """By a 304."""
        return self.from_cache - self.unasked

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.asked + other.asked, self.from_cache + other.from_cache, self.unasked + other.unasked)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.asked - other.asked, self.from_cache - other.from_cache, self.unasked - other.unasked)


@attrs.frozen
class RateLimit:
    """What the server said last of its rate limit."""

    limit: int
    remaining: int
    reset: int

    @property
    def used(self) -> int:
        return self.limit - self.remaining


class GitHub:
    """A client of one API, as an installation of an app, or as nobody. Its tallies may be read in any thread."""

    def __init__(self, send: Send, base: str, token: CachedToken[str] | None = None) -> None:
        self._send = send
        self._base = base.rstrip("/") + "/"
        self._token = token
        self.counts: ConcurrentMap[str, Counts] = ConcurrentMap()
        self._limits: ConcurrentMap[str, RateLimit] = ConcurrentMap()

    @property
    def rate_limit(self) -> RateLimit | None:
        """Answers overtake each other, so this is of the one that says the least is left."""
        return self._limits.get("core")

    def users(self) -> AsyncIterator[Json]:
        return self._items("pages of users", "users", per_page=5)

    async def user(self, login: str) -> Json:
        return await self._one("users", f"users/{login}")

    def repositories(self, login: str) -> AsyncIterator[Json]:
        return self._items("repository lists", f"users/{login}/repos")

    async def repository(self, full_name: str) -> Json:
        return await self._one("repositories", f"repos/{full_name}")

    def issues(self, full_name: str, state: str = "open") -> AsyncIterator[Json]:
        return self._items("pages of issues", f"repos/{full_name}/issues", state=state, per_page=10)

    async def get(self, kind: str, url: str) -> Reply:
        """Ask for what the API has at this URL, relative to its base. `kind` is what it counts as.

        Raises:
            GitHubError: the server refused.
        """
        url = urljoin(self._base, url)
        reply = await self._authorized(kind, url)
        if reply.status == 401 and self._token is not None:  # revoked, or our clock is slow: once more with a new one
            reply = await self._authorized(kind, url)
        if reply.status != 200:
            raise GitHubError(f"GET {url}", reply)
        return reply

    async def _authorized(self, kind: str, url: str) -> Reply:
        headers = {"Accept": "application/vnd.github+json"}
        if self._token is None:
            reply = await self._send("GET", url, headers)
        else:
            token = await self._token.get()
            reply = await self._send("GET", url, headers | {"Authorization": f"Bearer {token}"})
            if reply.status == 401:
                self._token.invalidate(token)  # of many that meet a stale one, the first clears it
        self._note(kind, reply)
        return reply

    def _note(self, kind: str, reply: Reply) -> None:
        self.counts.setdefault(kind, Counts())
        self.counts.alter(kind, lambda counts: counts + Counts(1, reply.from_cache, reply.unasked))
        limit = _rate_limit(reply.headers)
        if limit is not None:
            self._limits.setdefault("core", limit)
            self._limits.alter("core", lambda known: max(known, limit, key=lambda one: (one.reset, one.used)))

    async def _one(self, kind: str, path: str) -> Json:
        found: Json = json.loads((await self.get(kind, path)).body)
        return found

    async def _items(self, kind: str, path: str, **query: object) -> AsyncIterator[Json]:
        url: str | None = f"{path}?{urlencode(query)}" if query else path
        while url is not None:
            reply = await self.get(kind, url)
            for item in json.loads(reply.body):
                yield item
            url = next_page(reply.headers.get("link", ""), self._base)


def next_page(link: str, base: str) -> str | None:
    """Where the Link header (RFC 8288) says the next page is.

    Raises:
        ValueError: at another server, which is not to see our token.
    """
    for target, parameters in re.findall(r"<([^>]*)>([^<]*)", link):
        if re.search(r';\s*rel="?([^"]*\s)?next[\s",]*', parameters):
            url: str = urljoin(base, target)
            if urlsplit(url)[:2] != urlsplit(base)[:2]:
                raise ValueError(f"the next page is said to be at {url}, which is not {base}; not going there")
            return url
    return None


@attrs.frozen
class Installation:
    """Of an app, whose private key `sign` signs with."""

    app_id: int
    number: int
    sign: Signer = attrs.field(repr=False)

    def token(self, send: Send, base: str, clock: Callable[[], float] = time.time) -> CachedToken[str]:
        """Its token, fetched when it is needed, by one task for all."""
        url = urljoin(base.rstrip("/") + "/", f"app/installations/{self.number}/access_tokens")

        async def fetch() -> tuple[str, float]:
            jwt = await self.sign(claims(self.app_id, clock()))
            reply = await send("POST", url, {"Authorization": f"Bearer {jwt}"})
            if reply.status != 201:
                raise GitHubError(f"POST {url}", reply)
            answer = json.loads(reply.body)
            return answer["token"], datetime.fromisoformat(answer["expires_at"]).timestamp()

        return CachedToken(fetch, clock=clock)


def claims(app_id: int, now: float) -> Json:
    """An app's JWT: a minute back, for a server whose clock is slow, and a minute less than the ten allowed."""
    return {"iat": int(now) - 60, "exp": int(now) + 9 * 60, "iss": str(app_id)}


def _rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    try:
        return RateLimit(*(int(headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining", "reset")))
    except (KeyError, ValueError):
        return None


def _message(reply: Reply) -> str:
    try:
        return str(json.loads(reply.body)["message"])
    except (ValueError, KeyError, TypeError):
        return ""
