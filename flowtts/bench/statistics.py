"""Medians, intervals, differences from the reference, and which setting is enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowtts.recognise import spoken_words

RESAMPLES = 1000
POINT = 0.01
"""A point of WER."""


def interval(values: Sequence[float], weights: Sequence[float] | None = None) -> dict[str, float]:
    """The weighted mean of values and its 95 % percentile bootstrap interval; items are resampled whole.

    Args:
        values: one per utterance, at least one.
        weights: positive; words of each utterance, so that rates add up to the rate of the set.
    """
    under = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    over = np.asarray(values, dtype=np.float64) * under
    chosen = np.random.default_rng(0).integers(0, len(over), (RESAMPLES, len(over)))
    drawn = over[chosen].sum(1) / under[chosen].sum(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": float(over.sum() / under.sum()), "low": float(low), "high": float(high)}


def difference(
    metric: str, mine: Mapping[str, Any], theirs: Mapping[str, Any], texts: Mapping[str, str]
) -> dict[str, float | None] | None:
    """How far a score lies above the reference's, with a paired interval over the utterances both have.

    Args:
        metric: its name; rates weigh utterances by their words or characters.
        mine: a score as ``scoring.score`` gives it.
        theirs: the reference's.
        texts: what each utterance says, by id.

    Returns:
        value, low, high; low and high are None if the metric is no mean over utterances; None if one has no value.
    """
    if not (_is_number(mine["value"]) and _is_number(theirs["value"])):
        return None
    value = mine["value"] - theirs["value"]
    # A value that no judge could give is NaN, and null once it has been a file's.
    ids = [id for id, item in mine["items"].items() if _is_number(item) and _is_number(theirs["items"].get(id))]
    weights = [_weight(metric, texts[id]) for id in ids]
    if ids:
        paired = interval([mine["items"][id] - theirs["items"][id] for id in ids], weights)
        if math.isclose(paired["value"], value, rel_tol=1e-6, abs_tol=1e-9):
            return {"value": value, "low": paired["low"], "high": paired["high"]}
    return {"value": value, "low": None, "high": None}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _weight(metric: str, text: str) -> float:
    words = spoken_words(text)
    if metric.startswith("wer"):
        return float(len(words))
    return float(len(" ".join(words))) if metric.startswith("cer") else 1.0


def judging_rate(metrics: Sequence[str]) -> str | None:
    """The word error rate that decides what is enough: the first that was asked for."""
    return next((name for name in metrics if name.startswith("wer")), None)


def fewest(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """By model, the row of fewest network calls whose ``metric`` is at most a point above its reference's, or None.

    Of rows that cost the same the one with the lower rate is taken. References themselves do not compete.
    """
    found: dict[str, Any] = {}
    for row in rows:
        best = found.setdefault(row["model"], None)
        gap = row.get("differences", {}).get(metric)
        if row["reference"] or gap is None or gap["value"] > POINT + 1e-9:
            continue
        if best is None or _rank(row, metric) < _rank(best, metric):
            found[row["model"]] = row
    return found


def _rank(row: Mapping[str, Any], metric: str) -> tuple[float, float]:
    return row["network_calls"], row["metrics"][metric]["value"]
