"""Publish finished runs: ``python -m benchmarks.publish [FILE…]``.

FILE is the JSON of `python -m benchmarks`. The first file's run is told in full; each other one (another Python,
Pyodide) adds a column of ratios. Runs of one Python (with ``--only``) make one column; of a row that several have, the
last one counts. What is shown of them goes to ``benchmarks/results.json``; without a FILE that is read
again. From it come docs/benchmarks.md (every row), its plots in ``docs/plots/``, and the README's plot and five rows.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from benchmarks import plots

REPO = Path(__file__).resolve().parents[1]
RESULTS = REPO / "benchmarks" / "results.json"
PLOTS = "docs/plots"
BEGIN, END = "<!-- benchmarks: python -m benchmarks.publish -->", "<!-- end of benchmarks -->"
SCALES = {"seconds": ((1e-4, 1e9, "ns"), (1e-2, 1e6, "µs"), (10.0, 1e3, "ms")), "bytes": ((1e9, 1.0, "B"),)}
# The README's rows: what is done in words, and which subject stands beside which peers.
IN_README = (
    ("Mutex: uncontended", "`async with mutex`, uncontended", "asynclocks.Mutex"),
    ("Mutex: ping-pong of 100 tasks", "100 tasks take turns", "asynclocks.Mutex"),
    ("Mutex: cancelling queued waiters, the last first", "cancel one of 16,000 waiters", "asynclocks.Mutex, 16,000"),
    ("RwLock: 90 readers and 10 writers", "90 readers and 10 writers", "asynclocks.RwLock"),
    ("ConcurrentMap: single flight of 1,000 callers", "one run for 1,000 callers", "asynclocks.ConcurrentMap"),
)
# The page's parts, and which workloads belong to each: the first that matches has it.
PARTS = (
    ("Mutex", "mutex", "^Mutex: (?!memory)"),
    ("Semaphore", "semaphore", "^Semaphore:"),
    ("RwLock", "rwlock", "^RwLock:"),
    ("OnceCell and once", "once", "^(OnceCell|once):"),
    ("Condvar, Notify, Event and Barrier", "events", "^(Condvar|Notify|Event|Barrier):"),
    ("ConcurrentMap", "concurrent_map", "^ConcurrentMap"),
    ("Every spelling", "spellings", "^Spelling"),
    ("Recipes", "recipes", "^(CachedToken|HTTP|RateLimiter|Global)"),
    ("On trio", "trio", "on trio"),
    ("In Pyodide", "pyodide", "in Pyodide"),
    ("What else it costs", "cost", ""),
)

Row: TypeAlias = dict[str, Any]
Run: TypeAlias = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="JSON of `python -m benchmarks`, the main run first")
    if files := parser.parse_args().files:
        runs = merged(condensed(json.loads(file.read_text(encoding="utf-8"))) for file in files)
        RESULTS.write_text(json.dumps(runs, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    runs = json.loads(RESULTS.read_text(encoding="utf-8"))
    for stale in (REPO / PLOTS).glob("*.svg"):
        stale.unlink()
    replace_in(REPO / "README.md", short(runs))
    replace_in(REPO / "docs" / "benchmarks.md", page(runs))


def condensed(run: Run) -> Run:
    """What is published of a run: about it, and a row for each comparison."""
    about = {key: value for key, value in run.items() if key != "workloads"}
    return {**about, "rows": [row for workload in run["workloads"] for row in rows(workload)]}


def merged(runs: Iterable[Run]) -> list[Run]:
    """One run for each interpreter."""
    found: dict[str, Run] = {}
    for run in runs:
        whole = found.setdefault(interpreter(run), run)
        later = {identity(row): row for row in run["rows"]}
        known = {identity(row) for row in whole["rows"]}
        whole["rows"] = [later.get(identity(row), row) for row in whole["rows"]]
        whole["rows"] += [row for key, row in later.items() if key not in known]
    return list(found.values())


def rows(workload: dict[str, Any]) -> Iterator[Row]:
    for comparison in workload["comparisons"]:
        ours, theirs = side_by_side(workload["figures"], comparison)
        yield {
            "workload": workload["name"],
            "unit": workload["unit"],
            "ours": ours,
            "theirs": theirs,
            **{key: comparison[key] for key in ("subject", "peer", "factor", "extra", "reached")},
            "ratio": ours / theirs if theirs else None,
            "quartiles": comparison["ratio_quartiles"],
        }


def side_by_side(figures: dict[str, Any], comparison: dict[str, Any]) -> tuple[float, float | None]:
    """The medians over the rounds that both took part in: one may have dropped out early, and then only these fit.

    The ratio is of these, as in `benchmarks.harness.Outcome`.
    """
    ours = figures[comparison["subject"]]["samples"]
    if comparison["peer"] is None:
        return median(ours), None
    ours, theirs = zip(*zip(ours, figures[comparison["peer"]]["samples"], strict=False), strict=True)
    return median(ours), median(theirs)


def replace_in(file: Path, told: Iterable[str]) -> None:
    """Put these lines between the two marks."""
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{file} lacks the marks {BEGIN!r} and {END!r}")
    file.write_text("\n".join([f"{before}{BEGIN}", *told, f"{END}{after}"]), encoding="utf-8")


def machine(run: Run) -> str:
    versions = ", ".join(f"{name} {found}" for name, found in run["versions"].items())
    clock = f"{run['clock']} time, load {run['load']:.1f} at the start"
    return f"{run['date'][:10]}, {run['cpus']} x {run['cpu']}, {run['platform']}, {clock}; {versions}."


def interpreter(run: Run) -> str:
    python: str = run["python"].replace("CPython", "Pyodide" if "emscripten" in run["platform"].lower() else "").strip()
    return f"{python} compiled" if run.get("compiled") else python


def page(runs: Sequence[Run]) -> Iterator[str]:
    """Everything, part by part: a plot of the main run, and a table of all runs."""
    yield from (machine(runs[0]), "")
    wanted = [row for run in runs for row in run["rows"] if row["reached"] is not None]
    reached = sum(row["reached"] for row in wanted)
    yield f"{reached} of {len(wanted)} targets were reached, over all columns."
    for title, name, _ in PARTS:
        if any(part_of(row) == name for run in runs for row in run["rows"]):
            yield from ("", f"## {title}", "")
            compared = [row for row in runs[0]["rows"] if part_of(row) == name and row["ratio"]]
            if compared:
                plots.draw(compared, REPO / PLOTS / f"{name}.svg")
                yield from (f"![{title}: ours against each peer, CPython {interpreter(runs[0])}](plots/{name}.svg)", "")
            yield from table(runs, name)


def part_of(row: Row) -> str:
    return next(name for _, name, pattern in PARTS if re.search(pattern, row["workload"]))


def table(runs: Sequence[Run], part: str) -> Iterator[str]:
    header = ["workload", "ours or subject", "against", *map(interpreter, runs), "target"]
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    found = [{identity(row): row for row in run["rows"] if part_of(row) == part} for run in runs]
    last = ""
    for key in dict.fromkeys(key for run in found for key in run):
        row = next(run[key] for run in found if key in run)
        told = "" if row["workload"] == last else row["workload"]
        last = row["workload"]
        ratios = [ratio(run[key]) if key in run else "" for run in found]
        yield f"| {' | '.join([told, side(row, 'ours'), side(row, 'theirs'), *ratios, target(row)])} |"


def identity(row: Row) -> tuple[str, str, str | None]:
    return row["workload"], row["subject"], row["peer"]


def side(row: Row, which: str) -> str:
    value, name = row[which], row["subject" if which == "ours" else "peer"]
    if value is None:
        return ""
    for limit, factor, unit in SCALES[row["unit"]]:
        if value < limit:
            return f"{name}: {value * factor:,.0f} {unit}"
    return f"{name}: {value:,.2f} s"


def ratio(row: Row) -> str:
    mark = "**missed**" if row["reached"] is False else ""
    return f"{row['ratio']:.2f} {mark}".strip() if row["ratio"] is not None else mark or "reached"


def target(row: Row) -> str:
    if row["reached"] is None:
        return ""
    _, scale, unit = SCALES[row["unit"]][-1]
    factor = f"{row['factor']:g}" if row["factor"] else ""
    extra = f"{row['extra'] * scale:g} {unit}" if row["extra"] else ""
    return "≤ " + " + ".join(filter(None, (factor, extra)))


def short(runs: Sequence[Run]) -> Iterator[str]:
    """The README's plot and its five rows."""
    main, *_ = runs
    chosen: list[tuple[str, list[Row]]] = []
    for workload, told, subject in IN_README:
        found = [row for row in main["rows"] if row["workload"] == workload and row["subject"] == subject]
        if beside := [row for row in found if not row["peer"].startswith("asynclocks")]:
            chosen.append((told, beside))  # a quick run has not all of them
    drawn = [{**row, "workload": told.replace("`", "")} for told, beside in chosen for row in beside]
    plots.draw(drawn, REPO / PLOTS / "overview.svg", targets=False)
    python = f"CPython {interpreter(main)}"
    yield f"![Five workloads: our time over each peer's, {python}]({PLOTS}/overview.svg)"
    yield ""
    yield f"{python}, medians of one run with all peers in turn ({main['date'][:10]}); below 1 ours is faster:"
    yield from ("", "| workload | our time over theirs | |", "|---|---|---|")
    for told, beside in chosen:
        times = ", ".join(f"{row['peer'].split(', ')[0]} {row['ratio']:.2f}" for row in beside)
        remarks = ["a peer is faster"] * any(row["ratio"] > 1 for row in beside)
        remarks += ["our target is missed"] * any(row["reached"] is False for row in beside)
        yield f"| {told} | {times} | {'; '.join(remarks)} |"


if __name__ == "__main__":
    main()
