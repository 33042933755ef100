"""Barrier: a reusable meeting point (after ``tokio::sync::Barrier``).

Those who have arrived are the line itself. The last one to arrive does not join it: it lets all of them go.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING

import attrs

from asynclocks._engine.absent import Absent
from asynclocks._engine.deadline import deadline_of
from asynclocks._engine.synchronizer import GRANTED, QueuedSynchronizer, Ticket


@attrs.frozen
class BarrierWaitResult:
    """What `Barrier.wait` returns."""

    is_leader: bool  # true for exactly one task per round: the last to arrive


NEVER_BROKEN = "this barrier is never broken; asynclocks.drop_in has one that can be"

LEADER = BarrierWaitResult(True)
FOLLOWER = BarrierWaitResult(False)


class Barrier(QueuedSynchronizer):
    """Reusable meeting point of `parties` tasks, of any loops and threads: all go on when the last one arrives.

    A cancelled waiter un-arrives. If the round was complete by then, it counts for the others, and the cancelled
    one just raises. Zero parties behave as one.

    Raises:
        ValueError: `parties` is negative.

    >>> import asyncio
    >>> async def main():
    ...     start = Barrier(3)
    ...     results = await asyncio.gather(start.wait(), start.wait(), start.wait())
    ...     return [result.is_leader for result in results]
    >>> asyncio.run(main())
    [False, False, True]
    """

    __slots__ = ("_leaving", "_parties")

    kind = "Barrier"
    _followed = False  # nobody can say who would come

    if not TYPE_CHECKING:
        abort = Absent(NEVER_BROKEN)
        broken = Absent(NEVER_BROKEN)
        reset = Absent(NEVER_BROKEN)
        n_waiting = Absent("use waiting")

    def __init__(self, parties: int) -> None:
        parties = index(parties)
        if parties < 0:
            raise ValueError(f"Barrier({parties}): parties must not be negative")
        super().__init__()
        self._parties = max(parties, 1)
        # How many of the line may go: all at once and in one transaction, so 0 whenever the internal lock is free.
        self._leaving = 0

    async def wait(self, timeout: float | None = None) -> BarrierWaitResult:
        """Wait until `parties` tasks have arrived, at most `timeout` seconds. The last one is the round's leader.

        Raises:
            TimeoutError: the round was not complete in time (zero or less tries once). This task has not arrived.
            UnsupportedLoopError: no supported loop runs here.
        """
        ticket = await self._acquire(FOLLOWER, tracked=False, deadline=deadline_of(timeout))
        return ticket.request  # type: ignore[no-any-return]

    @property
    def parties(self) -> int:
        """How many make a round."""
        return self._parties

    @property
    def waiting(self) -> int:
        """How many have arrived in the present round."""
        return self._waiting

    # The engine's questions.
    def _stand_in_line(self, ticket: Ticket) -> bool:
        return self._transact(self._join, ticket)  # the last one's arrival lets the line go

    def _join(self, ticket: Ticket) -> bool:
        assert self._leaving == 0
        if self._waiting + 1 < self._parties:
            return super()._join(ticket)
        self._leaving = self._waiting
        ticket.request = LEADER
        ticket.state = GRANTED
        return True

    def _join_or_leave(self, ticket: Ticket) -> bool:
        return self._waiting + 1 >= self._parties and self._join(ticket)

    def _admit(self, ticket: Ticket) -> bool:
        if self._leaving == 0:
            return False
        self._leaving -= 1
        return True

    def _retract(self, ticket: Ticket) -> None:
        """Cancelled when the round was complete: it counts all the same."""

    def _describe(self) -> str:
        return f"{self._waiting} of {self._parties} arrived"
