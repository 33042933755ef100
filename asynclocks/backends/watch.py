"""A look at the waits of one asyncio loop that have stood for a while: some circles close after everybody has parked.

Nobody tells who is going to await a task that was merely started. A child may wait for what its parent holds, and the
parent comes to await the child afterwards, without a word to us. So each loop where anybody waits has one timer.

- A wait that is shorter than the time between two looks pays nothing.
- One that stands is looked at after `SOON`, then at twice the time, at last every `SELDOM` seconds.
- The timer ends when no wait stands that could be part of a circle. Who parks next begins it anew: that one finds no
  table on the loop and comes by `_parked_in`, as the first of the loop does.
- A look takes a small part of the loop's time, however many wait.

Nothing here refers to a task, a ticket or a lock between two looks.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, _get_running_loop
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from operator import itemgetter
from time import monotonic
from typing import Any

SOON, SELDOM = 0.5, 4.0  # seconds between two looks at one wait
AT_ONCE = 0.001  # seconds that one look at the loop may take, or a little more
PART = 50  # at least as many times as long as it took is the time till the next one


class Watch:
    """The timer of one loop's table of parked tasks, which `parked` returns."""

    __slots__ = ("_begun", "_due", "_parked")

    def __init__(self, parked: Callable[[], Any]) -> None:
        self._parked = parked
        self._begun = 0  # timers; only the last one counts. Its handle refers to the loop, so it is not kept here.
        # By the `id` of each wait: when it is looked at next, and the pause before that. If another wait gets the
        # `id` of one that ended, it is looked at somewhat sooner or later.
        self._due: dict[int, tuple[float, float]] = {}

    def begin(self, loop: AbstractEventLoop) -> None:
        """Look before long. A loop without timers is not watched."""
        self._begin(loop, SOON)

    def _begin(self, loop: AbstractEventLoop, pause: float) -> None:
        self._begun += 1
        with suppress(Exception):  # whatever a loop without timers raises
            loop.call_later(pause, self, self._begun, context=Context())  # a copy would keep its values alive

    def __call__(self, number: int) -> None:
        if number != self._begun:  # the other one was struck (Ctrl-C) as it began
            return
        loop: Any = _get_running_loop()
        parked = self._parked()
        del loop._asynclocks_parked  # whatever strikes now: who parks next begins anew
        begun = monotonic()
        self._look(list(parked), loop.time())
        if self._due:
            next_look = min(due for due, _ in self._due.values()) - loop.time()
            self._begin(loop, max(next_look, PART * max(monotonic() - begun, AT_ONCE)))
            loop._asynclocks_parked = parked

    def _look(self, tickets: list[Any], now: float) -> None:
        """Rouse one whose wait could never end: it looks for itself then. Others may be freed by its error."""
        known, self._due = self._due, {}
        due = []
        for ticket in filter(_is_followed, tickets):
            self._due[id(ticket)] = when, _ = known.get(id(ticket), (now + SOON, SOON))
            if when <= now:
                due.append((when, ticket))
        due.sort(key=itemgetter(0))  # the most overdue first: so each one's turn comes
        end = monotonic() + AT_ONCE
        for _, ticket in due:
            pause = min(2 * self._due[id(ticket)][1], SELDOM)
            self._due[id(ticket)] = now + pause, pause
            if ticket.synchronizer._is_stuck(ticket):
                ticket.rouse()
                return
            if monotonic() >= end:
                return


def _is_followed(ticket: Any) -> bool:
    """Could it be part of a circle?"""
    synchronizer = getattr(ticket, "synchronizer", None)  # none: it sleeps on a `Place`
    return synchronizer is not None and synchronizer._followed
