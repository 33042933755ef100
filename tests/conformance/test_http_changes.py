"""Where freshness is used, the caller's own conditions and ranges, and requests that change things (§ 4.3.2, § 4.4)."""

from __future__ import annotations

import anyio
import pytest

from asynclocks.recipes._http_exchange import Changes, Passed
from tests.conformance.origin import URI, Reply, World, date, header
from tests.support import settle, spawn


# conditions and ranges of the caller's own
@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"If_None_Match": '"v1"'}, 304),
        ({"If_None_Match": 'W/"v1"'}, 304),
        ({"If_None_Match": '"v0", "v1"'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": "v1"}, 200),
        ({"If_None_Match": '"v0"'}, 200),
        ({"If_None_Match": '"v0"', "If_Modified_Since": date(100)}, 200),
        ({"If_Modified_Since": date(-1000)}, 304),
        ({"If_Modified_Since": date(-1001)}, 200),
        ({"If_Modified_Since": "yesterday"}, 200),
    ],
)
async def test_callers_own_condition_is_answered_by_a_fresh_response(condition: dict[str, str], status: int) -> None:
    world = World(Cache_Control="max-age=100", Last_Modified=date(-1000), Content_Type="text/plain", Vary="Accept")
    await world.get()
    answer = await world.get(**condition)
    assert (answer.status, answer.body) == (status, b"" if status == 304 else b"octocat")
    assert world.requests == 1
    if status == 304:
        assert {name.lower() for name, _ in answer.headers} == {"etag", "cache-control", "vary", "age"}


@pytest.mark.parametrize("dated", [True, False])
async def test_response_without_last_modified_is_as_old_as_it_was_sent_or_came(dated: bool) -> None:
    world = World(etag=None, Cache_Control="max-age=100", **({"Date": date()} if dated else {}))
    await world.get()
    assert (await world.get(If_Modified_Since=date())).status == 304
    assert (await world.get(If_Modified_Since=date(-1))).status == 200
    assert world.requests == 1


async def test_condition_is_not_asked_of_another_status_than_200() -> None:
    world = World(Cache_Control="max-age=100")
    world.server.answer = lambda _: Reply(404, world.server.headers.items(), b"octocat")
    await world.get()
    assert (await world.get(If_None_Match='"v1"')).status == 404


@pytest.mark.parametrize("name", ["If_Match", "If_Unmodified_Since", "If_Range"])
async def test_condition_that_only_the_server_can_judge_is_sent_to_it(name: str) -> None:
    world = World(Cache_Control="max-age=100")
    await world.get()
    await world.get(**{name: '"v1"'})
    assert world.requests == 2


@pytest.mark.parametrize(
    ("wanted", "part", "told"),
    [
        ("bytes=0-1", b"oc", "bytes 0-1/7"),
        ("bytes=4-", b"cat", "bytes 4-6/7"),
        ("bytes=-3", b"cat", "bytes 4-6/7"),
        ("bytes=-99", b"octocat", "bytes 0-6/7"),
        ("Bytes = 5 - 99", b"at", "bytes 5-6/7"),
    ],
)
async def test_range_is_answered_from_a_complete_body(wanted: str, part: bytes, told: str) -> None:
    world = World(Cache_Control="max-age=100", X_Name="name")
    await world.get()
    answer = await world.get(Range=wanted)
    assert (answer.status, answer.body, header(answer, "Content-Range")) == (206, part, told)
    assert (header(answer, "Content-Length"), header(answer, "X-Name")) == (str(len(part)), "name")
    assert world.requests == 1


@pytest.mark.parametrize(
    "wanted", ["bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes=7-", "bytes=3-2", "bytes=-0", f"bytes=0-{'9' * 30}"]
)
async def test_range_that_cannot_be_answered_is_sent_to_the_server(wanted: str) -> None:
    world = World(Cache_Control="max-age=100")
    await world.get()
    await world.get(Range=wanted)
    assert world.requests == 2


# § 4.4
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"])
@pytest.mark.parametrize(
    ("header_", "uri"),
    [
        ("", URI),
        ("Location", "https://api.example/users/hubot"),
        ("Content-Location", "hubot"),
        ("Location", "https://elsewhere.example/users/hubot"),
        ("Location", "https://["),
    ],
)
async def test_unsafe_request_has_what_it_changed_asked_for_again(method: str, header_: str, uri: str) -> None:
    world = World(Cache_Control="max-age=100", Vary="Accept")
    named = "https://api.example/users/hubot" if uri == "hubot" or "[" in uri else uri
    for accept in "ab":
        await world.get(uri=named, Accept=accept)
    world.server.answer = lambda _: Reply(201, [(header_, uri)] if header_ else [])
    await world.get(method)
    assert world.storage.statistics().entries == (2 if "elsewhere" in uri or "[" in uri else 0)


@pytest.mark.parametrize("stale", [False, True])
async def test_answer_that_was_under_way_when_the_resource_was_changed_is_not_stored(stale: bool) -> None:
    """It may be what the resource was before. The same holds of a 304."""
    world = World(Cache_Control="max-age=100")
    if stale:
        await world.get()
        world.now += 100
    send, released = world.server.send, anyio.Event()

    async def slowly(condition: tuple[str, str] | None) -> Reply:
        reply = await send(condition)
        await released.wait()
        return reply

    world.server.send = slowly  # type: ignore[method-assign]
    async with anyio.create_task_group() as group:
        reading = spawn(group, world.get)
        await settle()
        world.server.send = send  # type: ignore[method-assign]
        world.server.answer = lambda _: Reply(204)
        await world.get("POST")
        released.set()
    assert reading.result.body == (b"" if stale else b"octocat")
    assert world.storage.statistics().entries == 0


async def test_body_that_was_under_way_when_the_resource_was_changed_is_not_stored() -> None:
    world = World(Cache_Control="max-age=100")
    outcome = await world.caching.exchange(world.server, "GET", URI, [])
    assert isinstance(outcome, Passed)
    assert outcome.recording is not None
    await outcome.recording.write(b"octocat")
    world.server.answer = lambda _: Reply(204)
    await world.get("POST")
    await outcome.recording.finish()
    assert world.storage.statistics().entries == 0


def test_only_so_many_changes_are_remembered_and_the_rest_doubted() -> None:
    changes = Changes()
    for number in range(Changes.MOST + 2):
        changes.note(("GET", str(number), ""))
    last = changes.count
    assert changes.since(("GET", str(last - 1), ""), last - 1)
    assert not changes.since(("GET", str(last - 1), ""), last)
    assert changes.since(("GET", "never changed", ""), 1)
    assert not changes.since(("GET", "never changed", ""), 2)


@pytest.mark.parametrize(("method", "status"), [("POST", 404), ("POST", 500), ("OPTIONS", 200), ("PROPFIND", 207)])
async def test_request_that_changed_nothing_leaves_what_is_stored(method: str, status: int) -> None:
    world = World(Cache_Control="max-age=100")
    await world.get()
    world.server.answer = lambda _: Reply(status)
    await world.get(method)
    assert world.storage.statistics().entries == 1


async def test_unsafe_request_to_what_is_no_absolute_uri_changes_nothing() -> None:
    world = World(Cache_Control="max-age=100")
    await world.get()
    await world.get("POST", "/users/octocat")
    assert world.storage.statistics().entries == 1
