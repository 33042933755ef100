"""Notify: wake tasks that wait for something to happen (after ``tokio::sync::Notify``, to the letter).

A wake-up by `notify_one` or `notify_last` is a permit: the line's first ticket takes it, or it is stored. For
`notify_last` the newest ticket goes to the front first. `notify_waiters` begins a new generation, and
whoever is of an older one is let in.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from asynclocks._engine.absent import Absent
from asynclocks._engine.deadline import deadline_of
from asynclocks._engine.places import AWAITED, CANCELLED, CREATED, DONE, ENABLED, TOLD, Place, PlacingSynchronizer, Wait
from asynclocks._engine.synchronizer import GRANTED, Ticket

if TYPE_CHECKING:
    from asynclocks.statistics import NotifyStatistics


class Strategy(Enum):
    """Whom a wake-up is meant for. Unused, it goes on by the same rule."""

    OLDEST = "notify_one"
    NEWEST = "notify_last"


OLDEST, NEWEST = Strategy


class Notify(PlacingSynchronizer):
    """Wake tasks, of any loops, from any thread. It carries no data: look at yours when you are woken.

    `notify_one` with nobody waiting stores one wake-up, at most one, for the next who waits.

    >>> import asyncio
    >>> async def main():
    ...     ready = Notify()
    ...     ready.notify_one()
    ...     await ready.notified()
    ...     return ready.statistics()
    >>> asyncio.run(main())
    NotifyStatistics(waiting=0, stored=False)
    """

    __slots__ = ("_generation", "_stored")

    kind = "Notify"
    _followed = False  # nobody can say who would notify

    if not TYPE_CHECKING:
        clear = Absent("a Notify is no flag; asynclocks.Event is one")
        is_set = Absent("a Notify is no flag; asynclocks.Event is one")
        notify = Absent("use notify_one()")
        notify_all = Absent("use notify_waiters()")
        set = Absent("use notify_one() or notify_waiters(); asynclocks.Event is a flag that can be set")
        wait = Absent("use `await notify.notified()`")

    def __init__(self) -> None:
        super().__init__()
        # A stored wake-up means that nobody waits.
        self._stored: Strategy | None = None
        self._generation = 0  # how often notify_waiters was called

    def notified(self, timeout: float | None = None) -> Notified:
        """What to await for the next wake-up, at most `timeout` seconds, counted from when it is awaited.

        It is registered for `notify_waiters` now, and for `notify_one` and `notify_last` when it is enabled or
        awaited. TimeoutError is raised where it is awaited; zero or less tries once.
        """
        notified = Notified()
        notified._synchronizer = self
        notified._request = self._generation
        notified._deadline = deadline_of(timeout)
        notified._stage = CREATED
        return notified

    def notify_one(self) -> None:
        """Wake the oldest waiter; with nobody waiting, store one wake-up, at most one."""
        self._give(self._notify, OLDEST)

    def notify_last(self) -> None:
        """Wake the newest waiter; with nobody waiting, store one wake-up, at most one."""
        self._give(self._notify, NEWEST)

    def notify_waiters(self) -> None:
        """Wake whoever waits and every `Notified` created so far. Stores nothing, and leaves what is stored."""
        self._give(self._begin_generation, None)

    def statistics(self) -> NotifyStatistics:
        """How many wait (awaited or enabled), and whether a wake-up is stored."""
        from asynclocks.statistics import NotifyStatistics

        return NotifyStatistics(self._waiting, self._stored is not None)

    # The engine's questions.
    def _join(self, ticket: Ticket) -> bool:
        if self._stored is None and ticket.request == self._generation:
            self._append(ticket)
            return False
        # Nobody waits, or it is of an older generation, which need not wait whatever the line.
        self._admit(ticket)
        ticket.state = GRANTED
        return True

    def _serve(self) -> Ticket | None:
        head = self._head
        if head is None or self._stored is not None or head.request == self._generation:
            return super()._serve()
        return self._let_all_go()

    def _admit(self, ticket: Ticket) -> bool:
        if ticket.request != self._generation:  # it leaves a stored wake-up to others, as in tokio
            return True
        if self._stored is None:
            return False
        ticket.request, self._stored = self._stored, None
        return True

    def _retract(self, ticket: Ticket) -> None:
        if ticket.request.__class__ is Strategy:  # else it was notify_waiters: nothing to pass on
            self._notify(ticket.request)

    # Changes, inside the internal lock.
    def _notify(self, strategy: Strategy) -> None:
        oldest, newest = self._head, self._tail
        if strategy is NEWEST and oldest is not None and newest is not None and newest is not oldest:
            self._unlink(newest)
            try:
                self._link_before(oldest, newest)
            except BaseException:
                self._link_before(oldest, newest)
                raise
        self._stored = strategy

    def _begin_generation(self, _: None) -> None:
        self._generation += 1

    def _describe(self) -> str:
        return f"{self._waiting} waiting{', a wake-up stored' if self._stored is not None else ''}"


class Notified(Wait):
    """One wait for a `Notify`: await it, once.

    Registered for `Notify.notify_waiters` when it is created, for `Notify.notify_one` and `Notify.notify_last`
    when it is enabled or awaited. Cancelled while it is awaited, or dropped while it is enabled, it passes on a
    wake-up of the latter two that it got, by the same rule. A wake-up that `enable` told of is used.
    """

    __slots__ = ()

    _synchronizer: Notify
    _request: int  # the generation it was created in

    def enable(self) -> bool:
        """Register for `Notify.notify_one` and `Notify.notify_last` too, without waiting. True: already notified.

        After True the wake-up is used, and awaiting returns at once. Never waits, needs no loop.

        Raises:
            RuntimeError: it was cancelled.
        """
        if self._stage is CANCELLED:
            raise RuntimeError(f"enable() of {self!r}; ask for a new one with notified()")
        if self._stage is CREATED:
            self._place = Place(self._synchronizer, self._request)
            self._stage = ENABLED
        if self._stage is ENABLED and self._place.used_up():
            self._stage = TOLD
        return self._stage is TOLD or self._stage is DONE

    def cancel(self) -> None:
        """Give up the place; an unused wake-up of `Notify.notify_one` or `Notify.notify_last` goes on.

        Once notified, or cancelled, there is nothing to do.

        Raises:
            RuntimeError: it is being awaited; cancel the task that does.
        """
        stage = self._stage
        if stage is AWAITED:
            raise RuntimeError(f"cancel() of {self!r}: a task waits for it; cancel that task")
        if stage is CREATED or stage is ENABLED:
            self._stage = CANCELLED
        if stage is ENABLED:
            self._place.give_up()

    def __repr__(self) -> str:
        return f"<Notified of {self._synchronizer}: {self._stage.value}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle or copy {self!r}: it is one place in one queue")
