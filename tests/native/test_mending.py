"""What an exception leaves behind that strikes at one chosen place, as a signal handler's may, is mended.

`test_struck` and `test_ctrl_c` strike at every instruction. These here name the places that are mended, one by one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

from asynclocks import Condvar, GuardReleasedError, Mutex, Notify, RwLock, Semaphore
from asynclocks._engine.places import Place
from asynclocks.notify import OLDEST
from tests.native.threaded import CrowdedLock, OvertakenLock, elsewhere


class Struck(KeyboardInterrupt):
    """What the signal handler raises."""


def strike(call: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """The call, struck once: before it begins or when it is done."""
    strikes = [Struck()]

    def struck(*args: Any) -> Any:
        result = call(*args) if after or not strikes else None
        if strikes:
            raise strikes.pop()
        return result

    return struck


class StruckLock:
    """An internal lock whose release, or another step, is struck once."""

    def __init__(self, *, after: bool, step: str = "release") -> None:
        lock: Any = threading.RLock()
        self.acquire, self._is_owned, self.release = lock.acquire, lock._is_owned, lock.release
        setattr(self, step, strike(getattr(lock, step), after=after))


class OpenMutex(Mutex[int]):
    """One whose methods can be replaced."""


class OpenRwLock(RwLock[int]):
    """One whose methods can be replaced."""


moments = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


@moments
@pytest.mark.pure("a method that is replaced is not called from C")
@pytest.mark.parametrize("step", ["_hand_over", "release", "unpark"])
def test_a_block_whose_exit_is_struck_has_ended_and_the_next_has_begun(step: str, after: bool) -> None:
    """The mutex is whole again afterwards: one token, one holder."""
    mutex = OpenMutex(0)
    log = []

    async def enter(name: str, leave: asyncio.Event) -> None:
        async with mutex:
            log.append(name)
            await leave.wait()

    async def main() -> None:
        leave = {name: asyncio.Event() for name in "abc"}
        with pytest.raises(Struck):
            async with mutex:
                others = [asyncio.ensure_future(enter(name, leave[name])) for name in "bc"]
                await asyncio.sleep(0)
                if step == "_hand_over":
                    mutex._hand_over = strike(mutex._hand_over, after=after)  # type: ignore[method-assign]
                elif step == "release":
                    mutex._lock = StruckLock(after=after)
                else:
                    _strike_unpark(mutex._head, after=after)
        for _ in range(5):
            await asyncio.sleep(0)
        assert log == ["b"]
        assert mutex.statistics().waiting == 1
        leave["b"].set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert log == ["b", "c"]
        leave["c"].set()
        await asyncio.gather(*others)

    asyncio.run(main())
    assert not mutex.locked()
    with mutex.try_lock():
        assert mutex.locked()
        assert not mutex._free
    assert len(mutex._free) == 1


def _strike_unpark(ticket: Any, *, after: bool) -> None:
    """Have the waiter's wake struck once."""
    kind = type(ticket)
    wake = strike(kind.unpark, after=after)
    ticket.__class__ = type(kind.__name__, (kind,), {"__slots__": (), "unpark": wake})


@pytest.mark.parametrize("take", [RwLock.try_write, RwLock.blocking_write], ids=["try_write", "blocking_write"])
def test_what_was_granted_already_and_is_struck_is_not_held(take: Callable[[RwLock[int]], Any]) -> None:
    """Nobody has a guard of it, so it is given back at once."""
    lock = OpenRwLock(0)
    lock._lock = StruckLock(after=True)
    with pytest.raises(Struck):
        take(lock)
    with lock.try_write():
        pass


@pytest.mark.pure("its internal lock is replaced")
def test_permits_that_were_granted_already_as_it_is_struck_are_not_held() -> None:
    """They can be had at once."""
    semaphore: Any = Semaphore(2)
    semaphore._lock = StruckLock(after=True)
    with pytest.raises(Struck):
        semaphore.try_acquire(2)
    assert semaphore.available_permits == 2


@moments
@pytest.mark.pure("a method that is replaced is not called from C")
def test_a_guard_that_is_struck_as_it_turns_into_another_keeps_the_lock(after: bool) -> None:
    """If the hold was made over already, the guard that there is can release it."""
    mutex = OpenMutex(0)
    guard = mutex.try_lock()
    if after:
        mutex._serve = strike(mutex._serve, after=True)  # type: ignore[method-assign]
    else:
        mutex._make_over = strike(mutex._make_over, after=False)  # type: ignore[method-assign]
    with pytest.raises(Struck):
        guard.map(str)
    assert not guard.released
    guard.release()
    with mutex.try_lock():
        pass


@pytest.mark.parametrize("struck", [False, True])
@pytest.mark.pure("a method that is replaced is not called from C")
def test_a_guard_that_let_go_cannot_turn_into_another(struck: bool) -> None:
    """It let go while it was asked for the part."""
    mutex = OpenMutex(0)
    guard = mutex.try_lock()

    def part(_: int) -> None:
        guard.release()
        if struck:
            mutex._make_over = strike(mutex._make_over, after=False)  # type: ignore[method-assign]

    with pytest.raises(Struck if struck else GuardReleasedError):
        guard.map(part)
    assert guard.released
    with mutex.try_lock():
        pass


@pytest.mark.pure("a method that is replaced is not called from C")
def test_a_mutex_is_free_though_its_block_is_struck_as_the_last_waiter_gives_up() -> None:
    """There is nobody to hand it to any more."""
    mutex = OpenMutex(0)

    async def main() -> None:
        def give_up_and_strike(_: object) -> None:
            waiter.cancel()
            mutex._transact(mutex._withdraw, mutex._head)
            raise Struck

        with pytest.raises(Struck):
            async with mutex as guard:
                waiter = asyncio.ensure_future(mutex.__aenter__())
                await asyncio.sleep(0)
                mutex._hand_over = give_up_and_strike  # type: ignore[assignment, method-assign]
        assert guard.released
        assert not mutex.locked()

    asyncio.run(main())


@pytest.mark.parametrize("modes", ["rrr", "rwr"])
def test_all_that_can_enter_do_though_it_is_struck_in_the_midst_of_them(modes: str) -> None:
    """One reader was let in, the others not yet; a writer keeps its place."""
    lock = OpenRwLock(0)
    log: list[int] = []
    inside = 0

    async def enter(number: int) -> None:
        nonlocal inside
        async with lock.write() if modes[number] == "w" else lock.read():
            inside += 1
            assert inside == 1 or "w" not in modes
            log.append(number)
            await asyncio.sleep(0)
            inside -= 1

    async def main() -> None:
        guard = lock.try_write()
        tasks = [asyncio.ensure_future(enter(number)) for number in range(3)]
        await asyncio.sleep(0)
        admit, admitted = lock._admit, []

        def struck(ticket: Any) -> bool:
            admitted.append(ticket)
            if len(admitted) == 2:
                raise Struck
            return admit(ticket)

        lock._admit = struck  # type: ignore[method-assign]
        with pytest.raises(Struck):
            guard.release()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)

    asyncio.run(main())
    assert log == [0, 1, 2]
    with lock.try_write():
        pass


@moments
@pytest.mark.pure("a method that is replaced is not called from C")
def test_who_was_let_in_is_woken_though_it_is_struck(after: bool) -> None:
    """To wake somebody twice does no harm."""
    lock = OpenRwLock(0)

    async def read() -> None:
        async with lock.read():
            pass

    async def main() -> None:
        guard = lock.try_write()
        readers = [asyncio.ensure_future(read()) for _ in range(2)]
        await asyncio.sleep(0)
        _strike_unpark(lock._head, after=after)
        with pytest.raises(Struck):
            guard.release()
        await asyncio.wait_for(asyncio.gather(*readers), 10)

    asyncio.run(main())


def test_what_was_granted_to_a_cancelled_one_comes_back_though_it_is_struck() -> None:
    """It is taken back once more."""
    lock = OpenRwLock(0)

    async def write() -> None:
        async with lock.write():
            raise AssertionError("it was cancelled")

    async def main() -> None:
        guard = lock.try_write()
        writer = asyncio.ensure_future(write())
        await asyncio.sleep(0)
        guard.release()
        lock._retract = strike(lock._retract, after=False)  # type: ignore[method-assign]
        writer.cancel()
        with pytest.raises((Struck, asyncio.CancelledError)):
            await writer

    with pytest.raises(Struck):
        asyncio.run(main())
    with lock.try_write():
        pass


def test_what_was_put_off_is_done_though_a_strike_comes_between() -> None:
    """Another guard let go in the middle of the work: by a finalizer, say."""
    lock = OpenRwLock(0)
    guard, other = lock.try_read(), lock.try_read()

    def let_go_and_strike() -> None:
        del lock._serve
        lock._give_back(other._hold)
        raise Struck

    lock._serve = let_go_and_strike  # type: ignore[assignment, method-assign]
    with pytest.raises(Struck):
        lock._give_back(guard._hold)  # what a guard calls where it cannot let go without the lock
    with lock.try_write():
        pass


def test_what_is_put_off_is_made_again_when_it_is_struck() -> None:
    """Nobody else would make it, and the line is served."""
    lock = OpenRwLock(0)
    log = []

    async def write() -> None:
        async with lock.write():
            log.append("written")

    async def main() -> None:
        guard = lock.try_read()
        writer = asyncio.ensure_future(write())
        await asyncio.sleep(0)
        release = strike(lock._release, after=False)
        with pytest.raises(Struck):
            lock._give_from_finalizer(release, guard._hold)
        assert not lock._lock._is_owned()
        await asyncio.wait_for(writer, 10)

    asyncio.run(main())
    assert log == ["written"]


@pytest.mark.pure("its internal lock is replaced")
@pytest.mark.parametrize(
    ("step", "after"),
    [("acquire", True), ("release", False), ("release", True)],
    ids=["before it is made", "before the lock is left", "before they are woken"],
)
def test_who_is_let_in_by_what_was_put_off_is_woken_though_that_is_struck(step: str, after: bool) -> None:
    """And the lock is free."""
    lock: Any = OpenRwLock(0)

    async def write() -> None:
        async with lock.write():
            pass

    async def main() -> None:
        guard = lock.try_read()
        writer = asyncio.ensure_future(write())
        await asyncio.sleep(0)
        lock._lock = StruckLock(after=after, step=step)
        with pytest.raises(Struck):
            lock._give_from_finalizer(lock._release, guard._hold)
        assert not lock._lock._is_owned()
        await asyncio.wait_for(writer, 10)

    asyncio.run(main())


@pytest.mark.pure("a method that is replaced is not called from C")
@pytest.mark.parametrize("step", ["_join", "_append", "_catch_up"])
def test_a_waiter_that_is_struck_as_it_joins_the_line_leaves_the_lock_free(step: str) -> None:
    """No thread is inside, and nobody stands in line."""
    mutex = OpenMutex(0)

    async def main() -> None:
        with mutex.try_lock():
            setattr(mutex, step, strike(getattr(mutex, step), after=False))
            if step == "_catch_up":
                mutex._deferred.append((mutex._serve_only, None))
            with pytest.raises(Struck):
                await mutex.lock()
            assert not mutex._lock._is_owned()
            assert mutex.statistics().waiting == 0
        assert not mutex.locked()

    asyncio.run(main())


def come_back_without_the_lock(mutex: Mutex[int], guard: Any) -> None:
    """As a guard does that is released by the short way, before it hands on."""
    guard._hold.state, mutex._held = guard._hold.state.RELEASED, None
    mutex._free.append(None)


def while_closing(call: Callable[[], object]) -> None:
    """Call it as a coroutine is closed, which the collector may do anywhere."""

    def sleep() -> Generator[None, None, None]:
        try:
            yield
        finally:
            call()

    coroutine = sleep()
    next(coroutine)
    coroutine.close()


def hand_on_while_being_closed(mutex: Mutex[int]) -> None:
    """While another thread is inside the lock: a finalizer waits for none."""
    crowded: Any = CrowdedLock()
    mutex._lock = crowded
    while_closing(mutex._hand_on)
    assert not mutex.locked()
    crowded.leave(mutex)


class LeftLock(CrowdedLock):
    """One that they have left right after it was tried."""

    def __init__(self, of: Any) -> None:
        super().__init__()
        self._of = of

    def acquire(self, blocking: bool = True) -> bool:
        self._of._lock = self._lock
        return super().acquire(blocking)


def hand_on_while_they_leave(mutex: Mutex[int]) -> None:
    """Another thread left the lock too early to see what was left to it."""
    lock: Any = LeftLock(mutex)
    mutex._lock = lock
    while_closing(mutex._hand_on)


def hand_on_inside(mutex: Mutex[int]) -> None:
    """In the middle of this very thread's work there, which goes on first."""
    with mutex._lock:
        mutex._hand_on()
        assert not mutex.locked()
    mutex._catch_up()


@pytest.mark.pure("its internal lock is replaced, or entered from outside")
@pytest.mark.parametrize("hand_on", [hand_on_while_being_closed, hand_on_while_they_leave, hand_on_inside])
def test_who_cannot_get_into_the_lock_leaves_the_line_to_whoever_is_inside(hand_on: Callable[[Any], None]) -> None:
    """What came back is handed on as soon as they leave."""
    mutex = OpenMutex(0)

    async def enter() -> None:
        async with mutex:
            pass

    async def main() -> None:
        guard = mutex.try_lock()
        waiter = asyncio.ensure_future(enter())
        await asyncio.sleep(0)
        come_back_without_the_lock(mutex, guard)
        hand_on(mutex)
        assert mutex.locked()
        await asyncio.wait_for(waiter, 10)

    asyncio.run(main())


@pytest.mark.pure("a method that is replaced is not called from C")
def test_what_is_put_off_while_the_line_is_served_is_done_by_who_serves_it() -> None:
    """Who put it off found somebody inside the lock."""
    mutex = OpenMutex(0)
    serve, log = mutex._serve, list[str]()

    def serve_and_leave() -> Any:
        if not log:
            mutex._deferred.append((log.append, "done"))
            del mutex._serve
        return serve()

    mutex._serve = serve_and_leave  # type: ignore[method-assign]
    mutex._hand_on()
    assert log == ["done"]


@pytest.mark.pure("its internal lock is entered from outside")
def test_permits_that_are_released_in_the_middle_of_the_semaphore_s_work_are_free_after_it() -> None:
    """By a signal handler, say; it is not told that they were released before."""
    semaphore: Any = Semaphore(2)
    permit = semaphore.try_acquire(2)
    with semaphore._lock:
        permit.release()
    semaphore._catch_up()
    assert semaphore.available_permits == 2


@pytest.mark.pure("its internal lock is replaced")
def test_what_was_put_off_is_done_once_though_two_come_to_do_it() -> None:
    """The other one was inside the lock first."""
    notify = Notify()
    log: list[str] = []
    notify._deferred.append((log.append, "done"))
    notify._lock = OvertakenLock(notify._lock, lambda: elsewhere(notify._catch_up))
    notify._catch_up()
    assert log == ["done"]


@pytest.mark.pure("its internal lock is replaced")
def test_what_is_given_back_while_a_coroutine_is_closed_waits_for_no_lock() -> None:
    """Whoever is inside makes the change; it counts as made."""
    notify = Notify()
    crowded: Any = CrowdedLock()
    notify._lock = crowded
    given: list[bool] = []
    while_closing(lambda: given.append(notify._give(notify._notify, OLDEST)))
    assert given == [True]
    assert not notify.statistics().stored
    crowded.leave(notify)
    assert notify.statistics().stored


@pytest.mark.pure("its internal lock is replaced")
def test_who_is_notified_while_a_coroutine_is_closed_waits_for_no_lock() -> None:
    """Whoever is inside the mutex's puts it in line."""
    mutex, condvar = OpenMutex(0), Condvar()
    log: list[str] = []

    async def main() -> None:
        tasks = await wait_all(mutex, condvar, log)
        crowded: Any = CrowdedLock()
        mutex._lock = crowded
        while_closing(condvar.notify_one)
        assert not mutex.locked()
        crowded.leave(mutex)
        assert mutex.locked()
        condvar.notify_all()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)

    asyncio.run(main())
    assert log == ["a", "b", "c"]


@pytest.mark.pure("a method that is replaced is not called from C")
@pytest.mark.parametrize("step", ["_serve", "_hand_on"])
def test_the_line_is_served_though_it_is_struck_as_it_is_handed_on(step: str) -> None:
    """The token came back without the internal lock."""
    mutex = OpenMutex(0)
    strikes = {"_serve": mutex._hand_on, "_hand_on": mutex._hand_on_again}

    async def enter() -> None:
        async with mutex:
            pass

    async def main() -> None:
        guard = mutex.try_lock()
        waiter = asyncio.ensure_future(enter())
        await asyncio.sleep(0)
        come_back_without_the_lock(mutex, guard)
        setattr(mutex, step, strike(getattr(mutex, step), after=False))
        with pytest.raises(Struck):
            strikes[step]()
        assert not mutex._lock._is_owned()
        await asyncio.wait_for(waiter, 10)

    asyncio.run(main())
    assert not mutex.locked()


@pytest.mark.pure("a method that is replaced is not called from C")
def test_what_was_granted_to_a_cancelled_waiter_comes_back_once_though_that_is_struck() -> None:
    """The mutex was free again already: the second attempt leaves it alone."""
    mutex = OpenMutex(0)

    async def wait() -> None:
        with pytest.raises(Struck):
            await mutex.acquire()

    async def main() -> None:
        guard = mutex.try_lock()
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        guard.release()
        waiting.cancel()
        mutex._retract = strike(mutex._retract, after=True)  # type: ignore[method-assign]
        await waiting

    asyncio.run(main())
    assert len(mutex._free) == 1


async def wait_all(mutex: Mutex[int], condvar: Condvar, log: list[str]) -> list[asyncio.Task[None]]:
    """Three who wait for a notification, in this order; they log that they came back."""

    async def wait(name: str) -> None:
        async with mutex as guard:
            await condvar.wait(guard)
            log.append(name)

    tasks = [asyncio.ensure_future(wait(name)) for name in "abc"]
    for _ in range(10):
        await asyncio.sleep(0)
    assert condvar.statistics().waiting == len(tasks)
    return tasks


held_or_not = pytest.mark.parametrize("held", [False, True], ids=["free", "held"])


@moments
@held_or_not
@pytest.mark.pure("a method that is replaced is not called from C")
def test_all_who_are_notified_come_back_once_though_that_is_struck(held: bool, after: bool) -> None:
    """In their order, whether they stood in the mutex's line already or not."""
    mutex, condvar = OpenMutex(0), Condvar()
    log: list[str] = []

    async def main() -> None:
        tasks = await wait_all(mutex, condvar, log)
        guard = mutex.try_lock() if held else None
        mutex._give = strike(mutex._give, after=after)  # type: ignore[method-assign]
        with pytest.raises(Struck):
            condvar.notify_all()
        if guard is not None:
            guard.release()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)

    asyncio.run(main())
    assert log == ["a", "b", "c"]
    assert not mutex.locked()


@moments
@held_or_not
@pytest.mark.pure("a method that is replaced is not called from C")
def test_who_is_notified_comes_back_though_that_is_struck(held: bool, after: bool) -> None:
    """And what others left to the mutex meanwhile is done."""
    mutex, condvar = OpenMutex(0), Condvar()
    log: list[str] = []
    struck = strike(mutex._stand_in_line, after=after)

    def stand_in_line(ticket: Any) -> Any:
        try:
            return struck(ticket)
        finally:
            mutex._deferred.append((log.append, "left"))

    async def main() -> None:
        first, *others = await wait_all(mutex, condvar, log)
        guard = mutex.try_lock() if held else None
        mutex._stand_in_line = stand_in_line  # type: ignore[method-assign]
        with pytest.raises(Struck):
            condvar.notify_one()
        assert log == ["left"]
        del mutex._stand_in_line
        if guard is not None:
            guard.release()
        await asyncio.wait_for(first, 10)
        condvar.notify_all()
        await asyncio.wait_for(asyncio.gather(*others), 10)

    asyncio.run(main())
    assert log == ["left", "a", "b", "c"]
    assert not mutex.locked()


class OpenNotify(Notify):
    """One whose methods can be replaced."""


@pytest.mark.pure("a method that is replaced is not called from C")
def test_a_wait_for_a_notification_that_is_struck_before_it_stands_in_line_leaves_nothing() -> None:
    """Nobody waits, and the next notification is for the next."""
    notify = OpenNotify()

    async def main() -> None:
        notify._stand_in_line = strike(notify._stand_in_line, after=False)  # type: ignore[method-assign]
        with pytest.raises(Struck):
            await notify.notified()
        assert notify.statistics().waiting == 0
        notify.notify_one()
        await asyncio.wait_for(notify.notified(), 10)

    asyncio.run(main())


def test_a_place_whose_making_was_struck_is_dropped_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no ticket to give up."""
    told: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", told.append)
    Place.__new__(Place)
    assert told == []
