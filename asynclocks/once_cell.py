"""OnceCell and friends: a value that is made once, by whoever needs it first (after ``tokio::sync::OnceCell``).

One line holds two kinds of tickets. Those that may run an initializer stand before those that only wait, so a
waiter never keeps an initializer out; within its kind everybody stands in the order of arrival. When the value
comes, all of them are told it at the same moment, and keep it even if somebody takes it from the cell at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from enum import Enum
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, overload

from asynclocks import backends
from asynclocks._engine.callbacks import check_init, check_takes_nothing, refuse_awaitable
from asynclocks._engine.deadline import Deadline, deadline_of
from asynclocks._engine.places import PlacingSynchronizer
from asynclocks._engine.synchronizer import GRANTED, Ticket
from asynclocks.backends import in_words
from asynclocks.backends.seam import made_by, uninterrupted
from asynclocks.exceptions import AlreadyInitializedError, InitializingError

if TYPE_CHECKING:
    from asynclocks.statistics import OnceCellStatistics

T = TypeVar("T")
R = TypeVar("R")


class _Mark(Enum):
    EMPTY = "no value yet"
    INITIALIZE = "wants the value, and makes it if it is the first"
    WAIT = "wants the value that somebody else makes"


EMPTY: Final = _Mark.EMPTY
INITIALIZE, WAIT = _Mark.INITIALIZE, _Mark.WAIT


class OnceCell(PlacingSynchronizer, Generic[T]):
    """A value written once. None is a legal value.

    Whoever asks first with `get_or_init` makes the value, in its own task; all others wait for it. If the
    initializer fails or is cancelled, only its caller sees it, and the next caller runs its own.

    >>> import asyncio
    >>> async def main():
    ...     answer = OnceCell()
    ...     first = await answer.get_or_init(lambda: 42)
    ...     return first, await answer.get_or_init(lambda: 0)
    >>> asyncio.run(main())
    (42, 42)
    """

    __slots__ = ("_first_waiter", "_initializer", "_value")

    kind = "OnceCell"

    @overload
    def __init__(self) -> None: ...
    @overload
    def __init__(self, value: T) -> None: ...
    def __init__(self, value: Any = EMPTY) -> None:
        super().__init__()
        self._value: T | _Mark = value
        self._initializer: Ticket | None = None  # the ticket of whoever makes the value now
        self._first_waiter: Ticket | None = None  # of the second kind

    @overload
    def get(self) -> T: ...
    @overload
    def get(self, default: R) -> T | R: ...
    def get(self, default: Any = EMPTY) -> Any:
        """The value, or `default` while there is none.

        Raises:
            LookupError: the cell is empty and there is no default.
        """
        value = self._value
        if value is not EMPTY:
            return value
        if default is EMPTY:
            raise LookupError(f"{self} is empty; await get_or_init() or wait(), or give a default")
        return default

    def initialized(self) -> bool:
        """Is there a value?"""
        return self._value is not EMPTY

    def set(self, value: T) -> None:
        """Give the cell its value, from any thread.

        Raises:
            AlreadyInitializedError: it has one; `value` is in the error's ``value``.
            InitializingError: an initializer is running; `value` is in the error's ``value``.
        """
        if not self._transact(self._set, value):
            if self.initialized():
                raise AlreadyInitializedError(f"{self} has a value already; take() it first", value)
            raise InitializingError(f"{self} is being initialized; await wait() for the value", value)

    def take(self) -> T:
        """Empty the cell; what it held. Whoever was told the value before keeps it.

        Raises:
            LookupError: there is no value.
        """
        value = self._transact(self._take, None)
        if value is EMPTY:
            raise LookupError(f"take() of {self}: it is empty")
        return cast(T, value)

    async def get_or_init(self, init: Callable[[], T] | Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        """The value; if there is none, run `init` in this task to make it, or wait for who does so already.

        `init` is called without arguments; what it returns is awaited if it is awaitable. If it raises or is
        cancelled, only this caller sees it, and the next one waiting runs its own. At most `timeout` seconds are
        spent waiting for another's initializer; they do not bound `init` itself.

        Raises:
            TimeoutError: another initializer took longer (zero or less tries once).
            DeadlockError: this very task is initializing the cell, or waiting here could never end.
        """
        value = self._value
        if value is not EMPTY:
            try:
                if backends.hint() is not None:
                    return value  # type: ignore[return-value]
            except RuntimeError:  # not asyncio
                pass
        return await self._initialize(init, deadline_of(timeout))

    def blocking_get_or_init(self, init: Callable[[], T], timeout: float | None = None) -> T:
        """`get_or_init` for plain threads and plain functions.

        At most `timeout` seconds are spent waiting for another's initializer (zero or less tries once); they do
        not bound `init` itself.

        Raises:
            TimeoutError: another initializer took longer.
            TypeError: `init` returned an awaitable, which nobody can await here.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        check_init(init, f"blocking_get_or_init() of {self}")
        ticket = self._acquire_blocking("blocking_get_or_init()", INITIALIZE, timeout)
        if ticket.request is not INITIALIZE:
            return cast(T, ticket.request)
        try:
            value = init()
            refuse_awaitable(value, f"blocking_get_or_init() of {self}", "get_or_init()")
            self._give(self._fulfil, (ticket, value))
        except BaseException:
            self._deferred.append((self._withdraw, ticket))  # nothing is left to withdraw once there is a value
            self._catch_up()
            raise
        return value

    async def wait(self, timeout: float | None = None) -> T:
        """The value, as soon as there is one; at most `timeout` seconds are waited.

        Raises:
            TimeoutError: there was none in time (zero or less tries once).
            DeadlockError: this very task is initializing the cell, or waiting here could never end.
        """
        ticket = await self._acquire(WAIT, deadline=deadline_of(timeout))
        return cast(T, ticket.request)

    def blocking_wait(self, timeout: float | None = None) -> T:
        """`wait` for plain threads.

        Raises:
            TimeoutError: there was no value in time (zero or less tries once).
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        return cast(T, self._acquire_blocking("blocking_wait()", WAIT, timeout).request)

    def statistics(self) -> OnceCellStatistics:
        """How far it is, and how many wait."""
        from asynclocks.statistics import OnceCellStatistics

        return OnceCellStatistics(self.initialized(), self._initializer is not None, self._waiting)

    @uninterrupted
    async def _initialize(self, init: Callable[[], Any], deadline: Deadline | None) -> T:
        check_init(init, f"get_or_init() of {self}")
        ticket = await self._acquire(INITIALIZE, deadline=deadline)
        if ticket.request is not INITIALIZE:
            return cast(T, ticket.request)
        try:
            value = await made_by(init)
            self._give(self._fulfil, (ticket, value))
        except BaseException:
            self._deferred.append((self._withdraw, ticket))
            self._catch_up()
            raise
        return value  # type: ignore[no-any-return]

    # The engine's questions.
    def _admit(self, ticket: Ticket) -> bool:
        if self._value is not EMPTY:
            if ticket is self._first_waiter:
                self._first_waiter = ticket.after
            ticket.request = self._value
            return True
        if ticket.request is INITIALIZE and self._initializer is None:
            self._initializer = ticket
            return True
        return False

    def _retract(self, ticket: Ticket) -> None:
        if self._initializer is ticket:
            self._initializer = None

    def _owners(self, ticket: Ticket) -> Iterable[Any]:
        initializer = self._initializer
        return () if initializer is None or initializer.owner is None else (initializer.owner,)

    def _join(self, ticket: Ticket) -> bool:
        if self._join_or_leave(ticket):
            return True
        first_waiter = self._first_waiter
        if ticket.request is INITIALIZE and first_waiter is not None:
            self._link_before(first_waiter, ticket)
            return False
        super()._join(ticket)  # it queues: it was not admitted above
        if ticket.request is WAIT and first_waiter is None:
            self._first_waiter = ticket
        return False

    def _join_or_leave(self, ticket: Ticket) -> bool:
        # Whoever queues to initialize is behind an initializer that runs, so nobody is overtaken here.
        assert self._head is self._first_waiter or self._initializer is not None
        if not self._admit(ticket):
            return False
        ticket.state = GRANTED
        return True

    def _unlink(self, ticket: Ticket) -> None:
        if ticket is self._first_waiter:
            self._first_waiter = ticket.after
        super()._unlink(ticket)

    # Changes, inside the internal lock.
    def _set(self, value: T) -> bool:
        if self._value is not EMPTY or self._initializer is not None:
            return False
        self._value = value
        return True

    def _take(self, _: None) -> T | _Mark:
        value, self._value = self._value, EMPTY
        return value

    def _fulfil(self, made: tuple[Ticket, T]) -> None:
        ticket, value = made
        self._initializer = None
        self._value = value
        ticket.request = value  # nothing is left to retract

    def _way_out(self, ticket: Ticket) -> str:
        return "let no initializer wait for its own cell"

    def _describe(self) -> str:
        waiting = f", {self._waiting} waiting" if self._waiting else ""
        if self.initialized():
            return f"initialized{waiting}"
        initializer = self._initializer
        if initializer is None:
            return f"empty{waiting}"
        task = None if initializer.owner is None else initializer.owner()
        return f"being initialized{'' if task is None else f' by {in_words(task)}'}{waiting}"


OnceLock = OnceCell  # std's name for it


class LazyLock(Generic[T]):
    """A `OnceCell` with its initializer: ``value = await lazy``, as often as you like; `get` once initialized.

    >>> import asyncio
    >>> answer = LazyLock(lambda: 42)
    >>> async def main():
    ...     return await answer
    >>> asyncio.run(main())
    42
    >>> answer.get()
    42
    """

    __slots__ = ("__weakref__", "_cell", "_init")

    @overload
    def __init__(self, init: Callable[[], Awaitable[T]]) -> None: ...
    @overload
    def __init__(self, init: Callable[[], T]) -> None: ...
    def __init__(self, init: Callable[[], Any]) -> None:
        check_takes_nothing(init, "LazyLock()")
        self._cell: OnceCell[T] = OnceCell()
        self._cell._name = _name_of(init)
        self._init: Callable[[], Any] = init

    def __await__(self) -> Generator[Any, Any, T]:
        return self._cell.get_or_init(self._init).__await__()

    def get(self) -> T:
        """The value.

        Raises:
            LookupError: nobody has awaited it successfully yet.
        """
        value = self._cell._value
        if value is EMPTY:
            raise LookupError(f"{self!r} has no value yet; await it first")
        return cast(T, value)

    def blocking_get(self, timeout: float | None = None) -> T:
        """The value, made in this thread if nobody has made it; for initializers that are plain functions.

        Raises:
            TimeoutError: another's run of the initializer took longer than `timeout` seconds.
            TypeError: the initializer returned an awaitable.
            RuntimeError: an event loop runs in this thread (in Pyodide: there is no stack switching).
        """
        return self._cell.blocking_get_or_init(self._init, timeout)

    def __repr__(self) -> str:
        return f"<LazyLock {self._cell._name!r} {self._cell._describe()}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle or copy {self!r}: tasks of this process wait for it; pass the object itself")


def once(fn: Callable[[], Coroutine[Any, Any, T]]) -> Callable[[], Coroutine[Any, Any, T]]:
    """Decorate a coroutine function without arguments: it runs once, and all callers share its result.

    If a run fails or is cancelled, only its caller sees it, and the next one runs it again.

    >>> import asyncio
    >>> @once
    ... async def answer():
    ...     print("thinking")
    ...     return 42
    >>> async def main():
    ...     return await answer() + await answer()
    >>> asyncio.run(main())
    thinking
    84
    """
    check_takes_nothing(fn, "once()")
    cell: OnceCell[T] = OnceCell()
    cell._name = _name_of(fn)

    @wraps(fn)
    async def shared() -> T:
        return await cell.get_or_init(fn)

    return shared


def _name_of(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
