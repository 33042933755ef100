"""Condvar, Notify and Barrier: from the call that wakes until the last who waited runs.

Every waiter waits again at once, so each round finds them all parked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anyio
import trio
from trio.testing import wait_all_tasks_blocked

from asynclocks import Barrier, Condvar, Mutex, Notify
from benchmarks.clock import clock
from benchmarks.harness import Case, Workload, first_against_rest, own_copy
from benchmarks.shapes import Make, settle

PARTIES = 10


class Condition:
    """Our two, made together as the peers' one."""

    def __init__(self) -> None:
        self.mutex, self.condvar = Mutex(), Condvar()


# Waiters are coroutine functions of what they wait for; `woken` is called by each one, each time, as it runs again.
async def ours_waits(condition: Condition, rounds: int, woken: Callable[[], None]) -> None:
    condvar = condition.condvar
    async with condition.mutex as guard:
        for _ in range(rounds):
            await condvar.wait(guard)
            woken()


async def ours_notifies(condition: Condition) -> None:
    async with condition.mutex:
        condition.condvar.notify_all()


async def waits(condition: Any, rounds: int, woken: Callable[[], None]) -> None:
    async with condition:
        for _ in range(rounds):
            await condition.wait()
            woken()


async def notifies(condition: Any) -> None:
    async with condition:
        condition.notify_all()


async def ours_is_notified(notify: Notify, rounds: int, woken: Callable[[], None]) -> None:
    for _ in range(rounds):
        await notify.notified()
        woken()


async def ours_notifies_waiters(notify: Notify) -> None:
    notify.notify_waiters()


async def waits_for_event(event: asyncio.Event, rounds: int, woken: Callable[[], None]) -> None:
    for _ in range(rounds):
        await event.wait()
        woken()


async def sets_and_clears(event: asyncio.Event) -> None:
    event.set()
    event.clear()


class Events:
    """An event that cannot be cleared, made anew for each round."""

    def __init__(self, make: Make) -> None:
        self.make = make
        self.event = make()


async def waits_for_events(events: Events, rounds: int, woken: Callable[[], None]) -> None:
    for _ in range(rounds):
        await events.event.wait()
        woken()


async def sets_event(events: Events) -> None:
    event, events.event = events.event, events.make()
    event.set()


async def waking(make: Make, wait: Any, wake: Any, waiters: int, rounds: int) -> float:
    """`waiters` tasks are parked. Time from the wake-up's call until the last of them has run."""
    subject = make()
    loop = asyncio.get_running_loop()
    left = 0

    def woken() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    tasks = [asyncio.create_task(wait(subject, rounds, woken)) for _ in range(waiters)]
    await settle()
    spent = 0.0
    for _ in range(rounds):
        left = waiters
        done = loop.create_future()
        start = clock()
        await wake(subject)
        await done
        spent += clock() - start
    await asyncio.gather(*tasks)
    return spent


async def waking_on_trio(make: Make, wait: Any, wake: Any, waiters: int, rounds: int) -> float:
    subject = make()
    left = 0

    def woken() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    spent = 0.0
    async with trio.open_nursery() as nursery:
        for _ in range(waiters):
            nursery.start_soon(wait, subject, rounds, woken)
        await wait_all_tasks_blocked()
        for _ in range(rounds):
            left = waiters
            done = trio.Event()
            start = clock()
            await wake(subject)
            await done.wait()
            spent += clock() - start
    return spent


# Barriers.
async def meeting(make: Make, rounds: int) -> float:
    """PARTIES tasks meet, again and again. Time from first start to last end."""
    barrier = make()

    async def meet() -> None:
        for _ in range(rounds):
            await barrier.wait()

    start = clock()
    await asyncio.gather(*[meet() for _ in range(PARTIES)])
    return clock() - start


async def meeting_on_trio(make: Make, rounds: int) -> float:
    barrier = make()

    async def meet() -> None:
        for _ in range(rounds):
            await barrier.wait()

    start = clock()
    async with trio.open_nursery() as nursery:
        for _ in range(PARTIES):
            nursery.start_soon(meet)
    return clock() - start


class EventBarrier:
    """What one writes where there is no barrier: nobody may be cancelled."""

    def __init__(self) -> None:
        self.event = trio.Event()
        self.arrived = 0

    async def wait(self) -> None:
        self.arrived += 1
        if self.arrived < PARTIES:
            await self.event.wait()
            return
        self.arrived = 0
        event, self.event = self.event, trio.Event()
        event.set()
        await trio.lowlevel.checkpoint()  # as every wait of trio's


Subject = tuple[Make, Callable[..., Any], Callable[..., Any]]  # made how, waited for how, woken how

CONDVAR: dict[str, Subject] = {"asynclocks.Condvar": (Condition, ours_waits, ours_notifies)}
NOTIFY: dict[str, Subject] = {"asynclocks.Notify": (Notify, ours_is_notified, ours_notifies_waiters)}
ANYIO_EVENT: dict[str, Subject] = {"anyio.Event": (partial(Events, anyio.Event), waits_for_events, sets_event)}
ASYNCIO_EVENT: dict[str, Subject] = {"asyncio.Event": (asyncio.Event, waits_for_event, sets_and_clears)}
TRIO_EVENT: dict[str, Subject] = {"trio.Event": (partial(Events, trio.Event), waits_for_events, sets_event)}


def conditions(**makes: Make) -> dict[str, Subject]:
    return {f"{module}.Condition": (make, waits, notifies) for module, make in makes.items()}


def woken_by(shape: Callable[..., Any], subjects: Mapping[str, Subject], waiters: int) -> dict[str, Case]:
    return {
        name: Case(partial(own_copy(shape), make, own_copy(wait), own_copy(wake), waiters), waiters)
        for name, (make, wait, wake) in subjects.items()
    }


def workloads() -> list[Workload]:
    found = []

    def add(name: str, cases: dict[str, Case], loop: str = "asyncio", **targets: float) -> None:
        where = "" if loop == "asyncio" else f" on {loop}"
        found.append(Workload(name.format(where), cases, first_against_rest(cases, **targets), loop))

    def meet(shape: Callable[..., Any], **makes: Make) -> dict[str, Case]:
        return {name.replace("_", "."): Case(partial(own_copy(shape), make), PARTIES) for name, make in makes.items()}

    ours = partial(Barrier, PARTIES)
    for waiters in (1, 100):
        name = f"Condvar{{}}: notify to wake-up of {waiters}"
        peers = conditions(asyncio=asyncio.Condition, anyio=anyio.Condition)
        add(name, woken_by(waking, CONDVAR | peers, waiters), asyncio_Condition=1.1)
    name = f"Notify{{}}: rounds of {PARTIES}"
    add(name, woken_by(waking, NOTIFY | ASYNCIO_EVENT | ANYIO_EVENT, PARTIES), asyncio_Event=1.1)
    cases = meet(meeting, asynclocks_Barrier=ours, asyncio_Barrier=partial(asyncio.Barrier, PARTIES))
    add(f"Barrier{{}}: rounds of {PARTIES}", cases, asyncio_Barrier=1.1)
    for waiters in (1, 100):
        name = f"Condvar{{}}: notify to wake-up of {waiters}"
        peers = conditions(trio=trio.Condition, anyio=anyio.Condition)
        add(name, woken_by(waking_on_trio, CONDVAR | peers, waiters), "trio", trio_Condition=1.1)
    name = f"Notify{{}}: rounds of {PARTIES}"
    add(name, woken_by(waking_on_trio, NOTIFY | TRIO_EVENT | ANYIO_EVENT, PARTIES), "trio", trio_Event=1.1)
    cases = meet(meeting_on_trio, asynclocks_Barrier=ours, trio_Event=EventBarrier)
    add(f"Barrier{{}}: rounds of {PARTIES}", cases, "trio", trio_Event=1.1)
    return found


WORKLOADS = workloads()
