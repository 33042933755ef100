"""Global and CachedToken, shared by threads and their loops."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from asynclocks.recipes import CachedToken, Global

THREADS = 8


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
