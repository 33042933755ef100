"""What a type checker must see of OnceCell, LazyLock and once; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, assert_type

from asynclocks import LazyLock, OnceCell, OnceCellStatistics, OnceLock, detached, once


async def fetch() -> int:
    """A coroutine function makes the value."""
    return 1


def count() -> int:
    """A plain function does too."""
    return 1


async def a_cell_knows_its_value() -> None:
    cell = OnceCell("text")
    assert_type(cell, OnceCell[str])
    assert_type(cell.get(), str)
    assert_type(cell.get(None), str | None)
    assert_type(cell.get(0), str | int)
    assert_type(cell.take(), str)
    assert_type(cell.initialized(), bool)
    assert_type(await cell.wait(), str)
    assert_type(cell.statistics(), OnceCellStatistics)
    cell.set(1)  # pyright: ignore[reportArgumentType]


async def an_initializer_is_of_either_kind() -> None:
    cell: OnceCell[int] = OnceCell()
    assert_type(await cell.get_or_init(fetch), int)
    assert_type(await cell.get_or_init(count), int)
    assert_type(cell.blocking_get_or_init(count, timeout=1), int)
    cell.blocking_get_or_init(fetch)  # pyright: ignore[reportArgumentType]
    await cell.get_or_init(str)  # pyright: ignore[reportArgumentType]
    await cell.get_or_init(lambda one: one)  # pyright: ignore[reportArgumentType, reportUnknownLambdaType]
    locked: OnceLock[int] = cell  # the same class by std's name
    assert_type(locked, OnceCell[int])


async def a_lazy_lock_takes_its_type_from_its_initializer() -> None:
    assert_type(LazyLock(fetch), LazyLock[int])
    lazy = LazyLock(count)
    assert_type(lazy, LazyLock[int])
    assert_type(await lazy, int)
    assert_type(await LazyLock(fetch), int)
    assert_type(lazy.get(), int)
    assert_type(lazy.blocking_get(timeout=None), int)
    LazyLock(1)  # pyright: ignore[reportCallIssue, reportArgumentType]


@once
async def answer() -> int:
    """Once keeps what it decorates."""
    return 42


async def once_keeps_the_signature() -> None:
    assert_type(answer, Callable[[], Coroutine[Any, Any, int]])
    assert_type(await answer(), int)
    await answer(1)  # pyright: ignore[reportCallIssue]


@once  # pyright: ignore[reportArgumentType]
async def with_an_argument(one: int) -> int:
    """Whose result would it keep?"""
    return one


@once  # pyright: ignore[reportArgumentType]
def no_coroutine_function() -> int:
    """Plain functions have functools.cache."""
    return 1


async def initializers_of_every_kind_are_told_apart() -> None:
    cell: OnceCell[int] = OnceCell()
    assert_type(await cell.get_or_init(lambda: fetch_item("one")), int)
    assert_type(await cell.get_or_init(partial(fetch_item, "one")), int)
    assert_type(await cell.get_or_init(lambda: 1), int)
    several: OnceCell[list[int] | None] = OnceCell()
    assert_type(await several.get_or_init(list), list[int] | None)
    assert_type(await several.get_or_init(lambda: None), list[int] | None)


async def fetch_item(item: str) -> int:
    """With an argument, for `partial` and lambdas."""
    return len(item)


async def keyed(key: str, number: int = 0) -> bytes:
    """With arguments, for `detached`."""
    return key.encode() * number


async def detached_functions_keep_their_types() -> None:
    assert_type(await detached(fetch)(), int)
    assert_type(await detached(count)(), int)
    assert_type(await detached(keyed)("key", number=1), bytes)
    await detached(keyed)(1)  # pyright: ignore[reportArgumentType]
    cell: OnceCell[int] = OnceCell()
    assert_type(await cell.get_or_init(detached(fetch)), int)
    detached(1)  # pyright: ignore[reportCallIssue, reportArgumentType]
