"""The server of the suite's tests, as a transport of httpx: it answers as each test says, and remembers what it saw."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import httpx

from tests.cache_suite.suite import Json, Test

DATES = {"date", "expires", "last-modified", "if-modified-since", "if-unmodified-since"}
LOCATIONS = {"location", "content-location"}
BODILESS = {204, 304}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def header_value(name: str, value: Any, request: Json, now: float, base: str) -> str:
    """A header as a test means it: a number is a date that far from now, a location is beside the test's own."""
    if name.lower() in DATES and isinstance(value, int):
        text = formatdate(now + value, usegmt=True)
        if name.lower() not in request.get("rfc850date", ()):
            return text
        day, date, month, year, time, zone = text.split()
        full = next(one for one in DAYS if one.startswith(day[:3]))
        return f"{full}, {date}-{month}-{year[2:]} {time} {zone}"
    if name.lower() in LOCATIONS and request.get("magic_locations"):
        return f"{base}/{value}" if value else base
    return str(value)


class Body(httpx.AsyncByteStream):
    """A body that has not been read yet, as one from a socket is."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


class Origin(httpx.AsyncBaseTransport):
    """Serves the tests that are given to it, each below its own token."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tests: dict[str, Test] = {}
        self.seen: dict[str, list[Json]] = {}
        self.sent: dict[str, dict[int, list[tuple[str, str]]]] = {}

    def serve(self, token: str, test: Test) -> None:
        """From now on answer what is asked below this token."""
        self._tests[token], self.seen[token], self.sent[token] = test, [], {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        token = request.url.path.split("/")[2]
        test, seen = self._tests[token], self.seen[token]
        number = int(request.headers.get("req-num", len(seen) + 1))
        config = test.requests[number - 1]
        status = self._status(token, test, number, request)
        headers, checked = self._headers(token, config, number, len(seen) + 1, request)
        seen.append(
            {
                "number": number,
                "method": request.method,
                "headers": {name.lower(): value for name, value in request.headers.items()},
                "checked": checked,
            }
        )
        headers.append(("Request-Numbers", " ".join(str(one["number"]) for one in seen)))
        if config.get("disconnect"):
            raise httpx.RemoteProtocolError("the server closed the connection", request=request)
        body = b"" if status in BODILESS else (config.get("response_body") or token).encode()
        told = {name.lower(): value for name, value in headers}
        if "content-length" in told:  # what comes after that is no part of it
            body = body[: int(told["content-length"])]
        elif status not in BODILESS and "transfer-encoding" not in told:
            headers.append(("Content-Length", str(len(body))))
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        return httpx.Response(status, headers=raw, stream=Body(b"" if request.method == "HEAD" else body))

    def _status(self, token: str, test: Test, number: int, request: httpx.Request) -> int:
        config = test.requests[number - 1]
        status: int = config.get("response_status", [200])[0]
        if not config.get("expected_type", "").endswith("validated"):
            return status
        unsent = [(header[0], header[1]) for header in test.requests[number - 2].get("response_headers", ())]
        before = {name.lower(): value for name, value in self.sent[token].get(number - 1, unsent)}
        for name, condition in (("last-modified", "if-modified-since"), ("etag", "if-none-match")):
            if name in before and request.headers.get(condition) == before[name]:
                return 304
        return 999  # it should have been asked for conditionally

    def _headers(
        self, token: str, config: Json, number: int, count: int, request: httpx.Request
    ) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """What is sent, and what of it the client is to see."""
        now, base = self._clock(), str(request.url.raw_path.decode())
        own = [
            (header[0], header_value(header[0], header[1], config, now, base), len(header) < 3 or header[2] is True)
            for header in config.get("response_headers", ())
        ]
        self.sent[token][number] = [(name, value) for name, value, _ in own]
        headers = [
            ("Server-Base-Url", base),
            ("Server-Request-Count", str(count)),
            ("Client-Request-Count", str(number)),
            ("Server-Now", str(int(now * 1000))),
            *((name, value) for name, value, _ in own),
        ]
        if not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("Content-Type", "text/plain"))
        if not any(name.lower() == "date" for name, _ in headers):
            headers.append(("Date", formatdate(now, usegmt=True)))
        wanted = {name.lower() for name, _, checked in own if checked}
        joined = httpx.Headers([(name.encode(), value.encode("latin-1")) for name, value, _ in own])
        return headers, [(name, joined[name]) for name in wanted]
