"""OnceCell, LazyLock and once: made once, by whoever needs it first."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asynclocks import (
    AlreadyInitializedError,
    DeadlockError,
    InitializingError,
    LazyLock,
    Mutex,
    OnceCell,
    OnceCellStatistics,
    OnceLock,
    SetError,
    once,
    set_deadlock_policy,
)
from tests.conformance.line import Cancel, both_cancels
from tests.conformance.turns import in_turn
from tests.support import collect, on_trio, settle, spawn


class Init:
    """An initializer that waits to be told how to end."""

    def __init__(self, value: Any = "made", failure: BaseException | None = None) -> None:
        self.value = value
        self.failure = failure
        self.runs = 0
        self.end = anyio.Event()

    async def __call__(self) -> Any:
        self.runs += 1
        await self.end.wait()
        if self.failure is not None:
            raise self.failure
        return self.value


async def never() -> Any:
    """An initializer that must not run."""
    raise AssertionError("a second initializer ran")


# --- values


def test_an_empty_cell_has_nothing_to_get() -> None:
    """Without a default that is a LookupError which says what to do."""
    cell: OnceCell[int] = OnceCell()
    assert not cell.initialized()
    assert cell.get(7) == 7
    assert cell.get(None) is None
    with pytest.raises(LookupError, match="get_or_init"):
        cell.get()


@pytest.mark.parametrize("value", [None, 0, False, 5, "text"])
def test_a_cell_made_with_a_value_has_it(value: Any) -> None:
    """None and everything else that is false are values."""
    cell = OnceCell(value)
    assert cell.initialized()
    assert cell.get() is value
    assert cell.get("default") is value
    assert cell.statistics() == OnceCellStatistics(initialized=True, initializing=False, waiting=0)


def test_set_fills_an_empty_cell_once() -> None:
    """The second value is refused and handed back in the error."""
    cell: OnceCell[str] = OnceCell()
    cell.set("first")
    with pytest.raises(AlreadyInitializedError) as refused:
        cell.set("second")
    assert refused.value.value == "second"
    assert isinstance(refused.value, SetError)
    assert cell.get() == "first"


def test_set_none_counts() -> None:
    """None once set is not set again."""
    cell: OnceCell[None] = OnceCell()
    cell.set(None)
    with pytest.raises(AlreadyInitializedError):
        cell.set(None)


def test_take_leaves_the_cell_empty_and_usable() -> None:
    """What it held comes back; a new value may follow."""
    cell = OnceCell(1)
    assert cell.take() == 1
    assert not cell.initialized()
    with pytest.raises(LookupError):
        cell.take()
    cell.set(2)
    assert cell.get() == 2


async def test_none_made_by_an_initializer_is_a_value() -> None:
    """It is not made again."""
    cell: OnceCell[None] = OnceCell()
    assert await cell.get_or_init(lambda: None) is None
    assert await cell.get_or_init(never) is None
    assert cell.initialized()


def test_once_lock_is_once_cell() -> None:
    """By std's name."""
    assert OnceLock is OnceCell


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("lock", [OnceCell(1), LazyLock(int)])
def test_cells_refuse_to_be_copied(lock: Any, copied: Callable[[Any], Any]) -> None:
    """As threading.Lock does."""
    with pytest.raises(TypeError, match="cannot pickle or copy"):
        copied(lock)


async def test_repr_tells_the_state_and_never_the_value() -> None:
    """Values may be secrets."""
    cell: OnceCell[str] = OnceCell()
    assert "empty" in repr(cell)
    init = Init("secret")
    async with anyio.create_task_group() as tasks:
        spawn(tasks, cell.get_or_init, init, name="maker")
        await settle()
        spawn(tasks, cell.wait)
        await settle()
        assert "being initialized by task 'maker', 1 waiting" in repr(cell)
        init.end.set()
    assert "initialized" in repr(cell)
    assert "secret" not in repr(cell)


# --- get_or_init


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_first_caller_makes_the_value_in_its_own_task(is_async: bool) -> None:
    """Called without arguments; awaited if what comes back is awaitable."""
    cell: OnceCell[str] = OnceCell()
    seen: list[Any] = []

    def plain() -> str:
        seen.append(anyio.get_current_task().id)
        return "value"

    async def coroutine() -> str:
        return plain()

    assert await cell.get_or_init(coroutine if is_async else plain) == "value"
    assert seen == [anyio.get_current_task().id]
    assert await cell.get_or_init(never) == "value"


async def test_an_awaitable_that_is_no_coroutine_is_awaited() -> None:
    """Any awaitable will do, for example another cell's LazyLock."""
    cell: OnceCell[int] = OnceCell()
    lazy = LazyLock(lambda: 3)
    assert await cell.get_or_init(lambda: lazy) == 3


async def test_callers_share_one_run() -> None:
    """Everybody who comes while it runs waits for its value."""
    cell: OnceCell[str] = OnceCell()
    init = Init()
    async with anyio.create_task_group() as tasks:
        callers = [spawn(tasks, cell.get_or_init, init) for _ in range(3)]
        callers.append(spawn(tasks, cell.wait))
        await settle()
        assert cell.statistics() == OnceCellStatistics(initialized=False, initializing=True, waiting=3)
        init.end.set()
    assert [caller.result for caller in callers] == ["made"] * 4
    assert init.runs == 1


@pytest.mark.parametrize("failure", [ValueError("no"), TimeoutError("late")])
async def test_a_failure_stays_with_its_caller_and_the_next_one_runs_its_own(failure: Exception) -> None:
    """First come, first served."""
    cell: OnceCell[str] = OnceCell()
    failing, second, third = Init(failure=failure), Init("second"), Init("third")
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(cell.get_or_init, init) for init in (failing, second, third)))
        failing.end.set()
        await settle()
        assert callers[0].exception is failure
        assert (second.runs, third.runs) == (1, 0)
        second.end.set()
    assert [caller.result for caller in callers[1:]] == ["second", "second"]
    assert third.runs == 0


async def test_a_plain_function_that_fails_leaves_the_cell_empty() -> None:
    """A later call tries again."""
    cell: OnceCell[float] = OnceCell()
    with pytest.raises(ZeroDivisionError):
        await cell.get_or_init(lambda: 1 / 0)
    assert cell.statistics() == OnceCellStatistics(initialized=False, initializing=False, waiting=0)
    assert await cell.get_or_init(lambda: 1.0) == 1.0


@both_cancels
async def test_a_cancelled_initializer_leaves_the_work_to_the_next_waiter(cancel: Cancel) -> None:
    """Only its caller is cancelled."""
    cell: OnceCell[str] = OnceCell()
    first, second = Init("first"), Init("second")
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(cell.get_or_init, init) for init in (first, second)))
        cancel(callers[0])
        await settle()
        assert callers[0].cancelled
        assert second.runs == 1
        second.end.set()
    assert callers[1].result == "second"


@both_cancels
async def test_a_cancelled_caller_in_line_is_skipped(cancel: Cancel) -> None:
    """It never runs its initializer, and the one behind it does."""
    cell: OnceCell[str] = OnceCell()
    failing, cancelled, third = Init(failure=ValueError()), Init(), Init("third")
    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, *(partial(cell.get_or_init, init) for init in (failing, cancelled, third)))
        cancel(callers[1])
        await settle()
        assert callers[1].cancelled
        assert cell.statistics().waiting == 1
        failing.end.set()
        third.end.set()
    assert isinstance(callers[0].exception, ValueError)
    assert cancelled.runs == 0
    assert callers[2].result == "third"


@both_cancels
async def test_the_turn_crossing_a_cancellation_goes_to_the_next(cancel: Cancel) -> None:
    """The next in line gets its turn in the same tick as it is cancelled: somebody still makes the value.

    first: fails, second gets the turn; first cancels second; second raises, third gets the turn
    """
    cell: OnceCell[str] = OnceCell()
    failing, second, third = Init(failure=ValueError()), Init("second"), Init("third")
    async with anyio.create_task_group() as tasks:

        async def first() -> None:
            with pytest.raises(ValueError, match=r"^$"):
                await cell.get_or_init(failing)
            cancel(callers[0])  # in the same step as the hand-over

        spawn(tasks, first)
        await settle()
        callers = await in_turn(tasks, *(partial(cell.get_or_init, init) for init in (second, third)))
        failing.end.set()
        await settle()
        assert callers[0].cancelled
        assert third.runs == 1
        third.end.set()
    assert callers[1].result == "third"


@both_cancels
async def test_the_value_crossing_a_cancellation_is_kept(cancel: Cancel) -> None:
    """A waiter told the value and cancelled in one tick takes nothing away from the others."""
    cell: OnceCell[int] = OnceCell()
    async with anyio.create_task_group() as tasks:
        waiters = [spawn(tasks, cell.wait) for _ in range(2)]
        await settle()
        cell.set(1)
        cancel(waiters[0])
    assert waiters[1].result == 1
    assert cell.get() == 1
    assert cell.statistics().waiting == 0


async def test_an_initializer_destroyed_midway_frees_the_cell() -> None:
    """Its coroutine was closed, or collected: the next one runs its own."""
    cell: OnceCell[str] = OnceCell()

    async def forever() -> str:
        await Suspended()
        return "never"

    async with anyio.create_task_group() as tasks:
        coroutine = cell.get_or_init(forever)
        await Steps(coroutine)
        waiter = spawn(tasks, cell.get_or_init, lambda: "next")
        await settle()
        assert cell.statistics() == OnceCellStatistics(initialized=False, initializing=True, waiting=1)
        del coroutine
        collect()
    assert waiter.result == "next"


class Suspended:
    """Suspends, for no loop that knows of it."""

    def __await__(self) -> Generator[str, None, None]:
        yield "suspended"


class Steps:
    """Runs a coroutine in this task as far as it awaits `Suspended`."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, None]:
        yielded = self.coroutine.send(None)
        while yielded != "suspended":
            yielded = self.coroutine.send((yield yielded))


# --- wait


async def test_wait_returns_what_is_there() -> None:
    """At once."""
    assert await OnceCell(None).wait() is None


async def test_wait_returns_what_somebody_sets() -> None:
    """From anywhere; everybody who waits is told."""
    cell: OnceCell[int] = OnceCell()
    async with anyio.create_task_group() as tasks:
        waiters = [spawn(tasks, cell.wait) for _ in range(3)]
        await settle()
        assert cell.statistics() == OnceCellStatistics(initialized=False, initializing=False, waiting=3)
        cell.set(1)
    assert [waiter.result for waiter in waiters] == [1, 1, 1]


async def test_a_waiter_does_not_keep_an_initializer_out() -> None:
    """Neither one that comes when nobody initializes, nor one in line when an initializer fails."""
    cell: OnceCell[str] = OnceCell()
    failing, second = Init(failure=ValueError()), Init("second")
    second.end.set()
    async with anyio.create_task_group() as tasks:
        waiters = [spawn(tasks, cell.wait)]
        await settle()
        first = spawn(tasks, cell.get_or_init, failing)
        await settle()
        assert failing.runs == 1
        waiters.append(spawn(tasks, cell.wait))
        await settle()
        caller = spawn(tasks, cell.get_or_init, second)
        await settle()
        failing.end.set()
    assert isinstance(first.exception, ValueError)
    assert [task.result for task in (caller, *waiters)] == ["second"] * 3


async def test_initializers_stay_in_order_among_those_who_only_wait() -> None:
    """However they came between each other."""
    cell: OnceCell[str] = OnceCell()
    ran: list[int] = []
    go = anyio.Event()

    def failing(number: int) -> Callable[[], Awaitable[str]]:
        async def init() -> str:
            await go.wait()
            ran.append(number)
            raise ValueError

        return partial(cell.get_or_init, init)

    async with anyio.create_task_group() as tasks:
        callers = await in_turn(
            tasks, failing(0), cell.wait, failing(1), failing(2), cell.wait, failing(3), partial(cell.get_or_init, str)
        )
        go.set()
    assert ran == [0, 1, 2, 3]
    assert [isinstance(caller.exception, ValueError) for caller in callers] == [
        True,
        False,
        True,
        True,
        False,
        True,
        False,
    ]


@both_cancels
@pytest.mark.parametrize("leaving", [0, 1, 2])
async def test_a_cancelled_waiter_leaves_nothing_behind(leaving: int, cancel: Cancel) -> None:
    """First, middle or last; initializers that come later still go before the others."""
    cell: OnceCell[str] = OnceCell()
    failing, second = Init(failure=ValueError()), Init("second")
    async with anyio.create_task_group() as tasks:
        first = spawn(tasks, cell.get_or_init, failing)
        await settle()
        waiters = await in_turn(tasks, cell.wait, cell.wait, cell.wait)
        cancel(waiters.pop(leaving))
        await settle()
        caller = spawn(tasks, cell.get_or_init, second)
        await settle()
        assert cell.statistics().waiting == 3
        failing.end.set()
        await settle()
        assert second.runs == 1
        second.end.set()
    assert isinstance(first.exception, ValueError)
    assert [task.result for task in (caller, *waiters)] == ["second"] * 3


async def test_all_waiters_may_leave() -> None:
    """The cell is as new."""
    cell: OnceCell[str] = OnceCell()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            spawn(tasks, cell.wait)
        await settle()
        tasks.cancel_scope.cancel()
    assert cell.statistics() == OnceCellStatistics(initialized=False, initializing=False, waiting=0)
    assert await cell.get_or_init(lambda: "value") == "value"


# --- set and take against the others


async def test_set_is_refused_while_an_initializer_runs() -> None:
    """With the refused value in the error; the initializer's value counts."""
    cell: OnceCell[str] = OnceCell()
    init = Init()
    async with anyio.create_task_group() as tasks:
        spawn(tasks, cell.get_or_init, init)
        await settle()
        with pytest.raises(InitializingError, match="being initialized") as refused:
            cell.set("mine")
        assert refused.value.value == "mine"
        init.end.set()
    assert cell.get() == "made"


async def test_an_initializer_cannot_set_its_own_cell() -> None:
    """It returns the value."""
    cell: OnceCell[str] = OnceCell()
    with pytest.raises(InitializingError):
        await cell.get_or_init(lambda: cell.set("value"))  # type: ignore[arg-type, return-value, func-returns-value]
    assert not cell.initialized()


async def test_take_while_an_initializer_runs_finds_nothing() -> None:
    """And does not disturb it."""
    cell: OnceCell[str] = OnceCell()
    init = Init()
    async with anyio.create_task_group() as tasks:
        caller = spawn(tasks, cell.get_or_init, init)
        await settle()
        with pytest.raises(LookupError):
            cell.take()
        init.end.set()
    assert caller.result == "made"


async def test_waiters_keep_the_value_that_is_taken_before_they_run() -> None:
    """set() told them; take() comes before they resume."""
    cell: OnceCell[int] = OnceCell()
    async with anyio.create_task_group() as tasks:
        waiters = [spawn(tasks, cell.wait), spawn(tasks, cell.wait)]
        await settle()
        cell.set(1)
        assert cell.take() == 1
    assert [waiter.result for waiter in waiters] == [1, 1]
    assert not cell.initialized()


async def test_callers_in_line_keep_the_value_that_is_taken_before_they_run() -> None:
    """They do not run their initializers."""
    cell: OnceCell[str] = OnceCell()
    init = Init()
    async with anyio.create_task_group() as tasks:

        async def make_and_take() -> None:
            await cell.get_or_init(init)
            cell.take()

        spawn(tasks, make_and_take)
        await settle()
        caller = spawn(tasks, cell.get_or_init, never)
        await settle()
        init.end.set()
    assert caller.result == "made"
    assert not cell.initialized()


# --- deadlocks


@pytest.mark.parametrize("again", ["get_or_init", "wait"])
async def test_an_initializer_that_waits_for_its_own_cell_gets_deadlock_error(again: str) -> None:
    """And frees the cell."""
    cell: OnceCell[Any] = OnceCell()

    async def init() -> Any:
        return await (cell.wait() if again == "wait" else cell.get_or_init(never))

    with pytest.raises(DeadlockError, match="waits for OnceCell"):
        await cell.get_or_init(init)
    assert await cell.get_or_init(lambda: 1) == 1


async def test_an_initializer_that_comes_back_through_another_cell_gets_deadlock_error() -> None:
    """The initializer of a needs b, whose initializer needs a."""
    a: OnceCell[Any] = OnceCell()
    b: OnceCell[Any] = OnceCell()

    async def make_a() -> Any:
        return await b.get_or_init(make_b)

    async def make_b() -> Any:
        return await a.wait()

    with pytest.raises(DeadlockError):
        await a.get_or_init(make_a)
    assert not a.statistics().initializing
    assert not b.statistics().initializing


async def test_two_tasks_that_initialize_each_others_need_get_one_deadlock_error() -> None:
    """Whoever closes the cycle; the other then gets its value."""
    a: OnceCell[str] = OnceCell()
    b: OnceCell[str] = OnceCell()
    go = anyio.Event()

    def crosswise(other: OnceCell[str], name: str) -> Callable[[], Awaitable[str]]:
        async def init() -> str:
            await go.wait()
            try:
                return await other.get_or_init(lambda: "by the other")
            except DeadlockError:
                return f"{name} alone"

        return init

    async with anyio.create_task_group() as tasks:
        one = spawn(tasks, a.get_or_init, crosswise(b, "a"))
        two = spawn(tasks, b.get_or_init, crosswise(a, "b"))
        await settle()
        go.set()
    assert one.result == two.result
    assert one.result in {"a alone", "b alone"}


async def test_an_initializer_that_needs_a_mutex_whose_holder_waits_for_the_cell_gets_deadlock_error() -> None:
    """Chains go through every primitive. The holder waits, so the initializer closes the cycle."""
    cell: OnceCell[str] = OnceCell()
    mutex = Mutex(name="m")
    go = anyio.Event()

    async def init() -> str:
        await go.wait()
        async with mutex:
            return "never"

    async def hold_and_wait() -> str:
        async with mutex:
            return await cell.wait()

    async with anyio.create_task_group() as tasks:
        maker = spawn(tasks, cell.get_or_init, init, name="maker")
        await settle()
        holder = spawn(tasks, hold_and_wait, name="holder")
        await settle()
        go.set()
        await settle()
        error = maker.exception
        cell.set("by somebody outside")
    assert isinstance(error, DeadlockError)
    assert error.cycle[0] == "task 'maker' waits for Mutex 'm' held by task 'holder'"
    assert error.cycle[1].endswith("held by task 'maker'")
    assert holder.result == "by somebody outside"


async def test_waiting_for_anothers_initializer_is_no_deadlock() -> None:
    """Also while holding what the initializer does not need."""
    cell: OnceCell[str] = OnceCell()
    mutex = Mutex()
    init = Init()

    async def hold_and_wait() -> str:
        async with mutex:
            return await cell.get_or_init(never)

    async with anyio.create_task_group() as tasks:
        spawn(tasks, cell.get_or_init, init)
        await settle()
        holder = spawn(tasks, hold_and_wait)
        await settle()
        init.end.set()
    assert holder.result == "made"


async def test_the_policy_can_let_an_initializer_wait_for_itself() -> None:
    """Somebody outside may cancel it."""
    cell: OnceCell[Any] = OnceCell()
    policy = set_deadlock_policy("off")
    try:
        async with anyio.create_task_group() as tasks:
            caller = spawn(tasks, cell.get_or_init, cell.wait)
            await settle()
            assert cell.statistics() == OnceCellStatistics(initialized=False, initializing=True, waiting=1)
            caller.cancel()
    finally:
        set_deadlock_policy(policy)
    assert caller.cancelled
    assert not cell.statistics().initializing


# --- checkpoints


@pytest.mark.parametrize("use", ["get_or_init", "wait", "lazy", "once"])
async def test_a_hit_is_a_checkpoint_on_trio_only(use: str) -> None:
    """Elsewhere it does not yield."""
    cell = OnceCell(1)
    lazy = LazyLock(lambda: 1)

    @once
    async def shared() -> int:
        return 1

    hits: dict[str, Callable[[], Awaitable[int]]] = {
        "get_or_init": lambda: cell.get_or_init(never),
        "wait": cell.wait,
        "lazy": lambda: lazy,
        "once": shared,
    }
    await hits[use]()
    others_ran = False

    async def other() -> None:
        nonlocal others_ran
        await anyio.lowlevel.checkpoint()  # an eager task begins at once
        others_ran = True

    async with anyio.create_task_group() as tasks:
        spawn(tasks, other)
        for _ in range(3):
            assert await hits[use]() == 1
        assert others_ran is on_trio()


async def test_a_cancelled_scope_raises_before_the_initializer_runs_on_trio() -> None:
    """Elsewhere a cancellation reaches the task where it next waits."""
    cell: OnceCell[int] = OnceCell()
    runs = 0

    def init() -> int:
        nonlocal runs
        runs += 1
        return 1

    with anyio.CancelScope() as scope:
        scope.cancel()
        await cell.get_or_init(init)
    assert runs == (not on_trio())
    assert cell.initialized() is (not on_trio())


# --- LazyLock and once


async def test_a_lazy_lock_is_made_by_its_first_await_and_awaited_as_often_as_wanted() -> None:
    """`get` works from then on, without a loop too."""
    init = Init()
    init.end.set()
    lazy = LazyLock(init)
    with pytest.raises(LookupError, match="await it first"):
        lazy.get()
    assert await lazy == "made"
    assert await lazy == "made"
    assert lazy.get() == "made"
    assert init.runs == 1


async def test_a_lazy_lock_whose_initializer_failed_tries_again() -> None:
    """As a OnceCell does."""
    outcomes = iter([ValueError("first"), 2])

    def init() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    lazy = LazyLock(init)
    with pytest.raises(ValueError, match="first"):
        await lazy
    assert await lazy == 2


async def test_repr_of_a_lazy_lock_names_its_initializer_and_not_the_value() -> None:
    """Values may be secrets."""

    def load_token() -> str:
        return "secret"

    lazy = LazyLock(load_token)
    assert "load_token' empty" in repr(lazy)
    await lazy
    assert "load_token' initialized" in repr(lazy)
    assert "secret" not in repr(lazy)


async def test_once_runs_once_and_all_callers_share() -> None:
    """Concurrent ones too."""
    init = Init()

    @once
    async def shared() -> str:
        return str(await init())

    async with anyio.create_task_group() as tasks:
        callers = [spawn(tasks, shared) for _ in range(3)]
        await settle()
        init.end.set()
    assert [caller.result for caller in callers] == ["made"] * 3
    assert await shared() == "made"
    assert init.runs == 1


@both_cancels
async def test_once_runs_again_when_its_run_was_cancelled(cancel: Cancel) -> None:
    """In the next caller's task."""
    init = Init()

    @once
    async def shared() -> str:
        return str(await init())

    async with anyio.create_task_group() as tasks:
        callers = await in_turn(tasks, shared, shared)
        cancel(callers[0])
        await settle()
        init.end.set()
    assert callers[0].cancelled
    assert callers[1].result == "made"
    assert init.runs == 2


def test_once_keeps_name_docstring_and_signature() -> None:
    """It stays a coroutine function."""

    @once
    async def settings() -> int:
        """The settings."""
        return 1

    assert settings.__name__ == "settings"
    assert settings.__doc__ == "The settings."
    assert inspect.iscoroutinefunction(settings)
    assert str(inspect.signature(settings)) == "() -> 'int'"


async def test_once_that_calls_itself_gets_deadlock_error() -> None:
    """The message names the function."""

    @once
    async def endless() -> int:
        return await endless()

    with pytest.raises(DeadlockError, match="endless"):
        await endless()
