"""A stand-in for the slow API, on this machine: it counts what it is asked, and how many ask at once."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

PRICES = {"apples": 3.5, "pears": 4.25, "plums": 5.0, "quinces": 6.75}


class Api(ThreadingHTTPServer):
    """Tells tokens and prices, each after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seconds = seconds
        self.asked: Counter[str] = Counter()  # by path
        self.most = 0  # prices asked for at once
        self._tokens = 0
        self._at_once = 0
        self._lock = Lock()

    def revoke(self) -> None:
        """Let the token that was given out last be refused from now on."""
        self._tokens += 1

    def answer(self, path: str, authorization: str | None) -> tuple[int, object]:
        with self._lock:
            self.asked[path] += 1
        if path == "/token":
            time.sleep(self.seconds)
            self._tokens += 1
            return 200, {"token": self._token, "expires_in": 3600}
        if authorization != f"Bearer {self._token}":
            return 401, None
        with self._counted():
            time.sleep(self.seconds)
        price = PRICES.get(path.removeprefix("/prices/"))
        return (404, None) if price is None else (200, {"price": price})

    @property
    def _token(self) -> str:
        return f"token-{self._tokens}"

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most = max(self.most, self._at_once)
        yield
        with self._lock:
            self._at_once -= 1


class Handler(BaseHTTPRequestHandler):
    """Asks its server what to answer."""

    server: Api

    def do_GET(self) -> None:
        status, answer = self.server.answer(self.path, self.headers["authorization"])
        body = json.dumps(answer).encode()
        with suppress(ConnectionError):  # who asked is gone
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nothing: it counts instead."""


@contextmanager
def serve_api(seconds: float = 0.2) -> Iterator[Api]:
    """The API, until the block ends."""
    with Api(seconds) as api:
        Thread(target=api.serve_forever, daemon=True).start()
        yield api
        api.shutdown()
