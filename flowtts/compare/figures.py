"""Numbers of a comparison as people read them, the same on the page and in the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flowtts.compare.result import Difference, MetricInfo, Result, Score, System

TOPLINES = ("recordings", "copy")
"""Kinds of systems that show what could be reached at best: ranked, but not what is compared."""

MINUS = "−"
NOTHING = "–"


@dataclass(frozen=True)
class Scale:
    """How the values of one column are written, all alike, so that they align.

    Attributes:
        factor: what values are multiplied by.
        decimals: digits after the point.
    """

    factor: float = 1.0
    decimals: int = 3

    def text(self, value: float | None) -> str:
        """A value, or a dash where there is none."""
        if value is None:
            return NOTHING
        # Adding 0.0 makes a rounded -0.0 positive.
        return f"{round(self.factor * value, self.decimals) + 0.0:.{self.decimals}f}".replace("-", MINUS)

    def between(self, low: float | None, high: float | None) -> str:
        """An interval, or nothing."""
        return "" if low is None or high is None else f"[{self.text(low)}, {self.text(high)}]"


def scale_of(values: Iterable[float | None], factor: float = 1.0) -> Scale:
    """Three or four significant digits of the largest; none after the point if all are whole."""
    known = [abs(factor * value) for value in values if value is not None]
    largest = max(known, default=0.0)
    if known and all(value == int(value) for value in known):
        return Scale(factor, 0)
    return Scale(factor, next((digits for digits, below in ((3, 2), (2, 20), (1, 200)) if largest < below), 0))


def metric_scale(metric: MetricInfo, scores: Iterable[Score]) -> Scale:
    """Rates in per cent with one decimal, the others as large as they are."""
    if metric["rate"]:
        return Scale(100.0, 1)
    return Scale(1.0, max(1, scale_of(value for s in scores for value in (s["value"], s["low"], s["high"])).decimals))


@dataclass(frozen=True)
class Figures:
    """A result with what is looked up in it all the time.

    Attributes:
        result: the result.
        systems, metrics: by name.
        scales: of each metric.
    """

    result: Result
    systems: Mapping[str, System]
    metrics: Mapping[str, MetricInfo]
    scales: Mapping[str, Scale]

    @staticmethod
    def of(result: Result) -> Figures:
        """Look everything up."""
        metrics = {metric["name"]: metric for metric in result["metrics"]}
        scores = {name: [s[name] for s in result["scores"].values() if name in s] for name in metrics}
        return Figures(
            result=result,
            systems={system["name"]: system for system in result["systems"]},
            metrics=metrics,
            scales={name: metric_scale(metric, scores[name]) for name, metric in metrics.items()},
        )

    def score(self, system: str, metric: str) -> Score | None:
        """A metric of a system, or None where it was not judged at all."""
        return self.result["scores"].get(system, {}).get(metric)

    def label(self, system: str) -> str:
        """A system's name for people."""
        return self.systems[system]["label"] if system in self.systems else system

    def best(self, metric: str) -> frozenset[str]:
        """The systems with the best rank, which share it; toplines only where there is nothing else."""
        ranks = {
            name: score["rank"]
            for name in self.systems
            if (score := self.score(name, metric)) is not None and score["rank"] is not None
        }
        compared = {name: rank for name, rank in ranks.items() if self.systems[name]["kind"] not in TOPLINES} or ranks
        return frozenset(name for name, rank in compared.items() if rank == min(compared.values()))

    def verdict(self, difference: Difference) -> str:
        """What a difference means, in words."""
        value = difference["value"]
        if value is None or difference["p"] is None:
            return "cannot be said"
        if not difference["real"]:
            return "no difference shown"
        higher = self.metrics[difference["metric"]]["higher_is_better"]
        if higher is None:
            return f"{self.label(difference['a' if value > 0 else 'b'])} has more"
        return f"{self.label(difference['a' if (value > 0) == higher else 'b'])} is better"


def asked(score: Score) -> int:
    """Items that should have been judged."""
    return score["count"] + len(score["dropped"])


def probability(p: float | None) -> str:
    """A p value, or a dash."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
