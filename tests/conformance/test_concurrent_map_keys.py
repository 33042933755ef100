"""ConcurrentMap with keys whose hash and equality are the user's own, and may raise at any call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from asynclocks import ConcurrentMap, KeyLockedError
from tests.conformance.test_concurrent_map import Key, assert_idle

Map = ConcurrentMap[Any, Any]


class Unstable(ValueError):
    """What an unstable key raises."""


class UnstableKey:
    """Keys that all collide; the n-th look at any of them raises."""

    raise_in = 0  # looks; 0: never

    def __init__(self, number: int) -> None:
        self.number = number

    @classmethod
    def look(cls) -> None:
        cls.raise_in -= 1
        if cls.raise_in == 0:
            raise Unstable

    def __hash__(self) -> int:
        self.look()
        return 1

    def __eq__(self, other: object) -> bool:
        self.look()
        return isinstance(other, UnstableKey) and other.number == self.number


PRESENT, ABSENT = partial(UnstableKey, 1), partial(UnstableKey, 7)


async def block(m: Map, key: Callable[[], object]) -> None:
    async with m.entry(key()) as entry:
        entry.value = "new"


async def removing_block(m: Map) -> None:
    async with m.entry(PRESENT()) as entry:
        entry.remove()


async def awaited_entry(m: Map) -> None:
    with await m.entry(PRESENT()) as entry:
        entry.value = "new"


async def ref(m: Map) -> None:
    async with m.ref(PRESENT()) as held:
        assert held.value == 1


async def compute(m: Map) -> None:
    async def change(_: Any) -> str:
        return "new"

    await m.compute(PRESENT(), change)


async def flight(m: Map) -> None:
    await m.get_or_insert_with(ABSENT(), lambda: "new")


def at_once(call: Callable[[Map], object]) -> Callable[[Map], Awaitable[None]]:
    async def use(m: Map) -> None:
        call(m)

    return use


USES: dict[str, Callable[[Map], Awaitable[None]]] = {
    "setitem": at_once(lambda m: m.__setitem__(PRESENT(), "new")),
    "insert": at_once(lambda m: m.insert(ABSENT(), "new")),
    "remove": at_once(lambda m: m.remove(PRESENT())),
    "setdefault": at_once(lambda m: m.setdefault(ABSENT(), "new")),
    "alter": at_once(lambda m: m.alter(PRESENT(), lambda _: "new")),
    "remove_if": at_once(lambda m: m.remove_if(PRESENT(), lambda _: True)),
    "snapshot": at_once(lambda m: m.snapshot()),
    "try_entry": at_once(lambda m: m.try_entry(PRESENT()).release()),
    "try_ref": at_once(lambda m: m.try_ref(PRESENT()).release()),
    "entry": partial(block, key=PRESENT),
    "entry of an absent key": partial(block, key=ABSENT),
    "entry that removes": removing_block,
    "awaited entry": awaited_entry,
    "ref": ref,
    "compute": compute,
    "get_or_insert_with": flight,
}


def new_map() -> Map:
    UnstableKey.raise_in = 0
    return ConcurrentMap((UnstableKey(number), number) for number in range(4))


def contents(m: Map) -> list[tuple[int, Any]]:
    UnstableKey.raise_in = 0
    return [(key.number, value) for key, value in m.items()]


@pytest.mark.parametrize("others_held", [False, True], ids=["free", "another key held"])
@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
async def test_a_key_that_raises_at_any_look_leaves_all_or_nothing_and_no_key_held(
    use: Callable[[Map], Awaitable[None]], others_held: bool
) -> None:
    m = new_map()
    before = contents(m)
    await use(m)
    after = contents(m)
    looks = 0
    raised = True
    while raised:
        looks += 1
        m = new_map()
        other = m.try_entry(UnstableKey(9)) if others_held else None
        UnstableKey.raise_in = looks
        try:
            await use(m)
            raised = UnstableKey.raise_in <= 0  # in the end of an entry that was dropped, say
        except Unstable:
            raised = True
        assert contents(m) in (before, after)
        if other is not None:
            other.release()
        for number in (0, 1, 2, 3, 7):
            m.try_entry(UnstableKey(number)).release()
        assert_idle(m)
    assert looks > 1


def test_popitem_does_not_take_a_held_key_though_the_one_it_chose_is_gone() -> None:
    """The equality of the held key removes it."""
    m: Map = ConcurrentMap()
    held, newest = Key("held"), Key("newest")
    m[held], m[newest] = 1, 2

    def vanish() -> None:
        held.during = lambda: None
        del m[newest]

    with m.try_entry(held):
        held.during = vanish
        with pytest.raises(KeyLockedError):
            m.popitem()
        assert m.snapshot() == {held: 1}
    assert_idle(m)
