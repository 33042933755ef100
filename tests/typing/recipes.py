"""What a type checker must see of the recipes; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import assert_type

import httpx

from asynclocks.recipes import (
    AsyncCacheStorage,
    CachedToken,
    CacheStatistics,
    CacheStorage,
    CacheWriter,
    Global,
    InMemoryCache,
    RateLimitedError,
    RateLimiter,
    StoredResponse,
    Validator,
)
from asynclocks.recipes.httpx import CachingTransport
from asynclocks.recipes.pyfetch import Answer, CachingFetch


async def fetch() -> tuple[str, float | None]:
    return "token", None


async def fetch_with_expiry() -> tuple[bytes, float]:
    return b"token", 1.0


def fetch_plain() -> tuple[str, None]:
    return "token", None


async def fetch_bare() -> str:
    return "token"


async def tokens() -> None:
    token = CachedToken(fetch)
    assert_type(token, CachedToken[str])
    assert_type(await token.get(), str)
    assert_type(token.peek(), str | None)
    assert_type(token.peek(1), str | None)
    assert_type(token.invalidate("token"), bool)
    token.set("token")
    token.set("token", 1)
    token.set(b"token")  # pyright: ignore[reportArgumentType]
    token.set("token", "tomorrow")  # pyright: ignore[reportArgumentType]
    assert_type(CachedToken(fetch_with_expiry, buffer=0, clock=lambda: 1.0), CachedToken[bytes])
    assert_type(CachedToken(fetch_plain, detached=True), CachedToken[str])
    assert_type(CachedToken(fetch_plain).blocking_get(), str)
    assert_type(CachedToken(fetch_plain).blocking_get(1.0), str)
    CachedToken(fetch_bare)  # pyright: ignore[reportArgumentType]


def instances() -> None:
    shared = Global(lambda: 1)
    assert_type(shared, Global[int])
    assert_type(shared.instance(), int)
    assert_type(shared.initialise(2), int | None)
    shared.initialise("two")  # pyright: ignore[reportArgumentType]


class Writer:
    def write(self, chunk: bytes) -> None: ...

    def finish(self) -> None: ...


class Storage:
    def try_hit(self, key: Hashable) -> Validator | None: ...

    def load(self, key: Hashable) -> StoredResponse | None: ...

    def writer(
        self, key: Hashable, validator: Validator, status: int, headers: Iterable[tuple[str, str]]
    ) -> CacheWriter:
        return Writer()


class AsyncWriter:
    async def write(self, chunk: bytes) -> None: ...

    async def finish(self) -> None: ...


class AsyncStorage:
    async def try_hit(self, key: Hashable) -> Validator | None: ...

    async def load(self, key: Hashable) -> StoredResponse | None: ...

    async def writer(
        self, key: Hashable, validator: Validator, status: int, headers: Iterable[tuple[str, str]]
    ) -> AsyncWriter:
        return AsyncWriter()


def storages() -> None:
    memory: CacheStorage = InMemoryCache(max_bytes=1)
    assert_type(InMemoryCache().statistics(), CacheStatistics)
    assert_type(memory.load("key"), StoredResponse | None)
    other: AsyncCacheStorage = AsyncStorage()
    for storage in (memory, Storage(), other):
        CachingTransport(storage=storage)
        CachingFetch(storage=storage)
    CachingTransport(httpx.AsyncHTTPTransport(), storage=None)
    CachingTransport(freshness=True, ignore_headers=["X-Mine"], namespace="one", coalesce=True, clock=lambda: 1.0)
    CachingTransport(on_storage_error="raise")
    CachingTransport(on_storage_error="ignore")  # pyright: ignore[reportArgumentType]
    assert_type(InMemoryCache().varies("key"), list[str])
    CachingTransport(storage={})  # pyright: ignore[reportArgumentType]
    CachingTransport(InMemoryCache())  # pyright: ignore[reportArgumentType]


async def answers() -> None:
    answer = await CachingFetch().request("http://a/", headers={"Accept": "*/*"})
    assert_type(answer, Answer)
    assert_type(answer.header("ETag"), str | None)
    async with CachingFetch().stream("http://a/") as streaming:
        assert_type([part async for part in streaming.body], list[bytes])


async def a_rate_limiter_lets_go() -> None:
    limiter = RateLimiter(10, per=60, burst=2, clock=lambda: 0.0)
    assert_type(await limiter.acquire(2, timeout=1), None)
    assert_type(limiter.blocking_acquire(), None)
    async with limiter as entered:
        assert_type(entered, None)
    try:
        limiter.try_acquire()
    except RateLimitedError as error:
        assert_type(error.retry_after, float)
    limiter.from_headers({"retry-after": "1"})
    limiter.from_headers({"retry-after": 1})  # pyright: ignore[reportArgumentType]
