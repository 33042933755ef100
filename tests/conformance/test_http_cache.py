"""The HTTP cache without a network: the rules, the exchange, the storage in memory."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Hashable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asynclocks.recipes import (
    CacheWriter,
    InMemoryCache,
    StoredResponse,
    Validator,
    _http_keys as keys,
    _http_rules as rules,
)
from asynclocks.recipes._http_caching import Caching
from asynclocks.recipes._http_exchange import Passed
from tests.conformance.origin import URI, Headers, Reply, Server, fetch, store
from tests.support import settle, spawn


def entries(storage: InMemoryCache) -> int:
    return storage.statistics().entries


# octocrab's own tests
async def test_thrice_the_same_user_is_one_plain_200_and_two_304s() -> None:
    server, storage = Server(), InMemoryCache()
    bodies = [(await fetch(server, storage)).body for _ in range(3)]
    assert bodies == [b"octocat"] * 3
    assert server.asked == [None, ("If-None-Match", '"v1"'), ("If-None-Match", '"v1"')]


async def test_changed_etag_replaces_body_and_etag() -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    server.body, server.headers = b"renamed", {"ETag": '"v2"'}
    bodies = [(await fetch(server, storage)).body for _ in range(3)]
    assert bodies == [b"renamed"] * 3
    assert server.asked[1:] == [("If-None-Match", '"v1"'), ("If-None-Match", '"v2"'), ("If-None-Match", '"v2"')]


async def test_last_modified_serves_where_there_is_no_etag() -> None:
    date = "Tue, 15 Nov 1994 12:45:26 GMT"
    server, storage = Server(Last_Modified=date), InMemoryCache()
    del server.headers["ETag"]
    await fetch(server, storage)
    assert (await fetch(server, storage)).body == b"octocat"
    assert server.asked == [None, ("If-Modified-Since", date)]


# the faults of the original
async def test_two_clients_of_one_storage_share_it() -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    assert (await fetch(server, storage)).body == b"octocat"
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="a copy would share nothing"):
            copying(storage)


async def test_writer_dropped_unfinished_stores_nothing() -> None:
    server, storage = Server(), InMemoryCache()
    outcome = await Caching(storage).exchange(server, "GET", URI, ())
    assert isinstance(outcome, Passed)
    assert outcome.recording is not None
    await outcome.recording.write(b"octo")
    del outcome
    assert storage.statistics().bytes == 0


@pytest.mark.parametrize("lie", ["3", "8", "-7", "many", "9" * 30, str(5 * 1024**3)])
async def test_body_of_another_length_than_declared_is_not_stored(lie: str) -> None:
    server, storage = Server(Content_Length=lie), InMemoryCache()
    assert (await fetch(server, storage)).body == b"octocat"
    assert entries(storage) == 0


async def test_interrupted_replacement_leaves_the_old_response() -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    server.headers["ETag"] = '"v2"'
    await Caching(storage).exchange(server, "GET", URI, ())  # nobody reads it
    server.headers["ETag"] = '"v1"'
    assert (await fetch(server, storage)).body == b"octocat"
    assert server.asked[-1] == ("If-None-Match", '"v1"')


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get"])
async def test_only_get_and_head_are_cached(method: str) -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    await fetch(server, storage, method=method)
    await fetch(server, storage, method=method)
    assert server.asked == [None] * 3
    assert entries(storage) == 1


async def test_head_and_get_are_two_entries() -> None:
    server, storage = Server(), InMemoryCache()
    assert (await fetch(server, storage, method="HEAD")).body == b""
    assert (await fetch(server, storage)).body == b"octocat"
    again = await fetch(server, storage, method="HEAD")
    assert (again.body, ("Content-Length", "7") in again.headers) == (b"", True)
    assert server.asked == [None, None, ("If-None-Match", '"v1"')]


@pytest.mark.parametrize("header", ["Accept", "Authorization", "Cookie", "Accept-Language", "Host", "X-GitHub-OTP"])
async def test_another_header_never_gets_somebody_elses_answer(header: str) -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage, **{header: "mine"})
    server.body = b"another"
    assert (await fetch(server, storage, **{header: "yours"})).body == b"another"
    assert (await fetch(server, storage, **{header: "mine"})).body == b"octocat"
    assert server.asked == [None, None, ("If-None-Match", '"v1"')]


def test_authorization_is_in_the_key_as_a_hash_only() -> None:
    key = keys.key_of("GET", "https://me:password@api.example/", {"authorization": ["Bearer secret"]})
    assert key is not None
    assert key[:2] == ("GET", "https://api.example/")
    assert "secret" not in repr(key)
    assert "password" not in repr(key)
    assert key != keys.key_of("GET", "https://api.example/", {"authorization": ["Bearer other"]})


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("If_None_Match", 304),
        ("If_Modified_Since", 304),
        ("If_Match", 412),
        ("If_Unmodified_Since", 412),
        ("If_Range", 206),
        ("Range", 206),
    ],
)
async def test_callers_own_condition_passes_through_untouched(name: str, status: int) -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    server.answer = lambda condition: Reply(status, [("ETag", '"mine"')])
    answer = await fetch(server, storage, **{name: '"mine"'})
    assert (answer.status, answer.headers) == (status, (("ETag", '"mine"'),))
    assert server.asked[-1] is None


@pytest.mark.parametrize("name", ["If_None_Match", "If_Modified_Since", "If_Match", "If_Unmodified_Since", "If_Range"])
async def test_full_answer_to_callers_own_condition_serves_others(name: str) -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage, **{name: '"mine"'})
    assert (await fetch(server, storage)).body == b"octocat"
    assert server.asked == [None, ("If-None-Match", '"v1"')]


UNSELECTIVE = ["Cache-Control", "Connection", "Date", "Keep-Alive", "Pragma", "Priority", "Range", "Referer", "TE"]
UNSELECTIVE += ["Traceparent", "Tracestate", "User-Agent", "X-Request-Id"]


@pytest.mark.parametrize("name", UNSELECTIVE)
async def test_header_that_selects_no_answer_does_not_divide_the_cache(name: str) -> None:
    """Unless the server says that it does: then the answer is not stored."""
    server, storage = Server(), InMemoryCache()
    for number in range(2):
        await fetch(server, storage, **{name: f"{number}"})
    assert entries(storage) == 1
    storage.clear()
    server.headers["Vary"] = f"Accept, {name}"
    await fetch(server, storage)
    assert entries(storage) == 0


TRACING = ["sentry-trace", "baggage", "x-datadog-trace-id", "x-b3-traceid", "b3", "x-amzn-trace-id", "uber-trace-id"]
TRACING += ["x-cloud-trace-context", "newrelic", "elastic-apm-traceparent", "x-correlation-id", "amz-sdk-request"]


@pytest.mark.parametrize("name", TRACING)
async def test_tracing_does_not_divide_the_cache(name: str) -> None:
    server, storage = Server(), InMemoryCache()
    for number in range(3):
        await fetch(server, storage, **{name: f"{number}"})
    assert (entries(storage), storage.statistics().hits) == (1, 2)


async def test_headers_to_be_ignored_do_not_divide_the_cache_unless_the_server_says_that_they_do() -> None:
    server, storage = Server(), InMemoryCache()
    caching = Caching(storage, ignore_headers=["X-Mine"])
    for number in range(2):
        await fetch(server, caching, **{"x-mine": f"{number}"})
    assert entries(storage) == 1
    server.headers |= {"Vary": "X-Mine", "ETag": '"v2"'}
    storage.clear()
    await fetch(server, caching)
    assert entries(storage) == 0


def test_one_name_in_place_of_several_is_refused() -> None:
    with pytest.raises(TypeError, match="put it in a list"):
        Caching(InMemoryCache(), ignore_headers="X-Mine")


@pytest.mark.parametrize(
    ("cookies", "kept"),
    [
        (["AWSALB=1", "AWSALB=2", ""], 1),
        (["a=1; AWSALB=1; AWSALBCORS=1", "a=1; AWSALB=2; __cf_bm=3", "BIGipServerpool=7; a=1"], 1),
        (["session=1; AWSALB=1", "session=2; AWSALB=1"], 2),
    ],
)
async def test_balancers_cookies_do_not_divide_the_cache_and_sessions_do(cookies: list[str], kept: int) -> None:
    server, storage = Server(), InMemoryCache()
    for cookie in cookies:
        await fetch(server, storage, **({"Cookie": cookie} if cookie else {}))
    assert entries(storage) == kept


async def test_digest_divides_by_who_asks_not_by_the_proof() -> None:
    server, storage = Server(), InMemoryCache()
    for user in ("me", "me", "you"):
        for number in range(2):
            proof = f'Digest realm="a", username="{user}", nonce="{number}", response="{number}"'
            await fetch(server, storage, Authorization=proof)
    assert entries(storage) == 2


async def test_namespaces_keep_apart_what_has_one_uri() -> None:
    """As two servers behind two sockets have."""
    storage = InMemoryCache()
    for name, body in (("one", b"from one"), ("two", b"from two"), ("", b"from neither")):
        caching = Caching(storage, namespace=name)
        for _ in range(2):
            assert (await fetch(Server(body), caching)).body == body
    assert (entries(storage), storage.statistics().hits) == (3, 3)


@pytest.mark.parametrize(
    "other", ["http://api.example:8080/a", "https://api.example/a", "http://[::1]/a", "http://1/a"]
)
def test_other_ports_schemes_and_hosts_are_other_keys(other: str) -> None:
    assert keys.key_of("GET", other, {}) != keys.key_of("GET", "http://api.example/a", {})
    assert keys.normalised(other) == other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://api.example/a", "HTTPS://API.Example:443/a"),
        ("http://api.example", "http://api.example:80/#top"),
        ("http://[::1]:8080/a?b", "http://[::1]:8080/a?b#c"),
    ],
)
def test_spellings_of_one_uri_are_one_key(one: str, other: str) -> None:
    assert keys.key_of("GET", one, {}) == keys.key_of("GET", other, {}) is not None


def test_empty_query_is_a_query() -> None:
    assert keys.normalised("http://a/?#top") == "http://a/?"
    assert keys.normalised("http://a/#?") == "http://a/"


@pytest.mark.parametrize(
    "uri",
    [
        "/users/octocat",
        "users",
        "//api.example/users",
        "ftp://a/b",
        "http://a:port/",
        "http://",
        "http://[",
        "http://[::1",
    ],
)
async def test_what_is_no_absolute_uri_is_not_cached(uri: str) -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage, uri=uri)
    assert entries(storage) == 0


# what may be stored
@pytest.mark.parametrize(
    "headers",
    [
        {"Cache_Control": "private, No-Store"},
        {"Vary": "*"},
        {"Vary": "Accept, User-Agent"},
        {"Content_Range": "bytes 0-6/7"},
        {"ETag": ""},
        {"ETag": "*"},
    ],
)
async def test_what_must_not_be_stored_is_not(headers: dict[str, str]) -> None:
    server, storage = Server(**headers), InMemoryCache()
    assert (await fetch(server, storage)).body == b"octocat"
    assert entries(storage) == 0


@pytest.mark.parametrize("status", [201, 206, 301, 404, 500])
async def test_only_a_200_is_stored(status: int) -> None:
    server, storage = Server(), InMemoryCache()
    server.answer = lambda condition: Reply(status, [("ETag", '"v1"')])
    assert (await fetch(server, storage)).status == status
    assert entries(storage) == 0


@pytest.mark.parametrize("headers", [{"Cache_Control": "private, max-age=60"}, {"Vary": "Accept, Authorization"}])
async def test_private_and_covered_answers_are_stored(headers: dict[str, str]) -> None:
    server, storage = Server(**headers), InMemoryCache()
    await fetch(server, storage, Authorization="Bearer secret")
    assert entries(storage) == 1


@pytest.mark.parametrize(
    "headers", [{"Cache_Control": "no-store"}, {"Content_Length": "3"}, {"Transfer_Encoding": "chunked"}]
)
async def test_request_that_wants_no_cache_or_has_content_passes_by(headers: dict[str, str]) -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage, **headers)
    assert storage.statistics().misses == 0


@pytest.mark.parametrize("lengths", [("7", "8"), ("8", "7")])
async def test_two_lengths_are_not_stored(lengths: tuple[str, str]) -> None:
    server, storage = Server(), InMemoryCache()
    server.answer = lambda condition: Reply(
        200, [("ETag", '"v1"'), *(("Content-Length", length) for length in lengths)], b"octocat"
    )
    await fetch(server, storage)
    assert entries(storage) == 0


HUGE = "9" * 30


@pytest.mark.parametrize("date", ["yesterday", "", "0", f"Tue, 15 Nov 1994 {HUGE}:45:26 GMT", f"{HUGE} Nov 1994"])
def test_last_modified_that_is_no_date_is_no_validator(date: str) -> None:
    assert rules.validator_of({"last-modified": [date]}) is None


# what a 304 brings
async def test_304_updates_all_but_what_describes_the_body() -> None:
    server, storage = Server(Content_Type="text/plain", Link="<2>", X_RateLimit="10", Age="5"), InMemoryCache()
    await fetch(server, storage)
    server.on_304 = {
        "X-RateLimit": "9",
        "Content-Type": "text/html",
        "Content-Length": "0",
        "Connection": "X-Hop",
        "X-Hop": "1",
    }
    answer = await fetch(server, storage)
    assert answer.status == 200
    assert {name.lower(): value for name, value in answer.headers} == {
        "content-type": "text/plain",
        "content-length": "7",
        "link": "<2>",
        "etag": '"v1"',
        "x-ratelimit": "9",
    }


@pytest.mark.parametrize("name", ["Content-Type", "Content-Encoding", "Content-Range", "Content-Length"])
async def test_304_has_no_say_in_how_the_body_is_read(name: str) -> None:
    """§ 3.2, § 4.3.4; nor does a header of the connection that brought it (§ 3.1)."""
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    before = await fetch(server, storage)
    server.on_304 = {name: "9"}
    assert await fetch(server, storage) == before


OF_THE_CONNECTION = ["Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization"]
OF_THE_CONNECTION += ["Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "X-Named-By-It"]


@pytest.mark.parametrize("name", OF_THE_CONNECTION)
async def test_header_of_the_connection_is_neither_stored_nor_taken_from_a_304(name: str) -> None:
    server, storage = Server(Connection="close, X-Named-By-It"), InMemoryCache()
    server.headers[name] = server.on_304[name] = "trailers"
    server.on_304["Connection"] = server.headers["Connection"]
    await fetch(server, storage)
    answer = await fetch(server, storage)
    assert {key.lower() for key, _ in answer.headers} == {"etag", "content-length"}
    key = keys.key_of("GET", URI, {})
    stored = storage.load(key)
    assert stored is not None
    assert {key.lower() for key, _ in stored.headers} == {"etag", "content-length"}


async def test_answer_from_the_cache_tells_its_length_once() -> None:
    """Though the server did not (it sent it in chunks), or did so in another spelling; HEAD repeats what was said."""
    server, storage = Server(), InMemoryCache()
    del server.headers["Content-Length"]
    for method in ("HEAD", "GET"):
        await fetch(server, storage, method=method)
    assert ("Content-Length", "7") in (await fetch(server, storage)).headers
    assert dict((await fetch(server, storage, method="HEAD")).headers) == {"ETag": '"v1"'}
    server.headers |= {"content-length": "7", "ETag": '"v2"'}
    for _ in range(2):
        answer = await fetch(server, storage)
    assert [value for name, value in answer.headers if name.lower() == "content-length"] == ["7"]


async def test_304_that_brings_a_date_has_it_stored_beside_the_etag() -> None:
    date = "Tue, 15 Nov 1994 12:45:26 GMT"
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    server.on_304 = {"ETag": '"v1"', "Last-Modified": date}
    for _ in range(2):
        await fetch(server, storage)
    assert storage.try_hit(keys.key_of("GET", URI, {})) == Validator('"v1"', date)


async def test_cookie_is_not_set_again_from_the_cache() -> None:
    server, storage = Server(Set_Cookie="session=old"), InMemoryCache()
    assert ("Set-Cookie", "session=old") in (await fetch(server, storage)).headers
    assert "Set-Cookie" not in dict((await fetch(server, storage)).headers)


async def test_304_for_nothing_stored_passes_through() -> None:
    server, storage = Server(), InMemoryCache()
    server.answer = lambda condition: Reply(304, [("ETag", '"v1"')])
    assert (await fetch(server, storage)).status == 304
    assert entries(storage) == 0


async def test_evicted_between_question_and_answer_asks_again() -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)

    def answer(condition: tuple[str, str] | None) -> Reply:
        storage.clear()
        return server.answer_by_etag(condition)

    server.answer = answer
    assert (await fetch(server, storage)).body == b"octocat"
    assert server.asked == [None, ("If-None-Match", '"v1"'), None]


async def test_304_that_names_another_etag_is_not_believed() -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    server.on_304 = {"ETag": '"v2"'}
    assert (await fetch(server, storage)).body == b"octocat"
    assert server.asked == [None, ("If-None-Match", '"v1"'), None]


async def test_304_about_what_was_replaced_meanwhile_is_not_believed() -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    key = keys.key_of("GET", URI, {})
    assert key is not None

    def answer(condition: tuple[str, str] | None) -> Reply:
        if condition is None:
            return Reply(200, server.headers.items(), server.body)
        store(storage, key, b"newer", etag='"v2"')
        return Reply(304)

    server.answer = answer
    assert (await fetch(server, storage)).body == b"octocat"


@pytest.mark.parametrize(("told", "believed"), [("Tue, 15 Nov 1994 12:45:26 GMT", True), ("an older date", False)])
async def test_304_that_names_another_date_is_not_believed(told: str, believed: bool) -> None:
    """An older file may have taken the newer one's place; "not modified since" is true of both."""
    server, storage = Server(Last_Modified="Tue, 15 Nov 1994 12:45:26 GMT"), InMemoryCache()
    del server.headers["ETag"]
    await fetch(server, storage)
    server.on_304 = {"Last-Modified": told}
    assert (await fetch(server, storage)).body == b"octocat"
    assert len(server.asked) == (2 if believed else 3)


async def test_strong_etag_confirms_a_weak_one_and_does_not_replace_it() -> None:
    server, storage = Server(ETag='W/"v1"'), InMemoryCache()
    await fetch(server, storage)
    server.on_304 = {"ETag": '"v1"'}
    bodies = [(await fetch(server, storage)).body for _ in range(2)]
    assert bodies == [b"octocat"] * 2
    assert server.asked[1:] == [("If-None-Match", 'W/"v1"')] * 2


@pytest.mark.parametrize("headers", [{"Cache-Control": "no-store"}, {"Vary": "*"}])
async def test_304_that_must_not_be_stored_changes_nothing(headers: dict[str, str]) -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    server.on_304 = {"ETag": 'W/"v1"', **headers}
    bodies = [(await fetch(server, storage)).body for _ in range(2)]
    assert bodies == [b"octocat"] * 2
    assert server.asked[1:] == [("If-None-Match", '"v1"')] * 2


async def test_304_that_makes_a_strong_etag_weak_is_asked_with_that() -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    server.on_304 = {"ETag": 'W/"v1"'}
    await fetch(server, storage)
    server.headers["ETag"] = 'W/"v1"'
    assert (await fetch(server, storage)).body == b"octocat"
    assert server.asked[-1] == ("If-None-Match", 'W/"v1"')


async def test_non_ascii_headers_come_back_as_they_were() -> None:
    server, storage = Server(ETag='"\xfc"', X_Name="caf\xe9"), InMemoryCache()
    await fetch(server, storage, Accept="\xe9\udc80")
    answer = await fetch(server, storage, Accept="\xe9\udc80")
    assert ("X-Name", "caf\xe9") in answer.headers
    assert server.asked[-1] == ("If-None-Match", '"\xfc"')


async def test_server_that_never_answers_leaves_nothing_locked() -> None:
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    stuck = Server()

    async def hang(condition: tuple[str, str] | None) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    stuck.send = hang  # type: ignore[method-assign]
    async with anyio.create_task_group() as group:
        caller = spawn(group, fetch, stuck, storage)
        await settle()
        assert (await fetch(server, storage)).body == b"octocat"
        caller.cancel()
    assert (await fetch(server, storage)).body == b"octocat"


async def test_unsound_head_is_neither_stored_nor_believed() -> None:
    """What came by a redirection is not of this URI, though its ETag may look the same."""
    server, storage = Server(), InMemoryCache()
    await fetch(server, storage)
    server.sound = False
    server.body = b"another"
    assert (await fetch(server, storage)).body == b"another"
    server.sound = True
    assert (await fetch(server, storage)).body == b"octocat"
    assert server.asked[1:] == [("If-None-Match", '"v1"'), None, ("If-None-Match", '"v1"')]


class Broken(InMemoryCache):
    """A storage whose method `fails` does."""

    def __init__(self, fails: str) -> None:
        super().__init__()
        setattr(self, fails, self.fail)

    def fail(self, *_: object) -> Any:
        raise OSError("disk full")


@pytest.mark.parametrize(("fails", "requests"), [("try_hit", 0), ("load", 2), ("writer", 1)])
async def test_storage_that_fails_is_heard_of_and_holds_no_connection(fails: str, requests: int) -> None:
    server, caching = Server(), Caching(Broken(fails), on_storage_error="raise")
    with pytest.raises(OSError, match="disk full"):
        for _ in range(2):
            await fetch(server, caching)
    assert len(server.asked) == requests
    assert all(reply.discarded or reply.read for reply in server.replies)


@pytest.mark.parametrize(
    ("fails", "entries_", "hits"), [("try_hit", 1, 0), ("load", 1, 0), ("writer", 0, 0), ("note", 1, 0)]
)
async def test_storage_that_fails_is_a_miss_and_warned_of_once(fails: str, entries_: int, hits: int) -> None:
    server, storage = Server(), Broken(fails)
    caching = Caching(storage)
    with pytest.warns(RuntimeWarning, match="storage failed .OSError: disk full") as caught:
        bodies = [(await fetch(server, caching)).body for _ in range(3)]
    assert (bodies, len(caught)) == ([b"octocat"] * 3, 1)
    assert (entries(storage), storage.statistics().hits) == (entries_, hits)


async def test_warning_that_is_an_error_lets_go_of_the_response() -> None:
    server = Server()
    with pytest.raises(RuntimeWarning, match="storage failed"):
        await fetch(server, Broken("writer"))
    assert server.replies[-1].discarded


@pytest.mark.parametrize("fails", ["write", "finish"])
async def test_writer_that_fails_stores_nothing(fails: str) -> None:
    class Half(InMemoryCache):
        def writer(self, *args: Any) -> CacheWriter:
            writer = super().writer(*args)
            setattr(writer, fails, Broken(fails).fail)
            return writer

    server, storage = Server(), Half()
    caching = Caching(storage)
    with pytest.warns(RuntimeWarning, match="storage failed"):
        assert (await fetch(server, caching)).body == b"octocat"
    assert entries(storage) == 0


async def test_304_that_cannot_be_stored_still_answers() -> None:
    server, storage = Server(), InMemoryCache()
    caching = Caching(storage)
    await fetch(server, caching)
    server.on_304 = {"ETag": 'W/"v1"'}
    storage.writer = Broken("writer").fail  # type: ignore[method-assign]
    with pytest.warns(RuntimeWarning, match="storage failed"):
        assert (await fetch(server, caching)).body == b"octocat"


def test_unknown_way_to_fail_is_refused() -> None:
    with pytest.raises(ValueError, match="on_storage_error is 'ignore'; it must be 'miss' or 'raise'"):
        Caching(InMemoryCache(), on_storage_error="ignore")  # type: ignore[arg-type]


async def test_storage_need_not_count() -> None:
    server, storage = Server(), AsyncStorage()
    for _ in range(2):
        assert (await fetch(server, storage)).body == b"octocat"
    assert storage.inner.statistics().hits == 0


async def test_body_with_a_part_that_could_not_be_written_is_not_stored() -> None:
    server, storage = Server(), InMemoryCache()
    del server.headers["Content-Length"]
    outcome = await Caching(storage, on_storage_error="raise").exchange(server, "GET", URI, ())
    assert isinstance(outcome, Passed)
    assert outcome.recording is not None
    writer: Any = outcome.recording._writer
    writer.write = Broken("write").fail
    with pytest.raises(OSError, match="disk full"):
        await outcome.recording.write(b"octo")
    await outcome.recording.write(b"cat")
    await outcome.recording.finish()
    assert entries(storage) == 0


class AsyncStorage:
    """A storage whose methods are coroutines."""

    def __init__(self) -> None:
        self.inner = InMemoryCache()

    async def try_hit(self, key: Hashable) -> Validator | None:
        await anyio.lowlevel.checkpoint()
        return self.inner.try_hit(key)

    async def load(self, key: Hashable) -> StoredResponse | None:
        await anyio.lowlevel.checkpoint()
        return self.inner.load(key)

    async def writer(self, key: Hashable, validator: Validator, status: int, headers: Headers) -> AsyncWriter:
        await anyio.lowlevel.checkpoint()
        return AsyncWriter(self.inner.writer(key, validator, status, headers))


class AsyncWriter:
    def __init__(self, inner: CacheWriter) -> None:
        self.inner = inner

    async def write(self, chunk: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.inner.write(chunk)

    async def finish(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.inner.finish()


async def test_storage_of_coroutines_is_accepted() -> None:
    server, storage = Server(), AsyncStorage()
    assert [(await fetch(server, storage)).body for _ in range(2)] == [b"octocat"] * 2
    assert server.asked == [None, ("If-None-Match", '"v1"')]
