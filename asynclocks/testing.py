"""A loop that tries every order in which tasks can run.

Tests on a real loop see the few orders that happen to come up. `explore` runs a scenario again and again, each time
by another schedule, until it has seen all of them: at every step it branches over who runs next and, at every point
where a task sleeps, over whether that task is cancelled there. What fails is reported with its schedule, and `replay`
runs that one again, under a debugger if you like.

Exhaustive search wants small scenarios: two or three tasks, a few steps each. After Java's jcstress, Rust's loom and
shuttle, and Godefroid's stateless model checking: nothing is saved and restored, a schedule is run from the start.

Threads are not simulated: this explores the order of tasks, not of bytecodes.

>>> from asynclocks import Mutex
>>> def scenario(simulation):
...     counter = Mutex(0)
...     async def add():
...         async with counter as guard:
...             before = guard.value
...             await pause()
...             guard.value = before + 1
...     tasks = [simulation.task(add()), simulation.task(add())]
...     def check():
...         assert not counter.locked()
...         assert counter.into_inner() == sum(not task.interrupted for task in tasks)
...     return check
>>> explore(scenario)
Explored(schedules=16, complete=True)

What a schedule looks like, on a lock that is none:

>>> def broken(simulation):
...     count = []
...     async def add():
...         before = len(count)
...         await pause()
...         assert before == len(count), "somebody was here"
...         count.append(None)
...     simulation.task(add(), name="a")
...     simulation.task(add(), name="b")
>>> explore(broken)
Traceback (most recent call last):
    ...
asynclocks.testing.ScheduleError: task 'b' raised AssertionError: somebody was here
run it again with replay(scenario, ('a', 'b', 'a', 'b'))
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TypeAlias, get_args

import attrs

from asynclocks import backends
from asynclocks._simulation import (
    Check,
    Disturbance,
    Interrupted,
    Manner,
    Simulation,
    SimulationBackend,
    Task,
    here,
    pause,
)

__all__ = [
    "Disturbance",
    "Explored",
    "Interrupted",
    "Scenario",
    "ScheduleError",
    "Simulation",
    "Task",
    "explore",
    "pause",
    "replay",
]


class ScheduleError(AssertionError):
    """A scenario failed. The reason is its ``__cause__``, `schedule` is what `replay` takes."""

    schedule: tuple[str, ...]

    def __init__(self, what: str, schedule: tuple[str, ...]) -> None:
        super().__init__(f"{what}\nrun it again with replay(scenario, {schedule!r})")
        self.schedule = schedule


@attrs.frozen
class Explored:
    """How many schedules ran, all well, and whether there are no others within the bounds."""

    schedules: int
    complete: bool


Scenario: TypeAlias = Callable[[Simulation], Check | None]
_Choice: TypeAlias = Callable[[Sequence[str]], int]


def explore(
    scenario: Scenario,
    *,
    cancel: bool = True,
    disturb: Collection[Disturbance] = (),
    disturbances: int = 1,
    like: Manner = "asyncio",
    max_schedules: int = 100_000,
    max_steps: int = 1_000,
) -> Explored:
    """Run `scenario` by every schedule within the bounds.

    A scenario makes its objects and its tasks, and returns what checks them in the end, or None. It must do the same
    each time: no clocks, no chance.

    Args:
        scenario: called once for each schedule.
        cancel: cancel tasks, too, where they sleep: parked, woken but not yet running, or in `pause`.
        disturb: what else may happen to sleeping tasks: "destroy" (the coroutine is closed, as the collector
            does after its loop has been closed), "wake" (its park returns without reason).
        disturbances: how often, cancellations included, in one schedule.
        like: "asyncio": an acquisition that need not wait does not yield, and a cancellation may cross a wake-up.
            "trio": every acquisition yields, and a woken task is not cancelled any more.
        max_schedules: stop after so many; `Explored.complete` then is False.
        max_steps: a schedule that takes more has failed.

    Raises:
        ScheduleError: a task or a check raised, or nobody could run though tasks were left.
        RuntimeError: a task of some other loop is running here.
    """
    kinds = {*disturb, "cancel"} if cancel else {*disturb}
    budget = _Budget([kind for kind in get_args(Disturbance) if kind in kinds], disturbances)
    schedules = 0
    trail: _Trail | None = _Trail([])
    while trail is not None and schedules < max_schedules:
        _run(scenario, trail.choose, budget, like, max_steps)
        schedules += 1
        trail = trail.next()
    return Explored(schedules, complete=trail is None)


def replay(scenario: Scenario, schedule: Sequence[str], *, like: Manner = "asyncio", max_steps: int = 1_000) -> None:
    """Run `scenario` by one schedule: what ScheduleError says. After its end the first task that can run does.

    Raises:
        ScheduleError: it failed again.
        ValueError: the schedule does not fit the scenario.
    """
    steps = iter(schedule)

    def choose(names: Sequence[str]) -> int:
        step = next(steps, names[0])
        if step not in names:
            raise _Misfit(f"the schedule says {step!r}, possible are {', '.join(map(repr, names))}")
        return names.index(step)

    try:
        _run(scenario, choose, _Budget(get_args(Disturbance), len(schedule)), like, max_steps)
    except _Misfit as misfit:
        raise ValueError(str(misfit)) from None


class _Misfit(BaseException):
    """Not to be taken for a failure of the scenario."""


@attrs.frozen
class _Budget:
    kinds: Collection[Disturbance]
    times: int


class _Trail:
    """The path to one leaf of the tree of schedules; the rest of the tree is to the right of it."""

    def __init__(self, prefix: list[int]) -> None:
        self._prefix = prefix
        self._taken: list[int] = []
        self._widths: list[int] = []

    def choose(self, names: Sequence[str]) -> int:
        depth = len(self._taken)
        choice = self._prefix[depth] if depth < len(self._prefix) else 0
        if choice >= len(names):
            raise RuntimeError("the scenario did not do the same again; it must not depend on clocks or chance")
        self._taken.append(choice)
        self._widths.append(len(names))
        return choice

    def next(self) -> _Trail | None:
        """The leaf to the right, depth first. None: this was the last."""
        for depth in reversed(range(len(self._taken))):
            if self._taken[depth] + 1 < self._widths[depth]:
                return _Trail([*self._taken[:depth], self._taken[depth] + 1])
        return None


def _run(scenario: Scenario, choose: _Choice, budget: _Budget, manner: Manner, max_steps: int) -> None:
    if backends.running_task() is not None or here.simulation is not None:
        raise RuntimeError("a loop runs here already; explore and replay from a plain function")
    schedule: list[str] = []
    here.simulation = simulation = Simulation(manner)
    try:
        with backends.pretend("simulation", SimulationBackend):
            try:
                check = scenario(simulation)
                _follow(simulation, choose, budget, schedule, max_steps)
                if check is not None:
                    _checked(check, "the check in the end", schedule)
            finally:
                simulation._close()
    finally:
        here.simulation = None


def _follow(simulation: Simulation, choose: _Choice, budget: _Budget, schedule: list[str], max_steps: int) -> None:
    left = budget.times
    while options := simulation._options(budget.kinds if left > 0 else ()):
        option = options[choose([option.name for option in options])]
        schedule.append(option.name)
        left -= option.disturbs
        _checked(partial(simulation._perform, option.task, option.act), f"task {option.task.name!r}", schedule)
        for check in simulation._checks:
            _checked(check, f"a check after {option.name!r}", schedule)
        if len(schedule) >= max_steps:
            raise ScheduleError(f"not done after {max_steps} steps", tuple(schedule))
    stuck = [task for task in simulation._tasks if not task.done]
    if stuck:
        raise ScheduleError(f"nobody wakes {', '.join(repr(task.name) for task in stuck)}", tuple(schedule))


def _checked(act: Callable[[], object], who: str, schedule: list[str]) -> None:
    try:
        act()
    except Exception as error:
        raise ScheduleError(f"{who} raised {type(error).__name__}: {error}", tuple(schedule)) from error
