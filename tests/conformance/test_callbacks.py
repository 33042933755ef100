"""Functions that a user passes in: what is no plain function where one is wanted is refused, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asynclocks import ConcurrentMap, Condvar, LazyLock, Mutex, OnceCell, once


async def agrees(*_: object) -> bool:
    return True


def modify(stock: ConcurrentMap[str, Any]) -> None:
    with stock.try_entry("a") as entry:
        entry.and_modify(agrees)


@pytest.mark.parametrize(
    ("use", "who"),
    [
        (lambda stock: stock.remove_if("a", agrees), "remove_if(): predicate"),
        (lambda stock: stock.retain(agrees), "retain(): predicate"),
        (lambda stock: stock.alter("a", agrees), "alter(): change"),
        (lambda stock: stock.alter_all(agrees), "alter_all(): change"),
        (modify, "and_modify(): change"),
    ],
    ids=["remove_if", "retain", "alter", "alter_all", "and_modify"],
)
def test_a_map_refuses_a_coroutine_function_for_a_plain_one(use: Callable[[Any], object], who: str) -> None:
    """A coroutine is true, so `remove_if` would remove whatever it is given."""
    stock = ConcurrentMap({"a": 1})
    with pytest.raises(TypeError, match="plain function") as caught:
        use(stock)
    assert str(caught.value).startswith(who)
    assert stock == {"a": 1}


async def test_a_condition_that_is_a_coroutine_function_is_refused_and_the_mutex_still_held() -> None:
    """It would be true for ever."""
    mutex, condvar = Mutex(0), Condvar()
    async with mutex as guard:
        with pytest.raises(TypeError, match="wait_while\\(\\): condition"):
            await condvar.wait_while(guard, agrees)  # type: ignore[arg-type]
        assert not guard.released
    assert not mutex.locked()


async def test_a_coroutine_in_the_place_of_its_function_is_refused_by_name() -> None:
    """It could run once only, and whoever comes second has another."""
    cell: OnceCell[bool] = OnceCell()
    stock: ConcurrentMap[str, bool] = ConcurrentMap()
    with pytest.raises(TypeError, match="pass agrees, not agrees\\(\\)"):
        await cell.get_or_init(agrees())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="pass agrees, not agrees\\(\\)"):
        await stock.get_or_insert_with("a", agrees())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="pass agrees, not agrees\\(\\)"):
        LazyLock(agrees())  # type: ignore[arg-type]
    assert await cell.get_or_init(agrees)
    assert await stock.get_or_insert_with("a", agrees)


@pytest.mark.parametrize("decorate", [once, LazyLock])
def test_what_cannot_be_called_without_arguments_is_refused_when_decorating(decorate: Callable[[Any], Any]) -> None:
    async def wants_one(number: int) -> int:
        return number

    async def may_take(number: int = 1, *rest: int, **more: int) -> int:
        return number

    with pytest.raises(TypeError, match="wants 'number'; for one result for each argument use ConcurrentMap"):
        decorate(wants_one)
    with pytest.raises(TypeError, match="takes a function without arguments, not 3"):
        decorate(3)
    decorate(may_take)
    decorate(dict)  # of some built-in ones nobody can tell
