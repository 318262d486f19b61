"""Duration metrics against hand computations."""

from __future__ import annotations

import pytest
import torch

from flowtts.eval.durations import fdd, ms_corr, ms_mae

TRUE = torch.tensor([[2, 4, 6, 0], [1, 3, 5, 7]])
PREDICTED = torch.tensor([[2.0, 5.0, 3.0, 9.0], [9.0, 1.0, 5.5, 7.0]])
MASKED = torch.tensor([[False, True, True, False], [False, True, True, False]])


def test_ms_mae_averages_over_masked_phones_of_all_utterances() -> None:
    assert ms_mae(PREDICTED, TRUE, MASKED).item() == pytest.approx((1 + 3 + 2 + 0.5) / 4)


def test_ms_mae_ignores_what_is_not_masked() -> None:
    changed = torch.where(MASKED, PREDICTED, torch.full_like(PREDICTED, 1e6))
    assert ms_mae(changed, TRUE, MASKED) == ms_mae(PREDICTED, TRUE, MASKED)


def test_ms_corr_of_three_utterances() -> None:
    # Predicted means 1, 2, 6; context means 2, 3, 4, the padding of the last not counted.
    predicted = torch.tensor([[1.0, 9.0, 9.0], [1.0, 3.0, 9.0], [6.0, 9.0, 9.0]])
    context = torch.tensor([[9, 1, 3], [9, 9, 3], [9, 4, 99]])
    masked = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 0]]).bool()
    real = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0]]).bool()
    # cov = ((-2)(-1) + (-1)(0) + (3)(1)) = 5; norms sqrt(14), sqrt(2).
    assert ms_corr(predicted, context, masked, real).item() == pytest.approx(5 / (14**0.5 * 2**0.5))


def test_ms_corr_leaves_out_utterances_without_context_or_mask() -> None:
    predicted = torch.tensor([[1.0, 0.0], [2.0, 0.0], [50.0, 50.0], [0.0, 0.0]])
    context = torch.tensor([[0, 4], [0, 2], [7, 7], [8, 8]])
    masked = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 0]]).bool()
    assert ms_corr(predicted, context, masked, torch.ones_like(masked)).item() == pytest.approx(-1)


def test_ms_corr_needs_variation() -> None:
    half = torch.tensor([[True, False], [True, False]])
    with pytest.raises(ValueError, match="differ"):
        ms_corr(torch.ones(2, 2), torch.tensor([[1, 2], [1, 3]]), half, torch.ones_like(half))
    with pytest.raises(ValueError, match="two utterances"):
        ms_corr(torch.ones(2, 2), torch.ones(2, 2), torch.ones_like(half), torch.ones_like(half))


def test_fdd_is_the_squared_distance_of_means_and_deviations() -> None:
    # Means 2 and 5, population deviations 1 and 3.
    assert fdd(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 8.0])).item() == pytest.approx(9 + (3 - 1) ** 2)
    assert fdd(TRUE, TRUE.flip(0)).item() == pytest.approx(0, abs=1e-12)


def test_refuses_empty_and_mismatched() -> None:
    with pytest.raises(ValueError, match="masked"):
        ms_mae(PREDICTED, TRUE, torch.zeros_like(MASKED))
    with pytest.raises(ValueError, match="shape"):
        ms_mae(PREDICTED[:1], TRUE, MASKED)
    with pytest.raises(ValueError, match="both sides"):
        fdd(torch.zeros(0), TRUE)
