"""The rules of HTTP caching, as functions of methods, URIs and headers (RFC 9110 and RFC 9111; § cites 9111).

A private cache (§ 1) that asks the server before every use, as octocrab does. So what is stale needs no arithmetic
(§ 4.2), `no-cache` and `max-age` ask for nothing more (§ 5.2), an unsafe method has nothing to invalidate (§ 4.4), and
what a HEAD says of a stored GET (§ 4.3.5) will be asked anyway. `docs/http_cache.md` has all clauses in a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import urlsplit

from asynclocks.recipes._stored import Header, Validator

Headers = Sequence[Header]
Fields = dict[str, list[str]]  # the values of each header, by its name in lower case
Key = tuple[str, str, str]

# RFC 9110 § 13.1: who brings a condition of their own wants to see the 304 (or 412) themselves.
CONDITIONS = frozenset({"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"})

# Request headers that select no representation, so that they do not divide the cache. A response that says it varies
# on one of them is not stored (§ 4.1). Every other header is part of the key, which is stricter than Vary asks for.
UNSELECTIVE = CONDITIONS | {
    "cache-control",
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "pragma",
    "priority",
    "range",
    "referer",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "user-agent",
    "x-request-id",
}

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


def fields(headers: Iterable[Header]) -> Fields:
    """The headers, to look things up in."""
    found: Fields = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value.strip())
    return found


def key_of(method: str, uri: str, headers: Fields) -> Key | None:
    """The key of what this request may be answered with. None: the cache stays out of it.

    Only GET and HEAD (RFC 9110 § 9.3) without content, of absolute http URIs, and not if the caller says `no-store`
    (§ 5.2.1.5).
    """
    if method not in {"GET", "HEAD"} or "no-store" in directives(headers) or _has_content(headers):
        return None
    absolute = normalised(uri)
    return None if absolute is None else (method, absolute, _selection(headers))


@lru_cache(512)
def normalised(uri: str) -> str | None:
    """One spelling for one URI (RFC 9110 § 4.2.3), without fragment and password. None: not absolute http."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or parts.scheme not in {"http", "https"}:
        return None
    at = f"[{host}]" if ":" in host else host
    if port is not None and port != {"http": 80, "https": 443}[parts.scheme]:
        at = f"{at}:{port}"
    query = "?" if "?" in uri.partition("#")[0] else ""  # an empty one, too, makes another URI
    return f"{parts.scheme}://{at}{parts.path or '/'}{query}{parts.query}"


def _selection(headers: Fields) -> str:
    """What selects the representation, Authorization and all, as a hash."""
    # No name holds a colon, no value a line feed: two selections are never one text.
    selecting = [f"{name}:{value}" for name in sorted(headers) if name not in UNSELECTIVE for value in headers[name]]
    return sha256("\n".join(selecting).encode("utf-8", "backslashreplace")).hexdigest()


def _has_content(headers: Fields) -> bool:
    # RFC 9110 § 9.3.1: content of a GET has no meaning that a key could cover.
    return "transfer-encoding" in headers or headers.get("content-length", ["0"]) != ["0"]


def has_condition(headers: Fields) -> bool:
    """Does the caller ask conditionally, or for a part (§ 3.3)?"""
    return "range" in headers or not CONDITIONS.isdisjoint(headers)


def condition(validator: Validator) -> Header:
    """The header that asks whether this is still right: ETag before Last-Modified (RFC 9110 § 13.2.2)."""
    if validator.etag is not None:
        return ("If-None-Match", validator.etag)
    assert validator.last_modified is not None
    return ("If-Modified-Since", validator.last_modified)


def storable(status: int, headers: Fields) -> Validator | None:
    """The validator by which this response may be stored and asked for again; None: it is not to be stored.

    Only 200: a 304 stands for nothing else (RFC 9110 § 15.4.5). Not with `no-store` (§ 5.2.2.5), nor when it varies
    on anything that is not in the key (§ 4.1), nor when its length is in doubt (RFC 9110 § 8.6). `private`
    (§ 5.2.2.7) and Authorization (§ 3.5) bind shared caches; the key keeps the callers apart.
    """
    if status != 200 or "no-store" in directives(headers) or _varies_beyond_key(headers):
        return None
    in_doubt = "content-length" in headers and _only(headers, "content-length") is None
    return None if in_doubt or "content-range" in headers else validator_of(headers)


def validator_of(headers: Fields) -> Validator | None:
    """The one ETag, and the Last-Modified if it is a date. None if there is neither."""
    etag = _only(headers, "etag")
    date = _only(headers, "last-modified")
    if date is not None and not _is_date(date):
        date = None
    return None if etag is None and date is None else Validator(etag, date)


def _only(headers: Fields, wanted: str) -> str | None:
    """The value of a header that has one, if repeated the same; None if it is absent, empty or in doubt."""
    values = headers.get(wanted)
    return values[0] or None if values and values.count(values[0]) == len(values) else None


def _is_date(text: str) -> bool:
    try:
        parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter of figures that no machine counts in
        return False
    return True


def _varies_beyond_key(headers: Fields) -> bool:
    varies = tokens(headers, "vary")
    return bool(varies) and ("*" in varies or not UNSELECTIVE.isdisjoint(varies))


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


def tokens(headers: Fields, wanted: str) -> list[str]:
    """The members of a list header, in lower case."""
    values = headers.get(wanted)
    return [] if values is None else [token for token in map(str.strip, ",".join(values).lower().split(",")) if token]


def directives(headers: Fields) -> set[str]:
    """The names of the Cache-Control directives (§ 5.2)."""
    return {token.partition("=")[0].strip() for token in tokens(headers, "cache-control")}
