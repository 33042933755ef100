"""Pictures are made small in threads, two at a time, and no more for a user than his share.

The model: trio's documentation of `trio.to_thread.run_sync` and its limiter, which is a CapacityLimiter.

It prints::

    12 thumbnails, at most 2 threads at once
    on behalf of Ada: borrowed 1 of 2
    Ada again: RuntimeError
    returned: 2 of 2 available
"""

from __future__ import annotations

import threading
import time

import trio
from trio import CapacityLimiter  # the one import that changes


class Studio:
    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._busy = 0
        self.most = 0

    def shrink(self, picture: str) -> str:
        with self._counting:
            self._busy += 1
            self.most = max(self.most, self._busy)
        time.sleep(0.02)
        with self._counting:
            self._busy -= 1
        return f"small {picture}"


async def main() -> None:
    studio = Studio()
    limiter = CapacityLimiter(2)
    made: list[str] = []

    async def make(picture: str) -> None:
        made.append(await trio.to_thread.run_sync(studio.shrink, picture, limiter=limiter))

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(make, f"picture {number}")
    assert sorted(made) == sorted(f"small picture {number}" for number in range(12))
    print(f"{len(made)} thumbnails, at most {studio.most} threads at once")

    await limiter.acquire_on_behalf_of("Ada")
    print(f"on behalf of Ada: borrowed {limiter.borrowed_tokens} of {limiter.total_tokens}")
    try:
        await limiter.acquire_on_behalf_of("Ada")
    except RuntimeError:
        print("Ada again: RuntimeError")
    limiter.release_on_behalf_of("Ada")
    print(f"returned: {limiter.available_tokens} of {limiter.total_tokens} available")


if __name__ == "__main__":
    trio.run(main)
