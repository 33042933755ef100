"""Put the figures of finished runs into the README and docs/benchmarks.md: ``python -m benchmarks.publish FILE…``.

The first file's run is the one that is told in full; the others (other Pythons, Pyodide) add their ratios. Nothing is
left out of docs/benchmarks.md. The README has every row that has a target, and every row in which a peer is faster.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- benchmarks: python -m benchmarks.publish -->", "<!-- end of benchmarks -->"
SCALES = {"seconds": ((1e-4, 1e9, "ns"), (1e-2, 1e6, "µs"), (10.0, 1e3, "ms")), "bytes": ((1e9, 1.0, "B"),)}

Run = dict[str, Any]
Row = tuple[str, dict[str, Any], dict[str, Any]]  # the workload's name and data, the comparison


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="JSON of `python -m benchmarks`, the main run first")
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in parser.parse_args().files]
    readme = REPO / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    told = "\n".join([machine(runs[0]), "", *table(runs, worth_telling), "", *summary(runs)])
    readme.write_text(f"{before}{BEGIN}\n{told}\n{END}{after}", encoding="utf-8")
    page = REPO / "docs" / "benchmarks.md"
    head, _, _ = page.read_text(encoding="utf-8").partition(BEGIN)
    everything = "\n".join([machine(runs[0]), "", *table(runs, lambda _: True)])
    page.write_text(f"{head}{BEGIN}\n{everything}\n{END}\n", encoding="utf-8")


def machine(run: Run) -> str:
    versions = ", ".join(f"{name} {found}" for name, found in run["versions"].items())
    clock = f"{run['clock']} time, load {run['load']:.1f} at the start"
    return f"{run['date'][:10]}, {run['cpus']} x {run['cpu']}, {run['platform']}, {clock}; {versions}."


def interpreter(run: Run) -> str:
    return run["python"].replace("CPython", "Pyodide" if "emscripten" in run["platform"].lower() else "").strip()


def worth_telling(row: Row) -> bool:
    _, _, comparison = row
    return comparison["reached"] is not None or (comparison["ratio"] or 0) > 1


def rows(run: Run) -> Iterator[Row]:
    for workload in run["workloads"]:
        for comparison in workload["comparisons"]:
            yield workload["name"], workload, comparison


def table(runs: Sequence[Run], wanted: Callable[[Row], bool]) -> list[str]:
    names = [interpreter(run) for run in runs]
    header = ["workload", "ours or subject", "against", *names, "target"]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    last = ""
    for row in all_rows(runs):
        if not wanted(row):
            continue
        name, workload, comparison = row
        ratios = [ratio(run, name, comparison) for run in runs]
        told = "" if name == last else name
        cells = [told, side(workload, comparison["subject"]), side(workload, comparison["peer"]), *ratios]
        lines.append(f"| {' | '.join([*cells, target(workload, comparison)])} |")
        last = name
    return lines


def all_rows(runs: Sequence[Run]) -> Iterator[Row]:
    """Those of the main run, then what only the others have."""
    known = set()
    for run in runs:
        for name, workload, comparison in rows(run):
            key = (name, comparison["subject"], comparison["peer"])
            if key not in known:
                known.add(key)
                yield name, workload, comparison


def side(workload: dict[str, Any], subject: str | None) -> str:
    if subject is None:
        return ""
    value = workload["figures"][subject]["median"]
    for limit, factor, unit in SCALES[workload["unit"]]:
        if value < limit:
            return f"{subject}: {value * factor:,.0f} {unit}"
    return f"{subject}: {value:,.2f} s"


def ratio(run: Run, name: str, comparison: dict[str, Any]) -> str:
    for other, _, found in rows(run):
        if other == name and (found["subject"], found["peer"]) == (comparison["subject"], comparison["peer"]):
            mark = "**missed**" if found["reached"] is False else ""
            return f"{found['ratio']:.2f} {mark}".strip() if found["ratio"] is not None else mark or "reached"
    return ""


def target(workload: dict[str, Any], comparison: dict[str, Any]) -> str:
    if comparison["reached"] is None:
        return ""
    _, scale, unit = SCALES[workload["unit"]][-1]
    factor = f"{comparison['factor']:g}" if comparison["factor"] else ""
    extra = f"{comparison['extra'] * scale:g} {unit}" if comparison["extra"] else ""
    return "≤ " + " + ".join(filter(None, (factor, extra)))


def summary(runs: Sequence[Run]) -> list[str]:
    verdicts = [comparison["reached"] for _, _, comparison in all_rows(runs) if comparison["reached"] is not None]
    told = "Figures are medians of one interleaved run, per operation; ratios are ours / theirs."
    page = "Every row, also those that flatter us: [docs/benchmarks.md](docs/benchmarks.md)."
    return [f"{sum(verdicts)} of {len(verdicts)} targets reached.", told, page]


if __name__ == "__main__":
    main()
