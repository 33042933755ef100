"""Plain threads, for ``blocking_*``: parking is a wait for a raw lock."""

from __future__ import annotations

import threading
from _thread import allocate_lock
from typing import Any
from weakref import ref

from asynclocks._engine.ticket import Ticket, look_after
from asynclocks._forks import tell_in_child_at_last


class PlainThread:
    """One thread, as the owner of what it took. It ends with the thread: what a finished one holds has no owner."""

    __slots__ = ("__weakref__", "ident", "reference")

    def __init__(self) -> None:
        self.ident: int = threading.get_ident()
        self.reference: ref[PlainThread] = ref(self)

    @property
    def name(self) -> str:
        return next((thread.name for thread in threading.enumerate() if thread.ident == self.ident), str(self.ident))


_here = threading.local()


def this_thread() -> Any:
    """A weak reference to the running thread."""
    try:
        return _here.reference
    except AttributeError:
        # Whatever the collector runs meanwhile in this thread may call this as well: the first one stays.
        mine = _here.__dict__
        return mine.setdefault("reference", mine.setdefault("thread", PlainThread()).reference)


class Asleep(dict["ThreadParker", None]):
    """What threads are parked on, of all locks together."""

    def _after_fork(self) -> None:
        look_after(list(self))
        for ticket in list(self):
            if not ticket.is_here():
                del self[ticket]


_asleep = Asleep()
tell_in_child_at_last(_asleep)


class ThreadParker(Ticket):
    __slots__ = ("_gate", "_sleeper")

    def __init__(self) -> None:
        self._sleeper = this_thread()
        self._gate = allocate_lock()
        self._gate.acquire()

    def park_blocking(self, timeout: float | None) -> bool:
        """Sleep until unparked, at most `timeout` seconds. False: the time is over."""
        _asleep[self] = None
        try:
            return self._gate.acquire(True, -1 if timeout is None else max(0, min(timeout, threading.TIMEOUT_MAX)))
        finally:
            _asleep.pop(self, None)

    def whose(self) -> Any:
        return self._sleeper()

    def is_here(self) -> bool:
        return self._sleeper is this_thread()

    def unpark(self) -> bool:
        try:  # noqa: SIM105  # quicker
            self._gate.release()
        except RuntimeError:  # unparked before: who was struck on the way (Ctrl-C) does it again
            pass
        return True
