"""python -m tests.cache_suite CHECKOUT [--cache NAME …] [--test ID …] [--failures]."""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from unittest.mock import patch

import httpx

from asynclocks.recipes.httpx import CachingTransport
from tests.cache_suite.origin import Origin
from tests.cache_suite.runner import Clock, Result, Runner
from tests.cache_suite.suite import Test, load

Make = Callable[[Origin, Clock], httpx.AsyncClient]


def ours(origin: Origin, clock: Clock, *, freshness: bool) -> httpx.AsyncClient:
    """CachingTransport. `Req-Num` is the suite's own header, another in every request."""
    transport = CachingTransport(origin, freshness=freshness, clock=clock, ignore_headers=["Req-Num"])
    return httpx.AsyncClient(transport=transport)


def hishels(origin: Origin, clock: Clock) -> httpx.AsyncClient:
    """Hishel as a private cache. It reads `time.time`, which `results_of` replaces."""
    import hishel
    import hishel.httpx

    storage = hishel.AsyncSqliteStorage(database_path=Path(mkdtemp(), "hishel.db"))
    options = hishel.CacheOptions(shared=False)
    return httpx.AsyncClient(transport=hishel.httpx.AsyncCacheTransport(origin, storage, rfc=options))


def uncached(origin: Origin, clock: Clock) -> httpx.AsyncClient:
    """No cache at all: what it fails is what caches are for."""
    return httpx.AsyncClient(transport=origin)


CACHES: dict[str, Make] = {
    "asynclocks, freshness=True": partial(ours, freshness=True),
    "asynclocks, freshness=False": partial(ours, freshness=False),
    "hishel": hishels,
    "none": uncached,
}


async def results_of(make: Make, tests: Sequence[Test]) -> list[Result]:
    """Every test, one after another."""
    clock = Clock(float(int(time.time())))
    with patch("time.time", clock):
        runner = Runner(partial(make, clock=clock), clock)
        try:
            return [await runner.run(test) for test in tests]
        finally:
            await runner.close()


def show(name: str, results: Sequence[Result], *, failures: bool) -> int:
    """The counts; how many were wrongly reused."""
    passed = Counter(result.test.kind for result in results if not result.fault)
    whole = Counter(result.test.kind for result in results)
    wrong = [result.test.id for result in results if result.wrongly_reused]
    counts = "  ".join(f"{kind} {passed[kind]:>3} of {whole[kind]}" for kind in ("required", "optimal", "check"))
    print(f"{name:28}{counts}  wrongly reused {len(wrong)}")
    for result in results if failures else ():
        if result.fault:
            print(f"    {result.test.kind:9}{result.test.id}: {result.fault}{' (setup)' if result.setup else ''}")
    return len(wrong)


def main(argv: Sequence[str]) -> int:
    """Run what was asked for; the exit code says whether a cache of ours reused what it must not."""
    parser = argparse.ArgumentParser(prog="cache_suite", description=__doc__)
    parser.add_argument("checkout", type=Path, help="of github.com/http-tests/cache-tests")
    parser.add_argument("--cache", action="append", choices=CACHES, help="default: all that are installed")
    parser.add_argument("--test", action="append", metavar="ID", help="default: all")
    parser.add_argument("--failures", action="store_true", help="say what failed, and why")
    options = parser.parse_args(argv)
    tests = [test for test in load(options.checkout) if not options.test or test.id in options.test]
    wrong = 0
    warnings.simplefilter("ignore", ResourceWarning)
    for name in options.cache or CACHES:
        try:
            results = asyncio.run(results_of(CACHES[name], tests))
        except ModuleNotFoundError as missing:
            print(f"{name:28}{missing.name} is not installed")
            continue
        found = show(name, results, failures=options.failures)
        wrong += found if name.startswith("asynclocks") else 0
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
