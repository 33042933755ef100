"""The command line: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import faulthandler
import gc
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import attrs

from benchmarks import clock, report
from benchmarks.clock import CLOCKS
from benchmarks.harness import FULL, QUICK, Effort, Outcome, Workload, natively, plan
from benchmarks.runners import loop_factory, measuring
from benchmarks.workloads import TABLE

RESULTS = Path(".benchmarks")  # git ignores it
HUNG = 300  # seconds for one workload: a lock that hangs should say where


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours beside the peers, interleaved.")
    parser.add_argument("--quick", action="store_true", help="in half a minute, and half as sure")
    parser.add_argument("--only", metavar="PATTERN", default="", help="workloads whose name contains this")
    parser.add_argument("--repeats", metavar="N", type=int, help="samples of each subject, however long they take")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="which loop asyncio's are")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu on a busy machine; threads: wall always")
    parser.add_argument("--json", metavar="FILE", type=Path, help=f"where the figures go; else into {RESULTS}/")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="where the picture goes (.svg, .png)")
    parser.add_argument("--list", action="store_true", help="show the workloads, run nothing")
    return parser.parse_args(argv)


def main() -> None:
    options = arguments()
    named = [workload for workload in TABLE if options.only.casefold() in workload.name.casefold()]
    chosen = [workload for workload in named if workload.quick or not options.quick]
    if options.list:
        print(*[workload.name for workload in chosen], sep="\n")
        return
    if not chosen:
        sys.exit(f"no such workload: {options.only!r}; --list names them (--quick has fewer)")
    clock.use(options.clock)
    about = report.machine(options.loop, options.clock)
    outcomes = run(chosen, effort(options), options.loop)
    print(report.headline(about), report.table(outcomes), sep="\n\n")
    save(options, about, outcomes)


def effort(options: argparse.Namespace) -> Effort:
    found = QUICK if options.quick else FULL
    if options.repeats is None:
        return found
    return attrs.evolve(found, repeats=options.repeats, least=options.repeats)


def run(workloads: Sequence[Workload], effort: Effort, loop: str) -> list[Outcome]:
    factory = loop_factory(loop)
    gc.collect()
    gc.freeze()  # what is imported by now is here to stay; collecting between samples need not look at it
    outcomes = []
    for number, workload in enumerate(workloads, 1):
        start = perf_counter()
        print(f"[{number}/{len(workloads)}] {workload.name}", end=" … ", file=sys.stderr, flush=True)
        faulthandler.dump_traceback_later(HUNG, exit=True)
        outcomes.append(natively(plan(workload, effort), measuring(workload.loop, factory)))
        faulthandler.cancel_dump_traceback_later()
        print(f"{perf_counter() - start:.1f} s", file=sys.stderr)
    return outcomes


def save(options: argparse.Namespace, about: dict[str, str], outcomes: Sequence[Outcome]) -> None:
    stem = "-".join([about["date"].replace(":", ""), about["python"].replace(" ", ""), options.loop])
    figures = options.json or RESULTS / f"{stem}.json"
    figures.parent.mkdir(parents=True, exist_ok=True)
    figures.write_text(report.as_json(about, outcomes) + "\n", encoding="utf-8")
    print(f"\nfigures: {figures}")
    if find_spec("matplotlib") is None:
        print("no picture: matplotlib is not installed")
        return
    picture = options.plot or figures.with_suffix(".svg")
    report.draw(about, outcomes, picture)
    print(f"picture: {picture}")


if __name__ == "__main__":
    main()
