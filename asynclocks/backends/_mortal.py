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

import asyncio
import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Context, ContextVar
from itertools import count
from typing import Any
from weakref import WeakValueDictionary, ref

from asynclocks.backends._seam import State, Ticket, unawaited
from asynclocks.backends.asyncio import AsyncioParker, current_task

SILENT = 5  # ticks of another home without a sign of this one's
PATIENCE = 10  # how often a coroutine may go on sleeping though it is closed

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

    def dwell(self, task: Any) -> Home:
        """The home of the running task."""
        home: Any = dwelling.get()
        if home is Nowhere:
            home = self._kind(self, task)
            if task is not None:  # else everybody after would inherit it
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
        for line in self._lines():
            owners = _owners(line)
            suspects = self._all() if owners is None else map(home_of, owners)
            for suspect in suspects:
                if suspect is not None and suspect.is_dead(suspected=owners is None):
                    self._bury(suspect, line)

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

    def _bury(self, home: Home, line: Any) -> None:
        self.burying = True
        try:
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


def _end(task: asyncio.Task[Any]) -> None:
    """Close the coroutine of a task that will not run again. It may take some persuasion to end."""
    coroutine: Any = task.get_coro()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it did not forget to end
    for _ in range(PATIENCE):
        try:
            coroutine.close()
        except ValueError:  # its stack was switched out in the middle of a plain call
            return
        except BaseException as error:  # noqa: BLE001  # what its last words are
            context = {"message": "a task that died with its request ended with an error", "exception": error}
            task.get_loop().call_exception_handler({**context, "task": task})
        else:
            return


def _held_by(task: asyncio.Task[Any]) -> Iterator[Any]:
    """The locks whose owner is this task. Whatever has an owner refers to it by the one weak reference there is."""
    for found in gc.get_referrers(ref(task)):
        if isinstance(found, Ticket):
            if getattr(found, "state", None) is GRANTED:
                yield found.synchronizer
        elif hasattr(found, "_transact") and getattr(found, "_held", None) is not None:  # a mutex held by a block
            yield found


def _break_open(line: Any, home: Home) -> None:
    """Release what ``acquire()`` took and no block was to give back."""
    if hasattr(line, "release") and any(home_of(task) is home for task in _owners(line) or ()):
        with suppress(RuntimeError):  # a guard holds it, of a coroutine that would not end
            line.release()


class Home:
    """One context of the platform's, as one of its tasks made it known."""

    def __init__(self, watch: Watch, task: Any) -> None:
        self.watch = watch
        self.number: int = next(_numbers)
        watch.homes[self.number] = self
        self.hint: Callable[[], Any] = (
            watch.first_use
        )  # the hot path's question for the running task, while there is something to do first
        self.sleepers: dict[MortalParker, None] = {}
        self.ticking: bool = False
        self.lost: bool = False
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
    def use(self, task: Any) -> None:
        """A task of this home, running now, wants to take something."""
        if self._looks or self._anchored:
            self.hint = current_task
        else:
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
                context_of(task).run(dwelling.set, home)
        self.close()

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
                self.close()
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
        tasks = self.tasks()
        unawaited.update(lock for task in tasks for lock in _held_by(task) if lock._head is None)
        for task in tasks:
            _end(task)
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


def _nobody() -> None:
    """In place of a weak reference to a task."""


def context_of(task: Any) -> Context:
    return task.get_context()  # type: ignore[no-any-return]


def home_of(task: Any) -> Home | None:
    return context_of(task).get(dwelling)


class Nowhere:
    """In place of a home nobody has made known yet."""

    hint: Callable[[], Any]  # `Watch.first_use` of the platform's watch


RECENT = 2  # how many of the homes last opened to look at, whether they are the same: one that is not takes its time
_numbers = count(1)
dwelling: ContextVar[Any] = ContextVar("asynclocks_dwelling", default=Nowhere)


class MortalParker(AsyncioParker):
    """Parks a task that may be gone when it is woken."""

    __slots__ = ("_home", "_passed_over", "recovered")

    recovered: bool

    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home = home
        self._passed_over = False
        self.recovered = False

    async def park(self) -> None:  # type: ignore[override]  # a coroutine is awaitable as well
        home = self._home = self._home.open()
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
        if hasattr(self, "_unparked"):
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
        if hasattr(self, "_unparked"):  # by the grant that was given back
            del self._unparked
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        self.synchronizer._transact(self.synchronizer._come_back, self)
        if self.state is GRANTED and self in self._home.sleepers:
            self.unpark()
