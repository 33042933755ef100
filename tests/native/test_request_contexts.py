"""Tasks that die without a word: who is passed over, who keeps its place, what the dead held, what is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from contextvars import Context, copy_context
from typing import Any

import pytest

from asynclocks import ConcurrentMap, Condvar, Mutex, Notify, OnceCell, RwLock, Semaphore
from asynclocks.backends.workers import request as request_module
from asynclocks.backends.workers.monitor import RequestParker
from asynclocks.backends.workers.reaping import PATIENCE, end
from asynclocks.backends.workers.request import MISSED, current_request, request_of
from tests.native.requests import Place, Requests, in_requests
from tests.support import settle

pytestmark = [
    pytest.mark.loops("asyncio"),
    pytest.mark.pure(
        "requests exist in Pyodide only, where nothing is compiled; here they are played by patching the backend"
    ),
]


class Line:
    """Requests that take one lock, and what they say."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.got: list[str] = []
        self.recovered: list[str] = []
        self.go_on = {name: asyncio.Event() for name in "ABCDE"}

    async def take(self, name: str) -> None:
        async with self.lock as guard:
            self.got.append(name)
            if guard.recovered:
                self.recovered.append(name)
            await self.go_on[name].wait()

    async def release(self, name: str) -> None:
        self.go_on[name].set()
        await settle()


class Room:
    """Where requests wait for a condition."""

    def __init__(self) -> None:
        self.mutex, self.condvar = Mutex(), Condvar()
        self.done: list[str] = []
        self.go_on = asyncio.Event()

    async def wait(self, name: str) -> None:
        async with self.mutex as guard:
            await self.condvar.wait(guard)
            self.done.append(name)

    async def notify(self, notify: Callable[[Condvar], object]) -> None:
        async with self.mutex:
            notify(self.condvar)
            await self.go_on.wait()


async def hold(*locks: Any) -> None:
    """All of them, for ever."""
    async with AsyncExitStack() as stack:
        for lock in locks:
            await stack.enter_async_context(lock)
        await asyncio.Event().wait()


async def handed_over(line: Line) -> None:
    """Until A has released, and not one step more."""
    for _ in range(10):
        if line.lock.statistics().owner == "A":
            await asyncio.sleep(0)
    assert line.lock.statistics().owner == "B"


async def line_of(requests: Requests, lock: Any, names: str) -> Line:
    """The first one holds, the others wait."""
    line = Line(lock)
    for name in names:
        await requests.begin(name, line.take(name))
    assert line.got == [names[0]]
    return line


@in_requests
async def test_sleeper_is_woken_in_its_own_request(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "AB")
    requests.request("B").alive = False
    await line.release("A")
    assert line.got == ["A"]  # the message is not read yet
    requests.request("B").alive = True
    requests.request("B").read()
    await settle()
    assert line.got == ["A", "B"]


@in_requests
async def test_messages_to_one_request_arrive_together(requests: Requests) -> None:
    lines = [await line_of(requests, Mutex(), "A"), Line(Mutex())]
    await requests.begin("C", lines[1].take("C"))
    await requests.begin("B", lines[0].take("B"))
    await requests.begin("D", lines[1].take("D"), of="B")
    requests.request("B").alive = False
    await lines[0].release("A")
    await lines[1].release("C")
    assert requests.request("B").did.count("message") == 1
    await requests.beat("B", times=1)
    assert [line.got for line in lines] == [["A", "B"], ["C", "D"]]


@in_requests
async def test_sleepers_of_one_request_wake_each_other_without_messages(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "A")
    await requests.begin("B", line.take("B"), of="A")
    await line.release("A")
    assert line.got == ["A", "B"]
    assert requests.request("A") is requests.request("B")
    assert "message" not in requests.request("A").did


@in_requests
async def test_dead_head_is_passed_over(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "ABC")
    requests.kill("B")
    await requests.beat("C")
    assert line.lock.statistics().waiting == 1
    await line.release("A")
    assert line.got == ["A", "C"]


@in_requests
async def test_grant_to_a_dead_sleeper_goes_on(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "ABC")
    requests.kill("B")
    await line.release("A")
    await requests.beat("C", times=MISSED - 1)
    assert line.got == ["A"]
    await requests.beat("C", times=1)
    assert line.got == ["A", "C"]
    assert line.recovered == []  # B never had it


@in_requests
async def test_sleeper_with_a_revoked_grant_goes_back_to_the_head(requests: Requests) -> None:
    """B was silent when its turn came, and lives."""
    line = await line_of(requests, Mutex(), "ABCD")
    requests.kill("B")
    await line.release("A")
    await requests.beat("C", "D")
    assert line.got == ["A", "C"]
    await requests.beat("B", times=1)
    await line.release("C")
    assert line.got == ["A", "C", "B"]
    await line.release("B")
    assert line.got == ["A", "C", "B", "D"]


@in_requests
async def test_sleeper_that_was_passed_over_is_let_in_at_once_if_nobody_is_in(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "ABC")
    requests.kill("B")
    await requests.beat("C")
    await line.release("A")
    await line.release("C")
    await requests.beat("B", times=1)
    assert line.got == ["A", "C", "B"]


@in_requests
async def test_sleeper_with_a_revoked_grant_whose_wake_arrives_late_waits_again(requests: Requests) -> None:
    """The message of the grant that was taken back means nothing any more; the next one does."""
    line = await line_of(requests, Mutex(), "ABC")
    requests.kill("B")
    await line.release("A")
    await requests.beat("C")
    requests.request("B").alive = True
    requests.request("B").read()
    await settle()
    assert line.got == ["A", "C"]
    await line.release("C")
    assert line.got == ["A", "C", "B"]


@in_requests
async def test_sleeper_that_lives_but_is_slow_keeps_its_place(requests: Requests) -> None:
    """A request that beats less often than others, but does, is not dead."""
    line = await line_of(requests, Mutex(), "ABC")
    for _ in range(3):
        await requests.beat("C", times=MISSED - 1)
        await requests.beat("B", times=1)
    await line.release("A")
    assert line.got == ["A", "B"]


@in_requests
async def test_silence_of_all_is_nobodys_death(requests: Requests) -> None:
    """A long computation stops everybody's heartbeats."""
    line = await line_of(requests, Mutex(), "ABC")
    await requests.beat("B", "C", times=1)
    await line.release("A")
    assert line.got == ["A", "B"]


@in_requests
async def test_the_living_are_served_in_their_order(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "ABCDE")
    requests.kill("B", "D")
    await requests.beat("C", "E")
    for name in "AC":
        await line.release(name)
    assert line.got == ["A", "C", "E"]


@in_requests
async def test_two_of_a_request_that_lives_after_all_keep_their_order(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "ABD")
    await requests.begin("C", line.take("C"), of="B")
    await requests.beat("D")
    assert line.lock.statistics().waiting == 1
    await requests.beat("B", times=1)
    for name in "ABC":
        await line.release(name)
    assert line.got == ["A", "B", "C", "D"]


@in_requests
async def test_grant_passes_the_second_sleeper_of_a_suspected_request_at_once(requests: Requests) -> None:
    """B was granted, its neighbour C is next in line, both are gone: D."""
    line = await line_of(requests, Mutex(), "AB")
    await requests.begin("C", line.take("C"), of="B")
    await requests.begin("D", line.take("D"))
    requests.kill("B")
    await line.release("A")
    await requests.beat("D")
    assert line.got == ["A", "D"]


@in_requests
async def test_cancelled_sleeper_that_was_passed_over_leaves_for_good(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "AC")
    waiter = await requests.begin("B", line.take("B"))
    await requests.beat("C")
    waiter.cancel()
    await settle()
    assert waiter.cancelled()
    await line.release("A")
    await line.release("C")
    assert (line.got, line.lock.locked()) == (["A", "C"], False)


@in_requests
async def test_sleeper_that_lives_after_all_counts_as_a_waiter_again(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "ABCD")
    requests.kill("B")
    await requests.beat("C", "D")
    assert line.lock.statistics().waiting == 2
    await requests.beat("B", times=1)
    assert line.lock.statistics().waiting == 3
    for name in "ABCD":
        await line.release(name)
    assert line.got == ["A", "B", "C", "D"]
    assert line.lock.statistics().waiting == 0


@in_requests
async def test_who_comes_after_a_sleeper_that_lives_after_all_stands_behind_it(requests: Requests) -> None:
    """Nobody else stood in line when it came back."""
    line = await line_of(requests, Mutex(), "AB")
    other = await requests.begin("C", line.take("C"))
    requests.kill("B")
    await requests.beat("C")
    other.cancel()
    await settle()
    assert line.lock.statistics().waiting == 0
    await requests.beat("B", times=1)
    await requests.begin("D", line.take("D"))
    for name in "AB":
        await line.release(name)
    assert line.got == ["A", "B", "D"]


@in_requests
async def test_sleeper_that_lives_after_all_keeps_its_place_as_the_next_gives_up(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "AB")
    next_one = await requests.begin("C", line.take("C"))
    requests.kill("B")
    await requests.beat("C")
    assert line.lock.statistics().waiting == 1
    await requests.beat("B", times=1)
    next_one.cancel()
    await settle()
    await line.release("A")
    assert line.got == ["A", "B"]


@in_requests
async def test_sleeper_in_a_line_with_marks_stays_where_it_joins_again(requests: Requests) -> None:
    """A OnceCell's line has those that make the value before those that only wait for it."""
    cell: OnceCell[str] = OnceCell()
    made = asyncio.Event()

    async def make() -> str:
        await made.wait()
        raise LookupError

    await requests.begin("A", cell.get_or_init(make))
    waiting = await requests.begin("B", cell.wait())
    other = await requests.begin("C", cell.get_or_init(lambda: "value"))
    await requests.beat("C")
    await requests.beat("B", times=1)
    made.set()
    await settle()
    assert [waiting.result(), other.result()] == ["value"] * 2


@in_requests
async def test_dead_holder_is_reaped_and_the_next_guard_says_recovered(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "ABC")
    requests.kill("A")
    await requests.beat("B", "C", times=MISSED)
    assert line.got == ["A"]
    await requests.beat("B", "C", times=1)
    assert (line.got, line.recovered) == (["A", "B"], ["B"])
    await line.release("B")
    assert (line.got, line.recovered) == (["A", "B", "C"], ["B"])


@pytest.mark.parametrize("lock", [RwLock().write, lambda: Mutex().lock], ids=["rwlock", "mutex"])
@in_requests
async def test_guard_of_every_kind_says_recovered(requests: Requests, lock: Any) -> None:
    lock = lock() if lock.__name__ == "<lambda>" else lock
    said = {}

    async def take(name: str) -> None:
        async with lock() as guard:
            said[name] = guard.recovered
            await asyncio.Event().wait()

    await requests.begin("A", take("A"))
    await requests.begin("B", take("B"))
    requests.kill("A")
    await requests.beat("B", times=MISSED + 1)
    assert said == {"A": False, "B": True}


def mutex_block(mutex: Mutex[None]) -> Any:
    return mutex


@in_requests
@pytest.mark.parametrize("take", [mutex_block, Mutex.lock, Mutex.try_lock])
async def test_lock_that_nobody_waited_for_is_recovered_by_the_first_that_asks(requests: Requests, take: Any) -> None:
    """It went free with the one that somebody waited for."""
    first, second = Mutex(), Mutex()

    async def ask() -> tuple[bool, bool]:
        taken = take(second)
        if hasattr(taken, "__aenter__"):
            async with taken as guard:
                return guard.recovered, guard.recovered
        with taken as guard:
            return guard.recovered, guard.recovered

    await requests.begin("A", hold(first, second))
    waiter = Line(first)
    await requests.begin("B", waiter.take("B"))
    requests.kill("A")
    await requests.beat("B", times=MISSED + 1)
    assert waiter.recovered == ["B"]
    released = second.try_lock()
    released.release()
    assert not released.recovered
    assert (await requests.begin("C", ask())).result() == (True, True)
    assert (await requests.begin("D", ask())).result() == (False, False)


@in_requests
async def test_lock_that_nobody_waited_for_is_recovered_by_a_waiter_that_asks_first(requests: Requests) -> None:
    """Who took it before did not ask."""
    first, second = Mutex(), Mutex()
    said = []

    async def ask() -> None:
        async with second.lock() as guard:
            said.append(guard.recovered)

    async def wait_for_another() -> None:
        async with first:
            pass

    await requests.begin("A", hold(first, second))
    await requests.begin("B", wait_for_another())
    requests.kill("A")
    await requests.beat("B", times=MISSED + 1)
    with second.try_lock():
        await requests.begin("C", ask())
        await requests.begin("D", ask())
        assert said == []
    await settle()
    assert said == [True, False]


@in_requests
async def test_lock_that_nobody_waited_for_is_recovered_by_a_part_that_asks_first(requests: Requests) -> None:
    """It asks for the whole."""
    first, second = Mutex(), Mutex(0)

    async def ask() -> bool:
        with second.try_lock().map(str) as part:
            return part.recovered

    await requests.begin("A", hold(first, second))
    await requests.begin("B", Line(first).take("B"))
    requests.kill("A")
    await requests.beat("B", times=MISSED + 1)
    said = [(await requests.begin(name, ask())).result() for name in "CD"]
    assert said == [True, False]


@in_requests
@pytest.mark.parametrize("take", [ConcurrentMap.try_entry, ConcurrentMap.try_ref])
async def test_a_key_that_a_dead_request_held_and_nobody_waited_for_is_free(requests: Requests, take: Any) -> None:
    """It says nothing of a holder that died: what an entry changed was rolled back."""
    mutex, cache = Mutex(), ConcurrentMap({"k": 1})

    async def take_both() -> None:
        with take(cache, "k"):
            await hold(mutex)

    await requests.begin("A", take_both())
    waiter = Line(mutex)
    await requests.begin("B", waiter.take("B"))
    requests.kill("A")
    await requests.beat("B", times=MISSED + 1)
    assert waiter.recovered == ["B"]
    with cache.try_entry("k") as entry:
        assert not entry.recovered


@in_requests
async def test_what_is_written_under_an_rwlock_is_recovered_by_the_first_that_asks(requests: Requests) -> None:
    mutex, rwlock = Mutex(), RwLock()

    async def ask() -> bool:
        async with rwlock.read() as guard:
            return guard.recovered

    await requests.begin("A", hold(mutex, rwlock.write()))
    await requests.begin("B", Line(mutex).take("B"))
    requests.kill("A")
    await requests.beat("B", times=MISSED + 1)
    assert (await requests.begin("C", ask())).result() is True
    assert (await requests.begin("D", ask())).result() is False


@in_requests
async def test_notification_of_a_dead_waiter_goes_to_the_next(requests: Requests) -> None:
    room = Room()

    for name in "AB":
        await requests.begin(name, room.wait(name))
    await requests.begin("C", room.notify(Condvar.notify_one))
    requests.kill("A")
    await requests.beat("B")
    room.go_on.set()
    await settle()
    assert room.done == ["B"]


@in_requests
async def test_holder_that_answers_is_left_alone(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "AB")
    await requests.beat("B", times=3 * MISSED)
    assert line.got == ["A"]
    assert requests.request("A").did.count("message") == 3 * MISSED


@in_requests
async def test_dead_holder_that_waits_itself_is_reaped(requests: Requests) -> None:
    first, second = Mutex(), Mutex()
    other = await line_of(requests, second, "B")
    await requests.begin("A", hold(first, second))
    line = Line(first)
    await requests.begin("C", line.take("C"))
    requests.kill("A")
    await requests.beat("C", times=MISSED)
    assert (line.got, line.recovered) == (["C"], ["C"])
    assert second.statistics().waiting == 0
    await other.release("B")
    assert not second.locked()


@in_requests
async def test_anybody_silent_may_hold_a_permit(requests: Requests) -> None:
    """A semaphore cannot say who does. Who slept gets more time than who did not."""
    line = await line_of(requests, Semaphore(1), "ABC")
    requests.kill("A", "B")
    await requests.beat("C", times=MISSED)
    assert line.lock.statistics().waiting == 1
    assert line.got == ["A"]
    await requests.beat("C", times=1)
    assert line.got == ["A", "C"]
    await line.release("C")
    assert line.lock.available_permits == 1


@in_requests
async def test_slow_sleeper_is_not_reaped_for_a_permit(requests: Requests) -> None:
    line = await line_of(requests, Semaphore(1), "ABC")
    await requests.beat("C", times=MISSED + 1)
    await requests.beat("B", times=1)
    await line.release("A")
    assert line.got == ["A", "B"]


@in_requests
async def test_who_waits_for_a_condition_has_the_silent_reaped(requests: Requests) -> None:
    """Nobody can say who would notify."""
    line = await line_of(requests, Mutex(), "A")
    await requests.begin("B", Room().wait("B"))
    requests.kill("A")
    await requests.beat("B", times=MISSED + 1)
    assert not line.lock.locked()


@in_requests
async def test_holder_that_died_before_it_opened_is_reaped(requests: Requests) -> None:
    """It took something, and its very next step never came."""
    line = Line(Mutex())
    waiter = Line(line.lock)

    async def take() -> None:
        requests.monitor.running_request(asyncio.current_task())
        requests.kill("A")
        await line.take("A")

    await requests.begin("A", take())
    assert line.got == ["A"]
    assert requests.request("A").did == []
    await requests.begin("B", waiter.take("B"))
    await requests.beat("B", times=MISSED + 1)
    assert waiter.recovered == ["B"]


@in_requests
async def test_what_a_plain_call_took_is_released_with_its_dead_request(requests: Requests) -> None:
    """Its frames cannot be closed; what a semaphore gave cannot be told."""
    mutex, semaphore = Mutex(), Semaphore(1)

    async def take() -> None:
        request = requests.monitor.running_request(asyncio.current_task())
        for primitive, what in [(mutex, None), (semaphore, 1)]:
            parker = RequestParker(request)
            request.note_blocking(parker)
            assert primitive._transact(primitive._join, primitive._fill_in(parker, what, None))
        request.note_blocking(RequestParker(request))  # it only looked whether it could wait
        request.note_blocking(RequestParker(request))
        await asyncio.Event().wait()

    await requests.begin("A", take())
    line = Line(mutex)
    await requests.begin("B", line.take("B"))
    requests.kill("A")
    await requests.beat("B", times=MISSED + 1)
    assert line.recovered == ["B"]
    assert semaphore.available_permits == 0


@in_requests
async def test_what_acquire_took_without_a_block_is_released_with_its_dead_holder(requests: Requests) -> None:
    mutex = Mutex()

    async def acquire() -> None:
        await mutex.acquire()
        await asyncio.Event().wait()

    await requests.begin("A", acquire())
    line = Line(mutex)
    await requests.begin("B", line.take("B"))
    requests.kill("A")
    await requests.beat("B", times=MISSED + 1)
    assert line.recovered == ["B"]


@in_requests
async def test_last_words_of_the_dead_are_reported_and_change_nothing(requests: Requests) -> None:
    """A `finally` may await, which nobody answers any more, or raise."""
    mutex = Mutex()
    said: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["exception"]))

    async def take() -> None:
        async with mutex:
            try:
                await asyncio.Event().wait()
            finally:
                try:
                    await asyncio.Event().wait()
                finally:
                    raise LookupError("in vain")

    await requests.begin("A", take())
    line = Line(mutex)
    await requests.begin("B", line.take("B"))
    requests.kill("A")
    await requests.beat("B", times=MISSED + 1)
    assert line.recovered == ["B"]
    assert [type(error) for error in said] == [RuntimeError, LookupError]


@in_requests
async def test_dead_task_that_will_not_end_is_closed_some_times_and_then_let_be(requests: Requests) -> None:
    mutex = Mutex()
    said = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
    over = False

    async def take() -> None:
        async with mutex:
            while not over:
                with suppress(GeneratorExit):
                    await asyncio.Event().wait()

    await requests.begin("A", take())
    waiter = await requests.begin("B", Line(mutex).take("B"))
    requests.kill("A")
    await requests.beat("B", times=3 * MISSED)
    assert said == ["a task that died with its request ended with an error"] * PATIENCE
    assert mutex.statistics().owner == "A"
    over = True
    waiter.cancel()


async def test_dead_task_in_the_middle_of_a_plain_call_cannot_be_closed() -> None:
    """Its stack was switched out."""

    async def running() -> None:
        class Switched:
            _log_destroy_pending = True

            def get_coro(self) -> Any:
                return here

        end(Switched())  # type: ignore[arg-type]

    here = running()
    await here


@in_requests
async def test_notified_sleepers_of_other_requests_are_not_roused_there(requests: Requests) -> None:
    """Condvar wakes all of its own loop in one go; not those of another request."""
    room = Room()

    await requests.begin("A", room.wait("A"))
    await requests.begin("B", room.wait("B"), of="A")
    await requests.begin("C", room.wait("C"))
    requests.kill("C")
    room.go_on.set()
    await requests.begin("D", room.notify(Condvar.notify_all))
    assert room.done == ["A", "B"]
    await requests.beat("C", times=1)
    assert room.done == ["A", "B", "C"]


@in_requests
async def test_notified_sleepers_of_the_notifiers_request_are_roused_in_one_go(requests: Requests) -> None:
    room = Room()

    await requests.begin("A", room.wait("A"))
    await requests.begin("B", room.wait("B"), of="A")
    room.go_on.set()
    await requests.begin("C", room.notify(Condvar.notify_all), of="A")
    assert room.done == ["A", "B"]
    assert "message" not in requests.request("A").did


@in_requests
async def test_sleeper_that_was_passed_over_on_its_way_goes_back_to_the_head(requests: Requests) -> None:
    """B's wake is under way in its own request when that is found silent."""
    line = await line_of(requests, Mutex(), "A")
    await requests.begin("B", line.take("B"), of="A")
    for name in "CD":
        await requests.begin(name, line.take(name))
    line.go_on["A"].set()
    await handed_over(line)
    other = requests.request("C")
    for _ in range(MISSED):
        other.context.run(other.beat)
    await settle()
    assert line.got == ["A", "C"]
    await line.release("C")
    assert line.got == ["A", "C", "B"]


@in_requests
async def test_sleeper_whose_wake_is_under_way_is_let_in_again_if_nobody_is_in(requests: Requests) -> None:
    """B is passed over, and heard of, before its step."""
    line = await line_of(requests, Mutex(), "A")
    await requests.begin("B", line.take("B"), of="A")
    go_on = line.go_on["C"]
    go_on.set()
    await requests.begin("C", line.take("C"))
    line.go_on["A"].set()
    await handed_over(line)
    for name in ["C"] * MISSED + ["B"]:
        request = requests.request(name)
        request.context.run(request.beat)
    await settle()
    assert line.got == ["A", "C", "B"]


@in_requests
async def test_enabled_sleeper_of_a_suspected_request_stays_where_it_is(requests: Requests) -> None:
    """Its place in the line is not its parker's."""
    notify = Notify()
    notified = notify.notified()
    notified.enable()
    line = await line_of(requests, Mutex(), "AC")

    async def wait() -> None:
        await notified

    waiting = await requests.begin("B", wait())
    await requests.beat("C")
    await requests.beat("B", times=1)
    notify.notify_one()
    await settle()
    assert waiting.done()
    await line.release("A")


@in_requests
async def test_unparked_before_it_sleeps_it_does_not_sleep(requests: Requests) -> None:
    notify = Notify()
    notified = notify.notified()
    notified.enable()
    notify.notify_one()

    async def wait() -> None:
        await notified

    assert (await requests.begin("A", wait())).done()


# What a request does, and what it leaves behind.
@in_requests
async def test_request_is_leased_once_while_its_tasks_run(requests: Requests) -> None:
    mutex = Mutex()
    go_on = asyncio.Event()

    async def take_twice() -> None:
        async with mutex:
            await go_on.wait()
        async with mutex:
            await asyncio.sleep(0)

    await requests.begin("A", take_twice())
    assert requests.request("A").did == ["open", "lease"]
    go_on.set()
    await settle()
    assert requests.request("A").did == ["open", "lease", "no lease", "close"]


@in_requests
async def test_task_that_ends_at_once_needs_nothing(requests: Requests) -> None:
    mutex = Mutex()

    async def take_twice() -> None:
        async with mutex:
            pass
        async with mutex:
            pass

    await requests.begin("A", take_twice())
    assert requests.request("A").did == []


@in_requests
async def test_who_waits_is_not_leased_before_it_holds(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "AB")
    assert requests.request("B").did == ["open", "heartbeat"]
    await line.release("A")
    assert requests.request("B").did == ["open", "heartbeat", "message", "lease"]
    await requests.beat("B", times=1)
    await line.release("B")
    assert requests.request("B").did == ["open", "heartbeat", "message", "lease", "no heartbeat", "no lease", "close"]
    assert not requests.monitor.requests


@in_requests
@pytest.mark.parametrize("first", [Mutex, lambda: Semaphore(1)], ids=["mutex", "semaphore"])
async def test_who_holds_something_when_it_begins_to_wait_is_leased(requests: Requests, first: Any) -> None:
    """It took that in the same step."""
    line = await line_of(requests, Mutex(), "A")
    await requests.begin("B", hold(first(), Mutex(), line.lock))
    assert requests.request("B").did == ["open", "heartbeat", "lease"]


@in_requests
async def test_who_gave_up_waiting_is_leased_when_it_takes_something_else(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "A")
    other = Mutex()

    async def try_both() -> None:
        try:
            async with asyncio.timeout(0):
                await line.take("B")
        except TimeoutError:
            async with other:
                await asyncio.Event().wait()

    await requests.begin("B", try_both())
    assert requests.request("B").did == ["open", "heartbeat", "lease"]


@in_requests
async def test_request_stays_for_the_last_of_its_tasks(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "A")
    second = Line(Mutex())
    await requests.begin("B", second.take("B"), of="A")
    await line.release("A")
    assert "no lease" not in requests.request("A").did
    await second.release("B")
    assert requests.request("A").did == ["open", "lease", "no lease", "close"]


@in_requests
async def test_request_that_closed_opens_again(requests: Requests) -> None:
    line = await line_of(requests, Mutex(), "A")
    second = Line(Mutex())
    await line.release("A")
    await requests.begin("B", second.take("B"), of="A")
    assert requests.request("A").did == ["open", "lease", "no lease", "close", "open", "lease"]


@in_requests
async def test_task_left_by_a_finished_one_is_looked_after(requests: Requests) -> None:
    """The first ends within its first step, what it started takes something."""
    lines = [Line(Mutex()), Line(Mutex())]

    async def start() -> None:
        async with lines[0].lock:
            pass
        task = asyncio.get_running_loop().create_task(lines[1].take("B"), name="B", context=context)
        requests._tasks["B"], requests._contexts[task] = task, context

    async def begin() -> None:
        nonlocal context
        context = Context()
        context.run(current_request.set, requests.monitor.running_request(asyncio.current_task()))
        await start()

    context: Any = None
    await requests.begin("A", begin())
    assert requests.request("B").did == ["open", "lease"]


@in_requests
async def test_tasks_of_one_context_share_a_request(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started before the first of them took anything, they make it known one by one."""
    line, second = Line(Mutex()), Line(Mutex())
    await requests.begin("A", line.take("A"))
    monkeypatch.setattr(Place, "do_is_here", lambda self: self is requests.request("A"))
    await requests.begin("B", second.take("B"))
    await requests.begin("C", line.take("C"))
    assert requests.request("A") is requests.request("B") is requests.request("C")
    assert requests.request("A").did == ["open", "lease", "heartbeat"]
    assert len(requests.monitor.requests) == 1


@in_requests
async def test_task_whose_stack_is_switched_out_joins_the_request_of_the_one_it_waits_for(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may change its context meanwhile: it moves when it goes on."""
    line, second = Line(Mutex()), Line(Mutex())
    await requests.begin("A", line.take("A"))
    monkeypatch.setattr(Place, "do_is_here", lambda self: self is requests.request("A"))

    async def plain_call() -> None:
        request = requests.monitor.running_request(asyncio.current_task())
        with monkeypatch.context() as patch:
            patch.setattr(
                request_module, "current_task", lambda: None
            )  # the step of the one that waits for it, in a copy
            copy_context().run(request.open)
        assert request_of(asyncio.current_task()) is requests.request("A")
        await second.take("B")

    await requests.begin("B", plain_call())
    assert requests.request("A") is requests.request("B")
    assert requests.request("A").did == ["open", "lease"]
    assert len(requests.monitor.requests) == 1


@in_requests
async def test_request_that_closed_gets_no_messages_and_does_not_beat(requests: Requests) -> None:
    """What was under way finds nobody."""
    line = await line_of(requests, Mutex(), "A")
    request = requests.request("A")
    await line.release("A")
    closed = [*request.did]
    requests.monitor.receive(request.number)
    request.receive()
    requests.monitor.beat(request.number)
    assert request.did == closed


@in_requests
async def test_request_that_is_called_while_it_closes_reads_that_message_first(requests: Requests) -> None:
    """What reads it must still be there."""
    line = await line_of(requests, Mutex(), "A")
    request = requests.request("A")
    request._send_message()
    request.alive = False
    await line.release("A")
    assert request.did == ["open", "lease", "message", "no lease"]
    request.alive = True
    request.read()
    assert request.did == ["open", "lease", "message", "no lease", "close"]
    assert not requests.monitor.requests


@in_requests
async def test_parker_of_a_closed_request_is_unparked_for_its_next_sleep(requests: Requests) -> None:
    parkers = []

    async def sleep() -> None:
        parkers.append(requests.parker())
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await parkers[0].park()
        parkers[0]._home.close()
        await go_on.wait()
        await parkers[0].park()

    go_on = asyncio.Event()
    sleeper = await requests.begin("A", sleep())
    assert parkers[0].unpark()
    go_on.set()
    await settle()
    assert sleeper.done()


@in_requests
async def test_request_with_sleepers_but_no_task_stays_open_for_them(requests: Requests) -> None:
    """The task that sleeps is none of the request's."""
    parkers = []

    async def make() -> None:
        parkers.extend([requests.parker(), requests.parker()])
        await parkers[1].park()

    await requests.begin("A", make())
    request = requests.request("A")
    stranger = await requests.begin("B", parkers[0].park())
    requests._tasks["A"].cancel()
    await settle()
    assert "close" not in request.did
    parkers[0].unpark()
    request.read()
    await settle()
    assert stranger.done()
    request.beat()
    assert request.did[-1] == "close"


@in_requests
async def test_sleeper_in_no_task_closes_its_request_when_it_is_done(requests: Requests) -> None:
    """A callback may drive a coroutine."""
    line = await line_of(requests, Mutex(), "A")
    before = set(requests.monitor.requests)
    coroutine = line.take("B")
    asyncio.get_running_loop().call_soon(lambda: coroutine.send(None), context=Context())
    await settle()
    (number,) = set(requests.monitor.requests) - before
    request = requests.monitor.requests[number]
    coroutine.close()
    request.beat()
    assert request.did == ["open", "heartbeat", "no heartbeat", "close"]  # type: ignore[attr-defined]
    assert set(requests.monitor.requests) == before
