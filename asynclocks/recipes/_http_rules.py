"""What may be stored of a response, and what a 304 makes of it (RFC 9110 and RFC 9111; § cites 9111).

Of a private cache (§ 1). `docs/http_cache.md` has all clauses in a table.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from asynclocks.recipes import _http_freshness as freshness
from asynclocks.recipes._http_fields import Fields, Headers, directives, only, tokens
from asynclocks.recipes._http_keys import CONDITIONS, varies_beyond_key, vary_of
from asynclocks.recipes._stored import Header, Validator

# § 3.1: they concern this connection, or a proxy on its way.
OF_THE_CONNECTION = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# § 3.1 would have every other header stored. These do harm when they are repeated: an old Age (§ 5.1), a cookie that
# undoes a newer one (§ 7.3).
UNSTORED = OF_THE_CONNECTION | {"age", "set-cookie"}

# § 3.2: they say how the stored body is to be read; a 304 has no say in that.
OF_THE_BODY = frozenset({"content-encoding", "content-length", "content-range", "content-type"})

# The statuses whose caching rules are known here (§ 5.2.2.3): all of RFC 9110's that are final and whole.
UNDERSTOOD = frozenset(
    {200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 305, 307, 308, *range(400, 418), 421, 422, 426, *range(500, 506)}
)


def has_condition(headers: Fields) -> bool:
    """Does the caller ask conditionally, or for a part (§ 3.3)?"""
    return "range" in headers or not CONDITIONS.isdisjoint(headers)


def condition(validator: Validator) -> Header:
    """The header that asks whether this is still right: ETag before Last-Modified (RFC 9110 § 13.2.2)."""
    if validator.etag is not None:
        return ("If-None-Match", validator.etag)
    assert validator.last_modified is not None
    return ("If-Modified-Since", validator.last_modified)


def storable(status: int, headers: Fields, ignored: frozenset[str] = frozenset()) -> Validator | None:
    """The validator to store this response with, if every use is to be validated; None: it is not to be stored.

    Only 200: a 304 stands for nothing else (RFC 9110 § 15.4.5). Not with `no-store` (§ 5.2.2.5), nor when it varies
    on anything that is not in the key (§ 4.1), nor when its length is in doubt (RFC 9110 § 8.6). `private`
    (§ 5.2.2.7) and Authorization (§ 3.5) bind shared caches; the key keeps the callers apart.
    """
    if status != 200 or "no-store" in directives(headers) or varies_beyond_key(headers, ignored):
        return None
    return None if _length_in_doubt(headers) or "content-range" in headers else validator_of(headers)


def storable_fresh(status: int, headers: Fields, asked: float, received: float) -> Validator | None:
    """`storable` where freshness is used: any final status (§ 3), if it is fresh for a time or can be validated.

    `asked` and `received` are when the request went and the response came, on the client's clock.
    """
    if status < 200 or status in {206, 304} or _length_in_doubt(headers) or "*" in tokens(headers, "vary"):
        return None
    said = directives(headers)
    if "must-understand" in said:  # § 5.2.2.3: then no-store is for those who do not understand the status
        if status not in UNDERSTOOD:
            return None
    elif "no-store" in said:
        return None
    lifetime = freshness.lifetime(status, headers, received)
    found = validator_of(headers)
    etag, modified = (None, None) if found is None else (found.etag, found.last_modified)
    can_be_validated = found is not None and (status in freshness.HEURISTIC or freshness.is_explicit(headers))
    if lifetime <= 0 and not can_be_validated:
        return None
    age = freshness.initial_age(headers, asked, received)
    return Validator(etag, modified, received, age, lifetime, vary_of(headers))


def _length_in_doubt(headers: Fields) -> bool:
    return "content-length" in headers and only(headers, "content-length") is None


def validator_of(headers: Fields) -> Validator | None:
    """The one ETag, and the Last-Modified if it is a date. None if there is neither."""
    etag = only(headers, "etag")
    if etag == "*":  # as a condition it would mean any response at all (RFC 9110 § 13.1.2)
        etag = None
    date = only(headers, "last-modified")
    if date is not None and not _is_date(date):
        date = None
    return None if etag is None and date is None else Validator(etag, date)


def _is_date(text: str) -> bool:
    try:
        parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter of figures that no machine counts in
        return False
    return True


def can_ask(stored: Validator) -> bool:
    """Is there anything to ask the server with?"""
    return stored.etag is not None or stored.last_modified is not None


def plain(stored: Validator) -> Validator:
    """What the server is asked with, without what is known of freshness."""
    return Validator(stored.etag, stored.last_modified)


def is_of(stored: Validator, told: Fields) -> bool:
    """Are these the headers of what this validator is of, as far as ETag and Last-Modified tell?"""
    return can_ask(stored) and validator_of(told) == plain(stored)


def to_store(headers: Headers, told: Fields) -> tuple[Header, ...]:
    """What of a response's headers is stored: all but what concerns this connection only (§ 3.1)."""
    left_out = UNSTORED.union(tokens(told, "connection")) if "connection" in told else UNSTORED
    return tuple(header for header in headers if header[0].lower() not in left_out)


def updated(stored: Headers, fresh: Headers, told: Fields, body: bytes | None) -> tuple[Header, ...]:
    """The headers of a stored response after a 304 (§ 3.2, § 4.3.4): the 304's own win, but not over the body's.

    `told` are the 304's, too. `body` is None where the answer has none (HEAD); else Content-Length is its length.
    """
    passed_over = OF_THE_BODY.union(OF_THE_CONNECTION, tokens(told, "connection"))
    news = [header for header in fresh if header[0].lower() not in passed_over]
    replaced = {name.lower() for name, _ in news}
    if body is not None:
        replaced.add("content-length")
        news.append(("Content-Length", str(len(body))))
    return (*(header for header in stored if header[0].lower() not in replaced), *news)


def confirms(sent: Validator, fresh: Fields, stored: Fields) -> bool:
    """Is this 304 about what is stored (§ 4.3.3, § 4.3.4)?

    Not if something else was stored since we asked, nor if the 304 names another ETag (compared weakly, RFC 9110
    § 8.8.3.2) or, where it was asked by date, another date.
    """
    if validator_of(stored) != sent:
        return False
    if sent.etag is None:
        return set(fresh.get("last-modified", ())) <= {sent.last_modified}
    return {_opaque(etag) for etag in fresh.get("etag", ())} <= {_opaque(sent.etag)}


def renews(sent: Validator, fresh: Fields) -> bool:
    """Does this 304 bring another validator, and may it replace the stored one (§ 4.3.4)? A strong ETag may not."""
    others = [etag for etag in fresh.get("etag", ()) if etag != sent.etag]
    dated = any(date != sent.last_modified for date in fresh.get("last-modified", ()))
    return bool(others or dated) and all(etag.startswith("W/") for etag in others)


def _opaque(etag: str) -> str:
    return etag.removeprefix("W/")


def declared_length(headers: Fields) -> int | None:
    """The Content-Length; None if there is none, -1 if it is no number (then no body fits it)."""
    said = headers.get("content-length")
    if not said:
        return None
    return int(said[0]) if said[0].isascii() and said[0].isdigit() and len(said[0]) < 20 else -1
