"""The interleavings of ConcurrentMap that only threads reach, one by one, with each thread held where it matters."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from asynclocks import ConcurrentMap, KeyLockedError, UnsupportedLoopError
from asynclocks.concurrent_map import lock, steps
from asynclocks.concurrent_map.flights import Flight
from asynclocks.concurrent_map.keys import EXCLUSIVE, GONE, KeyLock
from tests.conformance.test_concurrent_map import Key, assert_idle
from tests.native.programs import run
from tests.native.threaded import WAIT, elsewhere, wait_until
from tests.support import collect


class Stale(ConcurrentMap[str, int]):
    """What it looks up first is out of date, as if another thread had come in between."""

    def __init__(self, *items: Any) -> None:
        super().__init__(*items)
        self.stale_lines: list[KeyLock] = []
        self.stale_flights: list[Flight] = []

    def _line_of(self, key: str) -> KeyLock:
        return self.stale_lines.pop() if self.stale_lines else super()._line_of(key)

    def _flight_to(self, key: str) -> Flight:
        return self.stale_flights.pop() if self.stale_flights else super()._flight_to(key)

    def _stand_alone(self, hold: Any) -> bool:
        return not self.stale_flights and super()._stand_alone(hold)


@pytest.fixture
def m() -> Stale:
    return Stale({"a": 1})


def test_whoever_joins_a_line_that_is_not_the_keys_is_sent_there(m: Stale) -> None:
    """Both made one for a free key; the first to join is the line."""
    with m.try_ref("a"):
        for take in (m.try_ref, lambda key: asyncio.run(_taken(m.ref(key)))):
            m.stale_lines.append(KeyLock(m, "a"))
            take("a").release()
        for refused, error in ((m.try_entry, KeyLockedError), (lambda key: m.blocking_entry(key, 0), TimeoutError)):
            m.stale_lines.append(KeyLock(m, "a"))
            with pytest.raises(error):
                refused("a")
        assert not m.stale_lines
    assert_idle(m)


def test_a_blocking_entry_that_joins_the_wrong_line_is_sent_on(m: Stale) -> None:
    ref = m.try_ref("a")
    m.stale_lines.append(KeyLock(m, "a"))
    timer = threading.Timer(0.01, ref.release)
    timer.start()
    with m.blocking_entry("a", WAIT) as entry:
        entry.value = 2
    timer.join()
    assert m["a"] == 2
    assert_idle(m)


def test_who_waits_in_a_line_that_is_not_the_keys_is_sent_on(m: Stale) -> None:
    """The key was held when it was asked for; the line that it found then is not the key's any more."""

    async def main() -> None:
        with m.try_entry("a"):
            with pytest.raises(KeyLockedError):
                m.try_ref("a")  # now the key has a line
            m.stale_lines.append(KeyLock(m, "a"))
            waiting = asyncio.ensure_future(_taken(m.ref("a")))
            await asyncio.sleep(0)
            assert not m.stale_lines
            assert not waiting.done()
        (await waiting).release()

    asyncio.run(main())
    assert_idle(m)


async def _taken(acquisition: Any) -> Any:
    return await acquisition


def test_whoever_joins_a_flight_that_is_not_the_keys_is_sent_there(m: Stale) -> None:
    """Both made one; or the key's line that it found is not the key's any more."""

    async def main() -> None:
        async def make() -> int:
            await asyncio.sleep(0.01)
            return 2

        async def never() -> int:
            raise AssertionError

        first = asyncio.create_task(m.get_or_insert_with("b", make))
        await asyncio.sleep(0)
        with pytest.raises(KeyLockedError):
            m.try_entry("b")  # now the key has a line
        m.stale_flights.append(Flight(m, "b"))
        m.stale_lines.append(KeyLock(m, "b"))
        assert await m.get_or_insert_with("b", never) == 2
        assert await first == 2

    asyncio.run(main())
    assert_idle(m)


def test_whoever_joins_a_flight_that_is_over_looks_again(m: Stale) -> None:
    async def fail() -> int:
        raise ValueError("init")

    async def main() -> None:
        flight = m._flight_to("b")
        m.stale_flights.append(flight)
        with pytest.raises(ValueError, match="init"):
            await m.get_or_insert_with("b", fail)
        assert repr(flight).startswith("<the init of key 'b' of Stale at")
        assert repr(flight).endswith("over, 0 waiting>")
        m.stale_flights.append(flight)
        assert await m.get_or_insert_with("b", lambda: 2) == 2

    asyncio.run(main())
    m.stale_flights.append(Flight(m, "c"))
    m.stale_flights[0].over = True
    assert m.blocking_get_or_insert_with("c", lambda: 3, 0) == 3
    assert_idle(m)


def test_a_caller_that_misses_a_value_by_a_hair_finds_it_before_it_runs_its_init() -> None:
    """It was inserted after the look and before the flight."""

    def never() -> int:
        raise AssertionError

    class Late(Stale):
        def _stand_alone(self, hold: Any) -> bool:
            self[hold.key] = 2
            return super()._stand_alone(hold)

    class LateInAFlight(Late):
        def _stand_alone(self, hold: Any) -> bool:
            self[hold.key] = 2
            return False

    for late in (Late(), LateInAFlight()):
        assert late.blocking_get_or_insert_with("a", never) == 2
        assert asyncio.run(late.get_or_insert_with("b", never)) == 2
        assert_idle(late)


def test_a_caller_without_time_leaves_a_flight_to_the_others(m: Stale) -> None:
    def make() -> int:
        elsewhere(too_late)
        return 2

    def too_late() -> None:
        with pytest.raises(TimeoutError):
            m.blocking_get_or_insert_with("b", make, 0)

    assert m.blocking_get_or_insert_with("b", make) == 2
    assert_idle(m)


def test_what_is_given_back_while_another_thread_is_inside_the_lock_is_cleared_away_by_that_one() -> None:
    """The one that gives back need not wait: perhaps it is a finalizer."""
    m: ConcurrentMap[Any, int] = ConcurrentMap({"a": 1})
    key = Key("key")
    m[key] = 1
    writes: list[Callable[[], object]] = [
        lambda: m.__setitem__(Key("other"), 2),
        lambda: m.insert(Key("other"), 2),
    ]
    for write in writes:
        ref = m.try_ref("a")
        deferred: list[int] = []

        def let_go(ref: Any = ref, deferred: list[int] = deferred) -> None:
            if not ref.released:
                elsewhere(ref.release)
                deferred.append(len(m._deferred))

        key.during = let_go
        write()
        assert deferred == [1]
        assert_idle(m)


def test_what_is_given_back_while_a_block_is_inside_the_lock_is_cleared_away_by_that_one() -> None:
    m: ConcurrentMap[Any, int] = ConcurrentMap({"a": 1, "b": 1})
    key = Key("key")
    m[key] = 1

    async def main() -> None:
        refs = [m.try_ref("a"), m.try_ref("b")]
        with m.try_ref(key):
            key.during = lambda: refs and elsewhere(refs.pop().release)
            async with m.entry(Key("other")) as entry:
                assert len(refs) == 1
                key.during = lambda: None
                entry.value = 2
                key.during = lambda: refs and elsewhere(refs.pop().release)
            assert not refs
            key.during = lambda: None
        assert_idle(m)

    asyncio.run(main())


def test_blocks_are_destroyed_while_another_thread_is_inside_the_lock() -> None:
    """Of every kind, alone and awaited: they wait for nobody, and nothing of them is left."""
    m: ConcurrentMap[Any, int] = ConcurrentMap({"a": 1})
    key = Key("key")
    m[key] = 1

    async def block() -> None:
        async with m.entry("a") as entry:
            entry.value = 2
            await asyncio.Event().wait()

    async def awaited() -> None:
        with await m.entry("a") as entry:
            entry.value = 2
            await asyncio.Event().wait()

    async def main(function: Callable[[], Coroutine[Any, Any, None]], others: int) -> None:
        async def hold() -> None:
            async with m.entry("a"):
                pass

        coroutine = asyncio.get_running_loop().create_task(function()).get_coro()
        await asyncio.sleep(0)
        waiters = [asyncio.create_task(hold()) for _ in range(others)]
        await asyncio.sleep(0)
        destroyed: list[Any] = []

        def destroy() -> None:
            if not destroyed:
                destroyed.append(coroutine)
                elsewhere(coroutine.close)

        key.during = destroy
        m[Key("other")] = 2
        await asyncio.wait_for(asyncio.gather(*waiters), WAIT)
        assert m["a"] == 1
        assert_idle(m)

    for function in (block, awaited):
        for others in (0, 1):
            with asyncio.Runner() as runner:
                runner.get_loop().set_exception_handler(lambda *_: None)  # a task that is closed under asyncio's hands
                runner.run(main(function, others))


def test_an_entry_that_is_gone_and_not_yet_cleared_away_is_as_good_as_none() -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})

    async def main() -> None:
        for take in (lambda: m.try_entry("a").release(), lambda: m.insert("a", 2), lambda: m.alter_all(lambda *_: 3)):
            block: Any = m.entry("a")
            await block.__aenter__()
            block._staged = GONE
            take()
            await block.__aexit__(None, None, None)
            assert_idle(m)

    asyncio.run(main())


def test_a_block_left_early_and_destroyed_then_does_nothing() -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})

    async def block() -> None:
        async with m.entry("a") as entry:
            entry.value = 2
            entry.release()
            await asyncio.sleep(0)

    async def main() -> None:
        coroutine = block()
        coroutine.send(None)
        with m.try_entry("a"):
            coroutine.close()
            assert m.statistics().locked_keys == 1

    asyncio.run(main())
    assert m == {"a": 2}
    assert_idle(m)


def test_a_callback_that_drives_a_coroutine_by_hand_finds_what_is_there() -> None:
    """No task runs there."""
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})
    found: list[int] = []

    async def use() -> None:
        found.append(await m.get_or_insert_with("a", lambda: 2))
        found.append(await m.get_or_insert_with("b", lambda: 2))
        async with m.entry("b") as entry:
            found.append(entry.value)
        async with m.ref("b") as ref:
            found.append(ref.value)

    async def main() -> None:
        done = asyncio.Event()

        def drive() -> None:
            with pytest.raises(StopIteration):
                use().send(None)
            done.set()

        asyncio.get_running_loop().call_soon(drive)
        await asyncio.wait_for(done.wait(), WAIT)

    asyncio.run(main())
    assert found == [1, 2, 2, 2]
    assert_idle(m)


def test_a_ref_outside_a_loop_is_refused_though_its_key_is_free() -> None:
    """Also where it was asyncio's loop that ran last, and is over."""
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})

    async def take() -> None:
        async with m.ref("a"):
            pass

    asyncio.run(take())
    with pytest.raises(UnsupportedLoopError, match="no event loop runs"):
        take().send(None)
    assert_idle(m)


def test_the_flights_of_a_key_in_use_keep_neither_value_nor_failure() -> None:
    m: ConcurrentMap[str, Any] = ConcurrentMap()

    async def main() -> None:
        line = m._line_of("a")
        entered = asyncio.Event()

        async def make() -> list[int]:
            await entered.wait()
            return []

        async def behind() -> None:
            async with m.entry("a"):
                nonlocal line
                line = m._line_of("a")
                assert line.flight is not None
                assert line.flight.over
                assert line.flight._outcome is None

        flight = asyncio.create_task(m.get_or_insert_with("a", make))
        await asyncio.sleep(0)
        waiter = asyncio.create_task(behind())
        await asyncio.sleep(0)
        entered.set()
        await asyncio.gather(flight, waiter)

    asyncio.run(main())
    collect()
    assert_idle(m)


# --- the lock


def while_inside(m: ConcurrentMap[Any, Any], action: Callable[[], object]) -> None:
    """Have this thread inside the lock, and there do this."""
    left = [action]

    def once() -> None:
        while left:
            left.pop()()

    m[Key("in the way", once)] = 0
    m[Key("another")] = 0


WRITES: dict[str, Callable[[ConcurrentMap[Any, Any]], object]] = {
    "setitem": lambda m: m.__setitem__("a", 2),
    "insert": lambda m: m.insert("a", 2),
    "entry": lambda m: asyncio.run(set_in_a_block(m)),
}


async def set_in_a_block(m: ConcurrentMap[Any, Any]) -> None:
    async with m.entry("a") as entry:
        entry.value = 2


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_write_waits_for_whoever_is_inside_the_lock(write: Callable[[ConcurrentMap[Any, Any]], object]) -> None:
    """And who is inside comes in again meanwhile: it does not wait for itself."""
    m: ConcurrentMap[Any, Any] = ConcurrentMap({"a": 1})
    other = threading.Thread(target=write, args=(m,))

    def meet() -> None:
        other.start()
        wait_until(lambda: m._deferred)
        m["mine"] = 3
        assert len(m) >= 2
        assert m["a"] == 1
        assert other.is_alive()

    while_inside(m, meet)
    other.join(WAIT)
    assert (m["a"], m["mine"]) == (2, 3)
    assert_idle(m)


def test_a_block_waits_at_its_end_for_whoever_is_inside_the_lock() -> None:
    m: ConcurrentMap[Any, Any] = ConcurrentMap({"a": 1})
    entered, may_leave = threading.Event(), threading.Event()

    async def block() -> None:
        async with m.entry("a") as entry:
            entry.value = 2
            entered.set()
            assert may_leave.wait(WAIT)

    other = threading.Thread(target=lambda: asyncio.run(block()))
    other.start()
    assert entered.wait(WAIT)
    while_inside(m, lambda: (may_leave.set(), wait_until(lambda: m._deferred)))
    other.join(WAIT)
    assert m["a"] == 2
    assert_idle(m)


def test_who_wants_in_just_when_somebody_leaves_does_not_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would ring its bell."""
    monkeypatch.setattr(lock, "MOMENT", 1000)
    m: ConcurrentMap[str, int] = ConcurrentMap()
    m._wait()
    m["a"] = 1
    assert_idle(m)


def test_what_could_not_be_cleared_away_is_looked_at_again_if_whoever_was_inside_has_left() -> None:
    """They left between the two looks, and may not have seen it."""

    class Met(Stale):
        met = 1

        def _clear_away(self, item: Any) -> bool:
            self.met -= 1
            return self.met < 0 and super()._clear_away(item)

    m = Met({"a": 1})
    first, last = m.try_ref("a"), m.try_ref("a")  # two, for a line
    first.release()
    last.release()
    assert m.met == -1
    assert_idle(m)


SIGNALS = """
import signal, threading, time
from asynclocks import ConcurrentMap

m = ConcurrentMap({"signals": 0})
signals, armed, stop = 0, False, False

def handle(*_):
    global signals, armed
    signals += 1
    m.alter("signals", lambda count: count + 1)
    m[signals % 5] = signals
    assert m.snapshot()["signals"] == signals
    armed = False

def write(number):
    while not stop:
        m[number] = 1
        assert m.insert(number, 2) == 1

others = [threading.Thread(target=write, args=(number,), daemon=True) for number in (10, 11)]
for other in others:
    other.start()
signal.signal(signal.SIGALRM, handle)
while signals < 500:
    if not armed:  # not by the handler: the next signal might interrupt that one
        armed = True
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
    m["main"] = signals
    assert m.alter("main", lambda value: value + 1) > 0
stop = True
for other in others:
    other.join()
assert m["signals"] == signals
assert not m._held and not m._deferred
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer to raise signals")
def test_a_signal_handler_may_use_the_map_in_the_middle_of_anything() -> None:
    """With the main thread inside the lock or about to be, and others at it; it writes what nobody else does.

    In an interpreter of its own: coverage, too, has a lock, and bears no signal handler in the middle of it.
    """
    done = run("-c", SIGNALS)
    assert done.returncode == 0, done.stderr


CTRL_C = """
import itertools, signal, threading
from asynclocks import ConcurrentMap

def strike(*_):
    raise KeyboardInterrupt

def write(m):
    while True:
        m["main"] = 1
        m.insert("main", 2)

signal.signal(signal.SIGALRM, strike)
for microseconds in range(300, 500):
    m = ConcurrentMap()
    try:
        signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
        write(m)
    except KeyboardInterrupt:
        pass
    m["main"] = 3
    other = threading.Thread(target=m.insert, args=("other", 1), daemon=True)
    other.start()
    other.join(10)
    assert m.snapshot() == {"main": 3, "other": 1}, "the lock is lost"
    assert not m._held
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer to raise signals")
def test_an_exception_from_a_signal_handler_in_the_middle_of_a_write_loses_no_lock() -> None:
    """As Ctrl-C raises it, in a plain thread or on asyncio."""
    done = run("-c", CTRL_C)
    assert done.returncode == 0, done.stderr


def test_whoever_waits_for_the_lock_gets_in_though_ctrl_c_came_before_the_bell() -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap()
    m._token.pop()
    other = threading.Thread(target=m.insert, args=("other", 1), daemon=True)
    other.start()
    wait_until(lambda: m._deferred)
    m._token.append(None)  # and nobody rings
    other.join(WAIT)
    assert m == {"other": 1}


def test_a_debugger_may_look_at_the_map_at_every_line() -> None:
    """It runs in the thread that it has stopped: that one is inside, or is not."""
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})
    looks = []

    def look(frame: FrameType, event: str, _: object) -> Any:
        if Path(frame.f_code.co_filename).parent.name == "concurrent_map":
            looks.append(repr(m))
            return look
        return None

    def write() -> None:
        sys.settrace(look)
        m["a"] = 2
        m.insert("b", 3)
        with m.try_entry("b") as entry:
            entry.value += 1
        sys.settrace(None)

    debugged = threading.Thread(target=write, daemon=True)
    debugged.start()
    debugged.join(WAIT)
    assert not debugged.is_alive()
    assert m == {"a": 2, "b": 4}
    assert len(looks) > 20


def test_a_key_that_raises_as_it_is_cleared_away_is_no_concern_of_whoever_leaves_the_lock() -> None:
    """Who enters a key just then would hold it for ever: it never came to the block that lets go."""
    raises = False

    class Moody(str):
        __slots__ = ()

        def __hash__(self) -> int:
            if raises:
                raise ValueError("not now")
            return super().__hash__()

    m: ConcurrentMap[Any, int] = ConcurrentMap({"a": 1})
    ref = m.try_ref(Moody("a"))

    def let_go() -> None:
        nonlocal raises
        ref.release()
        raises = True

    while_inside(m, let_go)
    assert not m._deferred
    raises = False
    m["a"] = 2
    assert_idle(m)


# --- a finalizer in the middle of the map's own work


def test_what_was_given_back_is_not_cleared_away_under_whoever_takes_it_again() -> None:
    """Another thread could not clear it away then, and a finalizer runs when the line has just been found again."""
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})

    class Interrupted(dict[Any, Any]):
        def setdefault(self, key: Any, default: Any = None) -> Any:
            found = super().setdefault(key, default)
            m._catch_up()  # as the finalizer of any guard does
            return found

    m._held = Interrupted()
    ref = m.try_ref("a")
    m._token.pop()  # this thread is inside
    elsewhere(ref.release)
    m._token.append(None)
    assert m._deferred
    with m.try_entry("a"), pytest.raises(KeyLockedError):
        m["a"] = 2
    assert_idle(m)


def once_after(function: Callable[..., Any], interrupt: Callable[[], object]) -> Callable[..., Any]:
    """The function, with a finalizer that the collector runs after its first call."""
    left = [interrupt]

    def interrupted(*args: Any) -> Any:
        result = function(*args)
        while left:
            left.pop()()
        return result

    return interrupted


@pytest.mark.parametrize("step", ["_keys", "_values"])
@pytest.mark.parametrize("read", [dict, list, repr, ConcurrentMap.copy, ConcurrentMap.items])
def test_a_snapshot_is_consistent_though_a_finalizer_writes_in_the_middle(
    read: Callable[[Any], Any], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})
    monkeypatch.setattr(steps, step, once_after(getattr(steps, step), lambda: m.__setitem__("b", 2)))
    assert read(m) in (read(ConcurrentMap({"a": 1})), read(ConcurrentMap({"a": 1, "b": 2})))


def test_alter_all_and_popitem_go_on_though_a_finalizer_writes_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})
    monkeypatch.setattr(steps, "_keys", once_after(steps._keys, lambda: m.__setitem__("b", 2)))
    m.alter_all(lambda _, value: value + 1)
    assert m == {"a": 2, "b": 3}
    monkeypatch.setattr(steps, "_reversed", once_after(steps._reversed, lambda: m.__setitem__("c", 4)))
    assert m.popitem() == ("c", 4)


def test_statistics_go_on_though_a_finalizer_clears_keys_away() -> None:
    m: ConcurrentMap[str, int] = ConcurrentMap({"a": 1})

    class Gone:
        @property
        def _idle(self) -> bool:
            m._held.pop("b", None)
            return True

    m._held["a"] = m._held["b"] = Gone()  # type: ignore[assignment]
    assert m.statistics().locked_keys == 0
    m["a"] = 2
    assert_idle(m)


def test_draining_a_map_beside_a_held_key_takes_as_long_for_each_item() -> None:
    keys = 100_000
    m = ConcurrentMap(zip(range(keys), range(keys), strict=True))
    start = time.thread_time()
    with m.try_entry(0):
        for key in range(keys - 1, 0, -1):
            assert m.popitem() == (key, key)
    assert time.thread_time() - start < 5  # seconds: it takes a fraction of one, and minutes if each looks at all


def test_a_replaced_line_that_is_idle_takes_nobody_from_the_table(m: Stale) -> None:
    """Another's entry stands there meanwhile."""
    with m.try_entry("a"):
        m._clean_up(KeyLock(m, "a"))
        with pytest.raises(KeyLockedError):
            m["a"] = 2
    assert_idle(m)


def test_a_line_that_nobody_entered_yet_locks_no_key(m: Stale) -> None:
    """It is idle, and says so."""
    line = m._held["a"] = KeyLock(m, "a")
    assert repr(line).endswith(" idle>")
    m["a"] = 2
    assert_idle(m)


@pytest.mark.pure("a method that is replaced is not called from C")
def test_a_line_whose_first_is_struck_as_it_joins_is_dropped(m: Stale, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was busy already."""

    def struck(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KeyLock, "_admit", struck)
        with pytest.raises(KeyboardInterrupt):
            KeyLock(m, "a")._acquire_now(EXCLUSIVE)
    assert_idle(m)


def test_a_line_that_is_used_in_the_middle_of_the_map_s_own_work_says_so(m: Stale) -> None:
    """It names the key, and by whom it may have been used."""
    line = KeyLock(m, "a")
    with pytest.raises(RuntimeError, match=r"'a'.* was used by a finalizer or a key's __eq__ in the middle of the map"):
        m._inside(lambda: line._transact(line._serve_only, None))


def test_a_key_may_use_the_map_while_another_is_cleared_away() -> None:
    """Its own thread is inside the lock, and goes on."""
    m: ConcurrentMap[Any, int] = ConcurrentMap()
    asked: list[int] = []
    nosy = Key("nosy", lambda: m.__setitem__("other", 1) if asked else None)
    with m.try_entry(nosy), m.try_entry(Key("cleared")):
        asked.append(1)
        m._clean_up(KeyLock(m, Key("cleared")))
        asked.clear()
    assert m["other"] == 1
    assert_idle(m)


def test_a_table_that_was_large_is_small_again_when_the_last_lets_go() -> None:
    """A dict does not shrink as its items are taken out."""
    m: ConcurrentMap[int, int] = ConcurrentMap()
    with ExitStack() as stack:
        for key in range(1000):
            stack.enter_context(m.try_entry(key))
    assert sys.getsizeof(m._held) == sys.getsizeof({})


@pytest.mark.pure("nobody waits for the map's lock in C")
def test_who_waits_for_the_map_s_lock_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not look again and again."""
    m: ConcurrentMap[str, int] = ConcurrentMap()
    go_on = threading.Event()
    looks: list[None] = []
    wait = lock.LockedDict._wait

    def wait_and_count(self: Any) -> None:
        looks.append(None)
        wait(self)

    monkeypatch.setattr(lock.LockedDict, "_wait", wait_and_count)
    inside = threading.Thread(target=m._inside, args=(go_on.wait, WAIT))
    inside.start()
    wait_until(lambda: not m._token)
    begun = time.monotonic()
    threading.Timer(5 * lock.MOMENT, go_on.set).start()
    m["a"] = 1
    assert 0 < len(looks) <= 2 + 2 * (time.monotonic() - begun) / lock.MOMENT
    inside.join(WAIT)
    assert_idle(m)


def test_who_waits_for_the_map_s_lock_is_woken_by_whoever_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And need not look again after a while."""
    monkeypatch.setattr(lock, "MOMENT", 1000)
    m: ConcurrentMap[str, int] = ConcurrentMap()
    go_on = threading.Event()
    inside = threading.Thread(target=m._inside, args=(go_on.wait, WAIT))
    inside.start()
    wait_until(lambda: not m._token)
    writer = threading.Thread(target=m.__setitem__, args=("a", 1), daemon=True)
    writer.start()
    wait_until(lambda: m._deferred != [])
    go_on.set()
    writer.join(WAIT)
    assert m.get("a") == 1
    inside.join(WAIT)
    assert_idle(m)
