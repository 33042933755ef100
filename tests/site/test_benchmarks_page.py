"""What docs/benchmarks.md shows."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
SCALE = {"ns": 1.0, "µs": 1e3, "ms": 1e6, "s": 1e9, "B": 1.0}
FIGURE = re.compile(r": (?P<value>[\d.,]+) (?P<unit>ns|µs|ms|s|B)$")


def figure(cell: str) -> tuple[float, float]:
    """The least and the largest that the rounded figure in this cell may stand for, in ns or bytes."""
    found = FIGURE.search(cell)
    assert found, cell
    value = float(found["value"].replace(",", ""))
    half = 0.005 if "." in found["value"] else 0.5
    return (value - half) * SCALE[found["unit"]], (value + half) * SCALE[found["unit"]]


def test_the_figures_of_a_row_fit_its_ratio() -> None:
    """In the main run's column each ratio is that of the two figures beside it, but for rounding."""
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line[:1] == "|"
    ]
    compared = [row for row in table if FIGURE.search(row[1]) and FIGURE.search(row[2]) and row[3][:1].isdigit()]
    assert compared
    for _, ours, theirs, ratio, *_ in compared:
        shown = float(ratio.split()[0])
        (least, most), (their_least, their_most) = figure(ours), figure(theirs)
        highest = most / their_least if their_least > 0 else float("inf")
        assert least / their_most - 0.005 <= shown <= highest + 0.005, (ours, theirs, ratio)


def test_every_plot_of_the_page_is_there() -> None:
    """Each picture that the page shows lies beside it, and none lies there unshown but the README's."""
    shown = {(PAGE.parent / name).name for name in re.findall(r"\]\((plots/[\w.]+)\)", PAGE.read_text())}
    assert shown | {"overview.svg"} == {file.name for file in (PAGE.parent / "plots").glob("*")}
