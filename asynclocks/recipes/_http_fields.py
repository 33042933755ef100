"""Header fields, parsed: lists, Cache-Control, dates, numbers. What cannot be read is read to the safe side.

§ cites RFC 9111 unless another is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType

from asynclocks.recipes._stored import Header

Headers = Sequence[Header]
Fields = dict[str, list[str]]  # the values of each header, by its name in lower case
Directives = Mapping[str, str | None]  # the value of each Cache-Control directive, by its name in lower case

# What a Cache-Control that cannot be read is taken for: the most careful there is.
UNREADABLE: Directives = MappingProxyType({"no-store": None})
NONE: Directives = MappingProxyType({})
MOST_SECONDS = 2**31  # § 1.2.2: more is taken for this much

# RFC 9110 § 5.6.7: the preferred format, and the two that recipients must understand.
_TIME = r"(?P<time>\d\d:\d\d:\d\d)"
_DATES = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        rf"(?:mon|tue|wed|thu|fri|sat|sun), (?P<day>\d\d) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_TIME} gmt",
        rf"(?:mon|tues|wednes|thurs|fri|satur|sun)day, (?P<day>\d\d)-(?P<month>[a-z]{{3}})-(?P<year>\d\d) {_TIME} gmt",
        rf"(?:mon|tue|wed|thu|fri|sat|sun) (?P<month>[a-z]{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MEMBER = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")+')
_CLOSED = re.compile(r'(?:[^"]|"(?:[^"\\]|\\.)*")*')  # every quote that opens is closed


def fields(headers: Iterable[Header]) -> Fields:
    """The headers, to look things up in."""
    found: Fields = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value.strip())
    return found


def only(headers: Fields, wanted: str) -> str | None:
    """The value of a header that has one, if repeated the same; None if it is absent, empty or in doubt."""
    values = headers.get(wanted)
    return values[0] or None if values and values.count(values[0]) == len(values) else None


def tokens(headers: Fields, wanted: str) -> list[str]:
    """The members of a list header, in lower case."""
    values = headers.get(wanted)
    return [] if values is None else [token for token in map(str.strip, ",".join(values).lower().split(",")) if token]


def directives(headers: Fields) -> Directives:
    """The Cache-Control directives (§ 5.2)."""
    values = headers.get("cache-control")
    return NONE if values is None else _directives(",".join(values))


@lru_cache(512)
def _directives(text: str) -> Directives:
    found: dict[str, str | None] = {}
    if not _CLOSED.fullmatch(text):
        return UNREADABLE
    for member in filter(None, map(str.strip, _MEMBER.findall(text))):
        name, equals, value = member.partition("=")
        known = name.strip().lower()
        said = _unquoted(value) if equals else None
        # § 4.2.1: which of two counts nobody says. A name with a space behind it is not quite that name.
        doubtful = name != name.rstrip() or (known in found and found[known] != said)
        found[known] = "" if doubtful else said
    return MappingProxyType(found)


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def seconds(text: str | None) -> int | None:
    """A number of seconds (§ 1.2.2). None: it is none."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return MOST_SECONDS if len(text.lstrip("0")) > 10 else min(int(text), MOST_SECONDS)


def first_number(headers: Fields, wanted: str) -> int | None:
    """The first member of a list header, if it is a number of seconds (§ 5.1 for Age)."""
    values = headers.get(wanted)
    return None if values is None else seconds(values[0].partition(",")[0].strip())


def date(headers: Fields, wanted: str) -> float | None:
    """A header's date, in seconds since the epoch. None: there is none, or several, or it is no date."""
    text = only(headers, wanted)
    return None if text is None else timestamp(text)


@lru_cache(512)
def timestamp(text: str) -> float | None:
    """An HTTP date (RFC 9110 § 5.6.7) in seconds since the epoch; None if it is none."""
    for pattern in _DATES:
        parts = pattern.fullmatch(text)
        if parts is not None:
            break
    else:
        return None
    try:
        hour, minute, second = map(int, parts["time"].split(":"))
        month = _MONTHS.index(parts["month"].lower()) + 1
        moment = datetime(_year(parts["year"]), month, int(parts["day"]), hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:  # the 32nd of Foo
        return None
    return moment.timestamp()


def _year(digits: str) -> int:
    """RFC 9110 § 5.6.7: two digits that seem to be more than 50 years ahead are in the past."""
    year = int(digits)
    if len(digits) == 4:
        return year
    now = datetime.now(UTC).year
    year += now - now % 100
    return year - 100 if year > now + 50 else year
