"""Which loop runs here, and how it parks: the registry of backends.

A loop nobody thought of yet joins with one class (`Backend`) and one line::

    asynclocks.backends.register_backend("curio", CurioBackend)

The only file that asks sniffio.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn
from weakref import ref

import sniffio

from asynclocks._forks import freed_in_child
from asynclocks.backends import asyncio as _asyncio
from asynclocks.backends.awaits import is_task as _is_task_of_asyncio
from asynclocks.backends.foreign import ForeignBackend
from asynclocks.backends.seam import Backend, LoopBackend, Parker, frames_of, weakly
from asynclocks.backends.threads import PlainThread, ThreadParker, this_thread
from asynclocks.exceptions import UnsupportedLoopError

__all__ = ["Backend", "Parker", "current_backend", "register_backend"]

IN_PYODIDE = sys.platform == "emscripten"
_ASYNCIO = "webloop" if IN_PYODIDE else "asyncio"  # what sniffio's "asyncio" is here


def _built_in(module: str, name: str) -> Callable[[], Backend]:
    def make() -> Backend:
        backend: Backend = getattr(import_module(f"asynclocks.backends.{module}"), name)()
        return backend

    return make


_factories: dict[str, Callable[[], Backend]] = {
    "asyncio": _asyncio.AsyncioBackend,
    "trio": _built_in("trio", "TrioBackend"),
    "webloop": _built_in("webloop", "WebloopBackend"),
}
_backends: dict[str, tuple[Backend, LoopBackend]] = {}  # made so far: as registered, as the engine uses it
_engines: dict[str | None, LoopBackend] = {}  # the same, only as the engine uses them
# Its `name` says that another loop runs here, perhaps inside a task of asyncio's, as trio does in a notebook: then the
# hint names that task. Asked by who has to wait; a free lock is taken in the name of that task, which will do.
thread_local: Any = sniffio.thread_local
current_library: Any = sniffio.current_async_library_cvar  # the same, of a context
_backend_of_type: dict[type, LoopBackend] = {}  # the type of a task tells its loop


def register_backend(name: str, factory: Callable[[], Backend]) -> None:
    """Serve the loop that sniffio reports as `name` with what `factory` makes.

    The factory is called once, when that loop is first met. Registering a name again replaces its backend.
    Pyodide's loop is "webloop" here though sniffio says "asyncio".

    Raises:
        TypeError: the name is no string, or the factory cannot be called.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"register_backend: the name must be a string as sniffio reports it, not {name!r}")
    if not callable(factory):
        raise TypeError(f"register_backend({name!r}): the factory must be callable, not {factory!r}")
    _factories[name] = factory
    replaced = _backends.pop(name, None)
    _engines.pop(name, None)
    if replaced is not None:
        for kind, backend in _backend_of_type.copy().items():  # others meet their loops for the first time meanwhile
            if backend is replaced[1]:
                del _backend_of_type[kind]
    _choose_hint(_no_hint if name == _ASYNCIO else _checked_hint)


@contextmanager
def pretend(name: str, make: Callable[[], LoopBackend]) -> Iterator[None]:
    """Let this thread be in a loop called `name`, for `asynclocks.testing`. No task of asyncio's may be running here.

    Not `register_backend`: that would make the hint of asyncio's running task (below) look twice ever after.
    """
    if name not in _backends:
        _adopt(name, make())
    outside, thread_local.name = thread_local.name, name
    try:
        yield
    finally:
        thread_local.name = outside


def current_backend() -> Backend:
    """The backend of the loop that runs here.

    Raises:
        UnsupportedLoopError: no loop runs in this thread, or one that nobody registered.
    """
    return _resolve(_running_name())[0]


def running() -> tuple[LoopBackend, Hashable]:
    """The running loop's backend and task, as the engine uses them. UnsupportedLoopError as in `current_backend`."""
    backend = _engines.get(thread_local.name)  # trio says so, and others that follow sniffio's advice
    if backend is not None:
        if hint is _asyncio.current_task:
            _choose_hint(_resting_hint)
        try:
            return backend, backend.current_task()
        except RuntimeError:  # it is not running after all
            pass
    backend = _resolve(_running_name())[1]
    return backend, backend.current_task()


def running_task() -> Hashable | None:
    """The running task, None where there is none. For calls that need no loop but like to know."""
    # What is raised and caught below takes longer than a lock.
    if thread_local.name is None:
        if _asyncio.running_loop() is not None:
            task: Hashable | None = hint()
            if task is not None:
                return task
        elif current_library.get() is None:
            return None  # a plain thread
    try:
        return _engines[thread_local.name].current_task()
    except (KeyError, RuntimeError):  # nobody says so: look around
        pass
    try:
        return running()[1]
    except RuntimeError:  # no loop, or none of its tasks: its name leaked into this thread, or no task is in its step
        return None


def backend_of(task: Hashable) -> LoopBackend | None:
    """The backend that this task runs on."""
    for kind in type(task).__mro__:
        if kind in _backend_of_type:
            return _backend_of_type[kind]
    if not _is_task_of_asyncio(task):  # nest_asyncio's, a task factory's
        return None
    _backend_of_type[type(task)] = native
    return native


def sleeps(task: Hashable) -> bool:
    """Does this task wait for anything? True also where that cannot be told."""
    backend = backend_of(task)
    return backend is None or backend.sleeps(task)


def is_gone(owner: Callable[[], Any]) -> bool:
    """Will the task that `owner` refers to weakly never run again, so that its blocks are closed from outside?"""
    task = owner()
    if task is None:
        return True
    backend = backend_of(task)
    return backend is not None and backend.is_being_closed(task)


def task_name(task: Hashable) -> str:
    """What to call this task or thread in messages."""
    if isinstance(task, PlainThread):
        return task.name
    backend = backend_of(task)
    return repr(task) if backend is None else backend.task_name(task)


def is_thread(owner: Hashable) -> bool:
    return isinstance(owner, PlainThread)


def in_words(task: Hashable) -> str:
    """``task 'name'``, or ``thread 'name'``."""
    return f"{'thread' if isinstance(task, PlainThread) else 'task'} {task_name(task)!r}"


def loop_runs(task: Hashable) -> bool:
    """Does the loop of this task run now? Of a thread, and where it cannot be told: yes."""
    backend = backend_of(task)
    return backend is None or backend.loop_runs(task)


def stack_of(task: Hashable, threads: Mapping[int, FrameType]) -> list[FrameType]:
    """Where this task or thread is, the outermost frame first; `threads` are the innermost frames of all threads."""
    if isinstance(task, PlainThread):
        return _stack(threads.get(task.ident))
    backend = backend_of(task)
    frames = [] if backend is None else list(frames_of(backend.coroutine(task)))
    for innermost in threads.values() if len(frames) == 1 else ():  # in the middle of a step, perhaps
        stack = _stack(innermost)
        if frames[0] in stack:
            return stack[stack.index(frames[0]) :]
    return frames


def _stack(frame: FrameType | None) -> list[FrameType]:
    stack = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    return stack[::-1]


def owner_here() -> Any:
    """Whose is what is taken now, without waiting: a weak reference to the running task or, without one, the thread."""
    task = running_task()
    return thread_here() if task is None else weakly(task)


def thread_here() -> Any:
    """Whose is what a ``blocking_*`` call takes. In Pyodide, where one thread is everybody's: nobody's."""
    return None if IN_PYODIDE else this_thread()


def _running_name() -> str:
    name = _sniff()
    if name == "asyncio" or name is None or (name == "trio" and not _trio_runs()):
        # sniffio's context variable leaks into worker threads and into loops started there: look at what runs.
        # In a callback sniffio sees no task: the running loop decides.
        if _asyncio.running_loop() is not None:
            return _ASYNCIO
        if _trio_runs():
            return "trio"
        _refuse(None)
    return name


def _sniff() -> str | None:
    try:
        return sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return None


def _trio_runs() -> bool:
    if sys.modules.get("trio") is None:
        return False
    running = getattr(sys.modules.get("asynclocks.backends.trio"), "running", None)
    if running is None:  # not imported, or another thread is just importing it: then this waits for that
        running = import_module("asynclocks.backends.trio").running
    return bool(running())


def _resolve(name: str) -> tuple[Backend, LoopBackend]:
    try:
        return _backends[name]
    except KeyError:
        if name not in _factories:
            _refuse(name)
    return _adopt(name, _factories[name]())


def _adopt(name: str, backend: Backend) -> tuple[Backend, LoopBackend]:
    made = (backend, backend if isinstance(backend, LoopBackend) else ForeignBackend(backend, _backend_of_type))
    made = _backends.setdefault(name, made)  # two threads may meet a loop first at once
    _engines[name] = made[1]
    if made[1].task_type is not None:
        _backend_of_type[made[1].task_type] = made[1]
    return made


def _refuse(found: str | None) -> NoReturn:
    what = "no event loop runs in this thread" if found is None else f"the running loop is {found!r}"
    raise UnsupportedLoopError(
        f"{what}; supported are {', '.join(sorted(_factories))}. Await inside one of them, use the blocking_* "
        "forms in plain threads, or teach the library your loop with asynclocks.backends.register_backend()"
    )


# The short way: sniffio takes longer than a free lock. While asyncio is served by our backend, a task that asyncio
# says is running settles the matter (`native` is its backend), so the hot paths ask this hint first. None or
# RuntimeError: ask sniffio.
native: LoopBackend = _resolve(_ASYNCIO)[1]


def _no_hint() -> Any:
    return None


def _checked_hint() -> Any:
    # Somebody's own loop may run inside asyncio's.
    if thread_local.name is None and current_library.get() in {None, "asyncio"}:
        return _native_task()
    return None


def _resting_hint() -> Any:
    # While others than asyncio run: what it raises where its loop does not run would cost them a tenth of a free lock.
    if _asyncio.running_loop() is None:
        return None
    _choose_hint(_native_task)
    return _native_task()


def _adapting_hint() -> Any:
    # In Pyodide, once: what it runs on is not to be asked by an import.
    global _native_task, own
    _native_task, own = import_module("asynclocks.backends.pyodide").adapt(native)
    _choose_hint(_native_task)
    return _native_task()


_native_task: Callable[[], Any] = _adapting_hint if IN_PYODIDE else _asyncio.current_task
# To be called as `backends.hint()`, for they change.
hint: Callable[[], Any] = _native_task
glance: Callable[[], Any] = _native_task  # `hint` for those that then say by `own` who takes something
own: Callable[[Any], Any] = ref  # a weak reference to the running task, which owns something from now on
task_here: Callable[[], Any] = _native_task  # `running_task` by the short way; RuntimeError as above
_choosing = freed_in_child(allocate_lock())


def _choose_hint(other: Callable[[], Any]) -> None:
    global hint, glance, task_here
    with _choosing:
        # Once asyncio itself was replaced, or somebody's own loop may run inside it, there is no quicker way back.
        if hint is not _no_hint and (hint is not _checked_hint or other is _no_hint):
            hint = other
            glance = _asyncio.current_task if other is _native_task else other
            task_here = other if other is _native_task else running_task


def whose_turn() -> tuple[LoopBackend, Any]:
    """`running`, by the short way if there is one."""
    if thread_local.name is not None:
        return running()
    try:
        task = hint()
    except RuntimeError:  # not asyncio
        task = None
    return running() if task is None else (native, task)


def blocking_parker(what: str, of: object, *, anywhere: bool = False) -> Any:
    """What `what` of `of`, a ``blocking_*`` call, parks this thread on; `anywhere` also where it blocks a loop.

    Raises:
        RuntimeError: an event loop runs in this thread and would be blocked.
    """
    check_blocking(what, of, anywhere=anywhere)
    if not IN_PYODIDE:
        return ThreadParker()
    _native_task()
    backend: Any = native
    return backend.blocking_parker()


def check_blocking(what: str, of: object, *, anywhere: bool = False) -> None:
    """Refuse `what` of `of` where it would block a loop, unless `anywhere`.

    Raises:
        RuntimeError: an event loop runs in this thread.
    """
    if IN_PYODIDE:
        if not import_module("asynclocks.backends.webloop").can_block():
            way_out = "needs stack switching (pyodide.ffi.can_run_sync()) in Pyodide; await instead"
            raise RuntimeError(f"{what} of {of} {way_out}")
    elif not anywhere:
        loop = _loop_of_this_thread()
        if loop is not None:
            way_out = f"would block the running {loop} loop; await instead, or call it in another thread"
            raise RuntimeError(f"{what} of {of} {way_out}")


def _loop_of_this_thread() -> str | None:
    # Not sniffio as a whole: its context variable is copied into worker threads.
    if _asyncio.running_loop() is not None:
        return "asyncio"
    if _trio_runs():
        return "trio"
    return sniffio.thread_local.name
