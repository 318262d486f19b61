"""One update of a codec and of its discriminators, and all that it depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from flowtts.ema import EMA
from flowtts.train import derived_seed
from flowtts.train_config import learning_rate, make_optimiser
from flowtts.train_process import Processes, scalars
from flowtts.train_state import Position

from ..vocos_losses import SpectralLoss
from .balancer import Balancer
from .config import MimiRun, Run
from .forms import CodecModule, Copying, make
from .judges import Panel, Verdict
from .losses import MelLoss, adversarial_loss, judges_loss, matching_loss
from .teacher import Teacher


class Trainer:
    """A run in memory. Everything random in it comes from (seed, step, rank), so that it can go on where it stopped.

    The codec and its discriminators learn at the same time from the same verdicts: what the codec hears is what they
    said before this step. (The authors' programs let them learn first and ask them again, for half as much work more.)

    Attributes:
        network: the codec.
        panel: its discriminators, or None.
        ema: keeps the codec with averaged weights; on the main process only.
        steps: updates done.
        taught: updates of the discriminators.
        heard: updates in which they took part.
    """

    def __init__(self, run: Run, processes: Processes) -> None:
        """Random weights from ``run.train.seed``, or those that the run starts from."""
        self.run, self.processes, self.device = run, processes, processes.device
        self.teacher = _teacher(run, self.device)
        self.network: CodecModule = make(run, self.teacher).to(self.device).train()
        self.panel = _panel(run, self.device)
        self.ema = EMA(self.network, run.train.ema) if processes.main else None
        rate, losses = self.network.spec.sample_rate, run.losses
        self.mel = MelLoss(rate, losses.mel_windows, losses.mel_bands, losses.mel_form).to(self.device)
        self.spectral = SpectralLoss(rate, losses.windows, slopes=losses.slopes).to(self.device)
        self.balancer = Balancer(losses.norm, losses.decay, losses.balanced)
        self.optimiser = make_optimiser(self.network, run.train)
        self.judging = None if self.panel is None else make_optimiser(self.panel, run.train)
        self.copying = processes.prepare(Copying(self.network, run.decoder_only))
        self.prepared = None if self.panel is None else processes.prepare(self.panel)
        self.steps = self.taught = self.heard = 0
        self.used: list[Tensor] = []

    def update(self, batches: Sequence[Tensor], done: float, warmed: float) -> dict[str, float]:
        """One update from as many batches (B, N); returns the losses.

        Raises:
            Broken: a loss or gradient is not finite anywhere; no weight was touched.
        """
        run, place = self.run, (self.run.train.seed, self.steps)
        rng = torch.Generator(self.device).manual_seed(derived_seed(*place, self.processes.rank, 0))
        torch.manual_seed(derived_seed(*place, self.processes.rank, 1))
        joined = self.panel is not None and done >= run.judges.begin
        # Of the step alone: all processes must agree.
        chance = torch.rand((), generator=torch.Generator().manual_seed(derived_seed(*place)))
        taught = joined and bool(chance < run.judges.chance)
        self.used = list(batches)
        total: dict[str, Tensor] = {}
        for index, batch in enumerate(batches):
            last = index + 1 == len(batches)
            for name, value in self._gradients(batch, rng, joined, taught, len(batches), last).items():
                total[name] = total.get(name, 0.0) + value.detach().float() / len(batches)
        most = math.inf if run.train.clip is None else run.train.clip
        total["grad_norm"] = nn.utils.clip_grad_norm_(self.network.parameters(), most)
        if taught and self.panel is not None:
            total["judges_grad_norm"] = nn.utils.clip_grad_norm_(self.panel.parameters(), most)
        values = scalars(total)
        if self.processes.largest(not all(map(math.isfinite, values.values())))[0]:
            raise Broken(values)
        rate = learning_rate(run.train, self.steps, done, warmed)
        _descend(self.optimiser, rate)
        if taught and self.judging is not None:
            _descend(self.judging, self._judges_rate(done, warmed))
        self.steps, self.taught, self.heard = self.steps + 1, self.taught + taught, self.heard + joined
        if self.ema is not None:
            self.ema.update(self.network, self.steps)
        return values | {"learning_rate": rate}

    @property
    def average(self) -> CodecModule:
        """The codec with averaged weights, on the main process."""
        assert self.ema is not None
        return cast("CodecModule", self.ema.network)

    def losses(self, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Of (B, N) samples without discriminators, those that have a weight."""
        found, weights = {}, self.run.losses
        if weights.waveform > 0:
            found["waveform"] = (made - real).abs().mean()
        if weights.mel > 0:
            found["mel"] = self.mel(made, real)
        if weights.spectral > 0:
            found["spectral"] = self.spectral(made, real)["spectral"]
        return found

    def _gradients(
        self, batch: Tensor, rng: torch.Generator, joined: bool, taught: bool, parts: int, last: bool
    ) -> dict[str, Tensor]:
        """Adds up the gradients of one batch, of ``parts`` in an update; returns its losses."""
        run, losses = self.run, self.run.losses
        real = batch[: run.crops.adversarial_batch] if joined else batch
        with nullcontext() if last else self.processes.unsynchronised(self.copying), self._autocast():
            copy = self.copying(real, rng, self._target(real))
        # Cut here: what losses and discriminators say reaches the codec by this gradient and in no other way.
        made = copy.samples.detach().float().requires_grad_()
        found = self.losses(made, real)
        taking: Tensor | None = None
        if joined and self.panel is not None:
            real_verdicts, made_verdicts = self._judge(real, made, taught, last)
            shares = self.panel.shares
            found["adversarial"] = adversarial_loss(made_verdicts, shares)
            found["matching"] = matching_loss(real_verdicts, made_verdicts, shares, losses.relative)
            taking = judges_loss(real_verdicts, made_verdicts, shares)
        gradient = self.balancer(found, self._weights(), made)
        apart = losses.commitment * copy.commitment + losses.distillation * copy.distillation
        ways = [(copy.samples, gradient.to(copy.samples.dtype) / parts)]
        if apart.requires_grad:
            ways.append((apart, torch.ones_like(apart) / parts))
        torch.autograd.backward([way for way, _ in ways], [grad for _, grad in ways])
        if taking is not None:
            found["judges"] = taking
            if taught:
                (taking / parts).backward()  # type: ignore[no-untyped-call]
        if self.teacher is not None:
            found["distillation"] = copy.distillation
        return found if run.decoder_only else found | {"commitment": copy.commitment}

    def _judge(self, real: Tensor, made: Tensor, taught: bool, last: bool) -> tuple[list[Verdict], list[Verdict]]:
        """Verdicts in float32."""
        panel, prepared = self.panel, self.prepared
        assert panel is not None and prepared is not None
        asked = prepared if taught else panel
        with nullcontext() if last else self.processes.unsynchronised(prepared), self._autocast():
            both = asked(real, made)
        found = [[Verdict(x.scores.float(), [m.float() for m in x.maps]) for x in side] for side in both]
        return found[0], found[1]

    def _weights(self) -> dict[str, float]:
        """Of the losses now."""
        losses, ramp = self.run.losses, self.run.judges.ramp
        share = min(1.0, (self.heard + 1) / ramp) if ramp else 1.0
        return {
            "waveform": losses.waveform, "mel": losses.mel, "spectral": losses.spectral,
            "adversarial": share * losses.adversarial, "matching": share * losses.matching,
        }  # fmt: skip

    def _judges_rate(self, done: float, warmed: float) -> float:
        """They warm up from when they began to learn, and fall with the codec's."""
        train = self.run.train
        peak = train.learning_rate if self.run.judges.learning_rate is None else self.run.judges.learning_rate
        fall = learning_rate(train, self.steps, done, warmed) / train.learning_rate if self.steps >= train.warmup else 1
        return peak * fall * min(1.0, (self.taught + 1) / max(1, train.warmup))

    def _target(self, real: Tensor) -> Tensor | None:
        if self.teacher is None:
            return None
        return self.teacher(real, real.shape[-1] // self.network.spec.hop_length)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.run.train.precision == "bf16")

    def state(self, position: Position) -> dict[str, Any]:
        """Everything that a resumed run needs, tensors and plain values only."""
        parts: dict[str, Any] = {"network": self.network, "optimiser": self.optimiser, "balancer": self.balancer}
        if self.panel is not None and self.judging is not None:
            parts |= {"panel": self.panel, "judging": self.judging}
        if self.ema is not None:
            parts["average"] = self.ema.network
        counts = {"steps": self.steps, "taught": self.taught, "heard": self.heard}
        return {name: part.state_dict() for name, part in parts.items()} | counts | {"position": vars(position)}

    def load_state(self, state: Mapping[str, Any]) -> Position:
        """The inverse."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.balancer.load_state_dict(state["balancer"])
        if self.panel is not None and self.judging is not None:
            self.panel.load_state_dict(state["panel"])
            self.judging.load_state_dict(state["judging"])
        if self.ema is not None:
            self.ema.network.load_state_dict(state["average"])
        self.steps, self.taught, self.heard = (int(state[name]) for name in ("steps", "taught", "heard"))
        return Position(**state["position"])


class Broken(Exception):
    """A loss or gradient is NaN or infinite.

    Attributes:
        values: the losses.
    """

    def __init__(self, values: Mapping[str, float]) -> None:
        super().__init__(", ".join(f"{name} {value:g}" for name, value in values.items()))
        self.values = values


def _descend(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def _panel(run: Run, device: torch.device) -> Panel | None:
    if not run.losses.judged:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(run.train.seed, 1))
        return Panel(run.judges).to(device).train()


def _teacher(run: Run, device: torch.device) -> Teacher | None:
    if not isinstance(run, MimiRun) or run.teacher is None or run.losses.distillation <= 0:
        return None
    return Teacher(run.teacher, run.model.sample_rate, run.model.hop, run.layer).to(device)
