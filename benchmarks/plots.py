"""Pictures of published figures, as SVG: the same figures draw the same file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FASTER, SLOWER, GREY = "#2a78b5", "#b5532a", "#8a8a8a"  # told apart without red and green; the axis tells them as well


def is_ours(row: dict[str, Any]) -> bool:
    """Is this about ours, and not a peer beside itself or a base line?"""
    return "asynclocks" in row["subject"]


def draw(rows: Sequence[dict[str, Any]], file: Path, *, targets: bool = True) -> None:
    """Draw each ratio as a bar from 1, left where ours is faster; a tick is the target."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "asynclocks", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 8}
    from matplotlib import pyplot as plt

    places, ticks, captions = [], [], []
    height = 0.0
    last = ""
    for row in rows:
        if row["workload"] != last:
            last = row["workload"]
            height -= 0.6
            captions.append((height, last))
            height -= 1.0
        places.append(height)
        ticks.append(row["peer"] if is_ours(row) else f"{row['subject']} / {row['peer']}")
        height -= 1.0
    figure, axes = plt.subplots(figsize=(7.5, 0.7 - 0.17 * height), layout="constrained")
    ratios = [row["ratio"] for row in rows]
    low = min(0.5, *(value / 1.2 for value in ratios))
    high = max(2.0, *(value * 1.5 for value in ratios))
    colours = [GREY if not is_ours(row) else FASTER if row["ratio"] <= 1 else SLOWER for row in rows]
    axes.barh(places, [value - 1 for value in ratios], left=1, height=0.75, color=colours)
    for place, row in zip(places, rows, strict=True):
        value = row["ratio"]
        beside = (3 if value > 1 else -3, 0)
        axes.annotate(
            f"{value:.2f}",
            (value, place),
            beside,
            textcoords="offset points",
            ha="left" if value > 1 else "right",
            va="center",
            fontsize=7,
        )
        if targets and row["factor"] and not row["extra"]:
            axes.plot([row["factor"]] * 2, [place - 0.5, place + 0.5], color=GREY, linewidth=1.5)
    for place, caption in captions:
        axes.text(0.0, place, caption, transform=axes.get_yaxis_transform(), va="center", fontweight="bold")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xlim(low / 1.3, high)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} x")
    axes.set_yticks(places, ticks)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(height, 0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    axes.set_xlabel("our time / theirs; left of 1 ours is faster" + ("; a grey tick is the target" if targets else ""))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
