"""Freshness (RFC 9111 § 4.2): for how long a response answers unasked, and what a request wants of it."""

from __future__ import annotations

from datetime import UTC

import pytest

from asynclocks.recipes._http_fields import directives, timestamp
from tests.conformance.origin import Reply, World, date, header


# how long
@pytest.mark.parametrize(
    ("headers", "lifetime"),
    [
        ({"Cache_Control": "max-age=100"}, 100),
        ({"Cache_Control": "MAX-AGE=0100, public"}, 100),
        ({"Cache_Control": 'max-age="100"'}, 100),
        ({"Cache_Control": "s-maxage=5, max-age=100"}, 100),
        ({"Cache_Control": "max-age=100", "Expires": "0"}, 100),
        ({"Expires": date(100), "Date": date()}, 100),
        ({"Expires": date(100)}, 100),
        ({"Expires": date(100), "Date": "yesterday"}, 100),
        ({"Last_Modified": date(-1000), "Date": date()}, 100),
        ({"Cache_Control": "max-age=100", "Age": "40"}, 60),
        ({"Cache_Control": "max-age=100", "Date": date(-40)}, 60),
        ({"Cache_Control": "max-age=100", "Date": date(-40), "Age": "30"}, 60),
        ({"Cache_Control": "max-age=100", "Date": date(40)}, 100),
        ({"Cache_Control": "max-age=100", "Age": "40, 0"}, 60),
        ({"Cache_Control": "max-age=100", "Age": "-7"}, 100),
        ({"Cache_Control": 'max-age=100, no-cache="Set-Cookie"'}, 100),
    ],
)
async def test_fresh_response_answers_unasked_for_its_lifetime(headers: dict[str, str], lifetime: float) -> None:
    world = World(**headers)
    await world.get()
    world.now += lifetime - 1
    assert (await world.get()).body == b"octocat"
    assert world.requests == 1
    world.now += 1
    assert (await world.get()).body == b"octocat"
    assert world.server.asked[1:] == [("If-None-Match", '"v1"')]


async def test_heuristic_lifetime_is_a_day_at_most() -> None:
    world = World(Last_Modified=date(-1e8))
    await world.get()
    world.now += 24 * 3600 - 1
    await world.get()
    assert world.requests == 1
    world.now += 1
    await world.get()
    assert world.requests == 2


async def test_huge_lifetime_is_taken_for_the_longest_there_is() -> None:
    world = World(Cache_Control=f"max-age={'9' * 30}")
    await world.get()
    world.now += 2**31 - 1
    await world.get()
    assert world.requests == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cache_Control": "max-age=0"},
        {"Cache_Control": "max-age=-1"},
        {"Cache_Control": "max-age=1.5"},
        {"Cache_Control": "max-age='100'"},
        {"Cache_Control": "max-age"},
        {"Cache_Control": "max-age =100"},
        {"Cache_Control": "max-age=100, max-age=200"},
        {"Cache_Control": "max-age=100, no-cache"},
        {"Cache_Control": 'extension="max-age=100", max-age=0'},
        {"Cache_Control": "s-maxage=100"},
        {"Expires": date(-1)},
        {"Expires": "0"},
        {"Expires": f"{date(100)}, {date(200)}"},
        {"Expires": date(100).replace("GMT", "UTC")},
        {"Expires": date(100), "Pragma": "no-cache"},
        {"Last_Modified": date(-1000), "Pragma": "no-cache"},
        {"Cache_Control": "max-age=100", "Age": "100"},
    ],
)
async def test_what_is_not_surely_fresh_is_validated(headers: dict[str, str]) -> None:
    """What cannot be read is read to the safe side."""
    world = World(**headers)
    await world.get()
    assert (await world.get()).body == b"octocat"
    assert world.server.asked == [None, ("If-None-Match", '"v1"')]


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "sUN, 06 nOV 1994 08:49:37 gmt",
    ],
)
def test_every_date_format_that_must_be_read_is_read(text: str) -> None:
    assert timestamp(text) == 784111777.0


@pytest.mark.parametrize("text", ["Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT", "tomorrow"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert timestamp(text) is None


def test_two_digits_of_a_year_are_never_more_than_fifty_years_ahead() -> None:
    from datetime import datetime

    year = datetime.now(UTC).year
    for ahead, found in ((49, year + 49), (51, year - 49)):
        moment = timestamp(f"Sunday, 06-Nov-{(year + ahead) % 100:02} 08:49:37 GMT")
        assert moment is not None
        assert datetime.fromtimestamp(moment, UTC).year == found


def test_cache_control_that_cannot_be_read_is_the_most_careful() -> None:
    assert "no-store" in directives({"cache-control": ['max-age=100, private="never closed']})
    assert directives({"cache-control": [r'a="b\"c, d", e']}) == {"a": 'b"c, d', "e": None}


# the clock
async def test_age_is_told_and_grows_by_the_clock() -> None:
    world = World(Cache_Control="max-age=100", Age="10", Date=date())
    await world.get()
    world.now += 32
    answer = await world.get()
    assert (header(answer, "Age"), header(answer, "Date")) == ("42", date())


async def test_time_that_the_request_took_counts_as_age() -> None:
    world = World(Cache_Control="max-age=100")
    send = world.server.send

    async def slowly(condition: tuple[str, str] | None) -> Reply:
        world.now += 30
        return await send(condition)

    world.server.send = slowly  # type: ignore[method-assign]
    await world.get()
    assert header(await world.get(), "Age") == "30"


async def test_clock_that_goes_back_has_the_server_asked() -> None:
    """Nobody knows then how old a response is."""
    world = World(Cache_Control="max-age=100")
    await world.get()
    world.now -= 1
    await world.get()
    assert world.requests == 2
    assert header(await world.get(), "Age") == "0"


# what the request wants
@pytest.mark.parametrize(
    ("wish", "asked"),
    [
        ({"Cache_Control": "no-cache"}, True),
        ({"Cache_Control": "max-age=0"}, True),
        ({"Cache_Control": "max-age=49"}, True),
        ({"Cache_Control": "max-age=50"}, False),
        ({"Cache_Control": "max-age=much"}, True),
        ({"Cache_Control": "min-fresh=49"}, False),
        ({"Cache_Control": "min-fresh=50"}, True),
        ({"Cache_Control": "min-fresh=much"}, True),
        ({"Cache_Control": "min-fresh=60, max-stale"}, True),
        ({"Pragma": "no-cache"}, True),
        ({"Pragma": "other"}, False),
        ({"Pragma": "no-cache", "Cache_Control": "max-age=60"}, False),
        ({"Cache_Control": "only-if-cached"}, False),
    ],
)
async def test_request_says_how_fresh_it_wants_it(wish: dict[str, str], asked: bool) -> None:
    """Of a response that is 50 seconds old, and fresh for 50 more."""
    world = World(Cache_Control="max-age=100")
    await world.get()
    world.now += 50
    assert (await world.get(**wish)).body == b"octocat"
    assert world.requests == 1 + asked


@pytest.mark.parametrize(
    ("response", "wish", "asked"),
    [
        ("max-age=100", "max-stale", False),
        ("max-age=100", "max-stale=10", False),
        ("max-age=100", "max-stale=9", True),
        ("max-age=100", "max-stale=much", True),
        ("max-age=100", "max-stale, max-age=60", True),
        ("max-age=100", "max-stale, no-cache", True),
        ("max-age=100, must-revalidate", "max-stale", True),
        ("max-age=100, no-cache", "max-stale", True),
    ],
)
async def test_stale_response_answers_only_who_takes_it(response: str, wish: str, asked: bool) -> None:
    """It is stale for 10 seconds."""
    world = World(Cache_Control=response)
    await world.get()
    world.now += 110
    assert (await world.get(Cache_Control=wish)).body == b"octocat"
    assert world.requests == 1 + asked
    assert world.storage.statistics().stale == 1 - asked


async def test_only_if_cached_is_504_where_nothing_will_do() -> None:
    world = World(Cache_Control="max-age=100")
    answer = await world.get(Cache_Control="only-if-cached")
    assert (answer.status, answer.body, world.requests) == (504, b"", 0)
