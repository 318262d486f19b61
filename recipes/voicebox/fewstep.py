"""Few-step Voicebox: a student that takes long steps along its teacher's trajectories, guidance built in.

The student u(x_t, t, s) predicts the mean velocity of a trajectory between t and s, so that
x_s = x_t + (s - t) u needs one network call however long the step (solver "flowmap"). Three ways to learn it:

``trajectory``
    The teacher's solver is run and the student regresses the mean velocities between its states: progressive
    distillation (arXiv 2202.00512) of all dyadic step lengths at once, which is how shortcut models condition on the
    step (arXiv 2410.12557) and flow maps are distilled (arXiv 2406.07507). Half of the trajectories start from where
    the student's own steps have led, since that is what it meets when it speaks.
``meanflow``
    No trajectory: the identity u = v + (s - t) du/dt (arXiv 2505.13447, eq. 6, with time running from noise to data),
    its derivative a Jacobian-vector product of the student along the teacher's guided velocity v.
``reflow``
    Flow matching on the teacher's own pairs of noise and data (arXiv 2209.03003), whose paths are straighter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from flowtts.mask import rand, randn
from flowtts.path import CondOT, interpolate
from flowtts.solve import guided, solve
from flowtts.types import Batch, Condition, Field, Sampling

from .audio import AudioModel
from .config import AudioConfig

Method = Literal["trajectory", "meanflow", "reflow"]


@dataclass(frozen=True)
class FewStepConfig:
    """How a student learns from its teacher.

    Attributes:
        method: "trajectory", "meanflow" or "reflow".
        guidance: of the teacher; built into the student, which takes none.
        temperature_low: the initial noise has a deviation drawn between this …
        temperature_high: … and this, for each utterance.
        solver: the teacher's.
        steps: the teacher's, a power of two: the finest step that the student learns.
        longest: step that is learnt, in those of the teacher; 0 for the whole way.
        pairs: mean velocities learnt from each trajectory.
        own_share: share of trajectories that start from the student's own states.
        known_weight: weight of the frames that are given. Their velocity does not sound, but the later steps see them.
        drop_context: probability that an utterance has no context at all, as ``sample`` asks.
        instant_share: share of the pairs with s = t, the teacher's velocity itself.
        difference: half the interval of the central difference that stands for du/dt in "meanflow"; 0 takes the
            exact derivative, which the fast sines of the time embedding make noisy.
    """

    method: Method = "trajectory"
    guidance: float = 1.3
    temperature_low: float = 0.65
    temperature_high: float = 0.85
    solver: str = "midpoint"
    steps: int = 8
    longest: int = 0
    pairs: int = 6
    own_share: float = 0.5
    known_weight: float = 0.1
    drop_context: float = 0.15
    instant_share: float = 0.1
    difference: float = 0.02

    def __post_init__(self) -> None:
        if self.steps < 1 or self.steps & (self.steps - 1):
            raise ValueError(f"steps must be a power of two, not {self.steps}")
        if self.pairs < 1 or self.longest < 0:
            raise ValueError(f"pairs must be at least 1 and longest at least 0, not {self.pairs} and {self.longest}")
        if not 0 < self.temperature_low <= self.temperature_high:
            raise ValueError("temperature_low must be positive and at most temperature_high")


class FewStepModel(AudioModel):
    """A student in training. Its weights are an `AudioModel`'s with ``average`` on.

    Args:
        config: of the student.
        teacher: of the same sizes; copied from, and not trained.
        how: the method and its numbers.
    """

    def __init__(self, config: AudioConfig, teacher: AudioModel, how: FewStepConfig) -> None:
        super().__init__(config)
        self.how = how
        # In a tuple, it is no submodule: neither trained nor saved with the student.
        self._teacher = (teacher.eval().requires_grad_(False),)
        self.load_state_dict({**self.state_dict(), **teacher.state_dict()})

    def teacher(self, device: torch.device) -> AudioModel:
        """The teacher, moved to a device."""
        return self._teacher[0].to(device)

    def loss(self, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Squared error of the mean velocity, by the configured method; given frames count ``known_weight``."""
        teacher = self.teacher(batch.features.device)
        cond, unknown, x0 = self.question(batch, rng)
        weight = unknown + self.how.known_weight * (cond.mask & ~unknown)
        if self.how.method == "meanflow":
            return self._meanflow(teacher, cond, x0, batch.features, weight, rng)
        if self.how.method == "reflow":
            return self._reflow(teacher, cond, x0, weight, rng)
        return self._trajectory(teacher, cond, x0, weight, rng)

    def question(self, batch: Batch, rng: torch.Generator) -> tuple[Condition, Tensor, Tensor]:
        """What the teacher is asked: its training masks, but text and context are never dropped together.

        Returns:
            The condition, the (B, T) mask of frames to generate, and the noise (B, T, C).
        """
        shape, device = batch.features.shape, batch.features.device
        cond, _ = self.condition(batch, rng)
        # Training drops the context more often than anybody asks for it; those utterances get a prompt back.
        alone = rand((len(batch.frames),), rng, device) < self.how.drop_context
        prompted = ~cond.known.any(1) & ~alone
        place = torch.arange(shape[1], device=device)[None]
        prompt = (place < (0.3 * batch.frames[:, None])) & cond.mask
        known = torch.where(prompted[:, None], prompt, cond.known)
        context = batch.features * known[..., None].to(batch.features.dtype)
        low, high = self.how.temperature_low, self.how.temperature_high
        temperature = low + (high - low) * rand((shape[0], 1, 1), rng, device)
        x0 = randn(shape, rng, device) * temperature * cond.mask[..., None]
        return Condition(cond.text, context, known, cond.mask, torch.ones_like(cond.keep)), cond.mask & ~known, x0

    def _field(self, teacher: AudioModel, cond: Condition) -> Field:
        return guided(teacher, cond, self.how.guidance)

    def _trajectory(
        self, teacher: AudioModel, cond: Condition, x0: Tensor, weight: Tensor, rng: torch.Generator
    ) -> Mapping[str, Tensor]:
        how = self.how
        device = x0.device
        with torch.no_grad():
            begin = self._begin(rng)
            x = x0 if begin == 0 else self._own(cond, x0, begin)
            field = self._field(teacher, cond)
            states = [x]
            for index in range(begin, how.steps):
                span = (index / how.steps, (index + 1) / how.steps)
                states.append(solve(field, states[-1], Sampling(solver=how.solver, steps=1), span=span).x)
        losses = []
        for _ in range(how.pairs):
            first, last = self._pair(begin, rng)
            t, s = (torch.full((len(x0),), index / how.steps, device=device) for index in (first, last))
            x_t = states[first - begin]
            if first == last:
                with torch.no_grad():
                    target = field(torch.tensor(first / how.steps, dtype=torch.float64), x_t)
            else:
                target = (states[last - begin] - x_t) * (how.steps / (last - first))
            error = (self(x_t, t, cond, s).float() - target.float()) ** 2
            losses.append(_weighted_mean(error, weight))
        return {"loss": torch.stack(losses).mean()}

    def _begin(self, rng: torch.Generator) -> int:
        """Where a trajectory starts: at the noise, or at a state that 1, 2, … or all but one long steps lead to."""
        if self.how.steps == 1 or float(rand((), rng, torch.device("cpu"))) >= self.how.own_share:
            return 0
        strides = self.how.steps.bit_length() - 1
        stride = self.how.steps >> (1 + int(float(rand((), rng, torch.device("cpu"))) * min(strides, 2)))
        stride = max(stride, 1)
        return stride * (1 + int(float(rand((), rng, torch.device("cpu"))) * (self.how.steps // stride - 1)))

    def _own(self, cond: Condition, x0: Tensor, begin: int) -> Tensor:
        """The student's own state at ``begin``, by the longest steps that lead there evenly."""
        stride = begin & -begin
        x = x0
        for first in range(0, begin, stride):
            t, s = (
                torch.full((len(x0),), index / self.how.steps, device=x0.device) for index in (first, first + stride)
            )
            x = x + stride / self.how.steps * self(x, t, cond, s).float()
        return x

    def _pair(self, begin: int, rng: torch.Generator) -> tuple[int, int]:
        """The ends of a step: dyadic, as solvers of 1, 2, 4, … steps take them, not before ``begin``."""
        draw = [float(u) for u in rand((3,), rng, torch.device("cpu"))]
        if draw[0] < self.how.instant_share:
            first = begin + int(draw[1] * (self.how.steps - begin))
            return first, first
        longest = min(self.how.longest or self.how.steps, self.how.steps - begin)
        strides = [n for n in (1 << k for k in range(self.how.steps.bit_length())) if n <= longest]
        stride = strides[int(draw[1] * len(strides))]
        firsts = range(-(-begin // stride) * stride, self.how.steps, stride)
        first = firsts[int(draw[2] * len(firsts))]
        return first, first + stride

    def _reflow(
        self, teacher: AudioModel, cond: Condition, x0: Tensor, weight: Tensor, rng: torch.Generator
    ) -> Mapping[str, Tensor]:
        with torch.no_grad():
            x1 = solve(self._field(teacher, cond), x0, Sampling(solver=self.how.solver, steps=self.how.steps)).x
        losses = []
        for _ in range(self.how.pairs):
            t = rand((len(x0),), rng, x0.device)
            x_t, target = interpolate(CondOT(0.0), x0, x1.float(), t)
            losses.append(_weighted_mean((self(x_t, t, cond).float() - target) ** 2, weight))
        return {"loss": torch.stack(losses).mean()}

    def _meanflow(
        self, teacher: AudioModel, cond: Condition, x0: Tensor, x1: Tensor, weight: Tensor, rng: torch.Generator
    ) -> Mapping[str, Tensor]:
        device = x0.device
        ends = rand((2, len(x0)), rng, device)
        t, s = ends.amin(0), ends.amax(0)
        instant = rand(t.shape, rng, device) < self.how.instant_share
        s = torch.where(instant, t, s)
        x_t, _ = interpolate(CondOT(self.config.sigma_min), x0, x1, t)
        with torch.no_grad():
            v = self._velocity(teacher, cond, x_t, t)
            target = v + (s - t)[:, None, None] * self._change(cond, x_t, t, s, v)
        error = (self(x_t, t, cond, s).float() - target) ** 2
        # The paper's adaptive weight with p = 1 (its section 4.3): steep identities must not drown the rest.
        each = (error * weight[..., None]).mean((1, 2)) / weight.mean(1).clamp(min=1e-6)
        return {"loss": (each / (each.detach() + 1e-3)).mean(), "squared": each.detach().mean()}

    def _change(self, cond: Condition, x: Tensor, t: Tensor, s: Tensor, v: Tensor) -> Tensor:
        """du/dt (B, T, C) at fixed s along the velocity v."""
        if self.how.difference == 0:
            # Forward-mode differentiation knows only the plain form of attention.
            with sdpa_kernel(SDPBackend.MATH):
                tangents = (v, torch.ones_like(t))
                made = torch.func.jvp(lambda x, time: self(x, time, cond, s).float(), (x, t), tangents)
            exact: Tensor = made[1]
            return exact
        before, after = (t - self.how.difference).clamp(min=0), torch.minimum(t + self.how.difference, s)
        # The rounding of bfloat16 would be the larger part of so small a difference.
        with torch.autocast(x.device.type, enabled=False):
            ends = [self(x + (at - t)[:, None, None] * v, at, cond, s) for at in (before, after)]
        slope: Tensor = (ends[1] - ends[0]) / (after - before).clamp(min=1e-4)[:, None, None]
        return slope

    def _velocity(self, teacher: AudioModel, cond: Condition, x: Tensor, t: Tensor) -> Tensor:
        """The teacher's guided velocity at a time of each item's own."""
        kept, free = teacher(x, t, cond).float(), teacher(x, t, cond.null()).float()
        return torch.lerp(free, kept, self.how.guidance)


def _weighted_mean(error: Tensor, weight: Tensor) -> Tensor:
    """Mean of error (B, T, C) with weights (B, T)."""
    return (error * weight[..., None]).sum() / (weight.sum() * error.shape[-1]).clamp(min=1e-6)
