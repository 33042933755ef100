"""Settings that many requests read and a reload replaces: no request sees half of a reload.

The model: aiorwlock's README.

It prints::

    5 readers at once
    while they read, a reload waits: reader True, writer False
    30 requests, none saw half of a reload
    reloaded 3 times
"""

from __future__ import annotations

import asyncio

from aiorwlock import RWLock  # the one import that changes


class Settings:
    def __init__(self) -> None:
        self.lock = RWLock()
        self._host = self._port = 0
        self.reading = 0
        self.most = 0
        self.reloads = 0

    async def read(self) -> tuple[int, int]:
        async with self.lock.reader_lock:
            self.reading += 1
            self.most = max(self.most, self.reading)
            host = self._host
            await asyncio.sleep(0.01)
            self.reading -= 1
            return host, self._port

    async def reload(self) -> None:
        async with self.lock.writer_lock:
            assert not self.reading
            self._host += 1
            await asyncio.sleep(0.002)
            self._port += 1
            self.reloads += 1


async def main() -> None:
    settings = Settings()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(settings.read())
        while settings.reading < 5:
            await asyncio.sleep(0)
        print(f"{settings.reading} readers at once")
        tasks.create_task(settings.reload())
        reader, writer = settings.lock.reader_lock, settings.lock.writer_lock
        print(f"while they read, a reload waits: reader {reader.locked}, writer {writer.locked}")

    async with asyncio.TaskGroup() as tasks:
        seen = []
        for number in range(30):
            seen.append(tasks.create_task(settings.read()))
            if number % 15 == 7:
                tasks.create_task(settings.reload())
            await asyncio.sleep(0.001)
    assert all(host == port for host, port in (task.result() for task in seen))
    print(f"{len(seen)} requests, none saw half of a reload")
    print(f"reloaded {settings.reloads} times")


if __name__ == "__main__":
    asyncio.run(main())
