"""Locks on Cloudflare Workers, in real workerd: ``python -m benchmarks.workerd``."""

from __future__ import annotations

from statistics import mean, median, quantiles
from urllib.parse import quote

from benchmarks.pyodide import LOCKS
from tests.pyodide.bed import REPO
from tests.workerd.bed import Bed, serve

FIRSTS = 500
RELAYS = 500


def main() -> None:
    with serve("benchmarks.worker", files={"benchmarks": REPO / "benchmarks"}) as bed:
        print(bed.request("/ratios", timeout=300).json())
        print_firsts(bed)
        print_relay(bed)


def print_firsts(bed: Bed) -> None:
    """The lock's cost in a request that does nothing else, by the mean: the clock is too coarse for single ones."""
    costs: dict[str, list[float]] = {name: [] for name in LOCKS}
    for _ in range(FIRSTS):
        for name, cost in costs.items():
            cost.append(bed.request(f"/first?lock={quote(name)}").json())
    for name, cost in costs.items():
        print(f"a request's first {name}, with one step in the block: {mean(cost) * 1e6:.0f} µs")


def print_relay(bed: Bed) -> None:
    calls = [bed.start(f"/relay?rounds={RELAYS}") for _ in range(2)]
    took = [seconds for call in calls for seconds in call.answer(60).json()]
    figures = {"median": median(took), "99 % within": quantiles(took, n=100)[98], "mean": mean(took)}
    print(f"from one request to another, {len(took)} times:", end=" ")
    print(", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in figures.items()))


if __name__ == "__main__":
    main()
