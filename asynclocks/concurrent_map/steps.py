"""The steps of a ConcurrentMap inside its lock: what each write changes, and what it refuses to.

No callback runs here, and no value is dropped: what a write replaces is handed out and goes when the lock is free. A
key's own ``__hash__``, ``__eq__`` and ``__del__`` cannot be kept out; nor can a collector's finalizer that happens to
run here. The lock is re-entrant for them, and what is read or written is read or written in one step of dict's own, so
what they do comes before it or after it. (A key whose ``__eq__`` raises in the middle of such a step stops it there, as
it stops dict's own update.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from itertools import chain, islice, repeat
from typing import Any, TypeVar

from asynclocks._engine.deadline import Deadline
from asynclocks._engine.ticket import Ticket
from asynclocks.concurrent_map.keys import MISSING
from asynclocks.concurrent_map.lock import LockedDict

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R")

# dict's own, for what a map overrides.
_clear, _keys, _len, _pop, _popitem = dict.clear, dict.keys, dict.__len__, dict.pop, dict.popitem
_reversed, _update, _values = dict.__reversed__, dict.update, dict.values
set_default: Callable[[Any, Any, Any], Any] = dict.setdefault
set_item: Callable[[Any, Any, Any], None] = dict.__setitem__


class KeyHeld(Exception):
    """Found inside the lock; KeyLockedError is raised outside, where it may ask the key for its repr."""


class SteppingDict(LockedDict[K, V]):
    """What is done inside the lock, by `_inside`."""

    __slots__ = ()

    # What entries and messages need of the map.
    async def _take(self, key: K, request: Any, deadline: Deadline | None) -> Ticket:
        raise NotImplementedError

    def _name_of_key(self, key: K) -> str:
        raise NotImplementedError

    def _check_free(self, key: K) -> None:
        if self._held and self._is_held(key):
            raise KeyHeld(key)

    def _put(self, key: K, value: Any) -> Any:
        """Set or, with MISSING, remove; the old value, for the caller to drop outside."""
        if value is not MISSING:
            old: Any = self.get(key, MISSING)
            set_item(self, key, value)
            return old
        old = _pop(self, key, MISSING)
        if old is not MISSING:
            self._shrink()
        return old

    def _shrink(self) -> None:
        if not _len(self):
            _clear(self)  # which frees what a large one took

    def _put_free(self, key: K, value: Any) -> Any:
        self._check_free(key)
        return self._put(key, value)

    def _look(self, key: K) -> Any:
        self._check_free(key)
        return self.get(key, MISSING)

    def _replace(self, key: K, expected: Any, value: Any) -> bool:
        if self._look(key) is not expected:
            return False
        self._put(key, value)  # the caller has the old value
        return True

    def _set_default(self, key: K, default: Any) -> Any:
        value = self.get(key, MISSING)
        if value is not MISSING:
            return value
        self._check_free(key)
        return set_default(self, key, default)

    def _pop_item(self) -> tuple[K, V]:
        while newest := _steadily(self._newest):
            if self._held and self._is_held(newest[0]):
                for key in newest[1:]:
                    if not self._is_held(key):
                        return key, _pop(self, key)
                raise KeyHeld(newest[0])
            item = _popitem(self)  # not `_pop`: it would leave a gap for the next one to look through
            if item[0] is newest[0]:
                self._shrink()
                return item
            set_item(self, *item)  # a finalizer removed the one that was found free
        raise KeyError("popitem(): the map is empty")

    def _newest(self) -> list[K]:
        """So many keys that one of them is free, if any is."""
        return list(islice(_reversed(self), len(self._held) + 1))

    def _put_all(self, new: dict[K, V]) -> list[Any]:
        if self._held:
            for key, value in new.items():
                if self.get(key, MISSING) is not value:
                    self._check_free(key)
        old = [self.get(key) for key in new]
        _update(self, new)
        return old

    def _lists(self) -> tuple[list[K], list[V]]:
        both: list[Any] = _steadily(self._keys_and_values)
        half = len(both) // 2
        return both[:half], both[half:]

    def _keys_and_values(self) -> list[Any]:
        # In one step: else a finalizer may come between the keys and the values.
        return list(chain(iter(_keys(self)), iter(_values(self))))

    def _clear_all(self) -> tuple[list[K], list[V]]:
        for key in list(self._held):
            if key in self:
                self._check_free(key)
        old = self._lists()
        _clear(self)
        return old

    def _commit(self, decided: dict[K, tuple[V, Any]]) -> list[tuple[K, V]]:
        """Change everything as decided; what is still to be decided, if anything is."""
        keys, values = self._lists()
        items = list(zip(keys, values, strict=True))
        undecided = [item for item in items if item[0] not in decided or decided[item[0]][0] is not item[1]]
        if not undecided:
            changes = {key: decided[key][1] for key, value in items if decided[key][1] is not value}
            for key in changes:
                self._check_free(key)
            self._put_each(changes)
        return undecided

    def _put_each(self, changes: dict[K, Any]) -> None:
        """Set these or, with MISSING, remove them; `decided` keeps what they drop."""
        removed = [key for key, new in changes.items() if new is MISSING]
        for key in removed:
            del changes[key]
        _update(self, changes)
        deque(map(_pop, repeat(self), removed, repeat(MISSING)), maxlen=0)
        self._shrink()


def _steadily(look: Callable[[], R]) -> R:
    """What an iteration saw when no finalizer came between its beginning and its only step."""
    while True:
        with suppress(RuntimeError):  # dict says that its size changed
            return look()
