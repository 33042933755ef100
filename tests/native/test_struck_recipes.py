"""A signal whose handler raises, at every instruction of the recipes, of `detached` and of drop-in barriers.

As in `test_struck.py`. These have short locks of their own, which must be free afterwards.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from asynclocks import detached
from asynclocks.drop_in import threading as drop_in
from asynclocks.recipes import CachedToken, Global, InMemoryCache, RateLimiter
from asynclocks.recipes._stored import Validator
from tests.native.striking import SignalArriving, Struck
from tests.native.test_struck import STRIDE, WAIT, at_every_instruction

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # as there
    pytest.mark.parametrize("first", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, STRIDE + 1))]),
]


@pytest.fixture(scope="module")
def others() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def tokens() -> CachedToken[int]:
    count = iter(range(1000))
    return CachedToken(lambda: (next(count), None))


def use_token(token: CachedToken[int]) -> None:
    token.invalidate(token.blocking_get())
    token.set(5)
    token.clear()
    token.blocking_get()


def take_token(token: CachedToken[int]) -> None:
    before = token.blocking_get(WAIT)
    token.invalidate(before)
    assert token.blocking_get(WAIT) != before


def use_global(shared: Global[int]) -> None:
    shared.instance()
    shared.initialise(2)


def take_global(shared: Global[int]) -> None:
    assert shared.instance() in {1, 2}
    shared.initialise(3)
    assert shared.instance() == 3


def use_limiter(limiter: RateLimiter) -> None:
    limiter.try_acquire()
    limiter.blocking_acquire(2)
    limiter.from_headers({"x-ratelimit-remaining": "40"})
    repr(limiter)


def take_limiter(limiter: RateLimiter) -> None:
    assert "asked for" not in repr(limiter)
    limiter.blocking_acquire(1, WAIT)


def store(cache: InMemoryCache, path: str, vary: str = "") -> None:
    writer = cache.writer(("GET", path, "-"), Validator("e", None, vary=vary), 200, [(b"a", b"b")])
    writer.write(b"x" * 300)
    writer.finish()


def use_cache(cache: InMemoryCache) -> None:
    store(cache, "/a")
    store(cache, "/b", "accept")
    store(cache, "/c")
    store(cache, "/c")
    cache.load(("GET", "/a", "-"))
    cache.varies(("GET", "/b", "-"))
    cache.invalidate(("GET", "/b", ""))
    cache.note("miss")
    cache.clear()


def take_cache(cache: InMemoryCache) -> None:
    store(cache, "/d")
    assert cache.load(("GET", "/d", "-")) is not None
    cache.invalidate(("GET", "/d", "-"))
    for path in "/a", "/b", "/c":
        cache.invalidate(("GET", path, "-"))
    now = cache.statistics()
    assert (now.entries, now.bytes) == (0, 0)


def use_detached(function: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(0.001):
            await function()

    with suppress(TimeoutError):
        asyncio.run(main())


def detached_function() -> Any:
    async def run() -> int:
        await asyncio.sleep(0.002)
        return 1

    return detached(run)


def take_detached(function: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(WAIT):
            assert await function() == 1

    asyncio.run(main())


def use_barrier(barrier: drop_in.Barrier) -> None:
    with suppress(threading.BrokenBarrierError):
        barrier.wait(0.001)
    barrier.reset()


def take_barrier(barrier: drop_in.Barrier) -> None:
    barrier.reset()
    assert barrier.n_waiting == 0
    meeting = threading.Thread(target=barrier.wait, args=(WAIT,))
    meeting.start()
    barrier.wait(WAIT)
    meeting.join()


USES: dict[Callable[[Any], None], Any] = {
    use_token: (tokens, take_token),
    use_global: (lambda: Global(lambda: 1), take_global),
    use_limiter: (lambda: RateLimiter(1000, burst=50), take_limiter),
    use_cache: (lambda: InMemoryCache(2000), take_cache),
    use_detached: (detached_function, take_detached),
    use_barrier: (lambda: drop_in.Barrier(2), take_barrier),
}


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_what_is_interrupted_leaves_everything_free(
    use: Callable[[Any], None], others: ThreadPoolExecutor, first: int
) -> None:
    """Other threads get through, and find what is consistent."""
    make, take = USES[use]

    def scene(arriving: SignalArriving) -> None:
        thing = make()
        with suppress(Struck), arriving:
            use(thing)
        others.submit(take, thing).result(WAIT)

    at_every_instruction(first, scene)
