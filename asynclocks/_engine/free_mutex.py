"""Taking and giving back a free mutex: the hottest lines of the library, and nothing else.

A compiled twin of `FreeMutex` is to come; this one stays as its fallback.

The mutex's freedom is a token in the list `_free`. Popping and appending are atomic, so a free mutex changes
hands without the internal lock. Whoever takes it this way looks at the line after the pop, and whoever gives it
back looks after the append: an arrival enters the line first and tries the token then, so one of the
two sees the other and nobody is left asleep.
"""

from __future__ import annotations

from typing import Any, ClassVar

from asynclocks import backends
from asynclocks._engine.synchronizer import GRANTED, QueuedSynchronizer, Ticket
from asynclocks.backends.seam import uninterrupted

TOKEN = None  # that it is in the list is all that matters


class FreeMutex(QueuedSynchronizer):
    __slots__ = ("_early", "_free", "_held", "_owner")

    _guard: ClassVar[Any]

    def __init__(self, name: str | None) -> None:
        super().__init__(name)
        self._free = [TOKEN]
        self._held: Any = None  # who holds it: the guard of `async with`, or the ticket behind any other
        self._owner: Any = None  # whose it is, a weak reference; out of date while `_held` is None
        self._early: list[Any] | None = None  # owners of `async with` guards let go before their block's exit

    @uninterrupted
    async def __aenter__(self) -> Any:
        try:
            task = backends.glance()
        except RuntimeError:  # not asyncio
            task = None
        if task is not None and self._free:
            owner = self._owner
            if owner is None or owner() is not task:  # often it is the same; asking is cheaper than a new one
                owner = backends.own(task)
            guard = self._guard()
            guard._mutex = self
            try:
                del self._free[0]  # no call: from here to the `return` no signal handler can come between
            except IndexError:  # somebody was quicker
                pass
            else:
                if self._head is None:
                    self._owner = owner
                    self._held = guard
                    return guard
                self._free.append(TOKEN)  # somebody queued while the token was out: they go first
                self._hand_on_again()
        guard = self._guard()
        guard._mutex = self
        hold = await (self._take_elsewhere() if task is None else self._acquire(task=task))
        self._held = guard
        if hold is not None and hold.recovered:
            guard._recovered = True
        return guard

    @uninterrupted
    async def __aexit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:
        # An exit has no identity. But while no guard was let go early, each one ends the present hold; except that of a
        # coroutine that is being closed, whose guard may be let go in a moment (`_deferred`).
        held = self._held
        if self._early is None and held is not None and exc_type is not GeneratorExit and not self._deferred:
            try:
                if self._head is not None:
                    if not self._hand_over(held):
                        self._leave()
                    return
                self._held = None
                self._free.append(TOKEN)
                if self._head is not None:
                    self._hand_on()
            except BaseException:
                self._end_struck(held)
                raise
        elif exc_type is GeneratorExit:
            self._leave_closed()
        else:
            self._leave()

    async def _take_elsewhere(self) -> None:
        """Take the mutex on another loop than asyncio's."""
        raise NotImplementedError

    @uninterrupted
    def _hand_over(self, held: Any) -> bool:
        """Give what is held to the head of the line, in one go, without the token's way round by `_hand_on`.

        False: somebody released the guard in another thread just now.
        """
        lock = self._lock
        ticket = None
        try:
            if not lock._is_owned() and lock.acquire(False):
                if self._head is not None and self._held is held:
                    ticket = self._head
                    self._owner = ticket.owner
                    self._held = ticket
                    ticket.state = GRANTED
                    self._waiting -= 1
                    self._head = following = ticket.after
                    if following is None:
                        self._tail = None
                    else:
                        following.before = ticket.after = None
                    lock.release()
                    if not ticket.unpark():
                        self._pass_on([ticket])
                    if self._deferred:
                        self._catch_up()
                    return True
                lock.release()
        except BaseException:
            self._mend(ticket)
            raise
        if self._held is not held:
            if self._deferred:
                self._catch_up()
            return False
        self._held = None
        self._free.append(TOKEN)
        self._hand_on()
        return True

    def _end_struck(self, held: Any) -> None:
        """End a hold though an exception came between."""
        if self._held is held:
            self._held = None
            self._free.append(TOKEN)
        self._hand_on()

    def _admit(self, ticket: Ticket) -> bool:
        try:
            del self._free[0]
        except IndexError:  # perhaps a newcomer has it; seeing us in the line, it will put it back
            return False
        self._owner = ticket.owner
        self._held = ticket
        return True

    def _leave(self) -> None:
        """An exit that must find out first what it is to release."""
        raise NotImplementedError

    def _leave_closed(self) -> None:
        """The same of a coroutine that is being closed."""
        raise NotImplementedError
