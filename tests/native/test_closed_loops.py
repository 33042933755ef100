"""A closed loop sets free what its tasks held, whatever stands in the line beside them, for every primitive.

Where nothing else is said, nothing but `abandoned.leave_pending` starts tasks, so that nobody refers to them.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar

import pytest

from asynclocks import Barrier, ConcurrentMap, Condvar, KeyLockedError, Mutex, Notify, OnceCell, RwLock, Semaphore
from tests.native.abandoned import leave_pending, passes, pending, with_loop
from tests.native.programs import run
from tests.native.threaded import WAIT, wait_until
from tests.support import collect, no_collector


class Kind:
    """Something that is held, how a task waits for it, how that wait is granted, and whether all is free again."""

    def __init__(self) -> None:
        self.hold: Any = None

    def grant(self) -> None:
        self.hold.release()
        self.hold = None

    async def wait(self) -> None:
        raise NotImplementedError

    def is_free(self) -> bool:
        raise NotImplementedError

    def waiting(self) -> int:
        raise NotImplementedError


class OfMutex(Kind):
    def __init__(self) -> None:
        self.mutex: Mutex[None] = Mutex(name="it")
        self.hold = self.mutex.try_lock()

    async def wait(self) -> None:
        async with self.mutex:
            await passes()

    def is_free(self) -> bool:
        return not self.mutex.locked()

    def waiting(self) -> int:
        return self.mutex.statistics().waiting


class OfLock(OfMutex):
    async def wait(self) -> None:
        with await self.mutex.lock():
            await passes()


class OfLockOwned(OfMutex):
    async def wait(self) -> None:
        async with self.mutex.lock_owned():
            await passes()


class OfAcquire(OfMutex):
    async def wait(self) -> None:
        await self.mutex.acquire()
        self.mutex.release()


class OfSemaphore(Kind):
    count: ClassVar[int] = 1

    def __init__(self) -> None:
        self.semaphore = Semaphore(2)
        self.hold = self.semaphore.try_acquire(2)

    async def wait(self) -> None:
        async with self.semaphore:
            await passes()

    def is_free(self) -> bool:
        return self.semaphore.available_permits == 2

    def waiting(self) -> int:
        return self.semaphore.statistics().waiting


class OfPermits(OfSemaphore):
    async def wait(self) -> None:
        async with self.semaphore.acquire(2):
            await passes()


class OfWrite(Kind):
    def __init__(self) -> None:
        self.lock: RwLock[None] = RwLock()
        self.hold = self.lock.try_write()

    async def wait(self) -> None:
        async with self.lock.write():
            await passes()

    def is_free(self) -> bool:
        counted = self.lock.statistics()
        return not (counted.readers or counted.writer or counted.upgradable)

    def waiting(self) -> int:
        counted = self.lock.statistics()
        return counted.waiting_readers + counted.waiting_writers


class OfRead(OfWrite):
    async def wait(self) -> None:
        async with self.lock.read():
            await passes()


class OfUpgradable(OfWrite):
    async def wait(self) -> None:
        async with self.lock.upgradable_read():
            await passes()


class OfUpgrade(OfWrite):
    def __init__(self) -> None:
        self.lock = RwLock()
        self.hold = self.lock.try_read()

    async def wait(self) -> None:
        async with self.lock.upgradable_read() as guard:
            with await guard.upgrade():
                await passes()


class OfEntry(Kind):
    def __init__(self) -> None:
        self.map: ConcurrentMap[str, int] = ConcurrentMap({"key": 1})
        self.hold = self.map.try_entry("key")

    async def wait(self) -> None:
        async with self.map.entry("key"):
            await passes()

    def is_free(self) -> bool:
        try:
            self.map.try_entry("key").release()
        except KeyLockedError:
            return False
        return True

    def waiting(self) -> int:
        return self.map.statistics().waiting


class OfRef(OfEntry):
    async def wait(self) -> None:
        async with self.map.ref("key"):
            await passes()


class OfFlight(OfEntry):
    def __init__(self) -> None:
        self.map = ConcurrentMap()
        self.hold = self.map.try_entry("key")

    async def wait(self) -> None:
        await self.map.get_or_insert_with("key", lambda: 1)


class OfCell(Kind):
    """Another's initializer, which fails when it is told to."""

    def __init__(self) -> None:
        self.cell: OnceCell[int] = OnceCell()
        self.fails = threading.Event()

        def fail() -> int:
            self.fails.wait(WAIT)
            raise ValueError("told to")

        def initialize() -> None:
            with pytest.raises(ValueError, match="told to"):
                self.cell.blocking_get_or_init(fail)

        self.thread = threading.Thread(target=initialize)
        self.thread.start()
        wait_until(lambda: self.cell.statistics().initializing)

    def grant(self) -> None:
        self.fails.set()
        self.thread.join(WAIT)

    async def wait(self) -> None:
        await self.cell.get_or_init(passes)

    def is_free(self) -> bool:
        return not self.cell.statistics().initializing

    def waiting(self) -> int:
        return self.cell.statistics().waiting


class OfNotify(Kind):
    def __init__(self) -> None:
        self.notify = Notify()

    def grant(self) -> None:
        self.notify.notify_one()

    async def wait(self) -> None:
        await self.notify.notified()

    def is_free(self) -> bool:
        """Whoever comes next has the wake-up that nobody used."""
        return self.notify.statistics().stored

    def waiting(self) -> int:
        return self.notify.statistics().waiting


class OfEnabled(OfNotify):
    async def wait(self) -> None:
        notified = self.notify.notified()
        notified.enable()
        await notified


class OfCondvar(OfMutex):
    def __init__(self) -> None:
        self.mutex = Mutex()
        self.condvar = Condvar()

    def grant(self) -> None:
        self.condvar.notify_all()

    async def wait(self) -> None:
        async with self.mutex as guard:
            await self.condvar.wait(guard)

    def waiting(self) -> int:
        return self.mutex.statistics().waiting + self.condvar.statistics().waiting


KINDS = [
    *(OfMutex, OfLock, OfLockOwned, OfAcquire, OfSemaphore, OfPermits, OfWrite, OfRead, OfUpgradable, OfUpgrade),
    *(OfEntry, OfRef, OfFlight, OfCell, OfNotify, OfEnabled, OfCondvar),
]
of_every_kind = pytest.mark.parametrize("make", KINDS, ids=lambda kind: kind.__name__)

seen: Mutex[None] = Mutex(name="seen")


async def had_one_before(kind: Kind) -> None:
    """`seen` still knows its last owner."""
    async with seen:
        pass
    await kind.wait()


async def holds_another(kind: Kind) -> None:
    """Its wait is noted, for others to follow."""
    async with Mutex():
        await kind.wait()


async def knows_itself(kind: Kind) -> None:
    """Its frame refers to its task."""
    me = asyncio.current_task()
    await kind.wait()
    assert me is asyncio.current_task()


async def has_a_child(kind: Kind) -> None:
    """It and a task that waits beside it refer to each other."""
    family = [asyncio.current_task()]

    async def wait() -> None:
        await kind.wait()
        assert family

    family.append(pending(wait))
    await kind.wait()


WAYS: dict[str, Callable[[Kind], Awaitable[None]]] = {
    "plain": lambda kind: kind.wait(),
    "had one before": had_one_before,
    "holds another": holds_another,
    "knows itself": knows_itself,
    "has a child": has_a_child,
}
in_every_way = pytest.mark.parametrize("first", WAYS.values(), ids=WAYS)


# thread: grants to A         loop: A and B stand in line
# posts A's wake
#                             is closed before the wake runs, and dropped
# the line is free: A's grant went on to B, who was skipped
@of_every_kind
@in_every_way
@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_wake_lost_with_its_loop_sets_the_lock_free_whoever_else_stands_in_line(
    make: type[Kind], first: Callable[[Kind], Awaitable[None]], others: int, abandoning: None
) -> None:
    """Nothing in a line leads to a task of the closed loop."""
    kind = make()
    loop = leave_pending(lambda: first(kind), *([kind.wait] * others), close=False)
    kind.grant()
    loop.close()
    del loop
    collect()
    assert kind.is_free()
    assert kind.waiting() == 0


# thread: grants to A         loop: A stands in line
# posts A's wake
#                             is closed: it drops the wake
# the line is free
@pytest.mark.parametrize("make", [kind for kind in KINDS if kind is not OfEnabled], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("others", [0, 2])
def test_a_wake_lost_with_its_loop_passes_on_without_the_collector(
    make: type[Kind], others: int, abandoning: None
) -> None:
    """Though somebody still refers to the loop and to its tasks: the loop drops its wakes when it is closed."""
    kind = make()
    tasks: list[asyncio.Task[Any]] = []

    async def begin() -> None:
        tasks.extend(pending(kind.wait) for _ in range(others + 1))
        await passes()

    loop = with_loop(begin, close=False)
    with no_collector():
        kind.grant()
        loop.close()
        if make is OfUpgrade:  # it is the upgradable reader still
            tasks.clear()
        assert kind.waiting() == (others if make is OfUpgrade else 0)
        assert kind.is_free() or make is OfUpgrade
    tasks.clear()
    collect()
    assert kind.is_free()


# closed loop: A holds `other`, in the line of `it`       thread: holds `it`, and does not let go
# A's coroutine is collected: `other` is free, nobody is in the line
@of_every_kind
@in_every_way
def test_a_line_keeps_no_task_of_a_closed_loop_alive(
    make: type[Kind], first: Callable[[Kind], Awaitable[None]], abandoning: None
) -> None:
    """What such a task held elsewhere is free, though the line it stands in is never served."""
    kind = make()
    other: Mutex[None] = Mutex()
    gone: list[weakref.ref[Any]] = []

    async def hold() -> None:
        gone.append(weakref.ref(asyncio.current_task()))
        async with other:
            await first(kind)

    leave_pending(hold, kind.wait)
    assert kind.waiting() > 0
    collect()
    assert not other.locked()
    assert gone[0]() is None
    if make is not OfUpgrade:  # whose first waits for readers to leave
        assert kind.waiting() == 0
    kind.grant()


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
@of_every_kind
async def test_a_sleeping_task_that_nobody_refers_to_goes_on_when_its_turn_comes(make: type[Kind]) -> None:
    """Its loop keeps it alive. With a lock of asyncio's own, the lock does."""
    kind = make()
    done = asyncio.Event()

    async def wait() -> None:
        await kind.wait()
        done.set()

    pending(wait)
    await passes()
    collect()
    await asyncio.to_thread(kind.grant)
    await done.wait()


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
@of_every_kind
async def test_a_cancelled_waiter_leaves_nothing_in_its_loop(make: type[Kind]) -> None:
    kind = make()
    tasks = [pending(kind.wait) for _ in range(3)]
    await passes()
    parked: Any = asyncio.get_running_loop()._asynclocks_parked  # type: ignore[attr-defined]
    assert len(parked) == len(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not parked
    kind.grant()


# loop 1: A is granted, awake, and not yet in its step
# is closed: its task is gone
# the grant goes on to the next
@of_every_kind
def test_a_wake_within_a_loop_that_is_closed_before_it_runs_passes_on(make: type[Kind], abandoning: None) -> None:
    """Its own callback granted, and was the last that ran."""
    kind = make()
    loop = leave_pending(kind.wait, close=False)
    loop.call_soon(lambda: (kind.grant(), asyncio.get_running_loop().stop()))
    loop.run_forever()
    loop.close()
    del loop
    collect()
    assert kind.is_free()


@of_every_kind
def test_a_closed_loop_and_the_locks_its_tasks_waited_for_are_garbage(make: type[Kind], abandoning: None) -> None:
    """Also where the waits were noted for deadlocks."""

    def leave() -> list[weakref.ref[Any]]:
        kind = make()
        loop = leave_pending(partial(holds_another, kind))
        if make is OfCell:
            kind.grant()
        return [weakref.ref(kind), weakref.ref(loop)]

    gone = leave()
    collect()
    assert [reference() for reference in gone] == [None, None]


def test_the_waiters_of_a_loop_that_was_dropped_unclosed_are_gone_as_well(abandoning: None) -> None:
    kind = OfMutex()
    leave_pending(kind.wait, close=False)
    collect()
    assert kind.waiting() == 0
    kind.grant()
    assert kind.is_free()


def test_a_barrier_counts_no_task_of_a_closed_loop(abandoning: None) -> None:
    """One that is gone has not arrived."""
    barrier = Barrier(2)
    leave_pending(barrier.wait)
    collect()
    assert barrier.waiting == 0


CRASH = """
import gc
import trio
import trio.testing
from asynclocks import Mutex

it, other = Mutex(), Mutex()
guard = it.try_lock()

async def hold():
    async with other, it:
        pass

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        await trio.lowlevel.wait_task_rescheduled(lambda _: "no Abort")

try:
    trio.run(main)
except trio.TrioInternalError:
    print("crashed,", it.statistics().waiting, "waiting")
gc.collect()
print(it.statistics().waiting, "waiting,", "other held" if other.locked() else "other free")
guard.release()
"""


# trio crashes: A in the line of `it`, holds `other`
# A's coroutine is collected: `other` is free, nobody is in the line
def test_a_run_of_trio_that_crashed_keeps_nothing() -> None:
    """No line refers to its tasks. In a process of its own: trio's leftovers complain as they are collected."""
    done = run("-c", CRASH)
    assert done.stdout.splitlines() == ["crashed, 1 waiting", "0 waiting, other free"]
