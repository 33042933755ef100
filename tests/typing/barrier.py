"""What a type checker must see of Barrier; pyright strict reads this, nobody runs it."""

from __future__ import annotations

from typing import assert_type

from asynclocks import Barrier, BarrierWaitResult


async def a_wait_tells_who_leads() -> None:
    barrier = Barrier(3)
    result = await barrier.wait()
    assert_type(result, BarrierWaitResult)
    assert_type(result.is_leader, bool)
    result.is_leader = True  # pyright: ignore[reportAttributeAccessIssue]


def a_barrier_says_how_many_came() -> None:
    barrier = Barrier(3)
    assert_type(barrier.parties, int)
    assert_type(barrier.waiting, int)
    barrier.parties = 4  # pyright: ignore[reportAttributeAccessIssue]
    Barrier()  # pyright: ignore[reportCallIssue]
