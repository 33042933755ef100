"""One request and the cache: what is sent, what is answered, what is stored. No I/O of its own.

A client says how it sends, what a response's head is and how it gives up a response; it gets back what to answer.
Nothing is held while the server is waited for, so a caller may leave at any point.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import attrs

from asynclocks.recipes import _http_rules as rules
from asynclocks.recipes._stored import AnyStorage, Header, StoredResponse, Validator

R = TypeVar("R")


@attrs.define(eq=False)
class Head:
    """A response without its body.

    `sound` is False if it is not known to be of the URI that was asked for, or the connection would not tell a complete
    body from one that was cut short. Such a response passes through.
    """

    status: int
    headers: tuple[Header, ...] = attrs.field(repr=False)
    fields: rules.Fields = attrs.field(repr=False)  # the same, to look things up in
    sound: bool = True


class Client(Protocol[R]):
    """How one kind of client sends a request; R is its response."""

    async def send(self, condition: Header | None) -> R:
        """Send the request, with this header on top."""

    def head(self, response: R) -> Head:
        """Status and headers."""

    async def discard(self, response: R) -> None:
        """Nobody will read this response, a 304: read to its end, so that the connection can be used again."""

    async def abandon(self, response: R) -> None:
        """Nobody will read this response, and the request has failed: let go of it at once."""


@attrs.define(eq=False)
class Recording:
    """What takes in a body on its way to the caller. It stores it only if it is complete."""

    _writer: Any = attrs.field(repr=False)  # None: it is not to be stored any more
    _missing: int | None  # so many bytes are to come, by Content-Length

    async def write(self, chunk: bytes) -> None:
        """The next part of the body."""
        writer, self._writer = self._writer, None
        if writer is not None:
            if self._missing is not None:
                self._missing -= len(chunk)
            await _settled(writer.write(chunk))  # a part that was not written would be missing ever after
            self._writer = writer

    async def finish(self) -> None:
        """The body has ended, says the connection. It is stored unless Content-Length says otherwise (§ 3.3)."""
        writer, self._writer = self._writer, None
        if writer is not None and not self._missing:
            await _settled(writer.finish())

    def abandon(self) -> None:
        """The rest will not come."""
        self._writer = None


@attrs.define(eq=False)
class Passed:
    """Answer with the server's response as it is, telling `recording` of its body, if there is one."""

    response: Any
    recording: Recording | None = None


@attrs.define(eq=False)
class Revalidated:
    """Answer with what is stored, which the server confirmed in `response`, a 304."""

    response: Any
    answer: StoredResponse


async def exchange(
    client: Client[R], storage: AnyStorage, method: str, uri: str, headers: rules.Headers
) -> Passed | Revalidated:
    """Carry out a request."""
    asked = rules.fields(headers)
    key = rules.key_of(method, uri, asked)
    if key is None:
        return Passed(await client.send(None))
    sent = None if rules.has_condition(asked) else await _settled(storage.try_hit(key))
    return await _Exchange(client, storage, key).run(sent)


@attrs.define(eq=False)
class _Exchange(Generic[R]):
    """A request that the cache has a part in."""

    client: Client[R]
    storage: AnyStorage
    key: rules.Key

    async def run(self, sent: Validator | None) -> Passed | Revalidated:
        response = await self.client.send(None if sent is None else rules.condition(sent))
        head = self.client.head(response)
        if sent is not None and head.status == 304:
            answer = await self.confirmed(sent, response, head)
            if answer is not None:
                return Revalidated(response, answer)
            response = await self.client.send(None)  # it is gone, or another: now without a condition
            head = self.client.head(response)
        validator = rules.storable(head.status, head.fields) if head.sound else None
        return Passed(response, None if validator is None else await self.recording(validator, response, head))

    async def confirmed(self, sent: Validator, response: R, head: Head) -> StoredResponse | None:
        stored: StoredResponse | None = await self.or_abandon(response, partial(self.storage.load, self.key))
        await self.client.discard(response)
        if not head.sound or stored is None or not rules.confirms(sent, head.fields, rules.fields(stored.headers)):
            return None
        body = None if self.key[0] == "HEAD" else stored.body
        merged = rules.updated(stored.headers, head.headers, head.fields, body)
        answer = StoredResponse(stored.status, merged, stored.body)
        if rules.renews(sent, head.fields):
            await self.refresh(answer)
        return answer

    async def refresh(self, answer: StoredResponse) -> None:
        """Store what a 304 changed (§ 4.3.4), which is done only if the next request needs it, for its validator.

        The other headers answer this request; each 304 brings its own, so they are not worth writing the body again.
        """
        told = rules.fields(answer.headers)
        validator = rules.storable(answer.status, told)
        if validator is not None:
            kept = rules.to_store(answer.headers, told)
            writer: Any = await _settled(self.storage.writer(self.key, validator, answer.status, kept))
            await _settled(writer.write(answer.body))
            await _settled(writer.finish())

    async def recording(self, validator: Validator, response: R, head: Head) -> Recording:
        kept = rules.to_store(head.headers, head.fields)
        begin = partial(self.storage.writer, self.key, validator, head.status, kept)
        writer = await self.or_abandon(response, begin)
        return Recording(writer, 0 if self.key[0] == "HEAD" else rules.declared_length(head.fields))

    async def or_abandon(self, response: R, ask: Callable[[], Any]) -> Any:
        """Ask the storage. If it fails, or the caller leaves meanwhile, nobody else would let go of the response."""
        try:
            return await _settled(ask())
        except BaseException:
            await self.client.abandon(response)
            raise


async def _settled(result: Awaitable[Any] | Any) -> Any:
    """What a storage's method returned, or what that is the promise of."""
    return await result if hasattr(result, "__await__") else result
