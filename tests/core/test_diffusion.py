"""Networks that learn their variance: the variational bound, ancestral steps, clipping, and one end for all solvers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from solving import Gaussian, noise, rng
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from flowtts.diffusion import Clipped, LearnedRange
from flowtts.path import Discrete, to_data, to_noise
from flowtts.solve import grid_named, guided, solve
from flowtts.types import Sampling, UserError

STEPS = 100
SCHEDULE = Discrete.linear(STEPS)
BETAS = torch.tensor(SCHEDULE.betas, dtype=torch.float64)
BARS = torch.cumprod(1 - BETAS, 0)
LAST = 1 - 1 / STEPS


def posterior(x1: Tensor, x_t: Tensor, step: int) -> tuple[Tensor, float]:
    """Mean and variance of a step back from ``step`` >= 1 (arXiv 2102.09672, eq. 10 and 11)."""
    beta, bar, before = float(BETAS[step]), float(BARS[step]), float(BARS[step - 1])
    mean = math.sqrt(before) * beta * x1 + math.sqrt(1 - beta) * (1 - before) * x_t
    return mean / (1 - bar), beta * (1 - before) / (1 - bar)


def test_noising_is_that_of_the_paper() -> None:
    x1, x0, step = noise(3, 4, 2), noise(3, 4, 2).flip(0), torch.tensor([0, 41, STEPS - 1])
    bar = BARS[step][:, None, None]
    torch.testing.assert_close(LearnedRange(SCHEDULE).noisy(x1, x0, step), bar.sqrt() * x1 + (1 - bar).sqrt() * x0)


def test_the_variance_lies_between_the_posteriors_and_the_steps() -> None:
    learned, step = LearnedRange(SCHEDULE), torch.arange(1, STEPS)
    share = torch.linspace(-1, 1, 5, dtype=torch.float64).expand(STEPS - 1, 1, 5)
    found = learned.log_variance(share, step).exp()[:, 0]
    least = torch.tensor([posterior(noise(1), noise(1), int(i))[1] for i in step], dtype=torch.float64)
    torch.testing.assert_close(found[:, 0], least)
    torch.testing.assert_close(found[:, -1], BETAS[1:])
    torch.testing.assert_close(found[:, 2], (least * BETAS[1:]).sqrt())
    assert bool((found.diff(dim=1) > 0).all())


@pytest.mark.parametrize("step", [1, 2, 50, STEPS - 1])
def test_the_bound_is_the_divergence_of_the_two_steps_back(step: int) -> None:
    learned, at = LearnedRange(SCHEDULE), torch.tensor([step])
    x1, x0 = noise(1, 5, 2), noise(1, 2, 5).reshape(1, 5, 2).flip(1)
    guess, share = x0 + 0.3 * x1, torch.tanh(x1 - x0)
    x_t = learned.noisy(x1, x0, at)
    bar = float(BARS[step])
    true, variance = posterior(x1, x_t, step)
    made, _ = posterior((x_t - math.sqrt(1 - bar) * guess) / math.sqrt(bar), x_t, step)
    deviation = (learned.log_variance(share, at) / 2).exp()
    wanted = kl_divergence(Normal(true, math.sqrt(variance)), Normal(made, deviation)) / math.log(2)
    torch.testing.assert_close(learned.bound(guess - x0, share, at), wanted)


def test_the_bound_of_the_first_step_is_the_likelihood_of_the_data() -> None:
    learned, at = LearnedRange(SCHEDULE), torch.tensor([0])
    x1, x0, guess = noise(1, 5, 2), noise(1, 5, 2).flip(1), noise(1, 5, 2).roll(1, 1)
    x_t = learned.noisy(x1, x0, at)
    mean = (x_t - math.sqrt(1 - float(BARS[0])) * guess) / math.sqrt(float(BARS[0]))
    deviation = (learned.log_variance(guess, at) / 2).exp()
    wanted = -Normal(mean, deviation).log_prob(x1) / math.log(2)
    torch.testing.assert_close(learned.bound(guess - x0, guess, at), wanted)


def test_the_bound_teaches_the_variance_alone_and_padding_nothing() -> None:
    learned = LearnedRange(SCHEDULE)
    output, x0 = noise(2, 6, 4, dtype=torch.float32).requires_grad_(), noise(2, 6, 2, dtype=torch.float32)
    mask, step = torch.arange(6)[None] < torch.tensor([[6], [3]]), torch.tensor([7, 60])
    found = learned.loss(output, x0, step, mask, weight=2.0)
    torch.testing.assert_close(found["loss"], found["mse"] + 2 * found["vlb"])
    (vlb,) = torch.autograd.grad(found["vlb"], output, retain_graph=True)
    (mse,) = torch.autograd.grad(found["mse"], output)
    assert float(vlb[..., :2].abs().max()) == 0 == float(mse[..., 2:].abs().max())
    assert float(vlb[..., 2:][mask].abs().min()) > 0 == float((vlb + mse)[~mask].abs().max())


@dataclass(frozen=True)
class Knowing(Gaussian):
    """A Gaussian that also claims to know its variance."""

    claim: float = 0.3

    def share(self, t: Tensor) -> Tensor:
        return torch.full((1, 1, 1), self.claim * float(1 - t), dtype=torch.float64)


def test_an_ancestral_step_draws_with_the_learned_variance() -> None:
    """Respaced steps as the paper's section 4 makes them: betas anew from the products at the steps that are kept."""
    field, kept = Knowing(SCHEDULE), [99, 66, 33, 0]
    x = field.start(2, 5, 3, t=0.0)
    got = solve(field, x, Sampling(solver="ddpm", grid="whole:99", steps=3), (0.0, LAST), schedule=SCHEDULE, rng=rng(3))
    source, wanted = rng(3), x
    for here, there in pairwise(kept):
        t = torch.tensor(1 - (here + 1) / STEPS, dtype=torch.float64)
        bar, before = float(BARS[here]), float(BARS[there])
        beta = 1 - bar / before
        epsilon = to_noise(SCHEDULE, "velocity", field(t, wanted), wanted, t)
        mean = (wanted - beta / math.sqrt(1 - bar) * epsilon) / math.sqrt(1 - beta)
        v = field.claim * float(1 - t)
        logarithm = v * math.log(beta) + (1 - v) * math.log(beta * (1 - before) / (1 - bar))
        wanted = mean + math.exp(logarithm / 2) * torch.randn(x.shape, generator=source, dtype=x.dtype)
    torch.testing.assert_close(got.x, wanted, rtol=1e-9, atol=1e-9)
    how = Sampling(solver="ddpm", grid="whole:99", steps=3)
    other = solve(Gaussian(SCHEDULE), x, how, (0.0, LAST), schedule=SCHEDULE, rng=rng(3))
    assert not torch.allclose(got.x, other.x)


def test_only_ddpm_asks_for_the_learned_variance() -> None:
    how = Sampling(solver="ddim:1", steps=5)
    x = Gaussian(SCHEDULE).start(2, 5, 3)
    fields = (Knowing(SCHEDULE), Gaussian(SCHEDULE))
    one, two = (solve(field, x, how, (0.0, LAST), schedule=SCHEDULE, rng=rng()).x for field in fields)
    assert torch.equal(one, two)


@pytest.mark.parametrize("solver", ["ddim", "dpm++2m", "diffusers-unipc", "heun", "midpoint", "dopri5"])
def test_all_solvers_of_a_noise_predictor_end_alike(solver: str) -> None:
    """At the data that the flow's exact end implies; the more steps, the nearer."""
    if solver.startswith("diffusers"):
        pytest.importorskip("diffusers")
    schedule = Discrete.linear(1000)
    field, end = Gaussian(schedule, mu=0.4, s=0.3), torch.tensor(1 - 1 / 1000, dtype=torch.float64)
    x, errors = field.start(3, 20, 2, t=0.0), []
    exact = field.flow(x, 0.0, end)
    wanted = to_data(schedule, "velocity", field(end, exact), exact, end)
    for steps in (20, 160):
        with torch.inference_mode():
            how = Sampling(solver=solver, grid="whole:999", steps=steps)
            got = solve(field, x, how, (0.0, float(end)), schedule=schedule).x
        found = to_data(schedule, "velocity", field(end, got), got, end)
        errors.append(float((found - wanted).abs().max()))
    assert errors[1] < 0.03 and errors[1] < max(errors[0] / 4, 2e-3), errors


def test_the_ancestral_sampler_ends_in_the_distribution_of_the_data() -> None:
    schedule = Discrete.linear(1000)
    field = Gaussian(schedule, mu=0.4, s=0.3)
    x = field.start(1, 20_000, 1, t=0.0)
    with torch.inference_mode():
        how = Sampling(solver="ddpm", grid="whole:999", steps=999)
        found = solve(field, x, how, (0.0, 0.999), schedule=schedule, rng=rng()).x
    assert float(found.mean()) == pytest.approx(0.4, abs=0.01)
    assert float(found.std()) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("steps", [2, 30, 80, 200, 400, 4000])
def test_a_whole_grid_stands_on_distinct_trained_steps(steps: int) -> None:
    schedule = Discrete.linear(4000)
    times = grid_named("whole:3999")(steps - 1) * (1 - 1 / 4000)
    heard = schedule.timestep(times)
    wanted = [round(i * 3999 / (steps - 1)) for i in reversed(range(steps))]
    torch.testing.assert_close(heard, torch.tensor(wanted, dtype=torch.float64), atol=1e-9, rtol=0)
    assert len(set(wanted)) == steps


def test_a_whole_grid_refuses_more_steps_than_it_has_places() -> None:
    with pytest.raises(UserError, match="room for 9 steps"):
        grid_named("whole:9")(10)


def test_clipping_bounds_the_data_and_leaves_the_rest() -> None:
    field, t = Gaussian(SCHEDULE), torch.tensor(0.4, dtype=torch.float64)
    x = field.start(2, 30, 2, t=0.4)
    data = to_data(SCHEDULE, "velocity", field(t, x), x, t)
    torch.testing.assert_close(Clipped(field, SCHEDULE, -9, 9)(t, x), field(t, x))
    middle = float(data.median())
    clipped = Clipped(field, SCHEDULE, -9, middle)
    found = to_data(SCHEDULE, "velocity", clipped(t, x), x, t)
    torch.testing.assert_close(found, data.clamp(max=middle))
    assert clipped.calls(0.4) == 1 and clipped.share(t) is None
    assert Clipped(replace(Knowing(), schedule=SCHEDULE), SCHEDULE).share(t) is not None


@dataclass(frozen=True)
class Told:
    """A condition of one's own."""

    wish: Tensor
    mask: Tensor
    keep: Tensor

    def null(self) -> Told:
        return replace(self, keep=torch.zeros_like(self.keep))


def test_guidance_takes_any_condition() -> None:
    cond = Told(torch.tensor([1.0, 2.0]), torch.ones(2, 3, dtype=torch.bool), torch.ones(2, dtype=torch.bool))
    t = torch.tensor(0.5, dtype=torch.float64)

    def network(x: Tensor, t: Tensor, cond: Told) -> Tensor:
        return (cond.wish * cond.keep)[:, None, None].expand_as(x)

    found = guided(network, cond, 3.0)(t, torch.zeros(2, 3, 1))
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([3.0, 6.0]))
    assert guided(network, cond, 3.0).share(t) is None
