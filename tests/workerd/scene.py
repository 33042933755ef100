"""Requests of the app, by name: who takes, who waits, and how it ends for each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import attrs

from tests.workerd.bed import Bed, Call

LOCKS = ["mutex", "rwlock", "semaphore"]  # one at a time
FLIGHTS = ["once", "map"]  # one run for all

OK = "in its own context"


@attrs.frozen
class Ending:
    """How a request ended."""

    how: str  # OK, "hung", "wrong context", "cancelled", or what else it says
    answer: dict[str, Any] | None


class Scene:
    """An empty stage in a running Worker."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.clear()

    def clear(self) -> None:
        self.bed.request("/reset")
        self.calls: dict[str, Call] = {}

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.bed.request("/state").json()
        return state

    def start(self, name: str, path: str = "/take", **query: object) -> Call:
        """Send a request; its body is its name."""
        self.calls[name] = call = self.bed.start(f"{path}?{urlencode({'name': name, **query})}", name.encode())
        return call

    def hold(self, name: str, path: str = "/take", **query: object) -> Call:
        """Send one and wait until it has what it takes."""
        call = self.start(name, path, **query)
        self.bed.wait_until(lambda: f"{name} took" in self.state()["log"], f"{name} takes it")
        return call

    def wait(self, name: str, path: str = "/take", *, what: str, **query: object) -> Call:
        """Send one and wait until it waits (or is gone)."""
        before = self.waiting(what)
        call = self.start(name, path, what=what, **query)
        self.bed.wait_until(lambda: call.done or self.waiting(what) > before, f"{name} waits")
        return call

    def waiting(self, what: str) -> int:
        waiting: int = self.state()["waiting"][what]
        return waiting

    def open_gate(self) -> None:
        """Who holds from now on, and who was held up at the gate so far, holds for as long as they said."""
        self.bed.request("/open")

    def ending(self, name: str) -> Ending:
        answer = self.calls[name].answer()
        if answer.status == 200:
            found = answer.json()
            return Ending(OK if found["body"] == name else "wrong body", found)
        for how in ("hung", "different request", "aborted"):
            if how in answer.text:
                return Ending({"different request": "wrong context", "aborted": "cancelled"}.get(how, how), None)
        return Ending(answer.text, None)

    def endings(self, names: str) -> list[str]:
        return [self.ending(name).how for name in names]

    def took(self) -> list[str]:
        """Who took it, in order."""
        return [line.removesuffix(" took") for line in self.state()["log"] if line.endswith(" took")]

    def is_free(self, what: str) -> bool:
        """Can a newcomer take it within a second?"""
        self.start("newcomer", what=what, keep=1)
        return self.ending("newcomer").how == OK


# The scenarios. Each takes what to contend for, and for how long who waits keeps its own request going, if it must.
# Who holds stands at the gate until everybody waits: on a busy machine that may take long.
def plain(scene: Scene, what: str, keep: float = 0) -> None:
    scene.hold("A", what=what, hold=0.1, gate="closed")
    scene.wait("B", what=what)
    scene.open_gate()


def holder_returns_at_once(scene: Scene, what: str, keep: float = 0) -> None:
    scene.hold("A", what=what, hold=0.1, gate="closed")
    scene.wait("B", what=what, keep=keep)
    scene.open_gate()


def holder_lingers(scene: Scene, what: str, keep: float = 0) -> None:
    scene.hold("A", what=what, hold=0.1, gate="closed", linger=0.1)
    scene.wait("B", what=what, keep=keep)
    scene.open_gate()


def waiter_is_cancelled(scene: Scene, what: str, keep: float = 0) -> None:
    scene.hold("A", what=what, hold=0.1, gate="closed")
    waiter = scene.wait("X", what=what, keep=keep)
    scene.wait("B", what=what, keep=keep)
    waiter.cancel()
    scene.open_gate()


def holder_is_cancelled(scene: Scene, what: str, keep: float = 0) -> None:
    holder = scene.hold("X", what=what, hold=0.1, gate="closed")
    scene.wait("B", what=what, keep=keep)
    holder.cancel()
    scene.open_gate()


def holder_outlives_its_response(scene: Scene, what: str, keep: float = 0) -> None:
    scene.hold("X", "/background", what=what, hold=0.1, gate="closed").answer()
    scene.wait("B", what=what, keep=keep)
    scene.open_gate()


def three_of_ten_die(scene: Scene, what: str, keep: float = 0, seed: int = 0) -> set[str]:
    """The names of those that are cancelled: the holder, and others at random, at random times."""
    chance = random.Random(seed)
    names = "ABCDEFGHIJ"
    scene.hold("A", what=what, hold=0.02, gate="closed")
    for name in names[1:]:
        scene.wait(name, what=what, hold=0.02, keep=keep)
    scene.open_gate()
    dying = {*chance.sample(names, 3)}
    for name in chance.sample(sorted(dying), 3):
        time.sleep(chance.random() / 10)
        scene.calls[name].cancel()
    return dying


SCENARIOS: list[Callable[..., Any]] = [
    plain,
    holder_returns_at_once,
    holder_lingers,
    waiter_is_cancelled,
    holder_is_cancelled,
    holder_outlives_its_response,
]
