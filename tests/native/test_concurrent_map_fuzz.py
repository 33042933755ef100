"""Everything at once on one ConcurrentMap: four loops, plain threads, cancellation, failures; exclusion holds."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from random import Random
from typing import Any

import pytest
import trio

from asynclocks import ConcurrentMap, KeyLockedError
from tests.conformance.test_concurrent_map import assert_idle
from tests.native.threaded import PAUSES, RUNNERS, WAIT, results

KEYS = 6
EXPECTED = (KeyError, KeyLockedError, TimeoutError, ValueError)  # of a map that many use and whose callbacks fail
Pause = Callable[[], Awaitable[None]]


class Witness:
    """Knows who is inside, and complains if there are two."""

    def __init__(self) -> None:
        self.map: ConcurrentMap[int, int] = ConcurrentMap()
        self._lock = threading.Lock()
        self._writers: Counter[int] = Counter()
        self.faults: list[str] = []

    @contextmanager
    def alone(self, key: int) -> Iterator[None]:
        self._count(key, 1)
        try:
            yield
        finally:
            self._count(key, -1)

    def _count(self, key: int, by: int) -> None:
        with self._lock:
            self._writers[key] += by
            if self._writers[key] > 1:
                self.faults.append(f"two write {key}")

    def no_writer(self, key: int) -> None:
        with self._lock:
            if self._writers[key]:
                self.faults.append(f"a writer beside readers of {key}")

    def same(self, before: object, after: object) -> None:
        if before != after:
            self.faults.append(f"a held key changed from {before} to {after}")


async def in_block(witness: Witness, key: int, dice: Random, pause: Pause) -> None:
    async with witness.map.entry(key) as entry:
        with witness.alone(key):
            before = entry.get()
            await pause()
            witness.same(before, entry.get())
            if dice.random() < 0.2:
                raise ValueError
            entry.remove() if dice.random() < 0.3 else entry.insert((before or 0) + 1)


async def awaited(witness: Witness, key: int, _: Random, pause: Pause) -> None:
    with await witness.map.entry(key) as entry, witness.alone(key):
        entry.or_insert(1)
        await pause()


async def reading(witness: Witness, key: int, _: Random, pause: Pause) -> None:
    async with witness.map.ref(key) as ref:
        before = ref.value
        witness.no_writer(key)
        await pause()
        witness.same(before, ref.value)


async def flying(witness: Witness, key: int, dice: Random, pause: Pause) -> None:
    async def init() -> int:
        with witness.alone(key):
            await pause()
            return failing(dice)

    await witness.map.get_or_insert_with(key, init)


async def computing(witness: Witness, key: int, dice: Random, pause: Pause) -> None:
    async def change(_: int | None) -> int | None:
        with witness.alone(key):
            await pause()
            return None if dice.random() < 0.5 else 7

    await witness.map.compute(key, change)


async def at_once(witness: Witness, key: int, dice: Random, _: Pause) -> None:
    m = witness.map
    m.remove(key, None)
    m.update({key: 1, (key + 1) % KEYS: 2})
    m.retain(lambda _key, _value: dice.random() < 0.8)
    m.alter_all(lambda _key, value: value + 1)
    m.popitem()


def failing(dice: Random) -> int:
    if dice.random() < 0.3:
        raise ValueError
    return 5


DEEDS = [in_block, awaited, reading, flying, computing, at_once]


async def deed(witness: Witness, dice: Random, pause: Pause) -> None:
    with suppress(*EXPECTED):
        await dice.choice(DEEDS)(witness, dice.randrange(KEYS), dice, pause)


async def on_asyncio(witness: Witness, rounds: int, seed: int) -> None:
    dice = Random(seed)
    for _ in range(rounds):
        tasks = [asyncio.create_task(deed(witness, dice, PAUSES["asyncio"])) for _ in range(6)]
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        for task in tasks:
            if dice.random() < 0.4:
                task.cancel()
        _, stranded = await asyncio.wait(tasks, timeout=WAIT)
        assert not stranded, witness.map.statistics()
        for task in tasks:
            assert task.cancelled() or task.exception() is None


async def on_trio(witness: Witness, rounds: int, seed: int) -> None:
    dice = Random(seed)

    async def cancellable(scope: trio.CancelScope) -> None:
        with scope:
            await deed(witness, dice, PAUSES["trio"])

    for _ in range(rounds):
        scopes = [trio.CancelScope() for _ in range(6)]
        with trio.fail_after(WAIT):
            async with trio.open_nursery() as nursery:
                for scope in scopes:
                    nursery.start_soon(cancellable, scope)
                for _ in range(dice.randrange(4)):
                    await trio.lowlevel.checkpoint()
                for scope in scopes:
                    if dice.random() < 0.4:
                        scope.cancel()


def in_a_thread(witness: Witness, rounds: int, seed: int) -> None:
    dice = Random(seed)
    m = witness.map
    for _ in range(rounds * 4):
        key = dice.randrange(KEYS)
        with suppress(*EXPECTED):
            with m.blocking_entry(key, dice.choice([0, 0.001, WAIT])) as entry, witness.alone(key):
                entry.value = 3
            m.blocking_get_or_insert_with(key, partial(failing, dice), WAIT)
            m[key] = 1


def run_all(threads: ThreadPoolExecutor, rounds: int, seed: int) -> None:
    witness = Witness()
    loops: dict[str, Callable[..., Any]] = {"asyncio": on_asyncio, "trio": on_trio}
    futures = [
        threads.submit(RUNNERS[loop], partial(loops[loop], witness, rounds, seed + number))
        for number, loop in enumerate(["asyncio", "trio", "asyncio", "trio"])
    ]
    futures += [threads.submit(in_a_thread, witness, rounds, seed + number) for number in (4, 5)]
    results(futures)
    gc.collect()
    assert witness.faults == []
    assert_idle(witness.map)


def test_exclusion_holds_and_nobody_is_stranded_whatever_happens(threads: ThreadPoolExecutor, switching: None) -> None:
    run_all(threads, 40, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200, 10))
def test_exclusion_holds_and_nobody_is_stranded_for_long(
    threads: ThreadPoolExecutor, switching: None, seed: int
) -> None:
    run_all(threads, 300, seed)
