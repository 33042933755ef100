"""detached: a function that has begun runs to its end, though the task that called it is cancelled.

A run is a `OnceCell` that a task of its own initializes, so whoever waits for it is seen by the deadlock detector,
may be on any loop, and takes it over if its loop is closed. What came of it is a value there, a failure too: a failed
run is not run again by the one who waits for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from threading import RLock
from typing import Any, Final, ParamSpec, TypeVar, overload

from asynclocks._engine.callbacks import check_init
from asynclocks._forks import freed_in_child
from asynclocks._inside import inside
from asynclocks.backends import running
from asynclocks.backends.seam import made_by
from asynclocks.once_cell import OnceCell

P = ParamSpec("P")
T = TypeVar("T")

Call = tuple[Any, ...]  # a function and its arguments


class _Ending:
    """How a run ended, for the one caller that waits for it."""

    __slots__ = ("_error", "_value")

    def __init__(self, value: Any, error: Exception | None = None) -> None:
        self._value = value
        self._error = error

    def tell(self) -> Any:
        """The value, or the exception."""
        # The frames of the run are in the exception's traceback, and refer to this: it must not refer to the exception.
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error


class _Run:
    """One run of a function: a cell for its ending, and whether it goes on."""

    __slots__ = ("call", "cell", "over")

    def __init__(self, call: Call) -> None:
        init = call[0]
        self.call = call
        self.cell: OnceCell[_Ending] = OnceCell()
        self.cell._name = f"the detached run of {getattr(init, '__qualname__', type(init).__qualname__)}"
        self.over = False

    async def go(self, make: Callable[[], Awaitable[_Ending]]) -> None:
        """Run it, in a task of its own if there is such a thing."""
        try:
            await self.cell.get_or_init(make)
        finally:
            try:
                inside(_lock, self._end)
            except BaseException:  # a signal handler's: nobody else would
                inside(_lock, self._end)
                raise

    def _end(self) -> None:
        self.over = True
        if _left.get(self.call) is self:
            del _left[self.call]


# The runs whose callers left, by what was called: the next such call joins in. Each is here only while it runs.
_left: Final[dict[Call, _Run]] = {}
_lock: Final = freed_in_child(RLock())  # held for a look and a change, never across an await


@overload
def detached(init: Callable[P, Awaitable[T]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def detached(init: Callable[P, T], /) -> Callable[P, Coroutine[Any, Any, T]]: ...
def detached(init: Callable[P, Any], /) -> Callable[P, Coroutine[Any, Any, Any]]:
    """Wrap a function so that a call of it, once begun, runs to its end though its caller is cancelled.

    The next call of the same function with equal arguments joins the run that was left, wrapped here or elsewhere. So
    what takes longer than every caller's timeout still ends, and is not begun twice::

        value = await cache.get_or_insert_with(key, partial(detached(load), key))
        value = await cell.get_or_init(detached(load))

    On asyncio and in Pyodide the run is a task of its own: its caller leaves at once, and the run ends with its loop at
    the latest. On trio, where no task outlives its nursery, the caller's cancellation is held back until the run is
    done, so it bounds nothing: put a timeout around what `init` does. On a loop of somebody else's it is as the
    backend has it.

    Raises:
        TypeError: `init` cannot be called, or, at a call, an argument cannot be hashed.

    >>> import asyncio
    >>> from asynclocks import OnceCell
    >>> async def load():
    ...     print("loading")
    ...     await asyncio.sleep(0.02)
    ...     return 42
    >>> async def main():
    ...     answer = OnceCell()
    ...     try:
    ...         async with asyncio.timeout(0.01):
    ...             await answer.get_or_init(detached(load))
    ...     except TimeoutError:
    ...         return await answer.get_or_init(detached(load))
    >>> asyncio.run(main())
    loading
    42
    """
    check_init(init, "detached()")

    @wraps(init)
    async def joined(*args: P.args, **kwargs: P.kwargs) -> Any:
        call: Call = (init, args, frozenset(kwargs.items()))
        hash(call)  # an empty dict would not notice that it cannot be
        make = partial(_ending_of, partial(init, *args, **kwargs))
        left = _join(call)
        run = _Run(call) if left is None else left
        try:
            if left is None:
                await running()[0].detach(partial(run.go, make))
            ending = run.cell.get() if run.cell.initialized() else await run.cell.get_or_init(make)
        except Exception:
            raise
        except BaseException:  # a cancellation
            inside(_lock, _leave, run)
            raise
        return ending.tell()

    return joined


async def _ending_of(init: Callable[[], Any]) -> _Ending:
    try:
        return _Ending(await made_by(init))
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it
        return _Ending(None, error)


def _join(call: Call) -> _Run | None:
    return inside(_lock, _left.pop, call, None)


def _leave(run: _Run) -> None:
    if not run.over:
        _left[run.call] = run
