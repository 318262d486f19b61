"""Intervals, paired tests, corrections and ranks against closed forms and other implementations."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jiwer
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from flowtts.compare import statistics
from flowtts.compare.result import Difference, MetricInfo
from flowtts.compare.statistics import (
    EXACT,
    FLIPS,
    Values,
    cluster_interval,
    compare_all,
    holm,
    paired_difference,
    ranks,
    sign_test,
)

Array = NDArray[np.float64]


def by_item(values: Sequence[float] | Array) -> dict[str, float]:
    return {f"p{number:04d}": float(value) for number, value in enumerate(values)}


def system(values: Sequence[float] | Array, weights: Sequence[float] | Array = (), speakers: int = 4) -> Values:
    """One recording of each prompt."""
    items = by_item(values)
    speaker = {item: f"s{number % speakers}" for number, item in enumerate(items)}
    return Values(items, by_item(weights), {item: item for item in items}, speaker)


def without(one: Values, *items: str) -> Values:
    kept = {item: value for item, value in one.values.items() if item not in items}
    return replace(one, values=kept, dropped=dict.fromkeys(items, "too long"))


def metric(name: str = "wer", higher: bool = False, level: Any = "item") -> MetricInfo:
    return MetricInfo(
        name=name, label=name, unit="", higher_is_better=higher, rate=False, level=level, backend="", sample_rate=0,
        paper="",
    )  # fmt: skip


# Intervals


def test_intervals_of_normal_means_cover_the_truth_about_95_times_in_100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        one = system(rng.normal(0.3, 1, 40))
        found = cluster_interval(one.values, {}, one.prompts)
        assert found["low"] is not None and found["high"] is not None
        covered += found["low"] <= 0.3 <= found["high"]
    assert 0.90 <= covered / 300 <= 0.98


def test_seeds_of_a_prompt_are_drawn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 300)
    rng = np.random.default_rng(1)
    covered = {"prompts": 0, "seeds": 0}
    for _ in range(150):
        values = by_item((rng.normal(0, 1, (40, 1)) + rng.normal(0, 0.2, (40, 4))).ravel())
        clusters = {"prompts": {item: str(int(item[1:]) // 4) for item in values}, "seeds": {i: i for i in values}}
        for name, cluster in clusters.items():
            found = cluster_interval(values, {}, cluster)
            assert found["low"] is not None and found["high"] is not None
            covered[name] += found["low"] <= 0 <= found["high"]
    assert covered["prompts"] / 150 >= 0.88
    # Seen as 160 independent recordings the interval is half as wide: it covers 2 Φ(1.96 / 2) − 1 = 0.67.
    assert covered["seeds"] / 150 == pytest.approx(0.67, abs=0.12)


@pytest.mark.parametrize("weighted", [False, True])
def test_interval_is_that_of_scipy(weighted: bool) -> None:
    rng = np.random.default_rng(2)
    values = rng.gamma(2, 1, 60)
    weights = rng.integers(3, 20, 60).astype(float) if weighted else np.ones(60)
    one = system(values, weights if weighted else ())
    found = cluster_interval(one.values, one.weights, one.prompts)
    theirs = stats.bootstrap(
        (values, weights), lambda v, w, axis: (v * w).sum(axis) / w.sum(axis), paired=True, method="percentile",
        n_resamples=20_000, rng=np.random.default_rng(3),
    )  # fmt: skip
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found["value"] == pytest.approx(np.average(values, weights=weights), rel=1e-12)
    # The noise of a limit among 5000 is √(0.025 · 0.975 / 5000) / φ(1.96) = 0.038 deviations, 0.01 of the width.
    assert found["low"] == pytest.approx(theirs.confidence_interval.low, abs=0.04 * width)
    assert found["high"] == pytest.approx(theirs.confidence_interval.high, abs=0.04 * width)


@pytest.mark.parametrize("count", [2, 3])
def test_interval_of_two_or_three_speakers_is_the_range_of_their_means(count: int) -> None:
    # All draws are the lowest with a probability of k^-k, more than 2.5 %.
    values = by_item([1.0, 5.0, 2.0, 8.0, 0.0, 7.0])
    speakers = {item: str(number % count) for number, item in enumerate(values)}
    means = [np.mean([values[item] for item in values if speakers[item] == name]) for name in set(speakers.values())]
    found = cluster_interval(values, {}, speakers)
    assert found == pytest.approx({"value": np.mean(means), "low": min(means), "high": max(means)})


def test_a_cluster_counts_as_its_sums_however_they_are_split() -> None:
    # Prompts of 1, 2 and 3 seeds are items with the seeds' mean and as much weight.
    split = {"a": 1.0, "b.s0": 2.0, "b.s1": 4.0, "c.s0": 0.0, "c.s1": 3.0, "c.s2": 9.0}
    found = cluster_interval(split, {}, {item: item[0] for item in split})
    merged = cluster_interval(
        {"a": 1.0, "b": 3.0, "c": 4.0}, {"a": 1.0, "b": 2.0, "c": 3.0}, {"a": "a", "b": "b", "c": "c"}
    )
    assert found == pytest.approx(merged)
    assert found["value"] == pytest.approx(19 / 6)


def test_interval_of_nothing_of_one_prompt_and_of_a_constant() -> None:
    assert cluster_interval({}, {}, {}) == {"value": None, "low": None, "high": None}
    seeds = {"a.s0": 1.0, "a.s1": 3.0}
    assert cluster_interval(seeds, {}, dict.fromkeys(seeds, "a")) == {"value": 2.0, "low": None, "high": None}
    same = system([0.7] * 9, range(1, 10))
    assert cluster_interval(same.values, same.weights, same.prompts) == pytest.approx(
        dict.fromkeys(("value", "low", "high"), 0.7)
    )


def test_many_items_are_drawn_in_parts_that_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    one = system(np.random.default_rng(4).normal(size=50))
    whole = cluster_interval(one.values, {}, one.prompts)
    monkeypatch.setattr(statistics, "_DRAWS", 700)
    assert cluster_interval(one.values, {}, one.prompts) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("value", "weight"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, math.nan)]
)
def test_what_no_mean_can_be_made_of_is_refused(value: float, weight: float) -> None:
    with pytest.raises(ValueError, match=r"^b: a mean needs finite values and positive weights"):
        cluster_interval({"a": 1.0, "b": value}, {"a": 1.0, "b": weight}, {"a": "a", "b": "b"})


# Paired differences


def pooled(over_a: Array, under_a: Array, over_b: Array, under_b: Array) -> Callable[..., Any]:
    """The statistic for scipy's samples, which hold numbers of items: those of ``b`` follow those of ``a``."""
    over, under = np.concatenate([over_a, over_b]), np.concatenate([under_a, under_b])

    def statistic(x: NDArray[np.int64], y: NDArray[np.int64], axis: int) -> Any:
        x, y = x.astype(int), y.astype(int)
        return over[x].sum(axis) / under[x].sum(axis) - over[y].sum(axis) / under[y].sum(axis)

    return statistic


@pytest.mark.parametrize("count", [2, 5, 7, 10])
@pytest.mark.parametrize("kind", ["means", "whole numbers", "rates", "rates with other weights"])
def test_exact_p_is_that_of_scipy(count: int, kind: str) -> None:
    rng = np.random.default_rng(count)
    a, b = rng.normal(0.6, 1, count), rng.normal(0, 1, count)
    under_a = under_b = np.ones(count)
    if kind == "whole numbers":  # many exchanges tie with what was found
        a, b = np.round(a), np.round(b)
    elif kind != "means":
        under_a = under_b = rng.integers(3, 12, count).astype(float)
        if kind == "rates with other weights":
            under_b = rng.integers(3, 12, count).astype(float)
        a, b = rng.integers(0, 4, count) / under_a, rng.integers(0, 3, count) / under_b
    found = paired_difference(system(a, under_a), system(b, under_b))
    theirs = stats.permutation_test(
        (np.arange(count), np.arange(count) + count), pooled(a * under_a, under_a, b * under_b, under_b),
        permutation_type="samples", n_resamples=np.inf, vectorized=True,
    )  # fmt: skip
    assert found.value == pytest.approx(theirs.statistic, abs=1e-12)
    assert found.p == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("count", [1, 3, 5, 6, 14])
def test_equal_differences_give_the_least_p_there_is(count: int) -> None:
    base = np.random.default_rng(5).normal(size=count)
    found = paired_difference(system(base + 0.1), system(base))
    assert found.p == 2 / 2**count == sign_test(count, 0)
    assert found.value == pytest.approx(0.1)
    assert (found.p < 0.05) == (count >= 6)


def test_above_that_p_is_drawn_and_never_zero() -> None:
    base = np.random.default_rng(6).normal(size=60)
    assert paired_difference(system(base + 0.1), system(base)).p == 1 / (FLIPS + 1)
    # On one more prompt than are tried exactly, drawing agrees with trying all: σ = √(p (1 − p) / 10,000).
    a, b = np.random.default_rng(7).normal(0.4, 1, (2, EXACT + 1))
    found = paired_difference(system(a), system(b - 0.4)).p
    theirs = stats.permutation_test(
        (a, b - 0.4), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", n_resamples=2 ** (EXACT + 1)
    ).pvalue
    assert found == pytest.approx(theirs, abs=4 * math.sqrt(theirs * (1 - theirs) / FLIPS))


def test_no_difference_anywhere_gives_1() -> None:
    for count in (1, 4, 40):
        same = system(np.random.default_rng(8).normal(size=count))
        found = paired_difference(same, same)
        assert (found.value, found.p, found.pairs) == (0.0, 1.0, count)
    assert (found.low, found.high) == (0.0, 0.0)


@pytest.mark.parametrize(("count", "weighted"), [(10, False), (25, False), (10, True)])
def test_p_of_systems_that_do_not_differ_is_uniform(
    count: int, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 1)
    monkeypatch.setattr(statistics, "FLIPS", 1999)
    rng = np.random.default_rng(9)
    found = []
    for _ in range(300):
        prompts = rng.normal(0, 2, count)
        weights = rng.integers(1, 9, count).astype(float) if weighted else np.ones(count)
        a, b = (prompts + rng.standard_t(4, count) for _ in range(2))
        found.append(paired_difference(system(a, weights), system(b, weights)).p)
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_intervals_of_differences_cover_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 500)
    monkeypatch.setattr(statistics, "FLIPS", 1)
    rng = np.random.default_rng(10)
    covered, narrower = 0, 0
    for _ in range(200):
        prompts = rng.normal(0, 3, 40)
        a, b = system(prompts + rng.normal(0.5, 1, 40)), system(prompts + rng.normal(0, 1, 40))
        found, alone = paired_difference(a, b), cluster_interval(a.values, {}, a.prompts)
        assert (
            found.low is not None and found.high is not None and alone["low"] is not None and alone["high"] is not None
        )
        covered += found.low <= 0.5 <= found.high
        narrower += found.high - found.low < alone["high"] - alone["low"]
    assert 0.89 <= covered / 200 <= 0.985
    assert narrower == 200  # pairing takes out that some prompts are hard for both


TEXTS = ["the old bridge shook", "a fox", "she poured hot and cold water", "both boys ran home", "no", "well then"]
HEARD = {
    "a": ["the old bridge took", "a fox", "she poured hot and cold", "both boys ran home", "no no no", "well"],
    "b": ["the bridge shook", "", "he poured hot and cold waters", "both boys run home", "no", "then well"],
}


def recognised(heard: Sequence[str]) -> Values:
    rates = [jiwer.wer(text, words) for text, words in zip(TEXTS, heard, strict=True)]
    return system(rates, [len(text.split()) for text in TEXTS])


def test_word_error_rates_are_jiwers_pooled_ones() -> None:
    systems = {name: recognised(heard) for name, heard in HEARD.items()}
    for name, one in systems.items():
        rate = jiwer.wer(TEXTS, HEARD[name])
        assert cluster_interval(one.values, one.weights, one.prompts)["value"] == pytest.approx(rate, rel=1e-12)
        assert np.mean(list(one.values.values())) != pytest.approx(rate, rel=0.05)
    found = paired_difference(systems["a"], systems["b"])
    assert found.value == pytest.approx(jiwer.wer(TEXTS, HEARD["a"]) - jiwer.wer(TEXTS, HEARD["b"]), rel=1e-12)


def test_gaps_are_left_out_on_both_sides() -> None:
    a = without(recognised(HEARD["a"]), "p0002")
    b = without(recognised(HEARD["b"]), "p0005")
    common = [0, 1, 3, 4]
    rates = [jiwer.wer([TEXTS[i] for i in common], [HEARD[name][i] for i in common]) for name in ("a", "b")]
    found = paired_difference(a, b)
    assert found.value == pytest.approx(rates[0] - rates[1])
    assert found.pairs == 4
    scores, differences = compare_all([metric()], {"a": {"wer": a}, "b": {"wer": b}})
    assert (scores["a"]["wer"]["count"], scores["a"]["wer"]["dropped"]) == (5, {"p0002": "too long"})
    assert differences[0]["pairs"] == 4


def test_seeds_are_paired_one_by_one_where_both_have_them() -> None:
    prompts = {f"{prompt}.s{seed}": prompt for prompt in "ab" for seed in range(3)}
    a = Values(dict(zip(prompts, [1.0, 2.0, 6.0, 5.0, 5.0, 5.0], strict=True)), {}, prompts, prompts)
    b = Values({"a.s0": 0.0, "a.s1": 0.0, "b.s0": 0.0, "b.s1": 0.0, "b.s2": 0.0}, {}, prompts, prompts)
    found = paired_difference(a, b)
    # Of prompt a seeds 0 and 1 alone: a's third, 6, has no counterpart.
    assert found.value == pytest.approx((1 + 2 + 5 + 5 + 5) / 5)
    assert found.pairs == 2


def test_other_seeds_are_compared_by_the_means_of_prompts() -> None:
    rng = np.random.default_rng(14)
    single, halves = system(rng.gamma(1, 1, 8)), rng.gamma(2, 1, (8, 2))
    several = {f"{item}.s{seed}": float(halves[n, seed]) for n, item in enumerate(single.values) for seed in range(2)}
    prompts = {item: item.partition(".")[0] for item in several}
    found = paired_difference(Values(several, {}, prompts, prompts), single)
    means = paired_difference(system(halves.mean(1)), single)
    assert [found.value, found.low, found.high] == pytest.approx([means.value, means.low, means.high])
    # Not the sums: an exchanged prompt would count twice on the other side.
    assert (found.p, found.pairs) == (means.p, 8)


def test_a_pair_with_one_prompt_or_none() -> None:
    a, b = system([1.0, 2.0]), system([0.5, 0.5])
    assert paired_difference(without(a, "p0000"), b) == statistics.Paired(1.5, None, None, 1.0, 1)
    assert paired_difference(without(a, "p0000"), without(b, "p0001")) == statistics.Paired(None, None, None, None, 0)


@pytest.mark.parametrize("count", [9, 60])
def test_the_other_way_round_is_the_negative(count: int) -> None:
    rng = np.random.default_rng(11)
    a, b = (system(rng.gamma(1, 1, count), rng.integers(1, 9, count).astype(float)) for _ in range(2))
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert [back.value, back.high, back.low] == pytest.approx([-(x or 0) for x in (there.value, there.low, there.high)])
    assert back.p == there.p


# Signs, correction, ranks


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (9, 1), (5, 5), (17, 30), (30, 17), (0, 12), (700, 800)])
def test_sign_test_is_the_binomial_test(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="-1"):
        sign_test(-1, losses)


@pytest.mark.parametrize(
    ("ps", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 4 · 0.005, 3 · 0.01, 2 · 0.03, then no less than that
        ([0.01, None, 0.02, None], [0.02, None, 0.02, None]),
        ([0.6, 0.9, 0.4], [1.0, 1.0, 1.0]),
        ([0.03], [0.03]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([None], [None]),
        ([], []),
    ],
)
def test_holm_by_hand(ps: list[float | None], expected: list[float | None]) -> None:
    assert holm(ps) == [None if p is None else pytest.approx(p) for p in expected]


def difference(a: str, b: str, value: float | None, real: bool) -> Difference:
    return Difference(
        metric="m", a=a, b=b, value=value, low=None, high=None, p=None, adjusted=None, pairs=9, real=real
    )  # fmt: skip


@pytest.mark.parametrize(
    ("higher", "values", "real", "expected"),
    [
        # All differ, none differs.
        (True, {"a": 3, "b": 2, "c": 1}, ["ab", "ac", "bc"], {"a": 1, "b": 2, "c": 3}),
        (True, {"a": 3, "b": 2, "c": 1}, [], {"a": 1, "b": 1, "c": 1}),
        (False, {"a": 3, "b": 2, "c": 1}, ["ab", "ac", "bc"], {"c": 1, "b": 2, "a": 3}),
        # a ~ b ~ c, but a is better than c: connected groups would make one of the three.
        (True, {"a": 3, "b": 2, "c": 1}, ["ac"], {"a": 1, "b": 1, "c": 2}),
        # Two that tie leave a gap behind them.
        (True, {"a": 3, "b": 2.9, "c": 1}, ["ac", "bc"], {"a": 1, "b": 1, "c": 3}),
        # b's value is the noisy one: only a is beaten for certain.
        (True, {"top": 9, "a": 5, "b": 4}, ["topa"], {"top": 1, "a": 2, "b": 1}),
        (True, {"none": None, "a": 1}, [], {"a": 1, "none": None}),
    ],
)
def test_ranks_by_hand(
    higher: bool, values: dict[str, float | None], real: list[str], expected: dict[str, int | None]
) -> None:
    names = list(values)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    found = [
        difference(a, b, None if x is None or y is None else x - y, a + b in real)
        for a, b in pairs for x, y in [(values[a], values[b])]
    ]  # fmt: skip
    got = ranks(values, found, higher)
    assert got == expected
    best = [
        name
        for name in sorted(names, key=lambda n: -(values[n] or 0) if higher else (values[n] or 0))
        if values[name] is not None
    ]
    assert [name for name, rank in got.items() if rank is not None] == best
    # Which of a pair comes first does not matter.
    turned = [difference(d["b"], d["a"], None if d["value"] is None else -d["value"], d["real"]) for d in found]
    assert ranks(values, turned, higher) == expected


# All together


def example(seed: int = 13) -> dict[str, dict[str, Values]]:
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 1, 20)
    shift = {"good": 0.0, "same": 0.02, "bad": 2.0}
    return {name: {"mcd": system(hard + by + rng.normal(0, 0.3, 20))} for name, by in shift.items()}


def test_everything_is_as_its_parts_say() -> None:
    values = example()
    scores, differences = compare_all([metric("mcd")], values)
    assert [(d["a"], d["b"], d["real"]) for d in differences] == [
        ("good", "same", False), ("good", "bad", True), ("same", "bad", True)
    ]  # fmt: skip
    pairs = [paired_difference(values[d["a"]]["mcd"], values[d["b"]]["mcd"]) for d in differences]
    assert [(d["value"], d["low"], d["high"], d["p"], d["pairs"]) for d in differences] == [
        (one.value, one.low, one.high, one.p, one.pairs) for one in pairs
    ]
    assert [d["adjusted"] for d in differences] == holm([one.p for one in pairs])
    assert {name: mine["mcd"]["rank"] for name, mine in scores.items()} == {"good": 1, "same": 1, "bad": 3}
    one = values["bad"]["mcd"]
    score = scores["bad"]["mcd"]
    assert {k: score[k] for k in ("value", "low", "high")} == cluster_interval(one.values, {}, one.prompts)
    speaker = cluster_interval(one.values, {}, one.speakers)
    assert (score["speaker_low"], score["speaker_high"]) == (speaker["low"], speaker["high"])


def turned(values: Mapping[str, Mapping[str, Values]]) -> dict[str, dict[str, Values]]:
    """Every mapping the other way round."""

    def back(mapping: Mapping[str, Any]) -> dict[str, Any]:
        return dict(reversed(list(mapping.items())))

    def whole(one: Values) -> Values:
        return replace(one, values=back(one.values), prompts=back(one.prompts), speakers=back(one.speakers))

    return back({name: {key: whole(one) for key, one in mine.items()} for name, mine in values.items()})


def test_order_and_company_change_nothing() -> None:
    values = example()
    scores, differences = compare_all([metric("mcd")], values)
    again, others = compare_all([metric("mcd")], turned(values))
    assert again == scores
    assert {frozenset((d["a"], d["b"])): (d["p"], d["adjusted"]) for d in others} == {
        frozenset((d["a"], d["b"])): (d["p"], d["adjusted"]) for d in differences
    }
    two, (alone,) = compare_all([metric("mcd")], {name: values[name] for name in ("good", "bad")})
    assert {**two["good"]["mcd"], "rank": 1} == scores["good"]["mcd"]
    assert {**alone, "adjusted": None} == {**differences[1], "adjusted": None}


def test_intransitive_systems_from_values_to_ranks() -> None:
    # b swings from prompt to prompt, so that neither a nor c differs from it for certain; c lies below a everywhere.
    steady, swing = np.linspace(0, 1, 12), np.tile([4.0, -4.0], 6)
    values = {"a": system(steady + 1), "b": system(steady + 0.5 + swing), "c": system(steady)}
    scores, differences = compare_all([metric("m", higher=True)], {name: {"m": one} for name, one in values.items()})
    assert [d["real"] for d in differences] == [False, True, False]
    assert {name: mine["m"]["rank"] for name, mine in scores.items()} == {"a": 1, "b": 1, "c": 2}


def test_five_prompts_make_nothing_real() -> None:
    _, (found,) = compare_all([metric()], {"a": {"wer": system([1.0] * 5)}, "b": {"wer": system([0.0] * 5)}})
    assert (found["p"], found["real"]) == (2 / 2**5, False)


def test_what_is_real_is_decided_after_the_correction() -> None:
    values = {name: {"wer": system([float(by)] * 6)} for by, name in enumerate("abc")}
    scores, differences = compare_all([metric()], values)
    assert [(d["p"], d["adjusted"], d["real"]) for d in differences] == [(2 / 2**6, 6 / 2**6, False)] * 3
    assert [mine["wer"]["rank"] for mine in scores.values()] == [1, 1, 1]
    _, (alone,) = compare_all([metric()], {name: values[name] for name in "ab"})
    assert alone["real"]


def finite(found: Any) -> bool:
    json.dumps(found, allow_nan=False)
    return True


def test_nothing_that_is_no_number_leaves() -> None:
    bad = {"p0000": math.nan, "p0001": math.inf, "p0002": 0.5, "p0003": 0.25, "p0004": 0.5}
    weights = {"p0000": 3.0, "p0001": 3.0, "p0002": 0.0, "p0003": 2.0, "p0004": math.inf}
    given = replace(system([0.0] * 5), values=bad, weights=weights, dropped={"p0009": "too long"})
    nothing = replace(system([]), dropped={"p0000": "it could not be made"})
    scores, differences = compare_all([metric()], {"a": {"wer": given}, "b": {"wer": nothing}, "c": {}})
    assert scores["a"]["wer"] == {
        "value": 0.25, "low": None, "high": None, "speaker_low": None, "speaker_high": None, "count": 1, "rank": 1,
        "dropped": {
            "p0009": "too long", "p0000": "the judge gave no number", "p0001": "the judge gave no number",
            "p0002": "the judge gave it no weight", "p0004": "the judge gave it no weight",
        },
    }  # fmt: skip
    assert scores["b"]["wer"]["rank"] is None
    assert (scores["b"]["wer"]["value"], scores["b"]["wer"]["count"]) == (None, 0)
    assert scores["c"] == {}
    assert differences == [
        {"metric": "wer", "a": "a", "b": "b", "pairs": 0, "real": False}
        | dict.fromkeys(("value", "low", "high", "p", "adjusted"))
    ]
    assert finite([scores, differences])


def test_a_pair_that_cannot_be_compared_does_not_make_the_correction_harder() -> None:
    values = {name: {"wer": system(np.arange(12.0) + by)} for name, by in (("a", 0), ("b", 1))}
    _, differences = compare_all([metric()], values | {"c": {"wer": system([])}})
    assert differences[0]["p"] == differences[0]["adjusted"] == 2 / 2**12
    assert [d["p"] for d in differences[1:]] == [None, None]


def test_judges_of_whole_sets_keep_their_intervals_and_have_no_ranks() -> None:
    whole = {"value": 3.5, "low": math.nan, "high": math.inf, "count": 7}
    # Values by item of such a judge depend on one another and cannot be drawn, even if their mean is the value.
    values = {name: {"fsd": replace(system([3.5, 3.5]), whole=whole, dropped={"x": "silent"})} for name in "ab"}
    scores, differences = compare_all([metric("fsd", level="set")], values)
    expected = {
        "value": 3.5, "low": None, "high": None, "speaker_low": None, "speaker_high": None, "count": 7,
        "dropped": {"x": "silent"}, "rank": None,
    }  # fmt: skip
    assert scores == {"a": {"fsd": expected}, "b": {"fsd": expected}}
    assert differences == []
    failed = {"dropped": "the judge failed: no memory", "backend": "", "sample_rate": 0}
    scores, _ = compare_all([metric("fsd", level="set")], {"a": {"fsd": replace(system([]), whole=failed)}})
    assert (scores["a"]["fsd"]["value"], scores["a"]["fsd"]["count"]) == (None, 0)


@pytest.mark.parametrize(("value", "paired"), [(2.0, True), (6.0, False), (math.inf, False)])
def test_a_score_of_a_set_is_paired_only_if_it_is_the_mean_of_its_items(value: float, paired: bool) -> None:
    items = system([0.0] * 6 + [6.0] * 3)
    whole = {"value": value, "low": 1.0, "high": 6.0, "count": 9}
    other = system(np.arange(9.0))
    scores, differences = compare_all(
        [metric("edit-m")],
        {"a": {"edit-m": replace(items, whole=whole)}, "b": {"edit-m": replace(other, whole={**whole, "value": 4.0})}},
    )
    assert len(differences) == (1 if paired else 0)
    assert (scores["b"]["edit-m"]["rank"] is not None) == paired
    assert scores["a"]["edit-m"]["value"] == (None if value == math.inf else value)
    assert (scores["a"]["edit-m"]["low"] == 1.0) == (not paired)
