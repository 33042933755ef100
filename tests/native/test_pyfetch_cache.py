"""CachingFetch, with `pyfetch` played by the test; in Pyodide itself the example client uses it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from asynclocks.recipes import InMemoryCache
from asynclocks.recipes.pyfetch import CachingFetch

URL = "http://127.0.0.1/user"


class Response:
    def __init__(self, status: int, headers: dict[str, str], body: bytes = b"", error: Exception | None = None) -> None:
        self.status, self.headers, self.body, self.error = status, headers, body, error
        self.redirected = self.aborted = False

    async def bytes(self) -> bytes:
        if self.error is not None:
            raise self.error
        return self.body

    def abort(self) -> None:
        self.aborted = True


class Fetch:
    """Answers with `plain`, or with 304 to its ETag."""

    def __init__(self, plain: Response) -> None:
        self.plain = plain
        self.calls: list[dict[str, Any]] = []

    async def __call__(self, url: str, **options: Any) -> Response:
        self.calls.append(options)
        if options["headers"].get("If-None-Match") == self.plain.headers["etag"]:
            return Response(304, {"x-ratelimit": "9"})
        return self.plain


@pytest.fixture
def fetch(monkeypatch: pytest.MonkeyPatch) -> Fetch:
    http: Any = ModuleType("pyodide.http")
    http.pyfetch = Fetch(Response(200, {"etag": '"v1"', "content-length": "7"}, b"octocat"))
    monkeypatch.setitem(sys.modules, "pyodide", ModuleType("pyodide"))
    monkeypatch.setitem(sys.modules, "pyodide.http", http)
    return http.pyfetch  # type: ignore[no-any-return]


async def test_second_answer_comes_from_the_cache(fetch: Fetch) -> None:
    client = CachingFetch()
    answers = [await client.request(URL, headers={"Accept": "*/*"}) for _ in range(2)]
    assert [(a.status, a.body, a.from_cache) for a in answers] == [(200, b"octocat", False), (200, b"octocat", True)]
    assert answers[1].header("X-RateLimit") == "9"
    assert answers[1].header("absent") is None
    assert "octocat" not in repr(answers)
    assert fetch.calls[0] == {"method": "GET", "cache": "no-store", "headers": {"Accept": "*/*"}}


async def test_decoded_body_is_stored_without_the_encoded_length(fetch: Fetch) -> None:
    fetch.plain.headers |= {"content-encoding": "gzip", "content-length": "3"}
    client = CachingFetch()
    answers = [await client.request(URL) for _ in range(2)]
    assert [(a.body, a.from_cache) for a in answers] == [(b"octocat", False), (b"octocat", True)]
    assert (answers[1].header("Content-Length"), answers[1].header("Content-Encoding")) == ("7", None)


async def test_body_cut_short_is_not_stored(fetch: Fetch) -> None:
    storage = InMemoryCache()
    fetch.plain.error = OSError("terminated")
    with pytest.raises(OSError, match="terminated"):
        await CachingFetch(storage=storage).request(URL)
    assert storage.statistics().entries == 0


async def test_redirected_answer_passes_through(fetch: Fetch) -> None:
    """The cache would ask for the first URI by an ETag of the last one."""
    fetch.plain.redirected = True
    storage = InMemoryCache()
    assert (await CachingFetch(storage=storage).request(URL)).body == b"octocat"
    assert storage.statistics().entries == 0


async def test_storage_that_fails_has_the_answer_aborted(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    storage = InMemoryCache()
    monkeypatch.setattr(storage, "writer", fail)
    with pytest.raises(OSError, match="disk full"):
        await CachingFetch(storage=storage).request(URL)
    assert fetch.plain.aborted


async def test_post_with_a_body_passes_by(fetch: Fetch) -> None:
    storage = InMemoryCache()
    answer = await CachingFetch(storage=storage).request(URL, method="post", body="sent")
    assert not answer.from_cache
    assert fetch.calls == [{"method": "POST", "cache": "no-store", "headers": {}, "body": "sent"}]
    assert storage.statistics().misses == 0
