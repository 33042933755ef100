"""Threads that work in stages; what they found is put together before the next stage begins.

The model: threading's documentation of Barrier, its action and its timeout.

It prints::

    after each stage: 6 12 18
    each stage had one first and one last
    one did not come within 0.5 s: 2 told, broken
    whole again: 3 met
    aborted: 2 told
"""

from __future__ import annotations

import threading
import time
from threading import Barrier, BrokenBarrierError  # the one import that changes

THREADS = 3


class Work:
    def __init__(self) -> None:
        self.found: list[int] = []
        self.sums: list[int] = []
        self.positions: list[int] = []
        self.barrier = Barrier(THREADS, action=self._put_together, timeout=60)

    def _put_together(self) -> None:
        self.sums.append(sum(self.found))

    def work(self, number: int) -> None:
        for _ in range(3):
            self.found.append(number)
            self.positions.append(self.barrier.wait())


def outcomes(barrier: Barrier, count: int, timeout: float | None = None) -> tuple[list[threading.Thread], list[str]]:
    heard: list[str] = []

    def wait() -> None:
        try:
            barrier.wait(timeout)
        except BrokenBarrierError:
            heard.append("told")
        else:
            heard.append("met")

    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, heard


def main() -> None:
    work = Work()
    threads = [threading.Thread(target=work.work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    join(threads)
    print("after each stage:", *work.sums)
    if sorted(work.positions) == [0, 0, 0, 1, 1, 1, 2, 2, 2]:
        print("each stage had one first and one last")

    barrier = Barrier(THREADS)
    threads, heard = outcomes(barrier, THREADS - 1, 0.5)
    join(threads)
    print(f"one did not come within 0.5 s: {heard.count('told')} told, {'broken' if barrier.broken else 'whole'}")
    barrier.reset()
    threads, heard = outcomes(barrier, THREADS)
    join(threads)
    print(f"{'broken' if barrier.broken else 'whole'} again: {heard.count('met')} met")
    threads, heard = outcomes(barrier, THREADS - 1)
    while barrier.n_waiting < THREADS - 1:
        time.sleep(0.001)
    barrier.abort()
    join(threads)
    print(f"aborted: {heard.count('told')} told")


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
