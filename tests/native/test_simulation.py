"""Every order in which a few tasks can use Mutex and Semaphore; and that the explorer finds what is wrong."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
import sniffio

from asynclocks import ClosedError, DeadlockError, Mutex, Semaphore, UnsupportedLoopError, backends
from asynclocks._engine.synchronizer import QueuedSynchronizer, Ticket
from asynclocks._engine.ticket import State
from asynclocks.backends import current_backend
from asynclocks.testing import Explored, Interrupted, Scenario, ScheduleError, Simulation, Task, explore, pause, replay

Manner = Literal["asyncio", "trio"]
both_manners = pytest.mark.parametrize("like", ["asyncio", "trio"])


class Line:
    """Who came, in order; asserts that nobody gets in while somebody who came before still waits.

    Where more than one may be inside, those who were let in at once may run in any order.
    """

    def __init__(self, *, exclusive: bool) -> None:
        self._came: list[Task] = []
        self._in: list[Task] = []
        self._exclusive = exclusive

    def come(self, task: Task) -> None:
        self._came.append(task)

    def get_in(self, task: Task) -> None:
        earlier = self._came[: self._came.index(task)]
        waiting = [task for task in earlier if task.parked or (self._exclusive and not task.done)]
        assert [other.name for other in waiting if other not in self._in] == [], f"{task.name} overtook"
        self._in.append(task)


def waiting_tickets(synchronizer: QueuedSynchronizer) -> list[Ticket]:
    tickets = []
    ticket, before = synchronizer._head, None
    while ticket is not None:
        assert ticket.before is before
        assert ticket.state is State.QUEUED
        tickets.append(ticket)
        ticket, before = ticket.after, ticket
    assert synchronizer._tail is before
    assert synchronizer._waiting == len(tickets)
    return tickets


def sound(synchronizer: Mutex[Any] | Semaphore) -> Callable[[], None]:
    """The engine's invariants, at any moment when the internal lock is free."""

    def check() -> None:
        tickets = waiting_tickets(synchronizer)
        assert synchronizer._lock.acquire(False)
        synchronizer._lock.release()
        assert not synchronizer._deferred
        if tickets and isinstance(synchronizer, Semaphore):
            assert not synchronizer.closed
            assert synchronizer._free + len(synchronizer._tokens) < tickets[0].request
        elif tickets:
            assert synchronizer.locked()

    return check


def contend(count: int, lock: Callable[[], Any] = Mutex) -> Scenario:
    """Tasks that take turns."""

    def scenario(simulation: Simulation) -> Callable[[], None]:
        mutex = lock()
        line = Line(exclusive=True)
        inside: list[Task] = []
        finished: list[Task] = []

        async def work(name: str) -> None:
            task = tasks[name]
            line.come(task)
            async with mutex:
                line.get_in(task)
                inside.append(task)
                assert [task] == inside
                try:
                    await pause()
                finally:
                    inside.remove(task)
            finished.append(task)

        tasks = {name: simulation.task(work(name), name=name) for name in "abc"[:count]}
        if isinstance(mutex, Mutex):
            simulation.always(sound(mutex))

        def check() -> None:
            assert not mutex.locked()
            assert [task for task in tasks.values() if not task.interrupted and task not in finished] == []

        return check

    return scenario


def share(*requests: int, permits: int = 2, make: Callable[[int], Semaphore] = Semaphore) -> Scenario:
    """Tasks that want that many permits each."""

    def scenario(simulation: Simulation) -> Callable[[], None]:
        semaphore = make(permits)
        line = Line(exclusive=False)
        taken = 0

        async def work(name: str, request: int) -> None:
            nonlocal taken
            line.come(tasks[name])
            async with semaphore.acquire(request):
                line.get_in(tasks[name])
                taken += request
                assert taken <= permits
                try:
                    await pause()
                finally:
                    taken -= request

        tasks = {
            name: simulation.task(work(name, request), name=name)
            for name, request in zip("abcd", requests, strict=False)
        }
        simulation.always(sound(semaphore))

        def check() -> None:
            assert (0, permits) == (taken, semaphore.available_permits)

        return check

    return scenario


# Ours.


@both_manners
def test_three_tasks_take_turns_whoever_is_cancelled(like: Manner) -> None:
    explored = explore(contend(3), like=like)
    assert explored.complete
    assert explored.schedules > 100


@both_manners
def test_two_tasks_take_turns_whatever_happens_to_both(like: Manner) -> None:
    assert explore(contend(2), disturb=("destroy", "wake"), disturbances=3, like=like).complete


def test_three_tasks_take_turns_whoever_is_destroyed_or_woken_without_reason() -> None:
    assert explore(contend(3), cancel=False, disturb=("destroy", "wake")).complete


@both_manners
@pytest.mark.parametrize("requests", [(1, 2, 1), (2, 1, 1), (1, 1, 1)])
def test_large_and_small_requests_share_permits_whoever_is_cancelled(requests: tuple[int, ...], like: Manner) -> None:
    assert explore(share(*requests), like=like).complete


def test_two_of_three_that_share_permits_may_be_cancelled() -> None:
    assert explore(share(1, 2, 1), disturbances=2).complete


def test_permits_survive_destroyed_tasks_and_wakes_without_reason() -> None:
    assert explore(share(1, 2, 1), cancel=False, disturb=("destroy", "wake")).complete


@both_manners
def test_loose_guards_return_whoever_is_cancelled(like: Manner) -> None:
    def scenario(simulation: Simulation) -> Callable[[], None]:
        mutex = Mutex(0)

        async def add() -> None:
            with await mutex.lock() as guard:
                guard.value += 1
                await pause()

        for _ in range(2):
            simulation.task(add())
        simulation.always(sound(mutex))
        return mutex.into_inner

    assert explore(scenario, disturbances=2, like=like).complete


@both_manners
def test_closing_tells_everybody_in_any_order(like: Manner) -> None:
    def scenario(simulation: Simulation) -> Callable[[], None]:
        semaphore = Semaphore(0)
        told: list[str] = []

        async def wait(name: str) -> None:
            try:
                await semaphore.acquire(2)
            except ClosedError:
                told.append(name)

        async def close() -> None:
            semaphore.close()

        tasks = [simulation.task(wait(name), name=name) for name in "ab"]
        simulation.task(close(), name="closer")
        simulation.always(sound(semaphore))

        def check() -> None:
            assert [task.name for task in tasks if not task.interrupted] == sorted(told)

        return check

    assert explore(scenario, disturbances=2, like=like).complete


@both_manners
def test_exactly_one_of_a_cycle_is_refused_in_every_order(like: Manner) -> None:
    def scenario(simulation: Simulation) -> Callable[[], None]:
        first, second = Mutex(name="first"), Mutex(name="second")
        refused: list[str] = []
        crossed: list[str] = []

        async def take(name: str, one: Mutex[None], other: Mutex[None]) -> None:
            async with one:
                await pause()
                if other.locked():
                    crossed.append(name)
                try:
                    async with other:
                        await pause()
                except DeadlockError:
                    refused.append(name)

        simulation.task(take("a", first, second), name="a")
        simulation.task(take("b", second, first), name="b")

        def check() -> None:
            assert (len(crossed) == 2) == (len(refused) == 1)
            assert len(refused) <= 1

        return check

    assert explore(scenario, cancel=False, like=like).complete
    assert explore(lambda simulation: scenario(simulation) and None, like=like).complete  # nobody hangs


# Planted bugs.


class LosesAWake(Mutex[None]):
    """Forgets that what was granted to a cancelled task must go on."""

    __slots__ = ()

    def _withdraw(self, ticket: Ticket) -> None:
        if ticket.state is State.GRANTED:
            ticket.state = State.WITHDRAWN
        else:
            super()._withdraw(ticket)


class LetsOvertake:
    """Sets itself free and wakes the first in line, who then has to be quick."""

    def __init__(self) -> None:
        self._held = False
        self._line: deque[Any] = deque()

    def locked(self) -> bool:
        return self._held

    async def __aenter__(self) -> None:
        while self._held:
            parker = current_backend().parker()
            self._line.append(parker)
            try:
                await parker.park()
            except BaseException:
                if parker in self._line:
                    self._line.remove(parker)
                else:
                    self._wake_next()
                raise
        self._held = True

    async def __aexit__(self, *exc: object) -> None:
        self._held = False
        self._wake_next()

    def _wake_next(self) -> None:
        if self._line and not self._held:
            self._line.popleft().unpark()


class ServesNobodyWhenTheHeadLeaves(Semaphore):
    """Takes a cancelled waiter out and leaves it at that."""

    __slots__ = ()

    def _catch_up(self) -> None:
        if self._deferred and self._deferred[0][0] == self._withdraw and self._deferred[0][1].state is State.QUEUED:
            _, ticket = self._deferred.pop(0)
            self._withdraw(ticket)
        super()._catch_up()


def failure(scenario: Scenario, **bounds: Any) -> ScheduleError:
    """What exploring finds, and replaying finds again."""
    with pytest.raises(ScheduleError) as found:
        explore(scenario, **bounds)
    with pytest.raises(ScheduleError) as again:
        replay(scenario, found.value.schedule)
    assert found.value.schedule == again.value.schedule
    assert repr(found.value.schedule) in str(found.value)
    return found.value


def test_lost_wake_is_found() -> None:
    error = failure(contend(3, LosesAWake))
    assert any(step.startswith("cancel ") for step in error.schedule)


def test_lost_wake_needs_a_cancellation() -> None:
    assert explore(contend(3, LosesAWake), cancel=False).complete


def test_overtaking_is_found_without_a_cancellation() -> None:
    error = failure(contend(3, LetsOvertake), cancel=False)
    assert "overtook" in str(error)
    assert isinstance(error.__cause__, AssertionError)


def test_nobody_served_when_a_large_head_leaves_is_found() -> None:
    error = failure(share(1, 2, 1, make=ServesNobodyWhenTheHeadLeaves))
    assert "cancel b" in error.schedule
    assert explore(share(1, 2, 1, make=ServesNobodyWhenTheHeadLeaves), cancel=False).complete


def test_a_waiter_that_trusts_every_wake_is_found() -> None:
    def scenario(simulation: Simulation) -> None:
        parkers: list[Any] = []
        ready = False

        async def wait() -> None:
            parkers.append(current_backend().parker())
            await parkers[0].park()
            assert ready, "woken without reason"

        async def wake() -> None:
            nonlocal ready
            ready = True
            for parker in parkers:
                parker.unpark()

        simulation.task(wait(), name="waiter")
        simulation.task(wake(), name="waker")

    assert failure(scenario, cancel=False, disturb=["wake"]).schedule == ("waiter", "wake waiter")


# The explorer.


def interleave(*lengths: int) -> Scenario:
    def scenario(simulation: Simulation) -> None:
        async def steps(count: int) -> None:
            for _ in range(count - 1):
                await pause()

        for length in lengths:
            simulation.task(steps(length))

    return scenario


@pytest.mark.parametrize(("lengths", "orders"), [((1,), 1), ((2, 2), 6), ((3, 2), 10), ((2, 2, 2), 90)])
def test_every_order_is_tried_once(lengths: tuple[int, ...], orders: int) -> None:
    assert Explored(orders, complete=True) == explore(interleave(*lengths), cancel=False)


def test_every_sleep_is_cancelled_once() -> None:
    assert Explored(4, complete=True) == explore(interleave(4))


def test_bound_on_schedules_is_kept_and_told() -> None:
    assert Explored(5, complete=False) == explore(interleave(2, 2), cancel=False, max_schedules=5)
    assert Explored(6, complete=True) == explore(interleave(2, 2), cancel=False, max_schedules=6)


def test_endless_schedule_fails() -> None:
    with pytest.raises(ScheduleError, match="not done after 10 steps"):
        explore(interleave(11), max_steps=10)


def test_task_may_recover_from_a_cancellation() -> None:
    def scenario(simulation: Simulation) -> Callable[[], None]:
        async def stubborn() -> None:
            try:
                await pause()
            except Interrupted:
                await pause()

        task = simulation.task(stubborn())

        def check() -> None:
            assert task.done
            assert not task.interrupted

        return check

    assert explore(scenario, disturbances=1).complete


def test_tasks_may_add_tasks() -> None:
    def scenario(simulation: Simulation) -> Callable[[], None]:
        added: list[Task] = []

        async def add() -> None:
            added.append(simulation.task(nothing()))

        async def nothing() -> None: ...

        simulation.task(add())

        def check() -> None:
            assert [task.name for task in added] == ["task2"]
            assert added[0].done

        return check

    assert Explored(1, complete=True) == explore(scenario)


def test_tasks_that_nobody_wakes_are_named() -> None:
    def scenario(simulation: Simulation) -> None:
        semaphore = Semaphore(0)

        async def wait() -> None:
            async with semaphore:
                pass

        for name in "ab":
            simulation.task(wait(), name=name)

    error = failure(scenario)
    assert "nobody wakes 'a', 'b'\n" in str(error)
    assert error.__cause__ is None


def test_two_tasks_of_one_name_are_refused() -> None:
    def scenario(simulation: Simulation) -> None:
        async def nothing() -> None: ...

        simulation.task(nothing(), name="a")
        simulation.task(nothing(), name="a")

    with pytest.raises(ValueError, match="there is a task 'a' already"):
        explore(scenario)


@pytest.mark.parametrize("when", ["in the end", "after a step"])
def test_failing_check_is_reported_with_its_schedule(when: str) -> None:
    def scenario(simulation: Simulation) -> Callable[[], object] | None:
        interleave(1, 1)(simulation)

        def check() -> None:
            raise LookupError("no")

        if when == "in the end":
            return check
        simulation.always(check)
        return None

    expected = ("task1", "task2") if when == "in the end" else ("task1",)
    error = failure(scenario)
    assert expected == error.schedule
    assert isinstance(error.__cause__, LookupError)


def test_awaiting_what_is_no_part_of_the_simulation_is_named() -> None:
    def scenario(simulation: Simulation) -> None:
        simulation.task(_sleep_for_real(), name="a")

    assert "<task 'a'> awaits None, which is no part of the simulation" in str(failure(scenario))


async def _sleep_for_real() -> None:
    await asyncio.sleep(0)


def test_scenario_left_to_chance_is_found_out() -> None:
    runs = iter(range(2, 0, -1))

    def scenario(simulation: Simulation) -> None:
        interleave(*[1] * next(runs))(simulation)

    with pytest.raises(RuntimeError, match="must not depend on clocks or chance"):
        explore(scenario)


def test_schedule_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="the schedule says 'b', possible are 'task1'"):
        replay(interleave(2), ["task1", "b"])


def test_replay_goes_on_where_the_schedule_ends() -> None:
    replay(interleave(2, 2), ["task2", "cancel task2"])


def test_library_knows_loop_and_tasks_while_it_runs_and_not_after() -> None:
    seen: list[object] = []

    def scenario(simulation: Simulation) -> None:
        async def look() -> None:
            seen.extend([current_backend().name, current_backend().current_task(), backends.running_task()])
            seen.append(current_backend().task_name(task))

        task = simulation.task(look(), name="a")
        seen.append(task)

    explore(scenario)
    task = seen.pop(0)
    assert seen == ["simulation", task, task, "a"]
    with pytest.raises(UnsupportedLoopError, match="no event loop runs in this thread"):
        current_backend()


def test_hint_of_asyncio_stays_quick() -> None:
    before = backends.hint
    explore(contend(1))
    assert before is backends.hint


def test_outside_loop_is_what_sniffio_says_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sniffio.thread_local, "name", "somebody's")
    with pytest.raises(UnsupportedLoopError, match="somebody's"):
        current_backend()
    with pytest.raises(ScheduleError):
        explore(lambda simulation: lambda: 1 / 0)
    assert sniffio.thread_local.name == "somebody's"


def test_exploring_inside_a_loop_or_a_simulation_is_refused() -> None:
    async def inside() -> None:
        with pytest.raises(RuntimeError, match="a loop runs here already"):
            explore(contend(1))

    asyncio.run(inside())
    nested: Callable[[Simulation], None] = lambda simulation: explore(contend(1)) and None  # noqa: E731
    with pytest.raises(RuntimeError, match="a loop runs here already"):
        explore(nested)


def test_interruption_of_the_exploration_is_passed_on() -> None:
    def scenario(simulation: Simulation) -> None:
        async def interrupted() -> Awaitable[None]:
            raise KeyboardInterrupt

        interleave(3)(simulation)
        simulation.task(interrupted())

    with pytest.raises(KeyboardInterrupt):
        explore(scenario)
