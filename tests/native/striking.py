"""Something happens between two instructions of the library: at each of them, in one test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any

import asynclocks

HERE = str(Path(asynclocks.__file__).parent)


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
