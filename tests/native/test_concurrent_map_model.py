"""ConcurrentMap against two models: dict for what does not wait, a sequential one for guards and flights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from asynclocks import ConcurrentMap, KeyLockedError
from tests.conformance.test_concurrent_map import assert_idle

KEYS = st.sampled_from("abc")
VALUES = st.integers(0, 5)


def outcome(call: Callable[[], Any]) -> Any:
    """What it returns, or the type of what it raises."""
    try:
        return call()
    except (KeyError, KeyLockedError) as error:
        return type(error)


class AgainstDict(RuleBasedStateMachine):
    """Synchronous operations with some keys held: they do what dict's do, or refuse and change nothing."""

    guards = Bundle("guards")

    def __init__(self) -> None:
        super().__init__()
        self.map: ConcurrentMap[str, int] = ConcurrentMap()
        self.dict: dict[str, int] = {}
        self.held: dict[str, list[Any]] = {}

    def same(self, key: str, call: Callable[[Any], Any], *, writes: bool = True) -> None:
        if writes and self.held.get(key):
            assert outcome(lambda: call(self.map)) is KeyLockedError
        else:
            assert outcome(lambda: call(self.map)) == outcome(lambda: call(self.dict))

    def all_or_nothing(self, new: dict[str, int], call: Callable[[], object]) -> None:
        """`call` turns the map into `new`, unless it would change a held key."""
        changed = {key for key in new.keys() | self.dict.keys() if new.get(key) is not self.dict.get(key)}
        if any(self.held.get(key) for key in changed):
            assert outcome(call) is KeyLockedError
        else:
            call()
            self.dict = new

    @rule(key=KEYS, value=VALUES)
    def set(self, key: str, value: int) -> None:
        self.same(key, lambda m: m.__setitem__(key, value))

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.same(key, lambda m: m.__delitem__(key))

    @rule(key=KEYS)
    def pop(self, key: str) -> None:
        self.same(key, lambda m: m.pop(key, None))

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key: str, value: int) -> None:
        self.same(key, lambda m: m.setdefault(key, value), writes=key not in self.dict)

    @rule(key=KEYS, value=VALUES)
    def alter(self, key: str, value: int) -> None:
        if self.held.get(key) or key in self.dict:
            self.same(
                key, lambda m: m.alter(key, lambda old: old + value) if m is self.map else self._alter(key, value)
            )

    def _alter(self, key: str, value: int) -> int:
        self.dict[key] += value
        return self.dict[key]

    @rule()
    def popitem(self) -> None:
        free = [key for key in self.dict if not self.held.get(key)]
        if free:
            assert self.map.popitem() == (free[-1], self.dict.pop(free[-1]))
        else:
            assert outcome(self.map.popitem) is (KeyLockedError if self.dict else KeyError)

    @rule(new=st.dictionaries(KEYS, VALUES))
    def update(self, new: dict[str, int]) -> None:
        self.all_or_nothing(self.dict | new, lambda: self.map.update(new))

    @rule()
    def clear(self) -> None:
        self.all_or_nothing({}, self.map.clear)

    @rule(most=VALUES)
    def retain(self, most: int) -> None:
        kept = {key: value for key, value in self.dict.items() if value <= most}
        self.all_or_nothing(kept, lambda: self.map.retain(lambda _, value: value <= most))

    @rule(most=VALUES)
    def alter_all(self, most: int) -> None:
        new = {key: min(value, most) for key, value in self.dict.items()}
        self.all_or_nothing(new, lambda: self.map.alter_all(lambda _, value: min(value, most)))

    @rule(target=guards, key=KEYS)
    def try_entry(self, key: str) -> Any:
        if self.held.get(key):
            assert outcome(lambda: self.map.try_entry(key)) is KeyLockedError
            return None
        entry = self.map.try_entry(key)
        self.held[key] = [entry]
        return entry

    @rule(target=guards, key=KEYS)
    def try_ref(self, key: str) -> Any:
        holders = self.held.setdefault(key, [])
        if holders and hasattr(holders[0], "insert"):
            assert outcome(lambda: self.map.try_ref(key)) is KeyLockedError
            return None
        if key not in self.dict:
            assert outcome(lambda: self.map.try_ref(key)) is KeyError
            return None
        ref = self.map.try_ref(key)
        assert ref.value == self.dict[key]
        holders.append(ref)
        return ref

    @rule(
        guard=consumes(guards), value=st.one_of(st.none(), VALUES), end=st.sampled_from(["release", "block", "raise"])
    )
    def end(self, guard: Any, value: int | None, end: str) -> None:
        if guard is None:
            return
        if hasattr(guard, "insert"):
            assert guard.get() == self.dict.get(guard.key)
            guard.remove() if value is None else guard.insert(value)
            assert guard.get() == value
            if end != "raise" and value is None:
                self.dict.pop(guard.key, None)
            elif end != "raise":
                self.dict[guard.key] = value  # type: ignore[assignment]
        self.held[guard.key].remove(guard)
        if end == "release":
            guard.release()
        elif end == "block":
            guard.__exit__(None, None, None)
        else:
            guard.__exit__(ValueError, ValueError(), None)

    @invariant()
    def agrees(self) -> None:
        assert self.map.snapshot() == self.dict
        assert list(self.map.items()) == list(self.dict.items())
        assert len(self.map) == len(self.dict)
        assert self.map.statistics().locked_keys == sum(map(bool, self.held.values()))
        for key in "abc":
            assert self.map.get(key) == self.dict.get(key)
            assert (key in self.map) == (key in self.dict)

    def teardown(self) -> None:
        for holders in self.held.values():
            for guard in holders:
                guard.release()
        assert_idle(self.map)


@attrs.define(eq=False)
class Actor:
    """A task of the test: what it asks, and what became of it, by the model and really."""

    what: str
    end: asyncio.Future[Any]
    expected: Any = "waits"
    state: Any = "waits"
    task: asyncio.Task[None] | None = None


@attrs.define(eq=False)
class Request:
    """One request in a key's line; a flight's has all its callers, its leader first."""

    kind: str
    actors: list[Actor]


@attrs.define
class Line:
    holders: list[Request] = attrs.field(factory=list)
    queue: list[Request] = attrs.field(factory=list)


class GuardsAndFlights(RuleBasedStateMachine):
    """Tasks that ask for keys in every way, end in every way, and are cancelled at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.map: ConcurrentMap[str, int] = ConcurrentMap()
        self.values: dict[str, int] = {}
        self.lines = {key: Line() for key in "ab"}
        self.actors: list[tuple[str, Actor]] = []

    # The real thing.
    async def _entry(self, key: str, actor: Actor) -> None:
        async with self.map.entry(key) as entry:
            actor.state = "holds"
            entry.insert(-1)  # nobody sees it, and nothing is left of it
            value = await actor.end
            entry.remove() if value is None else entry.insert(value)
        actor.state = "done"

    async def _ref(self, key: str, actor: Actor) -> None:
        async with self.map.ref(key) as ref:
            actor.state = "holds"
            await actor.end
            assert ref.value == self.map[key]
        actor.state = "done"

    async def _flight(self, key: str, actor: Actor) -> None:
        async def init() -> int:
            actor.state = "holds"
            value: int = await actor.end
            return value

        actor.state = await self.map.get_or_insert_with(key, init)

    async def _run(self, kind: str, key: str, actor: Actor) -> None:
        try:
            await getattr(self, f"_{kind}")(key, actor)
        except asyncio.CancelledError:
            actor.state = "cancelled"
        except (KeyError, ValueError) as error:
            actor.state = type(error)

    def _settle(self) -> None:
        async def passes() -> None:
            for _ in range(12):
                await asyncio.sleep(0)

        self.loop.run_until_complete(passes())

    # The model.
    def _admits(self, line: Line, request: Request) -> bool:
        return not line.holders or (request.kind == "ref" and line.holders[0].kind == "ref")

    def _serve(self, key: str) -> None:
        line = self.lines[key]
        while line.queue and self._admits(line, line.queue[0]):
            request = line.queue.pop(0)
            if request.kind == "ref" and key not in self.values:
                request.actors[0].expected = KeyError
            else:
                line.holders.append(request)
                request.actors[0].expected = "holds"

    def _tell(self, request: Request, what: Any) -> None:
        for actor in request.actors:
            actor.expected = what

    def _write(self, key: str, value: int | None) -> None:
        """An entry commits: a flight that waits has its value."""
        if value is None:
            self.values.pop(key, None)
            return
        self.values[key] = value
        line = self.lines[key]
        for request in [request for request in line.queue if request.kind == "flight"]:
            line.queue.remove(request)
            self._tell(request, value)

    def _find(self, key: str, actor: Actor) -> tuple[list[Request], Request]:
        line = self.lines[key]
        for requests in (line.holders, line.queue):
            for request in requests:
                if actor in request.actors:
                    return requests, request
        raise AssertionError

    # What happens.
    @rule(kind=st.sampled_from(["entry", "entry", "ref", "flight"]), key=st.sampled_from("aaab"))  # a crowd at one
    def ask(self, kind: str, key: str) -> None:
        line = self.lines[key]
        actor = Actor(kind, self.loop.create_future())
        flights = [request for request in line.holders + line.queue if request.kind == "flight"]
        if kind == "flight" and key in self.values:
            actor.expected = self.values[key]
        elif kind == "flight" and flights:
            flights[0].actors.append(actor)
        else:
            line.queue.append(Request(kind, [actor]))
            self._serve(key)
        self.actors.append((key, actor))
        actor.task = self.loop.create_task(self._run(kind, key, actor))
        self._settle()

    @precondition(lambda self: any(actor.expected == "holds" for _, actor in self.actors))
    @rule(data=st.data(), value=st.one_of(st.none(), VALUES), fails=st.booleans())
    def end(self, data: Any, value: int | None, fails: bool) -> None:
        key, actor = data.draw(st.sampled_from([pair for pair in self.actors if pair[1].expected == "holds"]))
        requests, request = self._find(key, actor)
        requests.remove(request)
        if fails:
            actor.end.set_exception(ValueError())
            self._tell(request, ValueError)
        else:
            actor.end.set_result(value if actor.what == "entry" else value or 0)
            if actor.what == "flight":
                self.values[key] = value or 0
                self._tell(request, value or 0)
            else:
                actor.expected = "done"
                if actor.what == "entry":
                    self._write(key, value)
        self._serve(key)
        self._settle()

    @precondition(lambda self: any(actor.expected in ("holds", "waits") for _, actor in self.actors))
    @rule(data=st.data(), together=st.booleans())
    def cancel(self, data: Any, together: bool) -> None:
        """One, or two in the same tick: what the first gives back may be what the second is just granted."""
        for _ in range(1 + together):
            alive = [pair for pair in self.actors if pair[1].expected in ("holds", "waits")]
            if not alive:
                break
            key, actor = data.draw(st.sampled_from(alive))
            assert actor.task is not None
            actor.task.cancel()
            requests, request = self._find(key, actor)
            held = actor.expected == "holds"
            request.actors.remove(actor)
            actor.expected = "cancelled"
            if not request.actors:
                requests.remove(request)
            elif held:
                request.actors[0].expected = "holds"
            self._serve(key)
        self._settle()

    @rule(key=st.sampled_from("ab"), value=VALUES)
    def write(self, key: str, value: int) -> None:
        if self.lines[key].holders:
            assert outcome(lambda: self.map.insert(key, value)) is KeyLockedError
        else:
            assert self.map.insert(key, value) == self.values.get(key)
            self.values[key] = value

    @rule(key=st.sampled_from("ab"))
    def remove(self, key: str) -> None:
        if self.lines[key].holders:
            assert outcome(lambda: self.map.remove(key, None)) is KeyLockedError
        else:
            assert self.map.remove(key, None) == self.values.pop(key, None)

    @invariant()
    def agrees(self) -> None:
        assert [(actor.what, actor.state) for _, actor in self.actors] == [
            (actor.what, actor.expected) for _, actor in self.actors
        ]
        assert self.map == self.values
        statistics = self.map.statistics()
        assert statistics.locked_keys == sum(bool(line.holders) for line in self.lines.values())
        assert statistics.waiting == sum(actor.expected == "waits" for _, actor in self.actors)
        if not any(line.holders for line in self.lines.values()):
            assert_idle(self.map)
        self.actors = [pair for pair in self.actors if pair[1].expected in ("holds", "waits")]

    def teardown(self) -> None:
        for _, actor in self.actors:
            assert actor.task is not None
            actor.task.cancel()
        self._settle()
        self.loop.close()
        assert_idle(self.map)


SOME = settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(SOME, max_examples=2000, stateful_step_count=60)

TestAgainstDict = AgainstDict.TestCase
TestAgainstDict.settings = SOME
TestGuardsAndFlights = GuardsAndFlights.TestCase
TestGuardsAndFlights.settings = SOME


@pytest.mark.slow
class TestAgainstDictLong(AgainstDict.TestCase):  # type: ignore[misc]
    settings = MANY


@pytest.mark.slow
class TestGuardsAndFlightsLong(GuardsAndFlights.TestCase):  # type: ignore[misc]
    settings = MANY
