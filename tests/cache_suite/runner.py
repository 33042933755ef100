"""Runs the suite's tests: a client's requests one after another, and what it and the server are to see of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import attrs
import httpx

from tests.cache_suite.origin import BODILESS, Origin, header_value
from tests.cache_suite.suite import Json, Test

PAUSE = 3  # seconds, where a test says so
UNCHECKED = {"date"}
HOST = "http://origin.example"


class Failed(Exception):
    """A test's expectation is not met. `setup`: one that comes before what the test is about."""

    def __init__(self, message: str, *, setup: bool) -> None:
        super().__init__(message)
        self.setup = setup


Check = Callable[[str, object, str], None]


def checker(whose: str, config: Json) -> Check:
    """What raises `Failed` unless an expectation is met; `about` is its name in the test, if it has one there."""

    def check(about: str, met: object, fault: str) -> None:
        if not met:
            setup = config.get("setup") is True or about == "" or about in config.get("setup_tests", ())
            raise Failed(f"{whose} {fault}", setup=setup)

    return check


@attrs.frozen
class Result:
    """What became of a test: passed if `fault` is empty."""

    test: Test
    fault: str = ""
    setup: bool = False

    @property
    def wrongly_reused(self) -> bool:
        """Did the cache answer where it must not?"""
        return self.test.kind == "required" and not self.setup and "comes from cache" in self.fault


@attrs.define
class Clock:
    """Seconds since the epoch, which pass only when a test pauses."""

    now: float

    def __call__(self) -> float:
        return self.now


class Runner:
    """Tests one client, made by `client_of` on an origin."""

    def __init__(self, client_of: Callable[[Origin], httpx.AsyncClient], clock: Clock) -> None:
        self._origin = Origin(clock)
        self._client = client_of(self._origin)
        self._clock = clock

    async def run(self, test: Test) -> Result:
        """One test."""
        token = str(uuid4())
        self._origin.serve(token, test)
        responses: list[httpx.Response] = []
        try:
            for number, config in enumerate(test.requests, 1):
                responses.append(await self._request(token, test, number, config, responses))
                self._check_response(token, test, number, config, responses[-1])
                if config.get("pause_after"):
                    self._clock.now += PAUSE
            self._check_server(token, test, responses)
        except Failed as failed:
            return Result(test, str(failed), failed.setup)
        except httpx.HTTPError as error:
            return Result(test, f"{type(error).__name__}: {error}")
        return Result(test)

    async def close(self) -> None:
        """It is not used any more."""
        await self._client.aclose()

    async def _request(
        self, token: str, test: Test, number: int, config: Json, before: list[httpx.Response]
    ) -> httpx.Response:
        url = f"{HOST}/test/{token}"
        if "filename" in config:
            url += f"/{config['filename']}"
        if "query_arg" in config:
            url += f"?{config['query_arg']}"
        headers = [(name, value) for name, value, *_ in config.get("request_headers", ())]
        if config.get("magic_ims"):
            now = int(before[-1].headers["server-now"]) / 1000
            headers = [(name, header_value(name, value, config, now, "")) for name, value in headers]
        headers += [("Test-ID", test.id), ("Req-Num", str(number))]
        try:
            return await self._client.request(
                config.get("request_method", "GET"),
                url,
                headers=[(name.encode(), str(value).encode("latin-1")) for name, value in headers],
                content=config.get("request_body"),
                follow_redirects=config.get("redirect", "follow") == "follow",
            )
        except httpx.RemoteProtocolError:
            if config.get("expected_status", "") is not None:
                raise
            # A proxy would answer 502 to a server that hangs up; a client's cache has the error to tell.
            return httpx.Response(502)

    def _check_response(self, token: str, test: Test, number: int, config: Json, response: httpx.Response) -> None:
        check = checker(f"response {number}", config)
        numbers = response.headers.get("request-numbers", "").split()
        check("", len(numbers) == len(set(numbers)), "was asked for twice")
        count = response.headers.get("server-request-count")
        expected_type = config.get("expected_type")
        if expected_type == "cached" and not (response.status_code == 304 and count is None):
            check("expected_type", count is not None and int(count) < number, "does not come from cache")
        if expected_type == "not_cached":
            check("expected_type", count is not None and int(count) == number, "comes from cache")
        self._check_status(config, response, check)
        for header in config.get("expected_response_headers", ()):
            self._check_header(header, config, response, check)
        for header in config.get("expected_response_headers_missing", ()):
            if isinstance(header, str):
                check("expected_response_headers_missing", header not in response.headers, f"has {header}")
        self._check_body(token, config, response, check)

    def _check_status(self, config: Json, response: httpx.Response, check: Check) -> None:
        if "expected_status" in config:
            expected = config["expected_status"]
            met = expected is None or response.status_code == expected
            check("expected_status", met, f"has status {response.status_code}, not {expected}")
        elif "response_status" in config:
            expected = config["response_status"][0]
            check("", response.status_code == expected, f"has status {response.status_code}, not {expected}")
        elif response.status_code == 999:
            check("expected_type", False, "should have been asked for conditionally")
        else:
            check("", response.status_code == 200, f"has status {response.status_code}, not 200")

    def _check_header(self, header: Any, config: Json, response: httpx.Response, check: Check) -> None:
        about = "expected_response_headers"
        name = header if isinstance(header, str) else header[0]
        found = response.headers.get(name)
        if isinstance(header, str) or len(header) > 2:
            check(about, found is not None, f"has no {name}")
        if isinstance(header, str):
            return
        if len(header) > 2 and header[1] == "=":
            check(about, found == response.headers.get(header[2]), f"has {name} {found}, not {header[2]}'s")
        elif len(header) > 2:
            check(about, int(found or 0) > header[2], f"has {name} {found}, not more than {header[2]}")
        else:
            now = int(response.headers.get("server-now", 0)) / 1000
            base = response.headers.get("server-base-url", "")
            expected = header_value(name, header[1], config, now, base)
            check(about, found == expected, f"has {name} {found!r}, not {expected!r}")

    def _check_body(self, token: str, config: Json, response: httpx.Response, check: Check) -> None:
        if config.get("check_body") is False:
            return
        if "expected_response_text" in config:
            expected, about = config["expected_response_text"], "expected_response_text"
        elif config.get("response_body") is not None:
            expected, about = config["response_body"], ""
        elif response.status_code not in BODILESS and config.get("request_method") != "HEAD":
            expected, about = token, ""
        else:
            return
        if expected is not None:
            check(about, response.text == expected, f"has the body {response.text!r}, not {expected!r}")

    def _check_server(self, token: str, test: Test, responses: list[httpx.Response]) -> None:
        seen = iter(self._origin.seen[token])
        for number, (config, response) in enumerate(zip(test.requests, responses, strict=True), 1):
            expected_type = config.get("expected_type")
            if expected_type == "cached":
                continue
            self._check_request(number, config, next(seen, None), response)

    def _check_request(self, number: int, config: Json, request: Json | None, response: httpx.Response) -> None:
        check = checker(f"request {number}", config)
        expected_type = config.get("expected_type")
        if expected_type == "not_cached":
            check("expected_type", request is not None and request["number"] == number, "comes from cache")
        sent = {} if request is None else request["headers"]
        validated = {"etag_validated": "if-none-match", "lm_validated": "if-modified-since"}.get(expected_type or "")
        if validated is not None:
            check("expected_type", validated in sent, f"has no {validated}")
        for header in config.get("expected_request_headers", ()):
            name = header if isinstance(header, str) else header[0]
            met = name.lower() in sent if isinstance(header, str) else sent.get(name.lower()) == header[1]
            check("expected_request_headers", met, f"has {name} {sent.get(name.lower())!r}")
        for header in config.get("expected_request_headers_missing", ()):
            name = header if isinstance(header, str) else header[0]
            met = name.lower() not in sent if isinstance(header, str) else sent.get(name.lower()) != header[1]
            check("expected_request_headers_missing", met, f"has {name} {sent.get(name.lower())!r}")
        if "expected_method" in config:
            check("expected_method", request is not None and request["method"] == config["expected_method"], "method")
        for name, value in () if request is None else request["checked"]:
            found = response.headers.get(name)
            if name not in UNCHECKED and found != value:
                raise Failed(f"response {number} has {name} {found!r}, not {value!r}", setup=True)
