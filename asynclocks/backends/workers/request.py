"""Homes: the contexts that tasks live and die in, on platforms where a context ends without a word. See `watch`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import ref

from asynclocks.backends.asyncio import Parked, current_task
from asynclocks.backends.workers.reaping import end

if TYPE_CHECKING:
    from asynclocks.backends.workers.watch import MortalParker, Watch

SILENT = 5  # ticks of another home without a sign of this one's
RECENT = 2  # how many of the homes last opened to look at, whether they are the same: one that is not takes its time


def _nobody() -> None:
    """In place of a weak reference to a task."""


def context_of(task: Any) -> Context:
    return task.get_context()  # type: ignore[no-any-return]


def home_of(task: Any) -> Home | None:
    home: Home | None = context_of(task).get(dwelling)
    return None if home is None else home.today()


class Nowhere:
    """In place of a home nobody has made known yet."""

    hint: Callable[[], Any] = staticmethod(_nobody)  # the platform puts its watch's `first_use` here


_numbers = count(1)
dwelling: ContextVar[Any] = ContextVar("asynclocks_dwelling", default=Nowhere)


class Home:
    """One context of the platform's, as one of its tasks made it known."""

    def __init__(self, watch: Watch, task: Any) -> None:
        self.watch = watch
        self.number: int = next(_numbers)
        watch.homes[self.number] = self
        # The hot path's question for the running task. While there is something to do first:
        self.hint: Callable[[], Any] = watch.first_use
        self.sleepers: dict[MortalParker, None] = {}
        self.parked = Parked()  # of its own: the loop outlives it
        self.ticking: bool = False
        self.lost: bool = False
        self._moved_to: Home | None = None  # where its tasks are at home in truth
        self._task = ref(task) if task is not None else _nobody  # the last that needed it
        self._letters: list[MortalParker] = []
        self._expects = False  # gets letters
        self._rung = False  # one is under way
        self._looks = False  # `look` is under way
        self._open = False
        self._anchored = False
        self._blocking: list[MortalParker] = []  # what holds for plain calls, or did
        self._buried = False
        self._count = 0  # its ticks, set forward to the watch's
        self._seen = watch.now  # when it gave a sign of life
        self._asked: int | None = None  # since when it owes an answer

    # What the platform supplies.
    def do_look_later(self) -> None:
        """Call `look` in this home, soon."""
        raise NotImplementedError

    def do_open(self) -> None:
        """Get ready for `do_tell_here`."""
        raise NotImplementedError

    def do_expect_letter(self) -> None:
        """Get ready for the next `do_ring`."""
        raise NotImplementedError

    def do_ring(self) -> None:
        """Let this home call `receive`, from any home."""
        raise NotImplementedError

    def do_tick(self, on: bool) -> None:
        """Call `tick` from time to time, in this home; or do not any more."""
        raise NotImplementedError

    def do_anchor(self, on: bool) -> None:
        """Let this home live on though its client is gone; or do not any more."""
        raise NotImplementedError

    def do_close(self) -> None:
        """Leave nothing behind."""
        raise NotImplementedError

    def do_tell_here(self) -> bool:
        """Does this home's code run now?"""
        raise NotImplementedError

    # Coming and going.
    @property
    def looked_after(self) -> bool:
        """Is it anchored, or will it be seen to?"""
        return self._looks or self._anchored

    def use(self, task: Any, *, owns: bool = False) -> None:
        """A task of this home, running now, wants to take something, or took it."""
        if owns or self.looked_after:
            self.hint = current_task
        if not self.looked_after:
            self._looks = True
            self._task = ref(task)
            self.watch.homes[self.number] = self
            self.do_look_later()

    def look(self) -> None:
        """One trip through the loop later: whoever still runs, holds perhaps."""
        self._hear()
        if not self._looks:  # it waits: see `lodge`
            return
        self._looks = False
        task = self._task()
        if (task is not None and not task.done()) or self.tasks():
            self.open().keep()
        else:
            self.close()

    def open(self) -> Home:
        """This home or, if another task made the same one known before, that."""
        if self._open:
            return self
        watch = self.watch
        for other in map(watch.homes.get, watch.recent):
            if other is not None and other.is_here():
                self._move_to(other)
                return other
        self._open = True
        watch.homes[self.number] = self
        watch.recent = [self.number, *watch.recent[: RECENT - 1]]
        self._expects = True
        self.do_open()
        self.do_expect_letter()
        if self._task is not _nobody:
            self._wait_for_the_last()
        return self

    def _move_to(self, home: Home) -> None:
        for task in self.tasks():
            if task is current_task():
                dwelling.set(home)
            else:
                with suppress(RuntimeError):  # its stack is switched out in the middle of a step
                    context_of(task).run(dwelling.set, home)
        self._moved_to = home
        home._blocking += self._blocking
        self.close()

    @property
    def has_moved(self) -> bool:
        return self._moved_to is not None

    def today(self) -> Home:
        """This home or, if another one turned out to be the same, that."""
        home = self
        while home._moved_to is not None:
            home = home._moved_to
        return home

    def keep(self) -> None:
        """Somebody here holds something."""
        if not self._anchored:
            self._anchored = True
            self.do_anchor(True)
        self.hint = current_task

    def tasks(self) -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks() if home_of(task) is self]

    def _wait_for_the_last(self, _: object = None) -> None:
        """Close when nobody is left."""
        if not self._open:
            return
        task = self._task()
        if task is None or task.done():
            task = next(iter(self.tasks()), None)
        if task is None and self.sleepers:
            self._task = _nobody  # they are woken in no task of this home; `tick` closes it
        elif task is None:
            self.close()
        else:
            self._task = ref(task)
            task.add_done_callback(self._wait_for_the_last)

    def close(self) -> None:
        """Nobody here needs it any more."""
        self.hint = self.watch.first_use
        self._looks = False
        if self.ticking:
            self.ticking = False
            self.do_tick(False)
        if self._anchored:
            self._anchored = False
            self.do_anchor(False)
        if self._open:
            self._open = False
            self.watch.recent = [number for number in self.watch.recent if number != self.number]
        if not self._rung:  # else a letter is still to come
            self._leave_nothing()

    def _leave_nothing(self) -> None:
        self.watch.homes.pop(self.number, None)
        if self._expects:
            self._expects = False
            self.do_close()

    def note_blocking(self, parker: MortalParker) -> None:
        """It is a plain call's, whose frames nobody can close."""
        self._blocking = [other for other in self._blocking if other.wants_something()]
        self._blocking.append(parker)

    def is_here(self) -> bool:
        """Does this home's code run now?"""
        here = dwelling.get()
        if here is not self and here is not Nowhere and here._open:
            return False
        return self.do_tell_here() if self._open else here is self

    # Sleepers.
    def lodge(self, sleeper: MortalParker) -> None:
        """Somebody sleeps here from now on."""
        if self._looks and self.hint is not current_task:  # waiting is the first that it does: it holds nothing
            self._looks = False
        self._hear()
        self.sleepers[sleeper] = None
        if not self.ticking:
            self.ticking = True
            self._count = self.watch.now
            self.do_tick(True)

    def leave(self, sleeper: MortalParker) -> None:
        self.sleepers.pop(sleeper, None)

    def post(self, sleeper: MortalParker) -> None:
        """Wake it, from another home."""
        self._letters.append(sleeper)
        self._ring()

    def _ring(self) -> None:
        if self._open and not self._rung:
            self._rung = True
            self.do_ring()

    def receive(self) -> None:
        """A letter came."""
        self._rung = False
        if self._open:
            self.do_expect_letter()
            self._hear()
            self._deliver()
        else:
            self._leave_nothing()

    def _deliver(self) -> None:
        letters, self._letters = self._letters, []
        for sleeper in letters:
            sleeper.wake()

    # Signs of life.
    def tick(self) -> None:
        watch = self.watch
        self._count += 1
        first = self._count > watch.now
        if first:
            watch.now = self._count
        self._count = watch.now
        self._hear()
        self._deliver()
        if not self.sleepers:
            self.ticking = False
            self.do_tick(False)
            if self._task is _nobody:
                self._wait_for_the_last()
        elif first:
            watch.round()

    def _hear(self) -> None:
        self._seen = self.watch.now
        self._asked = None
        self._buried = False
        if self.lost:
            self.lost = False
            for sleeper in reversed([*self.sleepers]):  # each goes to the head
                sleeper.come_back()

    def silence(self) -> int:
        """For how many ticks there was no sign."""
        return self.watch.now - self._seen

    def lose(self) -> None:
        """Pass over those who sleep here."""
        self.lost = True
        for sleeper in [*self.sleepers]:
            sleeper.pass_over()

    def bury(self) -> None:
        """Let go of whatever its tasks hold."""
        self._buried = True
        for task in self.tasks():
            end(task)
        for hold in self._blocking:  # there is no coroutine to close
            if hold.wants_something() and hold.synchronizer._followed:
                hold.synchronizer._give_back(hold)
        self._rung = False  # nobody reads it
        self.close()

    def is_dead(self, *, suspected: bool) -> bool:
        """Is it? Ask. One that is merely `suspected` to be in the way gets more time if it ticked before."""
        if self._buried:
            return False
        if self.ticking:
            return self.silence() >= (2 * SILENT if suspected else SILENT)
        if self._asked is None:
            self._asked = self.watch.now
            self._ring()
        return self.watch.now - self._asked >= SILENT
