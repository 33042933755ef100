"""Names that other libraries have and ours do not: asking for one says what to use instead."""

from __future__ import annotations

from typing import NoReturn


class Absent:
    """A class attribute that is not there, with a reason. `hasattr` says False, as for any name that is not there.

    No ``__getattr__``: on 3.11 a class that has one finds all of its other attributes several times as slowly.
    """

    def __init__(self, instead: str) -> None:
        self._instead = instead

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r}: {self._instead}")
