"""Counters that threads add to, and a report that one of them writes while the others go on.

The model: threading's documentation of Lock, and the lock of logging's handlers.

It prints::

    4 threads added 4000
    the report was written by 1 of 4, the others went on
    within 0.05 s it was not free: False
    not waiting at all: False
    released by another thread than acquired it: True
    released again: RuntimeError
"""

from __future__ import annotations

import threading
import time
from threading import Lock  # the one import that changes

THREADS = 4


class Counter:
    def __init__(self) -> None:
        self._lock = Lock()
        self.value = 0

    def add(self) -> None:
        with self._lock:
            before = self.value
            if before % 100 == 0:
                time.sleep(0)  # here another thread may run
            self.value = before + 1


def run(*targets: object) -> None:
    threads = [threading.Thread(target=target) for target in targets]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    counter = Counter()

    def add() -> None:
        for _ in range(1000):
            counter.add()

    run(*[add] * THREADS)
    print(f"{THREADS} threads added {counter.value}")

    writing = Lock()
    went_on: list[str] = []
    wrote: list[str] = []

    def report() -> None:
        if not writing.acquire(blocking=False):
            went_on.append("another one writes it")
            return
        try:
            while len(went_on) < THREADS - 1:
                time.sleep(0.001)
            wrote.append("the report")
        finally:
            writing.release()

    run(*[report] * THREADS)
    print(f"the report was written by {len(wrote)} of {THREADS}, the others went on")

    lock = Lock()
    lock.acquire()
    print(f"within 0.05 s it was not free: {lock.acquire(timeout=0.05)}")
    print(f"not waiting at all: {lock.acquire(False)}")
    run(lock.release)
    print(f"released by another thread than acquired it: {not lock.locked()}")
    try:
        lock.release()
    except RuntimeError:
        print("released again: RuntimeError")


if __name__ == "__main__":
    main()
