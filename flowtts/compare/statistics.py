"""Intervals, paired differences, corrections and ranks: which differences between systems are real.

A score is Σ wv / Σ w over items (recordings) with values v and weights w: a mean where all weights are 1, the rate of
the whole set where they are reference words. Chance is thought to have drawn whole prompts, with all their seeds, or
whole speakers; never single recordings, which would count a prompt once for each of its seeds.

Results depend on nothing but the values: every draw starts from the same seed, and items are sorted by name. Numbers
that cannot be had are None.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowtts.compare.result import Difference, Figure, MetricInfo, Score

RESAMPLES = 5000
LIMITS = (0.025, 0.975)
EXACT = 14
"""Prompts up to which all 2ⁿ exchanges are tried."""

FLIPS = 10_000
"""Random exchanges tried above that."""

REAL = 0.05
"""Differences are real whose corrected p is below this."""

_SEED = 0
_DRAWS = 1_000_000
"""Draws held in memory at once."""

_SLACK = 1e-10
"""Relative size of what rounding may do to a sum: differences that are closer are equal."""

Sums = NDArray[np.float64]
"""(n, 2 K): numerators Σ wv and denominators Σ w, in turn, of n prompts or speakers by K systems."""


@dataclass(frozen=True)
class Values:
    """What a metric says of a system.

    Attributes:
        values: by item.
        weights: what each counts for, by item, e.g. its reference words; empty if all count alike.
        prompts: what each says, by item; several seeds of a prompt are several items of one prompt.
        speakers: whose voice each has, by item.
        dropped: items without a value, with the reason.
        whole: {"value", "low", "high", "count"} of all items together, if they were judged together.
    """

    values: Mapping[str, float]
    weights: Mapping[str, float]
    prompts: Mapping[str, str]
    speakers: Mapping[str, str]
    dropped: Mapping[str, str] = field(default_factory=dict)
    whole: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Paired:
    """One system minus another on the prompts that both have.

    Attributes:
        value: the difference, None without a common prompt.
        low, high: its 95 % interval, None with fewer than two.
        p: two-sided, of the permutation test; not corrected.
        pairs: common prompts.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    pairs: int


def cluster_interval(values: Mapping[str, float], weights: Mapping[str, float], clusters: Mapping[str, str]) -> Figure:
    """The weighted mean and its 95 % percentile bootstrap interval, whole clusters drawn with replacement.

    Efron 1979; for error rates Bisani and Ney 2004. The interval is None with fewer than two clusters: one, drawn
    again, is always itself. With few it is too narrow, for it cannot leave the range of the clusters' own means: where
    those lie about the truth symmetrically, k of them cover it with a probability of at most 1 − 2^(1−k), 50 % for two
    speakers, 75 % for three, 94 % for five. Below ten or so it shows how much speakers differ and no more.

    Args:
        values: by item.
        weights: by item, positive; empty if all count alike.
        clusters: what each item belongs to.

    Raises:
        ValueError: a value is not finite, or a weight not positive.
    """
    sums = _sums(values, weights, clusters)
    if not len(sums):
        return Figure(value=None, low=None, high=None)
    low, high = _interval(sums)
    return Figure(value=_total(sums), low=low, high=high)


def paired_difference(a: Values, b: Values) -> Paired:
    """One system minus another: of each, the weighted mean over what both have, so that gaps favour nobody.

    Of a prompt that both have count the items that both have, seed by seed; if they share none (they were made with
    other seeds), the mean of each one's numerators and denominators. The interval draws prompts.

    The test exchanges the two systems' results in some of the prompts, which is as likely as what was found if the
    systems are alike (Fisher 1935; Noreen 1989); p is the share of exchanges after which they differ as much or more.
    For plain means that is to flip the signs of the prompts' differences. Up to ``EXACT`` prompts all 2ⁿ exchanges are
    tried; above, ``FLIPS`` random ones, b of which make p = (b + 1) / (m + 1), never 0 (Phipson and Smyth 2010). Exact
    ones are never below 2 / 2ⁿ: five prompts can show nothing.

    Args:
        a: the one.
        b: the other.

    Raises:
        ValueError: a value is not finite, or a weight not positive.
    """
    sums = _common(a, b)
    if not len(sums):
        return Paired(None, None, None, None, 0)
    low, high = _interval(sums)
    return Paired(_total(sums), low, high, _exchange(sums), len(sums))


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p of an exact binomial test that wins are as likely as losses; ties are to be left out.

    Args:
        wins: how often the one was preferred.
        losses: how often the other.

    Raises:
        ValueError: a count is negative.
    """
    if min(wins, losses) < 0:
        raise ValueError(f"there cannot be {min(wins, losses)} preferences")
    count, ways, tail = wins + losses, 1, 0
    for lost in range(min(wins, losses) + 1):
        tail += ways
        ways = ways * (count - lost) // (lost + 1)
    # Whole numbers up to here: exact for any number of votes.
    return min(1.0, 2 * tail / (1 << count))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of p values (1979), which holds however the tests depend on one another.

    Args:
        ps: one per test; None where there was none, which does not count.
    """
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    found: list[float | None] = [None] * len(ps)
    least = 0.0
    for step, (p, place) in enumerate(known):
        least = max(least, min(1.0, (len(known) - step) * p))
        found[place] = least
    return found


def ranks(
    values: Mapping[str, float | None], differences: Iterable[Difference], higher_is_better: bool
) -> dict[str, int | None]:
    """1 + the number of systems that are really better, by system; best values first, None without a value.

    Why not groups of systems that do not really differ: chains of them put the first and the last into one group,
    though these do differ, and letters for overlapping groups (compact letter display, Piepho 2004) say it all but are
    no number to sort by. A rank says by how many systems this one is beaten for certain. It does not say that two with
    different ranks differ (a ~ b ~ c with a really better than c gives 1, 1, 2), and the better value can have the
    worse rank, if it alone is beaten for certain: every pair is in the table of differences.

    Args:
        values: by system.
        differences: of pairs of them by one metric.
        higher_is_better: the metric's direction.
    """
    beaten = Counter(
        difference["b" if (difference["value"] > 0) == higher_is_better else "a"]
        for difference in differences if difference["real"] and difference["value"] is not None
    )  # fmt: skip
    known = sorted((-value if higher_is_better else value, name) for name, value in values.items() if value is not None)
    found: dict[str, int | None] = {name: 1 + beaten[name] for _, name in known}
    return found | {name: None for name in sorted(values) if name not in found}


def compare_all(
    metrics: Iterable[MetricInfo], values: Mapping[str, Mapping[str, Values]]
) -> tuple[dict[str, dict[str, Score]], list[Difference]]:
    """Scores of all systems, and differences of all pairs of them, by all metrics.

    Metrics of which neither more nor less is better have differences and no ranks. Those that judge a set as a whole
    keep their own interval, and so do scores of sets that are no mean of their items (a maximum, say). Nothing can be
    paired there: they have no differences, no ranks, no interval by speaker.
    Values that are not finite, and values without a positive weight, are moved to the dropped.

    Args:
        metrics: all that may occur.
        values: by system and metric; a metric may be missing where a system was not judged by it.

    Returns:
        Scores by system and metric; differences by metric, then in the order of the systems, the earlier first.
    """
    scores: dict[str, dict[str, Score]] = {system: {} for system in values}
    differences: list[Difference] = []
    for info in metrics:
        name = info["name"]
        judged = {system: _checked(mine[name]) for system, mine in values.items() if name in mine}
        if info["level"] == "set" or not all(map(_is_mean, judged.values())):
            found = {system: _whole_score(one) for system, one in judged.items()}
        else:
            pairs = _differences(name, judged)
            differences += pairs
            found = {system: _mean_score(one) for system, one in judged.items()}
            better = info["higher_is_better"]
            values_of = {system: score["value"] for system, score in found.items()}
            places = {} if better is None else ranks(values_of, pairs, better)
            for system, score in found.items():
                score["rank"] = places.get(system)
        for system, score in found.items():
            scores[system][name] = score
    return scores, differences


def _differences(metric: str, judged: Mapping[str, Values]) -> list[Difference]:
    """All pairs, corrected together."""
    pairs = list(combinations(judged, 2))
    found = [paired_difference(judged[a], judged[b]) for a, b in pairs]
    corrected = holm([one.p for one in found])
    return [
        Difference(
            metric=metric, a=a, b=b, value=one.value, low=one.low, high=one.high, p=one.p, adjusted=adjusted,
            pairs=one.pairs, real=adjusted is not None and adjusted < REAL,
        )
        for (a, b), one, adjusted in zip(pairs, found, corrected, strict=True)
    ]  # fmt: skip


def _checked(one: Values) -> Values:
    """Without what no mean can be made of."""
    bad = {item: "the judge gave no number" for item, value in one.values.items() if not math.isfinite(value)}
    for item in one.values if one.weights else ():
        if item not in bad and not 0 < one.weights.get(item, 0.0) < math.inf:
            bad[item] = "the judge gave it no weight"
    values = {item: value for item, value in one.values.items() if item not in bad}
    return replace(one, values=values, dropped={**one.dropped, **bad})


def _is_mean(one: Values) -> bool:
    """Whether a score follows from the values by item."""
    value = None if one.whole is None else _finite(one.whole.get("value"))
    if one.whole is None or (value is None and not one.values):
        return True
    if value is None or not one.values:
        return False
    return math.isclose(_total(_sums(one.values, one.weights, one.prompts)), value, rel_tol=1e-6, abs_tol=1e-9)


def _mean_score(one: Values) -> Score:
    by_prompt = cluster_interval(one.values, one.weights, one.prompts)
    by_speaker = cluster_interval(one.values, one.weights, one.speakers)
    return Score(
        value=by_prompt["value"], low=by_prompt["low"], high=by_prompt["high"], speaker_low=by_speaker["low"],
        speaker_high=by_speaker["high"], count=len(one.values), dropped=dict(one.dropped), rank=None,
    )  # fmt: skip


def _whole_score(one: Values) -> Score:
    whole = one.whole or {}
    return Score(
        value=_finite(whole.get("value")), low=_finite(whole.get("low")), high=_finite(whole.get("high")),
        speaker_low=None, speaker_high=None, count=int(whole.get("count", 0)), dropped=dict(one.dropped), rank=None,
    )  # fmt: skip


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _parts(values: Mapping[str, float], weights: Mapping[str, float]) -> Iterator[tuple[str, tuple[float, float]]]:
    """Items in the order of their names, with their numerators and denominators."""
    for item in sorted(values):
        weight = weights[item] if weights else 1.0
        if not (math.isfinite(values[item]) and 0 < weight < math.inf):
            raise ValueError(f"{item}: a mean needs finite values and positive weights, not {values[item]} x {weight}")
        yield item, (weight * values[item], weight)


def _grouped(
    values: Mapping[str, float], weights: Mapping[str, float], clusters: Mapping[str, str]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Numerators and denominators by cluster and item."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for item, part in _parts(values, weights):
        found.setdefault(clusters[item], {})[item] = part
    return found


def _sums(values: Mapping[str, float], weights: Mapping[str, float], clusters: Mapping[str, str]) -> Sums:
    """(n, 2) of n clusters in the order of their names."""
    found = _grouped(values, weights, clusters)
    return np.array([np.sum(list(found[name].values()), 0) for name in sorted(found)]).reshape(-1, 2)


def _common(a: Values, b: Values) -> Sums:
    """(n, 4) of the n prompts that both have, in the order of their names."""
    mine, theirs = _grouped(a.values, a.weights, a.prompts), _grouped(b.values, b.weights, b.prompts)
    rows = []
    for prompt in sorted(mine.keys() & theirs.keys()):
        sides = mine[prompt], theirs[prompt]
        both = sorted(sides[0].keys() & sides[1].keys())
        # Means where seeds differ: an exchange must not give one side more seeds, and so more weight.
        over: Callable[..., Any] = np.sum if both else np.mean
        rows.append(np.concatenate([over([side[item] for item in both or side], 0) for side in sides]))
    return np.array(rows).reshape(-1, 4)


def _statistic(sums: Sums) -> NDArray[np.float64]:
    """(m,) ratios of sums, or differences of two, from (m, 2) or (m, 4)."""
    ratios: NDArray[np.float64] = sums[:, 0::2] / sums[:, 1::2]
    return ratios[:, 0] - ratios[:, 1] if ratios.shape[1] == 2 else ratios[:, 0]


def _total(sums: Sums) -> float:
    return float(_statistic(sums.sum(0, keepdims=True))[0])


def _interval(sums: Sums) -> tuple[float | None, float | None]:
    """Percentiles of the statistic when rows are drawn with replacement; None for fewer than two rows."""
    count = len(sums)
    if count < 2:
        return None, None
    rng = np.random.default_rng(_SEED)
    at_once = max(1, _DRAWS // count)
    drawn = []
    for done in range(0, RESAMPLES, at_once):
        chosen = rng.integers(0, count, (min(at_once, RESAMPLES - done), count))
        drawn.append(_statistic(np.stack([column[chosen].sum(1) for column in sums.T], 1)))
    low, high = np.quantile(np.concatenate(drawn), LIMITS)
    return float(low), float(high)


def _exchange(sums: Sums) -> float:
    """The p of the permutation test of (n, 4)."""
    total = sums.sum(0)
    gains = sums[:, 2:] - sums[:, :2]
    size = np.abs(sums[:, 0::2]).sum() / sums[:, 1::2].sum()
    least = abs(_total(sums)) - _SLACK * size
    extreme = 0
    for swaps in _swaps(len(sums)):
        moved = swaps @ gains
        found = _statistic(np.concatenate([total[:2] + moved, total[2:] - moved], 1))
        extreme += int(np.count_nonzero(np.abs(found) >= least))
    return extreme / (1 << len(sums)) if len(sums) <= EXACT else (extreme + 1) / (FLIPS + 1)


def _swaps(count: int) -> Iterator[NDArray[np.float64]]:
    """(m, n) of 0 and 1, in parts: which prompts are exchanged, all ways or ``FLIPS`` random ones."""
    if count <= EXACT:
        yield (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(np.float64)
        return
    rng = np.random.default_rng(_SEED)
    at_once = max(1, _DRAWS // count)
    for done in range(0, FLIPS, at_once):
        yield rng.integers(0, 2, (min(at_once, FLIPS - done), count), dtype=np.int8).astype(np.float64)
