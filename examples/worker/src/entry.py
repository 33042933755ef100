"""Prices from a slow API that wants a token and bears few calls at a time: a Worker whose requests share their work.

Everything global here belongs to all requests that this isolate serves at once:

- `TOKEN` is fetched by one request, for all that need it;
- `PRICES` is filled by one request a price, for all that ask for that price meanwhile and later;
- `CALLS` lets three requests call the API at a time, first come, first served;
- `LIMIT` refuses what comes too fast.

A request may be cancelled at any time, also the one that the others wait for: the next one goes on in its place.
"""

from __future__ import annotations

import math
import time
from typing import Any
from urllib.parse import urlsplit

import workers
from workers import Response, WorkerEntrypoint

from asynclocks import ConcurrentMap, Semaphore
from asynclocks.recipes import CachedToken, RateLimitedError, RateLimiter


async def fetch_token() -> tuple[str, float | None]:
    """The API's token and when it expires."""
    answer = await ask("/token")
    return answer["token"], time.time() + answer["expires_in"]


async def fetch_price(item: str) -> float:
    """What the API says. Only one request at a time asks for the same item."""
    async with CALLS:
        token = await TOKEN.get()
        try:
            answer = await ask(f"/prices/{item}", token)
        except PermissionError:
            TOKEN.invalidate(token)  # revoked before its time; of all who are told so only the first clears it
            answer = await ask(f"/prices/{item}", await TOKEN.get())
    return answer["price"]


async def ask(path: str, token: str | None = None) -> Any:
    """The API's answer. PermissionError if it refuses the token, LookupError if it knows nothing of that."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    answer = await workers.fetch(workers.env.API + path, headers=headers)
    if answer.status == 401:
        raise PermissionError(path)
    if answer.status == 404:
        raise LookupError(path)
    return await answer.json()


TOKEN = CachedToken(fetch_token)
PRICES: ConcurrentMap[str, float] = ConcurrentMap()
CALLS = Semaphore(3, name="calls to the API")
LIMIT = RateLimiter(10, burst=50)


class Default(WorkerEntrypoint):
    """GET /prices/<item>, and GET /statistics of this isolate."""

    async def fetch(self, request: Any) -> Response:
        match urlsplit(request.url).path.strip("/").split("/"):
            case ["prices", item]:
                return await self.price(item)
            case ["statistics"]:
                calls = CALLS.statistics()
                return Response.json({"prices": len(PRICES), "calls": 3 - calls.available, "waiting": calls.waiting})
        return Response("Not found", status=404)

    async def price(self, item: str) -> Response:
        try:
            LIMIT.try_acquire()
        except RateLimitedError as error:
            headers = {"retry-after": str(math.ceil(error.retry_after))}
            return Response("Too many requests", status=429, headers=headers)
        try:
            price = await PRICES.get_or_insert_with(item, lambda: fetch_price(item))
        except LookupError:
            return Response("No such item", status=404)
        return Response.json({"item": item, "price": price})
