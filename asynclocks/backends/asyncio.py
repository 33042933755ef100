"""asyncio, with any of its loops (uvloop too), debug mode and eager tasks."""

from __future__ import annotations

import asyncio.tasks
import sys
from _thread import get_ident
from asyncio import AbstractEventLoop, Future, InvalidStateError, Task, _get_running_loop, create_task, sleep
from collections.abc import Callable, Coroutine, Hashable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import ref

from asynclocks._engine.ticket import Ticket, look_after
from asynclocks._forks import tell_in_child_at_last
from asynclocks.backends.awaits import (
    awaited_of,
    awaiters_of,
    coroutine_of,
    gives_up_awaiting as _gives_up_awaiting,
    has_a_time_limit as _has_a_time_limit,
    is_being_cancelled as _is_being_cancelled,
    is_starting_another as _is_starting_another,
    sleeper_on,
)
from asynclocks.backends.seam import TASKS_HOLD_STILL, LoopBackend
from asynclocks.backends.watch import Watch

__all__ = ["AsyncioBackend", "AsyncioParker", "InvalidStateError", "current_task", "running_loop"]

if sys.version_info >= (3, 12):
    from asyncio import current_task  # a C function
else:
    from asyncio.tasks import _current_tasks  # type: ignore[attr-defined]

    def current_task() -> Task[Any] | None:
        # asyncio's own is Python there and three times as slow.
        loop = _get_running_loop()
        return None if loop is None else _current_tasks.get(loop)


# From 3.14 on asyncio's own knows tasks in C only; those of nest_asyncio and of some task factories are in Python.
_current_python_task: Any = getattr(asyncio.tasks, "_py_current_task", current_task)

# Those in their first step. From 3.14 on nobody tells.
EAGER_TASKS: Any = getattr(asyncio.tasks, "_eager_tasks", ()) if sys.version_info < (3, 14) else True


class _NeverLoop:
    """Stands in for a loop in the one future that is done from the beginning."""

    def get_debug(self) -> bool:
        return False


DONE: Future[None] = Future(loop=_NeverLoop())  # type: ignore[arg-type]
DONE.set_result(None)


class Parked(dict["AsyncioParker", "Future[None]"]):
    """What the sleeping tasks of one loop are parked on. The loop refers to this table, and nothing else does.

    A lock's line refers to its waiters, and each waiter refers weakly to this table. So a line never keeps a task
    alive. When a closed loop is dropped, its sleeping tasks go with it, and their blocks give back what they hold.
    """

    __slots__ = ("__weakref__", "loop", "reference", "thread", "watch")

    def __init__(self, loop: Any = None) -> None:
        self.loop: Callable[[], Any] = _nothing if loop is None else ref(loop)
        self.thread: int = get_ident()  # asyncio's loops say so better themselves
        self.reference: ref[Parked] = ref(self)
        self.watch: Watch = Watch(self.reference)
        tell_in_child_at_last(self)

    def _after_fork(self) -> None:
        look_after([ticket for ticket, future in self.items() if not future.done()])


def _parked_in(loop: Any) -> Parked:
    try:
        return loop._asynclocks_parked  # type: ignore[no-any-return]
    except AttributeError:  # nobody waited, so nobody watches
        parked: Parked | None = getattr(loop, "_asynclocks_table", None)
        if parked is None:
            parked = loop._asynclocks_table = Parked(loop)
        parked.watch.begin(loop)
        loop._asynclocks_parked = parked
        return parked


class AsyncioParker(Ticket):
    """Parks on an exact ``asyncio.Future``: a subclass would leave the C task's fast path."""

    __slots__ = ("_parked", "_unparked")

    _parked: ref[Parked]
    _unparked: bool

    def __init__(self) -> None:
        self._unparked = False
        loop: Any = _get_running_loop()
        try:
            self._parked = loop._asynclocks_parked.reference
        except AttributeError:
            self._parked = _parked_in(loop).reference

    def park(self) -> Future[None]:
        if self._unparked:
            return DONE
        parked: Any = self._parked()  # there is one: the running loop refers to it
        future: Future[None] = Future(loop=_get_running_loop())
        parked[self] = future
        if self._unparked:  # by another thread just now, which may have found no future
            self.leave()
            return DONE
        return future

    async def park_until(self, end: float) -> bool:
        over = False

        def expire() -> None:
            nonlocal over
            over = True
            try:
                self.rouse()
            except BaseException:
                self.rouse()  # nobody else would
                raise

        loop: Any = _get_running_loop()
        timer = loop.call_later(max(0.0, end - loop.time()), expire)  # not call_at: Pyodide's refuses what is past
        try:
            await self.park()
        finally:
            timer.cancel()
        return not over

    def unpark(self) -> bool:
        self._unparked = True  # first: see park()
        parked = self._parked()
        if parked is None:  # the loop is gone, and its tasks are gone with it
            return False
        try:
            future = parked[self]
        except KeyError:  # not parked yet
            return True
        loop = future.get_loop()
        woken = True
        if _get_running_loop() is not loop:
            woken = _Wake(future, self).post(loop)
            if woken:
                return True  # until the wake arrives it sleeps, as a child process may want to know
        else:
            if not future.done():  # a cancelled one wakes by itself
                future.set_result(None)
            if current_task() is None:
                self._nudge(loop)
        parked.pop(self, None)  # last: who is struck on the way (Ctrl-C) does it again
        return woken

    def is_here(self) -> bool:
        parked: Any = self._parked()
        loop = None if parked is None else parked.loop()
        if loop is None:
            return False
        return not loop.is_running() or getattr(loop, "_thread_id", parked.thread) == get_ident()

    def gives_up(self) -> bool:
        future = self._future()
        return future is not None and future.cancelled()

    def whose(self) -> Any:
        return sleeper_on(self._future())

    def leave(self) -> None:
        parked = self._parked()
        if parked is not None:
            parked.pop(self, None)

    def rouse(self) -> None:
        """Wake the sleeper though it is not unparked, if its loop runs here: it will look whether it is by then."""
        future = self._future()
        if future is not None and not future.done() and _get_running_loop() is future.get_loop():
            future.set_result(None)

    def _future(self) -> Future[None] | None:
        """What its task sleeps on, None if it does not sleep."""
        parked = self._parked()
        return None if parked is None else parked.get(self)

    @staticmethod
    def _nudge(loop: AbstractEventLoop) -> None:
        # Not in a task's step: perhaps a finalizer or signal handler that runs while the loop is about to
        # sleep in its selector. It would not look at its queue again for a long time.
        loop.call_soon_threadsafe(_nothing)


class _Wake:
    """A wake on its way to another loop. A loop that is closed first drops the wake, and then the grant goes on."""

    __slots__ = ("_future", "_is_on_its_way", "_ticket")

    def __init__(self, future: Future[None], ticket: AsyncioParker) -> None:
        self._is_on_its_way = False
        self._ticket = ticket
        self._future: Future[None] | None = future

    def post(self, loop: AbstractEventLoop) -> bool:
        """False: the loop is closed."""
        try:
            loop.call_soon_threadsafe(self)
        except RuntimeError:
            if loop.is_closed():
                return False
            raise
        self._is_on_its_way = True  # not before: a wake that Ctrl-C stopped is posted again
        return True

    def __call__(self) -> None:
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)
        self._future = None
        self._ticket.leave()

    def __del__(self) -> None:
        if self._is_on_its_way and self._future is not None and not self._post_again(self._future):
            self._ticket.leave()
            self._ticket.pass_on()

    def _post_again(self, future: Future[None]) -> bool:
        """A signal's exception interrupted the call. False: the loop was closed before it."""
        loop = future.get_loop()
        return not loop.is_closed() and _Wake(future, self._ticket).post(loop)


def _nothing() -> None:
    pass


_detached: set[Task[None]] = set()  # a loop refers to its tasks weakly only


class AsyncioBackend(LoopBackend):
    name = "asyncio"
    checkpoints = False
    task_type: type | None = Task
    if TYPE_CHECKING:

        def parker(self) -> AsyncioParker: ...

    else:
        parker = AsyncioParker  # the class itself: a call less

    def current_task(self) -> Hashable:
        return current_task() or _current_python_task()

    def task_name(self, task: Any) -> str:
        return str(task.get_name())

    async def checkpoint_if_cancelled(self) -> None:
        """Nothing: a cancellation reaches an asyncio task where it next waits."""

    async def cancel_shielded_checkpoint(self) -> None:
        """Nothing: an acquisition that need not wait does not yield."""

    async def detach(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = create_task(function())
        _detached.add(task)
        task.add_done_callback(_detached.discard)
        await sleep(0)  # so it has begun

    def coroutine(self, task: Any) -> Any:
        return coroutine_of(task)

    def holds_still(self, task: Any) -> bool:
        return TASKS_HOLD_STILL or task.get_loop() is _get_running_loop()

    def loop_runs(self, task: Any) -> bool:
        return bool(task.get_loop().is_running())

    def sleeps(self, task: Any) -> bool:
        try:
            if not (TASKS_HOLD_STILL or self.holds_still(task)):  # asked twice: this is called at each wait
                return True
            future = task._fut_waiter
        except AttributeError:
            return True
        return not future.done() if future is not None else bool(EAGER_TASKS) and _is_starting_another(task)

    def is_starting_another(self, task: Any) -> bool:
        return _is_starting_another(task)

    def awaiters(self, task: Any) -> Iterable[tuple[Any, bool]]:
        return awaiters_of(task)

    def awaited(self, task: Any) -> Iterable[Any]:
        return awaited_of(task)

    def has_a_time_limit(self, task: Any) -> bool:
        return _has_a_time_limit(task)

    def is_being_cancelled(self, task: Any) -> bool:
        return _is_being_cancelled(task)

    def gives_up_awaiting(self, task: Any) -> bool:
        return _gives_up_awaiting(task)

    def now(self) -> float:
        return _get_running_loop().time()  # type: ignore[union-attr]


running_loop = _get_running_loop  # the loop of asyncio's kind that runs in this thread, or None; never raises
