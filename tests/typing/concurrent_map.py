"""What a type checker must see of ConcurrentMap; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import partial
from typing import assert_type

from asynclocks import Acquisition, ConcurrentMap, ConcurrentMapStatistics, Entry, Ref, protocols


async def make() -> int:
    return 1


async def change(value: int | None) -> int | None:
    return value


async def a_map_knows_its_types() -> None:
    items: dict[str, int] = {}
    m = ConcurrentMap(items)
    assert_type(m, ConcurrentMap[str, int])
    assert_type(ConcurrentMap(list(items.items())), ConcurrentMap[str, int])
    mapping: MutableMapping[str, int] = m
    protocol: protocols.ConcurrentMap[str, int] = m
    assert mapping is protocol
    assert_type(m["a"], int)
    assert_type(m.get("a"), int | None)
    m["a"] = 2
    m["a"] = "no"  # pyright: ignore[reportArgumentType]
    m[1] = 1  # pyright: ignore[reportArgumentType]
    assert_type(m.insert("a", 1), int | None)
    assert_type(m.remove("a"), int)
    assert_type(m.remove("a", None), int | None)
    assert_type(m.pop("a"), int)
    assert_type(m.pop("a", "none"), int | str)
    assert_type(m.setdefault("a", 1), int)
    assert_type(m.popitem(), tuple[str, int])
    assert_type(m.remove_if("a", lambda value: value > 1), bool)
    assert_type(m.alter("a", lambda value: value + 1), int)
    assert_type(m.view("a", str), str | None)
    assert_type(m.snapshot(), dict[str, int])
    assert_type(m.copy(), ConcurrentMap[str, int])
    assert_type(m.statistics(), ConcurrentMapStatistics)
    assert_type(m.get("a", "none"), int | str)
    assert_type(list(m.items()), list[tuple[str, int]])
    assert_type(list(m), list[str])
    m.update({"a": 1})
    m.update([("a", 1)])
    m.alter_all(lambda key, value: value + len(key))
    m.alter_all(lambda key, value: key)  # pyright: ignore[reportArgumentType]
    m.retain(lambda key, value: len(key) > value)
    assert_type(m | {"b": 2}, ConcurrentMap[str, int])
    assert_type({"b": 2} | m, dict[str, int])


async def guards_know_their_types() -> None:
    m = ConcurrentMap({"a": 1})
    assert_type(m.entry("a"), Acquisition[Entry[str, int]])
    async with m.entry("a") as entry:
        assert_type(entry, Entry[str, int])
        assert_type(entry.key, str)
        assert_type(entry.value, int)
        entry.value = 2
        entry.value = "no"  # pyright: ignore[reportAttributeAccessIssue]
        entry.key = "b"  # pyright: ignore[reportAttributeAccessIssue]
        assert_type(entry.is_vacant, bool)
        assert_type(entry.get(), int | None)
        assert_type(entry.get("none"), int | str)
        assert_type(entry.or_insert(1), int)
        assert_type(await entry.or_insert_with(make), int)
        assert_type(await entry.or_insert_with(lambda: 1), int)
        assert_type(entry.and_modify(lambda value: value + 1), Entry[str, int])
        assert_type(entry.insert(1), int | None)
        assert_type(entry.remove(), int | None)
    assert_type(await m.entry("a"), Entry[str, int])
    assert_type(m.try_entry("a"), Entry[str, int])
    assert_type(m.blocking_entry("a", 1.5), Entry[str, int])
    async with m.ref("a") as ref:
        assert_type(ref, Ref[str, int])
        assert_type(ref.value, int)
        ref.value = 1  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(m.try_ref("a"), Ref[str, int])


async def flights_know_their_types() -> None:
    m = ConcurrentMap({"a": 1})
    assert_type(await m.get_or_insert_with("a", make), int)
    assert_type(await m.get_or_insert_with("a", lambda: 1), int)
    await m.get_or_insert_with("a", lambda: "no")  # pyright: ignore[reportArgumentType]
    assert_type(m.blocking_get_or_insert_with("a", lambda: 1, timeout=1), int)
    assert_type(await m.compute("a", change), int | None)


async def initializers_of_every_kind_are_told_apart() -> None:
    prices: ConcurrentMap[str, int] = ConcurrentMap()

    async def fetch(item: str) -> int:
        return len(item)

    assert_type(await prices.get_or_insert_with("tea", lambda: fetch("tea")), int)
    assert_type(await prices.get_or_insert_with("tea", partial(fetch, "tea")), int)
    assert_type(await prices.get_or_insert_with("tea", lambda: 1), int)
    async with prices.entry("tea") as entry:
        assert_type(await entry.or_insert_with(lambda: fetch("tea")), int)
        assert_type(await entry.or_insert_with(lambda: 1), int)
