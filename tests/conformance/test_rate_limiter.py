"""RateLimiter: at most so many per second, first come, first served."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial

import anyio
import pytest

from asynclocks import WouldBlock
from asynclocks.recipes import RateLimitedError, RateLimiter
from tests.conformance.line import Cancel, both_cancels
from tests.conformance.turns import in_turn
from tests.support import settle, spawn


class Clock:
    """Seconds that pass when the test says so. Who waits sleeps by the loop's timers, and looks here again."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def until(done: Callable[[], bool], clock: Clock | None = None) -> None:
    """Let the timers of who waits run; the clock goes on meanwhile, if it is given."""
    with anyio.fail_after(10):
        while not done():
            await anyio.sleep(0.005)
            if clock is not None:
                clock.now += 0.01


def test_a_burst_goes_at_once_and_then_so_many_a_second(clock: Clock) -> None:
    """The bucket is full at first, and never fuller."""
    limiter = RateLimiter(2, burst=3, clock=clock)
    for _ in range(3):
        limiter.try_acquire()
    with pytest.raises(RateLimitedError) as refused:
        limiter.try_acquire()
    assert refused.value.retry_after == pytest.approx(0.5)
    clock.now += 0.5
    limiter.try_acquire()
    clock.now += 1000
    limiter.try_acquire(3)
    with pytest.raises(WouldBlock, match="retry in 1 s"):
        limiter.try_acquire(2)


def test_so_many_in_a_longer_time(clock: Clock) -> None:
    """`rate` in `per` seconds; the burst is the rate unless it is given."""
    limiter = RateLimiter(30, per=60, clock=clock)
    limiter.try_acquire(30)
    clock.now += 2
    limiter.try_acquire()
    with pytest.raises(RateLimitedError):
        limiter.try_acquire()
    slow = RateLimiter(0.5, clock=clock)
    slow.try_acquire()
    clock.now += 2
    slow.try_acquire()


def test_a_clock_that_jumps_back_gives_nothing(clock: Clock) -> None:
    """And takes nothing."""
    limiter = RateLimiter(1, burst=2, clock=clock)
    limiter.try_acquire()
    clock.now -= 50
    limiter.try_acquire()
    with pytest.raises(RateLimitedError):
        limiter.try_acquire()
    clock.now += 1
    limiter.try_acquire()


def test_no_clock_is_read_when_a_limiter_is_made() -> None:
    """As at the import of a Worker, where none goes."""

    def never() -> float:
        raise AssertionError

    RateLimiter(1, clock=never)


@pytest.mark.parametrize(
    "call",
    [
        lambda: RateLimiter(0),
        lambda: RateLimiter(1, 0),
        lambda: RateLimiter(float("nan")),
        lambda: RateLimiter(1, burst=0),
        lambda: RateLimiter(1).try_acquire(-1),
        lambda: RateLimiter(2).try_acquire(3),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], object]) -> None:
    """A rate of nothing, and more at once than ever go."""
    with pytest.raises(ValueError, match="RateLimiter"):
        call()


async def test_who_waits_goes_in_order(clock: Clock) -> None:
    """Also when a later one asks for less; and nobody who tries goes before them."""
    limiter = RateLimiter(100, burst=3, clock=clock)
    log: list[str] = []

    async def go(name: str, n: int) -> None:
        await limiter.acquire(n)
        log.append(name)

    async with limiter:
        pass
    limiter.try_acquire(2)
    async with anyio.create_task_group() as tasks:
        await in_turn(tasks, partial(go, "three", 3), partial(go, "one", 1))
        clock.now += 0.01
        with pytest.raises(RateLimitedError) as refused:
            limiter.try_acquire()
        assert refused.value.retry_after == pytest.approx(0.04)
        clock.now += 1
        await until(lambda: len(log) == 2, clock)
    assert log == ["three", "one"]


@both_cancels
async def test_a_cancelled_waiter_takes_nothing(clock: Clock, cancel: Cancel) -> None:
    """And the next one is at the head of the line."""
    limiter = RateLimiter(100, burst=1, clock=clock)
    limiter.try_acquire()
    async with anyio.create_task_group() as tasks:
        first, second = await in_turn(tasks, limiter.acquire, limiter.acquire)
        cancel(first)
        await settle()
        assert first.cancelled
        clock.now += 0.01
        await until(lambda: second.done)
    with pytest.raises(RateLimitedError):
        limiter.try_acquire()
    assert "0 of 1 may go at once>" in repr(limiter)


async def test_a_timeout_bounds_the_wait(clock: Clock) -> None:
    """In line and at its head; nothing is taken."""
    limiter = RateLimiter(1, burst=1, clock=clock)
    await limiter.acquire(timeout=0)
    async with anyio.create_task_group() as tasks:
        for timeout in (0, -1, 0.01):
            with pytest.raises(TimeoutError, match=r"acquire\(1\) of <RateLimiter of 1 a second: .*nothing is taken"):
                await limiter.acquire(timeout=timeout)
        head = spawn(tasks, limiter.acquire)
        await settle()
        with pytest.raises(TimeoutError, match="0 of 1 may go at once, 1 asked for"):
            await limiter.acquire(timeout=0.01)
        clock.now += 1
        await until(lambda: head.done)
    clock.now += 1
    limiter.try_acquire()


async def test_on_the_real_clock_a_wait_takes_its_time() -> None:
    """By the timers of whichever loop."""
    limiter = RateLimiter(50, burst=1)
    started = anyio.current_time()
    for _ in range(3):
        await limiter.acquire()
    assert anyio.current_time() - started >= 0.03


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "Thu, 01 Jan 1970 00:20:07 GMT"}, 7),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1209"}, 9),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1209", "retry-after": "7"}, 9),
        ({"x-ratelimit-remaining": "0"}, 1),
        ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "1209"}, 0),
        ({"retry-after": "soon", "x-ratelimit-remaining": "many", "x-ratelimit-reset": "nan"}, 0),
        ({"retry-after": "-1"}, 0),
        ({}, 0),
    ],
)
def test_what_a_server_says_is_minded(clock: Clock, headers: dict[str, str], seconds: float) -> None:
    """Nobody goes before it lets us."""
    limiter = RateLimiter(1, burst=5, clock=clock)
    limiter.from_headers(headers, now=lambda: 1200.0)
    if seconds:
        with pytest.raises(RateLimitedError) as refused:
            limiter.try_acquire()
        assert refused.value.retry_after == pytest.approx(seconds)
        clock.now += seconds
    limiter.try_acquire()


def test_what_remains_of_a_server_s_limit_may_go(clock: Clock) -> None:
    """And no more; a nearer end does not open what a later one closed."""
    limiter = RateLimiter(1, burst=5, clock=clock)
    limiter.from_headers({"x-ratelimit-remaining": "2"})
    limiter.try_acquire(2)
    with pytest.raises(RateLimitedError):
        limiter.try_acquire()
    limiter.from_headers({"retry-after": "20"})
    limiter.from_headers({"retry-after": "2"})
    clock.now += 10
    assert "closed by the server" in repr(limiter)
    with pytest.raises(RateLimitedError):
        limiter.try_acquire()
    clock.now += 10
    limiter.try_acquire(5)


def test_a_refusal_survives_pickling() -> None:
    """With its seconds."""
    error = pickle.loads(pickle.dumps(RateLimitedError("later", 1.5)))
    assert (str(error), error.retry_after) == ("later", 1.5)
