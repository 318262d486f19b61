"""Samplers side by side: ours, those of peers, and the bare calls of the network that they all have to make.

A `Job` is what is sampled: a network, conditions and noise. Every function here takes one and returns a sampler,
steps -> network calls made, that takes the steps it is told to. Guidance is null + g (cond - null) with both branches
as one batch of 2 B, except where a peer's own code runs one branch after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from peers_imports import peer
from peers_timing import Contestant, Stopwatch
from torch import Tensor, nn

from flowtts.solve import guided, solve
from flowtts.types import Condition, Sampling

Sampler = Callable[[int], int]
"""Evaluations of the field wanted -> evaluations made."""


class Network(Protocol):
    """``flowtts.recipes.voicebox.AudioModel`` and whatever is called like it."""

    def __call__(self, x: Tensor, t: Tensor, cond: Condition) -> Tensor:
        """Velocity (B, T, C) at x (B, T, C), times t (B,)."""
        ...

    def prepare(self, cond: Condition) -> Callable[[Tensor, Tensor], Tensor]:
        """The network with its condition: (t scalar on the CPU, x (B, T, C)) -> (k B, T, C)."""
        ...


@dataclass(frozen=True, eq=False)
class Job:
    """What every sampler has to do.

    Attributes:
        network: with its time measured, see `Timed`.
        cond: of B items.
        noise: (B, T, C).
        scale: g of the guidance; 1 needs one branch only.
    """

    network: Timed
    cond: Condition
    noise: Tensor
    scale: float

    @property
    def branches(self) -> int:
        """Of the batch: 2 under guidance."""
        return 1 if self.scale == 1 else 2

    def both(self) -> Condition:
        """The condition of all branches, conditional items first."""
        if self.branches == 1:
            return self.cond
        pairs = ((getattr(self.cond, f.name), getattr(self.cond.null(), f.name)) for f in fields(Condition))
        return Condition(*(torch.cat(pair) for pair in pairs))

    def velocity(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The field as one writes it by hand: (t scalar, x (B, T, C)) -> (B, T, C), the condition stacked once."""
        cond, scale = self.both(), self.scale

        def field(t: Tensor, x: Tensor) -> Tensor:
            if scale == 1:
                return self.network.plain(x, t.to(x.dtype).expand(len(x)), cond)
            made = self.network.plain(torch.cat([x, x]), t.to(x.dtype).expand(2 * len(x)), cond)
            full, null = made.chunk(2)
            return null + scale * (full - null)

        return field


class Timed:
    """A network that knows how long it has been running; calls and prepared calls alike, but not preparing.

    Args:
        network: what runs.
        watch: sums its seconds.
        dtype: of its weights.
    """

    def __init__(self, network: Network, watch: Stopwatch, dtype: torch.dtype = torch.float32) -> None:
        self.network, self.watch, self.dtype = network, watch, dtype

    def plain(self, x: Tensor, t: Tensor, cond: Condition) -> Tensor:
        """The network as it is, without anything prepared."""
        return self.watch(lambda: self.network(x.to(self.dtype), t, cond).to(x.dtype))

    def prepare(self, cond: Condition) -> Callable[[Tensor, Tensor], Tensor]:
        """What ``flowtts.solve.guided`` asks for."""
        ready = self.network.prepare(cond)
        return lambda t, x: self.watch(lambda: ready(t, x))


def bare(job: Job) -> Sampler:
    """The calls of the network in a loop and nothing else: what no sampler can do without."""
    cond = job.both()
    x = job.noise.repeat(job.branches, 1, 1)
    t = torch.full((len(x),), 0.5, dtype=x.dtype, device=x.device)

    def run(steps: int) -> int:
        for _ in range(steps):
            job.network.plain(x, t, cond)
        return steps

    return run


def bare_prepared(job: Job) -> Sampler:
    """The same of the prepared network, prepared beforehand."""
    ready = job.network.prepare(job.both())

    def run(steps: int) -> int:
        for step in range(steps):
            ready(torch.tensor(step / steps, dtype=torch.float64), job.noise)
        return steps

    return run


def ours(job: Job, solver: str, stages: int, grid: str = "uniform") -> Sampler:
    """``flowtts.solve``, with everything it does per utterance."""

    def run(steps: int) -> int:
        sampling = Sampling(solver, grid, steps=max(1, steps // stages))
        return solve(guided(job.network, job.cond, job.scale), job.noise, sampling).nfe

    return run


def ours_plain(job: Job, solver: str, stages: int) -> Sampler:
    """``flowtts.solve`` over a network that cannot be prepared: the sampler alone."""

    def run(steps: int) -> int:
        sampling = Sampling(solver, steps=max(1, steps // stages))
        return solve(guided(job.network.plain, job.cond, job.scale), job.noise, sampling).nfe

    return run


def torchdiffeq(job: Job, method: str, stages: int) -> Sampler:
    """``torchdiffeq.odeint`` over the field written by hand."""
    odeint = peer("torchdiffeq").odeint

    def run(steps: int) -> int:
        grid = torch.linspace(0, 1, max(1, steps // stages) + 1, device=job.noise.device)
        odeint(job.velocity(), job.noise, grid, method=method)
        return stages * (len(grid) - 1)

    return run


def diffusers(job: Job, scheduler: str, **options: Any) -> Sampler:
    """The loop of diffusers' flow-matching pipelines; its time runs from 1 (noise) to 0 in thousandths."""
    build = getattr(peer("diffusers"), scheduler)
    stages = 2 if "Heun" in scheduler else 1

    def run(steps: int) -> int:
        plan, field, x = build(**options), job.velocity(), job.noise
        # Heun's last step has one stage only.
        plan.set_timesteps(-(-steps // stages), device=x.device)
        for moment in plan.timesteps:
            x = plan.step(-field(1 - moment / 1000, x), moment, x, return_dict=False)[0]
        return len(plan.timesteps)

    return run


def f5(job: Job) -> Sampler:
    """F5-TTS's ``CFM.sample`` with our network as its transformer, from noise to mel; the mel of the prompt is given.

    Its noise, its grid (EPSS with sway sampling) and its guidance, cfg_strength = g - 1.
    """
    model = peer("f5_tts.model.cfm").CFM(F5Network(job), num_channels=job.noise.shape[-1]).to(job.noise.device)
    return f5_sampler(model, job)


def f5_sampler(model: Any, job: Job) -> Sampler:
    """``CFM.sample`` of a model, for the prompt and the lengths of a job."""
    known = int(job.cond.known[0].sum())
    prompt, text = job.cond.prompt[:, :known], characters(job.cond)

    def run(steps: int) -> int:
        model.sample(prompt, text, job.noise.shape[1], steps=steps, cfg_strength=job.scale - 1, sway_sampling_coef=-1.0)
        return steps

    return run


def characters(cond: Condition) -> Tensor:
    """(B, L) text as F5-TTS has it, unaligned: every tenth frame's id."""
    return cond.text[:, ::10].contiguous()


class F5Network(nn.Module):
    """A job's network where F5-TTS expects its own."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job, self.dim, self.both = job, job.noise.shape[-1], job.both()
        self.anchor = nn.Parameter(torch.zeros(1))  # CFM asks its parameters for device and dtype

    def forward(self, x: Tensor, time: Tensor, cfg_infer: bool = False, **_: Any) -> Tensor:
        """Velocity of both branches with ``cfg_infer``; what is passed for conditions is what the job has already."""
        if cfg_infer:
            x = torch.cat([x, x])
        return self.job.network.plain(x, time.expand(len(x)), self.both)

    def clear_cache(self) -> None:
        """The condition is the job's: nothing is kept."""


def voicebox_pytorch(job: Job) -> Sampler:
    """voicebox-pytorch's ``ConditionalFlowMatcherWrapper.sample``: midpoint, its two branches one after the other."""
    package = peer("voicebox_pytorch")
    kind: Any = package.VoiceBox

    class Adapted(kind):  # type: ignore[misc]
        """A job's network where the package expects its own; guidance is the package's."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.anchor = nn.Parameter(torch.zeros(1, device=job.noise.device))
            self.condition_on_text, self.audio_enc_dec = False, None
            self.full, self.null = job.cond, job.cond.null()

        def forward(self, x: Tensor, *, times: Tensor, cond_drop_prob: float, **_: Any) -> Tensor:
            cond = self.full if cond_drop_prob == 0 else self.null
            return job.network.plain(x, times.expand(len(x)), cond)

    model = package.ConditionalFlowMatcherWrapper(Adapted())

    def run(steps: int) -> int:
        points = max(1, steps // 2) + 1
        model.sample(cond=job.cond.prompt, steps=points, cond_scale=job.scale, decode_to_audio=False)
        return 2 * (points - 1)

    return run


class DiTNetwork:
    """F5-TTS's own network where flowtts expects one; prepared, it caches its text as it does for its own sampler.

    Args:
        dit: the network.
    """

    def __init__(self, dit: Any) -> None:
        self.dit = dit

    def __call__(self, x: Tensor, t: Tensor, cond: Condition) -> Tensor:
        """One branch, nothing cached."""
        made: Tensor = self.dit(x=x, cond=cond.prompt, text=characters(cond), time=t, mask=self._mask(cond))
        return made

    def prepare(self, cond: Condition) -> Callable[[Tensor, Tensor], Tensor]:
        """Both branches run as the network itself packs them."""
        packed = not bool(cond.keep.all())
        items = len(cond.keep) // 2 if packed else len(cond.keep)
        first = replace(cond, **{f.name: getattr(cond, f.name)[:items] for f in fields(Condition)})
        text, mask = characters(first), self._mask(first)
        self.dit.clear_cache()

        def call(t: Tensor, x: Tensor) -> Tensor:
            at = torch.full((len(x),), float(t), dtype=x.dtype, device=x.device)
            made: Tensor = self.dit(x=x, cond=first.prompt, text=text, time=at, mask=mask, cfg_infer=packed, cache=True)
            return made

        return call

    @staticmethod
    def _mask(cond: Condition) -> Tensor | None:
        """As F5-TTS's sampler: none for a single item."""
        return cond.mask if len(cond.mask) > 1 else None


class TimedDiT(nn.Module):
    """F5-TTS's network in its own sampler, with its seconds measured.

    Args:
        dit: the network.
        watch: sums its seconds.
    """

    def __init__(self, dit: Any, watch: Stopwatch) -> None:
        super().__init__()
        self.dit, self.watch, self.dim = dit, watch, dit.dim

    def forward(self, **given: Any) -> Tensor:
        """As the network."""
        return self.watch(lambda: self.dit(**given))

    def clear_cache(self) -> None:
        """As the network."""
        self.dit.clear_cache()


def contestant(
    name: str, sampler: Sampler, steps: int, watch: Stopwatch | None, mode: Callable[[], AbstractContextManager[None]]
) -> Contestant:
    """A sampler as something to be timed.

    Args:
        name: of it.
        sampler: what runs.
        steps: evaluations.
        watch: of its network; None where calls return before they are done, as on a GPU.
        mode: a context to run it in.
    """

    def run(count: int) -> int:
        if watch is not None:
            watch.reset()
        with mode():
            return sampler(count)

    inside = None if watch is None else (lambda: watch.seconds)
    return Contestant(name, lambda: run(steps), inside, lambda: run(min(2, steps)))
