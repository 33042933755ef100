"""The dict in a ConcurrentMap: what tasks and threads share without waiting.

The map *is* a dict that holds committed values and nothing else, so reading costs what reading a dict costs. Its
writes are overridden: they take one short lock (`lock`) and refuse a key that somebody holds. Who holds or awaits
a key stands in a second dict, the table (`_held`), and only so long; see `keys`. What is done inside the lock
is `steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from reprlib import recursive_repr
from typing import Any, Self, TypeVar, cast, overload

from asynclocks._engine.callbacks import no_coroutine
from asynclocks.backends import in_words, owner_here
from asynclocks.backends.seam import uninterrupted
from asynclocks.concurrent_map.keys import MISSING
from asynclocks.concurrent_map.steps import KeyHeld, SteppingDict, set_item
from asynclocks.exceptions import KeyLockedError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R")
K2 = TypeVar("K2", bound=Hashable)
V2 = TypeVar("V2")

_keys, _len = dict.keys, dict.__len__  # dict's own, for what is overridden here

MOST_TRIES = 10_000  # of a callback that looks at what others change meanwhile


class SharedDict(SteppingDict[K, V]):
    """What of a ConcurrentMap needs no loop: reads, synchronous writes, snapshots."""

    __slots__ = ()

    @overload
    def __init__(self, /) -> None: ...
    @overload
    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]], /) -> None: ...
    def __init__(self, items: Any = (), /) -> None:
        super().__init__(_plain(items))

    # Writes to one key.
    @uninterrupted
    def __setitem__(self, key: K, value: V) -> None:
        # `_write`, in one go.
        token = self._token
        _in_map: Any = self
        try:
            del token[0]
        except IndexError:
            _in_map = None
            self._write("m[key] = value", key, value)
            return
        try:
            if not self._held or not self._is_held(key):
                old = self.get(key)  # noqa: F841 - kept until the lock is free
                set_item(self, key, value)
                return
        finally:
            token += (_in_map := (None,))
            if self._deferred:
                self._catch_up()
        raise self._refusal("m[key] = value", key)

    def __delitem__(self, key: K) -> None:
        if self._write("del m[key]", key, MISSING) is MISSING:
            raise KeyError(key)

    def insert(self, key: K, value: V) -> V | None:
        """Set `key` to `value`; the old value, None where there was none.

        Raises:
            KeyLockedError: somebody holds the key.
        """
        old = self._write("insert()", key, value)
        return None if old is MISSING else old

    @overload
    def remove(self, key: K) -> V: ...
    @overload
    def remove(self, key: K, default: R) -> V | R: ...
    def remove(self, key: K, default: Any = MISSING) -> Any:
        """Remove `key`; its value, or `default` where there is none.

        Raises:
            KeyError: it is absent, and no default is given.
            KeyLockedError: somebody holds the key, present or absent.
        """
        old = self._write("remove()", key, MISSING)
        if old is not MISSING:
            return old
        if default is MISSING:
            raise KeyError(key)
        return default

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: R) -> V | R: ...
    def pop(self, key: K, default: Any = MISSING) -> Any:
        """`remove`, as dict spells it."""
        return self.remove(key, default)

    @overload
    def setdefault(self: SharedDict[K, R | None], key: K, default: None = None) -> R | None: ...
    @overload
    def setdefault(self, key: K, default: V) -> V: ...
    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value of `key`; `default`, inserted, where there is none.

        Raises:
            KeyLockedError: it is absent, and somebody holds it.
        """
        return self._locked("setdefault()", self._set_default, key, default)

    def popitem(self) -> tuple[K, V]:
        """Remove and return the newest item that nobody holds.

        Raises:
            KeyError: the map is empty.
            KeyLockedError: only held keys are left.
        """
        return self._locked("popitem()", self._pop_item)

    def remove_if(self, key: K, predicate: Callable[[V], bool]) -> bool:
        """Remove `key` if its value satisfies `predicate`. True: it did.

        `predicate` runs without the lock, and once more if somebody changed the value meanwhile.

        Raises:
            KeyLockedError: somebody holds the key.
        """
        tries = 0
        while True:
            tries = self._once_more("remove_if()", tries)
            value = self._locked("remove_if()", self._look, key)
            if value is MISSING or not no_coroutine(predicate(value), "remove_if(): predicate"):
                return False
            if self._locked("remove_if()", self._replace, key, value, MISSING):
                return True

    def alter(self, key: K, change: Callable[[V], V]) -> V:
        """Replace the value of `key` by what `change` makes of it, and return that.

        `change` runs without the lock, and once more if somebody changed the value meanwhile. If it
        raises, nothing changes.

        Raises:
            KeyError: the key is absent.
            KeyLockedError: somebody holds it.
        """
        tries = 0
        while True:
            tries = self._once_more("alter()", tries)
            value = self._locked("alter()", self._look, key)
            if value is MISSING:
                raise KeyError(key)
            new = no_coroutine(change(value), "alter(): change")
            if self._locked("alter()", self._replace, key, value, new):
                return new

    # Writes to many keys: all or nothing.
    def update(self, items: Any = (), /, **more: V) -> None:
        """Set all these items, as dict does, or none.

        Raises:
            KeyLockedError: somebody holds a key that this would change.
        """
        new = dict(_plain(items), **more)
        old = self._locked("update()", self._put_all, new)
        del old

    def clear(self) -> None:
        """Remove everything, or nothing.

        Raises:
            KeyLockedError: somebody holds a key that is present.
        """
        old = self._locked("clear()", self._clear_all)
        del old

    def alter_all(self, change: Callable[[K, V], V]) -> None:
        """Replace every value by what `change` makes of it, all at once or, if it raises, none.

        `change` runs without the lock, and once more for what somebody changed meanwhile.

        Raises:
            KeyLockedError: somebody holds a key whose value this would change.
        """

        def decide(key: K, value: V) -> Any:
            return no_coroutine(change(key, value), "alter_all(): change")

        self._change_all("alter_all()", decide)

    def retain(self, predicate: Callable[[K, V], bool]) -> None:
        """Keep only what satisfies `predicate`: the rest goes all at once or, if it raises, stays.

        `predicate` runs without the lock, and once more for what somebody changed meanwhile.

        Raises:
            KeyLockedError: somebody holds a key that this would remove.
        """

        def decide(key: K, value: V) -> Any:
            return value if no_coroutine(predicate(key, value), "retain(): predicate") else MISSING

        self._change_all("retain()", decide)

    # Reads: what is not here is dict's own.
    def view(self, key: K, read: Callable[[V], R]) -> R | None:
        """What `read` makes of the value of `key`; None where there is none."""
        value = self.get(key, MISSING)
        return None if value is MISSING else read(cast(V, value))

    def snapshot(self) -> dict[K, V]:
        """A plain dict of what is in the map at this moment."""
        # Not dict.copy: it asks a subclass with an `__iter__` of its own for its keys.
        return dict(zip(*self._inside(self._lists), strict=True))

    def copy(self) -> Self:
        """An independent map with the same items."""
        return type(self)(self.snapshot())

    __copy__ = copy

    def keys(self) -> KeysView[K]:  # type: ignore[override]
        """A view of the keys at this moment."""
        return self.snapshot().keys()

    def values(self) -> ValuesView[V]:  # type: ignore[override]
        """A view of the values at this moment."""
        return self.snapshot().values()

    def items(self) -> ItemsView[K, V]:  # type: ignore[override]
        """A view of the items at this moment."""
        return self.snapshot().items()

    def __iter__(self) -> Iterator[K]:
        return iter(self._inside(list, _keys(self)))

    def __reversed__(self) -> Iterator[K]:
        return reversed(self._inside(list, _keys(self)))

    def __len__(self) -> int:
        return self._inside(_len, self)  # not in the middle of a write to many keys

    def __eq__(self, other: object) -> bool:
        return bool(self.snapshot() == _plain(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]  # as dict has it

    @overload  # type: ignore[override, unused-ignore]  # 3.15 has frozendict
    def __or__(self, other: dict[K, V], /) -> Self: ...
    @overload
    def __or__(self, other: dict[K2, V2], /) -> SharedDict[K | K2, V | V2]: ...
    def __or__(self, other: Any) -> Any:
        return type(self)(self.snapshot() | _plain(other)) if isinstance(other, dict) else NotImplemented

    @overload  # type: ignore[override, unused-ignore]  # 3.15 has frozendict
    def __ror__(self, other: dict[K, V], /) -> dict[K, V]: ...
    @overload
    def __ror__(self, other: dict[K2, V2], /) -> dict[K | K2, V | V2]: ...
    def __ror__(self, other: Any) -> Any:
        return other | self.snapshot() if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]  # it takes pairs too, as dict's does
        self.update(other)
        return self

    @recursive_repr()
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.snapshot()!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            f"cannot pickle or deepcopy {self._title()}: tasks of this process share it; "
            "pass the map itself, or take its snapshot()"
        )

    def _once_more(self, what: str, tries: int) -> int:
        """Count the tries of a callback that others were quicker than; so often only its own writes are."""
        if tries == MOST_TRIES:
            raise RuntimeError(
                f"{what} of {self._title()}: what its callback had seen was changed {tries} times before that could be "
                "committed; let the callback return what is to change, and not write it itself"
            )
        return tries + 1

    # The lock.
    def _locked(self, what: str, change: Callable[..., R], *args: Any) -> R:
        """`_inside` for a write that a held key may refuse."""
        try:
            return self._inside(change, *args)
        except KeyHeld as held:
            key = held.args[0]
        raise self._refusal(what, key)

    def _write(self, what: str, key: K, value: Any) -> Any:
        return self._locked(what, self._put_free, key, value)

    def _change_all(self, what: str, decide: Callable[[K, V], Any]) -> None:
        decided: dict[K, tuple[V, Any]] = {}  # key: value, and what becomes of it
        tries = 0
        while True:
            tries = self._once_more(what, tries)
            undecided = self._locked(what, self._commit, decided)
            if not undecided:
                return
            for key, value in undecided:
                decided[key] = value, decide(key, value)

    # For people.
    def _title(self) -> str:
        return f"{type(self).__name__} at {id(self):#x}"

    def _name_of_key(self, key: K) -> str:
        return f"key {key!r} of {self._title()}"

    def _refusal(self, what: str, key: K) -> KeyLockedError:
        item = self._held.get(key)
        owners = [task for owner in (item._owners() if item is not None else ()) if (task := owner()) is not None]
        me = owner_here()
        if me is not None and me() in owners:
            held = f"{what}: {self._name_of_key(key)} is held by this very {in_words(me())}"
            return KeyLockedError(f"{held}, whose next entry(key) would wait for itself; use what it has: the entry")
        names = ", ".join({in_words(owner) for owner in owners})
        return KeyLockedError(
            f"{what}: {self._name_of_key(key)} is held{' by ' * bool(names)}{names}; wait your turn with "
            "`async with map.entry(key)`, or with blocking_entry(key) in a plain thread, or try again later"
        )


def _plain(items: Any) -> Any:
    return items.snapshot() if isinstance(items, SharedDict) else items
