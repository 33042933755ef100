"""What holds a key of a ConcurrentMap: entries, which are transactions, and refs."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from typing import Any, Generic, NoReturn, Self, TypeVar, cast, overload
from weakref import ref

from asynclocks import backends
from asynclocks._engine.acquisition import Acquisition
from asynclocks._engine.callbacks import no_coroutine
from asynclocks._engine.deadline import Deadline
from asynclocks._engine.guards import Guard, LooseGuard, give_back, shown_as
from asynclocks._engine.synchronizer import Ticket
from asynclocks.backends.seam import made_by, uninterrupted
from asynclocks.concurrent_map.flights import Outcome
from asynclocks.concurrent_map.keys import EXCLUSIVE, GONE, MISSING, UNCHANGED, UNUSED, Mark
from asynclocks.concurrent_map.steps import SteppingDict, set_item

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R")


class Entry(Guard, Generic[K, V]):
    """The exclusive hold on one key: a transaction.

    What it changes becomes visible to readers when the hold ends, by the end of the block or `release`. If
    the block raises or is cancelled, or the entry is dropped unreleased, none of it happens. (What was changed inside
    a mutable value cannot be rolled back.)
    """

    # There are two kinds. What `async with map.entry(key)` gives is an `EntryBlock`; all others are `LooseEntry` s.
    __slots__ = ()

    _map: SteppingDict[K, V]
    _key: K
    _staged: Any  # the value to be, or UNCHANGED, MISSING (to be removed), GONE (let go)
    _hold: Any  # the ticket in the key's line; None while there is no line

    @property
    def key(self) -> K:
        """The key it holds, or held."""
        return self._key

    @property
    def _idle(self) -> bool:
        # As a KeyLock's, for the map's table: one that let go and is still there is as good as none.
        return self._staged is GONE

    @property
    def released(self) -> bool:
        return self._staged is GONE or self._staged is UNUSED

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

    @uninterrupted
    def _finish(self, commit: bool) -> bool:
        """End the transaction and let go. False: it had let go already."""
        committed: Any = UNCHANGED
        old: Any = None  # what the map drops, it drops when the lock is free
        try:
            committed, old = self._map._inside(self._end, commit)
        finally:
            if committed is not GONE and self._hold is not None:
                try:
                    self._hand_back(committed)
                except BaseException:
                    self._hand_back(committed)
                    raise
        del old
        return committed is not GONE

    def _end(self, commit: bool) -> tuple[Any, Any]:
        """Commit and leave the table; what was committed, GONE if it had ended before, and what that replaced."""
        staged = self._staged
        if staged is GONE or staged is UNUSED:
            return GONE, None
        self._staged = GONE
        if self._hold is None:
            self._map._remove_from_table(self._key)
        if not commit or staged is UNCHANGED:
            return UNCHANGED, None
        return staged, self._map._put(self._key, staged)

    def _hand_back(self, committed: Any) -> None:
        hold: Ticket = self._hold
        flight = hold.synchronizer.flight
        if flight is not None and not flight.over and committed.__class__ is not Mark:
            flight.end(Outcome(committed))  # those who wait for a value here have it
        give_back(hold)

    def _disown(self) -> None:
        self._map._inside(self._leave_to_others)

    def _leave_to_others(self) -> None:
        if self._hold is not None:
            self._hold.owner = None

    def _let_go(self) -> bool:
        return self._finish(commit=True)

    def _roll_back(self, exc_type: object) -> None:
        if exc_type is not GeneratorExit:
            self._finish(commit=False)
        elif not self.released:  # perhaps the collector destroys the block: wait for nobody
            self._staged = GONE
            self._map._clean_up(self)

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            self._finish(commit=True)
        else:
            self._roll_back(exc[0])

    def _of(self) -> object:
        return self._map._name_of_key(self._key)


class LooseEntry(Entry[K, V], LooseGuard):
    """The entry of everything but ``async with map.entry(key)``: it stands on its ticket in the key's line."""

    __slots__ = ("__weakref__", "_hold", "_key", "_map", "_staged")

    def __init__(self, of: SteppingDict[K, V], key: K) -> None:
        # What it is to hold comes by `_hold =`, right from who granted it: no Ctrl-C can get in between.
        self._map = of
        self._key = key
        self._staged = UNUSED
        self._hold = None

    def _begun(self) -> Self:
        """It holds now."""
        self._key = self._hold.synchronizer.key
        self._staged = UNCHANGED
        return self

    def __del__(self) -> None:
        # One that let go is perhaps still to be cleared away: no reason to complain.
        if getattr(self, "_staged", GONE) is not GONE:
            super().__del__()


class EntryBlock(Entry[K, V], Acquisition[Entry[K, V]]):  # type: ignore[misc]  # `_of` is the guard's
    """What ``map.entry(key)`` returns; entered by ``async with``, it is itself the entry.

    On asyncio, if nobody holds the key, it then stands in the map's table by itself, without a line, until somebody
    else asks for the key; then it gets a ticket there.
    """

    __slots__ = ("_deadline", "_hold", "_key", "_map", "_owner", "_staged")

    _what = "entry()"
    _deadline: Deadline | None
    _owner: Any  # as a ticket's, while it has none

    def _owners(self) -> Iterable[Any]:
        # As a KeyLock's.
        return (self._owner,)

    def _leave_to_others(self) -> None:
        self._owner = _nobody
        super()._leave_to_others()

    def _use(self) -> None:
        """Once only."""
        if self._staged is not UNUSED:
            raise RuntimeError(f"{self!r} was awaited or entered already; ask the map for a new one")
        self._staged = GONE

    def _is_unused(self) -> bool:
        return self._staged is UNUSED

    def _begin(self) -> Coroutine[Any, Any, Entry[K, V]]:
        self._use()
        return self._loose()

    @uninterrupted
    async def _loose(self) -> Entry[K, V]:
        entry = LooseEntry(self._map, self._key)
        entry._hold = await self._map._take(self._key, EXCLUSIVE, self._deadline)
        return entry._begun()

    @uninterrupted
    async def __aenter__(self) -> Entry[K, V]:
        if self._staged is not UNUSED:
            self._use()
        try:
            task = backends.hint()
        except RuntimeError:  # not asyncio
            task = None
        of = self._map
        if task is not None:
            # The map keeps the reference: the task's next entry finds it made.
            owner = of._owner
            if owner() is not task:
                owner = of._owner = ref(task)
            self._owner = owner
            self._staged = UNCHANGED
            token = of._token
            _in_map: Any = of
            try:
                del token[0]
            except IndexError:
                _in_map = None
                present = of._inside(of._held.setdefault, self._key, self)
            else:
                try:
                    present = of._held.setdefault(self._key, self)
                except BaseException:
                    self._staged = GONE
                    raise
                finally:
                    token += (_in_map := (None,))
                    if of._deferred:
                        of._catch_up()
            if present is self:
                return self  # type: ignore[no-any-return]
        self._staged = GONE
        self._hold = await of._take(self._key, EXCLUSIVE, self._deadline)
        self._staged = UNCHANGED
        return self

    @uninterrupted
    async def __aexit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:
        if exc_type is not None:
            self._roll_back(exc_type)
            return
        # `_finish`, in one go for what is usual.
        of = self._map
        token = of._token
        _in_map: Any = of
        try:
            del token[0]
        except IndexError:
            _in_map = None
            self._finish(commit=True)
            return
        try:
            staged = self._staged
            usual = self._hold is None and staged is not GONE and staged is not MISSING
            if usual:
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
            self._finish(commit=True)

    def _refuse(self) -> NoReturn:
        if self._staged is UNUSED:
            raise RuntimeError(f"{self!r} holds nothing yet; enter it with `async with`, or await it")
        super()._refuse()

    def __repr__(self) -> str:
        return f"<{self._what} of {self._of()}>" if self._staged is UNUSED else super().__repr__()

    def __del__(self) -> None:
        staged = getattr(self, "_staged", GONE)  # Ctrl-C may come before `entry()` is through
        if staged is UNUSED:
            warnings.warn(f"{self!r} was never awaited", RuntimeWarning, stacklevel=2, source=self)
        elif staged is not GONE and self._hold is not None:  # or before its block's exit began
            self._staged = GONE
            self._map._clean_up(self)


def _nobody() -> None:
    """In place of a weak reference to an owner."""


shown_as("Entry", LooseEntry, EntryBlock)
