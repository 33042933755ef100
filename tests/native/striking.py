"""Something happens between two instructions of the library: at each of them, in one test."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from ctypes import PYFUNCTYPE, py_object, pythonapi
from pathlib import Path
from traceback import format_stack
from types import FrameType
from typing import Any

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


class SignalArriving:
    """A signal arrives before the `step`-th instruction that the library runs in ``with``; its handler raises `Struck`.

    Where the handler runs is CPython's affair, as with any signal: where a function begins, a call ends or a loop turns
    next. So its exception comes only to where one can come, and to each such place at some step.

    `left` as in `Striking`. Main thread only.
    """

    def __init__(self, step: int) -> None:
        self.left = step
        self.where = "nowhere"  # it struck, in words

    def __enter__(self) -> None:
        self._handler = signal.signal(signal.SIGINT, self._raise)
        self._before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # as above
        sys.settrace(self._trace)

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self._before)
        with suppress(Struck):
            for _ in range(2):  # one that is still on its way comes here
                pass
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
                return ARRIVE  # it is called before the next instruction
        return self._trace

    def _raise(self, _: int, frame: FrameType | None) -> None:
        sys.settrace(None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        self.where = "".join(format_stack(frame, 6))
        # A future that is interrupted as it wakes its task loses the wake, and we cannot help it.
        if frame is not None and not frame.f_code.co_filename.startswith(ASYNCIO):
            raise Struck


# As a trace function: what a signal's arrival does, no more. (Python code would be interrupted by it itself.)
ARRIVE: Any = PYFUNCTYPE(None, py_object, py_object, py_object)(("PyErr_SetInterrupt", pythonapi))
