"""Classifier-free guidance: values, cost, and what the network is shown."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowtts.solve import alpha_of, guided, scale_of, solve
from flowtts.types import Condition, Sampling, UserError

B, T, C = 3, 5, 4


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def condition(batch: int = B) -> Condition:
    known = torch.arange(T).expand(batch, T) < 2
    return Condition(
        text=torch.arange(batch * T).reshape(batch, T),
        prompt=randn(batch, T, C) * known[..., None],
        known=known,
        mask=torch.arange(T).expand(batch, T) < torch.tensor([T, T - 1, T - 2])[:batch, None],
        keep=torch.ones(batch, dtype=torch.bool),
    )


class Network:
    """Depends on everything it is given, and remembers it."""

    def __init__(self, uses_condition: bool = True) -> None:
        self.uses_condition = uses_condition
        self.calls: list[tuple[Tensor, Tensor, Condition]] = []

    def __call__(self, x: Tensor, t: Tensor, cond: Condition) -> Tensor:
        self.calls.append((x, t, cond))
        keep = cond.keep[:, None, None] & self.uses_condition
        told = torch.sin(cond.text.float())[..., None] + cond.prompt + cond.known[..., None]
        return torch.tanh(x * (1 + t[:, None, None])) * cond.mask[..., None] + torch.where(keep, told, 0.0)


X, AT = randn(B, T, C), torch.tensor(0.3)
COND = Network()(X, AT.expand(B), condition())
NULL = Network()(X, AT.expand(B), condition().null())


def test_scale_one_is_the_conditional_network_bit_for_bit_in_one_call() -> None:
    network = Network()
    field = guided(network, condition(), 1.0)
    assert torch.equal(field(AT, X), COND)
    assert field.calls_per_evaluation == 1
    ((x, t, cond),) = network.calls
    assert x.shape == (B, T, C) and t.shape == (B,) and cond.keep.all()


def test_scale_zero_is_the_unconditional_network_bit_for_bit_in_one_call() -> None:
    network = Network()
    field = guided(network, condition(), 0.0)
    assert torch.equal(field(AT, X), NULL)
    assert field.calls_per_evaluation == 1
    ((x, _, cond),) = network.calls
    assert x.shape == (B, T, C) and not cond.keep.any()


def test_both_branches_run_as_one_batch_whose_condition_is_built_once() -> None:
    network = Network()
    field = guided(network, condition(), 1.7)
    field(AT, X), field(AT, X)
    assert field.calls_per_evaluation == 2 and len(network.calls) == 2
    (x, t, first), (_, _, second) = network.calls
    assert first is second
    assert torch.equal(x, torch.cat((X, X))) and torch.equal(t, AT.expand(2 * B))
    assert first.keep.tolist() == [True] * B + [False] * B
    for half in (slice(0, B), slice(B, None)):
        for name in ("text", "prompt", "known", "mask"):
            assert torch.equal(getattr(first, name)[half], getattr(condition(), name))


@pytest.mark.parametrize("scale", [2.0, 1.7, 0.5, -1.0, 6.0])
def test_value(scale: float) -> None:
    assert (COND - NULL).abs().max() > 0.5
    torch.testing.assert_close(guided(Network(), condition(), scale)(AT, X), NULL + scale * (COND - NULL))


def test_linear_in_scale() -> None:
    at = {g: guided(Network(), condition(), g)(AT, X) for g in (-1.0, 0.0, 0.5, 1.0, 2.0, 3.0)}
    torch.testing.assert_close(at[3.0] - at[2.0], at[1.0] - at[0.0])
    torch.testing.assert_close(at[2.0] + at[-1.0], at[1.0] + at[0.0])
    torch.testing.assert_close(2 * at[0.5], at[1.0] + at[0.0])


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0, 2.5])
def test_scale_is_one_plus_alpha(alpha: float) -> None:
    voicebox = (1 + alpha) * COND - alpha * NULL
    torch.testing.assert_close(guided(Network(), condition(), scale_of(alpha))(AT, X), voicebox)
    f5 = COND + (COND - NULL) * alpha
    torch.testing.assert_close(voicebox, f5)
    assert alpha_of(scale_of(alpha)) == pytest.approx(alpha)


@pytest.mark.parametrize("scale", [0.3, 1.7, 5.0])
def test_nothing_changes_where_the_branches_agree(scale: float) -> None:
    deaf = Network(uses_condition=False)
    assert torch.equal(guided(deaf, condition(), scale)(AT, X), deaf(X, AT.expand(B), condition()))


@pytest.mark.parametrize(("scale", "calls"), [(0.0, 16), (1.0, 16), (1.7, 32)])
def test_solve_reports_evaluations_and_network_calls(scale: float, calls: int) -> None:
    solution = solve(guided(Network(), condition(), scale), X, Sampling(solver="midpoint", steps=8))
    assert (solution.nfe, solution.network_calls) == (16, calls)


def test_adaptive_solvers_report_both_too() -> None:
    network = Network()
    solution = solve(guided(network, condition(), 1.7), X, Sampling(solver="dopri5:1e-3"))
    assert solution.nfe == len(network.calls) and solution.network_calls == 2 * solution.nfe


def test_items_do_not_see_their_batch() -> None:
    how, whole = Sampling(solver="heun", steps=4), condition()
    together = solve(guided(Network(), whole, 2.0), X, how).x
    for i in range(B):
        names = ("text", "prompt", "known", "mask", "keep")
        one = Condition(*(getattr(whole, name)[i : i + 1] for name in names))
        alone = solve(guided(Network(), one, 2.0), X[i : i + 1], how).x
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(scale: float) -> None:
    with pytest.raises(UserError, match="finite"):
        guided(Network(), condition(), scale)
