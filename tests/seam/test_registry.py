"""The registry of backends, loops that somebody else wrote, and loops that were closed."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import anyio
import pytest
import sniffio
import trio

from asynclocks import DeadlockError, Mutex, Semaphore, TryLockError, UnsupportedLoopError, backends
from asynclocks.backends import Backend, Parker, current_backend, register_backend
from tests.seam.renamed import (
    RENAMED,
    CheckpointingBackend,
    NamingBackend,
    NumberedBackend,
    RenamedBackend,
    SpuriousParker,
    rename,
    run_renamed,
)
from tests.support import collect


def _leave_parker_on_asyncio(name: str) -> Any:
    made: list[Any] = []

    async def make() -> None:
        if name == RENAMED:
            rename()
        made.append(current_backend().parker())

    asyncio.run(make())
    return made[0]


def _leave_parker_on_trio(_: str) -> Any:
    made: list[Any] = []

    async def make() -> None:
        made.append(current_backend().parker())

    trio.run(make)
    return made[0]


@pytest.mark.parametrize(
    ("name", "leave"),
    [("asyncio", _leave_parker_on_asyncio), ("trio", _leave_parker_on_trio), (RENAMED, _leave_parker_on_asyncio)],
)
def test_an_unpark_after_the_loop_was_closed_says_so(name: str, leave: Callable[[str], Any]) -> None:
    """False: the sleeper can never resume. From any thread, as often as asked."""
    register_backend(RENAMED, RenamedBackend)
    parker = leave(name)
    assert parker.unpark() is False
    others = leave(name)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(others.unpark()))
    thread.start()
    thread.join()
    assert answers == [False]


# parker's task            thread
# was cancelled
#                          unparks: says so, looks for the sleeper
# parks again
#                          finds the old park only
# returns at once
@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_an_unpark_that_saw_only_the_cancelled_park_ends_the_next() -> None:
    """The parker looks for it after it made its new bed."""
    parker: Any = current_backend().parker()
    parker.park().cancel()
    parker._unparked = True  # as far as the thread has come
    async with asyncio.timeout(10):
        await parker.park()


@pytest.mark.loops("asyncio", "asyncio-eager", "uvloop")
async def test_an_unpark_from_another_loop_of_the_same_thread_is_told_from_one_s_own() -> None:
    """A loop that was stopped for a while in the very thread gets the wake when it runs on."""
    other = asyncio.new_event_loop()
    parkers: list[Any] = []

    async def park() -> None:
        parkers.append(current_backend().parker())
        await parkers[0].park()

    async def begin() -> asyncio.Task[None]:
        task = asyncio.ensure_future(park())
        await asyncio.sleep(0)
        return task

    task = await asyncio.to_thread(other.run_until_complete, begin())
    assert parkers[0].unpark() is True
    await asyncio.to_thread(other.run_until_complete, asyncio.wait_for(task, 10))
    other.close()


def test_a_factory_is_called_once_and_not_before_its_loop_is_met() -> None:
    """Lazily, and one backend for the name from then on."""
    calls: list[str] = []

    def make() -> Backend:
        calls.append("made")
        return RenamedBackend()

    register_backend(RENAMED, make)
    assert calls == []

    async def main() -> None:
        rename()
        assert current_backend() is current_backend()
        async with Mutex(), Semaphore(1):
            assert current_backend().name == RENAMED

    asyncio.run(main())
    asyncio.run(main())
    assert calls == ["made"]


def test_registering_again_replaces() -> None:
    """The newest factory serves from the next look on, also objects that the old one served."""
    mutex = Mutex()
    made: list[CheckpointingBackend] = []

    def make() -> CheckpointingBackend:
        made.append(CheckpointingBackend())
        return made[-1]

    async def main() -> None:
        rename()
        first = current_backend()
        async with mutex:
            pass
        register_backend(RENAMED, make)
        assert current_backend() is not first
        async with mutex:
            pass
        assert current_backend() is made[1]

    register_backend(RENAMED, make)
    asyncio.run(main())
    assert len(made) == 2
    assert all(backend.checks == backend.yields == 1 for backend in made)


@pytest.mark.parametrize(
    ("name", "factory", "message"),
    [
        (None, RenamedBackend, "name must be a string"),
        ("", RenamedBackend, "name must be a string"),
        (7, RenamedBackend, "name must be a string"),
        ("x", None, "'x'.*must be callable"),
        ("x", RenamedBackend(), "'x'.*must be callable"),
    ],
)
def test_what_cannot_be_registered_is_refused(name: Any, factory: Any, message: str) -> None:
    """TypeError, and the registry stays as it was."""
    before = dict(backends._factories)
    with pytest.raises(TypeError, match=message):
        register_backend(name, factory)
    assert backends._factories == before


def test_a_loop_that_nobody_registered_is_refused_by_name() -> None:
    """UnsupportedLoopError names what was found, what is supported, and register_backend."""
    register_backend("another", RenamedBackend)
    mutex = Mutex()

    async def wait() -> None:
        rename()
        with pytest.raises(
            UnsupportedLoopError, match=r"is 'renamed'; supported are another, asyncio, trio, webloop.*register_backend"
        ):
            await mutex.lock()
        with pytest.raises(UnsupportedLoopError, match="renamed"):
            current_backend()
        mutex.try_lock().release()

    asyncio.run(wait())
    assert not mutex.locked()


@pytest.mark.parametrize("kinds", [("trio", "asyncio", "trio"), ("asyncio", "trio", "asyncio")])
def test_loops_of_both_kinds_may_take_turns_in_a_thread(kinds: tuple[str, ...]) -> None:
    """Which one is asked about first follows the one that ran last."""
    mutex, semaphore = Mutex(0), Semaphore(1)

    async def use(kind: str) -> None:
        for _ in range(2):
            async with mutex as guard, semaphore:
                assert current_backend().name == kind
                guard.value += 1

    for kind in kinds:
        anyio.run(use, kind, backend=kind)
    assert mutex.into_inner() == 6
    assert semaphore.available_permits == 1


def test_a_loop_registered_inside_asyncio_is_told_from_it_after_trio_ran_too() -> None:
    register_backend(RENAMED, RenamedBackend)

    async def on_trio() -> None:
        assert backends.whose_turn()[0].name == "trio"

    async def renamed() -> None:
        rename()
        assert backends.whose_turn()[0].name == RENAMED

    anyio.run(on_trio, backend="trio")
    anyio.run(renamed)


def test_no_loop_at_all_is_refused() -> None:
    """As such."""
    with pytest.raises(UnsupportedLoopError, match="no event loop runs in this thread"):
        current_backend()


def test_trio_need_not_be_installed_where_a_thread_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a trio that was imported is asked whether it runs."""
    monkeypatch.delitem(sys.modules, "trio")
    mutex = Mutex()
    with mutex.blocking_lock():
        assert mutex.locked()


def test_a_name_that_sniffio_was_told_for_the_thread_counts() -> None:
    """Loops that follow sniffio's advice set it while they run."""
    mutex = Mutex()
    outside, sniffio.thread_local.name = sniffio.thread_local.name, "curio"
    try:
        with pytest.raises(UnsupportedLoopError, match="'curio'"):
            current_backend()
        with pytest.raises(UnsupportedLoopError, match="'curio'"):
            mutex.acquire().send(None)
        with pytest.raises(RuntimeError, match="would block the running curio loop"):
            mutex.blocking_lock()
        mutex.try_lock().release()
    finally:
        sniffio.thread_local.name = outside


def test_asyncio_itself_may_be_replaced() -> None:
    """And its replacement serves every task of asyncio's from then on."""

    class Replacement(CheckpointingBackend):
        name = "asyncio"

    replacement = Replacement()
    register_backend("asyncio", lambda: replacement)
    register_backend(RENAMED, RenamedBackend)  # does not bring the short way back
    mutex, semaphore = Mutex(), Semaphore(1)

    async def main() -> None:
        async def work() -> None:
            async with mutex, semaphore:
                await asyncio.sleep(0)

        await asyncio.gather(*(work() for _ in range(3)))
        assert current_backend() is replacement
        await mutex.acquire()
        mutex.release()

    asyncio.run(main())
    assert replacement.checks == 7
    assert not mutex.locked()
    assert semaphore.available_permits == 1


@pytest.mark.parametrize("where", ["thread", "callback"])
def test_a_registered_name_that_leaked_out_of_its_loop_does_no_harm_to_a_try(where: str) -> None:
    """try_* work in any thread; the context variable is copied into workers."""
    register_backend(RENAMED, RenamedBackend)
    mutex = Mutex()

    class Strict(RenamedBackend):
        def current_task(self) -> Hashable:
            task = asyncio.current_task()  # RuntimeError where no loop runs
            if task is None:
                raise RuntimeError("no task runs")
            return task

    register_backend(RENAMED, Strict)

    async def main() -> None:
        rename()
        assert current_backend().current_task() is asyncio.current_task()
        if where == "thread":
            await asyncio.to_thread(lambda: mutex.try_lock().release())
            await asyncio.to_thread(lambda: mutex.blocking_lock(10).release())
        else:
            asyncio.get_running_loop().call_soon(lambda: mutex.try_lock().release())
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert not mutex.locked()


# --- the locks on somebody else's backend


@pytest.fixture(params=[RenamedBackend, CheckpointingBackend, NumberedBackend, NamingBackend])
def foreign(request: pytest.FixtureRequest) -> Iterator[Any]:
    backend = request.param()
    register_backend(RENAMED, lambda: backend)
    yield backend
    collect()


def prefix(foreign: Any) -> str:
    """How the names that this backend gives begin."""
    return {NumberedBackend: "number", NamingBackend: "named Task"}.get(type(foreign), "Task")


def test_locks_work_on_a_backend_that_knows_nothing_of_tickets(foreign: Any) -> None:
    """In order, cancelled and not, contended and not."""
    mutex, semaphore = Mutex(0), Semaphore(2)
    log: list[int] = []

    async def main() -> None:
        async def work(number: int) -> None:
            async with semaphore, mutex as guard:
                log.append(number)
                guard.value += 1
                await asyncio.sleep(0)

        guard = await mutex.lock()
        tasks = []
        for number in range(6):
            tasks.append(asyncio.ensure_future(work(number)))
            for _ in range(3):
                await asyncio.sleep(0)
        assert mutex.statistics().waiting == 2
        tasks[1].cancel()
        tasks[3].cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        guard.release()
        await asyncio.wait(tasks)

    run_renamed(main)
    assert log == [0, 2, 4, 5]
    assert mutex.into_inner() == 4
    assert semaphore.available_permits == 2
    assert mutex.statistics().waiting == 0


def test_acquisitions_are_checkpoints_where_the_backend_wants_them() -> None:
    """Once each, before and after; a backend says that it does not by `checkpoints = False`."""
    backend = CheckpointingBackend()
    register_backend(RENAMED, lambda: backend)
    mutex, semaphore = Mutex(), Semaphore(3)

    async def main() -> None:
        for number, take in enumerate(
            [mutex.lock, mutex.lock_owned, semaphore.acquire, lambda: semaphore.acquire(2)], start=1
        ):
            with await take():
                assert (backend.checks, backend.yields) == (number, number)
        async with mutex:
            assert (backend.checks, backend.yields) == (5, 5)
        async with semaphore:
            assert (backend.checks, backend.yields) == (6, 6)
        await mutex.acquire()
        assert (backend.checks, backend.yields) == (7, 7)
        mutex.release()

    run_renamed(main)


def test_acquisitions_are_no_checkpoints_where_the_backend_wants_none() -> None:
    """It is not asked for any, free or awaited."""
    backend = CheckpointingBackend()
    backend.checkpoints = False
    register_backend(RENAMED, lambda: backend)
    mutex, semaphore = Mutex(), Semaphore(1)

    async def main() -> None:
        for take in (mutex.lock, mutex.lock_owned, semaphore.acquire):
            (await take()).release()
        async with mutex, semaphore:
            waiting = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
        await waiting
        await mutex.acquire()
        mutex.release()

    async def wait() -> None:
        rename()
        async with mutex, semaphore:
            pass

    run_renamed(main)
    assert (backend.checks, backend.yields) == (0, 0)


def test_a_checkpoint_that_raises_gives_back_what_was_granted() -> None:
    """Though it should not raise."""

    class Raising(CheckpointingBackend):
        async def cancel_shielded_checkpoint(self) -> None:
            raise ZeroDivisionError

    register_backend(RENAMED, Raising)
    mutex, semaphore = Mutex(), Semaphore(2)

    async def main() -> None:
        for take in (
            mutex.lock,
            mutex.__aenter__,
            mutex.acquire,
            semaphore.acquire,
            semaphore.__aenter__,
            lambda: semaphore.acquire(2),
        ):
            with pytest.raises(ZeroDivisionError):
                await take()
            assert not mutex.locked()
            assert semaphore.available_permits == 2

    run_renamed(main)


def test_a_park_that_returns_without_reason_is_repeated() -> None:
    """Whoever parks looks at its own state again."""
    parkers: list[SpuriousParker] = []

    class Spurious(RenamedBackend):
        def parker(self) -> Parker:
            parkers.append(SpuriousParker())
            return parkers[-1]

    register_backend(RENAMED, Spurious)
    mutex = Mutex()

    async def main() -> None:
        async def work() -> None:
            async with mutex:
                pass

        guard = mutex.try_lock()
        task = asyncio.ensure_future(work())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        guard.release()
        await task

    run_renamed(main)
    assert parkers[-1].parks == 3
    assert not mutex.locked()


def test_deadlocks_are_found_on_somebody_else_s_loop(foreign: Any) -> None:
    """With the names that its backend gives."""
    first, second = Mutex(name="first"), Mutex(name="second")

    async def main() -> None:
        async with first:
            with pytest.raises(DeadlockError) as caught:
                await first.lock()
            assert len(caught.value.cycle) == 1
        assert f"task '{prefix(foreign)}" in str(caught.value)

        async def hold_second_wait_for_first() -> None:
            async with second:
                await asyncio.sleep(0)
                async with first:
                    pass

        task = asyncio.ensure_future(hold_second_wait_for_first())
        async with first:
            for _ in range(10):
                await asyncio.sleep(0)
            with pytest.raises(DeadlockError) as caught:
                await second.lock()
            assert len(caught.value.cycle) == 2
        await task

    run_renamed(main)
    assert not first.locked()


def test_names_of_tasks_are_known_outside_their_loop(foreign: Any) -> None:
    """Statistics may be asked for anywhere."""
    mutex = Mutex()

    async def main() -> None:
        async with mutex:
            owner = await asyncio.to_thread(lambda: mutex.statistics().owner)
            assert owner is not None
            assert owner.startswith(prefix(foreign))
            with pytest.raises(TryLockError):
                await asyncio.to_thread(mutex.try_lock)

    run_renamed(main)


def test_a_task_of_a_backend_that_is_gone_is_named_as_best_can_be() -> None:
    """Its owner may be asked for after the backend was replaced."""
    register_backend(RENAMED, NumberedBackend)
    mutex = Mutex()

    async def main() -> None:
        async with mutex:
            task = current_backend().current_task()
            register_backend(RENAMED, RenamedBackend)
            assert mutex.statistics().owner == repr(task)

    run_renamed(main)
    assert not mutex.locked()


def test_loops_of_both_kinds_wait_for_each_other_s_tasks() -> None:
    """Somebody else's loop and ours, in two threads, on one mutex."""
    register_backend(RENAMED, RenamedBackend)
    mutex = Mutex(0)

    async def work() -> None:
        for _ in range(100):
            async with mutex as guard:
                guard.value += 1
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(work(), work())

    thread = threading.Thread(target=run_renamed, args=(main,))
    thread.start()
    asyncio.run(asyncio.wait_for(main(), 30))
    thread.join()
    assert mutex.into_inner() == 400


def test_deadlocks_on_our_loop_are_still_found_beside_somebody_else_s() -> None:
    """Though its tasks are of the same type as ours."""
    register_backend(RENAMED, RenamedBackend)
    first, second = Mutex(name="first"), Mutex(name="second")

    async def use() -> None:
        async with first:
            pass

    run_renamed(use)

    async def main() -> None:
        async def hold_second_wait_for_first() -> None:
            async with second:
                await asyncio.sleep(0)
                async with first:
                    pass

        task = asyncio.ensure_future(hold_second_wait_for_first())
        async with first:
            for _ in range(10):
                await asyncio.sleep(0)
            with pytest.raises(DeadlockError):
                await second.lock()
        await task

    asyncio.run(main())
