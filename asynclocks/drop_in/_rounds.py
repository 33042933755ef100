"""The rounds of a barrier that can be aborted and reset: what those of asyncio and threading share."""

from __future__ import annotations

from threading import RLock

import attrs

from asynclocks._forks import freed_in_child
from asynclocks.event import Event


class Round:
    """Those who meet: they wait for `over`, and look then whether the round was broken."""

    __slots__ = ("arrived", "broken", "complete", "drained", "left", "over")

    def __init__(self) -> None:
        self.over = Event()
        self.drained = Event()  # everybody has left
        self.arrived = 0
        self.left = 0
        self.complete = False
        self.broken = False

    def is_drained(self) -> bool:
        """Has everybody left who arrived?"""
        return self.left == self.arrived


@attrs.frozen
class Arrival:
    """One's place in a round."""

    round: Round
    number: int
    is_last: bool  # it makes the round complete, and is to set `Round.over`


class Rounds:
    """A barrier, except for how one waits. Whoever comes while a round is being left waits until everybody has."""

    def __init__(self, parties: int, broken_error: type[Exception]) -> None:
        if parties < 1:
            raise ValueError("parties must be >= 1")
        self.parties = parties
        self.broken = False
        self._broken_error = broken_error
        self._lock = freed_in_child(RLock())  # a signal handler may abort
        self._filling = Round()
        self._last = Round()  # the last one that was complete or reset; perhaps not everybody has left it

    def arrive(self) -> Arrival | Event:
        """Take a place in the present round; or what to wait for before trying again."""
        with self._lock:
            if self.broken:
                raise self._broken_error("the barrier was aborted")
            if not self._last.is_drained():
                return self._last.drained
            arrived, number = self._filling, self._filling.arrived
            arrived.arrived += 1
            if arrived.arrived == self.parties:
                arrived.complete = True
                self._last, self._filling = arrived, Round()
            return Arrival(arrived, number, arrived.complete)

    def leave(self, left: Round) -> None:
        """Take note that one more has left, perhaps cancelled before the round was complete."""
        with self._lock:
            if left.complete or left.broken:
                left.left += 1
                if left.is_drained():
                    left.drained.set()
            else:
                left.arrived -= 1

    def check(self, left: Round) -> None:
        """Raise if the round was broken."""
        if left.broken:
            raise self._broken_error("the barrier was aborted or reset")

    def reset(self) -> None:
        """Break the round that is not over for everybody, and begin anew."""
        with self._lock:
            self.broken = False
            if self._last.is_drained() or self._last.broken:
                self._break_filling()
            else:
                self._last.broken = True

    def abort(self) -> None:
        """Break what is under way and all that would follow, until `reset`."""
        with self._lock:
            self.broken = self._last.broken = True
            self._last.over.set()  # perhaps whoever was to set it raised
            self._last.drained.set()  # who waits for that is told
            self._break_filling()

    def _break_filling(self) -> None:
        broken = self._filling
        if broken.arrived:
            broken.broken = True
            self._last, self._filling = broken, Round()
            broken.over.set()

    @property
    def waiting(self) -> int:
        """How many have arrived in the present round."""
        return self._filling.arrived

    @property
    def state(self) -> str:
        """In asyncio's words."""
        if self.broken:
            return "broken"
        if self._last.is_drained():
            return "filling"
        return "resetting" if self._last.broken else "draining"
