"""Functions that a user passes in, and what goes wrong with them where nobody would be told."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, isawaitable, iscoroutine, signature
from types import CoroutineType
from typing import Any, TypeVar

T = TypeVar("T")


def no_coroutine(value: T, who: str) -> T:
    """What a callback returned, if it is no coroutine: as an answer that would be true, as a value never awaited.

    Raises:
        TypeError: it is one.
    """
    if isinstance(value, CoroutineType):
        value.close()  # or it would warn that nobody awaited it
        raise TypeError(f"{who} returned a coroutine, which is not awaited here; give a plain function")
    return value


def refuse_awaitable(value: Any, what: str, instead: str) -> None:
    """Refuse what `init` returned in a plain thread, if nobody can await it there.

    Raises:
        TypeError: it is awaitable.
    """
    if not isawaitable(value):
        return
    if iscoroutine(value):
        value.close()  # or it would warn that nobody awaited it
    raise TypeError(
        f"{what}: init returned {type(value).__name__}, an awaitable, and a plain thread cannot await; "
        f"give it a plain function, or use {instead} in a task"
    )


def check_init(init: Any, what: str) -> None:
    """Refuse what cannot be called, say a coroutine in the place of its function.

    Raises:
        TypeError: it cannot be called.
    """
    if callable(init):
        return
    if iscoroutine(init):
        init.close()
        raise TypeError(f"{what} takes a function, not a coroutine: pass {init.__name__}, not {init.__name__}()")
    raise TypeError(f"{what} takes a function without arguments, not {init!r}")


def check_takes_nothing(function: Callable[..., Any], what: str) -> None:
    """Refuse a function that cannot be called without arguments.

    Raises:
        TypeError: it cannot be called, or not without arguments.
    """
    check_init(function, what)
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C, perhaps
        return
    for one in parameters:
        if one.default is Parameter.empty and one.kind not in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}:
            raise TypeError(
                f"{what} takes a function without arguments, and {function!r} wants {one.name!r}; "
                "for one result for each argument use ConcurrentMap.get_or_insert_with()"
            )
