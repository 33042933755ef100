"""asyncio, with any of its loops (uvloop too), debug mode and eager tasks."""

from __future__ import annotations

import sys
from asyncio import AbstractEventLoop, Future, Task, _get_running_loop
from collections.abc import Hashable, MutableMapping
from typing import TYPE_CHECKING, Any

from asynclocks.backends._seam import LoopBackend, State, Ticket

__all__ = ["AsyncioBackend", "AsyncioParker", "current_task", "running_loop"]

if sys.version_info >= (3, 12):
    from asyncio import current_task  # a C function
else:
    from asyncio.tasks import _current_tasks  # type: ignore[attr-defined]

    def current_task() -> Task[Any] | None:
        # asyncio's own is Python there and three times as slow.
        loop = _get_running_loop()
        return None if loop is None else _current_tasks.get(loop)


QUEUED = State.QUEUED


class _NeverLoop:
    """Stands in for a loop in the one future that is done from the beginning."""

    def get_debug(self) -> bool:
        return False


DONE: Future[None] = Future(loop=_NeverLoop())  # type: ignore[arg-type]
DONE.set_result(None)


class AsyncioParker(Ticket):
    """Parks on an exact ``asyncio.Future``: a subclass would leave the C task's fast path."""

    __slots__ = ("_future", "_unparked")

    _future: Future[None] | None
    _unparked: bool  # unset until then

    def __init__(self) -> None:
        self._future = Future(loop=_get_running_loop())

    def park(self) -> Future[None]:
        future = self._future
        if future is not None and future.done():  # parks again after a cancellation, or roused
            future = self._future = Future(loop=future.get_loop())
            if hasattr(self, "_unparked"):  # by another thread, which may have seen the old future only
                future = None
        return DONE if future is None else future

    def unpark(self) -> bool:
        self._unparked = True  # first: see park()
        future = self._future
        if future is None:
            return True
        # The wake is on its way, and the ticket, which the lock may refer to from now on, must not keep the
        # sleeper alive: if its loop closes first, only the collection of its coroutine tells.
        self._future = None
        loop = future.get_loop()
        if _get_running_loop() is not loop:
            return self._post(loop, future)
        if not future.done():  # a cancelled one wakes by itself
            future.set_result(None)
        if current_task() is None:
            self._nudge(loop)
        return True

    def gives_up(self) -> bool:
        future = self._future
        return future is not None and future.cancelled()

    def settle(self) -> None:
        self._future = None

    def rouse(self) -> None:
        """Wake the sleeper though it is not unparked, if its loop runs here: it will look whether it is by then."""
        future = self._future
        if future is not None and not future.done() and _get_running_loop() is future.get_loop():
            future.set_result(None)

    @staticmethod
    def _post(loop: AbstractEventLoop, future: Future[None]) -> bool:
        try:
            loop.call_soon_threadsafe(_wake, future)
        except RuntimeError:  # the loop is closed
            return False
        return True

    @staticmethod
    def _nudge(loop: AbstractEventLoop) -> None:
        # Not in a task's step: perhaps a finalizer or signal handler that runs while the loop is about to
        # sleep in its selector. It would not look at its queue again for a long time.
        loop.call_soon_threadsafe(_nothing)


def _wake(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _nothing() -> None:
    pass


class AsyncioBackend(LoopBackend):
    name = "asyncio"
    checkpoints = False
    task_type: type | None = Task
    if TYPE_CHECKING:

        def parker(self) -> AsyncioParker: ...

    else:
        parker = AsyncioParker  # the class itself: a call less

    def current_task(self) -> Hashable:
        return current_task()

    def task_name(self, task: Any) -> str:
        return str(task.get_name())

    async def checkpoint_if_cancelled(self) -> None:
        """Nothing: a cancellation reaches an asyncio task where it next waits."""

    async def cancel_shielded_checkpoint(self) -> None:
        """Nothing: an acquisition that need not wait does not yield."""

    def waits(self, task: Any) -> MutableMapping[Any, Ticket]:
        # Kept on the loop, so that a closed loop's parked tasks are garbage as soon as nobody else wants them.
        loop = task.get_loop()
        try:
            return loop._asynclocks_waits  # type: ignore[no-any-return]
        except AttributeError:
            waits: dict[Any, Ticket] = {}
            return loop.__dict__.setdefault("_asynclocks_waits", waits)  # type: ignore[no-any-return]

    def surely_awake(self, task: Any) -> bool:
        if type(task) is not Task:
            return False
        try:
            wait = task.get_loop()._asynclocks_waits.get(task)  # type: ignore[attr-defined]
        except AttributeError:  # nobody waited there yet
            return True
        return wait is None or wait.state is not QUEUED


running_loop = _get_running_loop  # the loop of asyncio's kind that runs in this thread, or None; never raises
