"""What one more in line costs does not grow with the line: counted in lines that the library runs, not in time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Self

import pytest

from asynclocks import DeadlockError, Mutex, RwLock
from tests.native.striking import HERE


class Lines:
    """How many lines the library runs in ``with``."""

    def __enter__(self) -> Self:
        self.count = 0
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(HERE):
            return None
        self.count += event == "line"
        return self._trace


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def hold(taking: Awaitable[Any], end: asyncio.Event) -> None:
    """Hold something besides, as most tasks do that are looked at."""
    async with Mutex():
        with await taking:
            await end.wait()


def reads(lock: RwLock[None]) -> Awaitable[Any]:
    return lock.read()


def reads_upgradably(lock: RwLock[None]) -> Awaitable[Any]:
    return lock.upgradable_read()


def writes(lock: RwLock[None]) -> Awaitable[Any]:
    return lock.write()


SCENES: dict[str, tuple[int, Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "upgradable reads behind one": (1 << 20, reads_upgradably, reads_upgradably, reads_upgradably),
    "reads beyond max_readers": (1, reads, reads, reads),
    "reads behind a writer": (1 << 20, reads, writes, reads),
}


async def lines_of_one_more(
    max_readers: int, first: Callable[[Any], Any], second: Callable[[Any], Any], more: Callable[[Any], Any], line: int
) -> int:
    lock, end = RwLock(max_readers=max_readers), asyncio.Event()
    tasks = [asyncio.ensure_future(hold(take(lock), end)) for take in (first, second)]
    await settled()
    tasks += [asyncio.ensure_future(hold(more(lock), end)) for _ in range(line)]
    await settled()
    with Lines() as lines:
        tasks.append(asyncio.ensure_future(hold(more(lock), end)))
        await settled()
    end.set()
    await asyncio.gather(*tasks)
    assert lock.statistics().waiting_readers == lock.statistics().waiting_writers == 0
    return lines.count


@pytest.mark.parametrize(("max_readers", "first", "second", "more"), SCENES.values(), ids=SCENES)
def test_one_more_in_line_costs_the_same_in_a_long_line(
    max_readers: int, first: Callable[[Any], Any], second: Callable[[Any], Any], more: Callable[[Any], Any]
) -> None:
    """The line is not walked, though the task holds something and is looked at for deadlocks."""
    short, long = (asyncio.run(lines_of_one_more(max_readers, first, second, more, line)) for line in (10, 300))
    assert short == long


def test_a_writer_behind_many_readers_costs_the_same() -> None:
    """Readers are asked one by one only as far as some will do."""

    async def lines(readers: int) -> int:
        lock, end = RwLock(), asyncio.Event()
        tasks = [asyncio.ensure_future(hold(lock.read(), end)) for _ in range(readers)]
        await settled()
        with Lines() as lines:
            tasks.append(asyncio.ensure_future(hold(lock.write(), end)))
            await settled()
        end.set()
        await asyncio.gather(*tasks)
        return lines.count

    assert asyncio.run(lines(20)) == asyncio.run(lines(400))


@pytest.mark.parametrize("place", [0, 50, 99])
def test_a_deadlock_with_one_of_many_readers_is_found(place: int) -> None:
    """Whoever of them waits for a lock itself is found by that, wherever it stands."""

    async def main() -> None:
        lock, mutex, end = RwLock(), Mutex(), asyncio.Event()
        found = []

        async def read_and_lock() -> None:
            async with lock.read():
                await asyncio.sleep(0)
                async with mutex:
                    pass

        async def lock_and_write() -> None:
            async with mutex:
                await settled()
                try:
                    async with lock.write():
                        pass
                except DeadlockError:
                    found.append(True)
                    end.set()

        writer = asyncio.ensure_future(lock_and_write())
        await asyncio.sleep(0)
        tasks = [asyncio.ensure_future(hold(lock.read(), end)) for _ in range(100)]
        tasks[place] = asyncio.ensure_future(read_and_lock())
        await asyncio.wait_for(asyncio.gather(writer, *tasks), 10)
        assert found

    asyncio.run(main())
