"""What a cache stores, and what a storage must be able to do."""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Iterable
from typing import Protocol

import attrs

Header = tuple[str, str]


@attrs.frozen
class Validator:
    """What to ask the server with whether a stored response is still right."""

    etag: str | None
    last_modified: str | None


@attrs.frozen
class StoredResponse:
    """A complete response. Neither its headers nor its body are in its repr: both may hold secrets."""

    status: int
    headers: tuple[Header, ...] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


class CacheWriter(Protocol):
    """Takes in one response. Dropped without `finish` it has stored nothing."""

    def write(self, chunk: bytes) -> None:
        """Take the next part of the body."""

    def finish(self) -> None:
        """Commit: the body is complete."""


class CacheStorage(Protocol):
    """Where responses are kept. What it raises reaches the caller of the request.

    `key` is opaque: it covers the method, the absolute URI and whatever the answer varies on (a private cache;
    Authorization only as a hash). It is a tuple of three strings, fit for any database.
    """

    def try_hit(self, key: Hashable) -> Validator | None:
        """The validator of what is stored under this key."""

    def load(self, key: Hashable) -> StoredResponse | None:
        """What is stored; may be None even after a hit: evicted."""

    def writer(self, key: Hashable, validator: Validator, status: int, headers: Iterable[Header]) -> CacheWriter:
        """Begin to store a response, in place of an older one when it is finished."""


class AsyncCacheWriter(Protocol):
    """A `CacheWriter` whose methods are coroutines."""

    def write(self, chunk: bytes) -> Awaitable[None]:
        """Take the next part of the body."""

    def finish(self) -> Awaitable[None]:
        """Commit: the body is complete."""


class AsyncCacheStorage(Protocol):
    """A `CacheStorage` whose methods are coroutines."""

    def try_hit(self, key: Hashable) -> Awaitable[Validator | None]:
        """The validator of what is stored under this key."""

    def load(self, key: Hashable) -> Awaitable[StoredResponse | None]:
        """What is stored; may be None even after a hit: evicted."""

    def writer(
        self, key: Hashable, validator: Validator, status: int, headers: Iterable[Header]
    ) -> Awaitable[AsyncCacheWriter]:
        """Begin to store a response, in place of an older one when it is finished."""


AnyStorage = CacheStorage | AsyncCacheStorage
