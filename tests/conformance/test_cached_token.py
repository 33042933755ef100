"""CachedToken: the rules of validity, the one fetch for all, and the secret."""

from __future__ import annotations

import copy
import traceback
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import lowlevel
from anyio.abc import TaskGroup

from asynclocks import DeadlockError
from asynclocks.recipes import CachedToken
from tests.support import Running, native_cancel, no_collector, settle, spawn

SECRET = "ghs_do_not_show"
NOW = 1_000.0


class Server:
    """Hands out t1, t2, … when the test says so."""

    def __init__(self, lifetime: float | None = 3600) -> None:
        self.now = NOW
        self.lifetime = lifetime
        self.requests = 0
        self.ready = anyio.Event()
        self.failure: Exception | None = None

    def clock(self) -> float:
        return self.now

    async def fetch(self) -> tuple[str, float | None]:
        self.requests += 1
        mine = f"t{self.requests}"
        await self.ready.wait()
        if self.failure is not None:
            raise self.failure
        return mine, None if self.lifetime is None else self.now + self.lifetime

    def token(self, buffer: float = 30.0, *, detached: bool = False) -> CachedToken[str]:
        return CachedToken(self.fetch, buffer=buffer, clock=self.clock, detached=detached)


async def parked(group: TaskGroup, token: CachedToken[str]) -> Running[str]:
    """A caller that fetches, or waits for who does."""
    caller = spawn(group, token.get)
    await settle()
    return caller


async def never() -> tuple[str, None]:
    pytest.fail("fetched")


# octocrab's own tests
def test_cleared_token_is_gone() -> None:
    token = CachedToken(never)
    token.set(SECRET)
    token.clear()
    assert token.peek() is None


@pytest.mark.parametrize(("left", "expected"), [(9, None), (10, None), (10.5, SECRET), (12, SECRET)])
def test_buffer_is_strict(left: float, expected: str | None) -> None:
    token = CachedToken(never, buffer=10, clock=lambda: NOW)
    token.set(SECRET, NOW + left)
    assert token.peek() == expected


def test_no_expiry_is_always_valid() -> None:
    token = CachedToken(never, buffer=float("inf"), clock=lambda: 1e18)
    token.set(SECRET)
    assert token.peek() == SECRET


def test_peek_takes_another_buffer() -> None:
    token = CachedToken(never, clock=lambda: NOW)
    token.set(SECRET, NOW + 20)
    assert token.peek() is None
    assert token.peek(buffer=10) == SECRET
    assert token.peek(buffer=0) == SECRET


def test_buffer_is_30_seconds_of_the_wall_clock_by_default() -> None:
    import time

    token = CachedToken(never)
    token.set(SECRET, time.time() + 29)
    assert token.peek() is None
    token.set(SECRET, time.time() + 60)
    assert token.peek() == SECRET


# single flight
async def test_a_thousand_callers_make_one_request() -> None:
    server = Server()
    token = server.token()
    token.set("old", NOW)
    async with anyio.create_task_group() as group:
        callers = [spawn(group, token.get) for _ in range(1000)]
        await settle()
        server.ready.set()
    assert {caller.result for caller in callers} == {"t1"}
    assert server.requests == 1
    assert await token.get() == "t1"
    assert server.requests == 1


async def test_failure_is_shared_and_not_cached() -> None:
    server = Server()
    token = server.token()
    server.failure = OSError("down")
    async with anyio.create_task_group() as group:
        callers = [spawn(group, token.get) for _ in range(3)]
        await settle()
        server.ready.set()
    assert [caller.exception for caller in callers] == [server.failure] * 3
    server.failure = None
    assert await token.get() == "t2"


async def test_failure_leaves_what_there_was_before() -> None:
    """It may do for those who need it for less long."""
    server = Server()
    server.ready.set()
    server.failure = OSError("down")
    token = server.token()
    token.set("old", NOW + 20)
    with pytest.raises(OSError, match="down"):
        await token.get()
    assert token.peek(buffer=10) == "old"
    assert repr(token) == f"<CachedToken expires at {NOW + 20}>"


class Down(Exception):
    """Of Python's own making, so that one may refer to it weakly."""


async def test_failure_is_gone_when_its_callers_have_seen_it() -> None:
    """It refers to no frame that refers to it, so it need not wait for the collector."""

    async def fetch() -> tuple[str, None]:
        await lowlevel.checkpoint()
        raise Down

    async def fail() -> None:
        try:
            await token.get()
        except Down as error:
            seen.add(error)

    seen: weakref.WeakSet[Down] = weakref.WeakSet()
    token = CachedToken(fetch)
    with no_collector():
        async with anyio.create_task_group() as group:
            for _ in range(2):
                spawn(group, fail)
        assert len(seen) == 0


@pytest.mark.parametrize("cancel", [native_cancel, lambda running: running.cancel()])
async def test_cancelled_fetcher_hands_the_fetch_on(cancel: Callable[[Any], None]) -> None:
    server = Server()
    token = server.token()
    async with anyio.create_task_group() as group:
        first, second = await parked(group, token), await parked(group, token)
        cancel(first)
        await settle()
        assert first.cancelled
        server.ready.set()
    assert second.result == "t2"
    assert server.requests == 2


@pytest.mark.parametrize("cancel", [native_cancel, lambda running: running.cancel()])
async def test_detached_fetch_runs_once_though_its_caller_leaves(cancel: Callable[[Any], None]) -> None:
    """A server that rotates refresh tokens would revoke all of them at a second fetch."""
    server = Server()
    token = server.token(detached=True)
    async with anyio.create_task_group() as group:
        first, second = await parked(group, token), await parked(group, token)
        cancel(first)
        await settle()
        third = await parked(group, token)
        server.ready.set()
    assert (second.result, third.result) == ("t1", "t1")
    assert server.requests == 1
    assert token.peek() == "t1"


async def test_detached_fetch_that_nobody_waits_for_any_more_is_kept() -> None:
    server = Server()
    token = server.token(detached=True)
    async with anyio.create_task_group() as group:
        caller = await parked(group, token)
        caller.cancel()
        await settle()
        server.ready.set()
    await settle()
    assert token.peek() == "t1"
    assert repr(token) == f"<CachedToken expires at {NOW + 3600}>"


async def test_detached_fetch_that_fails_fails_those_who_came_after_its_caller() -> None:
    server = Server()
    server.failure = OSError("revoked")
    token = server.token(detached=True)
    async with anyio.create_task_group() as group:
        first, second = await parked(group, token), await parked(group, token)
        first.cancel()
        await settle()
        server.ready.set()
    assert first.exception in {None, server.failure}  # on trio it could not leave before
    assert second.exception is server.failure
    assert server.requests == 1


async def test_plain_fetch_is_awaited_by_nobody() -> None:
    token = CachedToken(lambda: ("plain", None))
    assert await token.get() == "plain"


async def test_caller_gone_before_the_fetch_ends_leaves_it_to_the_rest() -> None:
    server = Server()
    token = server.token()
    async with anyio.create_task_group() as group:
        first, second = await parked(group, token), await parked(group, token)
        second.cancel()
        await settle()
        server.ready.set()
    assert first.result == "t1"


async def test_server_that_never_answers_leaves_nothing_locked() -> None:
    server = Server()
    token = server.token()
    with anyio.move_on_after(0.01) as scope:
        await token.get()
    assert scope.cancelled_caught
    server.ready.set()
    assert await token.get() == "t2"


@pytest.mark.parametrize("detached", [False, True])
async def test_fetch_that_asks_for_its_own_value_is_told_of_the_token(detached: bool) -> None:
    async def fetch() -> tuple[str, None]:
        return await token.get(), None

    token: CachedToken[str] = CachedToken(fetch, detached=detached)
    with pytest.raises(DeadlockError, match=r"waits for the fetch of CachedToken at 0x[0-9a-f]+ held by") as caught:
        await token.get()
    assert "ConcurrentMap" not in str(caught.value)


async def test_lifetime_shorter_than_the_buffer_is_warned_of_once() -> None:
    """Each get() fetches then."""
    server = Server(lifetime=20)
    server.ready.set()
    token = server.token()
    with pytest.warns(RuntimeWarning, match="lives for less than the buffer of 30.0 seconds") as caught:
        assert [await token.get() for _ in range(3)] == ["t1", "t2", "t3"]
    assert len(caught) == 1


# set, clear and invalidate around a fetch
async def test_set_wins_over_a_fetch_under_way() -> None:
    server = Server()
    token = server.token()
    async with anyio.create_task_group() as group:
        caller = await parked(group, token)
        token.set("set")
        assert await token.get() == "set"
        server.ready.set()
    assert caller.result == "set"
    assert token.peek() == "set"


async def test_set_spares_the_callers_a_failure() -> None:
    server = Server()
    server.failure = OSError("down")
    token = server.token()
    async with anyio.create_task_group() as group:
        caller = await parked(group, token)
        token.set("set")
        server.ready.set()
    assert caller.result == "set"


async def test_set_spares_a_fetch_to_those_whose_fetcher_was_cancelled() -> None:
    server = Server()
    token = server.token()
    async with anyio.create_task_group() as group:
        first, second = await parked(group, token), await parked(group, token)
        token.set("set")
        first.cancel()
        await settle()
        assert second.done
    assert second.result == "set"
    assert server.requests == 1


async def test_value_that_came_between_the_look_and_the_fetch_is_taken() -> None:
    """As another thread's fetch may land just then."""
    looks = iter([lambda: token.set("new")])

    def clock() -> float:
        next(looks, lambda: None)()
        return NOW

    token = CachedToken(never, clock=clock)
    token.set("old", NOW)
    assert await token.get() == "new"


async def test_expired_set_does_not_keep_the_fetched_from_its_callers() -> None:
    server = Server()
    token = server.token()
    async with anyio.create_task_group() as group:
        caller = await parked(group, token)
        token.set("set", NOW)
        server.ready.set()
    assert caller.result == "t1"
    assert token.peek() is None


async def test_cleared_fetch_answers_its_callers_and_is_not_kept() -> None:
    server = Server()
    token = server.token()
    async with anyio.create_task_group() as group:
        before = await parked(group, token)
        token.clear()
        after = await parked(group, token)
        assert server.requests == 2
        server.ready.set()
    assert (before.result, after.result) == ("t1", "t2")
    assert token.peek() == "t2"


async def test_cleared_fetch_that_fails_fails_its_callers_only() -> None:
    """`set` came when it was off the token already, and so did not overrule it."""
    server = Server()
    server.failure = OSError("down")
    token = server.token()
    async with anyio.create_task_group() as group:
        before = await parked(group, token)
        token.clear()
        token.set("newer")
        server.ready.set()
    assert before.exception is server.failure
    assert token.peek() == "newer"


async def test_many_stale_refusals_clear_once() -> None:
    server = Server()
    server.ready.set()
    token = server.token()
    stale = await token.get()
    assert token.invalidate(stale)
    assert not token.invalidate(stale)
    assert await token.get() == "t2"
    assert not token.invalidate(stale)
    assert token.peek() == "t2"


def test_invalidate_of_nothing_or_by_equality() -> None:
    token: CachedToken[str] = CachedToken(never)
    assert not token.invalidate("absent")
    token.set("".join("a-b"))  # equal, not the same
    assert token.invalidate("a-b")


def test_invalidate_spares_what_came_while_it_compared() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            token.set(newer)
            return True

        __hash__ = None  # type: ignore[assignment]

    newer = object()
    token: CachedToken[object] = CachedToken(never)
    token.set(Equal())
    assert not token.invalidate(object())
    assert token.peek() is newer


async def test_repr_tells_of_a_fetch_under_way() -> None:
    server = Server()
    token = server.token()
    async with anyio.create_task_group() as group:
        spawn(group, token.get)
        await settle()
        assert repr(token) == "<CachedToken empty, being fetched>"
        server.ready.set()


# the clock
async def test_arrived_expired_answers_those_who_waited_and_is_not_kept() -> None:
    server = Server(lifetime=30)
    token = server.token()
    async with anyio.create_task_group() as group:
        callers = [spawn(group, token.get) for _ in range(3)]
        await settle()
        server.ready.set()
    assert {caller.result for caller in callers} == {"t1"}
    assert token.peek(buffer=0) is None
    assert await token.get() == "t2"


async def test_sleep_of_the_process_is_seen_on_waking() -> None:
    server = Server()
    server.ready.set()
    token = server.token()
    assert await token.get() == "t1"
    server.now += 8 * 3600
    assert await token.get() == "t2"


async def test_clock_that_jumps_back_keeps_the_value() -> None:
    server = Server()
    server.ready.set()
    token = server.token()
    assert await token.get() == "t1"
    server.now -= 8 * 3600
    assert await token.get() == "t1"
    assert token.invalidate("t1")


async def test_not_a_number_is_no_expiry_to_trust() -> None:
    server = Server(lifetime=float("nan"))
    server.ready.set()
    token = server.token()
    assert await token.get() == "t1"
    assert token.peek() is None


# bad input, and the secret
@pytest.mark.parametrize("answer", [SECRET, (SECRET,), (SECRET, "tomorrow"), None])
async def test_bad_answer_of_fetch_is_refused_without_showing_it(answer: object) -> None:
    async def fetch() -> Any:
        return answer

    token: CachedToken[str] = CachedToken(fetch)
    with pytest.raises(TypeError) as caught:
        await token.get()
    assert SECRET not in shown_with_locals(caught.value)


def test_bad_expiry_is_refused_and_changes_nothing() -> None:
    token: CachedToken[str] = CachedToken(never)
    token.set(SECRET)
    with pytest.raises(TypeError, match=r"not str; a datetime has its timestamp\(\)"):
        token.set("other", "tomorrow")  # type: ignore[arg-type]
    assert token.peek() == SECRET


async def test_secret_is_in_no_repr() -> None:
    token = CachedToken(never, clock=lambda: NOW)
    assert repr(token) == "<CachedToken empty>"
    token.set(SECRET)
    assert repr(token) == "<CachedToken never expires>"
    token.set(SECRET, NOW)
    assert repr(token) == f"<CachedToken expires at {NOW}>"
    assert all(SECRET not in repr(part) for part in vars(token).values())
    with pytest.raises(TypeError, match="cannot pickle or copy") as caught:
        copy.deepcopy(token)
    assert SECRET not in str(caught.value)


async def test_failing_fetch_shows_no_older_secret_even_with_locals() -> None:
    async def fetch() -> tuple[str, None]:
        raise OSError("down")

    token = CachedToken(fetch, clock=lambda: NOW)
    token.set(SECRET, NOW)
    caught = await failure_of(token.get)
    assert "down" in str(caught)
    assert SECRET not in shown_with_locals(caught)


def shown_with_locals(error: BaseException) -> str:
    """What the most talkative tool shows of an error: message, traceback, and the variables of the library's frames."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in shown.stack if frame.filename != __file__]
    assert any(Path(frame.filename).name == "cached_token.py" for frame in frames)
    return "".join([*shown.format_exception_only(), *(str(frame.locals) for frame in frames)])


async def failure_of(function: Callable[[], Awaitable[object]]) -> Exception:
    try:
        await function()
    except OSError as error:
        return error
    pytest.fail("did not fail")
