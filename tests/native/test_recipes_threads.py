"""Global, CachedToken, InMemoryCache and RateLimiter, shared by threads and their loops."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asynclocks import DeadlockError
from asynclocks.recipes import CachedToken, Global, InMemoryCache, RateLimiter, Validator
from tests.native.threaded import RUNNERS, results

THREADS = 8
MOST = 4_000


def test_default_is_built_once_by_many_threads() -> None:
    built: list[object] = []
    together = threading.Barrier(THREADS)

    def build() -> object:
        built.append(object())
        time.sleep(0.01)  # a wide open door for a second builder
        return built[-1]

    client = Global(build)

    def use(_: int) -> object:
        together.wait()
        return client.instance()

    with ThreadPoolExecutor(THREADS) as pool:
        assert set(pool.map(use, range(THREADS))) == set(built)
    assert len(built) == 1


def test_each_instance_is_replaced_once(switching: None) -> None:
    client = Global(lambda: -1)
    together = threading.Barrier(THREADS)

    def use(first: int) -> list[int | None]:
        together.wait()
        return [client.initialise(value) for value in range(first, first + 100)]

    with ThreadPoolExecutor(THREADS) as pool:
        replaced = [value for values in pool.map(use, range(0, 100 * THREADS, 100)) for value in values]
    assert replaced.count(None) == 1
    assert {*replaced, client.instance()} - {None} == set(range(100 * THREADS))


def test_loops_of_many_threads_share_one_fetch() -> None:
    together = threading.Barrier(THREADS)
    fetches: list[str] = []

    async def fetch() -> tuple[str, None]:
        fetches.append("token")
        await asyncio.sleep(0.01)
        return fetches[-1], None

    token = CachedToken(fetch)

    async def use() -> list[str]:
        return await asyncio.gather(*(token.get() for _ in range(20)))

    def run(_: int) -> list[str]:
        together.wait()
        return asyncio.run(use())

    with ThreadPoolExecutor(THREADS) as pool:
        for got in pool.map(run, range(THREADS)):
            assert got == ["token"] * 20
    assert len(fetches) == 1


def test_threads_share_one_plain_fetch() -> None:
    together = threading.Barrier(THREADS)
    fetches: list[str] = []

    def fetch() -> tuple[str, None]:
        fetches.append("token")
        time.sleep(0.01)
        return fetches[-1], None

    token = CachedToken(fetch)

    def use(_: int) -> list[str]:
        together.wait()
        return [token.blocking_get() for _ in range(3)]

    with ThreadPoolExecutor(THREADS) as pool:
        assert set(map(tuple, pool.map(use, range(THREADS)))) == {("token",) * 3}
    assert len(fetches) == 1


def test_blocking_get_waits_no_longer_than_its_timeout_for_anothers_fetch() -> None:
    begun, ended = threading.Event(), threading.Event()

    def fetch() -> tuple[str, None]:
        begun.set()
        ended.wait(30)
        return "token", None

    token = CachedToken(fetch)
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(token.blocking_get)
        begun.wait(30)
        with pytest.raises(TimeoutError):
            token.blocking_get(timeout=0)
        ended.set()
        assert fetching.result() == "token"


def test_blocking_get_refuses_what_only_a_loop_can_await() -> None:
    async def fetch() -> tuple[str, None]:
        return "token", None

    class Promise:
        def __await__(self) -> Generator[None, None, None]:
            yield

    refused: Any
    for refused in (fetch, Promise):
        token = CachedToken(refused)
        with pytest.raises(TypeError, match=r"blocking_get\(\) of <CachedToken empty.*>: fetch returned"):
            token.blocking_get()
        assert repr(token) == "<CachedToken empty>"


def test_set_spares_a_blocking_caller_the_failure_of_its_fetch() -> None:
    def fetch() -> tuple[str, None]:
        token.set("set")
        raise OSError("down")

    token: CachedToken[str] = CachedToken(fetch)
    assert token.blocking_get() == "set"
    token.clear()
    token._fetch = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        token.blocking_get()


def test_value_that_another_thread_brought_meanwhile_is_taken() -> None:
    """Between a thread's look and its turn to fetch."""
    looks = iter([lambda: None, lambda: token.set("new")])

    def clock() -> float:
        next(looks, lambda: None)()
        return 1000.0

    def never() -> tuple[str, None]:
        pytest.fail("fetched")

    token = CachedToken(never, clock=clock)
    token.set("old", 1000.0)
    token.peek()
    assert token.blocking_get() == "new"


def test_blocking_fetch_that_asks_for_its_own_value_is_told_of_the_token() -> None:
    def fetch() -> tuple[str, None]:
        return token.blocking_get(), None

    token: CachedToken[str] = CachedToken(fetch)
    with pytest.raises(DeadlockError, match="the fetch of CachedToken at"):
        token.blocking_get()


def test_cache_adds_up_whatever_threads_do_to_it_at_once(switching: None) -> None:
    """Never above its bound, every end of a request counted, and what is read is whole."""
    storage = InMemoryCache(MOST)
    rounds = 300

    def use(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(rounds):
            key = dice.randrange(20)
            found = storage.load(key)
            storage.note("miss" if found is None else "confirmed")
            assert found is None or found.body == bytes([key]) * len(found.body)
            writer = storage.writer(key, Validator('"e"', None), 200, ())
            for _ in range(2):
                writer.write(bytes([key]) * dice.randrange(100))
            writer.finish()
            assert storage.statistics().bytes <= MOST

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(use, range(THREADS)))
    total = storage.statistics()
    left = [key for key in range(20) if storage.load(key) is not None]
    assert total.entries == len(left)
    assert total.hits + total.misses == THREADS * rounds
    assert total.evictions > 0
    for key in left:
        storage.invalidate(key)
    assert storage.statistics().bytes == 0


# --- RateLimiter


@pytest.mark.usefixtures("switching")
def test_loops_and_threads_together_keep_to_the_rate(threads: ThreadPoolExecutor) -> None:
    """All go, and no more than the burst and the rate allow in the time it took."""
    limiter = RateLimiter(400, burst=10)
    gone: list[float] = []

    def go() -> None:
        for _ in range(10):
            limiter.blocking_acquire(timeout=30)
            gone.append(time.monotonic())

    async def go_in_a_loop() -> None:
        for _ in range(10):
            async with limiter:
                gone.append(time.monotonic())

    started = time.monotonic()
    results([threads.submit(go) for _ in range(3)] + [threads.submit(run, go_in_a_loop) for run in RUNNERS.values()])
    assert len(gone) == 50
    assert len(gone) <= 10 + 400 * (max(gone) - started) + 1


def test_a_thread_waits_for_its_turn_no_longer_than_it_says() -> None:
    """TimeoutError, and nothing is taken; refused on a loop's thread."""
    limiter = RateLimiter(0.001)
    limiter.blocking_acquire(timeout=0)
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError, match="nothing is taken"):
            limiter.blocking_acquire(timeout=timeout)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="would block"):
            limiter.blocking_acquire()

    RUNNERS["asyncio"](main)
