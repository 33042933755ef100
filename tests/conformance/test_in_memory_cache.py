"""The storage of the HTTP cache in memory: its bounds, its counts, what it keeps secret."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import attrs
import pytest

from asynclocks.recipes import (
    InMemoryCache,
    StoredResponse,
    Validator,
)
from asynclocks.recipes._http_caching import Caching
from asynclocks.recipes._http_exchange import Passed
from tests.conformance.origin import URI, Server, fetch, store


def size_of(body: bytes) -> int:
    """What an entry with this body takes."""
    storage = InMemoryCache()
    store(storage, "a", body)
    return storage.statistics().bytes


SIZE = size_of(b"0123456789")


def test_least_recently_used_leaves_first() -> None:
    storage = InMemoryCache(3 * SIZE)
    for key in "abc":
        store(storage, key, b"0123456789")
    storage.load("a")
    storage.try_hit("b")
    store(storage, "d", b"0123456789")
    assert [storage.load(key) is not None for key in "abcd"] == [True, True, False, True]
    statistics = storage.statistics()
    assert (statistics.evictions, statistics.entries, statistics.bytes) == (1, 3, 3 * SIZE)


def test_bytes_stay_within_bounds_whatever_comes() -> None:
    storage = InMemoryCache(10_000)
    for number in range(500):
        store(storage, number, b"x" * number * 30)
        assert storage.statistics().bytes <= 10_000


def test_entry_that_leaves_while_it_is_looked_at_is_still_answered() -> None:
    """As another thread may evict it between the look and the note of its use."""
    storage = InMemoryCache()
    store(storage, "a", b"body")
    entries: Any = storage._entries

    class Leaving:
        def get(self, key: Hashable) -> object:
            found = entries.get(key)
            storage._entries = entries
            storage.clear()
            return found

    storage._entries = Leaving()  # type: ignore[assignment]
    assert storage.load("a") == StoredResponse(200, (("ETag", '"e"'),), b"body")
    assert storage.load("a") is None
    assert storage.statistics().bytes == 0


def test_replacing_an_entry_counts_it_once() -> None:
    storage = InMemoryCache()
    store(storage, "a", b"x" * 100)
    store(storage, "a", b"0123456789")
    assert (storage.statistics().entries, storage.statistics().bytes) == (1, SIZE)


def test_what_is_too_large_is_not_stored_nor_collected() -> None:
    storage = InMemoryCache(SIZE + 100)
    store(storage, "a", b"old")
    writer: Any = storage.writer("a", Validator('"f"', None), 200, ())
    for _ in range(5):
        writer.write(b"x" * 90)
    assert (writer._first, writer._rest) == (None, None)
    writer.finish()
    assert storage.load("a") is None  # the older one is out of date
    assert storage.statistics().bytes == 0


async def test_what_is_announced_to_be_too_large_is_not_collected_at_all() -> None:
    storage = InMemoryCache(10_000)
    outcome = await Caching(storage).exchange(Server(b"x" * 20_000), "GET", URI, ())
    assert isinstance(outcome, Passed)
    assert outcome.recording is not None
    writer: Any = outcome.recording._writer
    await outcome.recording.write(b"x" * 100)
    assert writer._first is None


def test_body_that_comes_in_parts_is_stored_whole() -> None:
    storage = InMemoryCache()
    writer = storage.writer("a", Validator('"e"', None), 200, ())
    for part in (b"one", b"two", b"three"):
        writer.write(part)
    writer.finish()
    assert storage.load("a") == StoredResponse(200, (), b"onetwothree")


def test_finishing_twice_commits_the_same_once_more() -> None:
    storage = InMemoryCache()
    writer = storage.writer("a", Validator('"e"', None), 200, ())
    writer.write(b"body")
    for _ in range(2):
        writer.finish()
        assert storage.load("a") == StoredResponse(200, (), b"body")


async def test_hits_are_the_answers_from_the_cache_not_what_was_found_in_it() -> None:
    server, storage = Server(), InMemoryCache()
    for _ in range(3):
        await fetch(server, storage)
    server.headers["ETag"] = '"v2"'
    await fetch(server, storage)  # found, and of no use
    statistics = storage.statistics()
    assert (statistics.hits, statistics.confirmed, statistics.misses) == (2, 2, 2)
    storage.clear()
    assert storage.statistics() == attrs.evolve(statistics, entries=0, bytes=0)


def test_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="max_bytes is -1"):
        InMemoryCache(-1)


def test_secrets_are_in_no_repr() -> None:
    stored = StoredResponse(200, (("X-Token", "secret"),), b"secret")
    assert repr(stored) == "StoredResponse(status=200)"
    storage = InMemoryCache()
    store(storage, "a", b"secret")
    assert repr(storage).startswith("<InMemoryCache 1 entries")
