"""The three programs of docs/porting.md: the page's own text is what runs here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asynclocks import ClosedError
from tests.support import module_of, settle, spawn

PAGE = Path(__file__).parents[2] / "docs" / "porting.md"


def program(heading: str) -> Any:
    """The first Python block below the heading, as a module."""
    text = PAGE.read_text(encoding="utf-8")
    match = re.compile(rf"^### {re.escape(heading)}$.*?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL).search(text)
    assert match, f"docs/porting.md has no program below {heading!r}"
    above = text.count("\n", 0, match.start(1))  # so that a traceback shows the page's line
    return module_of(heading, "\n" * above + match[1], PAGE)


shared_state = program("Shared state")
pool = program("A connection pool")
config = program("A config value with reload")


# Shared state


async def test_the_store_keeps_what_has_no_lifetime() -> None:
    db = shared_state.Db()
    await db.set("hello", b"world")
    assert await db.purge() is None
    assert await db.get("hello") == b"world"
    assert await db.get("missing") is None


async def test_the_store_tells_its_task_what_is_due_sooner() -> None:
    db = shared_state.Db()
    await db.set("later", b"1", 3600)
    async with anyio.create_task_group() as tasks:
        purging = spawn(tasks, db.purge_forever)
        await settle()
        await db.set("now", b"2", 0)
        assert await db.get("now") == b"2"
        await settle()
        assert await db.get("now") is None
        assert await db.get("later") == b"1"
        purging.cancel()


async def test_the_store_keeps_what_was_set_again_since() -> None:
    db = shared_state.Db()
    await db.set("key", b"old", 0)
    await db.set("key", b"new")
    assert await db.purge() is None
    assert await db.get("key") == b"new"


# A connection pool


class FakeConnection:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class Users:
    """Tasks that use a connection of one pool until they are told to leave."""

    def __init__(self, size: int) -> None:
        self.pool = pool.Pool(size, self.connect)
        self.made: list[FakeConnection] = []
        self.using: dict[str, FakeConnection] = {}
        self.leave: dict[str, anyio.Event] = {}

    async def connect(self) -> FakeConnection:
        await anyio.lowlevel.checkpoint()
        self.made.append(FakeConnection())
        return self.made[-1]

    async def use(self, name: str) -> None:
        self.leave[name] = anyio.Event()
        async with self.pool.connection() as connection:
            self.using[name] = connection
            try:
                await self.leave[name].wait()
            finally:
                del self.using[name]


async def test_the_pool_makes_no_more_connections_than_its_size_and_uses_them_again() -> None:
    users = Users(2)
    async with anyio.create_task_group() as tasks:
        for name in "abc":
            spawn(tasks, users.use, name)
            await settle()
        assert list(users.using) == ["a", "b"]
        connection = users.using["a"]
        users.leave["a"].set()
        await settle()
        assert users.using["c"] is connection
        for name in "bc":
            users.leave[name].set()
    assert len(users.made) == 2
    assert users.pool.permits.available_permits == 2


async def test_the_pool_closes_a_connection_whose_use_was_cancelled_and_makes_another() -> None:
    users = Users(1)
    async with anyio.create_task_group() as tasks:
        cancelled = spawn(tasks, users.use, "a")
        await settle()
        spawn(tasks, users.use, "b")
        await settle()
        cancelled.cancel()
        await settle()
        assert list(users.using) == ["b"]
        users.leave["b"].set()
    assert [connection.closed for connection in users.made] == [True, False]


async def test_a_closed_pool_refuses_and_closes_what_comes_back() -> None:
    users = Users(1)
    async with anyio.create_task_group() as tasks:
        spawn(tasks, users.use, "a")
        await settle()
        waiting = spawn(tasks, users.use, "b")
        await settle()
        users.pool.close()
        await settle()
        assert isinstance(waiting.exception, ClosedError)
        assert not users.made[0].closed
        users.leave["a"].set()
    assert users.made[0].closed
    with pytest.raises(ClosedError):
        await users.use("c")


# A config value with reload


class Source:
    """Where a configuration is loaded from; each load waits until it is let go on."""

    def __init__(self) -> None:
        self.first = self.value = config.Config("localhost", 80)
        self.loads = 0
        self.ready = anyio.Event()
        self.settings = config.Settings(self.first, self.load)

    async def load(self) -> Any:
        self.loads += 1
        await self.ready.wait()
        if self.value is None:
            raise OSError("cannot be read")
        return self.value

    async def current(self) -> Any:
        async with self.settings.read() as guard:
            return guard.value


async def test_readers_enter_while_a_reload_loads_and_a_second_reload_waits() -> None:
    source = Source()
    source.value = config.Config("localhost", 8080)
    async with anyio.create_task_group() as tasks:
        first = spawn(tasks, source.settings.reload)
        await settle()
        second = spawn(tasks, source.settings.reload)
        await settle()
        assert source.loads == 1
        assert await source.current() == source.first
        source.ready.set()
    assert (first.result, second.result) == (True, False)
    assert source.loads == 2
    assert await source.current() == source.value


async def test_a_reload_replaces_the_value_when_its_readers_have_left() -> None:
    source = Source()
    source.value = config.Config("localhost", 8080)
    source.ready.set()
    async with anyio.create_task_group() as tasks:
        async with source.settings.read() as guard:
            reload = spawn(tasks, source.settings.reload)
            await settle()
            late = spawn(tasks, source.current)
            await settle()
            assert guard.value == source.first
            assert not reload.done
            assert not late.done
        await settle()
        assert reload.result
        assert late.result == source.value


async def test_a_reload_that_fails_leaves_the_value() -> None:
    source = Source()
    source.value = None
    source.ready.set()
    with pytest.raises(OSError, match="cannot be read"):
        await source.settings.reload()
    assert await source.current() == source.first


async def test_a_reload_cancelled_while_it_waits_for_readers_leaves_the_value() -> None:
    source = Source()
    source.value = config.Config("localhost", 8080)
    source.ready.set()
    async with anyio.create_task_group() as tasks:
        async with source.settings.read():
            reload = spawn(tasks, source.settings.reload)
            await settle()
            reload.cancel()
            await settle()
            assert reload.cancelled
        assert await source.current() == source.first
    assert source.settings.current.into_inner() == source.first
