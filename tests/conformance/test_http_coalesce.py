"""Sharing a response, where no client is needed to show it; with httpx it is tested in tests/native."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from asynclocks.recipes import InMemoryCache
from asynclocks.recipes._http_caching import Caching
from asynclocks.recipes._http_exchange import Joined
from tests.conformance.origin import URI, Reply, Server
from tests.support import settle, spawn


class Slow(Server):
    """Answers when the test says so, with a body that comes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.released = anyio.Event()

    async def send(self, condition: tuple[str, str] | None) -> Reply:
        reply = await super().send(condition)
        await self.released.wait()
        return reply

    def parts(self, response: Reply) -> AsyncIterator[bytes]:
        async def one() -> AsyncIterator[bytes]:
            yield response.body

        return one()


async def read(server: Slow, caching: Caching, *, stay: bool = True) -> list[bytes]:
    """What comes of a request, if its reader stays."""
    outcome = await caching.exchange(server, "GET", URI, [])
    assert isinstance(outcome, Joined)
    found = [part async for part in outcome.body] if stay else []
    for _ in range(2):
        await outcome.body.aclose()
    return found


async def test_response_whose_sender_left_at_once_is_asked_for_by_the_next() -> None:
    server, caching = Slow(), Caching(InMemoryCache(), coalesce=True)
    async with anyio.create_task_group() as group:
        first = spawn(group, lambda: read(server, caching, stay=False))
        await settle()
        second = spawn(group, lambda: read(server, caching))
        await settle()
        server.released.set()
    assert (first.result, second.result) == ([], [b"octocat"])
    assert server.replies[0].discarded


async def test_response_that_was_read_to_its_end_before_the_others_woke_is_theirs_too() -> None:
    storage = InMemoryCache()
    server, caching = Slow(), Caching(storage, coalesce=True)
    async with anyio.create_task_group() as group:
        callers = [spawn(group, lambda: read(server, caching)) for _ in range(3)]
        await settle()
        server.released.set()
    assert [caller.result for caller in callers] == [[b"octocat"]] * 3
    assert (len(server.asked), storage.statistics().entries) == (1, 1)
