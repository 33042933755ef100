"""A simulated loop: a task takes a step when `asynclocks.testing` says so, which says so in every order."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Hashable
from types import coroutine
from typing import Any, Literal, TypeAlias

import attrs

from asynclocks._engine.ticket import Ticket
from asynclocks.backends.seam import LoopBackend

Disturbance: TypeAlias = Literal["cancel", "destroy", "wake"]
Manner: TypeAlias = Literal["asyncio", "trio"]
Check: TypeAlias = Callable[[], object]


class Interrupted(BaseException):
    """What a cancelled task of a simulation raises where it sleeps."""


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

    def _options(self, disturbances: Collection[Disturbance]) -> list[Option]:
        """What could happen next."""
        ready = [task for task in self._tasks if not task.done and not task.parked]
        if not ready:  # disturbing the others would only hide that nobody wakes them
            return []
        acts = {"cancel": Task._cancel, "destroy": Task._destroy, "wake": Task._run}
        return [
            *(Option(task.name, task, Task._run, disturbs=False) for task in ready),
            *(
                Option(f"{disturbance} {task.name}", task, acts[disturbance], disturbs=True)
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
class Option:
    name: str
    task: Task
    act: Callable[[Task], None]
    disturbs: bool


class Here(threading.local):
    simulation: Simulation | None = None


here = Here()


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
    assert here.simulation is not None
    return here.simulation
