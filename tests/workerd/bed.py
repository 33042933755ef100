"""A Worker on this machine: workerd serves a Python module inside Pyodide, with asynclocks's wheel beside it.

>>> with serve("tests.workerd.app") as bed:               # a module in the repository, or of `files`
...     bed.request("/path", b"body").text                 # an Answer: status, text, json()
...     call = bed.start("/path")                          # goes on by itself
...     call.cancel()                                      # as a client that disconnects does
...     call.answer().status                               # 599: cancelled

The module is a Python Worker's: it has a class ``Default(WorkerEntrypoint)``, and classes ``…(DurableObject)`` to be
named in `durable_objects`, each bound in ``env`` by its name. Or it has ``async def on_fetch(request, env, ctx)``,
which gets and returns JavaScript's own objects and needs no SDK.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs

from tests.pyodide.bed import REPO
from tests.workerd.inside import COVERAGE
from tests.workerd.parts import fetch, write_config, write_site

CANCELLED = 599  # the status of a cancelled call


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    text: str
    seconds: float  # from the request to the answer

    def json(self) -> Any:
        """The text as JSON. AssertionError if the request failed."""
        assert self.status == 200, f"{self.status}: {self.text}"
        return json.loads(self.text)


class Call:
    """A request under way."""

    def __init__(self, bed: Bed, number: int, future: Future[Answer]) -> None:
        self._bed = bed
        self._number = number
        self._future = future

    @property
    def done(self) -> bool:
        return self._future.done()

    def answer(self, timeout: float = 30) -> Answer:
        """Wait for the answer, at most `timeout` seconds. Raises TimeoutError."""
        return self._future.result(timeout)

    def cancel(self) -> None:
        """Cancel the Worker's request, as a client that disconnects does. Returns when that is done."""
        self._bed._send(self._bed.front, f"/cancel/{self._number}", b"", {}, 30)


class Bed:
    """A Worker that runs."""

    def __init__(self, worker: int, front: int, log: Path, threads: ThreadPoolExecutor) -> None:
        self.worker = worker  # its port
        self.front = front  # the port where requests can be cancelled
        self._log = log
        self._numbers = count(1)
        self._threads = threads

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.worker}"

    @property
    def log(self) -> str:
        """What workerd and the Worker have printed."""
        return self._log.read_text(errors="replace")

    def request(self, path: str, body: bytes = b"", *, timeout: float = 30) -> Answer:
        """Send a request and wait for the answer, at most `timeout` seconds. Raises TimeoutError."""
        return self._send(self.worker, path, body, {}, timeout)

    def start(self, path: str, body: bytes = b"", *, timeout: float = 30) -> Call:
        """Send a request that can be cancelled."""
        number = next(self._numbers)
        headers = {"x-call": str(number)}
        return Call(self, number, self._threads.submit(self._send, self.front, path, body, headers, timeout))

    def save_coverage(self, file: Path) -> None:
        """Write what was measured inside, for ``coverage combine``. Once, in the end."""
        file.write_bytes(base64.b64decode(self.request(COVERAGE).text))

    def wait_until(self, condition: Callable[[], object], what: str, timeout: float = 10) -> None:
        """Ask again and again; AssertionError if `condition` is not true within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
            time.sleep(0.005)

    def _send(self, port: int, path: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Answer:
        connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
        begun = time.monotonic()
        try:
            connection.request("POST", path, body, dict(headers))
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        return Answer(response.status, text, time.monotonic() - begun)


@contextmanager
def serve(
    app: str,
    *,
    files: Mapping[str, str | Path] = {},
    packages: Iterable[str] = (),
    durable_objects: Iterable[str] = (),
    variables: Mapping[str, str] = {},
    sdk: bool = True,
    measure: bool = False,
) -> Iterator[Bed]:
    """Serve the module `app` until the block ends.

    Args:
        app: the module's name. The repository's ``tests`` can be imported.
        files: more files by their path below the working directory, which is on ``sys.path``: a text, or a file or
            folder to take it from.
        packages: of those in requirements/workerd-inside.txt, what to install beside the library's own dependencies and
            the SDK; "*": all.
        durable_objects: the names of the app's DurableObject classes.
        variables: what else is in ``env``.
        sdk: whether the SDK is there, and with it ``waitUntil``.
        measure: whether to measure coverage; get it with `Bed.save_coverage`.

    Raises:
        RuntimeError: workerd did not start; its output is in the message.
    """
    fetched = fetch()
    with TemporaryDirectory(prefix="workerd-") as name:
        folder = Path(name)
        needed = ["attrs", "sniffio", *packages]
        settings = {**variables, "APP": app}
        if sdk:
            needed.append("workers-runtime-sdk")
            settings["SDK"] = "yes"
        if measure:
            needed.append("coverage")
            settings["MEASURE"] = "yes"
            files = {"pyproject.toml": REPO / "pyproject.toml", **files}
        write_site(folder / "site.zip", fetched, needed, files)
        write_config(folder, fetched, settings, [*durable_objects])
        with _running(fetched, folder) as bed:
            yield bed


@contextmanager
def _running(fetched: Path, folder: Path) -> Iterator[Bed]:
    (binary,) = fetched.glob("node_modules/@cloudflare/workerd-*/bin/workerd")
    ports, told = os.pipe()
    log = folder / "log"
    with log.open("wb") as output, os.fdopen(ports) as events:
        process = subprocess.Popen(
            [binary, "serve", "--experimental", f"--control-fd={told}", "config.capnp"],
            cwd=folder,
            pass_fds=[told],
            stdout=output,
            stderr=output,
        )
        os.close(told)
        try:
            listening = {}
            for line in events:
                event = json.loads(line)
                if event["event"].startswith("listen"):
                    listening[event["socket"]] = event["port"]
                if len(listening) == 2:
                    break
            else:
                raise RuntimeError(f"workerd ended: {log.read_text()}")
            with ThreadPoolExecutor(max_workers=64) as threads:
                try:
                    yield Bed(listening["worker"], listening["front"], log, threads)
                finally:
                    process.terminate()
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
