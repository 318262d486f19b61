"""Probability paths: how noise becomes data, and what a network may predict along the way.

Every path here is affine and Gaussian,

    x_t = alpha(t) x1 + sigma(t) x0,    x0 ~ N(0, I) noise at t = 0,    x1 data at t = 1,

so that four numbers (alpha, sigma and their derivatives) are all there is to a schedule, and diffusion and
flow matching share interpolation, prediction kinds and solvers. lambda = log(alpha / sigma) orders the points of all
paths alike: two schedules differ by a change of time and scale (`flowtts.solve.reschedule`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from flowtts.types import UserError

Prediction = Literal["velocity", "data", "noise"]
"""What a network puts out: d x_t/dt, an estimate of x1, or an estimate of x0."""


class Coefficients(NamedTuple):
    """A schedule at some times, each tensor of the shape of t."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor


class Schedule(Protocol):
    """The coefficients of a path as functions of t in [0, 1]. alpha/sigma must grow strictly with t."""

    def __call__(self, t: Tensor) -> Coefficients:
        """Evaluate at ``t``, any shape."""
        ...

    def time_of(self, log_snr: Tensor) -> Tensor:
        """The t at which log(alpha / sigma) = ``log_snr`` (any shape, infinities allowed).

        Beyond the schedule's own range: its nearer end, 0 or 1.
        """
        ...


@dataclass(frozen=True)
class CondOT:
    """Straight lines at constant speed: the conditional optimal-transport path of arXiv 2210.02747, eq. 20 to 23.

    psi_t(x0) = (1 - (1 - sigma_min) t) x0 + t x1, with velocity x1 - (1 - sigma_min) x0. Voicebox uses
    sigma_min = 1e-5 (arXiv 2306.15687), F5-TTS 0.

    Attributes:
        sigma_min: deviation left around the data at t = 1.
    """

    sigma_min: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_min < 1:
            raise ValueError(f"CondOT needs 0 <= sigma_min < 1, not {self.sigma_min}")

    def __call__(self, t: Tensor) -> Coefficients:
        """Evaluate at ``t``, any shape."""
        # 1 - (1 - sigma_min) t, arranged so that float32 gives sigma(1) = sigma_min to full precision.
        sigma = (1 - t) + self.sigma_min * t
        return Coefficients(t, sigma, torch.ones_like(t), torch.full_like(t, self.sigma_min - 1))

    def time_of(self, log_snr: Tensor) -> Tensor:
        """1 / (exp(-lambda) + 1 - sigma_min)."""
        return (1 / (torch.exp(-log_snr) + (1 - self.sigma_min))).clamp(0, 1)


@dataclass(frozen=True)
class VariancePreserving:
    """The diffusion path with linear beta: arXiv 2011.13456, eq. 32 and 33; arXiv 2210.02747, appendix E.1.

    alpha^2 + sigma^2 = 1. alpha(0) is small but not zero (0.0066 by default), and d_sigma is infinite at t = 1:
    solve towards 1 - 1e-3 or so.

    Attributes:
        beta_min: rate of noising at the data.
        beta_max: rate of noising at the noise.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(f"VariancePreserving needs 0 < beta_min <= beta_max, not {self.beta_min}, {self.beta_max}")

    def __call__(self, t: Tensor) -> Coefficients:
        """Evaluate at ``t``, any shape."""
        # Diffusion papers run from data to noise: their time is s = 1 - t, hence ds/dt = -1 in both derivatives.
        s = 1 - t
        beta = self.beta_min + (self.beta_max - self.beta_min) * s
        integral = self.beta_min * s + (self.beta_max - self.beta_min) * s**2 / 2
        alpha = torch.exp(-integral / 2)
        sigma = torch.sqrt(-torch.expm1(-integral))
        return Coefficients(alpha, sigma, alpha * beta / 2, -(alpha**2) * beta / (2 * sigma))

    def time_of(self, log_snr: Tensor) -> Tensor:
        """The positive root of beta_min s + (beta_max - beta_min) s^2 / 2 = log(1 + exp(-2 lambda)), from t = 1 - s."""
        integral = _softplus(-2 * log_snr)
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral)
        # Infinite noise gives inf / inf, which lies beyond the noisiest end.
        return (1 - (2 * integral / (self.beta_min + root)).nan_to_num(nan=math.inf)).clamp(0, 1)


@dataclass(frozen=True)
class VarianceExploding:
    """Data under geometrically growing noise: arXiv 2011.13456, eq. 30 and 31.

    alpha = 1 throughout, so that x_0 = x1 + sigma_max x0: sampling starts from sigma_max times unit noise.

    Attributes:
        sigma_min: deviation at the data (t = 1).
        sigma_max: deviation at the noise (t = 0).
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"VarianceExploding needs 0 < sigma_min < sigma_max, not {self.sigma_min}, {self.sigma_max}"
            )

    def __call__(self, t: Tensor) -> Coefficients:
        """Evaluate at ``t``, any shape."""
        rate = math.log(self.sigma_min / self.sigma_max)
        sigma = self.sigma_max * torch.exp(rate * t)
        return Coefficients(torch.ones_like(t), sigma, torch.zeros_like(t), rate * sigma)

    def time_of(self, log_snr: Tensor) -> Tensor:
        """log(sigma / sigma_max) / log(sigma_min / sigma_max) with log sigma = -lambda."""
        return ((-log_snr - math.log(self.sigma_max)) / math.log(self.sigma_min / self.sigma_max)).clamp(0, 1)


@dataclass(frozen=True)
class Cosine:
    """A quarter of the unit circle at constant speed: arXiv 2102.09672, eq. 17 without its offset.

    alpha = sin(pi t / 2), sigma = cos(pi t / 2). Also known as the trigonometric or generalised
    variance-preserving interpolant (arXiv 2401.08740).
    """

    def __call__(self, t: Tensor) -> Coefficients:
        """Evaluate at ``t``, any shape."""
        alpha, sigma = torch.sin(t * math.pi / 2), torch.cos(t * math.pi / 2)
        return Coefficients(alpha, sigma, sigma * math.pi / 2, -alpha * math.pi / 2)

    def time_of(self, log_snr: Tensor) -> Tensor:
        """atan(exp(lambda)) / (pi / 2)."""
        return torch.atan(torch.exp(log_snr)) / (math.pi / 2)


@dataclass(frozen=True)
class OffsetCosine:
    """The cosine schedule of Improved DDPM with its offset: arXiv 2102.09672, eq. 17, in continuous time.

    alpha = cos(theta) / cos(theta_0), theta = (1 - t + s) / (1 + s) pi / 2, theta_0 its value at the data (t = 1),
    alpha^2 + sigma^2 = 1. The offset keeps noise near the data from being too small; d_sigma is infinite at t = 1.

    Attributes:
        offset: s.
    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        if not 0 < self.offset < 1:
            raise ValueError(f"OffsetCosine needs 0 < offset < 1 (Cosine has none), not {self.offset}")

    @property
    def _rate(self) -> float:
        return math.pi / 2 / (1 + self.offset)

    def __call__(self, t: Tensor) -> Coefficients:
        """Evaluate at ``t``, any shape."""
        first = self.offset * self._rate
        # sin of the complement is exactly 0 at t = 0, and the product of sines exactly 0 at t = 1.
        alpha = torch.sin(t * self._rate) / math.cos(first)
        s = 1 - t
        sigma = torch.sqrt(torch.sin(s * self._rate) * torch.sin((s + 2 * self.offset) * self._rate)) / math.cos(first)
        d_alpha = torch.cos(t * self._rate) * self._rate / math.cos(first)
        return Coefficients(alpha, sigma, d_alpha, -alpha * d_alpha / sigma)

    def time_of(self, log_snr: Tensor) -> Tensor:
        """From tan(theta), both sine and cosine being exact at their ends."""
        first = self.offset * self._rate
        sine = torch.sqrt(math.sin(first) ** 2 + math.cos(first) ** 2 * torch.sigmoid(-2 * log_snr))
        cosine = math.cos(first) * torch.sqrt(torch.sigmoid(2 * log_snr))
        return (torch.atan2(cosine, sine) / self._rate).clamp(0, 1)


@dataclass(frozen=True)
class Discrete:
    """The steps of a discrete diffusion model (arXiv 2006.11239), joined by constant rates of noising.

    alpha^2 = prod (1 - beta_j) over the steps j = 0 to i stands exactly at t = 1 - (i + 1) / T; between two steps
    log(alpha) is linear. t = 1 is the data before its first noising, t = 0 step T - 1. d_sigma is infinite at t = 1.

    Attributes:
        betas: T variances, the first step (least noise) first.
    """

    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.betas or not all(0 < beta < 1 for beta in self.betas):
            raise ValueError("Discrete needs at least one beta, all between 0 and 1")

    @classmethod
    def linear(cls, steps: int = 1000) -> Discrete:
        """The linear betas of DDPM, 1e-4 to 0.02 at 1000 steps, scaled to ``steps`` (Tortoise: 4000)."""
        first, last = 1e-4 * 1000 / steps, 0.02 * 1000 / steps
        return cls(tuple(torch.linspace(first, last, steps, dtype=torch.float64).tolist()))

    @classmethod
    def cosine(cls, steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Discrete:
        """The betas that Improved DDPM derives from `OffsetCosine` (arXiv 2102.09672, eq. 17), clipped at 0.999."""
        bars = OffsetCosine(offset)(torch.linspace(1, 0, steps + 1, dtype=torch.float64)).alpha ** 2
        return cls(tuple((1 - bars[1:] / bars[:-1]).clamp(max=largest).tolist()))

    @cached_property
    def _log_alpha(self) -> Tensor:
        """(T + 1,) float64, from 0 at the data downwards."""
        return torch.log1p(-torch.tensor((0.0, *self.betas), dtype=torch.float64)).cumsum(0) / 2

    def timestep(self, t: Tensor) -> Tensor:
        """The index i in [-1, T - 1] that the model's own papers call t, whole at the steps it was trained on."""
        return (1 - t) * len(self.betas) - 1

    def __call__(self, t: Tensor) -> Coefficients:
        """Evaluate at ``t``, any shape."""
        steps, table = len(self.betas), self._log_alpha.to(t)
        position = (1 - t) * steps
        below = position.detach().floor().clamp(0, steps - 1).long()
        slope = table[below + 1] - table[below]
        log_alpha = table[below] + (position - below) * slope
        alpha, sigma = torch.exp(log_alpha), torch.sqrt(-torch.expm1(2 * log_alpha))
        d_alpha = -steps * slope * alpha
        return Coefficients(alpha, sigma, d_alpha, -alpha * d_alpha / sigma)

    def time_of(self, log_snr: Tensor) -> Tensor:
        """From log(alpha) = -log(1 + exp(-2 lambda)) / 2, linear between the steps."""
        table = self._log_alpha.to(log_snr)
        log_alpha = (-_softplus(-2 * log_snr) / 2).clamp(min=table[-1].item())
        below = (torch.searchsorted(-table, -log_alpha.contiguous(), right=True) - 1).clamp(0, len(self.betas) - 1)
        position = below + (log_alpha - table[below]) / (table[below + 1] - table[below])
        return (1 - position / len(self.betas)).clamp(0, 1)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), full precision everywhere (torch's own is linear above 20)."""
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


SCHEDULES: Mapping[str, Schedule] = {
    "condot": CondOT(),
    "vp": VariancePreserving(),
    "ve": VarianceExploding(),
    "cosine": Cosine(),
    "iddpm": OffsetCosine(),
    "ddpm": Discrete.linear(),
}
"""Schedules with their customary parameters; others are built from the classes."""


def log_snr(schedule: Schedule, t: Tensor) -> Tensor:
    """log(alpha / sigma) at ``t``, any shape: minus infinity where there is no data, infinity without noise.

    DPM-Solver's lambda (arXiv 2206.00927), half the logarithm of the ratio of powers.
    """
    alpha, sigma, _, _ = schedule(t)
    return torch.log(alpha) - torch.log(sigma)


def _coefficients(schedule: Schedule, t: Tensor, x: Tensor) -> Coefficients:
    """The schedule at ``t`` (B,) or scalar, shaped to multiply ``x`` (B, ...) and in its dtype."""
    t = t.reshape(t.shape + (1,) * (x.ndim - t.ndim))
    # In the wider of both dtypes: half precision would ruin the coefficients, and float64 data deserves float64.
    return Coefficients(*(c.to(x.dtype) for c in schedule(t.to(torch.promote_types(t.dtype, x.dtype)))))


def interpolate(schedule: Schedule, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """A point of the path and its velocity: what flow matching trains on.

    Args:
        schedule: the path.
        x0: (B, T, C) noise.
        x1: (B, T, C) data.
        t: (B,) times, or a scalar.

    Returns:
        x_t = alpha x1 + sigma x0 and d x_t/dt = d_alpha x1 + d_sigma x0, both (B, T, C).
    """
    alpha, sigma, d_alpha, d_sigma = _coefficients(schedule, t, x1)
    return alpha * x1 + sigma * x0, d_alpha * x1 + d_sigma * x0


def _endpoints(schedule: Schedule, kind: Prediction, prediction: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The noise and the data, (x0, x1), that a prediction at ``x`` implies: two linear equations."""
    alpha, sigma, d_alpha, d_sigma = _coefficients(schedule, t, x)
    if kind == "velocity":
        determinant = d_alpha * sigma - alpha * d_sigma
        return (d_alpha * x - alpha * prediction) / determinant, (sigma * prediction - d_sigma * x) / determinant
    if kind == "data":
        return (x - alpha * prediction) / sigma, prediction
    if kind == "noise":
        return prediction, (x - sigma * prediction) / alpha
    raise UserError(f"unknown prediction '{kind}': a network predicts velocity, data or noise")


def to_velocity(schedule: Schedule, kind: Prediction, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The velocity that a network's prediction stands for, so that all networks share the solvers.

    Singular where the prediction says nothing about the other end point: "data" divides by sigma (t = 1 for
    Cosine, VariancePreserving and CondOT with sigma_min = 0; nearly so for a small sigma_min), "noise" divides by
    alpha (t = 0 for CondOT and Cosine). Give `flowtts.solve.solve` a span that stops short of such an end.

    Args:
        schedule: the path the network was trained on.
        kind: what it predicts.
        prediction: (B, T, C) its output.
        x: (B, T, C) its input x_t.
        t: (B,) times, or a scalar.

    Returns:
        (B, T, C); ``prediction`` itself for kind "velocity".

    Raises:
        UserError: ``kind`` is unknown.
    """
    if kind == "velocity":
        return prediction
    x0, x1 = _endpoints(schedule, kind, prediction, x, t)
    _, _, d_alpha, d_sigma = _coefficients(schedule, t, x)
    return d_alpha * x1 + d_sigma * x0


def to_data(schedule: Schedule, kind: Prediction, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The x1 that a prediction stands for. Arguments as in `to_velocity`; "noise" divides by alpha."""
    return _endpoints(schedule, kind, prediction, x, t)[1]


def to_noise(schedule: Schedule, kind: Prediction, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The x0 that a prediction stands for. Arguments as in `to_velocity`; "data" divides by sigma."""
    return _endpoints(schedule, kind, prediction, x, t)[0]
