"""Tasks that may be gone without a word, as on Cloudflare Workers: who lives, who waits, and what the dead held.

There each request has a context of its own. What is started in one (a timer, a wake-up) belongs to it, and when it
ends, is cancelled or disconnected, its tasks never run again, not even to be cancelled. A `Home` is such a
context, and all that is known of it:

- A sleeper is woken in its own home: directly by whoever runs there, else by a letter.
- A home where somebody sleeps ticks, which also keeps it alive. One that did not tick while another one ticked
  `SILENT` times is *lost*: its sleepers are passed over, as if cancelled. Ticks are counted, not time: a long
  computation stops everybody's alike.
- A grant is provisional until its sleeper has resumed. One that was passed over and lives after all goes back to the
  head of its line.
- Where nobody sleeps, somebody may hold what others wait for. Such a home is *asked*, by a letter; if it does not
  answer within `SILENT` ticks it is dead, and is buried: its coroutines are closed, as the collector would close
  them. So every block lets go by the code it always has, and whoever gets it then gets it `recovered`.
- A home where somebody holds something is *anchored*, once, which lets it go on though its client is gone.

Nothing here knows the platform: a subclass of `Home` supplies what begins with "do_".
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary, ref

from asynclocks._engine.ticket import State, unawaited
from asynclocks.backends.asyncio import AsyncioParker, current_task
from asynclocks.backends.workers.reaping import held_by
from asynclocks.backends.workers.request import SILENT, Home, Nowhere, dwelling, home_of

GRANTED, QUEUED = State.GRANTED, State.QUEUED


class Watch:
    """What the homes of one process know of each other. `kind` is the platform's subclass of `Home`."""

    def __init__(self, kind: type[Home]) -> None:
        self._kind = kind
        self.now = 0  # as many ticks as the home that ticked most often
        self.homes: WeakValueDictionary[int, Home] = WeakValueDictionary()
        self.recent: list[int] = []  # the numbers of those last opened
        self.burying: bool = False

    def first_use(self) -> Any:
        """The running task, which wants to take something; at home from now on."""
        task = current_task()
        if task is not None:
            self.dwell(task).use(task)
        return task

    def own(self, task: Any) -> ref[Any]:
        """A weak reference to the running task, which owns something from now on."""
        if dwelling.get().hint is not current_task:
            self.dwell(task).use(task, owns=True)
        return ref(task)

    def home_of_a_parker(self) -> Home:
        """The home of the running task, which waits or, if it need not, owns something."""
        task = current_task()
        home = self.dwell(task)
        if task is not None and not home.looked_after:
            home.use(task)
        return home

    def dwell(self, task: Any) -> Home:
        """The home of the running task."""
        home: Any = dwelling.get()
        if home is Nowhere:
            home = self._kind(self, task)
            if task is not None:  # else everybody after would inherit it
                dwelling.set(home)
        elif home.has_moved:
            home = home.today()
            dwelling.set(home)
        return home  # type: ignore[no-any-return]

    def receive(self, number: int) -> None:
        """A letter came for the home of this number, in that home."""
        home = self.homes.get(number)
        if home is not None:
            home.receive()

    def tick(self, number: int) -> None:
        """It is time for that home to tick, in that home."""
        home = self.homes.get(number)
        if home is not None and home.ticking:
            home.tick()

    def round(self) -> None:
        """Look who is silent. Called in a home that lives, once for each tick."""
        for home in self._all():
            if home.ticking and not home.lost and home.silence() >= SILENT:
                home.lose()
        dead = {}
        for line in self._lines():
            owners = _owners(line)
            suspects = self._all() if owners is None else map(home_of, owners)
            for suspect in suspects:
                if suspect is not None and suspect.is_dead(suspected=owners is None):
                    dead[suspect] = line
        if dead:
            self._bury(dead)

    def _all(self) -> list[Home]:
        return list(self.homes.values())

    def _lines(self) -> Iterable[Any]:
        """What the living wait for."""
        lines = {}
        for home in self._all():
            if not home.lost:
                for sleeper in home.sleepers:
                    line = getattr(sleeper, "synchronizer", None)
                    lines[id(line)] = line
        return [line for line in lines.values() if line is not None and line._head is not None]

    def _bury(self, dead: dict[Home, Any]) -> None:
        """Let go of what they hold. Each was found to be in the way of a line."""
        tasks = [task for home in dead for task in home.tasks()]
        unawaited.update(lock for lock in held_by(tasks) if lock._head is None)
        self.burying = True
        try:
            for home, line in dead.items():
                home.bury()
                _break_open(line, home)
        finally:
            self.burying = False


def _owners(line: Any) -> list[Any] | None:
    """Whose turn it is, as far as the line knows; None: it does not."""
    head = line._head
    if not line._followed or head is None:
        return None
    try:
        owners = [owner() for owner in line._owners(head)]
    except NotImplementedError:
        return None
    return [task for task in owners if task is not None] or None


def _break_open(line: Any, home: Home) -> None:
    """Release what ``acquire()`` took and no block was to give back."""
    if hasattr(line, "release") and any(home_of(task) is home for task in _owners(line) or ()):
        with suppress(RuntimeError):  # a guard holds it, of a coroutine that would not end
            line.release()


class MortalParker(AsyncioParker):
    """Parks a task that may be gone when it is woken."""

    __slots__ = ("_home", "_passed_over", "recovered")

    recovered: bool

    def __init__(self, home: Home) -> None:
        self._parked = home.parked.reference
        self._unparked = False
        self._home = home
        self._passed_over = False
        self.recovered = False

    async def park(self) -> None:  # type: ignore[override]  # a coroutine is awaitable as well
        home = self._home = self._home.open()
        self._parked = home.parked.reference
        home.lodge(self)
        self.come_back()
        self.wake()
        try:
            await super().park()
        finally:
            home.leave(self)
        if self._passed_over:
            self.come_back()
        elif getattr(self, "state", None) is GRANTED:
            home.keep()

    def unpark(self) -> bool:
        home = self._home
        if home.lost and hasattr(self, "synchronizer"):
            self._passed_over = True
            return False
        self.recovered = home.watch.burying
        if home.is_here():
            return super().unpark()
        self._unparked = True
        home.post(self)
        return True

    def wake(self) -> None:
        """Resume, in the sleeper's own home, if it was unparked in another one."""
        if self._unparked:
            super().unpark()

    def rouse(self) -> None:
        if self._home.is_here():
            super().rouse()

    def wants_something(self) -> bool:
        """Is it a ticket that waits or holds? Of a `Place` it is no ticket, only who sleeps there."""
        return getattr(self, "state", None) in (QUEUED, GRANTED)

    def pass_over(self) -> None:
        """Leave the line, or give back the grant: nothing was heard of the sleeper."""
        if self.wants_something():
            self._passed_over = True
            queued = self.state is QUEUED
            self.synchronizer._give(self.synchronizer._withdraw, self)
            if queued and hasattr(self.request, "_notify_one"):  # by a Condvar that had notified it: to the next
                self.request._give(self.request._notify_one, None)

    def come_back(self) -> None:
        """The sleeper lives after all: to the head of the line."""
        if not self._passed_over:
            return
        self._passed_over = False
        self._unparked = False  # if it was, by the grant that was given back
        self.synchronizer._transact(self.synchronizer._come_back, self)
        if self.state is GRANTED and self in self._home.sleepers:
            self.unpark()
