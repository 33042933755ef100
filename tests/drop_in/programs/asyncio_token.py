"""Many requests share a token that expires; whoever finds it expired renews it, once.

The model: asyncio's documentation of Lock, and the lock in which redis-py's asyncio client connects.

It prints::

    12 requests, 1 renewal
    12 more requests, 2 renewals
    a renewal failed: no answer from the server
    the next request renews: 4 attempts, the lock is free
"""

from __future__ import annotations

import asyncio
from asyncio import Lock  # the one import that changes


class Token:
    def __init__(self) -> None:
        self._lock = Lock()
        self._valid = False
        self.attempts = 0
        self.server_answers = True

    async def get(self) -> str:
        if self._valid:
            return f"token {self.attempts}"
        async with self._lock:
            if not self._valid:  # else somebody renewed it while this one waited
                await self._renew()
        return f"token {self.attempts}"

    def expire(self) -> None:
        self._valid = False

    def being_renewed(self) -> bool:
        return self._lock.locked()

    async def _renew(self) -> None:
        self.attempts += 1
        await asyncio.sleep(0.01)
        if not self.server_answers:
            raise ConnectionError("no answer from the server")
        self._valid = True


async def main() -> None:
    token = Token()
    assert set(await asyncio.gather(*(token.get() for _ in range(12)))) == {"token 1"}
    print(f"12 requests, {token.attempts} renewal")
    token.expire()
    assert set(await asyncio.gather(*(token.get() for _ in range(12)))) == {"token 2"}
    print(f"12 more requests, {token.attempts} renewals")

    token.expire()
    token.server_answers = False
    try:
        await token.get()
    except ConnectionError as error:
        print(f"a renewal failed: {error}")
    token.server_answers = True
    await token.get()
    print(
        f"the next request renews: {token.attempts} attempts, the lock is {'held' if token.being_renewed() else 'free'}"
    )


if __name__ == "__main__":
    asyncio.run(main())
