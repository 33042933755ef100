"""The races of a hold on a map's key that stands in the table itself: somebody comes to the key in the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from asynclocks import ConcurrentMap, DeadlockError, GuardReleasedError, KeyLockedError, UnsupportedLoopError
from asynclocks._engine.ticket import GRANTED, RELEASED
from asynclocks.concurrent_map.flights import Flight, LoneFlight
from asynclocks.concurrent_map.keys import KeyLock
from asynclocks.concurrent_map.lock import LockedDict
from tests.conformance.test_concurrent_map import Key, assert_idle
from tests.native.striking import Struck, strike_once
from tests.native.threaded import WAIT, elsewhere
from tests.support import collect

Map = ConcurrentMap[Any, int]
KINDS = pytest.mark.parametrize("take", [ConcurrentMap.try_entry, ConcurrentMap.try_ref], ids=["entry", "ref"])
pure = pytest.mark.pure("it looks into the map's lock, which is nowhere in C; once is enough")


class Token(list[None]):
    """The token of a map's lock, before whose taking something happens, once."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__([None])
        self._happens: Callable[[], object] | None = happens

    def __delitem__(self, index: Any) -> None:
        happens, self._happens = self._happens, None
        if happens is not None and happens() is TAKEN:
            raise IndexError
        super().__delitem__(index)


TAKEN = object()


def come(m: Map, key: Any = "a") -> None:
    """Ask for the key in vain: now it has a line."""

    def ask() -> None:
        with pytest.raises(KeyLockedError):
            m.try_entry(key)

    elsewhere(ask)
    assert isinstance(m._held[key], KeyLock)


def meanwhile(m: Map, happens: Callable[[], object]) -> None:
    """Let this happen right before somebody tries to take the lock the next time."""
    m._token = Token(happens)


def inside(m: Map, call: Callable[[], object]) -> None:
    """Call it in another thread while this one is inside the lock."""
    called: list[object] = []

    def during() -> None:
        if not called:
            called.append(None)
            elsewhere(call)

    m[Key("key", during)] = 0
    m[Key("other")] = 0
    assert called


@pytest.fixture
def m() -> Map:
    return ConcurrentMap({"a": 1})


async def entered(block: Any) -> Any:
    return await block.__aenter__()


def in_block(block: Any) -> Any:
    """The guard of a block that was entered by a task that is gone."""
    return asyncio.run(entered(block))


@KINDS
def test_a_hold_gets_a_line_in_the_moment_of_its_release(m: Map, take: Any) -> None:
    guard = take(m, "a")
    meanwhile(m, lambda: come(m))
    guard.release()
    assert_idle(m)
    with pytest.raises(GuardReleasedError):
        guard.release()


@pytest.mark.parametrize("ask", [ConcurrentMap.entry, ConcurrentMap.ref], ids=["entry", "ref"])
def test_a_block_gets_a_line_in_the_moment_of_its_release(m: Map, ask: Any) -> None:
    guard = in_block(ask(m, "a"))
    meanwhile(m, lambda: come(m))
    guard.release()
    assert_idle(m)
    with pytest.raises(GuardReleasedError):
        guard.release()


def test_a_ref_lets_go_though_somebody_who_is_inside_the_lock_gives_it_a_line(m: Map) -> None:
    """It waits for nobody, and is out of the line when that one has left."""
    ref = m.try_ref("a")

    def comes_and_is_inside() -> object:
        come(m)
        return TAKEN

    meanwhile(m, comes_and_is_inside)
    ref.release()
    assert ref.released
    assert_idle(m)


@pytest.mark.parametrize("ref", [lambda m: m.try_ref("a"), lambda m: in_block(m.ref("a"))], ids=["loose", "block"])
def test_a_ref_lets_go_at_once_while_another_thread_is_inside_the_lock(m: Map, ref: Any) -> None:
    ref = ref(m)
    inside(m, ref.release)
    assert ref.released
    assert_idle(m)


@pytest.mark.parametrize(
    "guard",
    [
        lambda m: m.try_ref("a"),
        lambda m: m.try_entry("a"),
        lambda m: in_block(m.ref("a")),
        lambda m: in_block(m.entry("a")),
    ],
    ids=["ref", "entry", "ref block", "entry block"],
)
def test_of_two_threads_that_release_a_guard_in_one_moment_one_does(m: Map, guard: Any) -> None:
    """What is held beside it stays held."""
    guard = guard(m)
    with m.try_entry("b"):
        meanwhile(m, lambda: elsewhere(guard.release))
        with pytest.raises(GuardReleasedError):
            guard.release()
        assert [*m._held] == ["b"]
    assert_idle(m)


def test_a_guard_that_others_came_to_is_released_once(m: Map) -> None:
    """The second time it says so."""
    ref, other = m.try_ref("a"), m.try_ref("a")
    ref.release()
    with pytest.raises(GuardReleasedError):
        ref.release()
    other.release()
    assert_idle(m)


def test_two_threads_that_release_a_ref_while_another_is_inside_the_lock_free_it_once(m: Map) -> None:
    ref = m.try_ref("a")
    outcome: list[object] = []

    def release() -> None:
        ref.release()
        with suppress(GuardReleasedError):
            ref.release()
            outcome.append("twice")

    inside(m, release)
    assert not outcome
    assert_idle(m)


def test_who_finds_somebody_inside_the_lock_takes_a_key_by_its_line(m: Map) -> None:
    taken: list[Any] = []
    meanwhile(m, lambda: TAKEN)
    taken.append(m.try_entry("a"))
    assert isinstance(m._held["a"], KeyLock)
    taken.pop().release()
    assert_idle(m)


def test_a_block_waits_for_whoever_is_inside_the_lock(m: Map) -> None:
    async def main() -> None:
        async with m.entry("a") as entry:
            entry.value += 1

    meanwhile(m, lambda: TAKEN)
    asyncio.run(main())
    assert m["a"] == 2
    assert_idle(m)


@pytest.mark.filterwarnings("ignore:.*dropped unreleased:ResourceWarning")
@KINDS
@pytest.mark.parametrize("met", [False, True], ids=["alone", "met"])
def test_a_guard_that_is_dropped_lets_go(m: Map, take: Any, met: bool) -> None:
    guard = take(m, "a")
    if met:
        come(m)
    del guard
    collect()
    assert_idle(m)


@pytest.mark.parametrize("fails", [False, True], ids=["made", "failed"])
def test_somebody_comes_to_the_key_of_an_init(m: Map, fails: bool) -> None:
    """Who asks for its value has the outcome; who wants the key itself has it afterwards."""
    runs: list[int] = []

    async def make() -> int:
        runs.append(1)
        come(m, "b")
        await asyncio.sleep(0.05)
        if fails:
            raise ValueError("init")
        return 2

    async def write() -> None:
        async with m.entry("b") as entry:
            entry.value = entry.get(0) + 1

    async def main() -> list[Any]:
        asking = [asyncio.create_task(m.get_or_insert_with("b", make)) for _ in range(3)]
        await asyncio.sleep(0)
        writing = asyncio.create_task(write())
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        await writing
        return outcomes

    outcomes = asyncio.run(main())
    assert runs == [1]
    assert [type(outcome) if fails else outcome for outcome in outcomes] == [ValueError if fails else 2] * 3
    assert m["b"] == (1 if fails else 3)
    assert_idle(m)


def test_an_init_whose_task_is_cancelled_is_followed_by_that_of_who_came(m: Map) -> None:
    async def never() -> int:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> int:
        first = asyncio.create_task(m.get_or_insert_with("b", never))
        await asyncio.sleep(0)
        second = asyncio.create_task(m.get_or_insert_with("b", lambda: 2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(main()) == 2
    assert_idle(m)


@pytest.mark.parametrize("met", [False, True], ids=["alone", "met"])
def test_an_init_that_fails_while_another_thread_is_inside_the_lock_lets_go_of_its_key(m: Map, met: bool) -> None:
    def init() -> int:
        def comes_and_is_inside() -> object:
            if met:
                come(m, "b")
            return TAKEN

        meanwhile(m, comes_and_is_inside)
        raise ValueError("init")

    with pytest.raises(ValueError, match="init"):
        m.blocking_get_or_insert_with("b", init)
    assert_idle(m)


def test_a_value_that_comes_in_between_is_told_to_whoever_comes_in_between_as_well() -> None:
    """The init does not run."""

    class Late(ConcurrentMap[Any, int]):
        def _stand_alone(self, hold: Any) -> bool:
            if not isinstance(hold, LoneFlight):
                return super()._stand_alone(hold)
            self[hold.key] = 2
            alone = super()._stand_alone(hold)
            come(self, hold.key)
            return alone

    late = Late()
    assert late.blocking_get_or_insert_with("b", lambda: 3) == 2
    assert_idle(late)


@pytest.mark.parametrize("ref", [lambda m: m.try_ref("a"), lambda m: in_block(m.ref("a"))], ids=["loose", "block"])
def test_a_ref_that_lets_go_clears_away_what_was_left_to_whoever_is_inside(m: Map, ref: Any) -> None:
    ref = ref(m)
    meanwhile(m, lambda: m._deferred.append(KeyLock(m, "b")))
    ref.release()
    assert_idle(m)


def test_a_ref_with_a_line_is_released_in_the_middle_of_the_map_s_own_work(m: Map) -> None:
    ref = m.try_ref("a")
    come(m)

    def during() -> None:
        if not ref.released:
            ref.release()

    m[Key("key", during)] = 0
    m[Key("other")] = 0
    assert ref.released
    assert_idle(m)


@pytest.mark.parametrize("fails", [False, True], ids=["made", "failed"])
def test_an_init_without_time_runs_by_a_flight_if_somebody_is_inside_the_lock(m: Map, fails: bool) -> None:
    def init() -> int:
        if fails:
            raise ValueError("init")
        return 2

    meanwhile(m, lambda: TAKEN)
    if fails:
        with pytest.raises(ValueError, match="init"):
            m.blocking_get_or_insert_with("b", init, 0)
    else:
        assert m.blocking_get_or_insert_with("b", init, 0) == 2
    assert_idle(m)


# Wherever it is awaited.
@pytest.mark.parametrize("ask", [ConcurrentMap.entry, ConcurrentMap.ref], ids=["entry", "ref"])
def test_what_asks_for_a_key_is_run_by_a_task_of_its_own(m: Map, ask: Any) -> None:
    async def main() -> None:
        (await asyncio.create_task(ask(m, "a"))).release()
        with m.try_entry("a"):
            waiting = asyncio.create_task(ask(m, "a"))
            await asyncio.sleep(0)
        (await waiting).release()

    asyncio.run(main())
    assert_idle(m)


def test_a_callback_takes_a_key_that_is_free(m: Map) -> None:
    """In no task: nobody is its owner."""
    taken: list[Any] = []

    def callback() -> None:
        with pytest.raises(StopIteration) as ended:
            next(m.ref("a").__await__())
        taken.append(ended.value.value)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0)

    asyncio.run(main())
    taken.pop().release()
    assert_idle(m)


def test_a_key_cannot_be_awaited_where_no_loop_runs(m: Map) -> None:
    with pytest.raises(UnsupportedLoopError):
        next(m.ref("a").__await__())
    assert_idle(m)


# Struck by a signal's exception.
@pure
@pytest.mark.parametrize("call", ["_crash", "_end_alone"])
def test_an_init_that_fails_lets_go_of_its_key_though_it_is_struck(
    m: Map, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> int:
        strike_once(monkeypatch, ConcurrentMap, call, "begins")
        raise ValueError("init")

    with pytest.raises(Struck):
        m.blocking_get_or_insert_with("b", init)
    m.blocking_entry("b", WAIT).release()
    assert_idle(m)


@pure
def test_an_entry_that_is_struck_as_it_ends_is_rolled_back(m: Map, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = m.try_entry("a")
    entry.value = 2
    strike_once(monkeypatch, LockedDict, "_inside", "begins")
    with pytest.raises(Struck):
        entry.release()
    assert_idle(m)
    assert m["a"] == 1


@pure
def test_a_ref_that_is_struck_as_it_leaves_the_rest_to_others_leaves_it_to_them(
    m: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = m.try_ref("a")

    def is_inside() -> object:
        strike_once(monkeypatch, LockedDict, "_clean_up", "begins")
        return TAKEN

    meanwhile(m, is_inside)
    with pytest.raises(Struck):
        ref.release()
    assert_idle(m)


@pure
def test_an_init_that_is_struck_as_it_joins_the_line_of_a_key_leaves_it(
    m: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = m.try_entry("b")
    come(m, "b")

    def ask() -> None:
        strike_once(monkeypatch, KeyLock, "_stand_in_line", "begins")
        with pytest.raises(Struck):
            m.blocking_get_or_insert_with("b", int)

    elsewhere(ask)
    entry.release()
    m.blocking_entry("b", WAIT).release()
    assert_idle(m)


@pure
@pytest.mark.parametrize("call", ["_inside", "_catch_up"])
def test_a_block_that_is_struck_as_it_is_entered_holds_nothing(
    m: Map, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody is inside the lock, and where something is left to do on leaving it."""

    def happens() -> object:
        if call == "_catch_up":
            m._deferred.append(KeyLock(m, "b"))
        strike_once(monkeypatch, LockedDict, call, "begins")
        return TAKEN if call == "_inside" else None

    async def main() -> None:
        block = m.entry("a")
        meanwhile(m, happens)
        with pytest.raises(Struck):
            await block.__aenter__()

    asyncio.run(main())
    m.blocking_entry("a", WAIT).release()
    assert_idle(m)


@pytest.mark.parametrize("ask", [lambda m: m.ref("a"), lambda m: m.entry("a")], ids=["ref", "entry"])
async def test_a_block_whose_coroutine_is_closed_lets_go(m: Map, ask: Any) -> None:
    async def hold() -> None:
        async with ask(m):
            await asyncio.sleep(0)

    holding = hold()
    holding.send(None)
    assert [*m._held] == ["a"]
    holding.close()
    assert_idle(m)


class Failed(Exception):
    pass


@pure
@pytest.mark.parametrize(
    ("ask", "call", "fails"),
    [
        (ConcurrentMap.ref, "_finish", False),
        (ConcurrentMap.ref, "_finish", True),
        (ConcurrentMap.entry, "_roll_back", True),
    ],
    ids=["ref", "failed ref", "failed entry"],
)
def test_a_block_that_is_struck_as_it_ends_lets_go(
    m: Map, ask: Any, call: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with pytest.raises(Struck):
            async with ask(m, "a") as guard:
                strike_once(monkeypatch, type(guard), call, "begins")
                if fails:
                    raise Failed

    asyncio.run(main())
    assert_idle(m)


@pure
def test_an_entry_s_block_that_is_struck_as_it_waits_to_end_is_ended(m: Map, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is inside the lock."""

    async def main() -> None:
        with pytest.raises(Struck):
            async with m.entry("a") as entry:
                entry.value = 2
                strike_once(monkeypatch, type(entry), "_finish", "begins")
                meanwhile(m, lambda: TAKEN)

    asyncio.run(main())
    assert_idle(m)
    assert m["a"] == 2


@pure
def test_a_flight_of_a_key_that_somebody_came_to_is_over_when_its_leader_is_gone(m: Map) -> None:
    """Nobody asks for its value."""
    flights: list[Flight] = []

    def init() -> int:
        come(m, "b")
        line: Any = m._held["b"]
        flights.append(line.flight)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        m.blocking_get_or_insert_with("b", init)
    assert flights[0].over
    assert_idle(m)


@pure
@KINDS
def test_a_key_that_is_asked_as_another_is_taken_or_let_go_is_inside_the_lock(m: Map, take: Any) -> None:
    """So it can use the map."""
    m[Key("other")] = 0
    seen: list[bool] = []
    first = Key("first", lambda: seen.append(m._is_inside()))
    with m.try_entry(first):
        guard = take(m, Key("other"))
        assert set(seen) == {True}
        del seen[:]
        guard.release()
        assert set(seen) == {True}
    assert_idle(m)


@pure
@KINDS
def test_what_is_let_go_as_another_key_is_taken_is_cleared_away(m: Map, take: Any) -> None:
    """By who takes that one, for nobody else may come."""
    m[Key("other")] = 0
    refs = [m.try_ref("a")]

    def let_go() -> None:
        while refs:
            refs.pop().release()

    first = Key("first", let_go)
    with m.try_entry(first), take(m, Key("other")):
        assert refs == []
        assert m._deferred == []
        assert "a" not in m._held
    assert_idle(m)


@pure
def test_who_lets_go_while_another_thread_is_inside_the_lock_is_not_inside(
    m: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler that uses the map there has to wait."""
    ref = m.try_ref("a")
    seen: list[bool] = []
    clean_up = LockedDict._clean_up_surely

    def look(self: Any, item: Any) -> None:
        seen.append(self._is_inside())
        clean_up(self, item)

    monkeypatch.setattr(LockedDict, "_clean_up_surely", look)
    inside(m, ref.release)
    assert seen == [False]
    assert_idle(m)


def test_a_key_that_raises_as_another_is_let_go_keeps_nobody_from_it(m: Map) -> None:
    """That is no concern of who lets go."""

    def fail() -> None:
        raise ZeroDivisionError

    m[Key("other")] = 0
    first = Key("first")
    with m.try_entry(first):
        ref = m.try_ref(Key("other"))
        first.during = fail
        ref.release()
        assert ref.released
        first.during = lambda: None
    m.try_entry(Key("other")).release()
    assert_idle(m)


@pytest.mark.parametrize("ask", [ConcurrentMap.entry, ConcurrentMap.ref], ids=["entry", "ref"])
async def test_who_awaited_a_key_is_known_to_hold_it(m: Map, ask: Any) -> None:
    """It cannot wait for itself."""
    guard = await ask(m, "a")
    with pytest.raises(DeadlockError):
        await m.entry("a")
    guard.release()


@KINDS
def test_a_write_to_a_key_whose_guard_is_disowned_is_refused(m: Map, take: Any) -> None:
    """Nobody's name is told."""
    with take(m, "a").disown(), pytest.raises(KeyLockedError):
        m["a"] = 2
    assert_idle(m)


@pure
def test_a_line_that_is_held_again_before_it_is_cleared_away_stays(m: Map) -> None:
    """Nobody was left in it, and whoever was inside the lock was to clear it away when two more came."""
    with m.try_ref("a"), m.try_ref("a"):
        line = m._held["a"]
        assert isinstance(line, KeyLock)
        m._clean_up(line)
        assert m._held["a"] is line
        with pytest.raises(KeyLockedError):
            m.try_entry("a")
    assert_idle(m)


@pure
async def test_who_comes_with_a_line_of_its_own_too_late_waits_in_the_other_one(
    m: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads made one for the same key; that is no end of its time."""
    with m.try_ref("a"), m.try_ref("a"):
        late = KeyLock(m, "a")
        monkeypatch.setattr(ConcurrentMap, "_line_of", lambda *_: late)
        with await m.ref("a", timeout=1000):
            assert m.statistics().locked_keys == 1
    assert_idle(m)


# A: inside the map's lock, gives B's hold a line     B: lets go, which cannot wait for A
#                                                     takes the key again: nobody is in its way for long
@KINDS
def test_a_hold_that_lets_go_as_it_gets_a_line_is_no_part_of_a_deadlock(take: Callable[[Map, str], Any]) -> None:
    """Whoever comes to the key waits for what is being cleared away, perhaps its own."""
    m: Map = ConcurrentMap({"a": 1})

    async def main() -> None:
        guard = take(m, "a")
        hold: Any = m._held["a"]
        waiting = asyncio.ensure_future(m.entry("a"))
        await asyncio.sleep(0)
        line: Any = m._held["a"]
        assert [owner() for owner in line._owners()] == [asyncio.current_task()]
        hold.state = RELEASED
        assert line._owners() == []
        hold.state = GRANTED
        guard.release()
        (await waiting).release()

    asyncio.run(main())
    assert_idle(m)
