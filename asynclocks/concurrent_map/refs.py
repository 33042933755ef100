"""Refs: shared holds on a key."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar

from asynclocks._engine.guards import give_back, shown_as
from asynclocks._engine.ticket import GRANTED
from asynclocks.backends.seam import uninterrupted
from asynclocks.concurrent_map.holds import KeyBlock, KeyGuard, LooseKeyGuard
from asynclocks.concurrent_map.keys import GONE, SHARED, UNCHANGED

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Ref(KeyGuard[K, V]):
    """A shared hold on one key: while anybody has one, nobody writes the key."""

    __slots__ = ()

    _request = SHARED

    @property
    def value(self) -> V:
        """The value. Raises GuardReleasedError after the release."""
        if self.released:
            self._refuse()
        return self._map[self._key]

    def _check(self) -> None:
        try:
            self._map[self._key]
        except BaseException:  # perhaps the key's own __eq__ raises
            self._finish(commit=False)
            raise


class LooseRef(Ref[K, V], LooseKeyGuard[K, V]):
    """The ref of everything but ``async with map.ref(key)``."""

    __slots__ = ()

    @property
    def released(self) -> bool:
        return self._hold.state is not GRANTED

    @uninterrupted
    def _finish(self, commit: bool) -> bool:  # there is nothing to commit
        return self._map._end_hold(self._hold)


class RefBlock(Ref[K, V], KeyBlock[K, V]):  # type: ignore[misc]  # `_of` is the guard's
    """What ``map.ref(key)`` returns."""

    __slots__ = ()

    _what = "ref()"
    _loose = LooseRef

    @uninterrupted
    def _finish(self, commit: bool) -> bool:  # there is nothing to commit
        if self._staged is not UNCHANGED:
            return False
        of = self._map
        token = of._token
        _in_map: Any = of
        try:
            del token[0]
        except IndexError:  # wait for nobody: this is a finalizer perhaps
            _in_map = None
            self._staged = GONE  # as good as none, unless it gets a line in this moment
            of._clean_up_surely(self)
            return True
        try:
            if self._staged is not UNCHANGED:  # another thread was quicker
                return False
            if self._hold is None:
                held = of._held
                key = self._key
                self._staged = GONE
                if len(held) == 1:
                    held.clear()
                else:
                    del held[key]
                return True
        finally:
            token += (_in_map := (None,))
            if of._deferred:
                of._catch_up()
        ended = give_back(self._hold)
        self._staged = GONE
        return ended

    @uninterrupted
    async def __aexit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:
        try:
            if exc_type is GeneratorExit:
                self._roll_back(exc_type)
            else:
                self._finish(commit=False)
        except BaseException:
            self._roll_back(exc_type)  # nobody else would
            raise


shown_as("Ref", LooseRef, RefBlock)
