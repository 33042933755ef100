"""Every error the library raises by a name of its own."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class WouldBlock(Exception):
    """Base of every "not now" from a ``try_*`` call: waiting would have been needed."""


class TryLockError(WouldBlock):
    """A Mutex or RwLock is held by somebody else, or somebody queues for it."""


class TryAcquireError(WouldBlock):
    """A Semaphore has not enough permits now, or somebody queues for them."""


class ClosedError(Exception):
    """The Semaphore was closed: no acquisition will succeed any more."""


class SetError(Exception, Generic[T]):
    """A OnceCell refused a value; the refused value is in ``value``."""

    value: T

    def __init__(self, message: str, value: T) -> None:
        super().__init__(message)
        self.value = value


class AlreadyInitializedError(SetError[T]):
    """The OnceCell holds a value already."""


class InitializingError(SetError[T]):
    """An initializer of the OnceCell is running."""


class KeyLockedError(WouldBlock):
    """A guard, an initializer or a ``compute`` holds this key of a ConcurrentMap."""


class GuardReleasedError(RuntimeError):
    """A guard was used after it let go."""


class DeadlockError(RuntimeError):
    """Waiting here cannot end unless somebody outside the cycle steps in.

    ``cycle`` says it link by link: ``"task 'a' waits for Mutex 'x' held by task 'b'"``, …
    """

    cycle: tuple[str, ...]

    def __init__(self, cycle: tuple[str, ...], way_out: str = "Release before waiting") -> None:
        super().__init__(f"{'; '.join(cycle)}. {way_out}")
        self.cycle = cycle
        self._way_out = way_out

    def __reduce__(self) -> tuple[type[DeadlockError], tuple[tuple[str, ...], str]]:
        return type(self), (self.cycle, self._way_out)


class UnsupportedLoopError(RuntimeError):
    """No backend is registered for the running loop, or no loop is running."""
