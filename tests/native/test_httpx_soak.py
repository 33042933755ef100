"""The HTTP cache for long: evictions, cancellations, a storage that fails at random. It never mixes up two answers."""

from __future__ import annotations

import gc
import random
import sys
import warnings
from collections.abc import Hashable, Iterable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asynclocks.recipes import CacheWriter, InMemoryCache, StoredResponse, Validator
from tests.support import settle

httpx = pytest.importorskip("httpx")

from asynclocks.recipes.httpx import CachingTransport  # noqa: E402 - needs the extra

TASKS = 50
KEYS = 300
REQUESTS = 100_000
FEW = 1_000
MOST = 200_000  # bytes


class Unreliable(InMemoryCache):
    """Fails one call in fifty."""

    def __init__(self, dice: random.Random, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.dice = dice

    def fail(self) -> None:
        if self.dice.random() < 0.02:
            raise OSError("disk full")

    def try_hit(self, key: Hashable) -> Validator | None:
        self.fail()
        return super().try_hit(key)

    def load(self, key: Hashable) -> StoredResponse | None:
        self.fail()
        return super().load(key)

    def writer(
        self, key: Hashable, validator: Validator, status: int, headers: Iterable[tuple[str, str]]
    ) -> CacheWriter:
        self.fail()
        return super().writer(key, validator, status, headers)

    def varies(self, key: Hashable) -> list[str]:
        self.fail()
        return super().varies(key)

    def invalidate(self, key: Hashable) -> None:
        self.fail()
        super().invalidate(key)


class Origin(httpx.AsyncBaseTransport):
    """Answers each URL and language with its own, in a version that a POST puts up."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.versions: dict[str, int] = {}
        self.seen = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen += 1
        for _ in range(self.dice.randrange(3)):
            await anyio.lowlevel.checkpoint()
        path = request.url.path
        if request.method == "POST":
            self.versions[path] = self.versions.get(path, 0) + 1
            return httpx.Response(204)
        name = f"{path} in {request.headers['accept-language']}, version {self.versions.get(path, 0)}"
        etag = f'"{name}"'
        headers = {"ETag": etag, "Vary": "Accept-Language", "Cache-Control": f"max-age={self.dice.randrange(3)}"}
        if request.headers.get("if-none-match") == etag:
            return httpx.Response(304, headers=headers)
        body = (name.encode() + b";") * self.dice.randrange(1, 100)
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(body))


class Soak:
    """Fifty tasks on one client."""

    def __init__(self, *, freshness: bool, coalesce: bool) -> None:
        self.dice = random.Random(1)
        self.storage = Unreliable(self.dice, MOST)
        self.origin = Origin(self.dice)
        self.now = 1_000_000.0
        options: dict[str, Any] = {"freshness": freshness, "coalesce": coalesce, "clock": lambda: self.now}
        self.client = httpx.AsyncClient(transport=CachingTransport(self.origin, storage=self.storage, **options))
        self.made = self.left = 0

    async def run(self, requests: int) -> None:
        """So many requests more."""
        async with anyio.create_task_group() as group:
            for _ in range(TASKS):
                group.start_soon(self._work, requests // TASKS)

    async def _work(self, requests: int) -> None:
        for _ in range(requests):
            self.made += 1
            self.now += self.dice.random() * 0.02
            with anyio.CancelScope() as scope:
                if self.dice.random() < 0.05:
                    scope.cancel()
                await self._ask()
            self.left += scope.cancelled_caught

    async def _ask(self) -> None:
        path, language = f"/{self.dice.randrange(KEYS)}", self.dice.choice(["en", "fr"])
        if self.dice.random() < 0.02:
            await self.client.post(f"http://origin.example{path}")
            return
        response = await self.client.get(f"http://origin.example{path}", headers={"Accept-Language": language})
        names = set(response.text.rstrip(";").split(";"))
        assert len(names) == 1, "two answers in one body"
        assert names.pop().startswith(f"{path} in {language}, version "), "another's answer"


def blocks() -> int:
    """Of memory, those of up to 512 bytes; some of these refer to each larger one. To trace all takes too long."""
    gc.collect()
    return sys.getallocatedblocks()


async def checked(scene: Soak, requests: int) -> None:
    """Run so many requests, and look whether all that is to happen in a soak did."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one says that the storage fails
        await scene.run(requests)
    counts = scene.storage.statistics()
    assert min(counts.evictions, counts.hits, scene.left) > 0
    assert counts.bytes <= MOST


KINDS = [(False, False), (True, False), (True, True)]
# trio says so of httpx's own generators.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


@pytest.mark.loops("asyncio", "trio")
@pytest.mark.parametrize(("freshness", "coalesce"), KINDS)
async def test_no_two_answers_are_mixed_up(freshness: bool, coalesce: bool) -> None:
    scene = Soak(freshness=freshness, coalesce=coalesce)
    await checked(scene, FEW)
    await scene.client.aclose()
    del scene
    await settle()  # the loop ends the generators that httpx left


@pytest.mark.slow
@pytest.mark.loops("asyncio", "trio")
@pytest.mark.parametrize(("freshness", "coalesce"), KINDS)
async def test_memory_stays_what_it_is_after_a_tenth_of_it(freshness: bool, coalesce: bool) -> None:
    scene = Soak(freshness=freshness, coalesce=coalesce)
    await checked(scene, REQUESTS // 10)
    before = blocks()
    await checked(scene, REQUESTS - REQUESTS // 10)
    grown = blocks() - before
    assert grown < REQUESTS // 20, f"{grown} blocks of memory more than after a tenth of it"
    await scene.client.aclose()
