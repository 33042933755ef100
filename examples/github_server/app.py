"""The server's resources: GitHub's, as far as the client asks for them, and what goes wrong on demand.

`?slow=SECONDS` delays an answer. `?fault=` has it go wrong: `hang` (no answer ever), `truncated` (half a body), `error`
(500), `unasked` (a 304 that nobody asked for).
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from examples.github_server.accounts import Accounts, Quota, Refused
from examples.github_server.data import Json

COMMON = {
    "Cache-Control": "private, max-age=60, s-maxage=60",
    "Content-Type": "application/json; charset=utf-8",
    "Vary": "Accept, Authorization, Cookie, X-GitHub-OTP, Accept-Encoding",
}
PER_PAGE, MOST_PER_PAGE = 30, 100
Finder = Callable[[Request], Any]


class Truncated(Response):
    """Half of the body that its Content-Length announces."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


class GitHub:
    """The application."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.data = accounts.data
        self.tally: Counter[str] = Counter()  # what the server has seen, beside what the client says

    def application(self) -> Starlette:
        routes = [
            Route("/app/installations/{installation:int}/access_tokens", self.access_tokens, methods=["POST"]),
            Route("/installation/token", self.revoke, methods=["DELETE"]),
            Route("/rate_limit", self.rate_limit),
            Route("/_tally", self.show_tally),
            Route("/users", self.resource(self.users)),
            Route("/users/{login}", self.resource(self.user)),
            Route("/users/{login}/repos", self.resource(self.repositories)),
            Route("/repos/{owner}/{name}", self.resource(self.repository)),
            Route("/repos/{owner}/{name}/issues", self.resource(self.issues)),
        ]
        return Starlette(routes=routes, exception_handlers={Refused: self.refuse, 404: self.not_found})

    # What is found.
    def users(self, _: Request) -> list[Json]:
        return list(self.data.users.values())

    def user(self, request: Request) -> Json:
        return self.data.users[request.path_params["login"]]

    def repositories(self, request: Request) -> list[Json]:
        self.user(request)
        return self.data.owned_by(request.path_params["login"])

    def repository(self, request: Request) -> Json:
        return self.data.repositories["{owner}/{name}".format_map(request.path_params)]

    def issues(self, request: Request) -> list[Json]:
        wanted = request.query_params.get("state", "open")
        found = self.data.issues["{owner}/{name}".format_map(request.path_params)]
        return [issue for issue in found if wanted in {"all", issue["state"]}]

    # How it is answered.
    def resource(self, find: Finder) -> Callable[[Request], Any]:
        """An endpoint for what `find` finds; a list page by page."""

        async def endpoint(request: Request) -> Response:
            self.tally["requests"] += 1
            quota = self.accounts.quota(request.headers.get("Authorization"))
            quota.look()
            fault = request.query_params.get("fault")
            await asyncio.sleep(math.inf if fault == "hang" else _number(request, "slow", 0.0))
            if fault == "unasked":
                return Response(status_code=304, headers=quota.headers())
            quota.used += 1
            if fault == "error":
                raise Refused(500, "Server Error", quota.headers())
            try:
                found = find(request)
            except KeyError:
                raise Refused(404, "Not Found", quota.headers()) from None
            return self.answer(request, quota, found, Truncated if fault == "truncated" else Response)

        return endpoint

    def answer(self, request: Request, quota: Quota, found: Any, kind: type[Response]) -> Response:
        links: dict[str, str] = {}
        if isinstance(found, list):
            found, links = _page(request, found)
        body = json.dumps(found).encode()
        etag = f'W/"{sha256(body).hexdigest()}"'
        if etag in [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]:
            self.tally["not modified"] += 1
            quota.used -= 1  # a 304 is free
            return Response(status_code=304, headers={**COMMON, **quota.headers(), "ETag": etag})
        return kind(body, headers={**COMMON, **quota.headers(), **links, "ETag": etag})

    async def access_tokens(self, request: Request) -> Response:
        self.tally["tokens"] += 1
        authorization = request.headers.get("Authorization", "")
        token, expires_at = self.accounts.new_token(authorization, request.path_params["installation"])
        when = datetime.fromtimestamp(int(expires_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return _json({"token": token, "expires_at": when}, 201)

    async def revoke(self, request: Request) -> Response:
        self.accounts.revoke(request.headers.get("Authorization", ""))
        return Response(status_code=204)

    async def rate_limit(self, request: Request) -> Response:
        headers = self.accounts.quota(request.headers.get("Authorization")).headers()
        core = {name: int(headers[f"X-RateLimit-{name.title()}"]) for name in ("limit", "remaining", "used", "reset")}
        return _json({"resources": {"core": core}}, headers=headers)

    async def show_tally(self, _: Request) -> Response:
        return _json(dict(self.tally))

    async def refuse(self, _: Request, refused: Exception) -> Response:
        assert isinstance(refused, Refused)
        self.tally["refused"] += 1
        return _json({"message": str(refused)}, refused.status, refused.headers)

    async def not_found(self, _: Request, __: Exception) -> Response:
        return _json({"message": "Not Found"}, 404)


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(content), status, {"Content-Type": "application/json", **(headers or {})})


def _page(request: Request, found: list[Json]) -> tuple[list[Json], dict[str, str]]:
    """The page that was asked for, and the Link header to the others (RFC 8288)."""
    size = int(min(max(_number(request, "per_page", PER_PAGE), 1), MOST_PER_PAGE))
    last = max(1, -(-len(found) // size))
    page = int(max(_number(request, "page", 1), 1))
    to = {"first": 1, "prev": page - 1} if page > 1 else {}
    if page < last:
        to |= {"next": page + 1, "last": last}
    links = ", ".join(f'<{_with_page(request.url, number)}>; rel="{name}"' for name, number in to.items())
    return found[(page - 1) * size : page * size], {"Link": links} if links else {}


def _with_page(url: URL, page: int) -> URL:
    return url.include_query_params(page=page)


def _number(request: Request, name: str, default: float) -> float:
    try:
        found = float(request.query_params.get(name, default))
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise Refused(422, f"{name} must be a number")
    return found
