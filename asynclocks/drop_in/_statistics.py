"""What anyio's and trio's locks tell of themselves."""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs

OwnerT = TypeVar("OwnerT")
BorrowersT = TypeVar("BorrowersT")


@attrs.frozen
class EventStatistics:
    """How many wait."""

    tasks_waiting: int


@attrs.frozen
class SemaphoreStatistics:
    """How many wait."""

    tasks_waiting: int


@attrs.frozen
class LockStatistics(Generic[OwnerT]):
    """Whether it is locked, by which task, and how many wait."""

    locked: bool
    owner: OwnerT | None
    tasks_waiting: int


@attrs.frozen
class ConditionStatistics(Generic[OwnerT]):
    """How many wait for a notification, and the lock's own."""

    tasks_waiting: int
    lock_statistics: LockStatistics[OwnerT]


@attrs.frozen
class CapacityLimiterStatistics(Generic[BorrowersT]):
    """How many tokens there are and are borrowed, by whom, and how many wait."""

    borrowed_tokens: int
    total_tokens: float
    borrowers: BorrowersT
    tasks_waiting: int
