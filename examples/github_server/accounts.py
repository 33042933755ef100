"""Who may ask, and how often: app JWTs, installation tokens, rate limits."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

import attrs
import jwt

from examples.github_server.data import Data

ANONYMOUS = 60  # requests an hour, as at GitHub
LONGEST_JWT = 600  # seconds
HOUR = 3600


class Refused(Exception):
    """Answer with this status and message."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


@attrs.define
class Quota:
    """What one caller has of the rate limit; a 304 costs nothing."""

    limit: int
    used: int = 0
    reset: float = attrs.field(factory=lambda: time.time() + HOUR)

    def look(self) -> None:
        """Begin a new hour if it is time, refuse if nothing is left."""
        if time.time() >= self.reset:
            self.used, self.reset = 0, time.time() + HOUR
        if self.used >= self.limit:
            raise Refused(403, "API rate limit exceeded", self.headers())

    def headers(self) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.limit - self.used),
            "X-RateLimit-Used": str(self.used),
            "X-RateLimit-Reset": str(int(self.reset)),
            "X-RateLimit-Resource": "core",
        }


@attrs.define
class Accounts:
    """The app's key, the tokens that were given out, and each installation's quota."""

    data: Data
    app_key: bytes  # the public one
    limit: int
    lifetime: float  # of a token, in seconds
    _expiries: dict[str, float] = attrs.field(factory=dict, init=False, repr=False)
    _installations: dict[str, int] = attrs.field(factory=dict, init=False, repr=False)
    _quotas: dict[int | None, Quota] = attrs.field(factory=dict, init=False)

    def new_token(self, authorization: str, installation: int) -> tuple[str, float]:
        """A token of this installation, and when it expires, for the bearer of an app JWT."""
        self._check_jwt(_bearer(authorization))
        if installation not in self.data.installations:
            raise Refused(404, "Not Found")
        token = f"ghs_{secrets.token_urlsafe(27)}"
        self._expiries[token] = time.time() + self.lifetime
        self._installations[token] = installation
        return token, self._expiries[token]

    def revoke(self, authorization: str) -> None:
        """Let the token in this header be good no more."""
        self.quota(authorization)
        self._expiries[_bearer(authorization)] = 0

    def quota(self, authorization: str | None) -> Quota:
        """The quota of the bearer of a token; without one, everybody's."""
        if authorization is None:
            return self._quotas.setdefault(None, Quota(ANONYMOUS))
        token = _bearer(authorization)
        if self._expiries.get(token, 0) <= time.time():
            raise Refused(401, "Bad credentials")
        return self._quotas.setdefault(self._installations[token], Quota(self.limit))

    def _check_jwt(self, token: str) -> None:
        try:
            claims = jwt.decode(
                token,
                self.app_key,
                algorithms=["RS256"],
                issuer=str(self.data.app_id),
                options={"require": ["iat", "exp", "iss"]},
            )
        except jwt.InvalidTokenError as error:
            raise Refused(401, f"A JSON web token could not be decoded: {error}") from None
        if claims["exp"] > time.time() + LONGEST_JWT:
            raise Refused(401, "'Expiration time' claim ('exp') is too far in the future")


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() not in {"bearer", "token"} or not token:
        raise Refused(401, "Bad credentials")
    return token
