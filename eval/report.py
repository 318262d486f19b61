"""All metrics over a set: the numbers, as JSON and as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flowtts.types import Item, Metric, PathLike, Score, UserError

from .judging import JUDGED_RATE, Context, item_names
from .manifest import read_manifest
from .metrics import Asked, Wanted, load_all
from .table import METRICS

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Report:
    """What the metrics said.

    Attributes:
        items: rows given.
        scores: by metric, in the order asked for.
        higher_is_better: by metric.
        low_rate: sampling rate in Hz of the items below 16 kHz, by id: these were judged after upsampling.
    """

    items: int
    scores: Mapping[str, Score]
    higher_is_better: Mapping[str, bool]
    low_rate: Mapping[str, int]

    @property
    def dropped(self) -> list[str]:
        """Items that at least one metric could not judge."""
        return list(dict.fromkeys(name for score in self.scores.values() for name in score.dropped))

    def as_json(self, per_item: bool = True) -> dict[str, Any]:
        """A JSON object: items, dropped, low_rate, metrics {name: …}; null where nothing was judged.

        Args:
            per_item: whether to add the value of every item, and where there are such, weights and what was heard.
        """
        return {
            "items": self.items,
            "dropped": len(self.dropped),
            "low_rate": dict(self.low_rate),
            "metrics": {name: self._score(name, per_item) for name in self.scores},
        }

    def _score(self, name: str, per_item: bool) -> dict[str, Any]:
        score = self.scores[name]
        found: dict[str, Any] = {
            "value": _number(score.value),
            "low": _number(score.low),
            "high": _number(score.high),
            "backend": score.backend,
            "sample_rate": score.sample_rate,
            "count": score.count,
            "dropped": dict(score.dropped),
            "higher_is_better": self.higher_is_better[name],
        }
        if per_item:
            found["items"] = {item: _number(value) for item, value in score.items.items()}
            found |= {key: dict(held) for key, held in (("weights", score.weights), ("heard", score.heard)) if held}
        return found

    def table(self) -> Table:
        """For people: one metric per line, and what was dropped or flagged below."""
        from rich.table import Table

        table = Table("metric", "value", "95 % interval", "items", "dropped", "judge", caption=self._notes() or None)
        for name, score in self.scores.items():
            better = "↑" if self.higher_is_better[name] else "↓"
            between = f"{_shown(name, score.low)} – {_shown(name, score.high)}"
            counts = str(score.count), str(len(score.dropped))
            table.add_row(f"{name} {better}", _shown(name, score.value), between, *counts, score.backend)
        return table

    def _notes(self) -> str:
        notes = []
        for name, score in self.scores.items():
            for reason in dict.fromkeys(score.dropped.values()):
                count = list(score.dropped.values()).count(reason)
                notes.append(f"{name} dropped {count}: {reason}")
        if self.low_rate:
            lowest = min(self.low_rate.values())
            notes.append(f"{len(self.low_rate)} below {JUDGED_RATE} Hz (from {lowest} Hz) were judged after upsampling")
        return "\n".join(notes)


def evaluate(
    source: PathLike | Sequence[Item], metrics: Sequence[Asked | Metric], context: Context | None = None
) -> Report:
    """Judge a set by several metrics, one after the other so that only one judge is in memory.

    Args:
        source: a manifest (see ``read_manifest``) or the items.
        metrics: whatever ``metrics.load_all`` takes, or metrics.
        context: what named metrics need beyond the items; a manifest's timings are added.

    Raises:
        UserError: the manifest is wrong, there is nothing to judge, or a metric cannot be had.
    """
    context = context or Context()
    if isinstance(source, Sequence) and not isinstance(source, str):
        items: Sequence[Item] = source
    else:
        manifest = read_manifest(source)
        items = manifest.items
        context = replace(context, took={**manifest.took, **context.took})
    if not items or not metrics:
        raise UserError("nothing to evaluate; give at least one recording and one metric")
    named = iter(load_all([metric for metric in metrics if isinstance(metric, (str, Mapping, Wanted))], context))
    judges = [next(named) if isinstance(metric, (str, Mapping, Wanted)) else metric for metric in metrics]
    rates = {name: item.audio.sample_rate for name, item in zip(item_names(items), items, strict=True)}
    return Report(
        items=len(items),
        scores={judge.name: judge(items) for judge in judges},
        higher_is_better={judge.name: judge.higher_is_better for judge in judges},
        low_rate={name: rate for name, rate in rates.items() if rate < JUDGED_RATE},
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shown(name: str, value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f} %" if name in METRICS and METRICS[name].rate else f"{value:.3f}"
