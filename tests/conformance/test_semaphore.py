"""Semaphore: counting, order, closing, and what a Permit can do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from asynclocks import (
    ClosedError,
    GuardReleasedError,
    Permit,
    Semaphore,
    SemaphoreStatistics,
    TryAcquireError,
    WouldBlock,
)
from tests.conformance.line import Cancel, Line, both_cancels
from tests.support import settle, spawn


@pytest.mark.parametrize("permits", [0, 1, 63, 64, 65, 1000])
def test_all_permits_are_available_at_first(permits: int) -> None:
    """What it was made with can be taken, and not one more."""
    semaphore = Semaphore(permits)
    assert semaphore.available_permits == permits
    assert semaphore.locked() is (permits == 0)
    with pytest.raises(TryAcquireError):
        semaphore.try_acquire(permits + 1)
    with semaphore.try_acquire(permits):
        assert semaphore.available_permits == 0
        with pytest.raises(TryAcquireError):
            semaphore.try_acquire()
    assert semaphore.available_permits == permits


@pytest.mark.parametrize(
    "call",
    [
        lambda _: Semaphore(-1),
        lambda semaphore: semaphore.acquire(-1),
        lambda semaphore: semaphore.try_acquire(-1),
        lambda semaphore: semaphore.blocking_acquire(-1),
        lambda semaphore: semaphore.add_permits(-1),
        lambda semaphore: semaphore.forget_permits(-1),
        lambda semaphore: semaphore.resize(-1),
    ],
)
def test_negative_counts_are_refused(call: Callable[[Semaphore], object]) -> None:
    """Negative counts are ValueErrors, and change nothing."""
    semaphore = Semaphore(3)
    with pytest.raises(ValueError, match="negative"):
        call(semaphore)
    assert semaphore.available_permits == 3


def test_counts_are_whole_numbers() -> None:
    """Half a permit is a TypeError."""
    with pytest.raises(TypeError):
        Semaphore(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Semaphore(1).try_acquire("1")  # type: ignore[arg-type]


async def test_as_many_as_there_are_permits_are_inside() -> None:
    """Never more, and that many at once."""
    semaphore = Semaphore(3)
    inside: list[int] = []
    most = 0

    async def work(number: int) -> None:
        nonlocal most
        async with semaphore as permit:
            assert permit.count == 1
            inside.append(number)
            most = max(most, len(inside))
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            inside.remove(number)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(work, number)
    assert most == 3
    assert semaphore.statistics() == SemaphoreStatistics(total=3, available=3, waiting=0, closed=False)


async def test_waiters_are_served_in_order_of_arrival() -> None:
    """First come, first served."""
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, Semaphore(1).acquire)
        await line.join(*"abcd")
        await line.let_go(*"abcd")
    assert line.log == list("abcd")


async def test_one_permit_that_comes_back_wakes_one() -> None:
    """The others wait on."""
    semaphore = Semaphore(2)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join(*"abcde")
        assert line.log == ["a", "b"]
        await line.let_go("b")
        assert line.log == ["a", "b", "c"]
        assert semaphore.statistics() == SemaphoreStatistics(total=2, available=0, waiting=2, closed=False)
        await line.let_go(*"acde")


async def test_a_large_head_holds_back_smaller_requests() -> None:
    """acquire(n) at the head is not overtaken, though less is free."""
    semaphore = Semaphore(3)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join("two", enter=partial(semaphore.acquire, 2))
        await line.join("large", enter=partial(semaphore.acquire, 3))
        await line.join("small", enter=partial(semaphore.acquire, 1))
        assert line.log == ["two"]
        assert semaphore.available_permits == 0
        with pytest.raises(TryAcquireError):
            semaphore.try_acquire()
        await line.let_go("two")
        assert line.log == ["two", "large"]
        await line.let_go("large", "small")
    assert line.log == ["two", "large", "small"]
    assert semaphore.available_permits == 3


# holder: 2 of 3       large: queued for 3   small: queued for 1   other: queued for 1
# cancels large
#                      raises
#                                            runs                  queued: none left
@both_cancels
async def test_leaving_head_lets_the_smaller_one_in(cancel: Cancel) -> None:
    """A large head that leaves no longer holds back those behind it."""
    semaphore = Semaphore(3)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join("two", enter=partial(semaphore.acquire, 2))
        await line.join("large", enter=partial(semaphore.acquire, 3))
        await line.join("small", enter=partial(semaphore.acquire, 1))
        await line.join("other", enter=partial(semaphore.acquire, 1))
        cancel(line["large"])
        await settle()
        assert line["large"].cancelled
        assert line.log == ["two", "small"]
        assert semaphore.statistics().waiting == 1
        await line.let_go("two", "small", "other")
    assert semaphore.available_permits == 3


# holder: 3 of 3       large: queued for 3   a, b: queued for 1
# releases: 3 for large
# cancels large
#                      raises, or runs and leaves
#                                            run
@both_cancels
async def test_a_large_grant_that_crosses_a_cancellation_serves_all_behind(cancel: Cancel) -> None:
    """All permits of a grant that nobody can use go on."""
    semaphore = Semaphore(3)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        permit = semaphore.try_acquire(3)
        await line.join("large", enter=partial(semaphore.acquire, 3))
        await line.join("a", enter=partial(semaphore.acquire, 1))
        await line.join("b", enter=partial(semaphore.acquire, 1))
        permit.release()
        cancel(line["large"])
        await settle()
        assert {"a", "b"} <= set(line.log)
        await line.let_go("a", "b")
    assert semaphore.available_permits == 3


async def test_a_large_release_serves_as_many_as_it_can_in_order() -> None:
    """One step may let in several, up to the first that must wait."""
    semaphore = Semaphore(4)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        permit = semaphore.try_acquire(4)
        for name, permits in (("one", 1), ("two", 2), ("three", 3), ("last", 1)):
            await line.join(name, enter=partial(semaphore.acquire, permits))
        permit.release()
        await settle()
        assert sorted(line.log) == ["one", "two"]
        assert semaphore.statistics().waiting == 2
        await line.let_go("one")
        assert sorted(line.log) == ["one", "two"]
        await line.let_go("two")
        assert sorted(line.log) == ["last", "one", "three", "two"]
        await line.let_go("three", "last")


# holder               b: queued             holder again
# releases: b's permit
#                                            try_acquire is refused
#                      runs
async def test_a_newcomer_does_not_overtake_a_waiter_that_was_just_granted() -> None:
    """Ownership moves at release time, before the waiter resumes."""
    semaphore = Semaphore(1)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        permit = semaphore.try_acquire()
        await line.join("b")
        permit.release()
        assert semaphore.available_permits == 0
        with pytest.raises(TryAcquireError):
            semaphore.try_acquire()
        line.may_leave("b")
        async with semaphore:
            assert line.log == ["b"]


async def test_a_newcomer_queues_behind_a_waiter_for_more_than_is_free() -> None:
    """The fast way in looks at the line, too."""
    semaphore = Semaphore(2)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join("one")
        await line.join("large", enter=partial(semaphore.acquire, 2))

        async def newcomer() -> None:
            async with semaphore:
                line.log.append("newcomer")

        tasks.start_soon(newcomer)
        await settle()
        assert line.log == ["one"]
        await line.let_go("one", "large")
    assert line.log == ["one", "large", "newcomer"]
    assert semaphore.available_permits == 2


@pytest.mark.parametrize("who", ["b", "c", "d"])
@both_cancels
async def test_a_cancelled_waiter_loses_its_place_and_nobody_else_does(who: str, cancel: Cancel) -> None:
    """First, middle or last in line: the others keep their order."""
    semaphore = Semaphore(1)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join(*"abcd")
        cancel(line[who])
        await settle()
        assert semaphore.statistics().waiting == 2
        await line.let_go(*"abcd")
    assert line[who].cancelled
    assert line.log == ["a", *(name for name in "bcd" if name != who)]
    assert semaphore.available_permits == 1


async def test_zero_permits_never_wait() -> None:
    """acquire(0) succeeds though nothing is free and others queue."""
    semaphore = Semaphore(0)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join("b")
        async with semaphore.acquire(0) as permit:
            assert permit.count == 0
            assert not permit.released
        with semaphore.try_acquire(0) as permit:
            assert permit.count == 0
        assert line.log == []
        semaphore.add_permits(1)
        await line.let_go("b")
    assert semaphore.available_permits == 1


async def test_zero_permits_of_a_closed_semaphore_are_refused() -> None:
    """ClosedError, as for any other number."""
    semaphore = Semaphore(1)
    semaphore.close()
    with pytest.raises(ClosedError):
        await semaphore.acquire(0)
    with pytest.raises(ClosedError):
        semaphore.try_acquire(0)


async def test_added_permits_serve_those_who_wait() -> None:
    """`add_permits` wakes as a release does."""
    semaphore = Semaphore(0)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join(*"abc")
        semaphore.add_permits(2)
        assert semaphore.statistics().waiting == 1
        await settle()
        assert sorted(line.log) == ["a", "b"]
        await line.let_go(*"abc")
    assert semaphore.available_permits == 2
    semaphore.add_permits(0)
    assert semaphore.available_permits == 2


@pytest.mark.parametrize(("ask", "removed"), [(0, 0), (2, 2), (70, 70), (100, 100), (200, 100)])
def test_forget_permits_tells_how_many_are_gone(ask: int, removed: int) -> None:
    """Only free permits can be removed."""
    semaphore = Semaphore(100)
    assert semaphore.forget_permits(ask) == removed
    assert semaphore.available_permits == 100 - removed


def test_forget_permits_leaves_those_that_are_held() -> None:
    """A held permit comes back later."""
    semaphore = Semaphore(3)
    with semaphore.try_acquire(2):
        assert semaphore.forget_permits(3) == 1
        assert semaphore.available_permits == 0
    assert semaphore.available_permits == 2


async def test_forget_permits_removes_nothing_while_anyone_waits() -> None:
    """What is free then is put aside for the head of the line."""
    semaphore = Semaphore(2)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join("one", enter=partial(semaphore.acquire, 1))
        await line.join("two", enter=partial(semaphore.acquire, 2))
        assert semaphore.forget_permits(1) == 0
        await line.let_go("one")
        assert line.log == ["one", "two"]
        await line.let_go("two")
    assert semaphore.available_permits == 2


async def test_close_wakes_every_waiter_with_closed_error() -> None:
    """Nobody is left asleep, whatever they asked for."""
    semaphore = Semaphore(1, name="pool")
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join("a")
        await line.join("large", enter=partial(semaphore.acquire, 5))
        await line.join("b")
        semaphore.close()
        semaphore.close()
        await settle()
        assert line.log == ["a"]
        for name in ("large", "b"):
            assert isinstance(line[name].exception, ClosedError)
        assert semaphore.statistics() == SemaphoreStatistics(total=1, available=0, waiting=0, closed=True)
        await line.let_go("a")
    assert semaphore.available_permits == 1


async def test_a_closed_semaphore_lets_nobody_in() -> None:
    """ClosedError for every way in, and it names the semaphore."""
    semaphore = Semaphore(5, name="pool")
    assert not semaphore.closed
    semaphore.close()
    assert semaphore.closed
    with pytest.raises(ClosedError, match="Semaphore 'pool' is closed"):
        await semaphore.acquire()
    with pytest.raises(ClosedError):
        semaphore.try_acquire()
    with pytest.raises(ClosedError):
        async with semaphore:
            pytest.fail("nobody is let in")
    with pytest.raises(ClosedError):
        async with semaphore.acquire(2):
            pytest.fail("nobody is let in")
    assert semaphore.available_permits == 5


async def test_permits_taken_before_the_close_are_given_back_as_ever() -> None:
    """Closing takes nothing away from who is inside."""
    semaphore = Semaphore(1)
    async with semaphore:
        semaphore.close()
        assert semaphore.available_permits == 0
    assert semaphore.available_permits == 1
    with pytest.raises(ClosedError):
        semaphore.try_acquire()


# closer               b: queued
# close(): b is told
# cancels b
#                      raises one of the two
@both_cancels
async def test_a_close_that_crosses_a_cancellation_changes_no_count(cancel: Cancel) -> None:
    """Who was told of the close had been granted nothing to pass on."""
    semaphore = Semaphore(0)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join("b", enter=partial(semaphore.acquire, 3))
        semaphore.close()
        cancel(line["b"])
        await settle()
        assert line["b"].cancelled or isinstance(line["b"].exception, ClosedError)
        assert line.log == []
    assert semaphore.available_permits == 0


async def test_add_permits_to_a_closed_semaphore_is_harmless() -> None:
    """They are counted, and nobody gets them."""
    semaphore = Semaphore(0)
    semaphore.close()
    semaphore.add_permits(1)
    assert semaphore.available_permits == 1
    with pytest.raises(ClosedError):
        await semaphore.acquire()


def test_try_acquire_needs_no_loop_and_says_what_to_do() -> None:
    """The error tells what is free, and the way out."""
    semaphore = Semaphore(2, name="pool")
    permit = semaphore.try_acquire(2)
    with pytest.raises(TryAcquireError, match=r"Semaphore 'pool'.*0 of 2 available.*wait") as caught:
        semaphore.try_acquire(1)
    assert isinstance(caught.value, WouldBlock)
    permit.release()
    assert semaphore.available_permits == 2


async def test_there_is_no_release_that_could_add_permits_by_mistake() -> None:
    """The acquire and release pair of asyncio fails loudly."""
    assert not hasattr(Semaphore(1), "release")


async def test_a_permit_thrown_away_comes_back_at_once() -> None:
    """`await semaphore.acquire()` alone holds nothing, and warns."""
    semaphore = Semaphore(1)
    with pytest.warns(ResourceWarning, match="Permit of Semaphore at .* was dropped"):
        await semaphore.acquire()
    assert semaphore.available_permits == 1


async def test_a_thrown_away_permit_goes_to_the_next_waiter() -> None:
    """A finalizer's release serves the line, too."""
    semaphore = Semaphore(1)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        permit: Permit | None = semaphore.try_acquire()
        await line.join("b")
        with pytest.warns(ResourceWarning, match="Permit"):
            permit = None
        await settle()
        assert line.log == ["b"]
        await line.let_go("b")
    assert permit is None


async def test_a_permit_releases_once() -> None:
    """A second release is an error and adds nothing."""
    semaphore = Semaphore(3)
    permit = await semaphore.acquire(2)
    assert (permit.count, permit.released) == (2, False)
    permit.release()
    assert (permit.count, permit.released) == (0, True)
    with pytest.raises(GuardReleasedError):
        permit.release()
    assert semaphore.available_permits == 3


async def test_forgotten_permits_never_come_back() -> None:
    """`forget` makes the semaphore smaller for good."""
    semaphore = Semaphore(3)
    permit = await semaphore.acquire(2)
    permit.forget()
    assert permit.released
    assert permit.count == 0
    assert semaphore.available_permits == 1
    for use in (permit.forget, permit.release):
        with pytest.raises(GuardReleasedError):
            use()
    with pytest.raises(GuardReleasedError):
        permit.split(1)
    assert semaphore.available_permits == 1


async def test_a_block_whose_permit_was_forgotten_gives_nothing_back() -> None:
    """The exit has nothing to do then, in every kind of block."""
    semaphore = Semaphore(3)
    async with semaphore as permit:
        permit.forget()
    async with semaphore.acquire() as permit:
        permit.forget()
    with await semaphore.acquire() as permit:
        permit.forget()
    assert semaphore.available_permits == 0


async def test_split_makes_two_permits_that_are_released_apart() -> None:
    """Together they hold what the one held."""
    semaphore = Semaphore(5)
    permit = await semaphore.acquire(5)
    part = permit.split(2)
    assert (permit.count, part.count) == (3, 2)
    assert semaphore.available_permits == 0
    part.release()
    assert semaphore.available_permits == 2
    permit.release()
    assert semaphore.available_permits == 5


async def test_split_takes_all_or_nothing_if_asked() -> None:
    """Zero and all are legal."""
    semaphore = Semaphore(2)
    permit = await semaphore.acquire(2)
    none, everything = permit.split(0), permit.split(2)
    assert (none.count, everything.count, permit.count) == (0, 2, 0)
    for part in (none, everything, permit):
        part.release()
    assert semaphore.available_permits == 2


async def test_split_refuses_more_than_there_is() -> None:
    """And leaves the permit as it was."""
    with await Semaphore(2).acquire(2) as permit:
        with pytest.raises(ValueError, match="2"):
            permit.split(3)
        with pytest.raises(ValueError, match="negative"):
            permit.split(-1)
        assert permit.count == 2


async def test_merge_takes_over_another_permit() -> None:
    """The other is consumed; its permits come back with this one."""
    semaphore = Semaphore(3)
    permit, other = await semaphore.acquire(1), await semaphore.acquire(2)
    permit.merge(other)
    assert (permit.count, other.count, other.released) == (3, 0, True)
    with pytest.raises(GuardReleasedError):
        other.release()
    permit.release()
    assert semaphore.available_permits == 3


async def test_merge_refuses_what_it_cannot_take_over() -> None:
    """Another semaphore's permit, itself, and released ones; all stay as they were."""
    semaphore = Semaphore(2)
    with await semaphore.acquire() as permit, await Semaphore(1).acquire() as foreign:
        with pytest.raises(ValueError, match="same semaphore"):
            permit.merge(foreign)
        with pytest.raises(ValueError, match="same semaphore"):
            permit.merge(permit)
        gone = await semaphore.acquire()
        gone.release()
        with pytest.raises(GuardReleasedError):
            permit.merge(gone)
        with pytest.raises(GuardReleasedError):
            gone.merge(permit)
        assert (permit.count, foreign.count) == (1, 1)
    assert semaphore.available_permits == 2


async def test_merge_in_a_block_gives_everything_back_at_its_end() -> None:
    """The block's exit releases what its permit has become."""
    semaphore = Semaphore(3)
    async with semaphore as permit:
        permit.merge(await semaphore.acquire(2))
        assert semaphore.available_permits == 0
    assert semaphore.available_permits == 3
    async with semaphore:
        with await semaphore.acquire() as inner:
            inner.merge(await semaphore.acquire())
            assert inner.count == 2
        assert semaphore.available_permits == 2


async def test_parts_that_were_split_off_in_a_block_are_released_with_it() -> None:
    """A guard turned into others inside the block is released with them by its exit."""
    semaphore = Semaphore(4)
    async with semaphore as permit:
        part = permit.split(1)
        assert (permit.count, part.count) == (0, 1)
    assert part.released
    assert semaphore.available_permits == 4
    async with semaphore.acquire(3) as permit:
        part = permit.split(2).split(1)
        assert part.count == 1
    assert part.released
    assert semaphore.available_permits == 4
    with await semaphore.acquire(3) as permit:
        first, second = permit.split(1), permit.split(1)
        first.release()
    assert second.released
    assert semaphore.available_permits == 4


async def test_a_block_may_split_again_and_again() -> None:
    """All parts go with it; a permit that is entered twice is released once."""
    semaphore = Semaphore(3)
    async with semaphore as permit:
        permit.merge(semaphore.try_acquire(2))
        parts = [permit.split(1), permit.split(1)]
        assert [permit.count, *(part.count for part in parts)] == [1, 1, 1]
    assert all(part.released for part in parts)
    with semaphore.try_acquire(2) as permit, permit:
        part = permit.split(1)
    assert part.released
    assert semaphore.available_permits == 3


async def test_a_superfluous_exit_does_nothing() -> None:
    """Like a second close: no permit comes out of nowhere."""
    semaphore = Semaphore(1)
    await semaphore.__aexit__(None, None, None)
    assert semaphore.available_permits == 1


async def test_a_part_may_outlive_the_permit_it_came_from() -> None:
    """Outside a block, a part is its owner's business."""
    semaphore = Semaphore(2)
    permit = await semaphore.acquire(2)
    part = permit.split(1)
    with permit:
        pass
    assert not part.released
    assert semaphore.available_permits == 1
    part.release()
    assert semaphore.available_permits == 2


async def test_a_dropped_part_comes_back() -> None:
    """Loose parts warn and release as loose permits do."""
    semaphore = Semaphore(2)
    permit = await semaphore.acquire(2)
    with pytest.warns(ResourceWarning, match="Permit"):
        permit.split(1)
    assert semaphore.available_permits == 1
    permit.release()


async def test_an_early_release_leaves_the_exit_nothing_to_do() -> None:
    """However many others hold permits by then."""
    semaphore = Semaphore(2)
    async with semaphore as permit:
        permit.release()
        assert permit.released
        async with semaphore:
            assert semaphore.available_permits == 1
        assert semaphore.available_permits == 2
        other = semaphore.try_acquire(2)
    assert semaphore.available_permits == 0
    other.release()
    assert semaphore.available_permits == 2


async def test_a_task_may_hold_several_permits_in_nested_blocks() -> None:
    """Each block has its own permit, and its exit releases that one."""
    semaphore = Semaphore(3)
    async with semaphore as outer:
        async with semaphore as middle:
            async with semaphore as inner:
                assert len({id(outer), id(middle), id(inner)}) == 3
                assert semaphore.available_permits == 0
                middle.release()
                assert semaphore.available_permits == 1
            assert inner.released
            assert not outer.released
            assert semaphore.available_permits == 2
        assert not outer.released
    assert outer.released
    assert semaphore.available_permits == 3


async def test_an_exit_in_another_task_releases_all_the_same() -> None:
    """Fixtures enter in one task and leave in another."""
    semaphore = Semaphore(2)
    stack = AsyncExitStack()

    async def enter() -> None:
        await stack.enter_async_context(semaphore)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enter)
    assert semaphore.available_permits == 1
    async with semaphore:
        assert semaphore.available_permits == 0
    assert semaphore.available_permits == 1
    await stack.aclose()
    assert semaphore.available_permits == 2


async def test_an_exit_in_another_task_releases_though_somebody_let_go_early_before() -> None:
    """It is not taken for the exit of the block whose permit is back already."""
    semaphore = Semaphore(2)
    stack = AsyncExitStack()

    async def release_early() -> None:
        async with semaphore as permit:
            permit.release()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        early = spawn(tasks, release_early)
        await settle()
        spawn(tasks, stack.enter_async_context, semaphore)
        await settle()
        assert semaphore.available_permits == 1
        await stack.aclose()
        assert semaphore.available_permits == 2
        early.cancel()
    assert semaphore.available_permits == 2


async def test_a_permit_may_be_released_by_another_task() -> None:
    """The permit holds, not the task."""
    semaphore = Semaphore(1)
    async with anyio.create_task_group() as tasks:
        permit = await semaphore.acquire()

        async def release() -> None:
            permit.release()

        tasks.start_soon(release)
    assert semaphore.available_permits == 1


async def test_a_waiting_semaphore_is_no_deadlock() -> None:
    """Nobody can say which holder would end a wait, so none is followed."""
    semaphore = Semaphore(1)
    async with semaphore:
        with anyio.move_on_after(0.01) as scope:
            await semaphore.acquire()
        assert scope.cancelled_caught
    assert semaphore.available_permits == 1


async def test_every_block_kind_releases_when_it_raises() -> None:
    """However it ends."""
    semaphore = Semaphore(1)
    with pytest.raises(ZeroDivisionError):
        async with semaphore:
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        async with semaphore.acquire():
            raise ZeroDivisionError
    assert semaphore.available_permits == 1


async def test_repr_tells_name_permits_and_waiters() -> None:
    """What a person wants to know when the program hangs."""
    semaphore = Semaphore(2, name="pool")
    assert repr(semaphore) == "<Semaphore 'pool' 2 of 2 available>"
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join("a", enter=partial(semaphore.acquire, 2))
        await line.join("b")
        assert repr(semaphore) == "<Semaphore 'pool' 0 of 2 available, 1 waiting>"
        await line.let_go("a", "b")
    semaphore.close()
    assert repr(semaphore) == "<Semaphore 'pool' closed>"
    assert hex(id(semaphore)) not in repr(semaphore)


def test_repr_of_a_permit_tells_its_count() -> None:
    """One, many, none."""
    semaphore = Semaphore(3, name="pool")
    permit = semaphore.try_acquire(2)
    assert repr(permit) == "<2 permits of Semaphore 'pool'>"
    with permit.split(1) as part:
        assert repr(part) == "<1 permit of Semaphore 'pool'>"
    permit.release()
    assert repr(permit) == "<no permits of Semaphore 'pool'>"


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_semaphores_and_permits_refuse_to_be_copied(copier: Callable[[object], object]) -> None:
    """Neither pickling nor copying, as with threading.Semaphore."""
    semaphore = Semaphore(1, name="pool")
    with pytest.raises(TypeError, match="Semaphore 'pool'"):
        copier(semaphore)
    with semaphore.try_acquire() as permit, pytest.raises(TypeError, match="Semaphore 'pool'"):
        copier(permit)
    assert semaphore.available_permits == 1


# --- how many there are in all


async def test_the_total_counts_free_and_held_permits() -> None:
    """What was added counts, what was forgotten does not."""
    semaphore = Semaphore(3)
    async with semaphore, semaphore.acquire(2):
        assert semaphore.total_permits == 3
        semaphore.add_permits(70)
        assert semaphore.total_permits == 73
        assert semaphore.forget_permits(100) == 70
        assert semaphore.total_permits == 3
    permit = semaphore.try_acquire(2)
    permit.split(1).forget()
    assert semaphore.total_permits == 2
    permit.release()
    with pytest.raises(GuardReleasedError):
        permit.forget()
    assert semaphore.statistics() == SemaphoreStatistics(total=2, available=2, waiting=0, closed=False)


@pytest.mark.parametrize("permits", [0, 1, 5, 100])
def test_resize_changes_free_permits_at_once(permits: int) -> None:
    """Nothing is held, so nothing is to come back."""
    semaphore = Semaphore(5)
    semaphore.resize(permits)
    assert (semaphore.total_permits, semaphore.available_permits) == (permits, permits)
    with pytest.raises(TryAcquireError):
        semaphore.try_acquire(permits + 1)
    semaphore.resize(5)
    assert (semaphore.total_permits, semaphore.available_permits) == (5, 5)


async def test_a_larger_semaphore_serves_its_line_at_once() -> None:
    """As many as fit now."""
    semaphore = Semaphore(1)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, semaphore.acquire)
        await line.join("a", "b", "c", "d")
        semaphore.resize(3)
        await settle()
        assert sorted(line.log) == ["a", "b", "c"]  # trio shuffles whose step is next
        line.may_leave("a", "b", "c", "d")
    assert semaphore.available_permits == 3


@pytest.mark.parametrize("enter", [lambda semaphore: semaphore, Semaphore.acquire], ids=["block", "acquire"])
async def test_a_smaller_semaphore_takes_what_comes_back_before_it_serves_the_line(
    enter: Callable[[Semaphore], AbstractAsyncContextManager[object]],
) -> None:
    """Nobody in line gets in until no more than the new total are held.

    a, b, c hold; d, e wait; resize(1); a, b leave: nobody gets in; c leaves: d gets in, alone
    """
    semaphore = Semaphore(3)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, partial(enter, semaphore))
        await line.join("a", "b", "c", "d", "e")
        semaphore.resize(1)
        assert semaphore.total_permits == 1
        await line.let_go("a", "b")
        assert line.log == ["a", "b", "c"]
        await line.let_go("c")
        assert line.log == ["a", "b", "c", "d"]
        await line.let_go("d")
        assert line.log == ["a", "b", "c", "d", "e"]
        line.may_leave("e")
    assert semaphore.statistics() == SemaphoreStatistics(total=1, available=1, waiting=0, closed=False)


@pytest.mark.parametrize("enter", [lambda semaphore: semaphore, Semaphore.acquire], ids=["block", "acquire"])
async def test_a_newcomer_does_not_take_a_permit_that_is_to_be_taken_away(
    enter: Callable[[Semaphore], AbstractAsyncContextManager[object]],
) -> None:
    """Nobody waits when it comes back, and still it is not for whoever comes next.

    a, b hold; resize(1); a leaves; c comes: it waits for b
    """
    semaphore = Semaphore(2)
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, partial(enter, semaphore))
        await line.join("a", "b")
        semaphore.resize(1)
        await line.let_go("a")
        assert semaphore.available_permits == 0
        await line.join("c")
        assert line.log == ["a", "b"]
        with pytest.raises(TryAcquireError):
            semaphore.try_acquire()
        await line.let_go("b")
        assert line.log == ["a", "b", "c"]
        line.may_leave("c")
    assert semaphore.available_permits == 1


async def test_a_semaphore_that_shrank_can_grow_before_all_has_come_back() -> None:
    """What was still to be taken away is not, then."""
    semaphore = Semaphore(4)
    permits = [semaphore.try_acquire() for _ in range(4)]
    semaphore.resize(1)
    assert semaphore.forget_permits(1) == 0
    semaphore.resize(3)
    assert semaphore.available_permits == 0
    permits.pop().release()
    assert semaphore.available_permits == 0
    permits.pop().forget()
    assert semaphore.total_permits == 2
    semaphore.add_permits(1)
    assert semaphore.available_permits == 1
    for permit in permits:
        permit.release()
    assert (semaphore.total_permits, semaphore.available_permits) == (3, 3)


async def test_asking_for_more_than_all_waits_and_says_so() -> None:
    """It is no error: there may be more later."""
    semaphore = Semaphore(2, name="pool")
    acquisition = semaphore.acquire(3)
    assert repr(acquisition) == "<acquire(3), more than all 2, of Semaphore 'pool'>"
    assert repr(semaphore) == "<Semaphore 'pool' 2 of 2 available>"
    async with anyio.create_task_group() as tasks:
        line = Line(tasks, lambda: acquisition)
        await line.join("a")
        assert repr(semaphore) == "<Semaphore 'pool' 0 of 2 available, 1 waiting, the first for 3: more than there are>"
        semaphore.resize(3)
        await settle()
        assert line.log == ["a"]
        line.may_leave("a")
    assert repr(semaphore) == "<Semaphore 'pool' 3 of 3 available>"
