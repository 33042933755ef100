"""The rounds of a barrier that can be aborted and reset: what those of asyncio and threading share."""

from __future__ import annotations

from threading import RLock

import attrs

from asynclocks._forks import freed_in_child
from asynclocks._inside import locked
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


@attrs.define(eq=False)
class Arrival:
    """One's place in a round, once it has one."""

    round: Round | None = None
    number: int = 0
    is_last: bool = False  # it makes the round complete, and is to set `Round.over`
    left: bool = False

    @property
    def over(self) -> Event:
        """What to wait for."""
        assert self.round is not None
        return self.round.over


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

    @locked
    def arrive(self, arrival: Arrival) -> Event | None:
        """Take a place in the present round; or what to wait for before trying again. `leave` must follow."""
        if self.broken:
            raise self._broken_error("the barrier was aborted")
        if not self._last.is_drained():
            return self._last.drained
        following = Round()
        # No call from here on, so that no signal handler can come between.
        arrived = self._filling
        arrival.round, arrival.number = arrived, arrived.arrived
        arrived.arrived += 1
        if arrived.arrived == self.parties:
            arrival.is_last = arrived.complete = True
            self._last, self._filling = arrived, following
        return None

    @locked
    def leave(self, arrival: Arrival) -> None:
        """Take note that one more has left, perhaps cancelled before the round was complete.

        Whoever is interrupted in it (Ctrl-C) must call it again.
        """
        round_ = arrival.round
        if round_ is None:
            return
        first, arrival.left = not arrival.left, True
        if round_.complete or round_.broken:
            round_.left += first
            if arrival.is_last:
                round_.over.set()  # perhaps it was interrupted before it did
            if round_.is_drained():
                round_.drained.set()
        else:
            round_.arrived -= first

    def check(self, arrival: Arrival) -> None:
        """Raise if the round was broken."""
        if arrival.round is not None and arrival.round.broken:
            raise self._broken_error("the barrier was aborted or reset")

    @locked
    def reset(self) -> None:
        """Break the round that is not over for everybody, and begin anew."""
        self.broken = False
        if self._last.is_drained() or self._last.broken:
            self._break_filling()
        else:
            self._last.broken = True

    @locked
    def abort(self) -> None:
        """Break what is under way and all that would follow, until `reset`."""
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


class TellsRounds:
    """What a barrier tells of its rounds."""

    __slots__ = ()

    _rounds: Rounds

    @property
    def parties(self) -> int:
        """How many make a round."""
        return self._rounds.parties

    @property
    def n_waiting(self) -> int:
        """How many have come in the present round."""
        return self._rounds.waiting

    @property
    def broken(self) -> bool:
        """Was it aborted, or was a time over?"""
        return self._rounds.broken
