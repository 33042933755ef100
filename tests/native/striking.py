"""Something happens between two instructions of the library: at each of them, in one test."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from ctypes import PYFUNCTYPE, c_ulong, py_object, pythonapi
from functools import partial
from pathlib import Path
from threading import RLock, get_ident
from traceback import format_stack
from types import FrameType
from typing import Any, Literal

import pytest

import asynclocks

HERE = str(Path(asynclocks.__file__).parent)
ASYNCIO = str(Path(asyncio.__file__).parent)


class Striking:
    """Calls `strike` before the `step`-th instruction that the library runs in ``with``.

    `left` says afterwards how many instructions were missing; what lies in `beside` does not count.
    """

    def __init__(self, step: int, strike: Callable[[], object], beside: Collection[str] = ()) -> None:
        self.left = step
        self._strike = strike
        self._beside = beside

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # 3.12 makes ready for it only when tracing begins
        sys.settrace(self._trace)

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        path = frame.f_code.co_filename
        if not path.startswith(HERE) or any(part in path for part in self._beside):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                self._strike()
        return self._trace


class Struck(BaseException):
    """What a signal handler raises, as Ctrl-C raises KeyboardInterrupt."""


# As trace functions: what a signal's arrival does, no more. (Python code would be interrupted by it itself.)
ARRIVE: Any = PYFUNCTYPE(None, *[py_object] * 3)(("PyErr_SetInterrupt", pythonapi))
DO_NOTHING: Any = PYFUNCTYPE(None, *[py_object] * 3)(("Py_IsInitialized", pythonapi))
SET_EXCEPTION: Any = pythonapi["PyThreadState_SetAsyncExc"]
SET_EXCEPTION.argtypes = [c_ulong, *[py_object] * 4]
SET_EXCEPTION.restype = [None, DO_NOTHING].__getitem__  # the next trace function: once is enough


class SignalArriving:
    """A signal arrives before the `step`-th instruction that the library runs in ``with``; its handler raises `Struck`.

    Where the handler runs is CPython's affair, as with any signal: where a function begins, a call ends or a loop turns
    next. So its exception comes only to where one can come, and to each such place at some step.

    `left` as in `Striking`. Main thread only.
    """

    _arrive = staticmethod(ARRIVE)

    def __init__(self, step: int) -> None:
        self.left = step
        self.where = "nowhere"  # it struck, in words

    def __enter__(self) -> None:
        self._handler = signal.signal(signal.SIGINT, self._raise)
        self._before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # as above
        sys.settrace(self._trace)

    def __exit__(self, *exc: object) -> None:
        try:
            with suppress(Struck):
                sys.settrace(self._before)
                for _ in range(2):  # one that is still on its way comes here
                    pass
        finally:
            signal.signal(signal.SIGINT, self._handler)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(HERE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                # No Python code of ours may run from now on: the handler would interrupt that.
                sys.settrace(getattr)  # which finds no attribute "call" of a new frame, and returns None
                back = frame.f_back
                while back is not None:
                    back.f_trace = None
                    back = back.f_back
                return self._arrive  # it is called before the next instruction
        return self._trace

    def _raise(self, _: int, frame: FrameType | None) -> None:
        sys.settrace(None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        self.where = "".join(format_stack(frame, 6))
        # A future that is interrupted as it wakes its task loses the wake, and a timer whose callback is interrupted
        # before it begins is over: we cannot help it.
        if frame is not None and not frame.f_code.co_filename.startswith(ASYNCIO) and not _begins_a_timer_s_end(frame):
            raise Struck


def _begins_a_timer_s_end(frame: FrameType) -> bool:
    return frame.f_code.co_name == "expire" and frame.f_lineno == frame.f_code.co_firstlineno


class ExceptionArriving(SignalArriving):
    """The same, but what arrives is an exception from another thread, as ``PyThreadState_SetAsyncExc`` sends it."""

    _arrive = staticmethod(partial(SET_EXCEPTION, get_ident(), Struck))

    def __enter__(self) -> None:
        super().__enter__()
        self.where = "unknown: nobody is asked"


def strike_once(
    patch: pytest.MonkeyPatch, owner: Any, name: str, when: Literal["begins", "ends"], call: int = 1
) -> None:
    """Where this function begins or ends, as it is called for the `call`-th time, a signal handler raises `Struck`."""
    function = getattr(owner, name)
    calls = 0

    def struck(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != call:
            return function(*args, **options)
        if when == "ends":
            function(*args, **options)
        raise Struck

    patch.setattr(owner, name, struck)


class InternalLock:
    """An internal lock, in Python: its methods can be struck, and who takes it can come too late."""

    def __init__(self, before: Callable[[], object] | None = None) -> None:
        self._lock: Any = RLock()
        self._before = before
        self._is_owned = self._lock._is_owned

    def acquire(self, blocking: bool = True) -> bool:
        before, self._before = self._before, None
        if before is not None:
            before()  # somebody was quicker
        return self._lock.acquire(blocking)  # type: ignore[no-any-return]

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()
