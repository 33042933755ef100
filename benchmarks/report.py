"""What came out: as a table, as JSON, as a picture."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import asynclocks
from benchmarks.harness import Comparison, Figure, Outcome

SCALES = {"ns": 1e9, "ms": 1e3, "B": 1.0}
PEERS = ("asynclocks", "anyio", "trio", "aiologic", "uvloop", "attrs", "sniffio")
HEADER = ("workload", "subject", "figure", "against", "figure", "ratio", "target", "")
VERDICTS = {True: "reached", False: "MISSED", None: ""}


def machine(loop: str, clock: str) -> dict[str, Any]:
    """What a reader must know to compare."""
    import pyperf

    about = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": about.get("cpu_model_name", platform.processor()),
        "cpus": about["cpu_count"],
        "load": about.get("load_avg_1min"),
        "platform": about["platform"],
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiled": asynclocks.compiled,
        "loop": loop,
        "clock": clock,
        "versions": {name: found for name in PEERS if (found := _version(name))},
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:  # run from a checkout, or a peer that this Python does not have
        return None


def headline(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items())
    ran = f"{about['python']} ({about['loop']}, {about['clock']} time)"
    return f"{about['date']}, {ran}, {about['cpus']} x {about['cpu']}; {versions}"


def table(outcomes: Iterable[Outcome]) -> str:
    """In Markdown, and readable as it stands."""
    rows = [HEADER, *[row for outcome in outcomes for row in _rows(outcome)]]
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(HEADER))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _rows(outcome: Outcome) -> Iterable[tuple[str, ...]]:
    name = outcome.workload.name
    for comparison in outcome.workload.comparisons:
        yield (name, *_row(outcome, comparison))
        name = ""  # once is enough


def _row(outcome: Outcome, comparison: Comparison) -> tuple[str, ...]:
    unit = outcome.workload.unit
    against, theirs, ratio = "", "", ""
    if comparison.peer is not None:
        against, theirs = comparison.peer, _figure(outcome.figures[comparison.peer], unit)
        low, high = outcome.ratio_quartiles(comparison)
        ratio = f"{outcome.ratio(comparison):.2f} ({low:.2f} to {high:.2f})"
    ours = _figure(outcome.figures[comparison.subject], unit)
    verdict = VERDICTS[outcome.reached(comparison)] + ("" if outcome.steady(comparison) else " (unsteady)")
    return comparison.subject, ours, against, theirs, ratio, _target(comparison, unit), verdict.strip()


def _figure(figure: Figure, unit: str) -> str:
    low, high = figure.quartiles
    spread = (high - low) / 2 / figure.median if figure.median else 0.0
    value = figure.median * SCALES[unit]
    digits = 0 if unit == "ns" and value >= 100 else 1
    return f"{value:,.{digits}f} {unit} ±{spread:.0%}"


def _target(comparison: Comparison, unit: str) -> str:
    if not comparison.has_target:
        return ""
    factor = "" if comparison.factor is None else f"{comparison.factor:g} x"
    extra = f"{comparison.extra * SCALES[unit]:g} {unit}" if comparison.extra else ""
    return "≤ " + " + ".join(part for part in (factor, extra) if part)


def as_json(about: dict[str, Any], outcomes: Iterable[Outcome], *, indent: int | None = 1) -> str:
    return json.dumps({**about, "workloads": [_outcome_as_json(outcome) for outcome in outcomes]}, indent=indent)


def _outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    workload = outcome.workload
    return {
        "name": workload.name,
        "loop": workload.loop,
        "unit": "bytes" if workload.unit == "B" else "seconds",
        "figures": {
            name: {
                "median": figure.median,
                "quartiles": figure.quartiles,
                "least": min(figure.samples),
                "rounds": figure.rounds,
                "samples": figure.samples,
            }
            for name, figure in outcome.figures.items()
        },
        "comparisons": [
            {
                "subject": comparison.subject,
                "peer": comparison.peer,
                "ratio": outcome.ratio(comparison) if comparison.peer else None,
                "ratio_quartiles": outcome.ratio_quartiles(comparison) if comparison.peer else None,
                "factor": comparison.factor,
                "extra": comparison.extra if comparison.has_target else None,
                "steady": outcome.steady(comparison),
                "reached": outcome.reached(comparison),
            }
            for comparison in workload.comparisons
        ],
    }


def draw(about: dict[str, Any], outcomes: Sequence[Outcome], file: Path) -> None:
    """Each ratio as a point with its spread, each target as a bar's end: left of it is good."""
    import matplotlib as mpl

    mpl.use("svg" if file.suffix == ".svg" else "agg")
    mpl.rcParams["svg.hashsalt"] = "asynclocks"  # the same figures draw the same file
    from matplotlib import pyplot as plt

    pairs = [(outcome, one) for outcome in outcomes for one in outcome.workload.comparisons if one.peer]
    figure, axes = plt.subplots(figsize=(11, 1.5 + 0.21 * len(pairs)), layout="constrained")
    for height, (outcome, comparison) in enumerate(pairs):
        _draw_pair(axes, -height, outcome, comparison)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} x")
    axes.set_yticks([-height for height in range(len(pairs))], [_caption(*pair) for pair in pairs], fontsize=7)
    axes.set_ylim(-len(pairs), 1)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("subject / against; the bar reaches to the target")
    figure.suptitle(headline(about), fontsize=7)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    plt.close(figure)


def _draw_pair(axes: Any, height: float, outcome: Outcome, comparison: Comparison) -> None:
    assert comparison.peer is not None
    reached = outcome.reached(comparison)
    colour = {True: "tab:green", False: "tab:red", None: "tab:gray"}[reached]
    if reached is not None:
        theirs = outcome.figures[comparison.peer].median
        axes.barh(height, comparison.limit(theirs) / theirs, height=0.8, color=colour, alpha=0.2)
    low, high = outcome.ratio_quartiles(comparison)
    axes.plot([low, high], [height, height], color=colour, linewidth=2)
    axes.plot([outcome.ratio(comparison)], [height], "o", color=colour, markersize=4)


def _caption(outcome: Outcome, comparison: Comparison) -> str:
    return f"{outcome.workload.name}: {comparison.subject} / {comparison.peer}"
