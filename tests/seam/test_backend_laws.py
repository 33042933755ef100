"""The laws of any backend, run for each of ours and for one that somebody else wrote.

A new backend passes these, or the locks do not work on it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from typing import Any

import anyio
import pytest
import sniffio

from asynclocks.backends import Backend, ForeignBackend, Parker, current_backend, register_backend, running
from tests.conformance.line import Cancel, both_cancels
from tests.seam.renamed import RENAMED, RenamedBackend, rename
from tests.support import in_pyodide, loop_name, on_trio, settle, spawn

needs_threads = pytest.mark.skipif(in_pyodide, reason="Pyodide starts no threads")


@pytest.fixture(params=["as it is", RENAMED])
def inside(request: pytest.FixtureRequest) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes functions run on the test's loop as it is, or on somebody else's loop that is like it."""

    def as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def renamed(function: Callable[..., Any]) -> Callable[..., Any]:
        async def run(*args: object) -> Any:
            rename()
            return await function(*args)

        run.__name__ = function.__name__
        return run

    if request.param != RENAMED:
        return as_it_is
    if "trio" in request.node.callspec.id:
        pytest.skip("trio says its name by other means")
    register_backend(RENAMED, RenamedBackend)
    return renamed


Inside = Callable[[Callable[..., Any]], Callable[..., Any]]


async def test_it_is_found_by_the_name_it_bears(inside: Inside) -> None:
    """`current_backend` gives the one backend of the running loop, always the same."""

    async def look() -> None:
        backend = current_backend()
        assert isinstance(backend, Backend)
        assert backend.name in {"asyncio", "trio", "webloop", RENAMED}
        assert backend is current_backend()
        assert isinstance(backend.parker(), Parker)
        assert (backend.name == "trio") is (loop_name_before == "trio")

    loop_name_before = loop_name()
    async with anyio.create_task_group() as tasks:
        spawn(tasks, inside(look))


async def test_a_task_is_itself_and_nobody_else(inside: Inside) -> None:
    """The same task is the same each time it is asked, across waits; another task is another."""
    seen: list[Hashable] = []

    async def look() -> None:
        backend = current_backend()
        task = backend.current_task()
        await anyio_free_pause()
        assert backend.current_task() == task
        assert hash(backend.current_task()) == hash(task)
        seen.append(task)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            spawn(tasks, inside(look))
    assert len(set(seen)) == 3


async def anyio_free_pause() -> None:
    # anyio asks sniffio, too, and knows no renamed loop.
    if sniffio.current_async_library() == "trio":
        import trio

        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


async def test_a_task_s_name_is_the_loop_s(inside: Inside) -> None:
    """What its user called it."""
    names: list[str] = []

    async def look() -> None:
        backend = current_backend()
        names.append(backend.task_name(backend.current_task()))

    async with anyio.create_task_group() as tasks:
        spawn(tasks, inside(look), name="anna")
    assert names[0].endswith("anna")


async def test_what_is_detached_runs_and_is_not_cut_short_where_the_loop_allows(inside: Inside) -> None:
    """Begun when `detach` returns; on a backend that has no word of it, it runs there and ends with its caller."""
    done: list[str] = []
    released = anyio.Event()

    async def work() -> None:
        done.append("begun")
        await released.wait()
        done.append("ended")

    backends: list[Any] = []

    def begin() -> Any:
        backends.append(running()[0])
        return backends[0].detach(work)

    async with anyio.create_task_group() as group:
        caller = spawn(group, inside(begin))
        await settle()
        assert done == ["begun"]
        caller.cancel()
        await settle()
        released.set()
    await settle()
    foreign = type(backends[0]) is ForeignBackend
    assert done == (["begun"] if foreign else ["begun", "ended"])


async def test_a_checkpoint_raises_in_a_cancelled_scope_where_cancellation_is_level_triggered() -> None:
    """checkpoint_if_cancelled may raise; cancel_shielded_checkpoint never does."""
    backend = current_backend()
    reached = False
    with anyio.CancelScope() as scope:
        await backend.checkpoint_if_cancelled()
        scope.cancel()
        await backend.cancel_shielded_checkpoint()
        reached = True
        await backend.checkpoint_if_cancelled()
        assert not on_trio()
    assert reached
    assert scope.cancelled_caught is on_trio()


# parker's task            another
# parks
#                          unparks, hears True
# runs
async def test_an_unpark_wakes_who_is_parked(inside: Inside) -> None:
    """And tells that it will."""
    parkers: list[Any] = []

    async def park() -> None:
        parkers.append(current_backend().parker())
        await parkers[0].park()

    async with anyio.create_task_group() as tasks:
        running = spawn(tasks, inside(park))
        await settle()
        assert not running.done
        assert parkers[0].unpark() is True
        await settle()
        assert running.state == "returned"


# parker's task            another
#                          unparks
# parks and returns at once
async def test_an_unpark_before_the_park_is_not_lost(inside: Inside) -> None:
    """The park then returns at once, for who unparks itself, and for others."""

    async def park_oneself() -> None:
        parker = current_backend().parker()
        assert parker.unpark() is True
        await parker.park()

    async with anyio.create_task_group() as tasks:
        running = spawn(tasks, inside(park_oneself))
        await settle()
        assert running.state == "returned"


# parker's task            thread
# parks
#                          unparks
# runs, though the loop slept
@needs_threads
async def test_another_thread_may_unpark(inside: Inside) -> None:
    """The loop may be asleep in its selector."""
    parkers: list[Any] = []
    parked = threading.Event()

    async def park() -> None:
        parkers.append(current_backend().parker())
        parked.set()
        await parkers[0].park()

    def unpark() -> None:
        assert parked.wait(30)
        assert parkers[0].unpark() is True

    thread = threading.Thread(target=unpark)
    async with anyio.create_task_group() as tasks:
        spawn(tasks, inside(park))
        thread.start()
    thread.join()


@needs_threads
async def test_threads_and_tasks_may_race_to_park_and_unpark(inside: Inside) -> None:
    """Whoever is first, no wake is lost."""
    made: list[Any] = []
    ready = threading.Semaphore(0)

    async def park() -> None:
        for _ in range(200):
            parker = current_backend().parker()
            made.append(parker)
            ready.release()
            await parker.park()

    def unpark() -> None:
        for number in range(200):
            assert ready.acquire(timeout=30)
            assert made[number].unpark() is True

    thread = threading.Thread(target=unpark)
    thread.start()
    async with anyio.create_task_group() as tasks:
        spawn(tasks, inside(park))
    thread.join()


# parker's task            another
# parks
#                          cancels
# raises, parks again
#                          unparks
# runs
@both_cancels
async def test_who_was_cancelled_may_park_again(inside: Inside, cancel: Cancel) -> None:
    """A cancellation uses nothing up."""
    parkers: list[Any] = []
    log: list[str] = []

    async def park() -> None:
        parkers.append(current_backend().parker())
        try:
            await parkers[0].park()
        finally:
            log.append("first is over")
            if sniffio.current_async_library() == "trio":
                import trio

                with trio.CancelScope(shield=True):
                    await parkers[0].park()
            else:
                await asyncio.shield(asyncio.ensure_future(again()))
            log.append("second is over")

    async def again() -> None:
        await parkers[0].park()

    async with anyio.create_task_group() as tasks:
        running = spawn(tasks, inside(park))
        await settle()
        cancel(running)
        await settle()
        if log == ["first is over"]:
            assert parkers[0].unpark() is True
        await settle()
        assert parkers[0].unpark() is True
        await settle()
        assert running.done
        await settle()
    assert log[0] == "first is over"


# parker's task            another
# parks
#                          cancels
#                          unparks
# raises, parks again: returns at once
async def test_an_unpark_of_a_cancelled_park_is_kept_for_the_next(inside: Inside) -> None:
    """An unpark that meets a cancellation is not lost."""
    parkers: list[Any] = []
    scopes: list[Any] = []

    async def park() -> None:
        parkers.append(current_backend().parker())
        if sniffio.current_async_library() == "trio":
            import trio

            with trio.CancelScope() as scope:
                scopes.append(scope)
                await parkers[0].park()
        else:
            task = asyncio.ensure_future(once())
            scopes.append(task)
            await asyncio.wait([task])
        await parkers[0].park()

    async def once() -> None:
        await parkers[0].park()

    async with anyio.create_task_group() as tasks:
        running = spawn(tasks, inside(park))
        await settle()
        scopes[0].cancel()
        parkers[0].unpark()
        await settle()
        assert running.state == "returned"


async def test_a_callback_may_unpark(inside: Inside) -> None:
    """Where no task is in its step, and the loop is about to sleep."""
    parkers: list[Any] = []

    async def park() -> None:
        parkers.append(current_backend().parker())
        await parkers[0].park()

    def unpark() -> None:
        assert parkers[0].unpark() is True

    async with anyio.create_task_group() as tasks:
        running = spawn(tasks, inside(park))
        await settle()
        if on_trio():
            import trio

            trio.lowlevel.current_trio_token().run_sync_soon(unpark)
        else:
            asyncio.get_running_loop().call_later(0.01, unpark)
            await asyncio.sleep(0.02)
        await settle()
        assert running.state == "returned"
