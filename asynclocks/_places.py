"""The engine's extras: a way into the line other than at its end, and places that nobody sleeps on yet."""

from __future__ import annotations

from typing import Any

from asynclocks._synchronizer import GRANTED, QUEUED, RELEASED, QueuedSynchronizer, Ticket
from asynclocks.backends import whose_turn
from asynclocks.backends._seam import Parker, ParkerTicket


class _Nobody:
    """The parker of a place that nobody sleeps on yet: whoever comes to sleep looks first."""

    async def park(self) -> None:
        raise NotImplementedError

    def unpark(self) -> bool:
        return True


_NOBODY = _Nobody()


class Place:
    """A place in the line before anybody sleeps on it; await it with `PlacingSynchronizer._await_place`.

    Given up with its last reference: what it was granted and nobody used goes on.
    """

    __slots__ = ("ticket",)

    def __init__(self, synchronizer: PlacingSynchronizer, request: Any) -> None:
        self.ticket: ParkerTicket = synchronizer._fill_in(ParkerTicket(_NOBODY), request, None)
        synchronizer._stand_in_line(self.ticket)

    def used_up(self) -> bool:
        """Was it granted? Then nothing is left to pass on."""
        synchronizer = self.ticket.synchronizer
        return bool(synchronizer._transact(synchronizer._use_up, self.ticket))

    def give_up(self) -> None:
        """Leave the line, or pass on what was granted and not used."""
        synchronizer = self.ticket.synchronizer
        synchronizer._give(synchronizer._withdraw, self.ticket)

    def __del__(self) -> None:
        ticket = self.ticket
        if ticket.state is QUEUED or ticket.state is GRANTED:
            synchronizer = ticket.synchronizer
            synchronizer._give_from_finalizer(synchronizer._withdraw, ticket)


class PlacingSynchronizer(QueuedSynchronizer):
    """A synchronizer whose line has more than one way in."""

    __slots__ = ()

    def _link_before(self, following: Ticket, ticket: Ticket) -> None:
        """Queue `ticket` in front of `following`, which is in the line. Inside the lock."""
        ticket.state = QUEUED
        ticket.before = before = following.before
        ticket.after = following
        following.before = ticket
        if before is None:
            self._head = ticket
        else:
            before.after = ticket
        self._waiting += 1

    async def _await_place(self, place: Place) -> None:
        """Wait until `place` is granted. Cancelled, it is given up."""
        ticket = place.ticket
        try:
            backend, _ = whose_turn()
            if backend.checkpoints:
                await backend.checkpoint_if_cancelled()
            parker = backend.parker()
            if not self._transact(self._occupy, (ticket, parker)) and backend.checkpoints:
                await backend.cancel_shielded_checkpoint()
            while ticket.state is QUEUED:
                await parker.park()
        except BaseException as error:
            self._abandon(ticket, error)
            raise
        place.used_up()

    # Changes, inside the internal lock.
    def _occupy(self, whose: tuple[ParkerTicket, Parker]) -> bool:
        """Sleep on the place from now on. False: it was granted before."""
        ticket, parker = whose
        ticket._parker = parker
        return ticket.state is QUEUED

    def _use_up(self, ticket: Ticket) -> bool:
        """Nothing is left to pass on. False: it was not granted yet."""
        if ticket.state is GRANTED:
            ticket.state = RELEASED
        return ticket.state is RELEASED
