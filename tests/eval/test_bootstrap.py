"""Bootstrap intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowtts.eval.bootstrap import mean_interval, ratio_interval


def test_ratio_of_sums_is_not_the_mean_of_ratios() -> None:
    found = ratio_interval([1, 0, 3], [2, 10, 4])
    assert found.value == pytest.approx(4 / 16)
    assert found.low <= found.value <= found.high


def test_same_seed_same_interval_other_seed_another() -> None:
    values = list(np.random.default_rng(3).normal(size=30))
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1)
    assert mean_interval(values, seed=1).low != mean_interval(values, seed=2).low


def test_95_per_cent_intervals_cover_the_truth_about_that_often() -> None:
    rng = np.random.default_rng(0)
    intervals = [mean_interval(list(rng.normal(0.3, 1, 40)), resamples=300, seed=k) for k in range(300)]
    covered = np.mean([i.low <= 0.3 <= i.high for i in intervals])
    # The percentile bootstrap of 40 values covers a little less than its level; 0.90 is four deviations from 0.95.
    assert 0.90 < covered < 0.985


def test_ratio_intervals_cover_the_truth_where_long_items_are_worse() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    # Items of 5 words have an error rate of 0, items of 20 words one of 0.2: together 0.8 * 0.2 = 0.16.
    for k in range(200):
        words = rng.choice([5.0, 20.0], 60)
        errors = rng.binomial(20, 0.2, 60) * (words == 20)
        found = ratio_interval(list(errors.astype(float)), list(words), resamples=300, seed=k)
        covered += found.low <= 0.16 <= found.high
    assert 0.88 < covered / 200 < 0.99


def test_width_shrinks_with_the_root_of_the_number_of_items() -> None:
    values = np.random.default_rng(0).normal(size=1600)
    few, many = mean_interval(list(values[:100])), mean_interval(list(values))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.3)


def test_nothing_and_one() -> None:
    assert math.isnan(mean_interval([]).value)
    one = mean_interval([0.5])
    assert (one.value, one.low, one.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("under", [[1.0], [1.0, 0.0], [1.0, math.nan]])
def test_bad_denominators_are_refused(under: list[float]) -> None:
    with pytest.raises(ValueError, match="denominator"):
        ratio_interval([1.0, 2.0], under)
