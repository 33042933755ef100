"""Entries: exclusive holds on a key, which are transactions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Self, TypeVar, cast, overload

from asynclocks._engine.callbacks import no_coroutine
from asynclocks._engine.guards import shown_as
from asynclocks.backends.seam import made_by, uninterrupted
from asynclocks.concurrent_map.holds import KeyBlock, KeyGuard, LooseKeyGuard
from asynclocks.concurrent_map.keys import EXCLUSIVE, GONE, MISSING, UNCHANGED, UNUSED, Mark
from asynclocks.concurrent_map.steps import set_item

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R")


class Entry(KeyGuard[K, V]):
    """The exclusive hold on one key: a transaction.

    What it changes becomes visible to readers when the hold ends, by the end of the block or `release`. If
    the block raises or is cancelled, or the entry is dropped unreleased, none of it happens. (What was changed inside
    a mutable value cannot be rolled back.)
    """

    __slots__ = ()

    _request = EXCLUSIVE

    @property
    def value(self) -> V:
        """The value as this transaction sees it; setting it inserts or replaces.

        Raises:
            KeyError: the key is absent.
            GuardReleasedError: it let go already.
        """
        staged = self._staged
        if staged is UNCHANGED:
            return self._map[self._key]
        if staged.__class__ is not Mark:
            return cast(V, staged)
        if staged is not MISSING:
            self._refuse()
        raise KeyError(self._key)

    @value.setter
    def value(self, value: V) -> None:
        staged = self._staged
        if staged is GONE or staged is UNUSED:
            self._refuse()
        self._staged = value

    @property
    def is_vacant(self) -> bool:
        """Is the key absent, as this transaction sees it? Raises GuardReleasedError after the release."""
        return self._current() is MISSING

    @overload
    def get(self) -> V | None: ...
    @overload
    def get(self, default: R) -> V | R: ...
    def get(self, default: Any = None) -> Any:
        """The value, or `default` where there is none. Raises GuardReleasedError after the release."""
        value = self._current()
        return default if value is MISSING else value

    def or_insert(self, value: V) -> V:
        """The value that is there; `value`, inserted, where there is none. Raises GuardReleasedError."""
        present = self._current()
        if present is not MISSING:
            return cast(V, present)
        self.value = value
        return value

    async def or_insert_with(self, init: Callable[[], V] | Callable[[], Awaitable[V]]) -> V:
        """`or_insert` with what `init` returns or, if that is awaitable, with what awaiting it gives.

        Raises:
            GuardReleasedError: it let go already.
            DeadlockError: `init` waits for this very key.
        """
        present = self._current()
        if present is not MISSING:
            return cast(V, present)
        return self.or_insert(await made_by(init))

    def and_modify(self, change: Callable[[V], V]) -> Self:
        """Replace the value by what `change` makes of it; nothing where there is none. Raises GuardReleasedError."""
        value = self._current()
        if value is not MISSING:
            self.value = no_coroutine(change(value), "and_modify(): change")
        return self

    def insert(self, value: V) -> V | None:
        """Set the value; the old one, None where there was none. Raises GuardReleasedError."""
        old = self.get()
        self.value = value
        return old

    def remove(self) -> V | None:
        """Remove the key; the old value, None where there was none. Raises GuardReleasedError."""
        old = self.get()
        self._staged = MISSING
        return old

    def _current(self) -> Any:
        staged = self._staged
        if staged is GONE or staged is UNUSED:
            self._refuse()
        return self._map.get(self._key, MISSING) if staged is UNCHANGED else staged


class LooseEntry(Entry[K, V], LooseKeyGuard[K, V]):
    """The entry of everything but ``async with map.entry(key)``."""

    __slots__ = ()


class EntryBlock(Entry[K, V], KeyBlock[K, V]):  # type: ignore[misc]  # `_of` is the guard's
    """What ``map.entry(key)`` returns."""

    __slots__ = ()

    _what = "entry()"
    _loose = LooseEntry

    @uninterrupted
    async def __aexit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:  # noqa: C901  # in one go
        if exc_type is not None:
            try:
                self._roll_back(exc_type)
            except BaseException:
                self._roll_back(exc_type)  # nobody else would
                raise
            return
        # `_finish`, in one go for what is usual.
        of = self._map
        token = of._token
        _in_map: Any = of
        usual = False
        try:
            del token[0]
        except IndexError:
            _in_map = None
        else:
            try:
                staged = self._staged
                if self._hold is None and staged is not GONE and staged is not MISSING:
                    usual = True
                    self._staged = GONE
                    key = self._key
                    if staged is not UNCHANGED:
                        old = of.get(key)  # noqa: F841 - kept until the lock is free
                        set_item(of, key, staged)
                    held = of._held
                    if len(held) == 1:
                        held.clear()
                    else:
                        del held[key]
            finally:
                token += (_in_map := (None,))
                if of._deferred:
                    of._catch_up()
        if not usual:
            try:
                self._finish(commit=True)
            except BaseException:
                self._finish(commit=True)  # nobody else would
                raise


shown_as("Entry", LooseEntry, EntryBlock)
