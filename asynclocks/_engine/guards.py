"""Guards: what holding a lock is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, NoReturn, Self, TypeVar

from asynclocks._engine.ticket import RecoveredTicket, State, Ticket, unawaited
from asynclocks.exceptions import GuardReleasedError

T = TypeVar("T")
R = TypeVar("R")

GRANTED = State.GRANTED  # the finalizer asks for it, also when the interpreter exits and every global is None by then


class Guard:
    """Base of every guard: who has it holds the lock.

    Leaving a ``with`` block after an early `release` is fine.
    """

    # A guard that comes from `async with mutex` is referred to by its lock while it holds, and released at the end of
    # the block at the latest, so it needs no finalizer. All others are `LooseGuard` s.
    __slots__ = ()

    def release(self) -> None:
        """Let go.

        Raises:
            GuardReleasedError: it had let go already, or was turned into another guard.
        """
        if not self._let_go():
            self._refuse()

    def disown(self) -> Self:
        """Say that somebody else will release it: a callback, another task or thread. Returns this guard.

        From now on nobody is taken for its owner, so waiting for its lock never raises DeadlockError. What it is turned
        into has no owner either.

        Raises:
            GuardReleasedError: it let go already.
        """
        if self.released:
            self._refuse()
        self._disown()
        return self

    @property
    def released(self) -> bool:
        """Has it let go, or was it turned into another guard?"""
        raise NotImplementedError

    @property
    def recovered(self) -> bool:
        """Did the previous holder die without releasing (Cloudflare Workers)? Then the value may be half-changed.

        Said by the guard that was waited for or, of a lock that nobody waited for, by the first that asks; not by what
        it is turned into. A `Permit` guards no value and says False.
        """
        hold: Any = getattr(self, "_hold", None)
        if hold is None:
            return False
        if self._inherits(hold.synchronizer):
            if type(hold) is Ticket:
                hold.__class__ = RecoveredTicket
            else:
                hold.recovered = True
        return bool(hold.recovered)

    def _inherits(self, lock: object) -> bool:
        """Is this the first guard that asks since the lock's holder died?"""
        if lock not in unawaited or self.released:
            return False
        unawaited.discard(lock)
        return True

    def _disown(self) -> None:
        """Have no owner from now on."""
        raise NotImplementedError

    def _let_go(self) -> bool:
        """Release; False where there is nothing to release."""
        raise NotImplementedError

    def _leave_block(self) -> None:
        """Release whatever this guard has become."""
        self._let_go()

    def _refuse(self) -> NoReturn:
        raise GuardReleasedError(f"{self!r}: it let go already, or was turned into another guard; acquire again")

    def _of(self) -> object:
        """What it guards, for messages."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        if self.released:
            self._refuse()
        return self

    def __exit__(self, exc_type: object = None, exc: object = None, traceback: object = None) -> None:
        self._leave_block()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._of()}{', released' if self.released else ''}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle or copy {self!r}: only one may hold it")


def warn_dropped(guard: Guard) -> None:
    """Tell that a guard was forgotten."""
    warnings.warn(
        f"{type(guard).__name__} of {guard._of()} was dropped unreleased and is released now; "
        "use `async with` or `with`, or call release()",
        ResourceWarning,
        stacklevel=3,
        source=guard,
    )


class LooseGuard(Guard):
    """A guard that nobody but its user refers to: it warns and releases when it is dropped unreleased.

    It stands for a granted ticket. Turned into another guard (`_turn`), it leaves the hold to a new ticket, which
    the old one's ``request`` names: the block's exit follows.
    """

    __slots__ = ()

    _hold: Ticket

    @property
    def released(self) -> bool:
        return self._hold.state is not GRANTED

    def _disown(self) -> None:
        self._hold.owner = None

    def _let_go(self) -> bool:
        return give_back(self._hold)

    def __enter__(self) -> Self:
        if self._hold.state is not GRANTED:
            self._refuse()
        return self

    def _leave_block(self) -> None:
        hold = self._hold
        while hold.state is State.RELEASED and isinstance(hold.request, Ticket):
            hold = hold.request
        give_back(hold)
        if hold is not self._hold and self._hold.state is GRANTED:  # what it was made over to was withdrawn just now
            give_back(self._hold)

    def _turn(self) -> Ticket:
        """Make over the hold to a new ticket, for another guard.

        Raises:
            GuardReleasedError: there is nothing to make over any more.
        """
        synchronizer = self._hold.synchronizer
        try:
            hold: Ticket | None = synchronizer._transact(synchronizer._make_over, self._hold)
        except BaseException:
            if self._hold.state is State.RELEASED and isinstance(self._hold.request, Ticket):
                self._hold = self._hold.request  # type: ignore[misc]  # made over already: this guard keeps it
            raise
        if hold is None:
            self._refuse()
        return hold

    def _of(self) -> object:
        return self._hold.synchronizer

    def __del__(self) -> None:
        try:
            hold = self._hold
        except AttributeError:  # it never held anything
            return
        if hold is not None and hold.state is GRANTED:
            self._give_up(hold)
            self._tell_dropped()

    def _give_up(self, hold: Ticket) -> None:
        """Release what it holds, from a finalizer."""
        synchronizer = hold.synchronizer
        synchronizer._give_from_finalizer(synchronizer._release_dropped, hold)

    _tell_dropped = warn_dropped


class MappedGuard(Guard, Generic[T]):
    """A guard narrowed to a part of the value. Reading gives the part; setting it is refused."""

    __slots__ = ("_part", "_whole")

    def __init__(self, part: T, whole: Guard) -> None:
        self._part = part
        self._whole = whole

    @property
    def value(self) -> T:
        """The part. Raises GuardReleasedError after the release."""
        if self._whole.released:
            self._refuse()
        return self._part

    @property
    def released(self) -> bool:
        return self._whole.released

    @property
    def recovered(self) -> bool:
        return self._whole.recovered

    def map(self, project: Callable[[T], R]) -> MappedGuard[R]:
        """Narrow it further. Consumes this guard; if `project` raises, it stays held."""
        part = project(self.value)
        return MappedGuard(part, self._whole._made_over())  # type: ignore[attr-defined]

    def _disown(self) -> None:
        self._whole._disown()

    def _let_go(self) -> bool:
        return self._whole._let_go()

    def _leave_block(self) -> None:
        self._whole._leave_block()

    def _of(self) -> object:
        return self._whole._of()


def give_back(hold: Ticket) -> bool:
    """Release what this ticket was granted. False: somebody did already."""
    return bool(hold.synchronizer._give_back(hold))


def shown_as(name: str, *kinds: type) -> None:
    """Let these classes have the public name in messages: that there are several kinds is nobody's concern."""
    for kind in kinds:
        with suppress(TypeError):  # a compiled class keeps its own
            kind.__name__ = kind.__qualname__ = name
