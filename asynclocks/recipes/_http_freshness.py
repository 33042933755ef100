"""How long a stored response may be used without asking the server (RFC 9111 § 4.2; § cites it).

A private cache: `s-maxage` and `proxy-revalidate` are for others. What cannot be read is read to the safe side.
"""

from __future__ import annotations

import math

import attrs

from asynclocks.recipes._http_fields import Fields, date, directives, first_number, seconds, tokens
from asynclocks.recipes._http_keys import by_digest
from asynclocks.recipes._stored import Validator

# RFC 9110 § 15.1: what may be taken for fresh though nobody said so. (206 is never stored here.)
HEURISTIC = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
HEURISTIC_PART = 0.1  # § 4.2.2: of the time for which it had not changed when it was sent,
MOST_HEURISTIC = 24 * 3600  # and no longer than a day

# RFC 5861 § 4: for these the server may say that it would rather have a stale response used.
SERVER_ERRORS = frozenset({500, 502, 503, 504})


def lifetime(status: int, headers: Fields, received: float) -> float:
    """How old this response may get, in seconds (§ 4.2.1). 0: it must be validated before any use."""
    said = directives(headers)
    if ("no-cache" in said and not said["no-cache"]) or _pragma_forbids(headers):
        return 0
    if "max-age" in said:
        return seconds(said["max-age"]) or 0
    sent = date(headers, "date")
    if sent is None:
        sent = received
    if "expires" in headers:
        expires = date(headers, "expires")
        return 0 if expires is None else max(0, expires - sent)
    return _heuristic(status, headers, sent)


def _heuristic(status: int, headers: Fields, sent: float) -> float:
    modified = date(headers, "last-modified")
    if modified is None or (status not in HEURISTIC and "public" not in directives(headers)):
        return 0
    return min(max(0, sent - modified) * HEURISTIC_PART, MOST_HEURISTIC)


def is_explicit(headers: Fields) -> bool:
    """Does the response say itself that it may be stored, whatever its status (§ 3)?"""
    said = directives(headers)
    return "expires" in headers or not {"max-age", "public", "private"}.isdisjoint(said)


def initial_age(headers: Fields, asked: float, received: float) -> float:
    """How old a response was when it came (§ 4.2.3), if it was `asked` for and `received` at these times."""
    sent = date(headers, "date")
    apparent = 0.0 if sent is None else max(0.0, received - sent)
    said = first_number(headers, "age") or 0
    return max(apparent, said + max(0.0, received - asked))


def age(stored: Validator, now: float) -> float:
    """How old it is (§ 4.2.3). Infinite if that is not known, since the clock went back behind its receipt."""
    if stored.received is None or now < stored.received:
        return math.inf
    return stored.age + now - stored.received


@attrs.frozen
class Wishes:
    """What a request says of the responses that it takes without the server being asked (§ 5.2.1)."""

    must_ask: bool = False
    only_if_cached: bool = False
    max_age: float = math.inf
    min_fresh: float = 0.0
    max_stale: float = 0.0

    def accept(self, stored: Validator, now: float) -> bool:
        """Is it fresh, as this request would have it?"""
        old = age(stored, now)
        return not self.must_ask and old <= self.max_age and stored.lifetime - old > self.min_fresh

    def tolerate(self, stored: Validator, now: float, extra: float) -> bool:
        """May it be used though it is stale? `extra`: for so long by leave of the response."""
        old, allowed = age(stored, now), max(self.max_stale, extra)
        if self.must_ask or self.min_fresh > 0 or allowed <= 0:
            return False
        return old < math.inf and old <= self.max_age and old - stored.lifetime <= allowed


ANY = Wishes()


def wishes(headers: Fields) -> Wishes:
    """What this request says."""
    said = directives(headers)
    pragma = _pragma_forbids(headers)
    if not said and not pragma and "authorization" not in headers:
        return ANY
    max_age = seconds(said["max-age"]) or 0 if "max-age" in said else math.inf
    min_fresh = said.get("min-fresh")
    fresh_for = seconds(min_fresh)
    return Wishes(
        "no-cache" in said or pragma or max_age == 0 or by_digest(headers),
        "only-if-cached" in said,
        max_age,
        math.inf if fresh_for is None and "min-fresh" in said else float(fresh_for or 0),
        _max_stale(said["max-stale"]) if "max-stale" in said else 0.0,
    )


def _max_stale(value: str | None) -> float:
    return math.inf if value is None else float(seconds(value) or 0)


def allowance(headers: Fields, directive: str) -> float:
    """For how long a stored response may be used stale, in seconds, by this directive of its own (RFC 5861)."""
    return float(seconds(directives(headers).get(directive)) or 0)


def never_stale(headers: Fields) -> bool:
    """Does the response forbid to be used once it is stale (§ 5.2.2.2), or at all before it is validated?"""
    said = directives(headers)
    return "must-revalidate" in said or "no-cache" in said


def withheld(headers: Fields) -> set[str]:
    """The headers that may not be used before the server confirms them: those that `no-cache` names (§ 5.2.2.4)."""
    named = directives(headers).get("no-cache")
    return set(tokens({"no-cache": [named]}, "no-cache")) if named else set()


def _pragma_forbids(headers: Fields) -> bool:
    """§ 5.4: it is Cache-Control's older form, and means nothing beside it."""
    return "pragma" in headers and "cache-control" not in headers and "no-cache" in tokens(headers, "pragma")
