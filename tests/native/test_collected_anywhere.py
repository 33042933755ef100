"""A holder that the collector destroys between any two instructions of the library, in the thread that runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from operator import methodcaller
from typing import Any

import pytest

import asynclocks
from asynclocks import Mutex, RwLock, Semaphore, WouldBlock
from asynclocks.backends import threads
from tests.native.striking import Striking
from tests.native.threaded import elsewhere

Waiting = Coroutine[Any, Any, Any]


class Kind:
    """A primitive, and how one at a time has it."""

    def __init__(self, make: Callable[[], Any], block: Callable[[Any], Any], take: str, try_take: str) -> None:
        self.make = make
        self.block = block
        self.take, self.try_take = methodcaller(take), methodcaller(try_take)


MUTEX = Kind(Mutex, lambda mutex: mutex, "lock", "try_lock")
SEMAPHORE = Kind(lambda: Semaphore(1), lambda semaphore: semaphore, "acquire", "try_acquire")
RWLOCK = Kind(RwLock, RwLock.write, "write", "try_write")


async def hold_by_block(kind: Kind, primitive: Any) -> None:
    async with kind.block(primitive):
        await asyncio.get_running_loop().create_future()


async def hold_by_guard(kind: Kind, primitive: Any) -> None:
    with kind.try_take(primitive):
        await asyncio.get_running_loop().create_future()


async def hold_by_nothing(kind: Kind, primitive: Any) -> None:
    guard = kind.try_take(primitive)
    await asyncio.get_running_loop().create_future()
    guard.release()


async def take(kind: Kind, primitive: Any) -> Any:
    return await kind.take(primitive)


async def begin(coroutine: Waiting) -> Waiting:
    """Run it as far as it goes, in a task of its own; nobody will run it on."""
    coroutine.send(None)
    return coroutine


def granted(waiting: Waiting) -> Any:
    """What it was granted: it must not wait any more."""
    try:
        waiting.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("nobody served it")


def arrive(kind: Kind, primitive: Any, first: Waiting) -> list[Waiting]:
    arrival = take(kind, primitive)
    arrival.send(None)
    return [first, arrival]


def leave(kind: Kind, primitive: Any, first: Waiting) -> list[Waiting]:
    first.close()
    return []


def look(kind: Kind, primitive: Any, first: Waiting) -> list[Waiting]:
    with pytest.raises(WouldBlock):
        kind.try_take(primitive)
    return [first]


@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
@pytest.mark.parametrize("act", [arrive, leave, look])
@pytest.mark.parametrize("hold", [hold_by_block, hold_by_guard, hold_by_nothing])
@pytest.mark.parametrize("kind", [MUTEX, SEMAPHORE, RWLOCK], ids=["mutex", "semaphore", "rwlock"])
def test_a_holder_collected_between_any_two_instructions_lets_the_line_go_on(
    kind: Kind, hold: Callable[[Kind, Any], Waiting], act: Callable[[Kind, Any, Waiting], list[Waiting]]
) -> None:
    """Nobody is lost, nobody is served twice, and in the end the lock is free."""

    async def run(step: int) -> int:
        primitive = kind.make()
        holder = await asyncio.ensure_future(begin(hold(kind, primitive)))
        first = await asyncio.ensure_future(begin(take(kind, primitive)))
        striking = Striking(step, holder.close)
        with striking:
            line = act(kind, primitive, first)
        holder.close()
        for waiting in line:
            guard = granted(waiting)
            with pytest.raises(WouldBlock):
                kind.try_take(primitive)
            guard.release()
        kind.try_take(primitive).release()
        return striking.left

    step, left = 0, 0
    while left <= 0:
        step += 1
        try:
            left = asyncio.run(run(step))
        except AssertionError as error:
            raise AssertionError(f"collected before instruction {step}") from error
    assert step > 20 or (asynclocks.compiled and kind is not RWLOCK)  # in C there is nothing between: test_compiled.py


def test_a_thread_that_is_named_while_it_names_itself_has_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the collector destroys in a thread's first use of the library may use the library as well."""
    named: list[Any] = []

    class Interrupted(threads.PlainThread):
        def __init__(self) -> None:
            super().__init__()
            if not named:
                named.append(None)
                named[0] = threads.this_thread()

    def name() -> None:
        named.extend([threads.this_thread(), threads.this_thread()])

    monkeypatch.setattr(threads, "PlainThread", Interrupted)
    elsewhere(name)
    assert len(named) == 3
    assert len(set(map(id, named))) == 1
