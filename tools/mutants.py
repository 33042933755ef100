"""Pytest plugin that changes the library in small ways and demands that a test notice each (`nox -s mutants`).

    pytest -s -p tools.mutants --mutate asynclocks/_engine tests

After one collection, and in place of the usual run:

1. Each test runs once, in a forked process. What it takes, and which lines of the modules given by ``--mutate`` it
   runs, is recorded. A test that fails here is left out, and named.
2. The modules' syntax trees give the mutants: `tools.mutations` has the kinds.
3. For each mutant a process is forked. It puts the changed code in the place of the live functions' own, and runs the
   tests that run those lines until one fails: the mutant is dead. First come those that killed mutants of the same
   function, then of each file those that run many lines in little time. A mutant with which a test takes far longer
   than it should hangs, and is as good as dead.
4. The tests that killed run once more without a mutant, in the very processes that forked the mutants': of one that
   fails there the kills are void.
5. The survivors are compared with the tables of ``--mutants-page``: a survivor that does not stand there, and a line
   there that no mutant needs any more, fail the run.

Each result is appended to ``--mutants-results``; ``--mutants-resume`` takes from there what is known.

Why neither mutmut nor cosmic-ray: both begin pytest anew for each mutant, whose collection alone takes eight seconds
here. Besides, mutmut calls each function through another one, which is one frame and some references too many for an
engine that looks at both, and it leaves decorated functions out.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import re
import resource
import select
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from types import CodeType
from typing import Any, TypeAlias

import hypothesis
import pytest

from tools.mutations import Functions, Mutant, Put, live_functions, mutants_of, nested, put_in_place

TWINS = re.compile(r"(^|-)(asyncio-eager|uvloop)(-|$)")  # loops that are much like another one
PRELOADED = ("trio", "trio.testing", "anyio._backends._asyncio", "anyio._backends._trio")  # or each process would do it
MEMORY = 4 << 30  # bytes that a mutant may take
PATIENCE = 3.0  # seconds that a test may take with a mutant, beyond ten times what it takes without; asleep, a third
ALIVE = ("lives", "never runs")
DEAD = ("dead", "hangs", "crashes", "same")  # the last compiles to what was there
PASSED, FAILED = 0, 1  # exit statuses of a mutant's process; behind these, what `Put` says
EXITS = {PASSED: "lives", FAILED: "dead", 2: Put.SAME.value, 3: Put.UNFIT.value}
Row: TypeAlias = dict[str, Any]  # one result

failures: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say what is to be mutated, and how far to go."""
    group = parser.getgroup("mutants")
    group.addoption("--mutate", action="append", default=[], help="a module, or a folder of them; may be repeated")
    group.addoption("--mutants-only", default="", help="only mutants whose function or change this pattern finds")
    group.addoption("--mutants-jobs", type=int, default=os.cpu_count(), help="processes at a time")
    group.addoption("--mutants-budget", type=float, default=float("inf"), help="seconds of tests for one mutant")
    group.addoption("--mutants-results", default=".mutants.jsonl", help="the file that keeps the results")
    group.addoption("--mutants-resume", choices=["all", "dead"], help="what of these is not tried again")
    group.addoption("--mutants-page", default="docs/mutants.md", help="survivors that are known, with their reasons")


def pytest_configure() -> None:
    """Let nothing be random, and keep no example that fails with a mutant only."""
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep one loop of each kind; a test that is marked for some loops keeps them all."""
    items[:] = [
        item
        for item in items
        if item.get_closest_marker("loops") or not TWINS.search(getattr(getattr(item, "callspec", None), "id", ""))
    ]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what fails, for `passes`."""
    if report.failed:
        failures.append(report.nodeid)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Try the mutants, in place of the usual run."""
    if session.config.option.collectonly:
        return None
    if not hasattr(sys, "monitoring") or not hasattr(os, "fork"):
        raise pytest.UsageError("tools.mutants needs Python 3.12 or newer, and fork")
    if session.testsfailed:
        raise session.Interrupted(f"{session.testsfailed} errors during collection")
    config, root = session.config, session.config.rootpath
    trees, mutants, outside = _mutants(config)
    results = root / config.getoption("--mutants-results")
    if config.getoption("--mutants-resume") is None:
        results.unlink(missing_ok=True)
    known = rows_of(results)
    settled = ("dead", *ALIVE) if config.getoption("--mutants-resume") == "all" else ("dead",)
    wanted = [one for one in mutants if _kind(known.get(one.known())) not in settled]
    print(f"\n{len(mutants)} mutants, {len(wanted)} of them to try; {outside} others, of what an import does, are not")
    for name in PRELOADED:
        with suppress(ImportError):
            import_module(name)
    functions = live_functions(set(trees))
    gc.collect()
    gc.freeze()
    jobs = config.getoption("--mutants-jobs")
    tests = Tests(session.items, [code for same in functions.values() for one in same for code in nested(one.__code__)])
    tests.measure(jobs)
    Hunt(tests, trees, functions, config, known).run(wanted, jobs)
    page = known_survivors(root / config.getoption("--mutants-page"))
    session.testsfailed = report(mutants, rows_of(results), page)
    return True


def _mutants(config: pytest.Config) -> tuple[dict[str, ast.Module], list[Mutant], int]:
    given = [config.rootpath / name for name in config.getoption("--mutate")]
    only = re.compile(config.getoption("--mutants-only"))
    trees, mutants, outside = {}, [], 0
    for path in [path for one in given for path in (sorted(one.rglob("*.py")) if one.is_dir() else [one])]:
        trees[str(path)], found, on_import = mutants_of(path, config.rootpath)
        mutants += [mutant for mutant in found if only.search(mutant.key())]
        outside += on_import
    return trees, mutants, outside


def passes(item: pytest.Item) -> bool:
    """Run the test, with all its fixtures anew."""
    failures.clear()
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)  # by its hook, or its warnings are not filtered
    return not failures


def forked(work: Callable[[], int]) -> int:
    """A process in a group of its own that does this work, silently."""
    pid = os.fork()
    if pid == 0:
        status = FAILED
        try:
            os.setpgid(0, 0)
            nothing = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(nothing, fd)
            gc.unfreeze = lambda: None  # a test's own collections need not look at what was there before
            status = work()
        finally:
            os._exit(status)  # whatever threads and loops there are
    os.setpgid(pid, pid)
    return pid


def share(count: int, jobs: int, work: Callable[[Iterator[int]], None]) -> bool:
    """Have the numbers below `count` worked on in so many processes; did all of these come to the end?"""
    wanted, tell = os.pipe()

    def numbers() -> Iterator[int]:
        os.close(tell)
        while number := os.read(wanted, 4):
            yield int.from_bytes(number)

    def listen() -> int:
        work(numbers())
        return PASSED

    pids = [forked(listen) for _ in range(jobs)]
    os.close(wanted)
    try:
        for number in range(count):
            os.write(tell, number.to_bytes(4))
        os.close(tell)
        return not sum([os.waitpid(pid, 0)[1] for pid in pids])
    except BaseException:
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        raise


class Tests:
    """The tests that pass: how long each takes, and which of them run a line."""

    def __init__(self, items: list[pytest.Item], codes: list[CodeType]) -> None:
        self.items, self.codes = items, codes
        self.seconds: dict[int, float] = {}
        self.lines: dict[int, int] = {}  # how many of them each runs
        self.runners: dict[tuple[str, int], set[int]] = defaultdict(set)

    def measure(self, jobs: int) -> None:
        failed = []
        with tempfile.TemporaryDirectory() as folder:
            if not share(len(self.items), jobs, partial(self._measure, Path(folder))):
                raise pytest.UsageError("a process that measures the tests ended early")
            rows = [json.loads(line) for file in Path(folder).iterdir() for line in file.read_text().splitlines()]
        for number, passed, seconds, lines in rows:
            if passed:
                self.seconds[number], self.lines[number] = seconds, len(lines)
                for path, line in lines:
                    self.runners[path, line].add(number)
            else:
                failed.append(f"\n  fails without a mutant, left out: {self.items[number].nodeid}")
        print(f"{len(self.seconds)} tests take {sum(self.seconds.values()):.0f} s", *failed, flush=True)

    def _measure(self, folder: Path, numbers: Iterator[int]) -> None:
        ran: set[tuple[str, int]] = set()
        watch = sys.monitoring

        def note(code: CodeType, line: int) -> object:
            ran.add((code.co_filename, line))
            return watch.DISABLE

        watch.use_tool_id(watch.PROFILER_ID, "mutants")
        watch.register_callback(watch.PROFILER_ID, watch.events.LINE, note)
        for code in self.codes:
            watch.set_local_events(watch.PROFILER_ID, code, watch.events.LINE)
        with Path(folder, str(os.getpid())).open("w") as rows:
            for number in numbers:
                ran.clear()
                watch.restart_events()
                begun = time.perf_counter()
                passed = passes(self.items[number])
                rows.write(json.dumps([number, passed, time.perf_counter() - begun, [*ran]]) + "\n")


class Hunt:
    """Tries mutants; each result is a line of the file."""

    def __init__(
        self,
        tests: Tests,
        trees: dict[str, ast.Module],
        functions: Functions,
        config: pytest.Config,
        known: dict[str, Row],
    ) -> None:
        self.tests, self.trees, self.functions, self.root = tests, trees, functions, config.rootpath
        self.results = config.rootpath / config.getoption("--mutants-results")
        self.budget = config.getoption("--mutants-budget")
        self.killers: dict[str, Counter[int]] = defaultdict(Counter)  # of the mutants of a function
        numbers = {item.nodeid: number for number, item in enumerate(tests.items)}
        for row in known.values():
            if row["outcome"] == "dead" and row["by"] in numbers:
                self.killers[row["where"]][numbers[row["by"]]] += 1

    def run(self, mutants: list[Mutant], jobs: int) -> None:
        def work(numbers: Iterator[int]) -> None:
            used = {self._try(mutants[number]) for number in numbers} - {None}
            self._check(sorted(used))

        share(len(mutants), jobs, work)  # a result that is not there is counted at the end

    def _check(self, used: list[int]) -> None:
        """What killed must pass in this same process without a mutant, or it says nothing."""
        while used:
            outcome, failed, _ = self._fork(None, used)
            if outcome == "lives" or failed is None:
                return
            self._write({"void": self.tests.items[failed].nodeid})
            used = used[used.index(failed) + 1 :]

    def _write(self, row: Row) -> None:
        with self.results.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _try(self, mutant: Mutant) -> int | None:
        """The test that killed it."""
        killers, seconds = self.killers[mutant.where], self.tests.seconds
        able = set[int]().union(*(self.tests.runners.get((mutant.path, line), ()) for line in mutant.lines))
        ranks, of_file = {}, Counter[Path]()
        for number in sorted(able, key=lambda number: seconds[number] / self.tests.lines[number] ** 2):
            ranks[number] = of_file[file := self.tests.items[number].path]
            of_file[file] += 1
        order = sorted(able, key=lambda number: (-killers[number], ranks[number], seconds[number]))
        spent = accumulate(seconds[number] for number in order)
        chosen = [number for number, total in zip(order, spent, strict=True) if total <= self.budget]
        outcome, by, tried = self._fork(mutant, chosen) if able else ("never runs", None, 0)
        if by is not None and outcome == "dead":  # one that hangs takes its time
            killers[by] += 1
        row = {
            "mutant": mutant.known(),
            "where": mutant.where,
            "change": mutant.change,
            "line": f"{Path(mutant.path).relative_to(self.root)}:{mutant.lines.start}",
            "outcome": outcome,
            "by": None if by is None or outcome == "lives" else self.tests.items[by].nodeid,
            "tried": tried,
            "able": len(able),
        }
        self._write(row)
        return None if outcome in ALIVE else by

    def _fork(self, mutant: Mutant | None, order: list[int]) -> tuple[str, int | None, int]:
        """What became of the mutant, at which test, and how many were tried."""
        heard, say = os.pipe()

        def live() -> int:
            with suppress(ValueError, OSError):  # macOS has no such limit
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            if mutant is not None:
                put = put_in_place(mutant, self.trees[mutant.path], self.functions)
                if put is not Put.IN_PLACE:
                    return next(status for status, what in EXITS.items() if what == put.value)
            for number in order:
                os.write(say, number.to_bytes(4))
                if not passes(self.tests.items[number]):
                    return FAILED
            return PASSED

        pid = forked(live)
        os.close(say)
        outcome, running, tried, usual = "hangs", None, 0, 5.0
        try:
            while is_heard(heard, pid, usual):
                number = os.read(heard, 4)
                if not number:
                    outcome = "crashes"
                    break
                running, tried = int.from_bytes(number), tried + 1
                usual = self.tests.seconds[running]
        finally:
            os.killpg(pid, signal.SIGKILL)  # and what its tests left behind
            status = os.waitpid(pid, 0)[1]
            os.close(heard)
        if outcome != "hangs" and os.WIFEXITED(status):
            outcome = EXITS.get(os.WEXITSTATUS(status), outcome)
        return outcome, running, tried


def is_heard(pipe: int, pid: int, usual: float) -> bool:
    """Does this process speak in time? `usual` seconds would be enough, and more are given to one that works."""
    begun, before = time.monotonic(), None
    while not select.select([pipe], [], [], 0.25)[0]:
        passed = time.monotonic() - begun
        now = asleep(pid) if passed > (PATIENCE + 10 * usual) / 3 else None
        if passed > PATIENCE + 10 * usual or (now is not None and now == before):
            return False
        before = now
    return True


def asleep(group: int) -> int | None:
    """The CPU time of these processes if all their threads sleep, where /proc tells; else None."""
    spent = []
    for file in Path("/proc").glob("[0-9]*/task/*/stat"):
        with suppress(OSError):  # it ended meanwhile
            fields = file.read_text().rpartition(")")[2].split()
            if fields[2] == str(group):
                spent.append(int(fields[11]) + int(fields[12]))
                if fields[0] != "S":
                    return None
    return sum(spent) if spent else None


def rows_of(results: Path) -> dict[str, Row]:
    """What is known; of two results for one mutant the later."""
    rows: dict[str, Row] = {}
    for row in map(json.loads, results.read_text().splitlines() if results.exists() else ()):
        if "void" in row:  # a test that failed without a mutant as well
            rows = {key: other for key, other in rows.items() if other["by"] != row["void"]}
        else:
            rows[row["mutant"]] = row
    return rows


def known_survivors(page: Path) -> Iterator[str]:
    """The keys of the mutants in the page's tables: rows of a function, a change and a reason."""
    for line in page.read_text().splitlines() if page.exists() else ():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 3 and re.fullmatch(r"`[\w.]+`", cells[0]):
            yield f"{cells[0].strip('`')}: {cells[1]}"


def report(mutants: list[Mutant], rows: dict[str, Row], page: Iterator[str]) -> int:
    """Print what lives and does not stand on the page, and the other way round; how many there are."""
    found = {one.key(): rows[one.known()] for one in mutants if one.known() in rows}
    functions = {one.where for one in mutants}
    said = set(page)
    new = {key: row for key, row in found.items() if row["outcome"] in ALIVE and key not in said}
    gone = [key for key in said if key.split(": ")[0] in functions and _kind(found.get(key)) not in ALIVE]
    for key, row in new.items():
        print(f"{row['line']}: {row['outcome']}, {row['tried']} of {row['able']} tests: {key}")
    for key in sorted(gone):
        print(f"no mutant needs this line of the page: {key}")
    counted = Counter(row["outcome"] for row in found.values())
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counted.items())))
    if untried := len(mutants) - len(found):
        print(f"{untried} were not tried to the end")
    return len(new) + len(gone) + untried


def _kind(row: Row | None) -> str:
    if row is None:
        return "unknown"
    return "dead" if row["outcome"] in DEAD else str(row["outcome"])
