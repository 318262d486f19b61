"""The loss balancer in closed form."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from flowtts.vocoders.codec_train.balancer import Balancer


def _output(items: int = 2) -> Tensor:
    return torch.randn(items, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()


def _losses(output: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
    """Gradients along different axes, of very different sizes."""
    return {"a": 7.0 * output[:, 0].sum(), "b": scale * 0.01 * output[:, 1].sum()}


def _norms(grad: Tensor) -> Tensor:
    return grad.flatten(1).norm(dim=1)


def test_shares_of_the_gradient_are_the_weights_whatever_the_losses() -> None:
    output = _output()
    grad = Balancer(norm=2.0)(_losses(output), {"a": 1.0, "b": 3.0}, output)
    assert torch.allclose(grad[:, 0], torch.tensor(2.0 / 4)) and torch.allclose(grad[:, 1], torch.tensor(2.0 * 3 / 4))
    assert (grad[:, 2:] == 0).all()


def test_a_loss_scaled_by_a_thousand_changes_nothing() -> None:
    once, other, output = Balancer(), Balancer(), _output()
    for step in range(3):
        losses = {"a": (output**2).sum() * (step + 1), "b": (output - 1).abs().sum()}
        grad = once(losses, {"a": 1.0, "b": 0.1}, output)
        scaled = other(losses | {"b": 1000 * losses["b"]}, {"a": 1.0, "b": 0.1}, output)
        torch.testing.assert_close(grad, scaled)
    assert other.norms["b"] == pytest.approx(1000 * once.norms["b"])


def test_losses_that_pull_the_same_way_have_the_whole_norm() -> None:
    output = _output()
    grad = Balancer(norm=0.3)({"a": output[:, 0].sum(), "b": 50 * output[:, 0].sum()}, {"a": 2.0, "b": 1.0}, output)
    assert torch.allclose(_norms(grad), torch.tensor(0.3))


def test_averages_in_closed_form() -> None:
    """After norms 1 and 3 with a decay of 0.9: (0.9 * 1 + 3) / (0.9 + 1)."""
    balancer, output = Balancer(decay=0.9), _output(1)
    balancer({"a": output[:, 0].sum()}, {"a": 1.0}, output)
    grad = balancer({"a": 3 * output[:, 0].sum()}, {"a": 1.0}, output)
    mean = (0.9 + 3) / 1.9
    assert balancer.norms["a"] == pytest.approx(mean, rel=1e-6)
    assert float(grad[0, 0]) == pytest.approx(3 / mean, rel=1e-6)


def test_norms_are_means_over_items() -> None:
    balancer, output = Balancer(), _output(2)
    balancer({"a": 3 * output[0, 0] + 4 * output[0, 1] + output[1, 0]}, {"a": 1.0}, output)
    assert balancer.norms["a"] == pytest.approx((5 + 1) / 2)


def test_without_balance_it_is_the_gradient_of_the_weighted_sum() -> None:
    output = _output()
    losses = {"a": (output**2).sum(), "b": output.abs().sum(), "c": output.sum() * math.inf}
    grad = Balancer(balanced=False)(losses, {"a": 2.0, "b": 0.5, "c": 0.0}, output)
    torch.testing.assert_close(grad, 4 * output.detach() + 0.5 * output.detach().sign())


def test_a_loss_without_a_gradient_adds_nothing_and_breaks_nothing() -> None:
    output = _output()
    grad = Balancer()({"a": output[:, 0].sum(), "b": (0 * output).sum()}, {"a": 1.0, "b": 1.0}, output)
    assert grad.isfinite().all() and torch.allclose(_norms(grad), torch.tensor(0.5))


def test_averages_resume_from_plain_values() -> None:
    whole, output = Balancer(decay=0.5), _output()
    weights = {"a": 1.0, "b": 1.0}
    whole(_losses(output), weights, output)
    rest = Balancer(decay=0.5)
    rest.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    assert torch.equal(whole(_losses(output, 9), weights, output), rest(_losses(output, 9), weights, output))
    fresh = Balancer(decay=0.5)(_losses(output, 9), weights, output)
    assert not torch.equal(fresh, rest(_losses(output, 9), weights, output))
