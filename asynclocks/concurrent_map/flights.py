"""Flights: one run of an ``init`` for everybody who asks for a key meanwhile.

A flight is a line of its own in front of the key's: those who ask for the key's value. The flight, not its
leader, holds the key (or queues for it), so leaders may come and go without anybody getting in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from asynclocks._engine.synchronizer import GRANTED, RELEASED, QueuedSynchronizer, Ticket
from asynclocks.backends.seam import uninterrupted
from asynclocks.concurrent_map.keys import FLIGHT, MISSING, KeyLock, KeyTable, LoneHold, look_at

LEAD: Any = "run your init"
AGAIN: Any = "it was over before you came: look again"


class Outcome:
    """How a flight ended, for those who waited for it."""

    __slots__ = ("_error", "_traceback", "_value")

    def __init__(self, value: Any, error: Exception | None = None) -> None:
        self._value = value
        self._error = error
        self._traceback = None if error is None else error.__traceback__

    def get(self) -> Any:
        """The value, or the one exception for all."""
        if self._error is None:
            return self._value
        try:
            # As a Future does: a traceback of this caller's own, not one of everybody's frames.
            raise self._error.with_traceback(self._traceback)
        finally:
            del self  # or the exception's traceback refers to this frame, and the frame to it


class FlightHold(Ticket):
    """A flight's hold on its key, or its place in the key's line."""

    __slots__ = ("flight",)

    def __init__(self, flight: Flight) -> None:
        self.flight: Flight = flight

    def unpark(self) -> bool:
        flight = self.flight
        flight._give_from_finalizer(flight._begin, None)  # whoever wakes us may be a finalizer
        return True


class Flight(QueuedSynchronizer):
    """Those who ask for the value of one key; the first of them who may runs its ``init``."""

    __slots__ = ("_hold", "_leader", "_map", "_outcome", "_ready", "key", "over")

    kind = "flight"
    _told_of_forks = False

    def __init__(self, of: KeyTable, key: Any) -> None:
        super().__init__()
        self._map = of
        self.key: Any = key
        self._hold: FlightHold | None = None
        self._ready = False  # holds the key
        self._leader: Ticket | None = None
        self._outcome: Outcome | None = None
        self.over: bool = False  # ended, or everybody left

    # The engine's questions.
    def _admit(self, ticket: Ticket) -> bool:
        if self._outcome is not None:
            ticket.request = self._outcome
            return True
        if not self._ready or self._leader is not None:
            return False
        self._leader = ticket
        ticket.request = LEAD
        return True

    def _retract(self, ticket: Ticket) -> None:
        if self._leader is ticket:
            self._leader = None
            if self._head is None:
                self.over = True

    def _withdraw(self, ticket: Ticket) -> None:
        super()._withdraw(ticket)
        if self._leader is None and self._head is None:
            self.over = True

    def _owners(self, ticket: Ticket) -> Iterable[Any]:
        leader, hold = self._leader, self._hold
        if leader is not None:
            return () if leader.owner is None or leader.state is RELEASED else (leader.owner,)
        return () if hold is None else hold.synchronizer._owners(hold)

    def _leading_task(self) -> Any:
        """The key's owner, as the key sees it."""
        leader = self._leader
        return None if leader is None or leader.owner is None else leader.owner()

    def waiting(self) -> int:
        """How many wait, the key's line aside, in which the flight itself counts while it is queued."""
        return self._waiting - (not self._ready)

    # Changes, inside this flight's lock.
    def _join(self, ticket: Ticket) -> bool:
        other = self._take_off()
        return super()._join(ticket) if other is None else look_at(other, ticket)

    def _join_or_leave(self, ticket: Ticket) -> bool:
        other = self._take_off()
        if other is not None:
            return look_at(other, ticket)
        if super()._join_or_leave(ticket):
            return True
        if self._leader is None and self._head is None:
            self.over = True
        return False

    def _take_off(self) -> Any:
        """Take a place in the key's line, once. None: done; else where to look instead."""
        if self.over:
            return AGAIN
        line = self._map._line_of(self.key)
        while self._hold is None:
            hold = line._fill_in(FlightHold(self), FLIGHT, self._leading_task)
            try:
                admitted = line._stand_in_line(hold)
            except BaseException:
                line._give_from_finalizer(line._withdraw, hold)
                raise
            if hold.request is FLIGHT:
                self._hold = hold
                self._ready = admitted
            elif isinstance(hold.request, KeyLock):
                line = hold.request
            else:
                self.over = True
                return hold.request
        return None

    def _begin(self, _: None) -> None:
        """The key is ours: `_serve` finds the leader."""
        self._ready = True

    def _end(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._leader = None
        self.over = True

    def _forget(self, _: None) -> None:
        self._outcome = None

    # What follows a change, outside the lock.
    @uninterrupted
    def _transact(self, change: Callable[[Any], Any], argument: Any) -> Any:
        try:
            return super()._transact(change, argument)
        finally:
            try:
                self._land(KeyLock._give)
            except BaseException:
                self._land(KeyLock._give)
                raise

    @uninterrupted
    def _catch_up(self) -> None:
        super()._catch_up()
        try:
            self._land(KeyLock._give_from_finalizer)
        except BaseException:
            self._land(KeyLock._give_from_finalizer)
            raise

    def _land(self, give: Callable[[KeyLock, Any, Any], object]) -> None:
        """Once it is over, give the key back."""
        hold = self._hold
        if self.over and hold is not None:
            give(hold.synchronizer, hold.synchronizer._withdraw, hold)
            self._hold = None

    def end(self, outcome: Outcome) -> None:
        """Tell everybody who waits."""
        self._give(self._end, outcome)
        self._give(self._forget, None)  # the key's line may remember this flight; it need not keep the value

    # The leader's part.
    def present(self) -> Any:
        """The value, if the key got one before it was ours."""
        return self._map.get(self.key, MISSING)

    def succeed(self, leader: Ticket, value: Any) -> None:
        self.end(Outcome(value))
        leader.state = RELEASED

    def fail(self, leader: Ticket, error: BaseException) -> None:
        """Tell everybody of an exception; what is no Exception is this caller's own affair, and the next one leads."""
        if isinstance(error, Exception):
            self.end(Outcome(None, error))
            leader.state = RELEASED
        else:
            self._give(self._withdraw, leader)

    # For people.
    def _way_out(self, ticket: Ticket) -> str:
        return "let no init wait for its own key"

    def _title_without_values(self) -> str:
        return f"the init of a key of {self._map._title()}"

    def __str__(self) -> str:
        return f"the init of key {self.key!r} of {self._map._title()}"

    def _describe(self) -> str:
        state = "over" if self.over else "running" if self._ready else "queued"
        return f"{state}, {self._waiting} waiting"


class LoneFlight(LoneHold):
    """A run of an `init` that nobody else asked for until now. Once somebody comes to its key, it leads a flight."""

    __slots__ = ()

    def __init__(self, key: Any, owner: Any) -> None:
        super().__init__(key, LEAD, owner)

    def stand_in(self, line: KeyLock) -> None:
        flight = Flight(line.map, self.key)
        flight._leader = self
        flight._ready = True
        flight._hold = hold = line._fill_in(FlightHold(flight), FLIGHT, flight._leading_task)
        hold.state = GRANTED
        line.flight = flight
        line.holder = hold
        self.synchronizer = flight
