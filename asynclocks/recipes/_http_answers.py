"""What a stored response answers a request with, the server unasked (RFC 9110 and RFC 9111; § cites 9111)."""

from __future__ import annotations

import re

from asynclocks.recipes import _http_freshness as freshness
from asynclocks.recipes._http_fields import Fields, date, only, timestamp
from asynclocks.recipes._stored import Header, StoredResponse, Validator

# RFC 9110 § 15.4.5: what a 304 tells of the response that it stands for.
_TOLD_BY_304 = frozenset({"cache-control", "content-location", "date", "etag", "expires", "vary", "age"})
# RFC 9110 § 13: what only the server can judge.
_FOR_THE_SERVER = frozenset({"if-match", "if-unmodified-since", "if-range"})
_ENTITY_TAG = re.compile(r'(?:W/)?"[^"]*"')
_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)", re.IGNORECASE | re.ASCII)

GATEWAY_TIMEOUT = StoredResponse(504, (("Content-Length", "0"),), b"")  # § 5.2.1.7: nothing is stored that would do


def answer(
    method: str, asked: Fields, stored: StoredResponse, told: Fields, *, validator: Validator, now: float
) -> StoredResponse | None:
    """The answer: all of it, a part, or a 304 if the request was conditional. None: only the server can tell.

    `told` are the stored headers, to look things up in.
    """
    if not _FOR_THE_SERVER.isdisjoint(asked):
        return None
    hidden = freshness.withheld(told)
    kept = [header for header in stored.headers if not hidden or header[0].lower() not in hidden]
    kept.append(("Age", str(int(min(max(freshness.age(validator, now), 0), 2**31)))))
    if stored.status == 200:  # RFC 9110 § 13.2.1: of others no condition and no range is asked
        if _is_current(asked, told, validator):
            wanted = _TOLD_BY_304 if "etag" in told else _TOLD_BY_304 | {"last-modified"}
            return StoredResponse(304, tuple(header for header in kept if header[0].lower() in wanted), b"")
        if "range" in asked and method == "GET":
            return _part(asked["range"], stored.body, kept)
    return whole(method, StoredResponse(stored.status, tuple(kept), stored.body))


def whole(method: str, stored: StoredResponse) -> StoredResponse:
    """All of a stored GET or HEAD, as the answer to this method. It tells the length of the body that there is."""
    if stored.status == 204 or (method == "HEAD" and not stored.body):
        return stored
    headers = _with_length(stored.headers, len(stored.body))
    return StoredResponse(stored.status, headers, b"" if method == "HEAD" else stored.body)


def _with_length(headers: tuple[Header, ...], length: int) -> tuple[Header, ...]:
    told = str(length)
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    if lengths == [told]:
        return headers
    return (*(header for header in headers if header[0].lower() != "content-length"), ("Content-Length", told))


def _is_current(asked: Fields, told: Fields, validator: Validator) -> bool:
    """Has the caller what is stored (§ 4.3.2)? If-None-Match decides where it is there (RFC 9110 § 13.2.2)."""
    if "if-none-match" in asked:
        etag = only(told, "etag")
        listed = ",".join(asked["if-none-match"])
        if listed.strip() == "*":
            return True
        tags = _ENTITY_TAG.findall(listed) or [listed.strip()]
        return etag is not None and etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}
    since = only(asked, "if-modified-since")
    known = None if since is None else timestamp(since)
    if known is None:
        return False
    changed = date(told, "last-modified")
    if changed is None:
        changed = date(told, "date")
    if changed is None:
        changed = validator.received
    return changed is not None and changed <= known


def _part(ranges: list[str], body: bytes, headers: list[Header]) -> StoredResponse | None:
    """One range of bytes (RFC 9110 § 14.1.2). None: several, none that there is, or another unit."""
    found = _RANGE.fullmatch(ranges[0].strip()) if len(ranges) == 1 else None
    if found is None or found.group(1) == found.group(2) == "":
        return None
    first, last = found.groups()
    if max(len(first), len(last)) > 18:
        return None
    begin = int(first) if first else max(0, len(body) - int(last))
    end = min(int(last) + 1, len(body)) if first and last else len(body)
    if begin >= end:
        return None
    kept = [header for header in headers if header[0].lower() not in {"content-length", "content-range"}]
    kept += [("Content-Range", f"bytes {begin}-{end - 1}/{len(body)}"), ("Content-Length", str(end - begin))]
    return StoredResponse(206, tuple(kept), body[begin:end])
