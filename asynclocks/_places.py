"""The engine's extras: places in the line other than at its end, and places that nobody sleeps on yet."""

from __future__ import annotations

from typing import Any

from asynclocks._synchronizer import GRANTED, QUEUED, RELEASED, QueuedSynchronizer, Ticket
from asynclocks.backends import running
from asynclocks.backends._seam import Parker, ParkerTicket


class _Nobody:
    """The parker of a place that nobody sleeps on yet: whoever comes to sleep will see for itself."""

    async def park(self) -> None:
        raise NotImplementedError

    def unpark(self) -> bool:
        return True


_NOBODY = _Nobody()


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

    def _place(self, request: Any) -> ParkerTicket:
        """A ticket to join with before anybody sleeps on it (`_await_place`)."""
        place: ParkerTicket = self._fill_in(ParkerTicket(_NOBODY), request, None)
        return place

    async def _await_place(self, place: ParkerTicket) -> None:
        """Wait until `place`, which joined before, is admitted. Cancelled, it is given up."""
        try:
            backend, _ = running()
            if backend.checkpoints:
                await backend.checkpoint_if_cancelled()
            parker = backend.parker()
            if not self._transact(self._occupy, (place, parker)) and backend.checkpoints:
                await backend.cancel_shielded_checkpoint()
            while place.state is QUEUED:
                await parker.park()
        except BaseException as error:
            self._abandon(place, error)
            raise

    # Changes, inside the internal lock.
    def _occupy(self, whose: tuple[ParkerTicket, Parker]) -> bool:
        """Sleep on the place from now on. False: it was granted before."""
        place, place._parker = whose
        return place.state is QUEUED

    def _use_up(self, ticket: Ticket) -> bool:
        """Nothing is left to pass on. False: it was not granted yet."""
        if ticket.state is GRANTED:
            ticket.state = RELEASED
        return ticket.state is RELEASED
