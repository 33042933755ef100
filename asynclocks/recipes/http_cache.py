"""An HTTP cache: the storage in memory, and the protocols of any other.

`asynclocks.recipes.httpx` and `asynclocks.recipes.pyfetch` are clients that use a storage. What they store and how
they answer follows RFC 9110 and RFC 9111, as a private cache that asks the server before every use.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from threading import RLock
from typing import Any

import attrs

from asynclocks._forks import freed_in_child
from asynclocks.concurrent_map import ConcurrentMap
from asynclocks.recipes._stored import (
    AsyncCacheStorage,
    AsyncCacheWriter,
    CacheStorage,
    CacheWriter,
    Header,
    StoredResponse,
    Validator,
)

__all__ = [
    "AsyncCacheStorage",
    "AsyncCacheWriter",
    "CacheStatistics",
    "CacheStorage",
    "CacheWriter",
    "InMemoryCache",
    "StoredResponse",
    "Validator",
]

DEFAULT_BYTES = 64 * 1024 * 1024


@attrs.frozen
class CacheStatistics:
    """An InMemoryCache at one moment."""

    hits: int
    misses: int
    evictions: int
    entries: int
    bytes: int


@attrs.define(eq=False)
class _Entry:
    validator: Validator
    response: StoredResponse
    size: int


class InMemoryCache(CacheStorage):
    """Responses in memory, at most `max_bytes` of bodies and headers; the least recently used leave first.

    Share it by passing it on: whatever one client stores, every other finds, on any loop and in any thread. A
    response larger than the whole cache is not stored, and not collected either once that is known. What is
    not counted: Python's own needs (some 2 KiB for each response), and bodies that are still on their way.

    Raises:
        ValueError: `max_bytes` is negative.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}; it must be 0 or more")
        self._max_bytes = max_bytes
        # Who reads it never waits. It is written by those who hold the lock only, and nobody has a guard of it.
        self._entries: ConcurrentMap[Hashable, _Entry] = ConcurrentMap()
        # The sizes in order of use, oldest first. Its keys are those of _entries, and _bytes is the sum of its values.
        self._order: OrderedDict[Hashable, int] = OrderedDict()
        self._bytes = self._hits = self._misses = self._evictions = 0
        # Keeps these together. Held for a few steps, never across an await. Re-entrant for finalizers.
        self._lock = freed_in_child(RLock())

    def try_hit(self, key: Hashable) -> Validator | None:
        entry = self._entries.get(key)
        with self._lock:
            if entry is None:
                self._misses += 1
                return None
            self._hits += 1
            self._use(key)
        return entry.validator

    def load(self, key: Hashable) -> StoredResponse | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        with self._lock:
            self._use(key)
        return entry.response

    def writer(self, key: Hashable, validator: Validator, status: int, headers: Iterable[Header]) -> CacheWriter:
        return _Writer(self, key, validator, status, tuple(headers))

    def clear(self) -> None:
        """Forget every response. The counts of hits, misses and evictions go on."""
        with self._lock:
            self._entries.clear()
            self._order.clear()
            self._bytes = 0

    def statistics(self) -> CacheStatistics:
        """How it was used, and how full it is."""
        with self._lock:
            return CacheStatistics(self._hits, self._misses, self._evictions, len(self._order), self._bytes)

    def _use(self, key: Hashable) -> None:
        if key in self._order:  # else it was evicted between the look and the lock
            self._order.move_to_end(key)

    def _commit(self, key: Hashable, entry: _Entry) -> None:
        with self._lock:
            self._bytes -= self._order.pop(key, 0)
            if entry.size > self._max_bytes:
                self._entries.remove(key, None)
                return
            while self._bytes + entry.size > self._max_bytes:
                self._evict()
            self._entries[key] = entry
            self._order[key] = entry.size
            self._bytes += entry.size

    def _evict(self) -> None:
        assert self._order, "nothing is left to leave, and yet it is too full"
        oldest, size = self._order.popitem(last=False)
        self._entries.remove(oldest)
        self._bytes -= size
        self._evictions += 1

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<InMemoryCache {now.entries} entries, {now.bytes} of {self._max_bytes} bytes>"

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle or copy {self!r}: a copy would share nothing; pass the cache itself")


class _Writer:
    def __init__(
        self, cache: InMemoryCache, key: Hashable, validator: Validator, status: int, headers: tuple[Header, ...]
    ) -> None:
        self._cache = cache
        self._key = key
        self._validator = validator
        self._status = status
        self._headers = headers
        self._chunks: list[bytes] = []
        self._size = sum([len(name) + len(value) for name, value in headers])

    def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._cache._max_bytes:
            self._chunks.clear()  # it will not fit: collect no more
        else:
            self._chunks.append(bytes(chunk))

    def finish(self) -> None:
        """Commit. What does not fit still takes the place of the older response, which is right no more."""
        response = StoredResponse(self._status, self._headers, b"".join(self._chunks))
        self._cache._commit(self._key, _Entry(self._validator, response, self._size))
