"""ConcurrentMap: a dict shared by tasks and threads, with guards per key and single flight (after DashMap and moka).

Here is what waits; what does not is in `dict`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

from asynclocks import backends
from asynclocks._engine.acquisition import Acquisition
from asynclocks._engine.callbacks import check_init, refuse_awaitable
from asynclocks._engine.deadline import Deadline, deadline_of
from asynclocks._engine.synchronizer import GRANTED, Ticket
from asynclocks.backends import check_blocking, native, owner_here, thread_here, whose_turn
from asynclocks.backends.seam import made_by, uninterrupted, weakly
from asynclocks.concurrent_map.dict import SharedDict
from asynclocks.concurrent_map.entries import Entry, EntryBlock, LooseEntry
from asynclocks.concurrent_map.flights import LEAD, Flight, LoneFlight, Outcome
from asynclocks.concurrent_map.holds import LooseKeyGuard, key_block
from asynclocks.concurrent_map.keys import EXCLUSIVE, MISSING, KeyLock, KeyName
from asynclocks.concurrent_map.refs import LooseRef, Ref, RefBlock

if TYPE_CHECKING:
    from asynclocks.statistics import ConcurrentMapStatistics

__all__ = ["ConcurrentMap", "Entry", "Ref"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ConcurrentMap(SharedDict[K, V]):
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

    __slots__ = ()

    # Guards.
    def entry(self, key: K, timeout: float | None = None) -> Acquisition[Entry[K, V]]:
        """Wait for the exclusive hold on `key`, first come, first served, at most `timeout` seconds.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            DeadlockError: waiting here could never end.
        """
        return key_block(EntryBlock, self, key, timeout)  # type: ignore[no-any-return]

    @uninterrupted
    def try_entry(self, key: K) -> Entry[K, V]:
        """The exclusive hold on `key` now, from any thread, with or without a loop.

        Raises:
            KeyLockedError: somebody holds the key, or queues for it.
        """
        entry: LooseEntry[K, V] = LooseEntry(self, key)
        self._take_now("try_entry()", entry)
        return entry

    def blocking_entry(self, key: K, timeout: float | None = None) -> Entry[K, V]:
        """Park this thread until it holds `key`, at most `timeout` seconds; zero or less tries once.

        Raises:
            TimeoutError: the time is over; nothing is held.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        entry: LooseEntry[K, V] = LooseEntry(self, key)
        if not backends.IN_PYODIDE:  # there a request keeps account of what its plain calls hold
            check_blocking("blocking_entry()", KeyName(self, key))
            if entry._take_alone(thread_here()):
                return entry
        line: Any = self._line_of(key)
        left, deadline = timeout, math.inf if timeout is None else monotonic() + timeout
        while True:
            hold = line._acquire_blocking("blocking_entry()", EXCLUSIVE, left)
            if hold.request is EXCLUSIVE:
                entry._hold = hold
                return entry._begun()
            line = hold.request
            left = None if timeout is None else deadline - monotonic()

    def ref(self, key: K, timeout: float | None = None) -> Acquisition[Ref[K, V]]:
        """Wait for a shared hold on `key`: nobody writes it while anybody has one.

        Raises:
            KeyError: the key is absent.
            DeadlockError: waiting here could never end.
        """
        return key_block(RefBlock, self, key, timeout)  # type: ignore[no-any-return]

    @uninterrupted
    def try_ref(self, key: K) -> Ref[K, V]:
        """A shared hold on `key` now, from any thread, with or without a loop.

        Raises:
            KeyLockedError: somebody holds the key exclusively, or queues for it.
            KeyError: the key is absent.
        """
        ref: LooseRef[K, V] = LooseRef(self, key)
        self._take_now("try_ref()", ref)
        return ref

    # Single flight.
    async def get_or_insert_with(
        self, key: K, init: Callable[[], V] | Callable[[], Awaitable[V]], timeout: float | None = None
    ) -> V:
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
        return cast(V, value) if value is not MISSING else await self._fly(key, init, deadline_of(timeout))

    def blocking_get_or_insert_with(self, key: K, init: Callable[[], V], timeout: float | None = None) -> V:
        """`get_or_insert_with` for plain threads and plain functions; `timeout` bounds the wait, not one's own `init`.

        Raises:
            TimeoutError: another's run took longer.
            TypeError: `init` returned an awaitable.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        what = "blocking_get_or_insert_with()"
        check_init(init, what)
        deadline = math.inf if timeout is None else monotonic() + timeout
        check_blocking(what, KeyName(self, key))
        left = timeout
        while True:
            value: Any = self.get(key, MISSING)
            if value is not MISSING:
                return cast(V, value)
            alone = LoneFlight(key, thread_here())
            try:
                # In Pyodide a request keeps account of what its plain calls hold.
                if not backends.IN_PYODIDE and self._stand_alone(alone):
                    value = self.get(key, MISSING)
                    if value is MISSING:
                        value = _made_blocking(init)
                        self._inside(self._put_and_leave, alone, value)
                    self._land(alone, value)
                    return cast(V, value)
            except BaseException as error:
                self._crash_surely(alone, error)
                raise
            flight = self._flight_to(key)
            ticket = flight._acquire_blocking(what, None, left)
            if ticket.request is LEAD:
                try:
                    made = self._lead_blocking(flight, init)
                    flight.succeed(ticket, made)
                except BaseException as error:
                    flight.fail(ticket, error)
                    raise
                return cast(V, made)
            outcome = ticket.request
            del ticket  # as in `_fly`
            if isinstance(outcome, Outcome):
                try:
                    return cast(V, outcome.get())
                finally:
                    del outcome
            left = None if timeout is None else deadline - monotonic()

    @uninterrupted
    async def compute(self, key: K, change: Callable[[V | None], Awaitable[V | None]]) -> V | None:
        """Replace the value of `key` by what awaiting ``change(value)`` gives, and return that; in order per key.

        None in means absent, None out means remove. (To store None use an `entry`.) If it raises or is cancelled,
        nothing changes.

        Raises:
            DeadlockError: waiting here could never end.
        """
        async with self.entry(key) as entry:
            value: V | None = await made_by(change, entry.get())
            if value is None:
                entry.remove()
            else:
                entry.value = value
            return value

    def statistics(self) -> ConcurrentMapStatistics:
        """How large it is, how many keys are held, and how many wait for one."""
        from asynclocks.statistics import ConcurrentMapStatistics

        return ConcurrentMapStatistics(*self._inside(self._count))

    # Taking keys.
    def _line_of(self, key: K) -> KeyLock:
        """The key's line, or one that becomes it when somebody joins."""
        present = self._held.get(key)
        return present if isinstance(present, KeyLock) else KeyLock(self, key)

    async def _take(self, key: K, request: Any, deadline: Deadline | None) -> Ticket:
        line: Any = self._line_of(key)
        while True:
            hold: Ticket = await line._acquire(request, deadline=deadline)
            if hold.request is request:
                return hold
            line = hold.request

    @uninterrupted
    def _take_now(self, what: str, guard: LooseKeyGuard[K, V]) -> None:
        owner = owner_here()
        if not guard._take_alone(owner):
            guard._hold = self._hold_now(what, guard.key, guard._request, owner)
            guard._begun()

    def _hold_now(self, what: str, key: K, request: Any, owner: Any) -> Ticket:
        line: Any = self._line_of(key)
        while True:
            hold: Ticket | None = line._acquire_now(request, owner)
            if hold is None:
                raise self._refusal(what, key)
            if hold.request is request:
                return hold
            line = hold.request

    # Flights.
    def _flight_to(self, key: K) -> Flight:
        """The flight under way, or one that takes off when somebody joins."""
        present = self._held.get(key)
        flight: Any = present.flight if isinstance(present, KeyLock) else None
        return flight if flight is not None and not flight.over else Flight(self, key)

    @uninterrupted
    async def _fly(self, key: K, init: Callable[[], Any], deadline: Deadline | None) -> V:
        check_init(init, "get_or_insert_with()")
        backend, task = whose_turn()
        if task is not None and (deadline is None or backend is native):  # others may have no timers, and say so below
            alone = LoneFlight(key, weakly(task))
            try:
                if self._stand_alone(alone):
                    value: Any = self.get(key, MISSING)
                    if value is MISSING:
                        value = await made_by(init)
                        self._inside(self._put_and_leave, alone, value)
                    self._land(alone, value)
                    return cast(V, value)
            except BaseException as error:
                self._crash_surely(alone, error)
                raise
        while True:
            ticket: Ticket = await self._flight_to(key)._acquire(deadline=deadline)
            if ticket.request is LEAD:
                flight = ticket.synchronizer
                try:
                    made = await self._lead(flight, init)
                    flight.succeed(ticket, made)
                except BaseException as error:
                    flight.fail(ticket, error)
                    raise
                return cast(V, made)
            outcome = ticket.request
            del ticket  # it refers to a failure, and the failure's traceback to this frame
            if isinstance(outcome, Outcome):
                try:
                    return cast(V, outcome.get())
                finally:
                    del outcome

    def _put_and_leave(self, alone: LoneFlight, value: Any) -> Any:
        """Store what it made and, if it still has no line, let go. Inside the lock."""
        old = self._put(alone.key, value)
        self._leave_table(alone)
        return old

    def _land(self, alone: LoneFlight, value: Any) -> None:
        """Let go, if it still holds: nothing was to be made, or somebody came and waits for the value."""
        if alone.state is GRANTED and self._end_alone(alone) is None:
            alone.synchronizer.succeed(alone, value)

    def _crash(self, alone: LoneFlight, error: BaseException) -> None:
        if self._end_alone(alone) is None:
            alone.synchronizer.fail(alone, error)

    def _crash_surely(self, alone: LoneFlight, error: BaseException) -> None:
        try:
            self._crash(alone, error)
        except BaseException:
            self._crash(alone, error)  # nobody else would
            raise

    async def _lead(self, flight: Flight, init: Callable[[], Any]) -> Any:
        value = flight.present()
        if value is MISSING:
            value = await made_by(init)
            self._inside(self._put, flight.key, value)
        return value

    def _lead_blocking(self, flight: Flight, init: Callable[[], Any]) -> Any:
        value = flight.present()
        if value is MISSING:
            value = _made_blocking(init)
            self._inside(self._put, flight.key, value)
        return value

    def _count(self) -> tuple[int, int, int]:
        held = [item for item in list(self._held.values()) if not item._idle]
        waiting = sum(item.waiting() for item in held if isinstance(item, KeyLock))
        return len(self), len(held), waiting


def _made_blocking(init: Callable[[], Any]) -> Any:
    value = init()
    refuse_awaitable(value, "blocking_get_or_insert_with()", "get_or_insert_with()")
    return value


async def _checkpoint() -> None:
    backend, _ = whose_turn()
    if backend.checkpoints:
        await backend.checkpoint_if_cancelled()
        await backend.cancel_shielded_checkpoint()
