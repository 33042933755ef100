"""Where freshness is used, what becomes of a stored response when it is stale (RFC 9111 § 4.2.4, § 4.3; RFC 5861)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.conformance.origin import URI, Reply, World, header
from tests.support import settle, spawn


# validation
async def test_304_makes_it_fresh_again_and_updates_its_headers() -> None:
    world = World(Cache_Control="max-age=100", X_Name="old")
    await world.get()
    world.server.on_304 = {"Cache-Control": "max-age=200", "X-Name": "new"}
    world.now += 100
    await world.get()
    world.now += 199
    answer = await world.get()
    assert (header(answer, "X-Name"), answer.body) == ("new", b"octocat")
    assert world.server.asked == [None, ("If-None-Match", '"v1"')]
    counts = world.storage.statistics()
    assert (counts.hits, counts.fresh, counts.confirmed, counts.stale, counts.misses) == (2, 1, 1, 0, 1)


async def test_304_that_must_not_be_stored_has_it_forgotten() -> None:
    world = World(Cache_Control="max-age=100")
    await world.get()
    world.server.on_304 = {"Cache-Control": "no-store"}
    world.now += 100
    assert (await world.get()).body == b"octocat"
    assert world.storage.statistics().entries == 0


async def test_stale_response_without_validator_is_fetched_anew() -> None:
    world = World(etag=None, Cache_Control="max-age=100")
    await world.get()
    world.now += 100
    world.server.body = b"renewed"
    assert (await world.get()).body == b"renewed"
    assert (await world.get()).body == b"renewed"
    assert world.server.asked == [None, None]


async def test_headers_that_no_cache_names_are_withheld_until_confirmed() -> None:
    world = World(Cache_Control='max-age=100, no-cache="X-Secret, x-other"', X_Secret="s", X_Name="n")
    await world.get()
    answer = await world.get()
    assert (header(answer, "X-Secret"), header(answer, "X-Name")) == (None, "n")
    world.now += 100
    assert header(await world.get(), "X-Secret") == "s"


@pytest.mark.parametrize("newer", [{"Cache-Control": "no-store"}, {"Vary": "*"}, {"ETag": '"v2"'}])
async def test_older_response_is_forgotten_when_a_newer_one_was_seen(newer: dict[str, str]) -> None:
    """Though the newer one is not stored, or not read to its end."""
    world = World(Cache_Control="max-age=100")
    await world.get()
    world.server.headers |= newer
    world.server.answer = lambda _: Reply(200, world.server.headers.items(), b"newer")
    await world.caching.exchange(world.server, "GET", URI, [("Cache-Control", "no-cache")])
    assert world.storage.statistics().entries == 0


@pytest.mark.parametrize("status", [206, 401, 412, 429, 500])
async def test_response_that_is_not_about_the_resource_leaves_what_is_stored(status: int) -> None:
    world = World(Cache_Control="max-age=100")
    await world.get()
    world.server.answer = lambda _: Reply(status)
    await world.get(Cache_Control="no-cache")
    assert world.storage.statistics().entries == 1


# stale where the response allows it (RFC 5861)
async def test_stale_response_stands_in_while_another_request_validates_it() -> None:
    world = World(Cache_Control="max-age=100, stale-while-revalidate=50")
    await world.get()
    world.now += 149
    send, released = world.server.send, anyio.Event()

    async def slowly(condition: tuple[str, str] | None) -> Reply:
        await released.wait()
        return await send(condition)

    world.server.send = slowly  # type: ignore[method-assign]
    async with anyio.create_task_group() as group:
        validating = spawn(group, world.get)
        await settle()
        assert (await world.get()).body == b"octocat"
        assert not validating.done
        world.now += 2  # beyond the window
        waiting = spawn(group, world.get)
        await settle()
        assert not waiting.done
        released.set()
    assert world.storage.statistics().stale == 1


@pytest.mark.parametrize(
    ("response", "request_", "stands_in"),
    [
        ("stale-if-error=50", "", True),
        ("stale-if-error=9", "", False),
        ("", "stale-if-error=50", True),
        ("", "", False),
        ("stale-if-error=50, must-revalidate", "", False),
        ("stale-if-error=50", "no-cache", False),
    ],
)
@pytest.mark.parametrize("fault", ["unreachable", 503])
async def test_stale_response_stands_in_for_an_error_if_it_says_so(
    response: str, request_: str, stands_in: bool, fault: Any
) -> None:
    world = World(Cache_Control=f"max-age=100, {response}")
    await world.get()
    world.now += 110

    def fail(_: object) -> Reply:
        if fault == "unreachable":
            raise OSError(fault)
        return Reply(fault)

    world.server.answer = fail
    wish = {"Cache_Control": request_} if request_ else {}
    if stands_in:
        assert (await world.get(**wish)).body == b"octocat"
        assert world.storage.statistics().stale == 1
        assert all(reply.discarded for reply in world.server.replies[1:])
    elif fault == "unreachable":
        with pytest.raises(OSError, match="unreachable"):
            await world.get(**wish)
    else:
        assert (await world.get(**wish)).status == 503


async def test_error_with_nothing_stored_is_the_callers() -> None:
    world = World()
    world.server.answer = lambda _: Reply(503)
    assert (await world.get()).status == 503
