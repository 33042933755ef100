"""One request and the cache where freshness is used (RFC 9111 § 4): the server is asked only if it must be.

No task runs in the background. While one request validates a response that allows `stale-while-revalidate`, the others
are answered with it as it is.
"""

from __future__ import annotations

import math

import attrs

from asynclocks.recipes import _http_answers as answers, _http_freshness as freshness, _http_rules as rules
from asynclocks.recipes._http_exchange import Answered, Exchange, Head, Outcome, R
from asynclocks.recipes._http_fields import Fields, fields
from asynclocks.recipes._http_keys import Key, variant_of
from asynclocks.recipes._stored import Kind, StoredResponse, Validator

# What such a response says is not about what is stored: about the condition, the part or the caller.
_NO_REPLACEMENT = frozenset({206, 304, *range(400, 404), *range(405, 410), *range(411, 500)})


@attrs.define(eq=False)
class _Found:
    """A stored response that may answer the request."""

    key: Key
    validator: Validator
    response: StoredResponse | None = None  # once it was loaded
    told: Fields = attrs.field(factory=dict)  # its headers


@attrs.define(eq=False)
class FreshExchange(Exchange[R]):
    """A request that may be answered without the server being asked."""

    wishes: freshness.Wishes = freshness.ANY
    base: Key = ("", "", "")  # the request's own method and URI; `key` is that of what was found
    found: _Found | None = None

    async def run(self) -> Outcome:
        self.base = self.key
        self.wishes = freshness.wishes(self.asked)
        self.found = found = await self._find()
        if found is not None:
            self.key = found.key
            if self.wishes.accept(found.validator, self.setting.clock()) or await self._may_be_stale(found):
                answered = await self._from_stored()
                if answered is not None:
                    return answered
        if self.wishes.only_if_cached:
            await self.setting.shelf.note("miss")
            return Answered(answers.GATEWAY_TIMEOUT, "miss")
        if found is None or found.key in self.setting.validating:
            return await self._ask()
        self.setting.validating.add(found.key)
        try:
            return await self._ask()
        finally:
            self.setting.validating.discard(found.key)

    async def _find(self) -> _Found | None:
        """The latest of the stored responses that this request selects (§ 4.1), a fresh one first."""
        shelf, now = self.setting.shelf, self.setting.clock()
        best, rank = None, (False, -math.inf)
        # A HEAD is answered by what a GET brought, too (RFC 9110 § 9.3.2).
        for method in ("GET", "HEAD") if self.base[0] == "HEAD" else ("GET",):
            key = (method, *self.base[1:])
            for vary in await shelf.varies(key):
                variant = variant_of(key, vary, self.asked)
                validator = await shelf.try_hit(variant)
                if validator is None:
                    continue
                received = -math.inf if validator.received is None else validator.received
                if received <= shelf.doubted:
                    validator = attrs.evolve(validator, received=None)
                if best is None or (self.wishes.accept(validator, now), received) > rank:
                    best, rank = _Found(variant, validator), (self.wishes.accept(validator, now), received)
        return best

    async def _load(self) -> StoredResponse | None:
        """What was found; None if it is gone by now, or another of which too little is known."""
        found = self.found
        if found is None or found.response is not None:
            return None if found is None else found.response
        stored = await self.setting.shelf.load(found.key)
        if stored is None:
            return None
        told = fields(stored.headers)
        if stored.validator is not None:
            if found.validator.received is not None:
                found.validator = stored.validator
        elif not rules.is_of(found.validator, told):
            return None
        found.response, found.told = stored, told
        return stored

    async def _from_stored(self) -> Outcome | None:
        """The stored response as the answer, the server unasked. None: it must be asked after all."""
        stored, found = await self._load(), self.found
        if stored is None or found is None:
            return None
        now = self.setting.clock()
        fresh = self.wishes.accept(found.validator, now)
        if not fresh and not await self._may_be_stale(found):
            return None
        return await self._answered(stored, found, "fresh" if fresh else "stale", now)

    async def _answered(self, stored: StoredResponse, found: _Found, kind: Kind, now: float) -> Outcome | None:
        answer = answers.answer(self.base[0], self.asked, stored, found.told, validator=found.validator, now=now)
        if answer is None:
            return None
        await self.setting.shelf.note(kind)
        return Answered(answer, kind)

    async def _may_be_stale(self, found: _Found) -> bool:
        """May it be used though it is not fresh (§ 4.2.4)? If the caller takes it so, or another validates it now."""
        being_validated = found.key in self.setting.validating
        if self.wishes.must_ask or not (being_validated or self.wishes.max_stale) or await self._load() is None:
            return False
        window = freshness.allowance(found.told, "stale-while-revalidate") if being_validated else 0
        tolerable = self.wishes.tolerate(found.validator, self.setting.clock(), window)
        return tolerable and not freshness.never_stale(found.told)

    async def _ask(self) -> Outcome:
        """Ask the server. A stored response may stand in where it fails, if it or the caller says so (RFC 5861 § 4)."""
        own, found = rules.has_condition(self.asked), self.found
        sent = None if own or found is None or not rules.can_ask(found.validator) else rules.plain(found.validator)
        try:
            return await self.ask(sent)
        except self.client.failures:
            answered = await self._instead_of_error()
            if answered is None:
                raise
            return answered

    async def _instead_of_error(self) -> Outcome | None:
        found, stored = self.found, await self._load()
        if found is None or stored is None or freshness.never_stale(found.told):
            return None
        window = max(freshness.allowance(told, "stale-if-error") for told in (found.told, self.asked))
        now = self.setting.clock()
        if not self.wishes.tolerate(found.validator, now, window):
            return None
        return await self._answered(stored, found, "stale", now)

    async def ask_alone(self, sent: Validator | None) -> Outcome:
        outcome = await Exchange.ask_alone(self, sent)
        if isinstance(outcome, Answered) and outcome.kind == "confirmed":
            outcome.answer = answers.whole(self.base[0], outcome.answer)
        return outcome

    async def passed(self, response: R, head: Head) -> Outcome:
        if head.status in freshness.SERVER_ERRORS:
            answered = await self.or_abandon(response, self._instead_of_error())
            if answered is not None:
                await self.client.abandon(response)
                return answered
        await self.or_abandon(response, self._outdate(head))
        self.key = self.base
        return await Exchange.passed(self, response, head)

    async def _outdate(self, head: Head) -> None:
        """Forget what this response shows to be out of date, though it may not be stored itself (§ 4.3.3, § 4.3.5)."""
        found = self.found
        if found is None or not head.sound or head.status in _NO_REPLACEMENT or head.status >= 500:
            return
        storable = self.storable(head.status, head.fields) is not None
        if head.status == 200 and storable and rules.is_of(found.validator, head.fields):
            if self.base[0] == found.key[0]:
                return  # it is replaced as soon as the body is complete
            stored = await self._load()
            if stored is not None and rules.declared_length(head.fields) in {None, len(stored.body)}:
                self.key = found.key
                merged = rules.updated(stored.headers, head.headers, head.fields, stored.body)
                await self.refresh(StoredResponse(stored.status, merged, stored.body))
                return
        await self.setting.shelf.invalidate(found.key, self.received_at)

    async def refresh(self, answer: StoredResponse) -> None:
        if self.storable(answer.status, fields(answer.headers)) is None:
            await self.setting.shelf.invalidate(self.key, self.received_at)
        else:
            await Exchange.refresh(self, answer)

    def to_refresh(self, sent: Validator, head: Head) -> bool:
        return True  # it is fresh again (§ 4.3.4)

    def storable(self, status: int, told: Fields) -> Validator | None:
        if self.setting.changes.since(self.key, self.begun):
            return None  # perhaps it is what it was before
        return rules.storable_fresh(status, told, self.sent_at, self.received_at)

    def key_for(self, validator: Validator) -> Key:
        return variant_of(self.key, validator.vary, self.asked)
