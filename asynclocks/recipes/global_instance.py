"""Global: a process-wide instance that can be swapped (octocrab's ``initialise`` and ``instance``)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from threading import RLock
from typing import Final, Generic, TypeVar

from asynclocks._forks import freed_in_child
from asynclocks._inside import locked

T = TypeVar("T")


class _Mark(Enum):
    NOTHING = "neither given nor built"


NOTHING: Final = _Mark.NOTHING


class Global(Generic[T]):
    """A process-wide instance that can be swapped, from any thread and any loop.

    >>> client = Global(lambda: "nobody")
    >>> client.instance()
    'nobody'
    >>> client.initialise("somebody")
    'nobody'
    >>> client.instance()
    'somebody'
    """

    def __init__(self, default: Callable[[], T]) -> None:
        self._default = default
        self._building = False
        self._value: T | _Mark = NOTHING
        # Both functions are synchronous and must work where a loop runs. Re-entrant: a finalizer may come back here.
        self._lock = freed_in_child(RLock())

    def initialise(self, value: T) -> T | None:
        """Put `value` in place; the previous one, None if there was none."""
        previous = self._swap(value)
        return None if previous is NOTHING else previous

    @locked
    def _swap(self, value: T) -> T | _Mark:
        previous, self._value = self._value, value
        return previous

    def instance(self) -> T:
        """The one given last. If none was given, the default, built on first use, once; a failed build is no use.

        Raises:
            RuntimeError: `default` itself asks for the instance.
        """
        value = self._value
        return self._build() if value is NOTHING else value

    @locked
    def _build(self) -> T:
        if self._value is NOTHING:
            if self._building:
                raise RuntimeError(f"{self!r}: its default asks for the instance that it is to build")
            self._building = True
            try:
                built = self._default()
            finally:
                self._building = False
            if self._value is NOTHING:  # else `default` called initialise(), which is explicit and wins
                self._value = built
        return self._value

    def __repr__(self) -> str:
        value = self._value
        return f"<Global {'not built yet' if value is NOTHING else type(value).__name__}>"

    def __reduce__(self) -> str:
        raise TypeError(f"cannot pickle or copy {self!r}: there is one in a process")
