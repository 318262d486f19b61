"""Figures with intervals, and Markdown tables of them, for the benchmarks."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowtts.eval.bootstrap import ratio_interval
from flowtts.types import Score

RESAMPLES = 1000


def mean_by(values: Sequence[float], owners: Sequence[str]) -> dict[str, Any]:
    """The mean with its bootstrap 95 % interval; whole owners (speakers) are drawn, as their values hang together."""
    sums: dict[str, list[float]] = {}
    for value, owner in zip(values, owners, strict=True):
        sums.setdefault(owner, []).append(float(value))
    over, under = [sum(v) for v in sums.values()], [float(len(v)) for v in sums.values()]
    found = ratio_interval(over, under, resamples=RESAMPLES)
    return {"value": _rounded(found.value), "low": _rounded(found.low), "high": _rounded(found.high),
            "count": len(values), "owners": len(sums)}  # fmt: skip


def accuracy_by(
    right: Sequence[bool], positive: Sequence[bool], owners: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Balanced accuracy, the mean of the two classes' recalls; owners are drawn within each class."""
    rng = np.random.default_rng(seed)
    values, drawn = [], []
    for kind in (True, False):
        sums: dict[str, list[bool]] = {}
        for r, p, owner in zip(right, positive, owners, strict=True):
            if p == kind:
                sums.setdefault(owner, []).append(bool(r))
        if not sums:
            raise ValueError("balanced accuracy needs both classes")
        over, under = (np.array([f(v) for v in sums.values()], dtype=float) for f in (sum, len))
        chosen = rng.integers(0, len(over), (RESAMPLES, len(over)))
        values.append(over.sum() / under.sum())
        drawn.append(over[chosen].sum(1) / under[chosen].sum(1))
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
    return {"value": _rounded(float(np.mean(values))), "low": _rounded(float(low)), "high": _rounded(float(high)),
            "count": len(right), "owners": len(set(owners))}  # fmt: skip


def figure(score: Score) -> dict[str, Any]:
    """A metric's score as it stands in scores.json."""
    return {"value": _rounded(score.value), "low": _rounded(score.low), "high": _rounded(score.high),
            "count": score.count, "dropped": dict(score.dropped), "backend": score.backend,
            "sample_rate": score.sample_rate}  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; figures are written with their intervals."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(cell, row)) + " |" for row in rows)]) + "\n"


def cell(value: object) -> str:
    """A figure as text: value [low, high]."""
    if isinstance(value, Mapping) and "value" in value:
        if value["value"] is None:
            return "–"
        if value.get("low") is None:
            return f"{value['value']:.3f}"
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    if isinstance(value, float):
        return f"{value:.3f}"
    return "–" if value is None else str(value).replace("|", "\\|")


def save(folder: Path, name: str, scores: Mapping[str, Any], markdown: str) -> None:
    """Write NAME.json and NAME.md beside their names and rename them into place."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in (
        (folder / f"{name}.json", json.dumps(scores, indent=1) + "\n"),
        (folder / f"{name}.md", markdown),
    ):
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
