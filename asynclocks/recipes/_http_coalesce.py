"""Identical requests that are under way at once share one response, streamed to all (RFC 9111 § 4).

One of them sends the request, by single flight; if it is cancelled before the response comes, the next one does.
The body is drawn by whoever needs the next part of it, so nobody waits for a slow reader, and nobody's leaving ends it
for the others. A response that must not be stored is not shared either: then each sends its own request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable
from typing import Any

import attrs

from asynclocks import detached
from asynclocks.concurrent_map import ConcurrentMap
from asynclocks.mutex import Mutex
from asynclocks.recipes._http_exchange import Client, Head, Joined, Outcome, Passed, R, Recording


class _Alone(Exception):
    """This response is for the one that asked only."""


class Coalescing:
    """The requests that are under way."""

    def __init__(self) -> None:
        # A request that others may join is here from the beginning of its response to the end of its body.
        self._flights: ConcurrentMap[Hashable, _Shared] = ConcurrentMap()

    async def share(self, what: Hashable, client: Client[R], ask: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Carry out a request by `ask`, or join one that is the same."""
        while True:
            alone: list[Outcome] = []
            mine: list[Reader] = []

            async def lead(alone: list[Outcome] = alone, mine: list[Reader] = mine) -> _Shared:
                outcome = await ask()
                if not isinstance(outcome, Passed) or outcome.recording is None:
                    alone.append(outcome)
                    raise _Alone
                shared = _Shared(client, outcome.response, outcome.recording, lambda: self._flights.remove(what, None))
                mine.append(Reader(shared))
                return shared

            try:
                shared = await self._flights.get_or_insert_with(what, lead)
            except _Alone:
                return alone[0] if alone else await ask()
            if mine or not shared.left:
                reader = mine[0] if mine else Reader(shared)
                return Joined(shared.response, shared.head, reader, led=bool(mine))


@attrs.define(eq=False)
class _Shared:
    """A response and the body that several read."""

    client: Client[Any]
    response: Any
    recording: Recording
    forget: Callable[[], object]  # nobody may join any more
    head: Head = attrs.field(init=False)
    source: AsyncIterator[bytes] = attrs.field(init=False)
    chunks: list[bytes] = attrs.field(init=False, factory=list, repr=False)
    readers: int = attrs.field(init=False, default=0)
    over: bool = attrs.field(init=False, default=False)  # no more parts will come
    left: bool = attrs.field(init=False, default=False)  # by everybody, so not all parts are here
    error: Exception | None = attrs.field(init=False, default=None)
    turn: Mutex[None] = attrs.field(init=False, factory=lambda: Mutex(None))  # whose holder draws the next part
    drawing: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.head = self.client.head(self.response)
        self.source = self.client.parts(self.response)

    async def chunk(self, index: int) -> bytes | None:
        """A part of the body; None after the last."""
        while index >= len(self.chunks):
            if self.error is not None:
                raise self.error
            if self.over:
                return None
            async with self.turn:
                if index >= len(self.chunks) and not self.over:
                    await detached(self.draw)()  # a reader that leaves meanwhile must not end it for the others
        return self.chunks[index]

    async def draw(self) -> None:
        """Take the next part from the server."""
        self.drawing = True
        try:
            chunk = await anext(self.source)
            await self.recording.write(chunk)
        except StopAsyncIteration:
            await self.recording.finish()
            await self.end()
        except Exception as error:  # noqa: BLE001 - all readers get it
            self.error = error
            await self.end()
        else:
            self.chunks.append(chunk)
        finally:
            self.drawing = False
        await self.give_up_if_left()

    async def end(self) -> None:
        """No more parts will come."""
        self.over = True
        self.recording.abandon()
        self.forget()
        try:
            if isinstance(self.source, AsyncGenerator):  # or it would stay for the loop's finalizer to end
                await self.source.aclose()
        finally:
            await self.client.abandon(self.response)

    async def leave(self) -> None:
        """One reads no more. With the last one the response is given up, or as soon as the part under way has come."""
        self.readers -= 1
        if not self.drawing:
            await self.give_up_if_left()

    async def give_up_if_left(self) -> None:
        """Give the response up if nobody reads it."""
        if not self.readers and not self.over:
            self.left = True
            await self.end()


class Reader(AsyncIterator[bytes]):
    """One reader of a shared body."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._index = 0
        self._left = False
        shared.readers += 1

    async def __anext__(self) -> bytes:
        chunk = await self._shared.chunk(self._index)
        if chunk is None:
            raise StopAsyncIteration
        self._index += 1
        return chunk

    async def aclose(self) -> None:
        """Read no more."""
        if not self._left:
            self._left = True
            await self._shared.leave()
