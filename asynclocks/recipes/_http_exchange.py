"""One request and the cache: what is sent, what is answered, what is stored. No I/O of its own.

A client says how it sends, what a response's head is and how it gives up a response; it gets back what to answer.
Nothing is held while the server is waited for, so a caller may leave at any point.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import attrs

from asynclocks.recipes import _http_rules as rules
from asynclocks.recipes._http_fields import Fields, fields
from asynclocks.recipes._http_keys import Key
from asynclocks.recipes._http_shelf import FAILED, Shelf
from asynclocks.recipes._stored import Header, Kind, StoredResponse, Validator

R = TypeVar("R")
T = TypeVar("T")


@attrs.define(eq=False)
class Head:
    """A response without its body.

    `sound` is False if it is not known to be of the URI that was asked for, or the connection would not tell a complete
    body from one that was cut short. Such a response passes through.
    """

    status: int
    headers: tuple[Header, ...] = attrs.field(repr=False)
    fields: Fields = attrs.field(repr=False)  # the same, to look things up in
    sound: bool = True


class Client(Protocol[R]):
    """How one kind of client sends a request; R is its response."""

    @property
    def failures(self) -> type[Exception]:
        """What `send` raises if the server cannot be reached."""

    async def send(self, condition: Header | None) -> R:
        """Send the request, with this header on top."""

    def head(self, response: R) -> Head:
        """Status and headers."""

    async def discard(self, response: R) -> None:
        """Nobody will read this response, a 304: read to its end, so that the connection can be used again."""

    def parts(self, response: R) -> AsyncIterator[bytes]:
        """The response's body as it comes, which nobody else reads."""

    async def abandon(self, response: R) -> None:
        """Nobody will read this response: let go of it at once."""


@attrs.define(eq=False)
class Recording:
    """What takes in a body on its way to the caller. It stores it only if it is complete."""

    _shelf: Shelf = attrs.field(repr=False)
    _writer: Any = attrs.field(repr=False)  # None: it is not to be stored any more
    _missing: int | None  # so many bytes are to come, by Content-Length
    _outdated: Callable[[], bool] = attrs.field(repr=False)

    async def write(self, chunk: bytes) -> None:
        """The next part of the body."""
        writer, self._writer = self._writer, None
        if writer is not None:
            if self._missing is not None:
                self._missing -= len(chunk)
            # A part that was not written would be missing ever after.
            if await self._shelf.ask(writer.write, chunk, failed=FAILED) is not FAILED:
                self._writer = writer

    async def finish(self) -> None:
        """The body has ended, says the connection. It is stored unless Content-Length says otherwise (§ 3.3)."""
        writer, self._writer = self._writer, None
        if writer is not None and not self._missing and not self._outdated():
            await self._shelf.ask(writer.finish)

    def abandon(self) -> None:
        """The rest will not come."""
        self._writer = None


@attrs.define(eq=False)
class Passed:
    """Answer with the server's response as it is, telling `recording` of its body, if there is one."""

    response: Any
    recording: Recording | None = None


@attrs.define(eq=False)
class Answered:
    """Answer with this, which is the cache's. `response` is the 304 that confirmed it, if the server was asked."""

    answer: StoredResponse
    kind: Kind
    response: Any = None


@attrs.define(eq=False)
class Joined:
    """Answer with this head and body, which other requests may have, too. `led`: this one was sent to the server."""

    response: Any
    head: Head
    body: Any  # an AsyncIterator[bytes] to be closed
    led: bool


Outcome = Passed | Answered | Joined


class Sharing(Protocol):
    """How identical requests share a response."""

    async def share(self, what: Hashable, client: Client[Any], ask: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Carry out a request by `ask`, or join one that is the same."""


class Changes:
    """Which URIs a request of this client changed lately: what was asked for before may be what they were before."""

    MOST = 1000

    def __init__(self) -> None:
        self.count = 0
        self._last: OrderedDict[str, int] = OrderedDict()  # the number of the last change of a URI
        self._forgotten = 0  # all changes up to this one, of whatever URI

    def note(self, key: Key) -> None:
        """This key's URI was changed."""
        self.count += 1
        self._last.pop(key[1], None)
        self._last[key[1]] = self.count
        if len(self._last) > self.MOST:
            self._forgotten = self._last.popitem(last=False)[1]

    def since(self, key: Key, count: int) -> bool:
        """Was it changed after so many changes, as far as is known?"""
        return count < max(self._forgotten, self._last.get(key[1], 0))


@attrs.frozen(eq=False)
class Setting:
    """What all exchanges of one client have in common."""

    shelf: Shelf = attrs.field(repr=False)
    ignored: frozenset[str] = frozenset()
    namespace: str = ""
    clock: Callable[[], float] = time.time
    coalescing: Sharing | None = None
    changes: Changes = attrs.field(factory=Changes)
    # The keys that some request validates now: others may be answered meanwhile (stale-while-revalidate).
    validating: set[Key] = attrs.field(factory=set)


@attrs.define(eq=False)
class Exchange(Generic[R]):
    """A request that the cache has a part in: the server is asked before every use."""

    client: Client[R]
    setting: Setting
    key: Key
    asked: Fields
    same: Hashable = None  # what tells identical requests from others; None: this one is not to be shared
    sent_at: float = 0.0
    begun: int = 0  # as `Changes` counts
    received_at: float = 0.0

    async def run(self) -> Outcome:
        """Carry out the request."""
        own = rules.has_condition(self.asked)
        return await self.ask(None if own else await self.setting.shelf.try_hit(self.key))

    async def ask(self, sent: Validator | None) -> Outcome:
        """Ask the server, whether what is stored is still right if there is something to ask with."""
        coalescing = self.setting.coalescing
        if sent is not None or self.same is None or coalescing is None:
            return await self.ask_alone(sent)
        outcome = await coalescing.share(self.same, self.client, partial(self.ask_alone, None))
        if isinstance(outcome, Joined) and not outcome.led:
            await self.setting.shelf.note("miss")
        return outcome

    async def ask_alone(self, sent: Validator | None) -> Outcome:
        """`ask` for this request only."""
        response, head = await self.send(sent)
        if sent is not None and head.status == 304:
            answer = await self.confirmed(sent, response, head)
            if answer is not None:
                return Answered(answer, "confirmed", response)
            response, head = await self.send(None)  # it is gone, or another: now without a condition
        return await self.passed(response, head)

    async def send(self, sent: Validator | None) -> tuple[R, Head]:
        """Send the request, on condition that the response is another than this."""
        self.sent_at, self.begun = self.setting.clock(), self.setting.changes.count
        response = await self.client.send(None if sent is None else rules.condition(sent))
        self.received_at = self.setting.clock()
        return response, self.client.head(response)

    async def passed(self, response: R, head: Head) -> Outcome:
        """Answer with the server's response, and store it if it may be stored."""
        return Passed(response, await self.or_abandon(response, self._recording(head)))

    async def _recording(self, head: Head) -> Recording | None:
        await self.setting.shelf.note("miss")
        validator = self.storable(head.status, head.fields) if head.sound else None
        if validator is None:
            return None
        kept = rules.to_store(head.headers, head.fields)
        writer = await self.setting.shelf.writer(self.key_for(validator), validator, head.status, kept)
        bodiless = self.key[0] == "HEAD" or head.status == 204
        length = 0 if bodiless else rules.declared_length(head.fields)
        if length and hasattr(writer, "expect"):
            await self.setting.shelf.ask(writer.expect, length)
        return Recording(self.setting.shelf, writer, length, partial(self.setting.changes.since, self.key, self.begun))

    async def confirmed(self, sent: Validator, response: R, head: Head) -> StoredResponse | None:
        """What is stored, as the server's 304 has it; None if it is not about that."""
        answer = await self.or_abandon(response, self._confirmed(sent, head))
        await self.client.discard(response)
        if answer is not None:
            await self.setting.shelf.note("confirmed")
        return answer

    async def _confirmed(self, sent: Validator, head: Head) -> StoredResponse | None:
        stored = await self.setting.shelf.load(self.key)
        if not head.sound or stored is None or not rules.confirms(sent, head.fields, fields(stored.headers)):
            return None
        body = None if self.key[0] == "HEAD" or stored.status == 204 else stored.body
        merged = rules.updated(stored.headers, head.headers, head.fields, body)
        answer = StoredResponse(stored.status, merged, stored.body)
        if self.to_refresh(sent, head):
            await self.refresh(answer)
        return answer

    async def refresh(self, answer: StoredResponse) -> None:
        """Store what a 304 changed (§ 4.3.4)."""
        told = fields(answer.headers)
        validator = self.storable(answer.status, told)
        if validator is not None:
            kept = rules.to_store(answer.headers, told)
            await self.setting.shelf.store(self.key_for(validator), validator, answer.status, kept, answer.body)

    def to_refresh(self, sent: Validator, head: Head) -> bool:
        """Is what a 304 changed to be stored? Only if the next request needs it, for its validator.

        The other headers answer this request; each 304 brings its own, so they are not worth writing the body again.
        """
        return rules.renews(sent, head.fields)

    def storable(self, status: int, told: Fields) -> Validator | None:
        """What a response is to be stored with; None: it is not to be stored."""
        return rules.storable(status, told, self.setting.ignored)

    def key_for(self, validator: Validator) -> Key:
        """Under which key it is to be stored."""
        return self.key

    async def or_abandon(self, response: R, asking: Awaitable[T]) -> T:
        """Ask the storage. If it fails, or the caller leaves meanwhile, nobody else would let go of the response."""
        try:
            return await asking
        except BaseException:
            await self.client.abandon(response)
            raise
