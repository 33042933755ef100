"""ConcurrentMap: a dict shared by tasks and threads, with guards per key and single flight (after DashMap and moka).

The map *is* a dict that holds committed values and nothing else, so reading costs what reading a dict costs. Its
writes are overridden: they take one short lock and refuse a key that somebody holds. Who holds or awaits a key stands
in a second dict, the table (`_held`), and only so long; see `_map_keys`.

Inside the lock runs no callback, and nothing of the user's is dropped there: what a write replaces is handed out and
goes when the lock is free. A key's own ``__hash__`` and ``__eq__`` cannot be kept out; nor can a collector's
finalizer that happens to run there. The lock is re-entrant for them, and each write ends with one step
of dict's own, so what they do comes before it or after it.
"""

from __future__ import annotations

import math
from _thread import RLock
from collections.abc import Awaitable, Callable, Hashable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from functools import partial
from inspect import isawaitable, iscoroutine
from reprlib import recursive_repr
from time import monotonic
from typing import Any, NoReturn, Self, TypeVar, cast, overload

import attrs

from asynclocks import backends
from asynclocks._flights import LEAD, Flight, Outcome
from asynclocks._guards import Acquisition, give_back
from asynclocks._map_entries import Entry, EntryBlock, LooseEntry, Ref, new_object, set_item
from asynclocks._map_keys import EXCLUSIVE, FLIGHT, MISSING, SHARED, UNUSED, KeyLock
from asynclocks._synchronizer import QueuedSynchronizer, Ticket, weakly
from asynclocks.backends import blocking_parker, running_task, task_name, whose_turn
from asynclocks.exceptions import KeyLockedError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R")

# dict's own, for what is overridden here.
_clear, _items, _keys, _len, _pop = dict.clear, dict.items, dict.keys, dict.__len__, dict.pop
_reversed, _update, _values = dict.__reversed__, dict.update, dict.values


class _KeyHeld(Exception):
    """Found inside the lock; KeyLockedError is raised outside, where it may ask the key for its repr."""


@attrs.frozen
class ConcurrentMapStatistics:
    """A ConcurrentMap at one moment."""

    size: int
    locked_keys: int  # held by a guard, or being initialized
    waiting: int


class ConcurrentMap(dict[K, V]):
    """A dict shared by tasks and threads, with per-key guards and single-flight initialization.

    Reads never wait and never fail: they see the last committed value. A synchronous write to a key that somebody
    holds (an `Entry`, a `Ref`, a running ``init`` or ``compute``) raises KeyLockedError; ``async with
    map.entry(key)`` waits its turn. Iteration, ``len``, views, ``repr`` and ``==`` work on a consistent
    snapshot, so the map may be changed meanwhile.

    To share it, pass the map itself; `copy` is an independent map. It cannot be pickled or deep-copied: do that to its
    `snapshot`. ``json.dumps`` takes it as a dict. ``dict(map)`` looks at one key after the other and may fail
    while others are removed: `snapshot` does not.

    >>> import asyncio
    >>> async def main():
    ...     stock = ConcurrentMap({"apples": 3})
    ...     async with stock.entry("apples") as entry:
    ...         entry.value -= 1
    ...     pears = await stock.get_or_insert_with("pears", lambda: 7)
    ...     return stock["apples"], pears
    >>> asyncio.run(main())
    (2, 7)
    """

    __slots__ = ("__weakref__", "_deferred", "_held", "_lock", "_owner")

    @overload
    def __init__(self, /) -> None: ...
    @overload
    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]], /) -> None: ...
    def __init__(self, items: Any = (), /) -> None:
        super().__init__(_plain(items))
        self._lock = RLock()
        # The table. A key's line, or the entry that met nobody there: see `_map_keys`.
        self._held: dict[K, KeyLock | EntryBlock[K, V]] = {}
        self._owner: Any = None  # of the last entry: a weak reference to its task
        self._deferred: list[KeyLock | EntryBlock[K, V]] = []  # perhaps idle: to be looked at by whoever leaves the lock

    # Writes to one key.
    def __setitem__(self, key: K, value: V) -> None:
        lock = self._lock
        lock.acquire()
        try:
            old = self.get(key)  # noqa: F841 - kept until the lock is free
            if not self._held or not self._is_held(key):
                set_item(self, key, value)
                return
        finally:
            lock.release()
            if self._deferred:
                self._catch_up()
        self._refuse("m[key] = value", key)

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

    def pop(self, key: K, default: Any = MISSING) -> Any:  # type: ignore[override]
        """`remove`, as dict spells it."""
        return self.remove(key, default)

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
        while True:
            value = self._locked("remove_if()", self._look, key)
            if value is MISSING or not predicate(value):
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
        while True:
            value = self._locked("alter()", self._look, key)
            if value is MISSING:
                raise KeyError(key)
            new = change(value)
            if self._locked("alter()", self._replace, key, value, new):
                return new

    # Writes to many keys: all or nothing.
    def update(self, items: Any = (), /, **more: V) -> None:  # type: ignore[override]
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
        self._change_all("alter_all()", change)

    def retain(self, predicate: Callable[[K, V], bool]) -> None:
        """Keep only what satisfies `predicate`: the rest goes all at once or, if it raises, stays.

        `predicate` runs without the lock, and once more for what somebody changed meanwhile.

        Raises:
            KeyLockedError: somebody holds a key that this would remove.
        """
        self._change_all("retain()", lambda key, value: value if predicate(key, value) else MISSING)

    # Reads: what is not here is dict's own.
    def view(self, key: K, read: Callable[[V], R]) -> R | None:
        """What `read` makes of the value of `key`; None where there is none."""
        value = self.get(key, MISSING)
        return None if value is MISSING else read(cast(V, value))

    def snapshot(self) -> dict[K, V]:
        """A plain dict of what is in the map at this moment."""
        # Not dict.copy: it asks a subclass with an `__iter__` of its own for its keys.
        return dict(zip(*self._inside(self._lists), strict=True))

    def copy(self) -> ConcurrentMap[K, V]:  # type: ignore[override]
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
        return self.snapshot() == _plain(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Any) -> Any:
        return type(self)(self.snapshot() | _plain(other)) if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return other | self.snapshot() if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]
        self.update(other)
        return self

    @recursive_repr()
    def __repr__(self) -> str:
        return f"ConcurrentMap({self.snapshot()!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            f"cannot pickle or deepcopy {self._title()}: tasks of this process share it; "
            "pass the map itself, or take its snapshot()"
        )

    # Guards.
    def entry(self, key: K) -> Acquisition[Entry[K, V]]:
        """Wait for the exclusive hold on `key`, first come, first served.

        Raises:
            DeadlockError: waiting here could never end.
        """
        block: EntryBlock[K, V] = new_object(EntryBlock)
        block._map = self
        block._key = key
        block._staged = UNUSED
        block._hold = None
        return block

    def try_entry(self, key: K) -> Entry[K, V]:
        """The exclusive hold on `key` now, from any thread, with or without a loop.

        Raises:
            KeyLockedError: somebody holds the key, or queues for it.
        """
        return LooseEntry(self._take_now("try_entry()", key, EXCLUSIVE))

    def blocking_entry(self, key: K, timeout: float | None = None) -> Entry[K, V]:
        """Park this thread until it holds `key`, at most `timeout` seconds; zero or less tries once.

        Raises:
            TimeoutError: the time is over; nothing is held.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        line: Any = self._line_of(key)
        while True:
            hold = line._acquire_blocking("blocking_entry()", EXCLUSIVE, timeout)
            if hold.request is EXCLUSIVE:
                return LooseEntry(hold)
            line = hold.request

    def ref(self, key: K) -> Acquisition[Ref[K, V]]:
        """Wait for a shared hold on `key`: nobody writes it while anybody has one.

        Raises:
            KeyError: the key is absent.
            DeadlockError: waiting here could never end.
        """
        return Acquisition(self._name_of_key(key), "ref()", partial(self._ref, key))

    def try_ref(self, key: K) -> Ref[K, V]:
        """A shared hold on `key` now, from any thread, with or without a loop.

        Raises:
            KeyLockedError: somebody holds the key exclusively, or queues for it.
            KeyError: the key is absent.
        """
        return self._ref_of(self._take_now("try_ref()", key, SHARED))

    # Single flight.
    @overload
    async def get_or_insert_with(self, key: K, init: Callable[[], Awaitable[V]]) -> V: ...
    @overload
    async def get_or_insert_with(self, key: K, init: Callable[[], V]) -> V: ...
    async def get_or_insert_with(self, key: K, init: Callable[[], Any]) -> V:
        """The value of `key`; where there is none, what one run of `init` makes, for all who ask meanwhile.

        `init` is called without arguments; if its result is awaitable, it is awaited. If it raises, everybody who
        waits for this run gets that exception, and nothing is stored. If the task that runs it is cancelled, the next
        one that waits runs its own. The key is held meanwhile; other keys are free.

        Raises:
            DeadlockError: `init` waits for its own key, or waiting here could never end.
        """
        try:
            task = backends.hint()
        except RuntimeError:  # not asyncio
            task = None
        if task is None:
            await _checkpoint()
        value: Any = self.get(key, MISSING)
        return cast(V, value) if value is not MISSING else await self._fly(key, init)

    def blocking_get_or_insert_with(self, key: K, init: Callable[[], V], timeout: float | None = None) -> V:
        """`get_or_insert_with` for plain threads and plain functions; `timeout` bounds the wait, not one's own `init`.

        Raises:
            TimeoutError: another's run took longer.
            TypeError: `init` returned an awaitable.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        what = "blocking_get_or_insert_with()"
        deadline = math.inf if timeout is None else monotonic() + timeout
        blocking_parker(f"{what} of {self._title()}")
        while True:
            value: Any = self.get(key, MISSING)
            if value is not MISSING:
                return cast(V, value)
            flight = self._flight_to(key)
            ticket = flight._acquire_blocking(what, None, None if timeout is None else deadline - monotonic())
            if ticket.request is LEAD:
                return cast(V, self._lead_blocking(flight, ticket, init))
            outcome = ticket.request
            del ticket  # as in `_fly`
            if isinstance(outcome, Outcome):
                try:
                    return cast(V, outcome.get())
                finally:
                    del outcome

    async def compute(self, key: K, change: Callable[[V | None], Awaitable[V | None]]) -> V | None:
        """Replace the value of `key` by what awaiting ``change(value)`` gives, and return that; in order per key.

        None in means absent, None out means remove. (To store None use an `entry`.) If it raises or is cancelled,
        nothing changes.

        Raises:
            DeadlockError: waiting here could never end.
        """
        async with self.entry(key) as entry:
            value = await change(entry.get())
            if value is None:
                entry.remove()
            else:
                entry.value = value
            return value

    def statistics(self) -> ConcurrentMapStatistics:
        """How large it is, how many keys are held, and how many wait for one."""
        return self._inside(self._count)

    # Taking keys.
    def _line_of(self, key: K) -> KeyLock:
        """The key's line, or one that becomes it when somebody joins."""
        present = self._held.get(key)
        return present if isinstance(present, KeyLock) else KeyLock(self, key)

    async def _take(self, key: K, request: Any) -> Ticket:
        line: Any = self._line_of(key)
        while True:
            hold: Ticket = await line._acquire(request)
            if hold.request is request:
                return hold
            line = hold.request

    def _take_now(self, what: str, key: K, request: Any) -> Ticket:
        task = running_task()
        owner = None if task is None else weakly(task)
        line: Any = self._line_of(key)
        while True:
            hold: Ticket | None = line._acquire_now(request, owner)
            if hold is None:
                self._refuse(what, key)
            if hold.request is request:
                return hold
            line = hold.request

    async def _ref(self, key: K) -> Ref[K, V]:
        return self._ref_of(await self._take(key, SHARED))

    def _ref_of(self, hold: Ticket) -> Ref[K, V]:
        key = hold.synchronizer.key
        if key in self:
            return Ref(hold)
        give_back(hold)
        raise KeyError(key)

    # Flights.
    def _flight_to(self, key: K) -> Flight:
        """The flight under way, or one that takes off when somebody joins."""
        present = self._held.get(key)
        flight = present.flight if isinstance(present, KeyLock) else None
        return flight if flight is not None and not flight.over else Flight(self, key)

    async def _fly(self, key: K, init: Callable[[], Any]) -> V:
        while True:
            ticket: Ticket = await self._flight_to(key)._acquire()
            if ticket.request is LEAD:
                return cast(V, await self._lead(ticket.synchronizer, ticket, init))
            outcome = ticket.request
            del ticket  # it refers to a failure, and the failure's traceback to this frame
            if isinstance(outcome, Outcome):
                try:
                    return cast(V, outcome.get())
                finally:
                    del outcome

    async def _lead(self, flight: Flight, ticket: Ticket, init: Callable[[], Any]) -> Any:
        try:
            value = flight.present()
            if value is MISSING:
                value = init()
                if isawaitable(value):
                    value = await value
                self._inside(self._put, flight.key, value)
        except BaseException as error:
            flight.fail(ticket, error)
            raise
        flight.succeed(ticket, value)
        return value

    def _lead_blocking(self, flight: Flight, ticket: Ticket, init: Callable[[], Any]) -> Any:
        try:
            value = flight.present()
            if value is MISSING:
                value = init()
                if isawaitable(value):
                    _refuse_awaitable(value)
                self._inside(self._put, flight.key, value)
        except BaseException as error:
            flight.fail(ticket, error)
            raise
        flight.succeed(ticket, value)
        return value

    # The lock.
    def _inside(self, change: Callable[..., R], *args: Any) -> R:
        """Do this inside the lock."""
        lock = self._lock
        lock.acquire()
        try:
            return change(*args)
        finally:
            lock.release()
            if self._deferred:
                self._catch_up()

    def _locked(self, what: str, change: Callable[..., R], *args: Any) -> R:
        """`_inside` for a write that a held key may refuse."""
        try:
            return self._inside(change, *args)
        except _KeyHeld as held:
            key = held.args[0]
        self._refuse(what, key)

    def _write(self, what: str, key: K, value: Any) -> Any:
        return self._locked(what, self._put_free, key, value)

    def _clean_up(self, item: KeyLock | EntryBlock[K, V]) -> None:
        """Drop what is idle from the table; whoever is inside the lock does it on leaving."""
        self._deferred.append(item)
        self._catch_up()

    def _catch_up(self) -> None:
        # Whoever is inside looks at `_deferred` after leaving, so not getting in here loses nothing.
        while self._deferred and self._lock.acquire(False):
            hold = None
            try:
                if self._deferred:
                    hold = self._drop(self._deferred.pop(0))
            finally:
                self._lock.release()
            if hold is not None:
                hold.synchronizer._give_from_finalizer(hold.synchronizer._release, hold)

    # Inside the lock.
    def _is_held(self, key: K) -> bool:
        item = self._held.get(key)
        if item is None:
            return False
        if item.idle:
            self._held.pop(key, None)
            return False
        return True

    def _check_free(self, key: K) -> None:
        if self._held and self._is_held(key):
            raise _KeyHeld(key)

    def _drop(self, item: KeyLock | EntryBlock[K, V]) -> Ticket | None:
        """Drop an idle item from the table; the hold that is still to be given back."""
        if isinstance(item, EntryBlock) and item._hold is not None:
            return item._hold
        key = item.key
        if item.idle and self._held.get(key) is item:
            self._remove_from_table(key)
        return None

    def _remove_from_table(self, key: K) -> None:
        if len(self._held) == 1:
            self._held.clear()  # which frees a table that was large once
        else:
            del self._held[key]

    def _put(self, key: K, value: Any) -> Any:
        """Set or, with MISSING, remove; the old value, for the caller to drop outside."""
        if value is not MISSING:
            old: Any = self.get(key, MISSING)
            set_item(self, key, value)
            return old
        old = _pop(self, key, MISSING)
        if old is not MISSING and not _len(self):
            _clear(self)  # which frees what a large one took
        return old

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
        self._put_free(key, default)
        return default

    def _pop_item(self) -> tuple[K, V]:
        if not _len(self):
            raise KeyError("popitem(): the map is empty")
        key: Any = None
        for key in list(_reversed(self)) if self._held else _reversed(self):
            if not self._is_held(key):
                return key, self._put(key, MISSING)
        raise _KeyHeld(key)

    def _put_all(self, new: dict[K, V]) -> list[Any]:
        if self._held:
            for key, value in new.items():
                if self.get(key, MISSING) is not value:
                    self._check_free(key)
        old = [self.get(key) for key in new]
        _update(self, new)
        return old

    def _lists(self) -> tuple[list[K], list[V]]:
        return list(_keys(self)), list(_values(self))

    def _clear_all(self) -> tuple[list[K], list[V]]:
        for key in list(self._held):
            if key in self:
                self._check_free(key)
        old = self._lists()
        _clear(self)
        return old

    def _change_all(self, what: str, decide: Callable[[K, V], Any]) -> None:
        decided: dict[K, tuple[V, Any]] = {}  # key: value, and what becomes of it
        while True:
            undecided = self._locked(what, self._commit, decided)
            if not undecided:
                return
            for key, value in undecided:
                decided[key] = value, decide(key, value)

    def _commit(self, decided: dict[K, tuple[V, Any]]) -> list[tuple[K, V]]:
        """Change everything as decided; what is still to be decided, if anything is."""
        items = list(_items(self))
        undecided = [item for item in items if item[0] not in decided or decided[item[0]][0] is not item[1]]
        if not undecided:
            changes = [(key, decided[key][1]) for key, value in items if decided[key][1] is not value]
            for key, _ in changes:
                self._check_free(key)
            for key, new in changes:
                self._put(key, new)
        return undecided

    def _count(self) -> ConcurrentMapStatistics:
        held = [item for item in self._held.values() if not item.idle]
        waiting = sum(item.waiting() for item in held if isinstance(item, KeyLock))
        return ConcurrentMapStatistics(_len(self), len(held), waiting)

    # For people.
    def _title(self) -> str:
        return f"ConcurrentMap at {id(self):#x}"

    def _name_of_key(self, key: K) -> str:
        return f"key {key!r} of {self._title()}"

    def _refuse(self, what: str, key: K) -> NoReturn:
        item = self._held.get(key)
        line = item if isinstance(item, QueuedSynchronizer) else None
        owners = [] if item is None else line._owners(None) if line is not None else [item._owner]
        names = ", ".join({f"task {task_name(task)!r}" for owner in owners if owner and (task := owner())})
        raise KeyLockedError(
            f"{what}: {self._name_of_key(key)} is held{' by ' * bool(names)}{names}; wait your turn with "
            "`async with map.entry(key)`, or with blocking_entry(key) in a plain thread, or try again later"
        )


def _plain(items: Any) -> Any:
    return items.snapshot() if isinstance(items, ConcurrentMap) else items


async def _checkpoint() -> None:
    backend, _ = whose_turn()
    if backend.checkpoints:
        await backend.checkpoint_if_cancelled()
        await backend.cancel_shielded_checkpoint()


def _refuse_awaitable(value: Any) -> NoReturn:
    if iscoroutine(value):
        value.close()  # or it would warn that nobody awaited it
    raise TypeError(
        f"blocking_get_or_insert_with(): init returned {type(value).__name__}, an awaitable, and a plain thread "
        "cannot await; give it a plain function, or use get_or_insert_with() in a task"
    )
