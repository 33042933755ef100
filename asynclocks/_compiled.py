"""Puts the twins in C of the engine's hottest functions in their places, where they were compiled.

What there is in C stands in `_engine/_core.c`; docs/how-the-core-works.md says how it goes together with the Python.
``ASYNCLOCKS_PURE=1`` in the environment leaves everything as it stands in the sources.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from asynclocks import backends
from asynclocks._engine import mutex_state, ticket_queue
from asynclocks._engine.acquisition import Acquisition
from asynclocks._engine.deadlock import awaited_by_a_holder, look_again
from asynclocks._engine.free_mutex import FreeMutex
from asynclocks._engine.ticket import State, Ticket
from asynclocks.backends import asyncio
from asynclocks.mutex import LooseMutexGuard, Mutex, MutexGuard

if TYPE_CHECKING:
    from asynclocks._permits import Permit
    from asynclocks.semaphore import Semaphore

# A subclass of Mutex that has one of these of its own is served in Python.
HOOKS = (
    *("_acquire", "_acquire_now", "_admit", "_append", "_catch_up", "_followed", "_give"),
    *("_give_back", "_guard", "_hand_on", "_hand_over", "_holder_sleeps", "_join", "_leave", "_leave_closed"),
    *("_lock_loose", "_note", "_owners", "_pass_on", "_refuse_now", "_release"),
    *("_retract", "_serve", "_stand_in_line", "_take_elsewhere", "_take_now", "_transact"),
    *("_unlink", "_wake", "_withdraw", "__getattribute__", "__setattr__"),
)
# And one of Semaphore.
PERMIT_HOOKS = (
    *("_acquire", "_acquire_loose", "_acquire_now", "_admit", "_append", "_ask_for_nothing", "_catch_up"),
    *("_check_open", "_enter", "_enter_elsewhere", "_followed", "_give", "_hand_on", "_hand_over", "_join"),
    *("_join_or_leave", "_leave", "_pass_on", "_permit_of", "_put_back", "_retract", "_serve", "_stand_in_line"),
    *("_take_back", "_take_now", "_transact", "_unlink", "_wake", "_withdraw", "__getattribute__", "__setattr__"),
)


def _lock_plainly(mutex: Mutex[Any]) -> Coroutine[Any, Any, Any]:
    """What an acquisition by ``lock()`` calls, if it is not served in C after all."""
    return mutex._lock_loose(True, None)


def _acquire_plainly(semaphore: Semaphore) -> Coroutine[Any, Any, Permit]:
    """The same of ``acquire()``."""
    return semaphore._acquire_loose(1, None)


def _install() -> bool:
    if os.environ.get("ASYNCLOCKS_PURE") == "1":
        return False
    try:
        from asynclocks._engine import _core
    except ImportError:
        return False
    try:
        return _put_in_place(_core)
    except TypeError as error:
        raise ImportError(
            f"{error}: asynclocks was compiled from other sources; install it again, or set ASYNCLOCKS_PURE=1"
        ) from error


def _put_in_place(core: object) -> bool:
    # Not before: who has nothing compiled, and uses no semaphore, need not import it.
    from asynclocks._permits import LoosePermit, Permit
    from asynclocks.semaphore import Semaphore

    coroutines, ticket_queue.RLock = core.install(  # type: ignore[attr-defined]
        FreeMutex=FreeMutex,
        Mutex=Mutex,
        MutexGuard=MutexGuard,
        LooseMutexGuard=LooseMutexGuard,
        Acquisition=Acquisition,
        Ticket=Ticket,
        AsyncioParker=asyncio.AsyncioParker,
        Parked=asyncio.Parked,
        queued=State.QUEUED,
        granted=State.GRANTED,
        released=State.RELEASED,
        spelled=mutex_state.SPELLED,
        resumed=mutex_state.RESUMED,
        lock_plainly=_lock_plainly,
        backends=vars(backends),
        Future=type(asyncio.DONE),
        current_task=asyncio.current_task,
        current_tasks=getattr(asyncio, "_current_tasks", None),
        running_loop=asyncio.running_loop,
        InvalidStateError=asyncio.InvalidStateError,
        thread_local=backends.thread_local,
        current_library=backends.current_library,
        parked_in=asyncio._parked_in,
        native=backends.native,
        Task=backends.native.task_type,
        eager_tasks=asyncio.EAGER_TASKS,
        awaited_by_a_holder=awaited_by_a_holder,
        look_again=look_again,
        hooks=HOOKS,
        Semaphore=Semaphore,
        Permit=Permit,
        LoosePermit=LoosePermit,
        acquire_plainly=_acquire_plainly,
        permit_hooks=PERMIT_HOOKS,
    )
    for kind in coroutines:
        Coroutine.register(kind)
    return True


compiled: bool = _install()  # is part of the engine in C?
