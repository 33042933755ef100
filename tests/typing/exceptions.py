"""What a type checker must see; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from typing import assert_type

from asynclocks import AlreadyInitializedError, SetError


def refused(error: SetError[int]) -> None:
    assert_type(error.value, int)


def refused_is_caught_as_its_base(error: AlreadyInitializedError[str]) -> None:
    assert_type(error.value, str)
    refused(error)  # pyright: ignore[reportArgumentType]  # a str was refused, not an int
