"""A background thread that does something now and then until it is told to stop.

The model: threading's documentation of Event and Timer, and the heartbeats of many clients.

It prints::

    it beats before it is stopped
    stopped: True, at once
    not set within 0.05 s: False
    one signal for 5 threads: 5 went
    cleared: False
"""

from __future__ import annotations

import threading
from threading import Event  # the one import that changes


class Heartbeat:
    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._stop = Event()
        self.beats = 0
        self.third = Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.beats += 1
            if self.beats == 3:
                self.third.set()
                self._interval = 60

    def stop(self) -> bool:
        self._stop.set()
        self._thread.join(30)
        return not self._thread.is_alive()


def main() -> None:
    heartbeat = Heartbeat(0.01)
    heartbeat.start()
    if heartbeat.third.wait(60):
        print("it beats before it is stopped")
    print(f"stopped: {heartbeat.stop()}, at once")

    signal = Event()
    print(f"not set within 0.05 s: {signal.wait(0.05)}")
    went: list[bool] = []
    threads = [threading.Thread(target=lambda: went.append(signal.wait())) for _ in range(5)]
    for thread in threads:
        thread.start()
    signal.set()
    for thread in threads:
        thread.join()
    print(f"one signal for {len(threads)} threads: {went.count(True)} went")
    signal.clear()
    print(f"cleared: {signal.is_set()}")


if __name__ == "__main__":
    main()
