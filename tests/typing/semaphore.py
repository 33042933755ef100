"""What a type checker must see of Semaphore; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from typing import assert_type

from asynclocks import Acquisition, Permit, Semaphore, SemaphoreStatistics


async def every_way_in_gives_a_permit() -> None:
    semaphore = Semaphore(3, name="s")
    assert_type(semaphore.acquire(), Acquisition[Permit])
    assert_type(await semaphore.acquire(2), Permit)
    assert_type(semaphore.try_acquire(), Permit)
    assert_type(semaphore.blocking_acquire(1, timeout=0), Permit)
    async with semaphore as permit:
        assert_type(permit, Permit)
        assert_type(permit.split(1), Permit)
        assert_type(permit.count, int)
        permit.count = 2  # pyright: ignore[reportAttributeAccessIssue]


def a_semaphore_has_no_release() -> None:
    semaphore = Semaphore(1)
    semaphore.release()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    assert_type(semaphore.forget_permits(1), int)
    assert_type(semaphore.total_permits, int)
    semaphore.total_permits = 2  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(semaphore.resize(2), None)
    assert_type(semaphore.statistics(), SemaphoreStatistics)
    assert_type(semaphore.statistics().total, int)
    Semaphore()  # pyright: ignore[reportCallIssue]
