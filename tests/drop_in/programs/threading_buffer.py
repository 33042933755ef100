"""Producers and consumers with a bounded buffer between them.

The model: the standard library's `queue.Queue`, and threading's documentation of Condition.

It prints::

    200 items from 4 producers, each taken once, never more than 5 in the buffer
    nothing comes within 0.05 s: Empty
    notify without the lock: RuntimeError
    a condition of its own may be acquired twice: 1 notified
"""

from __future__ import annotations

import threading
from threading import Condition, Lock  # the one import that changes
from time import monotonic

SIZE = 5


class Empty(Exception):
    pass


class Buffer:
    def __init__(self) -> None:
        self._mutex = Lock()
        self.not_empty = Condition(self._mutex)
        self._not_full = Condition(self._mutex)
        self._items: list[int] = []
        self.most = 0

    def put(self, item: int) -> None:
        with self._not_full:
            while len(self._items) >= SIZE:
                self._not_full.wait()
            self._items.append(item)
            self.most = max(self.most, len(self._items))
            self.not_empty.notify()

    def get(self, timeout: float = 60) -> int:
        deadline = monotonic() + timeout
        with self.not_empty:
            while not self._items:
                left = deadline - monotonic()
                if left <= 0:
                    raise Empty
                self.not_empty.wait(left)
            item = self._items.pop(0)
            self._not_full.notify()
            return item


def main() -> None:
    buffer = Buffer()
    taken: list[int] = []

    def produce(first: int) -> None:
        for item in range(first, first + 50):
            buffer.put(item)

    def consume() -> None:
        taken.extend(buffer.get() for _ in range(100))

    threads = [threading.Thread(target=produce, args=(first,)) for first in range(0, 200, 50)]
    threads += [threading.Thread(target=consume) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(200))
    assert buffer.most <= SIZE
    print(f"{len(taken)} items from 4 producers, each taken once, never more than {SIZE} in the buffer")
    try:
        buffer.get(timeout=0.05)
    except Empty:
        print("nothing comes within 0.05 s: Empty")
    try:
        buffer.not_empty.notify()
    except RuntimeError:
        print("notify without the lock: RuntimeError")
    twice()


def twice() -> None:
    own = Condition()
    notified: list[bool] = []
    waits: list[None] = []

    def wait() -> None:
        with own, own:
            waits.append(None)
            notified.append(own.wait_for(lambda: not waits, timeout=60))

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not notified:
        with own:
            if waits:
                waits.clear()
                own.notify_all()
    waiter.join()
    print(f"a condition of its own may be acquired twice: {notified.count(True)} notified")


if __name__ == "__main__":
    main()
