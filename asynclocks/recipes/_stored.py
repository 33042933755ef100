"""What a cache stores, and what a storage must be able to do."""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Iterable
from typing import Literal, Protocol

import attrs

Header = tuple[str, str]

PIECE = 64 * 1024  # of a stored body: what a socket gives at once

# How a request ended: answered by the cache (fresh: unasked; confirmed: by the server's 304; stale: unasked, where
# RFC 9111 § 4.2.4 allows it), or not (miss).
Kind = Literal["fresh", "confirmed", "stale", "miss"]


@attrs.frozen
class Validator:
    """What to ask the server with whether a stored response is still right, and how long it need not be asked.

    Both `etag` and `last_modified` are None if the server cannot be asked. The other fields are used where freshness is
    (`freshness=True`). A storage that does not keep them still works: the server is asked before every use.
    """

    etag: str | None
    last_modified: str | None
    received: float | None = None  # when it came, or was confirmed last, on the client's clock; None: not known
    age: float = 0.0  # how old it was by then (RFC 9111 § 4.2.3), in seconds
    lifetime: float = 0.0  # how old it may get (§ 4.2.1), in seconds
    vary: str = ""  # the names that divide the responses of this URI: in lower case, sorted, joined by commas


@attrs.frozen
class StoredResponse:
    """A complete response. Neither its headers nor its body are in its repr: both may hold secrets.

    `validator` is what the response was stored with. A storage need not give it.
    """

    status: int
    headers: tuple[Header, ...] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    validator: Validator | None = attrs.field(default=None, repr=False, eq=False)


class CacheWriter(Protocol):
    """Takes in one response. Dropped without `finish` it has stored nothing.

    An optional extra, found by ``getattr``: ``expect(length)`` is told how many bytes will come, before the first.
    """

    def write(self, chunk: bytes) -> None:
        """Take the next part of the body."""

    def finish(self) -> None:
        """Commit: the body is complete."""


class CacheStorage(Protocol):
    """Where responses are kept. What it raises means a miss, or a response that is not stored.

    `key` is opaque: it covers the method, the absolute URI and whatever the answer varies on (a private cache;
    Authorization only as a hash). It is a tuple of three strings, fit for any database.

    Optional extras, found by ``getattr``, plain or coroutines as the other methods are:

    ``varies(key)`` (an iterable of strings) and ``invalidate(key)``
        The first gives every different `Validator.vary` among the responses whose keys begin with the first two
        strings of `key`, the latest first. The second forgets the response with this key, or all that begin so if the
        third string is empty. Freshness needs both: what is in a storage that lacks one of them is validated before
        every use, as without ``freshness=True``.
    ``note(kind)``
        how one request ended: "fresh", "confirmed", "stale" or "miss". For statistics.
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
