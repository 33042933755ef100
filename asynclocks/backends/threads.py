"""Plain threads, for ``blocking_*``: parking is a wait for a raw lock."""

from __future__ import annotations

import threading
from _thread import allocate_lock

from asynclocks._engine.ticket import Ticket


class ThreadParker(Ticket):
    __slots__ = ("_gate",)

    def __init__(self) -> None:
        self._gate = allocate_lock()
        self._gate.acquire()

    def park_blocking(self, timeout: float | None) -> bool:
        """Sleep until unparked, at most `timeout` seconds. False: the time is over."""
        return self._gate.acquire(True, -1 if timeout is None else max(0, min(timeout, threading.TIMEOUT_MAX)))

    def unpark(self) -> bool:
        self._gate.release()
        return True
