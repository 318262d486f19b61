"""The symmetric contrastive loss against numpy, and what does not count as wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from flowtts.contrastive import contrast


def unit(rng: torch.Generator, items: int, width: int) -> torch.Tensor:
    return F.normalize(torch.randn(items, width, generator=rng, dtype=torch.float64), dim=-1)


def test_loss_and_accuracies_are_the_closed_form(rng: torch.Generator) -> None:
    left, right = unit(rng, 6, 4), unit(rng, 6, 4)
    found = contrast(left, right, torch.tensor(2.5, dtype=torch.float64))
    logits = 2.5 * left.numpy() @ right.numpy().T
    rows = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    columns = np.log(np.exp(logits).sum(0)) - np.diag(logits)
    assert found.loss.item() == pytest.approx((rows.mean() + columns.mean()) / 2, rel=1e-12)
    assert found.left.item() == pytest.approx((logits.argmax(1) == np.arange(6)).mean())
    assert found.right.item() == pytest.approx((logits.argmax(0) == np.arange(6)).mean())


def test_sides_are_symmetric_and_order_is_nothing(rng: torch.Generator) -> None:
    left, right, scale = unit(rng, 5, 3), unit(rng, 5, 3), torch.tensor(3.0)
    one, other = contrast(left, right, scale), contrast(right, left, scale)
    torch.testing.assert_close([*one], [other.loss, other.right, other.left])
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(contrast(left[order], right[order], scale).loss, one.loss)


def test_ignorance_costs_the_logarithm_of_the_batch_and_knowledge_nothing() -> None:
    ones = F.normalize(torch.ones(7, 4), dim=-1)
    assert contrast(ones, ones, torch.tensor(5.0)).loss.item() == pytest.approx(math.log(7), rel=1e-6)
    known = contrast(torch.eye(7), torch.eye(7), torch.tensor(50.0))
    assert known.loss < 1e-6 and known.left == known.right == 1


def test_pairs_that_are_as_right_do_not_count() -> None:
    left = right = torch.eye(3)[[0, 0, 1, 2]]
    same = torch.tensor([0, 0, 1, 2])[:, None] == torch.tensor([0, 0, 1, 2])
    scale = torch.tensor(4.0)
    found = contrast(left, right, scale, same)
    twice, once = math.log1p(2 * math.exp(-4)), math.log1p(3 * math.exp(-4))
    assert found.loss.item() == pytest.approx((2 * twice + 2 * once) / 4, rel=1e-5)
    assert found.left == found.right == 1
    assert contrast(left, right, scale).loss > found.loss + 0.3
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    assert torch.equal(contrast(left, right, scale, nothing).loss, contrast(left, right, scale).loss)


def test_gradients_reach_both_sides_and_the_scale_and_stay_finite(rng: torch.Generator) -> None:
    left, right = (unit(rng, 4, 3).requires_grad_() for _ in range(2))
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    same = torch.ones(4, 4, dtype=torch.bool)
    same[0, 1:] = same[1:, 0] = False
    assert torch.autograd.gradcheck(lambda a, b, s: contrast(a, b, s, same).loss, (left, right, scale))
    assert not contrast(left, right, scale).left.requires_grad


def test_autocast_does_not_round_the_logits(rng: torch.Generator) -> None:
    left, right, scale = unit(rng, 8, 16).float(), unit(rng, 8, 16).float(), torch.tensor(60.0)
    with torch.autocast("cpu", torch.bfloat16):
        inside = contrast(left, right, scale)
    assert torch.equal(inside.loss, contrast(left, right, scale).loss)
    halves = contrast(left.bfloat16(), right.bfloat16(), scale)
    assert halves.loss.dtype == torch.float32


def test_sides_of_different_shapes_are_refused(rng: torch.Generator) -> None:
    with pytest.raises(ValueError, match="one shape"):
        contrast(unit(rng, 4, 3), unit(rng, 5, 3), torch.tensor(1.0))
