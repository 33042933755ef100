"""On asyncio and trio: httpx with the HTTP cache, and JWTs by PyJWT."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx
import jwt

from asynclocks.recipes.httpx import CachingTransport
from examples.github_client.github import Json, Reply, Signer


class HttpxSend:
    """Sends through one httpx client, which belongs to one loop."""

    def __init__(self, timeout: float = 10, *, freshness: bool = False) -> None:
        self._client = httpx.AsyncClient(transport=CachingTransport(freshness=freshness), timeout=timeout)

    async def __call__(self, method: str, url: str, headers: dict[str, str]) -> Reply:
        try:
            response = await self._client.request(method, url, headers=headers)
        except httpx.TimeoutException as error:
            raise TimeoutError(f"{method} {url}: no answer in time") from error
        except httpx.HTTPError as error:
            raise OSError(f"{method} {url}: {error}") from error
        from_cache = bool(response.extensions.get("from_cache"))
        unasked = response.extensions.get("cache_status") == "fresh"
        return Reply(response.status_code, dict(response.headers), response.content, from_cache, unasked)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()


def signer(private_key: str) -> Signer:
    """Signs with a key in PEM."""

    async def sign(claims: Json) -> str:
        return jwt.encode(claims, private_key, algorithm="RS256")

    return sign
