"""Event: a flag that tasks and threads wait for (after ``threading.Event`` and ``asyncio.Event``).

Each call of `set` begins a new generation. A waiter remembers the generation in which its wait began, and is let in
while the flag is set, and also when the generation is another one by then: a `clear` right after the `set`, or a wait
that had to be taken up again, cannot make a waiter miss the `set`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asynclocks import backends
from asynclocks._engine.deadline import deadline_of
from asynclocks._engine.synchronizer import GRANTED, QueuedSynchronizer, Ticket

if TYPE_CHECKING:
    from asynclocks.statistics import EventStatistics


class Event(QueuedSynchronizer):
    """A flag that is set and cleared, and that tasks of any loops, and threads, wait for.

    A `set` lets go everybody who waits at that moment, also if `clear` follows at once.

    >>> import asyncio
    >>> async def main():
    ...     opened = Event()
    ...     waiter = asyncio.create_task(opened.wait())
    ...     opened.set()
    ...     await waiter
    ...     return opened.statistics()
    >>> asyncio.run(main())
    EventStatistics(waiting=0, set=True)
    """

    __slots__ = ("_flag", "_generation")

    kind = "Event"
    _followed = False  # nobody can say who would set it

    def __init__(self) -> None:
        super().__init__()
        # While the flag is set nobody stands in line, and whoever stands there is of the present generation.
        self._flag = False
        self._generation = 0  # how often `set` was called

    def set(self) -> None:
        """Set the flag, from any thread: everybody who waits goes on, and nobody waits until it is cleared."""
        self._give(self._raise_flag, None)

    def clear(self) -> None:
        """Clear the flag, from any thread: who comes from now on waits for the next `set`."""
        self._give(self._lower_flag, None)

    def is_set(self) -> bool:
        """Is the flag set?"""
        return self._flag

    async def wait(self, timeout: float | None = None) -> None:
        """Wait until the flag is set, at most `timeout` seconds. If it is set already, this does not wait.

        Raises:
            TimeoutError: the flag was not set in time (zero or less looks once).
            UnsupportedLoopError: no supported loop runs here.
        """
        if self._flag:
            try:
                if backends.hint() is not None:
                    return
            except RuntimeError:  # not asyncio
                pass
        await self._acquire(self._generation, tracked=False, deadline=deadline_of(timeout))

    def blocking_wait(self, timeout: float | None = None) -> None:
        """Park this thread until the flag is set, at most `timeout` seconds; zero or less looks once.

        Raises:
            TimeoutError: the flag was not set in time.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        self._acquire_blocking("blocking_wait()", self._generation, timeout)

    def statistics(self) -> EventStatistics:
        """How many wait, and whether the flag is set."""
        from asynclocks.statistics import EventStatistics

        return EventStatistics(self._waiting, self._flag)

    # The engine's questions.
    def _join(self, ticket: Ticket) -> bool:
        # A ticket of an older generation need not wait, whoever stands in line.
        return self._join_or_leave(ticket) or super()._join(ticket)

    def _join_or_leave(self, ticket: Ticket) -> bool:
        if not self._admit(ticket):
            return False
        ticket.state = GRANTED
        return True

    def _admit(self, ticket: Ticket) -> bool:
        return self._flag or ticket.request != self._generation

    def _retract(self, ticket: Ticket) -> None:
        """Cancelled when the flag was set: it was set for the others all the same."""

    # Changes, inside the internal lock.
    def _raise_flag(self, _: None) -> None:
        self._flag = True
        self._generation += 1

    def _lower_flag(self, _: None) -> None:
        assert self._head is None or not self._flag
        self._flag = False

    def _describe(self) -> str:
        flag = "set" if self._flag else "not set"
        return f"{flag}, {self._waiting} waiting" if self._waiting else flag
