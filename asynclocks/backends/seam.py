"""The seam: all that the library asks of a loop.

A *parker* is one wait of one task: the task parks on it, and anybody, from any thread, unparks
it. A *backend* knows who the running task is, makes its parkers and knows what a checkpoint is. The
shape is Java's ``LockSupport`` and parking_lot's ``ThreadParker``: an unpark that comes before the
park is not lost, the park then returns at once; a park may return without reason, so whoever
parks looks at its own state again.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator
from gc import get_referents, is_finalized
from inspect import isawaitable
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, Protocol, TypeVar, runtime_checkable
from weakref import ref

from asynclocks._engine.ticket import Ticket
from asynclocks.exceptions import UnsupportedLoopError


def weakly(task: Any) -> Any:
    """What returns the task when called, if it still exists.

    Never a strong reference: a task that is parked in a closed loop is destroyed, and its locks with it freed,
    only if nothing keeps it.
    """
    if task is None:
        return None
    try:
        return ref(task)
    except TypeError:  # somebody's own loop may call its tasks by numbers
        return lambda: task


# With a GIL no other thread runs between two lines that call nothing and do not loop.
HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
# Without a GIL to read a task, its future or its frames while its own thread changes them crashes.
TASKS_HOLD_STILL = HAS_GIL


@runtime_checkable
class Parker(Protocol):
    """One wait of one task."""

    def park(self) -> Awaitable[None]:
        """Sleep until unparked. May be called again after it returned or raised."""
        ...

    def unpark(self) -> bool:
        """Wake the sleeper, from any thread. False: it can never resume (its loop is closed)."""
        ...


@runtime_checkable
class Backend(Protocol):
    """All that a loop must supply.

    Optional extras, found by ``getattr``:

    ``checkpoints`` (bool, default True)
        whether an acquisition that need not wait must still be a checkpoint (trio: yes; asyncio: no).
    ``coroutine(task)`` (default None)
        the task's own coroutine, by which its blocks are known when the collector closes it.
    ``now()``
        the time in seconds on the loop's clock, for waits with a timeout. Its parkers then have ``park_until(end)``:
        as ``park``, but no longer than until `end` on that clock, and what is awaited is False if the time is over.
        Without them a wait with a timeout raises UnsupportedLoopError.
    ``detach(function)``
        have the coroutine function `function` run to its end though the caller is cancelled: begin it in a task of its
        own and return, or, where there is no such task, run it here and hold cancellations back. By default it runs
        here and ends with its caller.

    A lock's line refers to the parkers in it. If a loop can be closed with tasks parked in it, its parkers must
    refer to their tasks weakly: the loop keeps its sleeping tasks alive, a line never does.
    """

    name: str

    def current_task(self) -> Hashable:
        """Who is running: compared by identity or equality, referred to weakly if it can be."""
        ...

    def task_name(self, task: Hashable) -> str:
        """What to call this task in messages."""
        ...

    def parker(self) -> Parker:
        """A fresh parker for the running task."""
        ...

    async def checkpoint_if_cancelled(self) -> None:
        """Raise if the running task is cancelled; else return, with or without yielding."""
        ...

    async def cancel_shielded_checkpoint(self) -> None:
        """Let others run once; never raise a cancellation."""
        ...


F = TypeVar("F", bound=Callable[..., Any])

uninterrupted_functions: list[Callable[..., Any]] = []


def uninterrupted(function: F) -> F:
    """Mark a function that no KeyboardInterrupt should cut in two, for the loops that can see to it (trio)."""
    uninterrupted_functions.append(function)
    return function


interruptible_functions: list[Callable[..., Any]] = []


def interruptible(function: F) -> F:
    """Mark a function that runs code of the user's in the middle of an `uninterrupted` one: there it may come."""
    interruptible_functions.append(function)
    return function


@interruptible
async def made_by(function: Callable[..., Any], *args: Any) -> Any:
    """What the user's function returns; if that is awaitable, what awaiting it gives."""
    value = function(*args)
    return await value if isawaitable(value) else value


class ParkerTicket(Ticket):
    """A ticket beside a parker that knows nothing of tickets: anybody's own backend."""

    __slots__ = ("_parker",)

    def __init__(self, parker: Parker) -> None:
        self._parker = parker

    def park(self) -> Awaitable[None]:
        return self._parker.park()

    def park_until(self, end: float) -> Awaitable[bool]:
        return self._parker.park_until(end)  # type: ignore[attr-defined, no-any-return]  # an optional extra

    def unpark(self) -> bool:
        return self._parker.unpark()

    def settle(self) -> None:
        del self._parker


class LoopBackend:
    """A backend as the engine uses it: the optional extras filled in. Ours derive from it."""

    name: str
    checkpoints: bool = True
    task_type: type | None = None  # of its tasks, if they have one of their own

    def current_task(self) -> Hashable:
        raise NotImplementedError

    def task_name(self, task: Any) -> str:
        raise NotImplementedError

    def parker(self) -> Any:
        raise NotImplementedError

    async def checkpoint_if_cancelled(self) -> None:
        raise NotImplementedError

    async def cancel_shielded_checkpoint(self) -> None:
        raise NotImplementedError

    def now(self) -> float:
        """The time on the loop's clock, in seconds."""
        raise UnsupportedLoopError(
            f"the backend of {self.name!r} has no timers, so a wait there cannot have a timeout; wait without one, or "
            "give the backend now() and its parkers park_until()"
        )

    async def detach(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have this run to its end though the caller is cancelled: begin it, or, where that cannot be, run it here."""
        await function()

    def coroutine(self, task: Any) -> Any:
        """The task's own coroutine, None where it cannot be told."""
        return None

    def holds_still(self, task: Any) -> bool:
        """May it be read what this task does now? Without a GIL: only if its loop is the one of this thread."""
        return TASKS_HOLD_STILL

    def loop_runs(self, task: Any) -> bool:
        """Does the loop of this task run now?"""
        return True

    # Who awaits whom, as far as the loop tells. Asked only when a task is about to park.
    def sleeps(self, task: Any) -> bool:
        """Does it wait for anything? True also where that cannot be told."""
        return True

    def is_starting_another(self, task: Any) -> bool:
        """Is it in the middle of a step, though another task runs? Then it started that one just now."""
        return False

    def awaiters(self, task: Any) -> Iterable[tuple[Any, bool]]:
        """Who waits for this task's end: tasks, and whether they do so now (True) or will in time."""
        return ()

    def awaited(self, task: Any) -> Iterable[Any]:
        """The tasks for whose end this one waits now, if it needs them all."""
        return ()

    def has_a_time_limit(self, task: Any) -> bool:
        """Did this very task, and not somebody around it, limit the time of what it does now?"""
        raise NotImplementedError  # asked of those that somebody awaits

    def is_being_cancelled(self, task: Any) -> bool:
        """Will the wait that it begins or is in end at once, for it was cancelled already?"""
        return False

    def gives_up_awaiting(self, task: Any) -> bool:
        """Will the wait of this one for another task end by itself, when its time is over?"""
        return False

    def is_being_closed(self, task: Any) -> bool:
        """Is the collector closing this task's coroutine, or one that it awaits?

        From 3.15 on weak references to a task answer until the collector has run all finalizers.
        """
        return any(map(is_finalized, coroutines_in(self.coroutine(task))))


def frames_of(coroutine: Any) -> Iterator[FrameType]:
    """Where a task is with its coroutine, the outermost first."""
    for one in coroutines_in(coroutine):
        frame = next((frame for name in _FRAMES if (frame := getattr(one, name, None)) is not None), None)
        if frame is not None:
            yield frame


_FRAMES = ("cr_frame", "gi_frame", "ag_frame")
_AWAITING = frozenset((CoroutineType, GeneratorType, AsyncGeneratorType))


async def _a_coroutine() -> None: ...


_coroutine = _a_coroutine()
_DRIVEN = _AWAITING | {type(_coroutine.__await__())}
_coroutine.close()


def slept_in(one: Any) -> Any:
    """What this coroutine or generator awaits; None if it runs.

    CPython 3.11 and 3.12 must not be asked of one that runs, in another thread say: they take the inline cache of a
    call for an instruction, and may return a stray pointer. No other thread can come between the two looks.
    """
    if type(one) is CoroutineType:
        return None if one.cr_running else one.cr_await
    if type(one) is GeneratorType:
        return None if one.gi_running else one.gi_yieldfrom
    if type(one) is not AsyncGeneratorType:  # a loop's own kind, or None: its loop does not tell
        return getattr(one, "cr_await", None)
    frame = one.ag_frame  # `ag_running` is True of one that sleeps, too
    return None if frame is None or frame.f_back is not None else one.ag_await


def coroutines_in(awaitable: Any) -> Iterator[Any]:
    """This coroutine, the one that it awaits, the one that that one awaits, and so on, as far as they sleep."""
    while awaitable is not None:
        if type(awaitable) in _AWAITING:
            yield awaitable
            awaitable = slept_in(awaitable)
        else:  # a step of an async generator, or what a coroutine's `__await__` returned: they refer to what they drive
            awaitable = next((driven for driven in get_referents(awaitable) if type(driven) in _DRIVEN), None)
