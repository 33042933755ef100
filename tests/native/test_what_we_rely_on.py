"""What docs/decisions/what-we-rely-on.md lists: a test for each habit of the interpreter's or of asyncio's.

Where one of them fails on a new Python, the page says what in the library leans on that habit.
"""

from __future__ import annotations

import asyncio
import dis
import gc
import signal
import sys
import threading
import time
from _thread import RLock, interrupt_main
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, repeat
from types import FrameType, coroutine
from typing import Any
from weakref import ref

import pytest

from asynclocks._engine.synchronizer import ALONE
from asynclocks._engine.ticket import RecoveredTicket, Ticket
from asynclocks.backends import asyncio as asyncio_backend
from asynclocks.backends.seam import LoopBackend
from asynclocks.concurrent_map.dict import SharedDict
from asynclocks.concurrent_map.entries import EntryBlock
from asynclocks.concurrent_map.lock import LockedDict
from asynclocks.concurrent_map.refs import RefBlock
from tests.native.programs import run
from tests.native.threaded import results
from tests.support import no_collector

ROUNDS = 5_000
on_asyncio = pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")


# --- where signals and the collector strike


class Due(int):
    """Reading `due` makes something due, iterating over `fresh` makes new objects: neither is a call of Python's."""

    due: property

    def __init__(self, _: int) -> None:
        self.fresh: Iterator[list[Any]] = map(
            list, repeat((), 2_000)
        )  # 3.13 counts by 512 without a GIL, and not what it had kept ready


class Signal(Due):
    """Sent to this process. The handler runs at the next place there is."""

    due = property(interrupt_main)


class Threshold(Due):
    """Of the collector, which is due a few objects later."""

    due = property(gc.set_threshold)


def nothing() -> None:
    pass


def take(token: list[None], what: Any) -> None:
    """As the map takes its lock. What strikes could do so from the first line on."""
    what.due  # noqa: B018
    _fresh: Any = [*what.fresh]
    _in_map: Any = token
    try:
        del token[0]
    except IndexError:
        _in_map = None
    try:
        nothing()
    finally:
        token += (_in_map := (None,))


def give(token: list[None], what: Any) -> None:
    """As the map gives its lock back. What strikes could do so from the middle on."""
    _in_map: Any = token
    del token[0]
    try:
        what.due  # noqa: B018
        _fresh: Any = [*what.fresh]
    finally:
        token += (_in_map := (None,))
        nothing()


def mark_and_token(frame: FrameType | None, token: list[None]) -> tuple[bool, bool]:
    """Of `take` or `give`, interrupted here: does its frame have the mark, and is the token taken?"""
    while frame is not None and frame.f_code not in (take.__code__, give.__code__):
        frame = frame.f_back
    assert frame is not None
    return frame.f_locals.get("_in_map") is token, not token


@pytest.mark.parametrize(("work", "taken"), [(take, True), (give, False)])
def test_no_signal_comes_between_the_mark_and_the_token(work: Callable[..., None], taken: bool) -> None:
    """Nor between the token and the `try` behind it: what the handler raises then leaves the lock free."""
    token = [None]
    struck = []

    def strike(_: int, frame: FrameType | None) -> None:
        struck.append(mark_and_token(frame, token))
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, strike)
    try:
        with no_collector(), pytest.raises(KeyboardInterrupt):
            work(token, Signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert struck == [(taken, taken)]
    assert token == [None]


class Garbage:
    """What only the collector can destroy."""

    def __init__(self, at_the_end: Callable[[], object]) -> None:
        self._myself = self
        self._at_the_end = at_the_end

    def __del__(self) -> None:
        self._at_the_end()


@pytest.fixture
def idle_collector() -> Iterator[None]:
    """It collects nothing until somebody sets its threshold, and then all that is new."""
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(0, 0, 0)
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize("work", [take, give])
def test_no_collection_comes_between_the_mark_and_the_token(work: Callable[..., None], idle_collector: None) -> None:
    """Where it comes differs: 3.11 collects where it makes a list, others where they look for signals."""
    token = [None]
    struck = []
    Garbage(lambda: struck.append(mark_and_token(sys._getframe(), token)))
    work(token, Threshold(1))
    gc.set_threshold(0)
    assert len(struck) == 1
    assert struck[0] in {(True, True), (False, False)}
    assert token == [None]


def test_what_is_written_in_c_is_one_step() -> None:
    """A signal that comes while a list is filled is handled when it is full."""
    filled: list[object] = []
    struck = []
    before = signal.signal(signal.SIGINT, lambda *_: struck.append(len(filled)))
    try:
        filled.extend(chain([1], map(interrupt_main, [signal.SIGINT]), [3]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert struck == [3]


# What can stand between the mark and the token: none of these is a place where anything strikes.
QUIET = (
    "LOAD_FAST", "LOAD_CONST", "LOAD_COMMON_CONSTANT", "LOAD_SMALL_INT", "STORE_FAST", "NOP", "COPY", "EXTENDED_ARG",
)  # fmt: skip


@pytest.mark.parametrize(
    "function",
    [
        LockedDict._inside,
        LockedDict._clear_away,
        LockedDict._stand_alone,
        LockedDict._end_alone,
        SharedDict.__setitem__,
        EntryBlock.__aenter__,
        EntryBlock.__aexit__,
        RefBlock._finish,
    ],
    ids=lambda function: function.__qualname__,
)
def test_only_loads_stand_between_the_map_s_mark_and_its_token(function: Callable[..., Any]) -> None:
    """As the compiler has it: the two tests before show it of functions that look the same."""
    steps = [step for step in dis.get_instructions(function) if step.opname != "CACHE"]
    marks = [
        number
        for number, step in enumerate(steps)
        if step.opname.startswith("STORE_FAST") and "_in_map" in step.argrepr and steps[number - 1].argrepr != "None"
    ]
    follow = [next(step for step in steps[number + 1 :] if not step.opname.startswith(QUIET)) for number in marks]
    assert {f"{step.opname} {step.argrepr}".strip() for step in follow} == {"DELETE_SUBSCR", "BINARY_OP +="}


def test_a_frame_shows_the_locals_it_has_now_to_whatever_runs_inside_it() -> None:
    """Through what is written in C, coroutines and finalizers too, whatever else of its frames was looked at."""
    seen = []

    def look() -> None:
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if "_mark" in frame.f_code.co_varnames:
                seen.append(frame.f_locals.get("_mark"))
            frame = frame.f_back

    async def within() -> None:
        look()

    class Finalized:
        def __del__(self) -> None:
            look()

    def marked() -> None:
        _mark: Any = "first"
        look()
        sorted([0], key=lambda _: look())  # type: ignore[arg-type, return-value]
        _mark = "second"
        with pytest.raises(StopIteration):
            within().send(None)
        _mark = "third"
        Finalized()

    async def marked_too() -> None:
        _mark: Any = "fourth"
        look()
        _mark = None
        look()

    marked()
    with pytest.raises(StopIteration):
        marked_too().send(None)
    assert seen == ["first", "first", "second", "third", "fourth", None]


# --- one step of a list, a dict or a set, and their order in the eyes of other threads


def at_once(threads: ThreadPoolExecutor, *works: Callable[[], Any]) -> list[Any]:
    """Do these in threads that begin together; what they returned."""
    start = threading.Barrier(len(works))

    def begin(work: Callable[[], Any]) -> Any:
        start.wait()
        return work()

    return results([threads.submit(begin, work) for work in works])


def test_of_many_threads_one_takes_the_token(threads: ThreadPoolExecutor, switching: None) -> None:
    """By `del` or by `pop`; and one that is given back is there."""
    token = [None]
    inside: list[int] = []
    most: set[int] = set()

    def by_del() -> None:
        del token[0]

    def hold(take: Callable[[], object]) -> None:
        nonlocal token
        for _ in range(ROUNDS // 10):
            while True:
                try:
                    take()
                except IndexError:
                    continue
                break
            inside.append(1)
            most.add(len(inside))
            inside.pop()
            if take is by_del:
                token += (None,)
            else:
                token.append(None)

    at_once(threads, *(lambda take=take: hold(take) for take in (by_del, token.pop, by_del, token.pop)))
    assert most == {1}
    assert token == [None]


def test_what_is_put_into_a_list_comes_out_once(threads: ThreadPoolExecutor, switching: None) -> None:
    deferred: list[int] = []

    def put() -> list[int]:
        for number in range(ROUNDS):
            deferred.append(number)  # noqa: PERF402 - one by one is what is tested
        return []

    def get() -> list[int]:
        got: list[int] = []
        while len(got) < ROUNDS:
            with suppress(IndexError):
                got.append(deferred.pop(0))
        return got

    got = at_once(threads, put, put, get, get)
    assert sorted(number for each in got for number in each) == sorted([*range(ROUNDS)] * 2)
    assert deferred == []


def test_a_key_is_taken_out_of_a_dict_once(threads: ThreadPoolExecutor, switching: None) -> None:
    """By `del` or by `pop`, and by one who comes with `setdefault` it is put in once."""
    keys = [object() for _ in range(ROUNDS)]
    held = dict.fromkeys(keys)
    firsts: dict[object, object] = {}

    def by_del(key: object) -> bool:
        try:
            del held[key]
        except KeyError:
            return False
        return True

    def work(take: Callable[[object], bool]) -> tuple[int, int]:
        me = object()
        return sum(map(take, keys)), sum(firsts.setdefault(key, me) is me for key in keys)

    done = at_once(
        threads, *(lambda take=take: work(take) for take in (by_del, lambda key: held.pop(key, key) is None))
    )
    assert [sum(counts) for counts in zip(*done, strict=True)] == [ROUNDS, ROUNDS]
    assert held == {}


COPIES: dict[str, Callable[[dict[object, Any], set[object]], Collection[object]]] = {
    "[*dict]": lambda held, _: [*held],
    "list(dict)": lambda held, _: list(held),
    "list(dict.values())": lambda held, _: list(held.values()),
    "list(set)": lambda _, readers: list(readers),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_is_of_one_moment(
    copy: Callable[[dict[object, Any], set[object]], Collection[object]],
    threads: ThreadPoolExecutor,
    switching: None,
) -> None:
    """Who copies needs no lock. Not so ``tuple(set)``, which raises on 3.13 without a GIL."""
    held: dict[object, Any] = {object(): None for _ in range(100)}
    readers = set(held)
    copied = threading.Event()

    def change() -> None:
        while not copied.is_set():
            other = object()
            held[other] = None
            readers.add(other)
            del held[other]
            readers.remove(other)

    def look() -> set[int]:
        try:
            return {len(copy(held, readers)) for _ in range(ROUNDS)}
        finally:
            copied.set()

    *_, sizes = at_once(threads, change, change, look)
    assert sizes <= {100, 101, 102}


class Line:
    __slots__ = ("head", "token")

    def __init__(self) -> None:
        self.head: Any = None
        self.token: list[None] = []


class WithDeferred(Line):
    __slots__ = ("deferred", "reading")

    def __init__(self) -> None:
        super().__init__()
        self.deferred: list[None] = []
        self.reading: dict[int, None] = {1: None}


def gives_back_a_token(line: Any) -> bool:
    line.token.append(None)
    return line.head is not None


def tries_the_token(line: Any) -> bool:
    line.head = line
    try:
        line.token.pop()
    except IndexError:
        return False
    return True


def leaves_the_readers(line: Any) -> bool:
    del line.reading[1]
    return line.head is not None


def looks_for_readers(line: Any) -> bool:
    line.head = line
    return not line.reading


def leaves_the_map(line: Any) -> bool:
    token = line.token
    token += (None,)
    return bool(line.deferred)


def hangs_up_a_bell(line: Any) -> bool:
    line.deferred.append(None)
    return bool(line.token)


def unparks(line: Any) -> bool:
    line.head = line
    return line.reading.pop(2, line) is None


def parks(line: Any) -> bool:
    line.reading[2] = None
    return line.head is not None


@pytest.mark.parametrize(
    ("leave", "arrive"),
    [
        (gives_back_a_token, tries_the_token),
        (leaves_the_readers, looks_for_readers),
        (leaves_the_map, hangs_up_a_bell),
        (unparks, parks),
    ],
)
def test_of_two_threads_that_write_and_then_look_one_sees_the_other(
    leave: Callable[[Line], bool], arrive: Callable[[Line], bool], threads: ThreadPoolExecutor, switching: None
) -> None:
    """No read overtakes a write before it, also without a GIL: nobody is left asleep in a line."""
    lines = [WithDeferred() for _ in range(ROUNDS)]
    begun = [-1, -1]

    def in_step(me: int, work: Callable[[Line], bool]) -> Iterator[bool]:
        for number, line in enumerate(lines):
            begun[me] = number
            looks = 0
            while begun[1 - me] < number:
                looks += 1
                if looks % 100 == 0:
                    time.sleep(0)
            yield work(line)

    left, arrived = at_once(threads, lambda: [*in_step(0, leave)], lambda: [*in_step(1, arrive)])
    assert [seen for seen in zip(left, arrived, strict=True) if not any(seen)] == []


def test_threading_s_re_entrant_lock_is_the_one_in_c() -> None:
    """`_thread.RLock`, of which the documentation does not speak."""
    assert type(threading.RLock()) is RLock


# --- weak references


class Task:
    """What can be referred to weakly."""


def owned_by(task: object) -> Ticket:
    ticket = Ticket()
    ticket.owner = ref(task)
    return ticket


def is_alone(ticket: Ticket) -> bool:
    return sys.getrefcount(ticket.owner) == ALONE


def test_an_object_has_one_weak_reference_and_its_count_tells_whether_anybody_else_has_it() -> None:
    """In whatever thread it was made."""
    task = Task()
    waiting = owned_by(task)
    assert is_alone(waiting)
    with ThreadPoolExecutor(1) as pool:
        holding = [pool.submit(owned_by, task).result(), owned_by(task)]
    assert {id(ticket.owner) for ticket in holding} == {id(waiting.owner)}
    assert not is_alone(waiting)
    holding.clear()
    assert is_alone(waiting)


def test_the_collector_finds_who_refers_to_a_task_weakly() -> None:
    """By that one weak reference: so it is found what dead requests hold."""
    task = Task()
    ticket = owned_by(task)
    assert ticket in gc.get_referrers(ref(task))


def test_a_weak_reference_is_a_key_that_outlives_its_object() -> None:
    task = Task()
    waits = {ref(task): "a wait"}
    key = ref(task)
    assert waits[key] == "a wait"
    del task
    assert key() is None
    assert waits.pop(key) == "a wait"


def test_a_ticket_turns_into_one_of_another_class() -> None:
    """Whose slots are the same."""
    ticket = owned_by(Line)
    ticket.__class__ = RecoveredTicket
    assert ticket.recovered
    assert ticket.owner() is Line


# --- coroutines that are destroyed


@coroutine
def sleep() -> Generator[None, None, None]:
    yield


class Block:
    """An `async with` block that tells how it was left."""

    def __init__(self, at_the_end: Callable[[type[BaseException] | None], object]) -> None:
        self._at_the_end = at_the_end

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._at_the_end(kind)


async def sleep_in_a_block(at_the_end: Callable[[type[BaseException] | None], object], *kept: Any) -> None:
    async with Block(at_the_end):
        await sleep()


def drop(coroutine: Any) -> None:
    """Its last reference goes."""


def make_garbage(coroutine: Any) -> None:
    """It refers to itself, so that the collector destroys it."""
    coroutine.cr_frame.f_locals["kept"][0].append(coroutine)


@pytest.mark.parametrize("leave", [drop, make_garbage])
def test_a_coroutine_that_is_destroyed_leaves_its_blocks(leave: Callable[[Any], None]) -> None:
    """By GeneratorExit, which is the exception that is being handled there; who runs just then handles its own."""
    ends = []

    def end(kind: type[BaseException] | None) -> None:
        ends.append((kind, type(sys.exception())))

    def abandon() -> None:
        coroutine = sleep_in_a_block(end, [])
        coroutine.send(None)
        leave(coroutine)

    def abandon_while_an_exception_is_handled() -> bool:
        try:
            int("no number")
        except ValueError as error:
            abandon()
            assert bool(ends) == (leave is drop)
            gc.collect()
            return sys.exception() is error
        return False

    with no_collector():
        assert abandon_while_an_exception_is_handled()
    assert ends == [(GeneratorExit, GeneratorExit)]


def test_a_finalizer_in_a_coroutine_that_is_being_closed_sees_that() -> None:
    seen = []

    class Finalized:
        def __del__(self) -> None:
            seen.append(type(sys.exception()))

    coroutine = sleep_in_a_block(lambda _: Finalized())
    coroutine.send(None)
    coroutine.close()
    assert seen == [GeneratorExit]


async def sleep_in_a_generator(at_the_end: Callable[[type[BaseException] | None], object], *kept: Any) -> None:
    async def generate() -> AsyncIterator[int]:
        await sleep_in_a_block(at_the_end)
        yield 1

    async for _ in generate():
        pass


async def sleep_deep_in(at_the_end: Callable[[type[BaseException] | None], object], *kept: Any) -> None:
    await sleep_in_a_block(at_the_end)


async def sleep_for_ever(at_the_end: Callable[[type[BaseException] | None], object]) -> None:
    async with Block(at_the_end):
        while True:
            await sleep()


class Sleep:  # no local class: 3.13 without a GIL never collects those that are made once threads have run
    def __init__(self, at_the_end: Callable[[type[BaseException] | None], object]) -> None:
        self._at_the_end = at_the_end

    def __await__(self) -> Generator[Any, Any, Any]:
        return sleep_in_a_block(self._at_the_end).__await__()


async def sleep_in_an_awaitable(at_the_end: Callable[[type[BaseException] | None], object], *kept: Any) -> None:
    await Sleep(at_the_end)


SLEEPS = [sleep_in_a_block, sleep_deep_in, sleep_in_a_generator, sleep_in_an_awaitable]


class Owned(LoopBackend):
    """A loop whose task is the coroutine."""

    def coroutine(self, task: Any) -> Any:
        return task


@pytest.mark.parametrize("sleeping", SLEEPS)
def test_some_coroutine_of_an_abandoned_chain_is_marked_when_the_collector_destroys_it(
    sleeping: Callable[..., Any],
) -> None:
    """Before any of its code runs, whichever of the chain is destroyed first; and none of one that sleeps."""
    marked = []
    backend = Owned()

    def abandon() -> None:
        chain: list[Any] = []
        coroutine = sleeping(lambda _: marked.append(backend.is_being_closed(chain[0])), chain)
        coroutine.send(None)
        chain.append(coroutine)
        assert not backend.is_being_closed(coroutine)

    with no_collector():
        abandon()
        gc.collect()
    assert marked == [True]


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, None], ids=["asyncio", "uvloop"])
def test_weak_references_to_a_task_that_loses_its_last_reference_are_cleared_before_its_coroutine_ends(
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
) -> None:
    """Nothing marks a coroutine that is destroyed in this way. Of the collector's order nothing is asked."""
    if loop_factory is None:
        loop_factory = pytest.importorskip("uvloop").new_event_loop
    assert loop_factory is not None
    alive = []

    async def main() -> None:
        task = asyncio.create_task(sleep_for_ever(lambda _: alive.extend(owner() is not None for owner in owners)))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        owners = [ref(task)]
        await sleep()

    with no_collector():
        loop = loop_factory()
        loop.run_until_complete(main())
        loop.close()
        del loop
    assert alive == [False]


# --- asyncio


@on_asyncio
async def test_a_future_that_is_done_may_be_awaited_on_any_loop() -> None:
    """Though it was made without one: `DONE` asked the stand-in for nothing but its debug mode."""
    await asyncio_backend.DONE
    assert asyncio_backend.DONE.done()


@on_asyncio
async def test_the_running_task_is_found_by_the_short_way() -> None:
    """Which on 3.11 is asyncio's own table."""
    found = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: found.set_result(asyncio_backend.current_task()))
    assert asyncio_backend.current_task() is asyncio.current_task() is not None
    assert await found is None

    async def other() -> bool:
        return asyncio_backend.current_task() is asyncio.current_task()

    assert await asyncio.create_task(other())


@on_asyncio
async def test_a_loop_takes_an_attribute_and_a_task_can_be_told_that_it_may_be_dropped() -> None:
    """`_asynclocks_parked`, and of a task that died with its request `_log_destroy_pending`."""
    loop: Any = asyncio.get_running_loop()
    loop._asynclocks_test = 1
    del loop._asynclocks_test
    assert asyncio.current_task()._log_destroy_pending is True  # type: ignore[union-attr]


# --- the end of the process

EXIT = """
import threading
from asynclocks import ConcurrentMap, Mutex, RwLock, Semaphore

m = ConcurrentMap({"a": 1})
guards = [m.try_ref("a"), m.try_entry("b"), Mutex().try_lock(), RwLock().try_write(), Semaphore(1).try_acquire()]

def use():
    return m, guards

thread = threading.Thread(target=use)
thread.start()
thread.join()
for guard in guards:
    guard.release()
"""


def test_guards_that_live_as_long_as_the_process_end_without_a_word() -> None:
    """Their finalizers may run when every global of ours is None, as on 3.13 without a GIL."""
    assert run("-c", EXIT) == (0, "", "")
