"""The cache as a client uses it: its settings, and which exchange a request is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from asynclocks.recipes._http_coalesce import Coalescing
from asynclocks.recipes._http_exchange import Client, Exchange, Outcome, Passed, R, Setting
from asynclocks.recipes._http_fields import Headers, fields
from asynclocks.recipes._http_fresh import FreshExchange
from asynclocks.recipes._http_keys import invalidated_by, key_of, sameness
from asynclocks.recipes._http_shelf import OnError, Shelf
from asynclocks.recipes._stored import AnyStorage

# RFC 9110 § 9.2.1, WebDAV's, and QUERY: they change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH"})


class Caching:
    """A cache, as one client has it set up."""

    def __init__(
        self,
        storage: AnyStorage,
        *,
        freshness: bool = False,
        ignore_headers: Iterable[str] = (),
        namespace: str = "",
        coalesce: bool = False,
        on_storage_error: OnError = "miss",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if isinstance(ignore_headers, str):
            raise TypeError(
                f"ignore_headers must be several names, not the string {ignore_headers!r}; put it in a list"
            )
        shelf = Shelf(storage, on_storage_error)
        coalescing = Coalescing() if coalesce else None
        self._setting = Setting(shelf, frozenset(map(str.lower, ignore_headers)), namespace, clock, coalescing)
        self._freshness = freshness and shelf.knows_freshness

    async def exchange(self, client: Client[R], method: str, uri: str, headers: Headers) -> Outcome:
        """Carry out a request."""
        asked, setting = fields(headers), self._setting
        key = key_of(method, uri, asked, setting.ignored, setting.namespace, divided=not self._freshness)
        if key is None:
            return await self._past(client, method, uri)
        same = None if setting.coalescing is None else sameness(method, key[1], asked, setting.ignored)
        kind = FreshExchange if self._freshness else Exchange
        return await kind(client, setting, key, asked, same).run()

    async def _past(self, client: Client[R], method: str, uri: str) -> Passed:
        """A request that the cache has no part in, but that may change what is stored (RFC 9111 § 4.4)."""
        response = await client.send(None)
        if self._freshness and method not in SAFE:
            await self._changed(client, uri, response)
        return Passed(response)

    async def _changed(self, client: Client[R], uri: str, response: R) -> None:
        try:
            head = client.head(response)
            if 200 <= head.status < 400:
                for key in invalidated_by(uri, head.fields, self._setting.namespace):
                    self._setting.changes.note(key)
                    await self._setting.shelf.invalidate(key, self._setting.clock())
        except BaseException:
            await client.abandon(response)
            raise
