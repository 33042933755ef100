"""Global, CachedToken, InMemoryCache and RateLimiter, shared by threads and their loops."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from asynclocks.recipes import CachedToken, Global, InMemoryCache, RateLimiter, Validator
from tests.native.threaded import RUNNERS, results

THREADS = 8
MOST = 1_000


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


def test_cache_adds_up_whatever_threads_do_to_it_at_once(switching: None) -> None:
    """Never above its bound, every hit and miss counted, and what is read is whole."""
    storage = InMemoryCache(MOST)
    rounds = 300

    def use(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(rounds):
            key = dice.randrange(20)
            storage.try_hit(key)
            found = storage.load(key)
            assert found is None or found.body == bytes([key]) * len(found.body)
            writer = storage.writer(key, Validator('"e"', None), 200, ())
            for _ in range(2):
                writer.write(bytes([key]) * dice.randrange(100))
            writer.finish()
            assert storage.statistics().bytes <= MOST

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(use, range(THREADS)))
    total = storage.statistics()
    left = [found for key in range(20) if (found := storage.load(key)) is not None]
    assert (total.entries, total.bytes) == (len(left), sum(len(found.body) for found in left))
    assert total.hits + total.misses == THREADS * rounds
    assert total.evictions > 0


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
