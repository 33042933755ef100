"""Semaphore: counted permits (after ``tokio::sync::Semaphore``)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from asynclocks import backends
from asynclocks._engine.absent import Absent
from asynclocks._engine.acquisition import Acquisition
from asynclocks._engine.deadline import deadline_of
from asynclocks._engine.synchronizer import Ticket, weakly
from asynclocks._permit_block import permit_block
from asynclocks._permits import TOKEN, NestedPermit, Permit, PermitState, checked
from asynclocks.backends import IN_PYODIDE, check_blocking, is_gone, running, running_task
from asynclocks.backends.seam import uninterrupted
from asynclocks.exceptions import TryAcquireError

if TYPE_CHECKING:
    from asynclocks.statistics import SemaphoreStatistics

__all__ = ["Permit", "Semaphore"]


class Semaphore(PermitState):
    """Counted permits, first come, first served.

    ``acquire(n)`` at the head of the queue holds back smaller requests behind it. There is no ``release()``: the
    `Permit` releases.

    Raises:
        ValueError: `permits` is negative.

    >>> import asyncio
    >>> async def main():
    ...     connections = Semaphore(2)
    ...     async with connections:
    ...         return connections.available_permits
    >>> asyncio.run(main())
    1
    """

    __slots__ = ()

    kind = "Semaphore"

    def __init__(self, permits: int, *, name: str | None = None) -> None:
        permits = checked(permits, "Semaphore()")
        super().__init__(permits, name)

    if not TYPE_CHECKING:
        acquire_nowait = Absent("use try_acquire()")
        release = Absent(
            "the permit that acquire() returned releases; keep it, or use `async with semaphore:`. "
            "Code that calls acquire() and release() of a semaphore takes one of asynclocks.drop_in"
        )
        value = Absent("use available_permits, or total_permits")

    @uninterrupted
    async def __aenter__(self) -> Permit:
        try:
            task = backends.hint()
        except RuntimeError:  # not asyncio
            task = None
        if task is not None and self._tokens:
            entrant = self._entrant
            if entrant is None or entrant() is not task:  # asking is cheaper than a new one
                self._entrant = entrant = ref(task)
            key = id(task)
            permit = Permit()
            permit._semaphore = self
            permit._count = 1
            permit._parts = None
            permit._live = True
            permit._entrant = entrant
            try:
                del self._tokens[-1]  # no call: from here to the `return` no signal handler can come between
            except IndexError:  # somebody was quicker
                pass
            else:
                if self._head is None and key not in self._entered and self._free >= 0 and not self._closed:
                    self._entered[key] = permit
                    return permit
                self._tokens.append(TOKEN)
                self._hand_on_again()
        if task is None:
            return await self._enter_elsewhere()
        ticket = await self._acquire(1, tracked=False, task=task)
        try:
            self._check_open(ticket)
            return self._enter(task)
        except BaseException:
            self._give(self._withdraw, ticket)
            raise

    @uninterrupted
    async def __aexit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:
        permit = None
        try:
            try:
                task = backends.task_here()
            except RuntimeError:  # not asyncio
                task = running_task()
            # What closes a block from outside, perhaps the collector, does so in whatever task runs.
            if exc_type is not GeneratorExit:
                key = id(task)
                try:
                    permit = self._entered[key]  # no call: no signal handler can come before it is taken out
                    del self._entered[key]
                except KeyError:  # none, or another thread took it for one whose task is gone
                    permit = None
            if permit.__class__ is Permit and permit._live and permit._parts is None:
                if self._head is not None:
                    self._hand_over(permit)
                    return
                permit._live = False
                self._tokens.append(TOKEN)
                if self._head is not None:
                    self._hand_on()
            else:
                self._leave(permit)
        except BaseException:
            if permit is None and exc_type is not GeneratorExit:
                permit = self._entered.pop(id(running_task()), None)
            if permit is not None:
                self._leave(permit)
            raise

    def acquire(self, permits: int = 1, timeout: float | None = None) -> Acquisition[Permit]:
        """Wait for `permits` permits, first come, first served, at most `timeout` seconds. Zero permits never wait.

        More than there are in all is no error, for there may be more later (`add_permits`, `resize`); the repr says so.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            ClosedError: the semaphore is closed, now or while waiting.
            ValueError: `permits` is negative.
        """
        if permits.__class__ is not int or permits < 0:
            permits = checked(permits, "acquire()")
        return permit_block(self, permits, timeout)

    @uninterrupted
    def try_acquire(self, permits: int = 1) -> Permit:
        """Take `permits` permits now, from any thread, with or without a loop.

        Raises:
            TryAcquireError: there are not enough, or somebody queues.
            ClosedError: the semaphore is closed.
            ValueError: `permits` is negative.
        """
        permits = checked(permits, "try_acquire()")
        permit = self._take_free() if permits == 1 else None
        if permit is not None:
            return permit
        ticket = self._take_now(permits)
        try:
            return self._permit_of(ticket)
        except BaseException:
            self._give(self._withdraw, ticket)
            raise

    def blocking_acquire(self, permits: int = 1, timeout: float | None = None) -> Permit:
        """Park this thread until it has `permits` permits, at most `timeout` seconds; zero or less tries once.

        Raises:
            TimeoutError: the time is over; nothing is held.
            ClosedError: the semaphore is closed, now or while waiting.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
            ValueError: `permits` is negative.
        """
        permits = checked(permits, "blocking_acquire()")
        if permits == 1 and self._tokens and not IN_PYODIDE:  # as in `Mutex.blocking_lock`
            check_blocking("blocking_acquire(1)", self)
            permit = self._take_free()
            if permit is not None:
                return permit
        ticket = self._acquire_blocking(f"blocking_acquire({permits})", permits, timeout)
        try:
            return self._permit_of(ticket)
        except BaseException:
            self._give(self._withdraw, ticket)
            raise

    @uninterrupted
    async def take(self, timeout: float | None = None) -> bool:
        """Wait for one permit as ``asyncio.Semaphore`` spells it, without a Permit; `give` gives it back. Always True.

        Raises:
            TimeoutError: it was not granted within `timeout` seconds (zero or less tries once); nothing is held.
            ClosedError: the semaphore is closed, now or while waiting.
        """
        deadline = None if timeout is None else deadline_of(timeout)
        try:
            task = backends.hint()
        except RuntimeError:  # not asyncio
            task = None
        if task is not None and self._take_token_now():
            return True
        self._check_open(await self._acquire(1, tracked=False, task=task, deadline=deadline))
        return True

    def try_take(self) -> None:
        """`take` without waiting, from any thread.

        Raises:
            TryAcquireError: there is none, or somebody queues.
            ClosedError: the semaphore is closed.
        """
        if not self._take_token_now():
            self._check_open(self._take_now(1))

    def blocking_take(self, timeout: float | None = None, *, block_loop: bool = False) -> None:
        """`take` for plain threads, at most `timeout` seconds; zero or less tries once.

        With `block_loop` also in a thread where an event loop runs: see `Mutex.blocking_acquire`.

        Raises:
            TimeoutError: the time is over; nothing is held.
            ClosedError: the semaphore is closed, now or while waiting.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        self._check_open(self._acquire_blocking("blocking_take()", 1, timeout, anywhere=block_loop))

    @uninterrupted
    def give(self) -> None:
        """Give back what `take` took, from any task or thread.

        Raises:
            ValueError: nothing is taken or held, all permits are there.
        """
        if self._free + len(self._tokens) >= self._total:
            raise ValueError(f"give() to {self!r}: nothing is taken; add_permits() makes more")
        if self._head is not None:
            given = Permit()  # which knows whether it was given
            given._count = 1
            given._live = True
            try:
                self._hand_over(given)
            except BaseException:
                self._give(self._take_back, given)
                raise
            return
        try:
            self._tokens.append(TOKEN)
            if self._head is not None:  # pragma: no cover - somebody came in between, as tested for Semaphore.__aexit__
                self._hand_on()
        except BaseException:
            self._hand_on()
            raise

    @property
    def available_permits(self) -> int:
        """How many could be taken now; 0 while anyone waits."""
        return self._available()

    @property
    def total_permits(self) -> int:
        """How many there are, free or held; what it was made with, plus those added, less those forgotten.

        After `resize` it is what was asked for, though more may be held until they come back.
        """
        return self._total

    def resize(self, permits: int) -> None:
        """Set how many permits there are in all.

        More are there at once. Fewer as permits come back: free ones go first, and then each permit that is given back,
        before anybody in line gets one. So everybody in line waits until no more than `permits` are held.

        Raises:
            ValueError: `permits` is negative.
        """
        self._give(self._resize, checked(permits, "resize()"))

    def add_permits(self, permits: int) -> None:
        """Create permits. Raises ValueError if negative."""
        self._give(self._add, checked(permits, "add_permits()"))

    def forget_permits(self, permits: int) -> int:
        """Destroy free permits; how many really were: nothing while anyone waits. Raises ValueError if negative.

        See `resize` for those that are held now.
        """
        return self._transact(self._forget, checked(permits, "forget_permits()"))

    def close(self) -> None:
        """Let nobody in any more: everyone who waits, and everyone who comes, gets ClosedError. Idempotent."""
        self._give(self._close, None)

    @property
    def closed(self) -> bool:
        """Was it closed?"""
        return self._closed

    def locked(self) -> bool:
        """Is nothing available?"""
        return self.available_permits == 0

    def statistics(self) -> SemaphoreStatistics:
        """How many permits there are, how many of them are available, and how many wait."""
        from asynclocks.statistics import SemaphoreStatistics

        return SemaphoreStatistics(self._total, self.available_permits, self._waiting, self._closed)

    @uninterrupted
    async def _acquire_loose(self, permits: int, timeout: float | None) -> Permit:
        """`acquire` for the compiled engine, where it has no short way."""
        return await permit_block(self, permits, timeout)

    def _take_now(self, permits: int) -> Ticket:
        ticket: Ticket | None = self._acquire_now(permits)
        if ticket is None:
            raise TryAcquireError(f"{self!r} has not {permits} free now; wait with acquire(), or try later")
        return ticket

    # Blocks of `async with`.
    async def _enter_elsewhere(self) -> Permit:
        backend, task = running()
        if backend.checkpoints:
            await backend.checkpoint_if_cancelled()
        try:
            del self._tokens[-1]
        except IndexError:  # nothing is free
            pass
        else:
            try:
                if self._head is None and self._free >= 0 and not self._closed:
                    if backend.checkpoints:
                        await backend.cancel_shielded_checkpoint()
                    return self._enter(task)
            except BaseException:
                self._put_back()
                raise
            self._put_back()
        ticket = await self._acquire(1, tracked=False, task=task, backend=backend)
        try:
            self._check_open(ticket)
            return self._enter(task)
        except BaseException:
            self._give(self._withdraw, ticket)
            raise

    def _enter(self, task: Any) -> Permit:
        key = id(task)
        outer = self._entered.get(key)
        if outer is None:
            permit = Permit()
        else:
            permit = NestedPermit()
            permit._outer = outer
        permit._semaphore = self
        permit._count = 1
        permit._parts = None
        permit._live = True
        entrant = self._entrant
        if task is None or entrant is None or entrant() is not task:
            self._entrant = entrant = weakly(task)
        permit._entrant = entrant
        self._entered[key] = permit
        return permit

    def _leave(self, permit: Permit | None) -> None:
        """The end of a block whose permit is not as simple as can be."""
        key = here = id(running_task())
        while permit is None and self._entered:
            # An exit has no identity. Entered in another task, by now perhaps gone (the collector closes its block,
            # or a fixture's, an AsyncExitStack's): whose task is gone comes first, then this one's, then the oldest.
            keys = list(self._entered)
            key = next(filter(self._is_orphaned, keys), 0) or min(keys, key=partial(self._closeness, here), default=0)
            permit = self._entered.get(key)
            try:
                del self._entered[key]
            except KeyError:  # nobody is left
                permit = None
        if isinstance(permit, NestedPermit):
            self._entered[key] = permit._outer
        if permit is not None:
            permit._leave_block()

    def _is_orphaned(self, key: int) -> bool:
        """Is the task gone that entered this block?"""
        permit = self._entered.get(key)
        return permit is not None and permit._entrant is not None and is_gone(permit._entrant)

    def _closeness(self, here: int, key: int) -> tuple[bool, bool]:
        permit = self._entered.get(key)
        if permit is None:  # pragma: no cover - another thread took it just now
            return (True, True)
        return (key != here, not permit._live)
