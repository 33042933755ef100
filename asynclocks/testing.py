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

import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Hashable, Sequence
from functools import partial
from types import coroutine
from typing import Any, Literal, TypeAlias, get_args

import attrs

from asynclocks import backends
from asynclocks._engine.ticket import Ticket
from asynclocks.backends.seam import LoopBackend

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

Disturbance: TypeAlias = Literal["cancel", "destroy", "wake"]
Manner: TypeAlias = Literal["asyncio", "trio"]
Check: TypeAlias = Callable[[], object]


class Interrupted(BaseException):
    """What a cancelled task of a simulation raises where it sleeps."""


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


@coroutine
def _sleep(point: object) -> Generator[object, None, None]:
    yield point


_PAUSE = object()  # a point where others may run
_SHIELDED_PAUSE = object()  # and where no cancellation strikes


async def pause() -> None:
    """Let others run here, in a simulation. The task may be cancelled here."""
    await _sleep(_PAUSE)


class Task:
    """One of a simulation's tasks."""

    def __init__(self, name: str, body: Coroutine[Any, Any, object]) -> None:
        self.name: str = name
        self.done: bool = False
        self.interrupted: bool = False  # was it cancelled or destroyed?
        self._body = body
        self._sleeps_on: object = None  # None: not begun, or done

    @property
    def parked(self) -> bool:
        """Does it wait, with no wake-up under way?"""
        return isinstance(self._sleeps_on, SimulationParker) and not self._sleeps_on.unparked

    def __repr__(self) -> str:
        return f"<task {self.name!r}>"

    def _open_to(self, disturbance: Disturbance, manner: Manner) -> bool:
        if self._sleeps_on is None:
            return False
        if disturbance == "wake":
            return self.parked
        if disturbance == "cancel":
            crossing = isinstance(self._sleeps_on, SimulationParker) and not self.parked
            return self._sleeps_on is not _SHIELDED_PAUSE and not (crossing and manner == "trio")
        return True

    def _advance(self, step: Callable[[], object]) -> None:
        """Run to where it sleeps next."""
        self._sleeps_on = None
        try:
            point = step()
        except StopIteration:
            self.done = True
        except Interrupted:
            self.done = self.interrupted = True
        else:
            if not isinstance(point, SimulationParker) and point is not _PAUSE and point is not _SHIELDED_PAUSE:
                raise TypeError(f"{self!r} awaits {point!r}, which is no part of the simulation; use pause()")
            self._sleeps_on = point

    def _run(self) -> None:
        self._advance(lambda: self._body.send(None))

    def _cancel(self) -> None:
        self._advance(lambda: self._body.throw(Interrupted()))

    def _destroy(self) -> None:
        """As the collector would: in no task."""
        self._sleeps_on = None
        self.done = self.interrupted = True
        self._body.close()


class Simulation:
    """One run of a scenario, which fills it with tasks."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._running: Task | None = None
        self._tasks: list[Task] = []
        self._checks: list[Check] = []

    def task(self, body: Coroutine[Any, Any, object], *, name: str | None = None) -> Task:
        """Add a task. It runs when the schedule says so; running tasks may add others.

        Raises:
            ValueError: there is a task of this name.
        """
        name = f"task{len(self._tasks) + 1}" if name is None else name
        if any(task.name == name for task in self._tasks):
            body.close()
            raise ValueError(f"there is a task {name!r} already")
        self._tasks.append(task := Task(name, body))
        return task

    def always(self, check: Check) -> None:
        """Call `check` after every step of every task."""
        self._checks.append(check)

    def _options(self, disturbances: Collection[Disturbance]) -> list[_Option]:
        """What could happen next."""
        ready = [task for task in self._tasks if not task.done and not task.parked]
        if not ready:  # disturbing the others would only hide that nobody wakes them
            return []
        acts = {"cancel": Task._cancel, "destroy": Task._destroy, "wake": Task._run}
        return [
            *(_Option(task.name, task, Task._run, disturbs=False) for task in ready),
            *(
                _Option(f"{disturbance} {task.name}", task, acts[disturbance], disturbs=True)
                for disturbance in disturbances
                for task in self._tasks
                if task._open_to(disturbance, self._manner)
            ),
        ]

    def _perform(self, task: Task, act: Callable[[Task], None]) -> None:
        self._running = None if act is Task._destroy else task
        try:
            act(task)
        finally:
            self._running = None

    def _close(self) -> None:
        for task in self._tasks:
            if not task.done:
                self._perform(task, Task._destroy)


@attrs.frozen
class _Option:
    name: str
    task: Task
    act: Callable[[Task], None]
    disturbs: bool


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


class _Here(threading.local):
    simulation: Simulation | None = None


_here = _Here()


def _run(scenario: Scenario, choose: _Choice, budget: _Budget, manner: Manner, max_steps: int) -> None:
    if backends.running_task() is not None or _here.simulation is not None:
        raise RuntimeError("a loop runs here already; explore and replay from a plain function")
    schedule: list[str] = []
    _here.simulation = simulation = Simulation(manner)
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
        _here.simulation = None


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


class SimulationParker(Ticket):
    """Parks a task of the simulation."""

    __slots__ = ("unparked",)

    def __init__(self) -> None:
        self.unparked: bool = False

    def park(self) -> Awaitable[None]:
        return _sleep(self)

    def unpark(self) -> bool:
        self.unparked = True
        return True


class SimulationBackend(LoopBackend):
    """Known as "simulation" while one runs, and only in its thread."""

    name = "simulation"
    task_type: type | None = Task

    def parker(self) -> SimulationParker:
        return SimulationParker()

    @property
    def checkpoints(self) -> bool:  # type: ignore[override]  # nobody sets it
        """As the loop that is simulated."""
        return _simulation()._manner == "trio"

    def current_task(self) -> Hashable:
        return _simulation()._running

    def task_name(self, task: Any) -> str:
        return str(task.name)

    async def checkpoint_if_cancelled(self) -> None:
        """Nothing: a cancellation strikes where the task sleeps."""

    async def cancel_shielded_checkpoint(self) -> None:
        await _sleep(_SHIELDED_PAUSE)


def _simulation() -> Simulation:
    assert _here.simulation is not None
    return _here.simulation
