"""Worker threads share a few connections to a database, and tickets for it that are printed meanwhile.

The model: threading's documentation of BoundedSemaphore, and the pools of database drivers.

It prints::

    30 queries, at most 3 connections at once
    all are out: False, and within 0.05 s: False
    given back once too often: ValueError
    5 tickets at once let 5 in
"""

from __future__ import annotations

import threading
import time
from threading import BoundedSemaphore, Semaphore  # the one import that changes

SIZE = 3


class Database:
    def __init__(self) -> None:
        self.connections = BoundedSemaphore(SIZE)
        self._open: list[int] = []
        self.most = 0
        self.answers: list[int] = []

    def ask(self, question: int) -> None:
        with self.connections:
            self._open.append(question)
            self.most = max(self.most, len(self._open))
            time.sleep(0.005)
            self.answers.append(question)
            self._open.remove(question)


def main() -> None:
    database = Database()
    threads = [threading.Thread(target=database.ask, args=(number,)) for number in range(30)]
    start_and_join(threads)
    assert database.most <= SIZE
    print(f"{len(database.answers)} queries, at most {SIZE} connections at once")
    for _ in range(SIZE):
        database.connections.acquire()
    at_once = database.connections.acquire(blocking=False)
    print(f"all are out: {at_once}, and within 0.05 s: {database.connections.acquire(timeout=0.05)}")
    database.connections.release(SIZE)
    try:
        database.connections.release()
    except ValueError:
        print("given back once too often: ValueError")

    tickets = Semaphore(0)
    entered: list[bool] = []
    visitors = [threading.Thread(target=lambda: entered.append(tickets.acquire())) for _ in range(5)]
    start_and_join([*visitors, threading.Thread(target=tickets.release, args=(5,))])
    print(f"5 tickets at once let {entered.count(True)} in")


def start_and_join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
