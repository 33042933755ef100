"""Notify: tokio's semantics, one interleaving after the other."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from asynclocks import Notified, Notify, NotifyStatistics
from tests.conformance.line import Cancel, both_cancels
from tests.support import Running, collect, on_trio, settle, spawn

either = pytest.mark.parametrize("notify_by", [Notify.notify_one, Notify.notify_last], ids=["one", "last"])


class Waiters:
    """Tasks that wait for a notification, by name, in turn; `log` tells who was woken."""

    def __init__(self, notify: Notify, tasks: TaskGroup) -> None:
        self.notify = notify
        self.tasks = tasks
        self.log: list[str] = []
        self.running: dict[str, Running[None]] = {}

    async def join(self, *names: str) -> None:
        for name in names:
            self.running[name] = spawn(self.tasks, self._wait, name, name=name)
            await settle()

    async def _wait(self, name: str) -> None:
        await self.notify.notified()
        self.log.append(name)

    def cancel_all(self) -> None:
        for running in self.running.values():
            running.cancel()


def state(notify: Notify) -> tuple[int, bool]:
    statistics = notify.statistics()
    return statistics.waiting, statistics.stored


# --- notify_one, notify_last


async def test_a_notification_wakes_who_waits() -> None:
    """And is not stored."""
    notify = Notify()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a")
        assert notify.statistics() == NotifyStatistics(waiting=1, stored=False)
        notify.notify_one()
        assert notify.statistics() == NotifyStatistics(waiting=0, stored=False)
        await settle()
        assert waiters.log == ["a"]


async def test_notify_one_wakes_the_oldest_each_time() -> None:
    """First come, first served."""
    notify = Notify()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a", "b", "c")
        for expected in ("a", "b", "c"):
            notify.notify_one()
            await settle()
            assert waiters.log.pop() == expected
            assert waiters.log == []
    assert state(notify) == (0, False)


async def test_notify_last_wakes_the_newest_each_time() -> None:
    """Last come, first served; the others keep their order."""
    notify = Notify()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a", "b", "c", "d")
        for wake in (notify.notify_last, notify.notify_one, notify.notify_last, notify.notify_one):
            wake()
            await settle()
    assert waiters.log == ["d", "a", "c", "b"]


@either
async def test_with_nobody_waiting_one_wake_up_is_stored(notify_by: Callable[[Notify], None]) -> None:
    """At most one; it lets one waiter pass."""
    notify = Notify()
    notify_by(notify)
    notify_by(notify)
    assert state(notify) == (0, True)
    await notify.notified()
    assert state(notify) == (0, False)
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a")
        assert waiters.log == []
        waiters.cancel_all()


async def test_a_notified_that_is_only_created_does_not_stand_in_line() -> None:
    """The wake-up is stored; whoever awaits first has it."""
    notify = Notify()
    early = notify.notified()
    notify.notify_one()
    await notify.notified()
    assert not early.enable()


async def test_notifications_of_one_tick_wake_as_many() -> None:
    """Each one counts while somebody waits."""
    notify = Notify()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a", "b", "c")
        notify.notify_one()
        notify.notify_one()
        await settle()
        assert sorted(waiters.log) == ["a", "b"]
        waiters.cancel_all()
    assert state(notify) == (0, False)


# --- notify_waiters


async def test_notify_waiters_wakes_everybody_and_stores_nothing() -> None:
    """Who comes later waits."""
    notify = Notify()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a", "b")
        notify.notify_waiters()
        assert state(notify) == (0, False)
        await waiters.join("c")
        assert sorted(waiters.log) == ["a", "b"]
        waiters.cancel_all()


async def test_who_waits_after_notify_waiters_stands_in_a_line_of_its_own() -> None:
    """Nobody of those before is in it any more."""
    notify = Notify()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a", "b")
        notify.notify_waiters()
        await waiters.join("c", "d")
        assert state(notify) == (2, False)
        notify.notify_one()
        notify.notify_one()
        await settle()
        assert sorted(waiters.log) == ["a", "b", "c", "d"]
        assert state(notify) == (0, False)


async def test_notify_waiters_counts_for_every_notified_created_before() -> None:
    """Neither enabled nor awaited then."""
    notify = Notify()
    awaited, enabled = notify.notified(), notify.notified()
    notify.notify_waiters()
    await awaited
    assert enabled.enable()
    assert not notify.notified().enable()


async def test_a_notified_created_before_passes_those_who_wait() -> None:
    """Whatever stands in line."""
    notify = Notify()
    early = notify.notified()
    notify.notify_waiters()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a")
        await early
        assert waiters.log == []
        notify.notify_one()


async def test_notify_waiters_leaves_the_stored_wake_up() -> None:
    """It is for whoever comes."""
    notify = Notify()
    notify.notify_one()
    notify.notify_waiters()
    assert state(notify) == (0, True)


@pytest.mark.parametrize("first", ["notify_one", "notify_waiters"])
async def test_an_older_generation_leaves_the_stored_wake_up_to_others(first: str) -> None:
    """As in tokio, whichever was called first: notify_waiters has woken it already."""
    notify = Notify()
    awaited, enabled = notify.notified(), notify.notified()
    for call in sorted(["notify_one", "notify_waiters"], key=first.__ne__):
        getattr(notify, call)()
    await awaited
    assert enabled.enable()
    assert state(notify) == (0, True)
    assert notify.notified().enable()


# --- enable


async def test_enable_registers_for_notify_one() -> None:
    """In the line from then on, at its place."""
    notify = Notify()
    enabled = notify.notified()
    assert not enabled.enable()
    assert state(notify) == (1, False)
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a")
        notify.notify_one()
        await settle()
        assert waiters.log == []
        await enabled
        notify.notify_one()


async def test_enable_tells_of_a_stored_wake_up_and_uses_it() -> None:
    """Awaiting then returns at once, and nobody else gets it."""
    notify = Notify()
    notify.notify_one()
    first, second = notify.notified(), notify.notified()
    assert first.enable()
    assert not second.enable()
    assert first.enable()
    await first
    assert not second.enable()


@pytest.mark.parametrize("wake", [Notify.notify_one, Notify.notify_last, Notify.notify_waiters])
async def test_enable_tells_of_a_notification_that_came_since(wake: Callable[[Notify], None]) -> None:
    """Asked as often as you like."""
    notify = Notify()
    notified = notify.notified()
    assert not notified.enable()
    assert not notified.enable()
    wake(notify)
    assert notified.enable()
    await notified
    assert notified.enable()


async def test_an_enabled_one_may_be_awaited_by_any_task() -> None:
    """Its place in the line is its own, not the task's."""
    notify = Notify()
    notified = notify.notified()
    notified.enable()
    async with anyio.create_task_group() as tasks:
        waiter = spawn(tasks, awaiting, notified)
        await settle()
        assert not waiter.done
        assert not notified.enable()
        notify.notify_one()
    assert notified.enable()


async def awaiting(notified: Notified) -> None:
    await notified


# --- cancellation and forwarding


@both_cancels
@pytest.mark.parametrize("leaving", ["a", "b", "c"])
async def test_a_cancelled_waiter_leaves_the_line(leaving: str, cancel: Cancel) -> None:
    """The others are woken in order."""
    notify = Notify()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a", "b", "c")
        cancel(waiters.running[leaving])
        await settle()
        assert waiters.running[leaving].cancelled
        assert state(notify) == (2, False)
        for _ in range(2):
            notify.notify_one()
            await settle()
    assert waiters.log == [name for name in "abc" if name != leaving]
    assert state(notify) == (0, False)


@both_cancels
async def test_a_notification_crossing_a_cancellation_goes_to_the_next_oldest(cancel: Cancel) -> None:
    """notify_one's does; on trio, who is woken already keeps it."""
    notify = Notify()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a", "b", "c")
        notify.notify_one()
        cancel(waiters.running["a"])
        await settle()
        assert waiters.log == (["b"] if waiters.running["a"].cancelled else ["a"])
        assert state(notify)[1] is False
        waiters.cancel_all()


@both_cancels
async def test_a_notify_last_crossing_a_cancellation_goes_to_the_next_newest(cancel: Cancel) -> None:
    """By the same rule; on trio, who is woken already keeps it."""
    notify = Notify()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a", "b", "c")
        notify.notify_last()
        cancel(waiters.running["c"])
        await settle()
        assert waiters.log == (["b"] if waiters.running["c"].cancelled else ["c"])
        waiters.cancel_all()


@both_cancels
async def test_a_notification_crossing_the_last_waiters_cancellation_is_stored(cancel: Cancel) -> None:
    """Nothing is lost; on trio, who is woken already keeps it."""
    notify = Notify()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a")
        notify.notify_one()
        cancel(waiters.running["a"])
        await settle()
    assert state(notify) == (0, waiters.running["a"].cancelled)


@both_cancels
async def test_notify_waiters_crossing_a_cancellation_is_not_passed_on(cancel: Cancel) -> None:
    """It was for those who waited then."""
    notify = Notify()
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a")
        notify.notify_waiters()
        cancel(waiters.running["a"])
        await waiters.join("b")
        assert "b" not in waiters.log
        assert state(notify) == (1, False)
        waiters.cancel_all()


@both_cancels
async def test_an_enabled_one_that_is_cancelled_while_awaited_leaves_the_line(cancel: Cancel) -> None:
    """The next notification goes past it."""
    notify = Notify()
    notified = notify.notified()
    notified.enable()
    async with anyio.create_task_group() as tasks:
        waiter = spawn(tasks, awaiting, notified)
        await settle()
        cancel(waiter)
        await settle()
        assert waiter.cancelled
    assert state(notify) == (0, False)
    notified.cancel()


@both_cancels
async def test_an_enabled_one_whose_wake_up_crosses_its_cancellation_forwards_it(cancel: Cancel) -> None:
    """To the next in line; on trio, who is woken already keeps it."""
    notify = Notify()
    notified = notify.notified()
    notified.enable()
    async with anyio.create_task_group() as tasks:
        waiter = spawn(tasks, awaiting, notified)
        waiters = Waiters(notify, tasks)
        await waiters.join("b")
        notify.notify_one()
        cancel(waiter)
        await settle()
        assert waiters.log == ["b"] * waiter.cancelled
        waiters.cancel_all()


@pytest.mark.parametrize("give_up", ["cancel", "drop"])
async def test_an_enabled_one_that_gives_up_leaves_the_line(give_up: str) -> None:
    """By cancel(), or collected."""
    notify = Notify()
    notified: Notified | None = notify.notified()
    assert notified is not None
    notified.enable()
    if give_up == "cancel":
        notified.cancel()
        notified.cancel()
    else:
        notified = None
        collect()
    assert state(notify) == (0, False)


@pytest.mark.parametrize("give_up", ["cancel", "drop"])
@pytest.mark.parametrize(("wake", "woken"), [(Notify.notify_one, "a"), (Notify.notify_last, "b")])
async def test_an_enabled_one_that_gives_up_forwards_an_unused_wake_up(
    wake: Callable[[Notify], None], woken: str, give_up: str
) -> None:
    """By the same rule: to the oldest or the newest of those who wait by then."""
    notify = Notify()
    notified: Notified | None = notify.notified()
    assert notified is not None
    notified.enable()
    wake(notify)
    async with anyio.create_task_group() as tasks:
        waiters = Waiters(notify, tasks)
        await waiters.join("a", "b")
        if give_up == "cancel":
            notified.cancel()
        else:
            notified = None
            collect()
        await settle()
        assert waiters.log == [woken]
        waiters.cancel_all()
    assert state(notify) == (0, False)


async def test_giving_up_with_nobody_waiting_stores_the_unused_wake_up() -> None:
    """For whoever comes."""
    notify = Notify()
    notified = notify.notified()
    notified.enable()
    notify.notify_one()
    assert state(notify) == (0, False)
    notified.cancel()
    assert state(notify) == (0, True)


async def test_giving_up_after_notify_waiters_passes_nothing_on() -> None:
    """It was for everyone who waited then."""
    notify = Notify()
    notified = notify.notified()
    notified.enable()
    notify.notify_waiters()
    notified.cancel()
    assert state(notify) == (0, False)


@pytest.mark.parametrize("give_up", ["cancel", "drop"])
async def test_a_wake_up_that_enable_told_of_is_used(give_up: str) -> None:
    """As in tokio: `if notified.enable(): …` may drop it without waking a second task."""
    notify = Notify()
    notify.notify_one()
    notified: Notified | None = notify.notified()
    assert notified is not None
    assert notified.enable()
    if give_up == "cancel":
        notified.cancel()
    else:
        notified = None
        collect()
    assert state(notify) == (0, False)


async def test_one_that_was_only_created_may_be_dropped() -> None:
    """It holds nothing and warns of nothing."""
    notify = Notify()
    notify.notified()
    notify.notified().cancel()
    collect()
    assert state(notify) == (0, False)


# --- single use


async def test_a_notified_is_awaited_once() -> None:
    """After that, and after cancel(), it says so."""
    notify = Notify()
    notify.notify_one()
    awaited, cancelled = notify.notified(), notify.notified()
    await awaited
    with pytest.raises(RuntimeError, match="notified\\(\\)"):
        await awaited
    awaited.cancel()
    cancelled.cancel()
    with pytest.raises(RuntimeError, match="cancelled"):
        await cancelled
    with pytest.raises(RuntimeError, match="cancelled"):
        cancelled.enable()


async def test_one_that_is_cancelled_and_dropped_leaves_the_line_once() -> None:
    """Those behind it stay in it."""
    notify = Notify()
    first, second = notify.notified(), notify.notified()
    assert not first.enable()
    assert not second.enable()
    first.cancel()
    del first
    assert state(notify) == (1, False)
    notify.notify_one()
    assert second.enable()
    assert state(notify) == (0, False)


async def test_a_notified_that_a_task_awaits_cannot_be_awaited_or_cancelled_by_another() -> None:
    """The first one's wait goes on."""
    notify = Notify()
    notified = notify.notified()
    async with anyio.create_task_group() as tasks:
        waiter = spawn(tasks, awaiting, notified)
        await settle()
        with pytest.raises(RuntimeError, match="being awaited"):
            await notified
        with pytest.raises(RuntimeError, match="cancel that task"):
            notified.cancel()
        assert not notified.enable()
        notify.notify_one()
    assert waiter.done


@both_cancels
async def test_cancel_after_a_cancelled_wait_does_nothing(cancel: Cancel) -> None:
    """So it may stand in a finally."""
    notify = Notify()
    notified = notify.notified()
    async with anyio.create_task_group() as tasks:
        waiter = spawn(tasks, awaiting, notified)
        await settle()
        cancel(waiter)
        await settle()
    notified.cancel()
    assert state(notify) == (0, False)


# --- checkpoints


@pytest.mark.parametrize("how", ["stored", "generation", "enabled", "told"])
async def test_a_wake_up_that_is_there_already_is_a_checkpoint_on_trio_only(how: str) -> None:
    """Elsewhere awaiting it does not yield."""
    notify = Notify()
    others_ran = False

    async def other() -> None:
        nonlocal others_ran
        await anyio.lowlevel.checkpoint()  # an eager task begins at once
        others_ran = True

    async with anyio.create_task_group() as tasks:
        spawn(tasks, other)
        for _ in range(3):
            await ready(notify, how)
        assert others_ran is on_trio()


def ready(notify: Notify, how: str) -> Notified:
    notified = notify.notified()
    if how == "enabled":
        notified.enable()
    if how == "generation":
        notify.notify_waiters()
    else:
        notify.notify_one()
    if how == "told":
        assert notified.enable()
    return notified


@pytest.mark.parametrize(("how", "stays"), [("stored", True), ("enabled", True), ("told", False)])
async def test_a_cancelled_scope_raises_before_the_wake_up_is_used_on_trio(how: str, stays: bool) -> None:
    """It stays for others, or goes on to them. Elsewhere a cancellation reaches the task where it next waits."""
    notify = Notify()
    notified = ready(notify, how)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await notified
    assert state(notify) == (0, stays and on_trio())


# --- for people


def test_repr_tells_the_state() -> None:
    """Of both."""
    notify = Notify()
    assert "0 waiting" in repr(notify)
    notified = notify.notified()
    notified.enable()
    assert "1 waiting" in repr(notify)
    assert "enabled" in repr(notified)
    notified.cancel()
    notify.notify_one()
    assert "stored" in repr(notify)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("make", [Notify, lambda: Notify().notified()])
def test_both_refuse_to_be_copied(make: Callable[[], Any], copied: Callable[[Any], Any]) -> None:
    """As threading.Lock does."""
    with pytest.raises(TypeError, match="cannot pickle or copy"):
        copied(make())
