"""Where freshness is used, what a storage must know, and what if it fails or changes under a request."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import attrs
import pytest

from asynclocks.recipes import CacheWriter, InMemoryCache, StoredResponse, Validator
from asynclocks.recipes._http_caching import Caching
from asynclocks.recipes._http_exchange import Passed
from tests.conformance.origin import NOW, URI, Reply, World


# storages
class Plain:
    """A storage as they were before freshness: three methods, and of a validator only what there was."""

    def __init__(self) -> None:
        self.inner = InMemoryCache()

    def try_hit(self, key: Hashable) -> Validator | None:
        return self.inner.try_hit(key)

    def load(self, key: Hashable) -> StoredResponse | None:
        return self.inner.load(key)

    def writer(
        self, key: Hashable, validator: Validator, status: int, headers: Iterable[tuple[str, str]]
    ) -> CacheWriter:
        return self.inner.writer(key, Validator(validator.etag, validator.last_modified), status, headers)


async def test_storage_that_knows_no_freshness_is_asked_about_every_time() -> None:
    world = World(Plain(), Cache_Control="max-age=100")
    for _ in range(2):
        assert (await world.get()).body == b"octocat"
    assert world.server.asked == [None, ("If-None-Match", '"v1"')]


class Bare(InMemoryCache):
    """A storage that does not say what a response was stored with."""

    def load(self, key: Hashable) -> StoredResponse | None:
        found = super().load(key)
        return None if found is None else StoredResponse(found.status, found.headers, found.body)


async def test_storage_need_not_say_what_a_response_was_stored_with() -> None:
    world = World(Bare(), Cache_Control="max-age=100")
    for _ in range(2):
        assert (await world.get()).body == b"octocat"
    assert world.requests == 1


@pytest.mark.parametrize("kind", [InMemoryCache, Bare])
async def test_response_that_was_replaced_between_look_and_load_is_judged_anew(kind: type[InMemoryCache]) -> None:
    """As another thread may do."""
    world = World(kind(), Cache_Control="max-age=100")
    await world.get()
    load = world.storage.load

    def replaced(key: Hashable) -> StoredResponse | None:
        world.storage.load = load
        writer = world.storage.writer(key, Validator('"v0"', None, NOW, 0, 0, "authorization"), 200, [("ETag", '"v0"')])
        writer.write(b"older")
        writer.finish()
        return load(key)  # type: ignore[no-any-return]

    world.storage.load = replaced
    assert (await world.get()).body == b"octocat"
    assert world.requests > 1


async def test_response_that_was_evicted_between_look_and_load_is_fetched() -> None:
    world = World(Cache_Control="max-age=100, stale-if-error=9999")
    await world.get()
    world.storage.load = lambda key: None
    assert (await world.get()).body == b"octocat"
    world.now += 100
    world.server.answer = lambda _: Reply(503)
    assert (await world.get()).status == 503


async def test_what_could_not_be_invalidated_is_validated() -> None:
    class Failing(InMemoryCache):
        def invalidate(self, key: Hashable) -> None:
            raise OSError("disk full")

    world = World(Failing(), Cache_Control="max-age=100")
    await world.get()
    world.server.answer = lambda _: Reply(200)
    with pytest.warns(RuntimeWarning, match="storage failed"):
        await world.get("POST")
    world.server.answer = world.server.answer_by_etag
    assert (await world.get(Cache_Control="max-stale")).body == b"octocat"
    assert world.server.asked[-1] == ("If-None-Match", '"v1"')


async def test_invalidation_that_fails_loudly_lets_go_of_the_response() -> None:
    world = World(Cache_Control="max-age=100")
    world.storage.invalidate = lambda key: 1 / 0
    world.caching = Caching(world.storage, freshness=True, on_storage_error="raise")
    with pytest.raises(ZeroDivisionError):
        await world.get("POST")
    assert world.server.replies[-1].discarded


def test_cache_forgets_one_response_or_all_of_a_uri() -> None:
    storage = InMemoryCache()
    keys = [("GET", "a", "1"), ("GET", "a", "2"), ("GET", "b", "1")]
    for key in keys:
        writer = storage.writer(key, Validator('"e"', None, NOW, 0, 1, f"x-{key[2]}"), 200, ())
        writer.finish()
    assert (storage.varies(keys[0]), storage.varies(("GET", "c", ""))) == (["x-2", "x-1"], [])
    storage.invalidate(keys[0])
    assert [storage.load(key) is not None for key in keys] == [False, True, True]
    storage.invalidate(("GET", "a", ""))
    assert [storage.load(key) is not None for key in keys] == [False, False, True]
    storage.invalidate(keys[2])
    assert storage.statistics().bytes == 0


def test_key_of_any_other_kind_is_a_uri_of_its_own() -> None:
    storage = InMemoryCache()
    storage.writer("a", Validator('"e"', None, NOW, 0, 1, "x"), 200, ()).finish()
    assert storage.varies("a") == ["x"]
    storage.invalidate("a")
    assert attrs.astuple(storage.statistics())[3:5] == (0, 0)


async def test_passed_response_tells_what_to_record() -> None:
    world = World(Cache_Control="max-age=100")
    outcome = await world.caching.exchange(world.server, "GET", URI, [])
    assert isinstance(outcome, Passed)
    assert outcome.recording is not None
