"""Who waits for whom, right now: for a service that hangs.

Nothing is recorded beforehand. Both functions look at the process when they are called, from any thread, also from a
signal handler; they take no lock. What they tell are names and positions in code, never values: no key of a map either.

>>> import asyncio
>>> from asynclocks import Mutex
>>> async def main():
...     asyncio.current_task().set_name("main")
...     mutex = Mutex(name="accounts")
...     async with mutex:
...         waiting = asyncio.create_task(mutex.acquire(), name="late")
...         await asyncio.sleep(0)
...         for report in waits():
...             print(report.waiter, "waits for", report.lock, "held by", *report.holders)
...         waiting.cancel()
>>> asyncio.run(main())
task 'late' waits for Mutex 'accounts' held by task 'main'
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Hashable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import attrs

from asynclocks._engine.synchronizer import QUEUED, QueuedSynchronizer, Ticket
from asynclocks.backends import in_words, loop_runs, stack_of

__all__ = ["WaitReport", "print_waits", "waits"]

_HERE = str(Path(__file__).parent) + os.sep


@attrs.frozen
class WaitReport:
    """One wait of one task or thread."""

    waiter: str  # "task 'a'", "thread 'T'"
    lock: str  # "Mutex 'accounts'"
    position: int  # in the line: 1 is next
    holders: tuple[str, ...]  # who holds it, as far as the lock knows
    loop_running: bool  # False: the waiter's loop was stopped, or is between two `run_until_complete`
    stack: tuple[str, ...]  # where the waiter sleeps: 'File "app.py", line 3, in main', the outermost first


@attrs.frozen(eq=False)
class _Wait:
    lock: QueuedSynchronizer
    position: int
    waiter: Any  # None: nobody knows
    holders: list[Any]


def waits() -> list[WaitReport]:
    """Every wait in the process for anything of this library, the waiters of one lock in their order."""
    frames = sys._current_frames()
    return [
        WaitReport(
            in_words(wait.waiter),
            wait.lock._title_without_values(),
            wait.position,
            tuple(map(in_words, wait.holders)),
            loop_runs(wait.waiter),
            tuple(_positions(wait.waiter, frames, waits=True)),
        )
        for wait in _find()
    ]


def print_waits(file: Any = None) -> None:
    """Print every wait as a tree, to `file` (``sys.stderr``): each lock with who holds it, who waits, and their stacks.

    What a waiter holds and others wait for stands below that waiter.
    """
    print("\n".join(_Tree(_find()).lines()), file=sys.stderr if file is None else file)  # that is its job


def _find() -> list[_Wait]:
    lines: dict[int, QueuedSynchronizer] = {}
    for one in gc.get_objects():
        # `type`, for `isinstance` asks objects what class they say they are, and proxies might run code.
        if issubclass(type(one), Ticket) and getattr(one, "state", None) is QUEUED:
            lines.setdefault(id(one.synchronizer), one.synchronizer)
    return [wait for line in lines.values() for wait in _in_line(line)]


def _in_line(line: QueuedSynchronizer) -> Iterator[_Wait]:
    # Others may change it meanwhile, and the lock may be taken by this very thread: see each ticket once.
    ticket, seen = line._head, set[Ticket]()
    while ticket is not None and ticket not in seen:
        seen.add(ticket)
        waiter = _waiter(ticket)
        if waiter is not None and ticket.state is QUEUED:
            yield _Wait(line, len(seen), waiter, _holders(line, ticket))
        ticket = ticket.after


def _waiter(ticket: Ticket) -> Any:
    sleeper = ticket.whose()
    return ticket.owner() if sleeper is None and ticket.owner is not None else sleeper


def _holders(line: QueuedSynchronizer, ticket: Ticket) -> list[Any]:
    try:
        takers = list(line._takers(ticket))
    except (NotImplementedError, RuntimeError):  # the lock does not know, or is being changed
        return []
    return list(dict.fromkeys(task for taker in takers if taker is not None and (task := taker()) is not None))


def _positions(task: Any, frames: dict[int, FrameType], *, waits: bool) -> Iterator[str]:
    """Where it is, without the library's own frames and, of one that waits there, what those call."""
    stack = stack_of(task, frames)
    ours = [number for number, frame in enumerate(stack) if frame.f_code.co_filename.startswith(_HERE)]
    end = ours[-1] if ours and waits else len(stack)
    users = [frame for number, frame in enumerate(stack[:end]) if number not in ours]
    for frame in users or stack[:1]:  # a task may have been made of what `acquire()` returned
        code = frame.f_code
        yield f'File "{code.co_filename}", line {frame.f_lineno}, in {code.co_qualname}'


class _Tree:
    def __init__(self, found: list[_Wait]) -> None:
        self._frames = sys._current_frames()
        self._lines: dict[QueuedSynchronizer, list[_Wait]] = {}
        self._held: dict[Hashable, list[QueuedSynchronizer]] = {}  # what others wait for, by who holds it
        for wait in found:
            self._lines.setdefault(wait.lock, []).append(wait)
            for holder in wait.holders:
                if wait.lock not in self._held.setdefault(holder, []):
                    self._held[holder].append(wait.lock)
        self._waiters = {wait.waiter for wait in found}
        self._printed: set[QueuedSynchronizer] = set()

    def lines(self) -> Iterator[str]:
        if not self._lines:
            yield "Nobody waits for a lock of asynclocks."
        # First those whose holders run; what is left then waits in a circle.
        for lock, waiting in self._lines.items():
            if self._waiters.isdisjoint(waiting[0].holders):
                yield from self._lock(lock, "")
        for lock in self._lines:
            if lock not in self._printed:
                yield from self._lock(lock, "")

    def _lock(self, lock: QueuedSynchronizer, indent: str) -> Iterator[str]:
        waiting = self._lines[lock]
        holders = ", ".join(map(in_words, waiting[0].holders))
        if lock in self._printed:
            yield f"{indent}{lock._title_without_values()}: see above"
            return
        self._printed.add(lock)
        yield f"{indent}{lock._title_without_values()}{', held by ' * bool(holders)}{holders}"
        for holder in waiting[0].holders:
            if holder not in self._waiters:
                yield from self._who(holder, indent + "  ")
        for wait in waiting:
            yield f"{indent}  {wait.position}. {in_words(wait.waiter)} waits"
            yield from self._who(wait.waiter, indent + "     ")
            for held in self._held.get(wait.waiter, ()):
                yield from self._lock(held, indent + "     ")

    def _who(self, task: Any, indent: str) -> Iterator[str]:
        if not loop_runs(task):
            yield f"{indent}loop not running"
        for position in _positions(task, self._frames, waits=task in self._waiters):
            yield indent + position
