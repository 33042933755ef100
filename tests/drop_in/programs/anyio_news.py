"""Readers of a ticker wait for the next message; each message is an event of its own.

The model: anyio's documentation of Event, whose events are not cleared but replaced.

It prints::

    3 readers wait
    each read: rain, wind, sun
    nothing more within 0.05 s
    the last one stays set: True
"""

from __future__ import annotations

import anyio
from anyio import Event  # the one import that changes


class Ticker:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.news = Event()
        self.read = 0

    def say(self, message: str) -> None:
        self.said.append(message)
        said, self.news = self.news, Event()
        said.set()

    async def listen(self, log: list[str], count: int) -> None:
        while len(log) < count:
            news = self.news
            if len(self.said) == len(log):
                await news.wait()
            log.append(self.said[len(log)])
            self.read += 1


async def main() -> None:
    ticker = Ticker()
    logs: list[list[str]] = [[] for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for log in logs:
            tasks.start_soon(ticker.listen, log, 3)
        while ticker.news.statistics().tasks_waiting < len(logs):
            await anyio.sleep(0.001)
        print(f"{ticker.news.statistics().tasks_waiting} readers wait")
        ticker.say("rain")
        while ticker.read < len(logs):
            await anyio.sleep(0.001)
        ticker.say("wind")
        ticker.say("sun")
    assert logs == [ticker.said] * 3
    print(f"each read: {', '.join(logs[0])}")
    with anyio.move_on_after(0.05) as scope:
        await ticker.news.wait()
    if scope.cancelled_caught:
        print("nothing more within 0.05 s")
    last = ticker.news
    ticker.say("night")
    await last.wait()
    print(f"the last one stays set: {last.is_set()}")


if __name__ == "__main__":
    anyio.run(main)
