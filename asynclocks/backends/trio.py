"""trio. Imported only when trio runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import ref

import trio
from trio.lowlevel import (
    Abort,
    Task,
    cancel_shielded_checkpoint,
    current_task,
    current_trio_token,
    disable_ki_protection,
    enable_ki_protection,
    in_trio_run,
    reschedule,
    wait_task_rescheduled,
)

from asynclocks._engine.ticket import Ticket, look_after
from asynclocks._forks import tell_in_child_at_last
from asynclocks.backends.seam import TASKS_HOLD_STILL, LoopBackend, interruptible_functions, uninterrupted_functions


class OnTheirWay(dict["TrioParker", None]):
    """Who was woken by another thread, and does not know yet."""

    def _after_fork(self) -> None:
        look_after([ticket for ticket in self if ticket.whose() is not None])
        self.clear()


_of_parks: set[trio.CancelScope] = set()  # a wait that looks again from time to time is not limited by that
_on_their_way = OnTheirWay()
tell_in_child_at_last(_on_their_way)


class TrioParker(Ticket):
    __slots__ = ("_aborted", "_sleeper", "_token", "_unparked")

    _aborted: bool  # unset until then
    _sleeper: Callable[[], Task | None]  # a weak reference: a line never keeps a task alive

    def __init__(self) -> None:
        self._unparked = False
        self._sleeper = _nobody
        self._token = current_trio_token()

    async def park(self) -> None:
        if self._unparked:
            await cancel_shielded_checkpoint()
            return
        self._sleeper = ref(current_task())
        await wait_task_rescheduled(self._abort)

    async def park_shielded(self) -> None:
        """Park where a cancellation must wait."""
        with trio.CancelScope(shield=True):
            await self.park()

    async def park_until(self, end: float) -> bool:
        with trio.CancelScope(deadline=end) as scope:
            _of_parks.add(scope)
            try:
                await self.park()
            finally:
                _of_parks.discard(scope)
        if not scope.cancelled_caught:
            return True
        del self._aborted  # it may park again
        return False

    def _abort(self, _raise_cancel: Callable[[], NoReturn]) -> Abort:
        self._sleeper = _nobody  # whoever unparks now finds nobody to reschedule
        self._aborted = True
        return Abort.SUCCEEDED

    def whose(self) -> Any:
        return self._sleeper()

    def is_here(self) -> bool:
        try:
            return current_trio_token() is self._token
        except RuntimeError:  # no trio runs in the thread that forked
            return False

    def gives_up(self) -> bool:
        return hasattr(self, "_aborted")

    def unpark(self) -> bool:
        self._unparked = True
        if _in_a_step_of(self._token):
            self._wake()
            return True
        _on_their_way[self] = None
        try:
            self._token.run_sync_soon(self._arrive)
        except trio.RunFinishedError:
            del _on_their_way[self]
            return False
        return True

    def _arrive(self) -> None:
        self._wake()
        _on_their_way.pop(self, None)

    def _wake(self) -> None:
        sleeper, self._sleeper = self._sleeper(), _nobody
        if sleeper is not None:
            reschedule(sleeper)


def _nobody() -> None:
    """In place of a weak reference to a sleeper."""


def _in_a_step_of(token: trio.lowlevel.TrioToken) -> bool:
    # Outside a task's step trio may be about to sleep in its selector (a finalizer, a signal handler).
    try:
        current_task()
        return current_trio_token() is token
    except RuntimeError:
        return False


def _runs_here(task: Any) -> bool:
    try:
        return current_task()._runner is task._runner
    except RuntimeError:
        return False


class TrioBackend(LoopBackend):
    name = "trio"
    task_type: type | None = Task
    if TYPE_CHECKING:

        def parker(self) -> TrioParker: ...
        def current_task(self) -> Task: ...
        async def checkpoint_if_cancelled(self) -> None: ...
        async def cancel_shielded_checkpoint(self) -> None: ...

    else:  # trio's own functions, without a call of ours around them
        parker = TrioParker
        current_task = staticmethod(trio.lowlevel.current_task)
        checkpoint_if_cancelled = staticmethod(trio.lowlevel.checkpoint_if_cancelled)
        cancel_shielded_checkpoint = staticmethod(trio.lowlevel.cancel_shielded_checkpoint)

    def __init__(self) -> None:
        for function in uninterrupted_functions:
            enable_ki_protection(function)
        for function in interruptible_functions:
            disable_ki_protection(function)

    async def detach(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with trio.CancelScope(shield=True):
            await function()

    def task_name(self, task: Any) -> str:
        return str(task.name)

    def coroutine(self, task: Any) -> Any:
        return task.coro

    def holds_still(self, task: Any) -> bool:
        return TASKS_HOLD_STILL or _runs_here(task)

    def now(self) -> float:
        return trio.current_time()

    def sleeps(self, task: Any) -> bool:
        return getattr(task, "_abort_func", task) is not None

    def awaiters(self, task: Any) -> Iterable[tuple[Any, bool]]:
        nursery = task.parent_nursery
        return () if nursery is None else ((nursery.parent_task, _at_its_end(nursery)),)

    def awaited(self, task: Any) -> Iterable[Any]:
        return chain.from_iterable(nursery.child_tasks for nursery in task.child_nurseries if _at_its_end(nursery))

    def has_a_time_limit(self, task: Any) -> bool:
        return _limits_itself(task)


def _at_its_end(nursery: trio.Nursery) -> bool:
    """Does its task wait there for the others?"""
    return bool(getattr(nursery, "_parent_waiting_in_aexit", False))


def _limits_itself(task: Task) -> bool:
    nursery = task.parent_nursery
    status: Any = task._cancel_status
    outside = None if nursery is None else nursery._cancel_status
    while status is not None and status is not outside:
        if status._scope.deadline < math.inf and status._scope not in _of_parks:
            return True
        status = status._parent
    return False


def running() -> bool:
    """Does trio run in this thread?"""
    return in_trio_run()
