"""Which task awaits which, on asyncio: what a task's callbacks, and the coroutines it sleeps in, tell.

asyncio tells it from 3.14 on (``future_add_to_awaited_by``), but not whether somebody who started a task waits for it
already, nor whether they wait for all tasks or for the first. Callbacks tell both, on every version: who awaits a task
or future has left a callback there. What nobody left there is not guessed.
"""

from __future__ import annotations

import math
import sys
from asyncio import FIRST_COMPLETED, FIRST_EXCEPTION, TaskGroup, isfuture
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from gc import get_referrers
from types import FrameType
from typing import Any, TypeVar, cast

from asynclocks.backends.seam import coroutines_in

__all__ = [
    "awaited_of",
    "awaiters_of",
    "gives_up_awaiting",
    "has_a_time_limit",
    "is_being_cancelled",
    "is_starting_another",
    "is_task",
    "sleeper_on",
]


Read = TypeVar("Read", bound=Callable[[Any], Any])


def _or(answer: object) -> Callable[[Read], Read]:
    """Give this answer where asyncio, or anyio, keeps what is read here in another way by now: nothing is told then."""

    def decorate(read: Read) -> Read:
        @wraps(read)
        def read_if_known(one: Any) -> Any:
            try:
                return read(one)
            except (AttributeError, LookupError, TypeError, ValueError):
                return answer

        return cast("Read", read_if_known)

    return decorate


@_or(())
def awaiters_of(future: Any) -> Iterable[tuple[Any, bool]]:
    """Who waits until this task or future is done, and whether they do so now or will at the end of their group."""
    return [found for callback, _ in future._callbacks or () for found in _behind(callback, future)]


def _behind(callback: Any, future: Any) -> Iterator[tuple[Any, bool]]:
    who: Any = getattr(callback, "__self__", None)
    if is_task(who):  # `await`
        yield who, who._fut_waiter is future
    elif isinstance(who, TaskGroup):
        yield from _of_group(who, who._parent_task, who._on_completed_fut)  # type: ignore[attr-defined]
    else:
        known = _CLOSURES.get((getattr(callback, "__module__", ""), getattr(callback, "__qualname__", "")))
        if known is not None:
            yield from known(**_variables(callback))


def _of_group(group: Any, parent: Any, end: Any) -> list[tuple[Any, bool]]:
    waits = parent is not None and end is not None and parent._fut_waiter is end and not end.done()
    return [] if parent is None else [(parent, waits and not _any_failed(group._tasks))]


def _gather_or_shield(outer: Any = None, return_exceptions: bool = False, **_: Any) -> Iterable[tuple[Any, bool]]:
    if outer is None or not _are_all_needed(getattr(outer, "_children", ()), return_exceptions):
        return ()
    return awaiters_of(outer)


def _wait(waiter: Any, counter: int, return_when: str, timeout_handle: Any, **_: Any) -> Iterator[tuple[Any, bool]]:
    needed = timeout_handle is None and (return_when != FIRST_COMPLETED or counter == 1)
    for who, now in awaiters_of(waiter) if needed else ():
        yield who, now and bool(_of_frame(_innermost(who), waiter))


def _anyio_group(self: Any, **_: Any) -> list[tuple[Any, bool]]:
    # Older ones wait with `asyncio.wait`.
    return _of_group(self, self.cancel_scope._host_task, getattr(self, "_on_completed_fut", None))


# Who awaits several is told by a callback that one of them is done. Before that has run they look as if they waited on.
def _any_failed(several: Iterable[Any], *, or_cancelled: bool = False) -> bool:
    return any(_has_failed(one, or_cancelled=or_cancelled) for one in [*several])


def _has_failed(one: Any, *, or_cancelled: bool) -> bool:
    """Has it, or what it gathers or shields, so that callbacks alone will pass the error on?"""
    if one.done():
        # `exception()` would count as if somebody had looked at the error.
        return getattr(one, "_exception", None) is not None or (or_cancelled and one.cancelled())
    if hasattr(one, "_children"):
        return not _are_all_needed(one._children, return_exceptions=_returns_exceptions(one) is True)
    return _any_failed(_inside_shield(one), or_cancelled=or_cancelled)


def _are_all_needed(gathered: Iterable[Any], return_exceptions: bool) -> bool:
    return return_exceptions or not _any_failed(gathered, or_cancelled=True)


_ANYIO = "anyio._backends._asyncio"
_CLOSURES: dict[tuple[str, str], Callable[..., Iterable[tuple[Any, bool]]]] = {
    ("asyncio.tasks", "gather.<locals>._done_callback"): _gather_or_shield,
    ("asyncio.tasks", "shield.<locals>._inner_done_callback"): _gather_or_shield,
    ("asyncio.tasks", "_wait.<locals>._on_completion"): _wait,
    (_ANYIO, "TaskGroup._spawn.<locals>.task_done"): _anyio_group,
}


def _variables(function: Any) -> dict[str, Any]:
    """What a nested function refers to of the function around it."""
    cells = zip(function.__code__.co_freevars, function.__closure__, strict=True)
    return {name: cell.cell_contents for name, cell in cells}


@_or(None)
def sleeper_on(future: Any) -> Any:
    """The task that sleeps on this future, None if it cannot be told."""
    callbacks = () if future is None else future._callbacks or ()
    return next((who for callback, _ in callbacks if is_task(who := getattr(callback, "__self__", None))), None)


def is_task(one: Any) -> bool:
    """Is it a task of asyncio's kind, whoever wrote its class?"""
    return isfuture(one) and hasattr(one, "get_coro") and hasattr(one, "_fut_waiter")


@_or(True)
def gives_up_awaiting(task: Any) -> bool:
    """Is it in `asyncio.wait_for` with a timeout? That ends by itself."""
    frame = _innermost(task)
    if frame is None or not _is(frame, "asyncio.tasks", "wait_for"):
        return False
    return frame.f_locals["timeout"] is not None


@_or(True)
def has_a_time_limit(task: Any) -> bool:
    """Is it in an ``async with asyncio.timeout(…)`` or in a cancel scope of anyio's that has a deadline?"""
    for one, variables in _referring_to(task):
        if variables.get("_task") is task and variables.get("_timeout_handler") is not None:
            return True
        if getattr(one, "_host_task", None) is task and getattr(one, "deadline", math.inf) < math.inf:
            return True
    return False


@_or(False)
def is_being_cancelled(task: Any) -> bool:
    """Was it cancelled, so that a wait which it begins ends at once? Or will callbacks alone see to that?

    By asyncio that is once, in a scope of anyio's each time.
    """
    if getattr(task, "_must_cancel", False):
        return True
    anyio: Any = sys.modules.get(_ANYIO)
    state = None if anyio is None else anyio._task_states.get(task)
    scope = None if state is None else state.cancel_scope
    while scope is not None:
        if scope.cancel_called or _any_failed(scope._tasks):
            return True
        scope = None if scope.shield else scope._parent_scope
    # A group cancels its task also where that waits for something else.
    return any(
        _any_failed(variables["_tasks"])
        for _, variables in _referring_to(task)
        if variables.get("_parent_task") is task and "_tasks" in variables
    )


def _referring_to(task: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What refers to this task, and its variables. Nothing else leads from a task to them on all loops."""
    for one in get_referrers(task):
        yield one, one if isinstance(one, dict) else getattr(one, "__dict__", {})


def _innermost(task: Any) -> FrameType | None:
    """The frame that this task sleeps in, None if it cannot be told."""
    last = deque(coroutines_in(coroutine_of(task)), maxlen=1)
    return getattr(last[0], "cr_frame", None) if last else None


def _is(frame: FrameType, module: str, name: str) -> bool:
    return frame.f_code.co_qualname == name and frame.f_globals.get("__name__") == module


@_or(())
def awaited_of(task: Any) -> Iterable[Any]:
    """The tasks that this one waits for now, if it needs them all."""
    future = task._fut_waiter
    if future is None or future.done():
        return ()
    if is_task(future):
        return (future,)
    if hasattr(future, "_children"):
        children = _of_gather(future)
    else:
        children = _inside_shield(future) or _of_frame(_innermost(task), future)
    return [child for child in children if is_task(child) and not child.done()]


def _of_gather(future: Any) -> Iterable[Any]:
    known = _returns_exceptions(future)
    return () if known is None or not _are_all_needed(future._children, known) else future._children


def _returns_exceptions(gathering: Any) -> bool | None:
    """Does this `gather` return them? None: all that it gathers are done, and their callbacks with them."""
    for child in gathering._children:
        for callback, _ in child._callbacks or ():
            if getattr(callback, "__qualname__", None) == "gather.<locals>._done_callback":
                variables = _variables(callback)
                if variables["outer"] is gathering:
                    return bool(variables["return_exceptions"])
    return None


def _inside_shield(future: Any) -> list[Any]:
    for callback, _ in future._callbacks or ():
        if getattr(callback, "__qualname__", None) == "shield.<locals>._outer_done_callback":
            return [_variables(callback)["inner"]]
    return []


def _of_frame(frame: FrameType | None, future: Any) -> Iterable[Any]:
    """For whom the function waits that sleeps on this future in this frame."""
    if frame is None:
        return ()
    group: Any = frame.f_locals.get("self")
    of_group = _is(frame, _ANYIO, "TaskGroup.__aexit__") or isinstance(group, TaskGroup)
    if of_group and getattr(group, "_on_completed_fut", None) is future:
        return () if _any_failed(group._tasks) else tuple(group._tasks)
    if _is(frame, "asyncio.tasks", "_wait"):
        variables = frame.f_locals
        fs, until = variables["fs"], variables["return_when"]
        if variables["timeout_handle"] is None and not (
            (until == FIRST_COMPLETED and len(fs) > 1) or (until == FIRST_EXCEPTION and _any_failed(fs))
        ):
            return [one for one in fs if not one.done()]
    return ()


def coroutine_of(task: Any) -> Any:
    """The task's own coroutine, None once the task is done.

    An eager task that ended in its first step has none any more, and to ask it crashes CPython 3.12.0 and 3.12.1.
    """
    return None if task.done() else task.get_coro()


def is_starting_another(task: Any) -> bool:
    """Is it in the middle of a step, though another task runs? That one is eager, then, and this one started it."""
    return getattr(coroutine_of(task), "cr_running", False) is True and task._fut_waiter is None
