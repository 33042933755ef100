"""Measure subjects in turn, so that whatever disturbs the machine disturbs all of them alike.

Nothing here runs a loop: `plan` asks for one measurement after the other, and whoever drives it makes them
(`natively`, or Pyodide's one loop). Only the standard library and attrs, so that it runs in Pyodide.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from math import ceil
from statistics import median, quantiles
from time import perf_counter
from types import CodeType, FunctionType
from typing import Any

import attrs

SLACK = 0.03  # what two ways to average may differ by
MOST_ROUNDS = 1_000_000  # however fast something claims to be


@attrs.frozen
class Case:
    """One subject doing one workload: `work(rounds)` tells, or returns a coroutine that tells, what it measured."""

    work: Callable[..., Any]
    operations: int = 1  # in a round
    rounds: int | None = None  # fixed, where calibrating is pointless or too slow


@attrs.frozen
class Comparison:
    """`subject` against `peer`: at most `factor` times the peer's figure, plus `extra`. No peer: at most `extra`."""

    subject: str
    peer: str | None
    factor: float | None = None  # None: no target, shown all the same
    extra: float = 0.0

    @property
    def has_target(self) -> bool:
        return self.factor is not None or self.peer is None

    def limit(self, peer: float) -> float:
        return (self.factor or 0.0) * peer + self.extra


@attrs.frozen
class Workload:
    """One line of thought in the table: what is done, by whom, and what is to be reached."""

    name: str
    cases: Mapping[str, Case]
    comparisons: Sequence[Comparison]
    loop: str = "asyncio"  # who runs it: a key of `benchmarks.runners.RUNNERS`
    unit: str = "ns"
    quick: bool = True  # part of a quick run


@attrs.frozen
class Effort:
    """How long to look."""

    repeats: int  # of each case, at most
    least: int  # repeats that are made however long they take
    sample: float  # seconds that one sample should last
    seconds: float  # for the repeats of one workload, in equal shares; who has used his up drops out of the round


FULL = Effort(repeats=31, least=3, sample=0.02, seconds=5.0)
QUICK = Effort(repeats=9, least=1, sample=0.005, seconds=0.8)


@attrs.frozen
class Figure:
    """The samples of one case, per operation, in seconds (or bytes)."""

    samples: Sequence[float]
    rounds: int

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        return _quartiles(self.samples)


@attrs.frozen
class Outcome:
    """A workload and what came out."""

    workload: Workload
    figures: Mapping[str, Figure]

    def ratio(self, comparison: Comparison) -> float:
        """Of the medians."""
        ours, theirs = zip(*self._pairs(comparison), strict=True)
        return median(ours) / median(theirs)

    def ratio_quartiles(self, comparison: Comparison) -> tuple[float, float]:
        """Of the ratios within each round, where both were measured side by side."""
        return _quartiles([ours / theirs for ours, theirs in self._pairs(comparison)])

    def steady(self, comparison: Comparison) -> bool:
        """Do the ratio of the medians and the ratios within the rounds agree? On a busy machine they may not."""
        if comparison.peer is None:
            return True
        low, high = self.ratio_quartiles(comparison)
        return low * (1 - SLACK) <= self.ratio(comparison) <= high * (1 + SLACK)

    def reached(self, comparison: Comparison) -> bool | None:
        """Was the target reached? None: there is none."""
        if not comparison.has_target:
            return None
        if comparison.peer is None:
            return self.figures[comparison.subject].median <= comparison.limit(0.0)
        ours, theirs = zip(*self._pairs(comparison), strict=True)
        return median(ours) <= comparison.limit(median(theirs))

    def _pairs(self, comparison: Comparison) -> list[tuple[float, float]]:
        """What both measured in the rounds that both took part in: the first ones, until one dropped out."""
        assert comparison.peer is not None
        ours, theirs = self.figures[comparison.subject], self.figures[comparison.peer]
        return list(zip(ours.samples, theirs.samples, strict=False))


def _quartiles(samples: Sequence[float]) -> tuple[float, float]:
    if len(samples) == 1:
        return samples[0], samples[0]
    first, _, third = quantiles(samples, n=4, method="inclusive")
    return first, third


def over(
    work: Callable[..., Any],
    makes: Mapping[str, Callable[[], Any]],
    *args: Any,
    operations: int = 1,
    rounds: int | None = None,
) -> dict[str, Case]:
    """The same workload for each subject."""
    return {name: Case(partial(own_copy(work), make, *args), operations, rounds) for name, make in makes.items()}


def first_against_rest(cases: Mapping[str, Case], **targets: float) -> list[Comparison]:
    """Ours, which is the first, against every peer; `targets` by the peer's name, brackets and dots as underscores."""
    ours, *peers = cases
    wanted = {_identifier(peer): peer for peer in peers}
    unknown = targets.keys() - wanted.keys()
    assert not unknown, f"targets for nobody: {unknown}; there are {sorted(wanted)}"
    return [Comparison(ours, peer, targets.get(identifier)) for identifier, peer in wanted.items()]


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")


def own_copy(work: Callable[..., Any]) -> Callable[..., Any]:
    """`work` with byte code of its own.

    The interpreter specialises byte code for the types that it meets. One function shared by all subjects would
    be specialised for none, or for whoever came first.
    """
    assert isinstance(work, FunctionType)
    return FunctionType(_copied(work.__code__), work.__globals__, work.__name__, work.__defaults__, work.__closure__)


def _copied(code: CodeType) -> CodeType:
    inner = tuple(_copied(part) if isinstance(part, CodeType) else part for part in code.co_consts)
    return code.replace(co_consts=inner)


Plan = Generator[tuple[Case, int], float, Outcome]


def plan(workload: Workload, effort: Effort) -> Plan:
    """Ask for each measurement (a case, and how many rounds), be sent what it gave, return the outcome."""
    rounds: dict[str, int] = {}
    for name, case in workload.cases.items():
        rounds[name] = case.rounds or (yield from _calibrated(case, effort.sample))
    samples: dict[str, list[float]] = {name: [] for name in workload.cases}
    left = dict.fromkeys(workload.cases, effort.seconds / len(workload.cases))
    names = list(workload.cases)
    for repeat in range(effort.repeats):
        names = [name for name in names if repeat < effort.least or left[name] > 0]
        for name in names:
            case = workload.cases[name]
            start = perf_counter()
            measured = yield case, rounds[name]
            samples[name].append(measured / (rounds[name] * case.operations))
            left[name] -= perf_counter() - start
        names = names[1:] + names[:1]  # nobody is always the first
    return Outcome(workload, {name: Figure(samples[name], rounds[name]) for name in workload.cases})


def _calibrated(case: Case, sample: float) -> Generator[tuple[Case, int], float, int]:
    """So many rounds that one sample lasts long enough for the clock and for a time slice lost now and then."""
    rounds = 1
    while (spent := (yield case, rounds)) < sample and rounds < MOST_ROUNDS:
        rounds = ceil(rounds * min(10.0, 1.1 * sample / max(spent, 1e-9)))
    return rounds


def natively(requests: Plan, measure: Callable[[Case, int], float]) -> Outcome:
    """Drive a plan with plain calls."""
    answer: Any = None
    while True:
        try:
            request = requests.send(answer)
        except StopIteration as end:
            return end.value
        answer = measure(*request)
