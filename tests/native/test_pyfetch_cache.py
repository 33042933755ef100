"""CachingFetch, with `pyfetch` played by the test; in Pyodide itself the example client uses it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import anyio
import pytest

from asynclocks.recipes import InMemoryCache
from asynclocks.recipes.pyfetch import CachingFetch
from tests.support import spawn

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
        await CachingFetch(storage=storage, on_storage_error="raise").request(URL)
    assert fetch.plain.aborted


class Part:
    """What JavaScript's reader of a stream gives."""

    def __init__(self, content: bytes) -> None:
        self.done = not content
        self.value = self
        self.content = content

    def to_bytes(self) -> bytes:
        return self.content


class Stream:
    """A body as JavaScript has it."""

    def __init__(self, *contents: bytes) -> None:
        self.parts = [Part(content) for content in (*contents, b"")]
        self.js_response = self.body = self

    def getReader(self) -> Stream:  # noqa: N802 - its name there
        return self

    async def read(self) -> Part:
        return self.parts.pop(0)


@pytest.fixture
def streamed(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    """The same, with a body that is read in parts."""
    ffi: Any = ModuleType("pyodide.ffi")
    ffi.JsException = OSError
    monkeypatch.setitem(sys.modules, "pyodide.ffi", ffi)
    fetch.plain.js_response = Stream(b"octo", b"cat")  # type: ignore[attr-defined]
    return fetch


async def test_identical_requests_share_one(streamed: Fetch) -> None:
    client = CachingFetch(coalesce=True)
    async with anyio.create_task_group() as group:
        callers = [spawn(group, client.request, URL) for _ in range(3)]
    assert [caller.result.body for caller in callers] == [b"octocat"] * 3
    assert len(streamed.calls) == 1
    assert (await client.request(URL)).from_cache


async def test_streams_share_one(streamed: Fetch) -> None:
    client = CachingFetch(coalesce=True)
    async with client.stream(URL) as one, client.stream(URL) as other:
        assert (one.status, other.from_cache) == (200, False)
        assert [[part async for part in answer.body] for answer in (one, other)] == [[b"octo", b"cat"]] * 2
    assert len(streamed.calls) == 1


async def test_fresh_answer_comes_unasked(fetch: Fetch) -> None:
    now = 1000.0
    fetch.plain.headers["cache-control"] = "max-age=60"
    client = CachingFetch(freshness=True, clock=lambda: now)
    answers = [await client.request(URL) for _ in range(2)]
    assert [(answer.body, answer.from_cache) for answer in answers] == [(b"octocat", False), (b"octocat", True)]
    assert len(fetch.calls) == 1
    now += 60
    answers.append(await client.request(URL))
    answers.append(await client.request(URL + "s", headers={"Cache-Control": "only-if-cached"}))
    assert [answer.cache_status for answer in answers] == [None, "fresh", "confirmed", None]
    assert (answers[3].status, answers[3].from_cache) == (504, False)
    assert len(fetch.calls) == 2


@pytest.mark.loops("asyncio", "uvloop")
async def test_large_stored_body_is_streamed_in_pieces(fetch: Fetch) -> None:
    fetch.plain.body = b"x" * 100_000
    fetch.plain.headers["content-length"] = "100000"
    client = CachingFetch()
    await client.request(URL)
    async with client.stream(URL) as answer:
        pieces = [len(piece) async for piece in answer.body]
    assert pieces == [64 * 1024, 100_000 - 64 * 1024]


async def test_post_with_a_body_passes_by(fetch: Fetch) -> None:
    storage = InMemoryCache()
    answer = await CachingFetch(storage=storage).request(URL, method="post", body="sent")
    assert not answer.from_cache
    assert fetch.calls == [{"method": "POST", "cache": "no-store", "headers": {}, "body": "sent"}]
    assert storage.statistics().misses == 0
