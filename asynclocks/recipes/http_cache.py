"""An HTTP cache: the storage in memory, and the protocols of any other.

`asynclocks.recipes.httpx` and `asynclocks.recipes.pyfetch` are clients that use a storage. What they store and how
they answer follows RFC 9110 and RFC 9111, as a private cache: one that asks the server before every use, or, with
``freshness=True``, before every use that is not fresh.
"""

from __future__ import annotations

import marshal
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from io import BytesIO
from sys import getsizeof
from threading import RLock
from typing import Any, Final

import attrs

from asynclocks._forks import freed_in_child
from asynclocks._inside import inside, locked
from asynclocks.concurrent_map import ConcurrentMap
from asynclocks.recipes._stored import (
    AsyncCacheStorage,
    AsyncCacheWriter,
    CacheStorage,
    CacheWriter,
    Header,
    Kind,
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


# What a response takes beside what `getsizeof` tells: its slots in two dicts, whose tables are half empty, and a node.
SLOTS: Final = 160
# The same for a URI whose responses are told apart by `Validator.vary`: three dicts and a tuple; and for each of them.
URI_INDEX: Final = 640
VARIANT_INDEX: Final = 100


@attrs.frozen
class CacheStatistics:
    """An InMemoryCache at one moment.

    `hits` are the requests that were answered from the cache: `confirmed` by the server's 304, `fresh` and so unasked,
    or `stale` where that is allowed. All other requests that the cache had a part in are `misses`.
    """

    hits: int
    misses: int
    evictions: int
    entries: int
    bytes: int
    confirmed: int = 0
    fresh: int = 0
    stale: int = 0


@attrs.define(eq=False)
class _Entry:
    """A stored response, its headers packed: as tuples of strings they would take five times as much."""

    validator: Validator
    status: int
    headers: bytes
    body: bytes
    size: int


class InMemoryCache(CacheStorage):
    """Responses in memory, at most `max_bytes` of it; the least recently used leave first.

    Share it by passing it on: whatever one client stores, every other finds, on any loop and in any thread. A
    response larger than the whole cache is not stored, and not collected either once that is known. `max_bytes` covers
    what the responses really take, with keys and Python's own needs; not bodies that are still on their way.

    Raises:
        ValueError: `max_bytes` is negative.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}; it must be 0 or more")
        self._max_bytes = max_bytes
        # Who reads it never waits. It is written by those who hold the lock only, and nobody has a guard of it.
        self._entries: ConcurrentMap[Hashable, _Entry] = ConcurrentMap()
        # The entries in order of use, oldest first. Its items are those of _entries.
        self._order: OrderedDict[Hashable, _Entry] = OrderedDict()
        # By method and URI: what its responses vary on, latest last, and the keys of those that vary so.
        self._uris: dict[tuple[Any, ...], dict[str, dict[Hashable, None]]] = {}
        # The sizes of all entries, and URI_INDEX for each of _uris.
        self._bytes = self._evictions = 0
        self._ended: dict[Kind, int] = dict.fromkeys(("confirmed", "fresh", "stale", "miss"), 0)
        # Keeps these together. Held for a few steps, never across an await. Re-entrant for finalizers.
        self._lock = freed_in_child(RLock())

    def try_hit(self, key: Hashable) -> Validator | None:
        entry = self._used(key)
        return None if entry is None else entry.validator

    def load(self, key: Hashable) -> StoredResponse | None:
        entry = self._used(key)
        if entry is None:
            return None
        headers = marshal.loads(entry.headers)  # noqa: S302 - packed here, never from outside
        return StoredResponse(entry.status, headers, entry.body, entry.validator)

    def writer(self, key: Hashable, validator: Validator, status: int, headers: Iterable[Header]) -> CacheWriter:
        return _Writer(self, key, validator, status, tuple(headers))

    @locked
    def varies(self, key: Hashable) -> list[str]:
        """Every different `Validator.vary` of this key's method and URI, the latest first."""
        return [*reversed(self._uris.get(_uri_of(key), {}))]

    def invalidate(self, key: Hashable) -> None:
        """Forget the response with this key; if its third string is empty, all with its method and URI that vary."""
        self._change(self._forget, key)

    def _forget(self, key: Hashable) -> None:
        uri = _uri_of(key)
        keys = [key] if key != (*uri, "") else [one for keys in self._uris.get(uri, {}).values() for one in keys]
        for one in keys:
            self._remove(one)

    @locked
    def note(self, kind: Kind) -> None:
        """Count how a request ended."""
        self._ended[kind] += 1

    def clear(self) -> None:
        """Forget every response. The counts of hits, misses and evictions go on."""
        try:
            self._clear()
        except BaseException:  # a signal handler's: half of it would not fit together
            self._clear()
            raise

    @locked
    def _clear(self) -> None:
        self._entries.clear()
        self._order.clear()
        self._uris.clear()
        self._bytes = 0

    @locked
    def statistics(self) -> CacheStatistics:
        """How it was used, and how full it is."""
        confirmed, fresh, stale, misses = self._ended.values()
        hits = confirmed + fresh + stale
        full = (self._evictions, len(self._order), self._bytes)
        return CacheStatistics(hits, misses, *full, confirmed, fresh, stale)

    def _used(self, key: Hashable) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            inside(self._lock, self._move_to_end, key)
        return entry

    def _move_to_end(self, key: Hashable) -> None:
        if key in self._order:  # else it was evicted between the look and the lock
            self._order.move_to_end(key)

    def _change(self, change: Callable[..., None], *what: Any) -> None:
        """Do this inside the lock. If an exception cuts it short, forget everything: it may be half done."""
        try:
            inside(self._lock, change, *what)
        except BaseException:
            self.clear()
            raise

    def _commit(self, key: Hashable, entry: _Entry) -> None:
        self._change(self._put, key, entry)

    def _put(self, key: Hashable, entry: _Entry) -> None:
        self._remove(key)
        indexed = URI_INDEX if entry.validator.vary else 0
        if entry.size + indexed > self._max_bytes:
            return
        while self._bytes + entry.size + indexed > self._max_bytes:
            self._evict()
        self._entries[key] = self._order[key] = entry
        self._bytes += entry.size
        if entry.validator.vary:
            self._index(_uri_of(key), entry.validator.vary, key)

    def _index(self, uri: tuple[Any, ...], vary: str, key: Hashable) -> None:
        if uri not in self._uris:
            self._uris[uri] = {}
            self._bytes += URI_INDEX
        keys = self._uris[uri].pop(vary, {})
        self._uris[uri][vary] = keys  # the latest is the last
        keys[key] = None

    def _evict(self) -> None:
        assert self._order, "nothing is left to leave, and yet it is too full"
        self._remove(next(iter(self._order)))
        self._evictions += 1

    def _remove(self, key: Hashable) -> None:
        entry = self._order.pop(key, None)
        if entry is None:
            return
        self._entries.remove(key)
        self._bytes -= entry.size
        vary = entry.validator.vary
        if vary:
            uri = _uri_of(key)
            del self._uris[uri][vary][key]
            if not self._uris[uri][vary]:
                del self._uris[uri][vary]
            if not self._uris[uri]:
                del self._uris[uri]
                self._bytes -= URI_INDEX

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<InMemoryCache {now.entries} entries, {now.bytes} of {self._max_bytes} bytes>"

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle or copy {self!r}: a copy would share nothing; pass the cache itself")


def _uri_of(key: Hashable) -> tuple[Any, ...]:
    """The key's first two strings. Keys of any other kind have no part in that, and are a URI each."""
    return key[:2] if isinstance(key, tuple) else (key,)


class _Writer:
    def __init__(
        self, cache: InMemoryCache, key: Hashable, validator: Validator, status: int, headers: tuple[Header, ...]
    ) -> None:
        self._cache = cache
        self._key = key
        self._validator = validator
        self._status = status
        self._headers = marshal.dumps(headers)
        self._first: bytes | None = None  # a body that comes in one is not copied
        self._rest: BytesIO | None = None  # grows in place, and gives what it has as bytes without a copy
        self._size = _size_of(key, validator) + len(self._headers)

    def expect(self, length: int) -> None:
        """So many bytes will come. If they do not fit, none is collected."""
        if self._size + length > self._cache._max_bytes:
            self._size += length

    def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._cache._max_bytes:
            self._first = self._rest = None  # it will not fit: collect no more
        elif self._rest is not None:
            self._rest.write(chunk)
        elif self._first is None:
            self._first = bytes(chunk)
        else:
            self._rest = BytesIO()
            self._rest.write(self._first)
            self._rest.write(chunk)
            self._first = None

    def finish(self) -> None:
        """Commit. What does not fit still takes the place of the older response, which is right no more."""
        body = (self._first or b"") if self._rest is None else self._rest.getvalue()
        self._cache._commit(self._key, _Entry(self._validator, self._status, self._headers, body, self._size))


def _size_of(key: Hashable, validator: Validator) -> int:
    """What an entry takes beside its headers and its body."""
    size = _FIXED + getsizeof(key)
    if isinstance(key, tuple):
        for part in key:
            size += getsizeof(part)
    for text in (validator.etag, validator.last_modified, validator.vary):
        if text:
            size += getsizeof(text)
    return size if validator.received is None else size + 3 * getsizeof(validator.received)


_NO_ENTRY = _Entry(Validator(None, None), 200, b"", b"", 0)
_FIXED = SLOTS + getsizeof(_NO_ENTRY) + getsizeof(_NO_ENTRY.validator) + 2 * getsizeof(b"")
