"""Refs: shared holds on a key."""

from __future__ import annotations

from collections.abc import Coroutine, Hashable
from typing import Any, Generic, TypeVar, cast
from weakref import ref

from asynclocks import backends
from asynclocks._engine.acquisition import Block, new_object, unused
from asynclocks._engine.deadline import deadline_of
from asynclocks._engine.guards import LooseGuard
from asynclocks.backends import thread_local
from asynclocks.concurrent_map.keys import SHARED, KeyName

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Ref(LooseGuard, Generic[K, V]):
    """A shared hold on one key: while anybody has one, nobody writes the key."""

    __slots__ = ("__weakref__", "_hold")

    @property
    def key(self) -> K:
        """The key it holds, or held."""
        return cast(K, self._hold.synchronizer.key)

    @property
    def value(self) -> V:
        """The value. Raises GuardReleasedError after the release."""
        if self.released:
            self._refuse()
        return cast(V, self._hold.synchronizer.map[self.key])


class RefBlock(Block[Ref[Any, Any]]):
    """What ``map.ref(key)`` returns."""

    __slots__ = ("_key", "_map", "_timeout")

    _what = "ref()"
    _key: Any
    _map: Any
    _timeout: float | None

    @property
    def _of(self) -> KeyName:  # type: ignore[override]  # said where somebody asks
        return KeyName(self._map, self._key)

    def _now(self) -> Ref[Any, Any] | None:
        if thread_local.name is not None:
            return None
        try:
            task = backends.hint()
        except RuntimeError:  # not asyncio
            return None
        if task is None:
            return None
        guard: Ref[Any, Any] = Ref()
        guard._hold = hold = self._map._hold_now(self._key, SHARED, ref(task))
        return None if hold is None else self._map._checked(guard)

    def _later(self) -> Coroutine[Any, Any, Ref[Any, Any]]:
        return self._map._ref(self._key, deadline_of(self._timeout))  # type: ignore[no-any-return]


def ref_block(of: object, key: object, timeout: float | None) -> RefBlock:
    """A new one.

    Raises:
        TypeError: `timeout` is no number.
        ValueError: `timeout` is not a number (NaN).
    """
    if timeout is not None and not timeout >= 0:
        deadline_of(timeout)
    block: RefBlock = new_object(RefBlock)
    block._map = of
    block._key = key
    block._timeout = timeout
    block._take = unused
    return block
