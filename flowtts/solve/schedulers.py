"""The schedulers of diffusers behind the call of every other solver.

They expect a network that was trained on a variance-preserving path, on its variance-exploding twin, or on straight
lines. All of these are the field's own path after a change of time and scale, so that any field will do: the noise
levels of the grid become those of the scheduler (as betas of a model with exactly these steps, or as its sigmas), each
input is scaled to the field's path, and the velocity found there is turned into what the scheduler wants to hear.

Every scheduler listed follows the given grid and takes noise only from ``rng``. Left out: schedulers of distilled
networks (LCM, TCD, consistency models), those with a grid of their own (IPNDM, score SDEs), and those that draw from
torchsde.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from flowtts.compat import require
from flowtts.path import log_snr
from flowtts.solve.fixed import no_parameter
from flowtts.solve.problem import Problem
from flowtts.solve.stochastic import mix

_NOISIEST, _CLEANEST = 1e3, 1e-4
"""Noise levels sigma / alpha beyond which a scheduler starts at pure noise and ends at pure data."""

_SMALL = 1e-3
"""Where schedulers end that divide by the last noise level."""


@dataclass(frozen=True)
class _Plan:
    """A scheduler with its grid.

    Attributes:
        scheduler: of diffusers.
        times: its timesteps, one for each evaluation.
        level: sigma / alpha of a timestep.
    """

    scheduler: Any
    times: Sequence[Tensor]
    level: Callable[[float], float]


@dataclass(frozen=True)
class Scheduled:
    """A scheduler of diffusers.

    Fields whose path begins without data (flow matching) enter a diffusion scheduler at sigma / alpha = 1000, which
    errs by a thousandth of the data. Runs from noise to data only.

    Attributes:
        name: as users spell it.
        scheduler: the class.
        layout: "all" if set_timesteps(n) uses n training steps and then leaps to the data, "inner" if it uses n of
            n + 1 training steps and ends at the first or at the data, "flow" and "edm" if it takes sigmas.
        space: in what it keeps its state: variance-preserving, exploding, or straight lines.
        noisy: whether it draws.
        options: of the constructor.
    """

    name: str
    scheduler: str
    layout: Literal["all", "inner", "flow", "edm"]
    space: Literal["vp", "ve", "flow"]
    noisy: bool = False
    options: tuple[tuple[str, object], ...] = ()

    def tuned(self, value: float) -> Scheduled:
        """Refuses: there is no parameter.

        Raises:
            UserError: always.
        """
        raise no_parameter(self.name, value)

    def __call__(self, problem: Problem) -> Tensor:
        """Sample along the grid.

        Raises:
            UserError: diffusers is not installed, noise is wanted and there is no rng, or the grid leads backwards.
        """
        problem.require_forward(self.name)
        if self.noisy:
            problem.require_rng(self.name)
        levels = torch.exp(-log_snr(problem.schedule, problem.grid)).clamp(max=_NOISIEST)
        levels[levels < _CLEANEST] = 0
        plan = self._plan(levels)
        alpha, sigma, _, _ = problem.schedule(problem.grid[[0, -1]])
        first, last = (1 / self._scale(alpha, sigma)).tolist()
        sample = problem.x * (first * self._spread(float(levels[0])))
        for time in plan.times:
            shown = plan.scheduler.scale_model_input(sample, time) if self.space != "flow" else sample
            output = self._output(problem, shown, plan.level(float(time)))
            if self.noisy:
                (sample,) = plan.scheduler.step(output, time, sample, generator=problem.rng, return_dict=False)[:1]
            else:
                (sample,) = plan.scheduler.step(output, time, sample, return_dict=False)[:1]
        end: Tensor = sample / (last * self._spread(float(levels[-1])))
        return end.to(problem.x.dtype)

    def _scale(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """How much larger the field's path is than the variance-preserving one, or than straight lines."""
        return alpha + sigma if self.space == "flow" else torch.hypot(alpha, sigma)

    def _spread(self, level: float) -> float:
        """How much larger the scheduler's state is than what it shows the network."""
        return math.sqrt(1 + level**2) if self.space == "ve" else 1.0

    def _output(self, problem: Problem, shown: Tensor, level: float) -> Tensor:
        """What the scheduler wants of a network that sees ``shown`` at a noise level."""
        t = problem.schedule.time_of(torch.tensor(-math.log(level), dtype=torch.float64))
        # Schedulers compute in float32; the field may know its grid points to the bit.
        nearest = problem.grid[(problem.grid - t).abs().argmin()]
        t = nearest if abs(float(nearest - t)) < 1e-5 else t
        at = problem.schedule(t)
        scale = float(self._scale(at.alpha, at.sigma))
        alpha, sigma = 1 / math.hypot(1, level), level / math.hypot(1, level)
        if self.space == "flow":
            data, noise = -1.0, 1.0
        elif self.layout == "edm":
            # With sigma_data = 1 the preconditioned output of arXiv 2206.00364 is minus the v-prediction.
            data, noise = sigma, -alpha
        else:
            data, noise = -sigma, alpha
        of_x, of_v = mix(at, torch.tensor(data, dtype=t.dtype), torch.tensor(noise, dtype=t.dtype))
        x = (shown * scale).to(problem.x.dtype)
        velocity = problem.field(t, x)
        return x * float(of_x) + velocity * float(of_v)

    def _plan(self, levels: Tensor) -> _Plan:
        make = getattr(require("diffusers", "diffusers"), self.scheduler).from_config
        if self.layout == "flow":
            return self._flow(make, levels)
        if self.layout == "edm":
            return self._edm(make, levels)
        steps, clean = len(levels) - 1, float(levels[-1]) == 0
        if self.layout == "inner":
            table = levels.clone()
            ends_at_data = clean and dict(self.options).get("final_sigmas_type") == "zero"
            if clean:
                table[-1] = min(_SMALL, float(levels[-2]) / 2)
            final = {"final_sigmas_type": "zero" if ends_at_data else "sigma_min"}
            options = {**dict(self.options), **(final if "final_sigmas_type" in dict(self.options) else {})}
        else:
            table = levels[:-1] if clean else levels
            options = dict(self.options)
        table = table.flip(0)
        bars = 1 / (1 + table**2)
        betas = 1 - bars / torch.cat((torch.ones(1, dtype=bars.dtype), bars[:-1]))
        scheduler = make(
            {
                **options,
                "num_train_timesteps": len(table),
                "trained_betas": betas.clamp(1e-9, 1 - 1e-9).tolist(),
                "prediction_type": "v_prediction",
            }
        )
        # Its own, in float32, would lose digits at both ends.
        scheduler.alphas_cumprod = bars
        scheduler.set_timesteps(steps if self.layout == "inner" else len(table))
        times = list(scheduler.timesteps)
        if self.layout == "all" and not clean:
            times.pop()
        logs = table.log().tolist()
        return _Plan(scheduler, times, lambda time: math.exp(_interpolate(logs, time)))

    def _flow(self, make: Callable[[Mapping[str, object]], Any], levels: Tensor) -> _Plan:
        share = levels / (1 + levels)
        # At the start the level itself is capped, the share need not be.
        share[0] = 1.0 if float(levels[0]) >= _NOISIEST else share[0]
        inner = share[:-1] if float(share[-1]) == 0 else share
        scheduler = make({**dict(self.options), "num_train_timesteps": 1})
        scheduler.set_timesteps(len(inner))
        sigmas, times = torch.cat((inner, torch.zeros(1, dtype=inner.dtype))), inner
        if self.scheduler == "FlowMatchHeunDiscreteScheduler":
            # Its own layout: every level but the first and the data is visited twice.
            sigmas = torch.cat((sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]))
            times = torch.cat((inner[:1], inner[1:].repeat_interleave(2)))
        scheduler.sigmas, scheduler.timesteps = sigmas, times
        scheduler.set_begin_index(0)
        return _Plan(
            scheduler, list(times) if len(inner) < len(levels) else list(times[:-1]), lambda s: s / max(1 - s, 1e-300)
        )

    def _edm(self, make: Callable[[Mapping[str, object]], Any], levels: Tensor) -> _Plan:
        final = "zero" if float(levels[-1]) == 0 else "sigma_min"
        scheduler = make({**dict(self.options), "sigma_data": 1.0, "final_sigmas_type": final})
        scheduler.set_timesteps(len(levels) - 1)
        scheduler.sigmas, scheduler.timesteps = levels.float(), levels[:-1].log() / 4
        scheduler.set_begin_index(0)
        return _Plan(scheduler, list(scheduler.timesteps), lambda time: math.exp(4 * time))


def _interpolate(table: Sequence[float], position: float) -> float:
    below = min(max(int(position), 0), max(len(table) - 2, 0))
    above = min(below + 1, len(table) - 1)
    return table[below] + (position - below) * (table[above] - table[below])


def _noisy(_: float) -> float:
    """SA-Solver's tau: as much noise everywhere. Its own choice is by timesteps of a training run that there is not."""
    return 1.0


_ZERO = ("final_sigmas_type", "zero")
_EULER_LAST = ("euler_at_final", True)
"""As `flowtts.solve.stochastic`: the last step, of large or infinite h, must not extrapolate from the one before."""

DIFFUSERS: Mapping[str, Scheduled] = {
    solver.name: solver
    for solver in (
        Scheduled("diffusers-flow-euler", "FlowMatchEulerDiscreteScheduler", "flow", "flow"),
        Scheduled("diffusers-flow-heun", "FlowMatchHeunDiscreteScheduler", "flow", "flow"),
        Scheduled("diffusers-ddim", "DDIMScheduler", "all", "vp", options=(("clip_sample", False),)),
        Scheduled("diffusers-ddpm", "DDPMScheduler", "all", "vp", noisy=True, options=(("clip_sample", False),)),
        Scheduled(
            "diffusers-pndm", "PNDMScheduler", "all", "vp",
            options=(("skip_prk_steps", True), ("set_alpha_to_one", True)),
        ),
        Scheduled("diffusers-euler", "EulerDiscreteScheduler", "all", "ve"),
        Scheduled("diffusers-euler-a", "EulerAncestralDiscreteScheduler", "all", "ve", noisy=True),
        Scheduled("diffusers-heun", "HeunDiscreteScheduler", "all", "ve"),
        Scheduled("diffusers-kdpm2", "KDPM2DiscreteScheduler", "all", "ve"),
        Scheduled("diffusers-kdpm2-a", "KDPM2AncestralDiscreteScheduler", "all", "ve", noisy=True),
        Scheduled("diffusers-lms", "LMSDiscreteScheduler", "all", "ve"),
        Scheduled("diffusers-dpm", "DPMSolverMultistepScheduler", "inner", "vp", options=(_ZERO, _EULER_LAST)),
        Scheduled(
            "diffusers-dpm-sde", "DPMSolverMultistepScheduler", "inner", "vp", noisy=True,
            options=(_ZERO, _EULER_LAST, ("algorithm_type", "sde-dpmsolver++")),
        ),
        Scheduled(
            "diffusers-dpm-single", "DPMSolverSinglestepScheduler", "inner", "vp",
            options=(_ZERO, ("lower_order_final", True)),
        ),
        Scheduled("diffusers-unipc", "UniPCMultistepScheduler", "inner", "vp", options=(_ZERO,)),
        Scheduled("diffusers-deis", "DEISMultistepScheduler", "inner", "vp"),
        Scheduled("diffusers-sa", "SASolverScheduler", "inner", "vp", noisy=True, options=(("tau_func", _noisy),)),
        Scheduled("diffusers-edm-euler", "EDMEulerScheduler", "edm", "ve"),
        Scheduled("diffusers-edm-dpm", "EDMDPMSolverMultistepScheduler", "edm", "ve", options=(_EULER_LAST,)),
    )
}  # fmt: skip
"""The suitable schedulers by name."""
