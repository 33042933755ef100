"""The engine's extras: a way into the line other than at its end, and places that nobody sleeps on yet."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from enum import Enum
from typing import Any

from asynclocks._engine.deadline import Deadline, over
from asynclocks._engine.synchronizer import GRANTED, QUEUED, RELEASED, WITHDRAWN, QueuedSynchronizer, Ticket
from asynclocks.backends import whose_turn
from asynclocks.backends.seam import LoopBackend, Parker, uninterrupted


class PlaceTicket(Ticket):
    """The ticket of a place: it wakes whoever came to sleep on it."""

    __slots__ = ("sleeper",)

    def __init__(self) -> None:
        self.sleeper: Parker | None = None

    def unpark(self) -> bool:
        return self.sleeper is None or self.sleeper.unpark()

    def is_here(self) -> bool:
        return not isinstance(self.sleeper, Ticket) or self.sleeper.is_here()

    def whose(self) -> Any:
        return self.sleeper.whose() if isinstance(self.sleeper, Ticket) else None


class Place:
    """A place in the line before anybody sleeps on it: a `Wait` may.

    Given up with its last reference: what it was granted and nobody used goes on.
    """

    __slots__ = ("ticket",)

    def __init__(self, synchronizer: PlacingSynchronizer, request: Any) -> None:
        self.ticket: PlaceTicket = synchronizer._fill_in(PlaceTicket(), request, None)
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
        ticket: Any = getattr(self, "ticket", None)  # its constructor may have been interrupted
        if ticket is not None and (ticket.state is QUEUED or ticket.state is GRANTED):
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

    # Changes, inside the internal lock.
    def _occupy(self, whose: tuple[PlaceTicket, Parker]) -> bool:
        """Sleep on the place from now on. False: it was granted before."""
        ticket, parker = whose
        ticket.sleeper = parker
        return ticket.state is QUEUED

    def _use_up(self, ticket: Ticket) -> bool:
        """Nothing is left to pass on. False: it was not granted yet."""
        if ticket.state is GRANTED:
            ticket.state = RELEASED
        return ticket.state is RELEASED


class Stage(Enum):
    """How far a wait is."""

    CREATED = "not awaited yet"
    ENABLED = "enabled"
    TOLD = "notified"
    AWAITED = "being awaited"
    DONE = "awaited already"
    CANCELLED = "cancelled"


CREATED, ENABLED, TOLD, AWAITED, DONE, CANCELLED = Stage


class Wait(Awaitable[None]):
    """One wait for `_request` to be admitted, on a place taken before or by awaiting it. Cancelled, it is given up."""

    __slots__ = ("__weakref__", "_deadline", "_place", "_request", "_stage", "_synchronizer")

    _synchronizer: Any
    _request: Any
    _deadline: Deadline | None
    _stage: Stage
    _place: Place  # from ENABLED on

    @uninterrupted
    def __await__(self) -> Generator[Any, Any, None]:  # noqa: C901, PLR0912  # a second generator would show in each wait
        """Wait for the wake-up.

        Raises:
            TimeoutError: the wake-up did not come in time.
            RuntimeError: it was awaited before, or cancelled.
            UnsupportedLoopError: no supported loop runs here.
        """
        # `_acquire` untracked: a generator spares it a coroutine and its wrapper.
        stage = self._stage
        if stage is AWAITED or stage is DONE or stage is CANCELLED:
            raise RuntimeError(f"{self!r}: it can be awaited once; ask for a new one with notified()")
        self._stage = AWAITED
        ticket: Any = None if stage is CREATED else self._place.ticket
        parker: Any = None
        line = self._synchronizer
        try:
            backend = whose_turn()[0]
            if backend.checkpoints:
                yield from backend.checkpoint_if_cancelled().__await__()
            parker = backend.parker()
            if ticket is not None:
                admitted = not line._transact(line._occupy, (ticket, parker))
            else:
                ticket = parker
                ticket.synchronizer = line
                ticket.request = self._request
                ticket.owner = None
                ticket.state = WITHDRAWN  # until it joins
                admitted = line._stand_in_line(ticket)
            if not admitted:
                if self._deadline is not None:
                    yield from self._sleep_until(self._deadline, ticket, parker, backend)
                else:
                    yield from parker.park().__await__()
                    if ticket.state is QUEUED:
                        yield from self._park_on(ticket, parker)
            elif backend.checkpoints:
                yield from backend.cancel_shielded_checkpoint().__await__()
        except BaseException:
            self._stage = CANCELLED
            if ticket is not None:
                line._deferred.append((line._withdraw, ticket))  # in one step: whatever strikes now, it is withdrawn
            try:
                if parker is not None:
                    parker.leave()
            finally:
                line._catch_up()
            raise
        ticket.state = RELEASED  # nothing is left to pass on
        self._stage = DONE

    def _park_on(self, ticket: Any, parker: Any) -> Generator[Any, Any, None]:
        """Park again: a park may return without reason. A loop of its own: see `QueuedSynchronizer._park_on`."""
        while ticket.state is QUEUED:
            yield from parker.park().__await__()

    def _sleep_until(
        self, deadline: Deadline, ticket: Any, parker: Any, backend: LoopBackend
    ) -> Generator[Any, Any, None]:
        line = self._synchronizer
        end = deadline.at(backend)
        if deadline.tries_once:
            line._transact(line._expire, ticket)
            if backend.checkpoints:
                yield from backend.cancel_shielded_checkpoint().__await__()
        while ticket.state is QUEUED:
            in_time = yield from parker.park_until(end).__await__()
            if not in_time:
                line._transact(line._expire, ticket)  # unless the wake-up came first
        if ticket.state is WITHDRAWN:
            raise over(repr(self), deadline.seconds)
