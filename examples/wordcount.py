"""Count the words of a folder's Python files, with everybody at once.

Tasks on two asyncio loops, tasks on a trio loop and four plain threads take files from one list, open few
at a time under one `Semaphore`, and add what they found to one Counter in a `Mutex`. Then the same is counted one by
one, to see that nothing was lost. In Pyodide, which has no threads, one loop does it all.

    python examples/wordcount.py [folder]

Without a folder: the running Python's standard library.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import decode_source
from pathlib import Path
from time import monotonic
from typing import TypeAlias

from asynclocks import Mutex, Semaphore

try:
    import trio
except ImportError:  # an extra; and there is none for Pyodide
    trio = None  # type: ignore[assignment]

IN_PYODIDE = sys.platform == "emscripten"
TASKS_PER_LOOP = 4
THREADS = 4
MOST_SKIPPED_SHOWN = 5

File: TypeAlias = Path | zipfile.Path
Words: TypeAlias = Counter[str]


class Job:
    """What everybody shares."""

    def __init__(self, files: list[File]) -> None:
        self.files = files
        self.words = Mutex[Words](Counter(), name="words")
        self.open_files = Semaphore(4, name="open files")
        self.shares: Counter[str] = Counter()  # how many files each kind of worker has done
        self.skipped: dict[str, str] = {}  # files that could not be read, and why
        self._left = files.copy()
        self._shown_at = 0.0

    def take(self) -> Iterator[File]:
        """Files nobody else gets, until none is left."""
        with suppress(IndexError):
            while True:
                yield self._left.pop()

    def stop(self) -> None:
        """Let everybody finish the file at hand only."""
        self._left.clear()

    def read(self, file: File) -> Words:
        """The file's words; none, and a note in `skipped`, if it cannot be read."""
        try:
            if not file.is_file():  # a pipe would keep us waiting
                raise FileNotFoundError(errno.ENOENT, "no regular file, or gone")
            return Counter(re.findall(r"\w+", decode_source(file.read_bytes())))
        except OSError as error:
            self.skipped[str(file)] = error.strerror or str(error)
        except (LookupError, SyntaxError, UnicodeError, zipfile.BadZipFile) as error:  # no text in any encoding we know
            self.skipped[str(file)] = str(error)
        return Counter()

    def add(self, total: Words, found: Words, worker: str) -> None:
        """Add what was found. The caller holds the mutex, which also keeps the progress in one line."""
        total.update(found)
        self.shares[worker] += 1
        done = self.shares.total()
        if monotonic() - self._shown_at > 0.1 or done == len(self.files):
            self._shown_at = monotonic()
            print(f"\r{done} of {len(self.files)} files", end="", file=sys.stderr, flush=True)


async def work_in_task(job: Job, worker: str, sleep: Callable[[float], Awaitable[None]]) -> None:
    """On any loop."""
    for file in job.take():
        async with job.open_files:
            found = job.read(file)
        async with job.words as guard:
            job.add(guard.value, found, worker)
        await sleep(0)  # give the loop's others a turn


def work_in_thread(job: Job) -> None:
    """The same without a loop."""
    for file in job.take():
        with job.open_files.blocking_acquire():
            found = job.read(file)
        with job.words.blocking_lock() as guard:
            job.add(guard.value, found, "threads")


async def run_on_asyncio(job: Job, worker: str) -> None:
    """Several tasks."""
    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS_PER_LOOP):
            group.create_task(work_in_task(job, worker, asyncio.sleep))


async def run_on_trio(job: Job) -> None:
    """Several tasks."""
    async with trio.open_nursery() as nursery:
        for _ in range(TASKS_PER_LOOP):
            nursery.start_soon(work_in_task, job, "trio", trio.sleep)


async def run_everywhere(job: Job) -> None:
    """On this loop, and in threads: another asyncio loop, a trio loop, and work without a loop."""
    others: list[Callable[[], None]] = [lambda: asyncio.run(run_on_asyncio(job, "asyncio, another loop"))]
    if trio is None:
        print("trio is not installed (pip install asynclocks[trio]): going without its loop", file=sys.stderr)
    else:
        others.append(lambda: trio.run(run_on_trio, job))
    others += [lambda: work_in_thread(job)] * THREADS
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(len(others)) as pool:
        try:
            await asyncio.gather(run_on_asyncio(job, "asyncio"), *(loop.run_in_executor(pool, run) for run in others))
        finally:
            job.stop()  # for Ctrl-C: the pool waits for its threads


def standard_library() -> Path:
    """Its folder; Pyodide's is an archive."""
    return Path(os.__file__).parent


def find_files(folder: Path) -> list[File]:
    """Every .py file below the folder or in the archive, without what pip installed into a standard library.

    Raises:
        OSError: there is none.
    """
    if folder.is_dir():
        files: list[File] = [
            Path(path, name)
            for path, _, names in os.walk(folder, onerror=_say_skipped)
            for name in names
            if name.endswith(".py") and (folder != standard_library() or "site-packages" not in Path(path).parts)
        ]
    elif zipfile.is_zipfile(folder):
        archive = zipfile.ZipFile(folder)
        files = [zipfile.Path(archive, name) for name in archive.namelist() if name.endswith(".py")]
    else:
        raise NotADirectoryError(errno.ENOTDIR, "is no folder", folder)
    if not files:
        raise FileNotFoundError(errno.ENOENT, "holds no .py file", folder)
    return files


def _say_skipped(error: OSError) -> None:
    print(f"skipped {error.filename}: {error.strerror}", file=sys.stderr)


def show(job: Job, total: Words) -> None:
    """Who did how much, the ten most frequent words, what was skipped."""
    for worker, done in job.shares.most_common():
        print(f"{done:>9,} files by {worker}")
    for word, count in total.most_common(10):
        print(f"{count:>9,} {word}")
    for file, reason in list(job.skipped.items())[:MOST_SKIPPED_SHOWN]:
        print(f"skipped {file}: {reason}", file=sys.stderr)
    if len(job.skipped) > MOST_SKIPPED_SHOWN:
        print(f"skipped {len(job.skipped) - MOST_SKIPPED_SHOWN} more", file=sys.stderr)


async def main(argv: list[str]) -> int:
    """Count, show, check; the exit code."""
    parser = argparse.ArgumentParser(prog="wordcount", description="Count words, with everybody at once.")
    parser.add_argument("folder", nargs="?", type=Path, default=standard_library(), help="default: standard library")
    folder: Path = parser.parse_args(argv).folder
    try:
        job = Job(find_files(folder))
    except OSError as error:
        print(f"wordcount: {error.filename} {error.strerror}; name a folder that holds .py files", file=sys.stderr)
        return 2

    await (run_on_asyncio(job, "asyncio") if IN_PYODIDE else run_everywhere(job))
    total = job.words.into_inner()
    print(file=sys.stderr)
    show(job, total)

    one_by_one: Words = Counter()
    for file in job.files:
        one_by_one.update(job.read(file))
    summary = f"{total.total():,} words in {len(job.files) - len(job.skipped):,} files"
    if total != one_by_one:
        print(f"{summary}, but one by one they are {one_by_one.total():,}", file=sys.stderr)
        return 1
    print(f"{summary}; counted one by one they are as many")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(sys.argv[1:])))
    except KeyboardInterrupt:
        sys.exit("\ninterrupted")
