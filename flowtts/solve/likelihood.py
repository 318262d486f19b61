"""How likely a recording is: the density that a field's flow gives it.

Along dx/dt = v(t, x) the log-density changes by -div v (instantaneous change of variables, arXiv 1806.07366, theorem
1), so that

    log p1(x1) = log p0(x0) - integral from 0 to 1 of div v(t, x_t) dt,

x0 being where the flow comes from (arXiv 2011.13456, eq. 39). The divergence is exact, or Hutchinson's unbiased
estimate e . J e with random probes e of unit covariance (arXiv 1810.01367, eq. 7). It travels in extra channels of
the state, so that every solver for velocities integrates it with the same stages and times as x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from flowtts.path import CondOT, Schedule
from flowtts.solve.adaptive import Adaptive
from flowtts.solve.fixed import FixedStep
from flowtts.solve.integrate import solve, solver_named
from flowtts.solve.multistep import AdamsBashforth
from flowtts.solve.problem import Costed, Rng
from flowtts.types import Field, Sampling, UserError

Probes = Literal["rademacher", "gaussian"]

_CONDOT = CondOT()


@dataclass(frozen=True, eq=False)
class LogLikelihood:
    """Natural logarithms of densities, in nats, of the B items.

    Attributes:
        total: (B,) float64, prior + divergence.
        prior: (B,) log-density of the noise.
        divergence: (B,) minus the integral of the divergence, the mean over the probes.
        standard_error: (B,) of that mean; nan for a single probe, 0 for the exact divergence.
        frames: (B, T) what each frame adds to ``total``; zero where nothing counts. Frames depend on one another, so
            this is not the frame's own density.
        dimensions: (B,) int64 numbers that count: the frames of the mask times C.
        noise: (B, T, C) the state at ``span[0]``.
        nfe: evaluations of the field, each with one backward pass per probe.
        network_calls: of them, forwards.
    """

    total: Tensor
    prior: Tensor
    divergence: Tensor
    standard_error: Tensor
    frames: Tensor
    dimensions: Tensor
    noise: Tensor
    nfe: int
    network_calls: int

    @property
    def per_dimension(self) -> Tensor:
        """(B,) nats per dimension."""
        return self.total / self.dimensions

    @property
    def bits_per_dimension(self) -> Tensor:
        """(B,) bits per dimension in the sense of coding: lower is likelier."""
        return -self.per_dimension / math.log(2)


def log_likelihood(
    field: Field,
    x1: Tensor,
    sampling: Sampling,
    *,
    mask: Tensor | None = None,
    rng: Rng = None,
    probes: int = 1,
    noise: Probes = "rademacher",
    exact: bool = False,
    span: tuple[float, float] = (0.0, 1.0),
    schedule: Schedule = _CONDOT,
) -> LogLikelihood:
    """The log-density of data under the model whose field this is, with a Gaussian prior at ``span[0]``.

    It is the density of the model's own flow only for guidance 1 (or 0, the unconditional model); any other
    field has a density too, but not one that anything was trained to fit. ``sampling`` gives solver, grid and steps;
    its temperature is not read, the prior is the path's. What is known is what stands at ``span[1]``: data smoothed by
    sigma(span[1]). Values depend on the scale of the features: x1 in units half as large loses log 2 per dimension.

    Runs under ``no_grad`` and ``inference_mode`` (gradients are enabled where they are needed), as long as the field
    itself was not made under ``inference_mode``: autograd refuses such tensors.

    Args:
        field: (t, x (B, T, C)) -> velocity, differentiable in x.
        x1: (B, T, C) data.
        sampling: how to solve; a solver for velocities, such as midpoint, rk4 or dopri5.
        mask: (B, T) bool frames whose density is asked for, given the others, which stay as they are in ``x1``
            (padding; known frames). All by default.
        rng: draws the probes, on its own device; one for each item makes an item's estimate independent of its company.
        probes: e per item; the same ones at all times.
        noise: of the probes. "rademacher" (signs) has the smaller variance, and none if the Jacobian is diagonal.
        exact: the true divergence by one backward pass per dimension: for small T C.
        span: times of noise and data; stop short of a singular end.
        schedule: the path of the field; sigma(span[0]) is the deviation of the prior.

    Raises:
        UserError: a solver that does not integrate velocities.
        ValueError: no ``rng`` or no probes although one is needed, an unknown ``noise``, or a field that is not
            differentiable.
    """
    if not isinstance(solver_named(sampling.solver), FixedStep | AdamsBashforth | Adaptive):
        raise UserError(
            f"a likelihood needs a solver that integrates the velocity itself (midpoint, rk4, dopri5 ...), not "
            f"'{sampling.solver}'"
        )
    x1 = x1.to(torch.promote_types(x1.dtype, torch.float32))
    items, length, channels = x1.shape
    mask = torch.ones(items, length, dtype=torch.bool, device=x1.device) if mask is None else mask.to(x1.device)
    tangents = () if exact else _draw(mask, channels, rng, probes, noise, x1.dtype)
    counted = max(1, len(tangents))
    state = torch.cat([x1, x1.new_zeros(items, length, counted)], dim=2)
    end = solve(_Augmented(field, channels, mask, tangents), state, sampling, (span[1], span[0]), schedule=schedule)
    x0, change = end.x[..., :channels], end.x[..., channels:].double()
    sigma = float(schedule(torch.tensor(span[0], dtype=torch.float64)).sigma)
    density = -((x0.double() / sigma) ** 2) / 2 - math.log(sigma) - math.log(2 * math.pi) / 2
    prior = density.sum(2).masked_fill(~mask, 0)
    totals = change.sum(1)
    unknown = totals.new_full((items,), 0.0 if exact else math.nan)
    return LogLikelihood(
        total=prior.sum(1) + totals.mean(1),
        prior=prior.sum(1),
        divergence=totals.mean(1),
        standard_error=totals.std(1) / math.sqrt(counted) if counted > 1 else unknown,
        frames=prior + change.mean(2),
        dimensions=mask.sum(1) * channels,
        noise=x0,
        nfe=end.nfe,
        network_calls=end.network_calls,
    )


def _draw(mask: Tensor, channels: int, rng: Rng, probes: int, noise: Probes, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Probes (B, T, C), zero outside the mask."""
    if probes < 1 or rng is None:
        raise ValueError("Hutchinson's estimator needs a generator and at least one probe; or ask for exact=True")
    if noise not in ("rademacher", "gaussian"):
        raise ValueError(f"probes are rademacher or gaussian, not {noise}")
    generators = [rng] * len(mask) if isinstance(rng, torch.Generator) else rng
    drawn = torch.zeros(probes, *mask.shape, channels, dtype=dtype, device=mask.device)
    for item, (counts, generator) in enumerate(zip(mask, generators, strict=True)):
        # Only for the frames that count: padding an item must not change its probes.
        shape = (probes, int(counts.sum()), channels)
        if noise == "gaussian":
            e = torch.randn(shape, generator=generator, device=generator.device)
        else:
            e = torch.randint(0, 2, shape, generator=generator, device=generator.device) * 2.0 - 1.0
        drawn[:, item, counts] = e.to(drawn)
    return tuple(drawn)


@dataclass(frozen=True, eq=False)
class _Augmented:
    """The field of (x, log-density): velocity and one divergence channel per probe, both zero outside the mask.

    Attributes:
        field: of x alone.
        channels: C of x.
        mask: (B, T) bool.
        tangents: probes, each (B, T, C); none for the exact divergence.
    """

    field: Field
    channels: int
    mask: Tensor
    tangents: tuple[Tensor, ...]

    def calls(self, t: float) -> int:
        """Network calls of one evaluation."""
        return self.field.calls(t) if isinstance(self.field, Costed) else 1

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        """(B, T, C + probes) of the same."""
        with torch.inference_mode(False), torch.enable_grad():
            x = state[..., : self.channels].clone().detach().requires_grad_()
            velocity = self.field(t, x)
            divergence = self._divergence(velocity, x)
        kept = self.mask[..., None]
        return torch.cat([velocity.detach(), divergence.to(velocity.dtype)], dim=2).masked_fill(~kept, 0)

    def _divergence(self, velocity: Tensor, x: Tensor) -> Tensor:
        if velocity.requires_grad:
            return self._estimates(velocity, x) if self.tangents else self._exact(velocity, x)
        # Guidance may hold the velocity at zero for the first steps; anything else without a gradient is a mistake.
        if bool(velocity.any()):
            raise ValueError("the field's velocity has no gradient: it must not run under no_grad or inference_mode")
        return velocity.new_zeros(*velocity.shape[:2], max(1, len(self.tangents)))

    def _estimates(self, velocity: Tensor, x: Tensor) -> Tensor:
        """(B, T, probes): e . J e, by frame."""
        last = len(self.tangents) - 1
        parts = []
        for index, e in enumerate(self.tangents):
            (pulled,) = torch.autograd.grad(velocity, x, e.to(velocity.dtype), retain_graph=index < last)
            parts.append((pulled * e).sum(2))
        return torch.stack(parts, dim=2)

    def _exact(self, velocity: Tensor, x: Tensor) -> Tensor:
        """(B, T, 1): the diagonal of the Jacobian, by frame. One pass does all items, as they are independent."""
        trace = torch.zeros_like(velocity[..., :1])
        for frame in self.mask.any(0).nonzero()[:, 0].tolist():
            for channel in range(self.channels):
                (pulled,) = torch.autograd.grad(velocity[:, frame, channel].sum(), x, retain_graph=True)
                trace[:, frame, 0] += pulled[:, frame, channel]
        return trace
