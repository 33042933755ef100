"""The contexts that tasks live and die in, on platforms where a context ends without a word. See `monitor`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import ref

from asynclocks.backends.asyncio import Parked, current_task
from asynclocks.backends.workers.reaping import end

if TYPE_CHECKING:
    from asynclocks.backends.workers.monitor import Monitor, RequestParker

MISSED = 5  # heartbeats of another request without a sign of this one's
RECENT = 2  # how many of the requests opened last may be the same as a new one: to ask one that is not takes its time


def _nobody() -> None:
    """In place of a weak reference to a task."""


def context_of(task: Any) -> Context:
    return task.get_context()  # type: ignore[no-any-return]


def request_of(task: Any) -> RequestContext | None:
    request: RequestContext | None = context_of(task).get(current_request)
    return None if request is None else request.merged()


class NoRequest:
    """In place of a request nobody has made known yet."""

    hint: Callable[[], Any] = staticmethod(_nobody)  # the platform puts its monitor's `first_use` here


_numbers = count(1)
current_request: ContextVar[Any] = ContextVar("asynclocks_request", default=NoRequest)


class RequestContext:
    """One context of the platform's, as one of its tasks made it known."""

    def __init__(self, monitor: Monitor, task: Any) -> None:
        self.monitor = monitor
        self.number: int = next(_numbers)
        monitor.requests[self.number] = self
        # The hot path's question for the running task. While there is something to do first:
        self.hint: Callable[[], Any] = monitor.first_use
        self.sleepers: dict[RequestParker, None] = {}
        self.parked: Parked = Parked()  # of its own: the loop outlives it
        self.beating: bool = False
        self.suspected: bool = False
        self._merged_into: RequestContext | None = None  # the same context, known before by another task
        self._task = ref(task) if task is not None else _nobody  # the last that needed it
        self._to_wake: list[RequestParker] = []
        self._expects_messages = False  # the platform can bring messages
        self._message_is_due = False  # a message is under way
        self._check_is_due = False  # `check_lease` is under way
        self._open = False
        self._leased = False
        self._blocking: list[RequestParker] = []  # what holds for plain calls, or did
        self._reaped = False
        self._count = 0  # its heartbeats, set forward to the monitor's
        self._seen = monitor.now  # when it last gave a sign of life
        self._probed_at: int | None = None  # since when it owes an answer

    # What the platform supplies.
    def do_check_later(self) -> None:
        """Call `check_lease` in this request, soon."""
        raise NotImplementedError

    def do_open(self) -> None:
        """Get ready for `do_is_here`."""
        raise NotImplementedError

    def do_expect_message(self) -> None:
        """Get ready for the next `do_send_message`."""
        raise NotImplementedError

    def do_send_message(self) -> None:
        """Let this request call `receive`, from any request."""
        raise NotImplementedError

    def do_heartbeat(self, on: bool) -> None:
        """Call `beat` from time to time, in this request; or do not any more."""
        raise NotImplementedError

    def do_lease(self, on: bool) -> None:
        """Let this request live on though its client is gone; or do not any more."""
        raise NotImplementedError

    def do_close(self) -> None:
        """Leave nothing behind."""
        raise NotImplementedError

    def do_is_here(self) -> bool:
        """Does this request's code run now?"""
        raise NotImplementedError

    # Coming and going.
    @property
    def is_leased_or_will_be(self) -> bool:
        """Has it a lease, or will `check_lease` see to that?"""
        return self._check_is_due or self._leased

    def use(self, task: Any, *, owns: bool = False) -> None:
        """A task of this request, running now, wants to take something, or took it."""
        if owns or self.is_leased_or_will_be:
            self.hint = current_task
        if not self.is_leased_or_will_be:
            self._check_is_due = True
            self._task = ref(task)
            self.monitor.requests[self.number] = self
            self.do_check_later()

    def check_lease(self) -> None:
        """Called one pass of the loop later: whoever still runs, perhaps holds something."""
        self._note_sign_of_life()
        if not self._check_is_due:  # its task sleeps: see `add_sleeper`
            return
        self._check_is_due = False
        task = self._task()
        if (task is not None and not task.done()) or self.tasks():
            self.open().take_lease()
        else:
            self.close()

    def open(self) -> RequestContext:
        """This request or, if another task made the same one known before, that."""
        if self._open:
            return self
        monitor = self.monitor
        for other in map(monitor.requests.get, monitor.recent):
            if other is not None and other.is_here():
                self._merge_into(other)
                return other
        self._open = True
        monitor.requests[self.number] = self
        monitor.recent = [self.number, *monitor.recent[: RECENT - 1]]
        self._expects_messages = True
        self.do_open()
        self.do_expect_message()
        if self._task is not _nobody:
            self._wait_for_the_last()
        return self

    def _merge_into(self, request: RequestContext) -> None:
        for task in self.tasks():
            if task is current_task():
                current_request.set(request)
            else:
                with suppress(RuntimeError):  # its stack is switched out in the middle of a step
                    context_of(task).run(current_request.set, request)
        self._merged_into = request
        request._blocking += self._blocking
        self.close()

    @property
    def has_merged(self) -> bool:
        return self._merged_into is not None

    def merged(self) -> RequestContext:
        """This request or, if another one turned out to be the same, that."""
        request = self
        while request._merged_into is not None:
            request = request._merged_into
        return request

    def take_lease(self) -> None:
        """Somebody here holds something."""
        if not self._leased:
            self._leased = True
            self.do_lease(True)
        self.hint = current_task

    def tasks(self) -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks() if request_of(task) is self]

    def _wait_for_the_last(self, _: object = None) -> None:
        """Close when no task of this request is left."""
        if not self._open:
            return
        task = self._task()
        if task is None or task.done():
            task = next(iter(self.tasks()), None)
        if task is None and self.sleepers:
            self._task = _nobody  # they are woken in no task of this request; `beat` closes it
        elif task is None:
            self.close()
        else:
            self._task = ref(task)
            task.add_done_callback(self._wait_for_the_last)

    def close(self) -> None:
        """No task of this request needs it any more."""
        self.hint = self.monitor.first_use
        self._check_is_due = False
        if self.beating:
            self.beating = False
            self.do_heartbeat(False)
        if self._leased:
            self._leased = False
            self.do_lease(False)
        if self._open:
            self._open = False
            self.monitor.recent = [number for number in self.monitor.recent if number != self.number]
        if not self._message_is_due:  # else a message is still to come
            self._leave_nothing()

    def _leave_nothing(self) -> None:
        self.monitor.requests.pop(self.number, None)
        if self._expects_messages:
            self._expects_messages = False
            self.do_close()

    def note_blocking(self, parker: RequestParker) -> None:
        """Remember the parker of a plain call, whose frames nobody can close."""
        self._blocking = [other for other in self._blocking if other.wants_something()]
        self._blocking.append(parker)

    def is_here(self) -> bool:
        """Does this request's code run now?"""
        here = current_request.get()
        if here is not self and here is not NoRequest and here._open:
            return False
        return self.do_is_here() if self._open else here is self

    # Sleepers.
    def add_sleeper(self, sleeper: RequestParker) -> None:
        """Somebody sleeps here from now on."""
        if self._check_is_due and self.hint is not current_task:  # it sleeps first, so it holds nothing
            self._check_is_due = False
        self._note_sign_of_life()
        self.sleepers[sleeper] = None
        if not self.beating:
            self.beating = True
            self._count = self.monitor.now
            self.do_heartbeat(True)

    def remove_sleeper(self, sleeper: RequestParker) -> None:
        self.sleepers.pop(sleeper, None)

    def send_wake(self, sleeper: RequestParker) -> None:
        """Wake this sleeper, from another request."""
        self._to_wake.append(sleeper)
        self._send_message()

    def _send_message(self) -> None:
        if self._open and not self._message_is_due:
            self._message_is_due = True
            self.do_send_message()

    def receive(self) -> None:
        """A message came."""
        self._message_is_due = False
        if self._open:
            self.do_expect_message()
            self._note_sign_of_life()
            self._wake_sleepers()
        else:
            self._leave_nothing()

    def _wake_sleepers(self) -> None:
        messages, self._to_wake = self._to_wake, []
        for sleeper in messages:
            sleeper.wake()

    # Signs of life.
    def beat(self) -> None:
        monitor = self.monitor
        self._count += 1
        first = self._count > monitor.now
        if first:
            monitor.now = self._count
        self._count = monitor.now
        self._note_sign_of_life()
        self._wake_sleepers()
        if not self.sleepers:
            self.beating = False
            self.do_heartbeat(False)
            if self._task is _nobody:
                self._wait_for_the_last()
        elif first:
            monitor.round()

    def _note_sign_of_life(self) -> None:
        self._seen = self.monitor.now
        self._probed_at = None
        self._reaped = False
        if self.suspected:
            self.suspected = False
            for sleeper in reversed([*self.sleepers]):  # each goes to the head
                sleeper.rejoin()

    def silence(self) -> int:
        """For how many heartbeats there was no sign of life."""
        return self.monitor.now - self._seen

    def suspect(self) -> None:
        """Revoke the places and grants of those who sleep here."""
        self.suspected = True
        for sleeper in [*self.sleepers]:
            sleeper.revoke()

    def reap(self) -> None:
        """Let go of whatever the tasks of this dead request hold."""
        self._reaped = True
        for task in self.tasks():
            end(task)
        for hold in self._blocking:  # there is no coroutine to close
            if hold.wants_something() and hold.synchronizer._followed:
                hold.synchronizer._give_back(hold)
        self._message_is_due = False  # nobody will receive it
        self.close()

    def is_dead(self, *, suspected: bool) -> bool:
        """Is it dead? Probe it. One that is merely `suspected` to be in the way gets more time if it beats."""
        if self._reaped:
            return False
        if self.beating:
            return self.silence() >= (2 * MISSED if suspected else MISSED)
        if self._probed_at is None:
            self._probed_at = self.monitor.now
            self._send_message()
        return self.monitor.now - self._probed_at >= MISSED
