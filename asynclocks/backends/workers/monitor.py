"""Tasks that may be gone without a word, as on Cloudflare Workers: who lives, who waits, and what the dead held.

There each request has a context of its own. What is started in one (a timer, a wake-up) belongs to it. When it ends, is
cancelled or disconnected, its tasks never run again, not even to be cancelled. A `RequestContext` is such a context,
and all that is known of it:

- *Wake.* A sleeper is woken in its own request: directly by whoever runs there, else by a message to that request.
- *Heartbeat.* A request where somebody sleeps has a heartbeat, which also keeps it alive. One that did not beat while
  another one beat `MISSED` times is *suspected*: the grants and places of its sleepers are revoked, as if they were
  cancelled. Heartbeats are counted, not time: a long computation stops everybody's alike.
- *Provisional grants.* A grant is provisional until its sleeper has resumed. A sleeper whose grant was revoked and that
  lives after all goes back to the head of its line.
- *Probe.* Where nobody sleeps, somebody may hold what others wait for. Such a request is probed, by a message. If it
  does not answer within `MISSED` heartbeats of others, it is dead and is *reaped*: its coroutines are closed, as the
  collector would close them. So every block lets go by the code it always has, and whoever gets the lock then
  gets it `recovered`.
- *Lease.* A request where somebody holds something takes a lease, once: the platform lets it go on though its client
  is gone.

Nothing here knows the platform: a subclass of `RequestContext` supplies what begins with "do_".
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary, ref

from asynclocks._engine.ticket import State, unawaited
from asynclocks.backends.asyncio import AsyncioParker, current_task
from asynclocks.backends.workers.reaping import held_by
from asynclocks.backends.workers.request import MISSED, NoRequest, RequestContext, current_request, request_of

GRANTED, QUEUED = State.GRANTED, State.QUEUED


class Monitor:
    """What the requests of one process know of each other. `kind` is the platform's subclass of `RequestContext`."""

    def __init__(self, kind: type[RequestContext]) -> None:
        self._kind = kind
        self.now = 0  # as many heartbeats as the request that beat most often
        self.requests: WeakValueDictionary[int, RequestContext] = WeakValueDictionary()
        self.recent: list[int] = []  # the numbers of those last opened
        self.reaping: bool = False

    def first_use(self) -> Any:
        """The running task, which wants to take something. Its request is known from now on."""
        task = current_task()
        if task is not None:
            self.running_request(task).use(task)
        return task

    def own(self, task: Any) -> ref[Any]:
        """A weak reference to the running task, which owns something from now on."""
        if current_request.get().hint is not current_task:
            self.running_request(task).use(task, owns=True)
        return ref(task)

    def request_of_a_parker(self) -> RequestContext:
        """The request of the running task, which waits or, if it need not, owns something."""
        task = current_task()
        request = self.running_request(task)
        if task is not None and not request.is_leased_or_will_be:
            request.use(task)
        return request

    def running_request(self, task: Any) -> RequestContext:
        """The request of the running task."""
        request: Any = current_request.get()
        if request is NoRequest:
            request = self._kind(self, task)
            if task is not None:  # else everybody after would inherit it
                current_request.set(request)
        elif request.has_merged:
            request = request.merged()
            current_request.set(request)
        return request  # type: ignore[no-any-return]

    def receive(self, number: int) -> None:
        """A message came for the request of this number, in that request's context."""
        request = self.requests.get(number)
        if request is not None:
            request.receive()

    def beat(self, number: int) -> None:
        """It is time for that request's heartbeat, in its context."""
        request = self.requests.get(number)
        if request is not None and request.beating:
            request.beat()

    def round(self) -> None:
        """Look who is silent. Called in a request that lives, once for each heartbeat."""
        for request in self._all():
            if request.beating and not request.suspected and request.silence() >= MISSED:
                request.suspect()
        dead = {}
        for line in self._lines():
            owners = _owners(line)
            suspects = self._all() if owners is None else map(request_of, owners)
            for suspect in suspects:
                if suspect is not None and suspect.is_dead(suspected=owners is None):
                    dead[suspect] = line
        if dead:
            self._reap(dead)

    def _all(self) -> list[RequestContext]:
        return list(self.requests.values())

    def _lines(self) -> Iterable[Any]:
        """What the living wait for."""
        lines = {}
        for request in self._all():
            if not request.suspected:
                for sleeper in request.sleepers:
                    line = getattr(sleeper, "synchronizer", None)
                    lines[id(line)] = line
        return [line for line in lines.values() if line is not None and line._head is not None]

    def _reap(self, dead: dict[RequestContext, Any]) -> None:
        """Let go of what dead requests hold. Each was found to be in the way of a line."""
        tasks = [task for request in dead for task in request.tasks()]
        unawaited.update(lock for lock in held_by(tasks) if lock._head is None)
        self.reaping = True
        try:
            for request, line in dead.items():
                request.reap()
                _break_open(line, request)
        finally:
            self.reaping = False


def _owners(line: Any) -> list[Any] | None:
    """Whose turn it is, as far as the line knows; None: it does not."""
    head = line._head
    if not line._followed or head is None:
        return None
    try:
        owners = [owner() for owner in line._takers(head)]
    except NotImplementedError:
        return None
    return [task for task in owners if task is not None] or None


def _break_open(line: Any, request: RequestContext) -> None:
    """Release what ``acquire()`` took and no block was to give back."""
    if hasattr(line, "release") and any(request_of(task) is request for task in _owners(line) or ()):
        with suppress(RuntimeError):  # a guard holds it, of a coroutine that would not end
            line.release()


class RequestParker(AsyncioParker):
    """Parks a task that may be gone when it is woken."""

    __slots__ = ("_request", "_revoked", "recovered")

    recovered: bool

    def __init__(self, request: RequestContext) -> None:
        self._parked = request.parked.reference
        self._unparked = False
        self._request = request
        self._revoked = False
        self.recovered = False

    async def park(self) -> None:  # type: ignore[override]  # a coroutine is awaitable as well
        request = self._request = self._request.open()
        self._parked = request.parked.reference
        request.add_sleeper(self)
        self.rejoin()
        self.wake()
        try:
            await super().park()
        finally:
            request.remove_sleeper(self)
        if self._revoked:
            self.rejoin()
        elif getattr(self, "state", None) is GRANTED:
            request.take_lease()

    def unpark(self) -> bool:
        request = self._request
        if request.suspected and hasattr(self, "synchronizer"):
            self._revoked = True
            return False
        self.recovered = request.monitor.reaping
        if request.is_here():
            return super().unpark()
        self._unparked = True
        request.send_wake(self)
        return True

    def wake(self) -> None:
        """Resume, in the sleeper's own request, if it was unparked in another one."""
        if self._unparked:
            super().unpark()

    def rouse(self) -> None:
        if self._request.is_here():
            super().rouse()

    def wants_something(self) -> bool:
        """Is it a ticket that waits or holds? Of a `Place` it is no ticket, only who sleeps there."""
        return getattr(self, "state", None) in (QUEUED, GRANTED)

    def revoke(self) -> None:
        """Leave the line, or give back the grant: nothing was heard of the sleeper."""
        if self.wants_something():
            self._revoked = True
            queued = self.state is QUEUED
            self.synchronizer._give(self.synchronizer._withdraw, self)
            if queued and hasattr(self.request, "_notify_one"):  # by a Condvar that had notified it: to the next
                self.request._give(self.request._notify_one, None)

    def rejoin(self) -> None:
        """The sleeper lives after all: to the head of the line."""
        if not self._revoked:
            return
        self._revoked = False
        self._unparked = False  # if it was, by the grant that was given back
        self.synchronizer._transact(self.synchronizer._come_back, self)
        if self.state is GRANTED and self in self._request.sleepers:
            self.unpark()
