"""Voicebox as a recipe: what it can be asked to do, built on one infilling call (arXiv 2306.15687, 1.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from flowtts.align import repeat
from flowtts.solve import guided, solve
from flowtts.text.symbols import ids
from flowtts.types import Condition, Generated, MelSpec, Phone, Sampling, UserError, Utterance

from .audio import AudioModel
from .duration import DurationModel


class Voicebox:
    """The two models together.

    Args:
        audio: the audio model.
        duration: the duration model.
        symbols: the vocabulary both were trained with.
        precision: what the audio model computes in; bfloat16 under autocast, the state of the solver stays float32.
        hash: of the weights.
        variants: reads the duration model of another variant ("regression", "flow"), where there is one.
    """

    name = "voicebox"
    tasks = frozenset({"say", "edit", "fill", "denoise", "restyle", "continue", "sample"})

    def __init__(
        self,
        audio: AudioModel,
        duration: DurationModel,
        symbols: Sequence[str],
        precision: torch.dtype = torch.float32,
        hash: str = "",
        variants: Callable[[str], DurationModel] | None = None,
    ) -> None:
        for model, config in (("audio", audio.config), ("duration", duration.config)):
            if config.symbols != len(symbols):
                raise UserError(
                    f"the {model} model has {config.symbols} symbols and its vocabulary {len(symbols)}; "
                    "they belong to different checkpoints"
                )
        self.audio = audio.eval()
        self.duration = duration.eval()
        self._symbols = tuple(symbols)
        self.precision = precision
        self.hash = hash
        self._variants = variants

    @property
    def spec(self) -> MelSpec:
        """The log-mel it emits."""
        return self.audio.config.mel

    @property
    def symbols(self) -> Sequence[str]:
        """The vocabulary: index is the phone id."""
        return self._symbols

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.audio.parameters()).device

    def ids(self, phones: Sequence[Phone]) -> Tensor:
        """(L,) int64 ids of phones."""
        return torch.tensor(ids((p.symbol for p in phones), self._symbols), dtype=torch.long)

    def durations(self, phones: Sequence[Phone], prompt: Utterance | None, rng: torch.Generator) -> Tensor:
        """(L,) fractional frames of ``phones``, in the context of the prompt's durations."""
        before = prompt.phones if prompt is not None else ()
        given = prompt.durations if prompt is not None else torch.zeros(0, dtype=torch.long)
        known = torch.cat([torch.ones(len(before)), torch.zeros(len(phones))]).bool()
        lengths = torch.cat([given, torch.zeros(len(phones), dtype=torch.long)])
        return self.fill_durations((*before, *phones), known, lengths, rng)[len(before) :]

    def fill_durations(self, phones: Sequence[Phone], known: Tensor, given: Tensor, rng: torch.Generator) -> Tensor:
        """(L,) fractional frames of every phone, in the context of those that are known.

        Args:
            phones: all L phones.
            known: (L,) bool.
            given: (L,) int64 frames; read only where ``known``, and returned there as they are.
            rng: used by a duration model that samples.
        """
        return self.duration.predict(self.ids(phones), known, given, Sampling(), rng)

    def with_durations(self, variant: str) -> Voicebox:
        """The same audio model with durations from the "regression" or from the "flow" model.

        Raises:
            UserError: no such variant, or its checkpoint does not fit.
        """
        if variant == self.duration.config.variant:
            return self
        if self._variants is None:
            raise UserError(f"this model has no durations {variant!r}; it has {self.duration.config.variant!r}")
        other = self._variants(variant).to(self.device)
        return Voicebox(self.audio, other, self._symbols, self.precision, self.hash, self._variants)

    def say(
        self,
        phones: Sequence[Phone],
        durations: Tensor,
        prompt: Utterance | None,
        sampling: Sampling,
        rng: torch.Generator,
    ) -> Generated:
        """Zero-shot speech: the prompt is the known beginning of one utterance, the rest is infilled."""
        before = prompt.phones if prompt is not None else ()
        heard = prompt.features if prompt is not None else torch.zeros(0, self.spec.channels)
        given = prompt.durations if prompt is not None else torch.zeros(0, dtype=torch.long)
        if prompt is not None and int(given.sum()) != len(heard):
            raise ValueError("the prompt's durations must sum to its frames")
        total = int(durations.sum())
        if total == 0:
            raise UserError("nothing to say: every phone would last zero frames")
        features = torch.cat([heard, torch.zeros(total, self.spec.channels)])
        known = torch.arange(len(features)) < len(heard)
        filled = self.infill((*before, *phones), torch.cat([given, durations]), features, known, sampling, rng)
        return replace(filled, features=filled.features[len(heard) :], durations=durations)

    @torch.no_grad()
    def infill(
        self,
        phones: Sequence[Phone],
        durations: Tensor,
        features: Tensor,
        known: Tensor,
        sampling: Sampling,
        rng: torch.Generator,
    ) -> Generated:
        """Generate the unknown frames of one utterance and keep the known ones.

        Args:
            phones: all L phones.
            durations: (L,) int64 frames, summing to T.
            features: (T, C) normalised log-mel; read only where ``known``.
            known: (T,) bool.
            sampling: solver, grid, steps, guidance, temperature.
            rng: draws the noise, on the CPU, so that a seed means the same on every device.

        Returns:
            (T, C) features, known frames copied back.
        """
        device, frames = self.device, len(features)
        prompt = features * known[:, None]
        text = repeat(self.ids(phones)[None], durations[None].long(), frames)
        cond = Condition(
            text, prompt[None], known[None], torch.ones(1, frames, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
        ).to(device)
        x0 = torch.randn(1, frames, self.spec.channels, generator=rng) * sampling.temperature
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            solution = solve(guided(self.audio, cond, sampling.guidance), x0.to(device), sampling)
        made = solution.x[0].float().cpu()
        made = torch.where(known[:, None], features, made)
        return Generated(made, durations, solution.nfe, solution.network_calls)
