"""Keys: which requests may be answered by one stored response (RFC 9110 and RFC 9111; § cites 9111).

Where the server is asked before every use, the key has every request header that may select a representation: a
server that forgets its Vary does no harm then. Where freshness is used, Vary says which (§ 4.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from urllib.parse import urljoin, urlsplit

from asynclocks.recipes._http_fields import Fields, directives, tokens

Key = tuple[str, str, str]

# RFC 9110 § 13.1: who brings a condition of their own wants to see the 304 (or 412) themselves.
CONDITIONS = frozenset({"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"})

# Request headers that select no representation, so that they do not divide the cache. A response that says it varies
# on one of them is not stored where the server is asked before every use, since the key would not cover it.
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
    "transfer-encoding",
    "user-agent",
}

# Tracing, correlation and retries: new values with every request, put there by an SDK or a gateway.
TRACING = frozenset(
    {
        "adrum",  # AppDynamics
        "b3",
        "baggage",  # W3C, Sentry
        "cf-ray",
        "client-request-id",
        "correlation-context",  # .NET
        "correlation-id",
        "fly-request-id",
        "grpc-trace-bin",
        "jaeger-baggage",
        "jaeger-debug-id",
        "newrelic",
        "request-context",  # Application Insights
        "request-id",
        "sentry-trace",
        "singularityheader",  # AppDynamics
        "span-id",
        "sw8",  # SkyWalking
        "trace-id",
        "traceparent",  # W3C
        "tracestate",
        "uber-trace-id",  # Jaeger
        "x-amz-cf-id",
        "x-amzn-requestid",
        "x-amzn-trace-id",
        "x-bugsnag-trace-id",
        "x-client-request-id",
        "x-client-trace-id",
        "x-cloud-trace-context",
        "x-correlation-id",
        "x-envoy-attempt-count",
        "x-goog-request-id",
        "x-ms-client-request-id",
        "x-ms-correlation-request-id",
        "x-ms-request-id",
        "x-ot-span-context",
        "x-queue-start",
        "x-request-id",
        "x-request-start",
        "x-rollbar-session",
        "x-session-trace-id",
        "x-span-id",
        "x-trace-id",
        "x-transaction-id",
        "x-vercel-id",
    }
)
TRACING_PREFIXES = (
    "amz-sdk-",  # botocore's retries
    "elastic-apm-",
    "ot-baggage-",
    "ot-tracer-",
    "sentry-",
    "sw8-",
    "uberctx-",
    "wf-ot-",
    "x-b3-",
    "x-datadog-",
    "x-dynatrace",
    "x-honeycomb-",
    "x-instana-",
    "x-newrelic-",
    "x-ot-",
    "x-ruxit-",
)

# Cookies that balancers and bot filters set anew with answers: they say which machine answers, not what.
_BALANCERS_COOKIE = re.compile(
    r"(?:AWSALB(?:TG)?(?:CORS)?|AWSELB(?:CORS)?|ARRAffinity(?:SameSite)?|GCLB|GCILB|SERVERID|ROUTEID|INGRESSCOOKIE"
    r"|__cf_bm|__cflb|__cfruid|_cfuvid|ak_bmsc|bm_s[vz]|_abck|citrix_ns_id.*|BIGipServer.*|TS01\w*"
    r"|incap_ses_.*|visid_incap_.*|nlbi_.*|DO-LB|X-Oracle-BMC-LBS-Route|akavpau_.*)"
)
_DIGEST = re.compile(r'(?<![\w*])(username\*?|realm)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,]*)', re.IGNORECASE)

_HOW_TO_ANSWER = CONDITIONS | {"cache-control", "pragma", "range"}

ALWAYS_DIVIDES = "authorization"  # where Vary decides: one caller's answer is no other's, whatever the server forgets
_CASELESS = frozenset({"accept-charset", "accept-encoding", "accept-language"})


def key_of(
    method: str,
    uri: str,
    headers: Fields,
    ignored: frozenset[str] = frozenset(),
    namespace: str = "",
    *,
    divided: bool = True,
) -> Key | None:
    """The key of what this request may be answered with. None: the cache stays out of it.

    Where Vary decides, the key is not `divided` by headers: its third string is empty, for `variant_of` to fill in.
    Only GET and HEAD (RFC 9110 § 9.3) without content, of absolute http URIs, and not if the caller says `no-store`
    (§ 5.2.1.5).
    """
    if method not in {"GET", "HEAD"} or "no-store" in directives(headers) or _has_content(headers):
        return None
    absolute = normalised(uri)
    if absolute is None:
        return None
    return (method, _named(absolute, namespace), _selection(headers, ignored) if divided else "")


def sameness(method: str, uri: str, headers: Fields, ignored: frozenset[str]) -> Key | None:
    """What tells identical requests from others, more strictly than any key. None: this one is not to be shared.

    Not shared are requests with wishes of their own for the cache, with conditions, and with a proof that is theirs.
    """
    if not _HOW_TO_ANSWER.isdisjoint(headers) or by_digest(headers):
        return None
    traced = (name for name in headers if _is_tracing(name) or name in ignored)
    return (
        method,
        uri,
        _hash(f"{name}:{value}" for name in sorted(headers.keys() - {*traced}) for value in headers[name]),
    )


def variant_of(key: Key, vary: str, headers: Fields) -> Key:
    """The key of the response to this request among those that are divided by these headers (`Validator.vary`)."""
    lines = [
        f"{name}:{_presented(name, identity)}"
        for name in vary.split(",")
        if name in headers and (identity := _identity(name, headers[name]))
    ]
    return (key[0], key[1], _hash(["vary", vary, *lines]))


def vary_of(headers: Fields) -> str:
    """What divides the responses of a URI, as its response's Vary says (`Validator.vary`)."""
    return ",".join(sorted({*tokens(headers, "vary"), ALWAYS_DIVIDES}))


def invalidated_by(uri: str, headers: Fields, namespace: str) -> Iterable[Key]:
    """Whose responses a request that changed this URI has put in doubt, by its response (§ 4.4)."""
    changed = normalised(uri)
    if changed is None:
        return
    named = [_beside(changed, value) for name in ("location", "content-location") for value in headers.get(name, ())]
    for other in dict.fromkeys((changed, *named)):
        if other is not None and urlsplit(other)[:2] == urlsplit(changed)[:2]:
            yield from ((method, _named(other, namespace), "") for method in ("GET", "HEAD"))


def _beside(uri: str, reference: str) -> str | None:
    try:
        return normalised(urljoin(uri, reference))
    except ValueError:
        return None


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


def varies_beyond_key(headers: Fields, ignored: frozenset[str]) -> bool:
    """Does a response vary on what `key_of` leaves out?"""
    return any(name == "*" or not _selects(name, ignored) for name in tokens(headers, "vary"))


def by_digest(headers: Fields) -> bool:
    """Does the caller prove itself by Digest (RFC 7616)? The proof is another in every request, so no key has it."""
    return any(value[:7].lower() == "digest " for value in headers.get("authorization", ()))


def _named(uri: str, namespace: str) -> str:
    return f"{namespace} {uri}" if namespace else uri  # no URI has a space


def _is_tracing(name: str) -> bool:
    return name in TRACING or name.startswith(TRACING_PREFIXES)


@lru_cache(512)
def _selects(name: str, ignored: frozenset[str]) -> bool:
    return not (name in UNSELECTIVE or name in ignored or _is_tracing(name))


def _selection(headers: Fields, ignored: frozenset[str]) -> str:
    """What selects the representation, Authorization and all, as a hash."""
    # No name holds a colon, no value a line feed: two selections are never one text.
    return _hash(
        f"{name}:{value}"
        for name in sorted(headers)
        if _selects(name, ignored)
        for value in _identity(name, headers[name])
    )


def _hash(lines: Iterable[str]) -> str:
    return sha256("\n".join(lines).encode("utf-8", "backslashreplace")).hexdigest()


def _presented(name: str, values: list[str]) -> str:
    """A selecting header's value, one spelling for what means the same (§ 4.1)."""
    value = ",".join(values)
    if name in _CASELESS:
        value = value.lower()
    return value if '"' in value or name == ALWAYS_DIVIDES else re.sub(r"\s*,\s*", ",", value)


def _identity(name: str, values: list[str]) -> list[str]:
    """The part of a header that says who asks, without what is new in every request."""
    if name == "cookie":
        pairs = [pair.strip() for value in values for pair in value.split(";")]
        kept = "; ".join(pair for pair in pairs if not _BALANCERS_COOKIE.fullmatch(pair.partition("=")[0].strip()))
        return [kept] if kept else []
    if name == ALWAYS_DIVIDES:
        return [_who(value) if value[:7].lower() == "digest " else value for value in values]
    return values


def _who(digest: str) -> str:
    return "digest " + ",".join(sorted(f"{name.lower()}={value}" for name, value in _DIGEST.findall(digest)))


def _has_content(headers: Fields) -> bool:
    # RFC 9110 § 9.3.1: content of a GET has no meaning that a key could cover.
    return "transfer-encoding" in headers or headers.get("content-length", ["0"]) != ["0"]
