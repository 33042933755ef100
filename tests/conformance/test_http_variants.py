"""Where freshness is used, what is stored, and which of a URI's responses answers (RFC 9111 § 3, § 4.1, § 4.3.5)."""

from __future__ import annotations

import pytest

from tests.conformance.origin import Reply, World, date, header


# what may be stored
@pytest.mark.parametrize("status", [203, 204, 300, 301, 308, 404, 405, 410, 414, 501, 299, 302, 418, 500, 599])
async def test_any_status_may_be_fresh(status: int) -> None:
    world = World(Cache_Control="max-age=100")
    world.server.answer = lambda _: Reply(status, world.server.headers.items(), b"" if status == 204 else b"octocat")
    for _ in range(2):
        assert (await world.get()).status == status
    assert world.requests == 1


@pytest.mark.parametrize(
    ("status", "headers", "stored"),
    [
        (404, {}, True),
        (404, {"Last-Modified": date(-1000)}, True),
        (403, {}, False),
        (403, {"Last-Modified": date(-1000)}, False),
        (403, {"Last-Modified": date(-1000), "Cache-Control": "public"}, True),
        (403, {"Cache-Control": "private"}, True),
        (206, {"Cache-Control": "max-age=100", "Content-Range": "bytes 0-6/9"}, False),
        (199, {"Cache-Control": "max-age=100"}, False),
        (200, {"Cache-Control": "max-age=100, no-store"}, False),
        (200, {"Cache-Control": "max-age=100, no-store, must-understand"}, True),
        (599, {"Cache-Control": "max-age=100, no-store, must-understand"}, False),
        (200, {"Cache-Control": "max-age=100", "Vary": "Accept, *"}, False),
        (200, {"Cache-Control": "max-age=100", "Content-Length": "many"}, False),
    ],
)
async def test_what_may_be_stored_is(status: int, headers: dict[str, str], stored: bool) -> None:
    world = World()
    world.server.headers |= headers
    world.server.answer = lambda _: Reply(status, world.server.headers.items(), world.server.body)
    await world.get()
    assert world.storage.statistics().entries == stored


async def test_two_lengths_are_not_stored() -> None:
    world = World(Cache_Control="max-age=100")
    told = [("Cache-Control", "max-age=100"), ("Content-Length", "7"), ("Content-Length", "8")]
    world.server.answer = lambda _: Reply(200, told, b"octocat")
    await world.get()
    assert world.storage.statistics().entries == 0


async def test_response_that_can_be_neither_fresh_nor_validated_is_not_stored() -> None:
    world = World(etag=None)
    await world.get()
    assert world.storage.statistics().entries == 0


# which of several
async def test_vary_says_which_stored_response_answers() -> None:
    """And only what it names, in whatever spelling means the same."""
    world = World(Cache_Control="max-age=100", Vary="Accept-Language, X-Kind")
    for language in ("en, de", "fr"):
        world.server.body = language[:2].encode() + b"_body"
        await world.get(Accept_Language=language, X_Other=language)
    assert world.requests == 2
    assert (await world.get(Accept_Language="EN,de", X_Other="any")).body == b"en_body"
    assert (await world.get(Accept_Language="fr")).body == b"fr_body"
    assert world.requests == 2
    await world.get(Accept_Language="en")
    await world.get(Accept_Language="fr", X_Kind="other")
    assert world.requests == 4


async def test_quoted_text_in_a_selecting_header_is_compared_as_it_is() -> None:
    world = World(Cache_Control="max-age=100", Vary="X-Kind")
    await world.get(X_Kind='"a, b"')
    await world.get(X_Kind='"a,b"')
    assert world.requests == 2


async def test_response_that_varies_on_something_else_now_is_found_as_well() -> None:
    world = World(Cache_Control="max-age=100", Vary="X-One")
    await world.get(X_One="1")
    world.server.headers["Vary"] = "X-Two"
    await world.get(X_One="2", X_Two="2")
    world.now += 1
    for one, two, number in (("1", "1", 2), ("3", "2", 2), ("3", "3", 3)):
        await world.get(X_One=one, X_Two=two)
        assert world.requests == number


async def test_the_later_of_two_that_fit_answers() -> None:
    world = World(Cache_Control="max-age=100", Vary="X-One")
    await world.get(X_One="1", X_Two="2")
    world.now += 1
    world.server.headers |= {"Vary": "X-Two", "ETag": '"v2"', "Content-Length": "5"}
    world.server.body = b"later"
    await world.get(X_One="2", X_Two="2")
    assert (await world.get(X_One="1", X_Two="2")).body == b"later"


async def test_one_callers_answer_is_no_others_whatever_vary_forgets() -> None:
    world = World(Cache_Control="max-age=100")
    for token in ("mine", "yours", "mine"):
        await world.get(Authorization=token)
    await world.get()
    assert world.requests == 3


async def test_who_proves_itself_by_digest_has_the_server_asked_about_one_entry() -> None:
    world = World(Cache_Control="max-age=100")
    for number in range(3):
        await world.get(Authorization=f'Digest username="me", realm="a", nc={number}, response="{number}"')
    assert world.requests == 3
    assert world.storage.statistics().entries == 1
    await world.get(Authorization='Digest username="you", realm="a", nc=1, response="1"')
    assert world.storage.statistics().entries == 2


async def test_sticky_cookie_selects_nothing_though_the_response_varies_on_cookies() -> None:
    world = World(Cache_Control="max-age=100", Vary="Cookie")
    await world.get()
    await world.get(Cookie="AWSALB=1")
    await world.get(Cookie="AWSALB=2; AWSALBCORS=3")
    assert world.requests == 1
    await world.get(Cookie="AWSALB=2; session=1")
    assert world.requests == 2


# HEAD
async def test_head_is_answered_by_what_a_get_brought() -> None:
    world = World(Cache_Control="max-age=100")
    del world.server.headers["Content-Length"]
    await world.get()
    answer = await world.get("HEAD")
    assert (answer.body, header(answer, "Content-Length"), world.requests) == (b"", "7", 1)
    world.now += 100
    answer = await world.get("HEAD")
    assert (answer.body, answer.status, world.requests) == (b"", 200, 2)
    assert (await world.get()).body == b"octocat"
    assert world.requests == 2


async def test_head_answers_no_get() -> None:
    world = World(Cache_Control="max-age=100")
    for _ in range(2):
        assert (await world.get("HEAD")).body == b""
    assert world.requests == 1
    assert (await world.get()).body == b"octocat"
    assert world.requests == 2


@pytest.mark.parametrize(("change", "fresh"), [({}, True), ({"ETag": '"v2"'}, False), ({"Content-Length": "8"}, False)])
async def test_head_updates_what_a_get_brought_or_has_it_forgotten(change: dict[str, str], fresh: bool) -> None:
    world = World(Cache_Control="max-age=100")
    await world.get()
    world.now += 100
    world.server.headers |= {"X-Name": "new", **change}
    world.server.answer = lambda _: Reply(200, world.server.headers.items(), b"octocat!")
    await world.get("HEAD", Cache_Control="no-cache")
    answer = await world.get()
    assert (answer.body, header(answer, "X-Name")) == (b"octocat" if fresh else b"octocat!", "new")


async def test_head_of_its_own_entry_is_replaced_by_the_newer_one() -> None:
    world = World(Cache_Control="max-age=100")
    world.server.answer = lambda _: Reply(200, world.server.headers.items())
    await world.get("HEAD")
    world.server.headers["X-Name"] = "new"
    await world.get("HEAD", Cache_Control="no-cache")
    assert header(await world.get("HEAD"), "X-Name") == "new"
    assert world.requests == 2
