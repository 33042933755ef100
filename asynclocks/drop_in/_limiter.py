"""What anyio's and trio's limiters have in common: tokens that are borrowed on behalf of somebody.

Who has a token is known from the grant on, as there. The semaphore below tells only that somebody was granted one and
has not resumed; it serves strictly in order, so it is whoever has waited here longest.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Any, TypeVar

from asynclocks.drop_in._nowait import Nowait, current_task
from asynclocks.drop_in._statistics import CapacityLimiterStatistics
from asynclocks.exceptions import TryAcquireError
from asynclocks.semaphore import Semaphore

BorrowersT = TypeVar("BorrowersT")
UNLIMITED = 2**62  # tokens of a limiter without a limit


class Borrower:
    """One wait of a limiter, on behalf of somebody."""

    __slots__ = ("returned", "whose")

    def __init__(self, whose: object) -> None:
        self.whose = whose
        self.returned = False  # was the token that it was granted returned before it resumed?


class Limiter(Nowait):
    """A sack of tokens, each borrowed on behalf of somebody."""

    __slots__ = ("__weakref__", "_held", "_pending_borrowers", "_semaphore", "_total")

    def __init__(self, total_tokens: float) -> None:
        self._semaphore = Semaphore(0)
        self._fast = False
        self._total: float = 0
        self._held: dict[object, None] = {}
        self._pending_borrowers: dict[Borrower, None] = {}  # in the order of the semaphore's line
        self.total_tokens = total_tokens

    @property
    def total_tokens(self) -> float:
        """How many tokens there are, an int or ``math.inf``. More are there at once, fewer as they come back."""
        return self._total

    @total_tokens.setter
    def total_tokens(self, total_tokens: float) -> None:
        if not isinstance(total_tokens, int) and total_tokens != math.inf:
            raise TypeError("total_tokens must be an int or math.inf")
        if total_tokens < 0:
            raise ValueError("total_tokens must be >= 0")
        returned = sum(pending.returned for pending in self._pending_borrowers)
        self._total = total_tokens
        self._semaphore.resize((UNLIMITED if total_tokens == math.inf else int(total_tokens)) + returned)

    @property
    def borrowed_tokens(self) -> int:
        """How many are borrowed."""
        return len(self._borrowers())

    @property
    def available_tokens(self) -> float:
        """How many can be borrowed; less than zero while more are borrowed than there are by now."""
        return self._total - self.borrowed_tokens

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Borrow a token for somebody, if that needs no wait.

        Raises:
            WouldBlock: it does.
            RuntimeError: it has one already.
        """
        self._take_now(borrower)

    def acquire_nowait(self) -> None:
        """Borrow a token for the running task, if that needs no wait.

        Raises:
            WouldBlock: it does.
            RuntimeError: it has one already.
        """
        self._take_now(current_task())

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Wait for a token, and borrow it for somebody.

        Raises:
            RuntimeError: it has one already.
        """
        await self._acquire_as(borrower)

    async def acquire(self) -> None:
        """Wait for a token, and borrow it for the running task.

        Raises:
            RuntimeError: it has one already.
        """
        await self._acquire_as(current_task())

    async def __aenter__(self) -> None:
        await self._acquire_as(current_task())

    def release(self) -> None:
        """Return the running task's token.

        Raises:
            RuntimeError: it has none.
        """
        self._put_back(current_task())

    def release_on_behalf_of(self, borrower: object) -> None:
        """Return somebody's token.

        Raises:
            RuntimeError: it has none.
        """
        self._put_back(borrower)

    def _take_now(self, who: Any) -> None:
        if who in self._held or any(pending.whose == who for pending in self._granted()):
            raise RuntimeError("this borrower is already holding one of this CapacityLimiter's tokens")
        try:
            self._semaphore.try_take()
        except TryAcquireError:
            raise self._would_block from None
        self._held[who] = None

    async def _wait(self, who: Any) -> None:
        pending = Borrower(who)
        self._pending_borrowers[pending] = None
        try:
            await self._semaphore.take()
        except BaseException:
            del self._pending_borrowers[pending]
            if pending.returned:  # twice by now: by the release, and as it was not taken
                self._semaphore.resize(self._semaphore.total_permits - 1)
            raise
        del self._pending_borrowers[pending]
        if pending.returned:
            self._semaphore.resize(self._semaphore.total_permits - 1)
            self._semaphore.give()
        else:
            self._held[who] = None

    def _put_back(self, who: Any) -> None:
        if who in self._held:
            del self._held[who]
            self._semaphore.give()
            return
        for pending in self._granted():
            if pending.whose == who:
                pending.returned = True
                self._semaphore.add_permits(1)
                return
        raise RuntimeError("this borrower isn't holding any of this CapacityLimiter's tokens")

    def _granted(self) -> list[Borrower]:
        """Who was granted a token and has not resumed, and still has it."""
        if not self._pending_borrowers:
            return []
        granted = len(self._pending_borrowers) - self._semaphore.statistics().waiting
        return [pending for pending in islice(self._pending_borrowers, granted) if not pending.returned]

    def _borrowers(self) -> list[object]:
        """Who has a token, from the grant on."""
        return [*self._held, *(pending.whose for pending in self._granted())]

    def _statistics(self, borrowers: BorrowersT) -> CapacityLimiterStatistics[BorrowersT]:
        waiting = self._semaphore.statistics().waiting
        return CapacityLimiterStatistics(self.borrowed_tokens, self._total, borrowers, waiting)
