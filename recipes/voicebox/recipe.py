"""Voicebox as a recipe: what it can be asked to do, built on one infilling call (arXiv 2306.15687, 1.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from flowtts.align import repeat
from flowtts.batching import plan_batches
from flowtts.engine import choose_engine
from flowtts.mask import lengths_to_mask
from flowtts.path import CondOT
from flowtts.solve import Graphs, Guidance, guided, resolved, solve
from flowtts.tasks import Saying
from flowtts.text.symbols import ids
from flowtts.types import Condition, FeatureSpec, Field, Generated, PathLike, Phone, Sampling, UserError, Utterance

from .audio import AudioModel
from .duration import DurationModel

BATCH_FRAMES = 96_000
"""Frames of one batch with its padding: what a GPU of 16 GB has room for beside the paper's model."""


@dataclass(frozen=True, eq=False)
class Infilling:
    """One utterance to infill; see ``Voicebox.infill``."""

    phones: tuple[Phone, ...]
    durations: Tensor
    features: Tensor
    known: Tensor
    rng: torch.Generator


class Voicebox:
    """The two models together.

    Args:
        audio: the audio model.
        duration: the duration model.
        symbols: the vocabulary both were trained with.
        engine: how the audio model computes, a name of ``flowtts.engine.ENGINES`` or "auto".
        hash: of the weights.
        variants: reads the duration model of another variant ("regression", "flow"), where there is one.
        folder: of the audio model's checkpoint, where a grid fitted to it may lie.
        weaker: reads another audio model by name, to guide with.
    """

    name = "voicebox"
    tasks = frozenset({"say", "edit", "fill", "denoise", "restyle", "continue", "sample"})

    def __init__(
        self,
        audio: AudioModel,
        duration: DurationModel,
        symbols: Sequence[str],
        engine: str = "eager",
        hash: str = "",
        variants: Callable[[str], DurationModel] | None = None,
        folder: PathLike | None = None,
        weaker: Callable[[str], AudioModel] | None = None,
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
        self.hash = hash
        self.folder = folder
        self._engine = choose_engine(engine, audio, self.device)
        self._variants, self._weaker = variants, weaker
        self._sampled: AudioModel | None = None
        self._weak: dict[str, AudioModel] = {}
        self._graphs = Graphs(patience=1)

    @property
    def spec(self) -> FeatureSpec:
        """The log-mel or latents it emits."""
        return self.audio.config.spec

    @property
    def engine(self) -> str:
        """Name of the engine that computes."""
        return self._engine.name

    @property
    def sampling(self) -> Sampling:
        """How this checkpoint is best sampled."""
        return self.audio.config.sampling

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
        # The duration model may count frames of another length than the audio model's.
        scale = self.duration.config.frame_rate / self.spec.frame_rate
        made = self.duration.predict(self.ids(phones), known, given * scale, Sampling(), rng) / scale
        return torch.where(known, given.float(), made)

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
        made = Voicebox(
            self.audio, other, self._symbols, self.engine, self.hash, self._variants, self.folder, self._weaker
        )  # fmt: skip
        made._sampled = self._sampled
        return made

    def say(
        self,
        phones: Sequence[Phone],
        durations: Tensor,
        prompt: Utterance | None,
        sampling: Sampling,
        rng: torch.Generator,
    ) -> Generated:
        """Zero-shot speech: the prompt is the known beginning of one utterance, the rest is infilled."""
        return self.say_many([Saying(tuple(phones), durations, prompt, rng)], sampling)[0]

    @property
    def batches(self) -> bool:
        """Whether ``say_many`` is faster than ``say``: on a GPU. A CPU has enough to do with one utterance."""
        return self.device.type != "cpu"

    def say_many(self, sayings: Sequence[Saying], sampling: Sampling) -> list[Generated]:
        """As ``say``, for several utterances at once; see ``infill_many``."""
        jobs = [self._infilling(saying) for saying in sayings]
        made = self.infill_many(jobs, sampling)
        return [
            replace(filled, features=filled.features[int(job.known.sum()) :], durations=saying.durations)
            for saying, job, filled in zip(sayings, jobs, made, strict=True)
        ]

    def _infilling(self, saying: Saying) -> Infilling:
        """An utterance to say as one whose beginning is known."""
        prompt, durations = saying.prompt, saying.durations
        before = prompt.phones if prompt is not None else ()
        heard = prompt.features if prompt is not None else torch.zeros(0, self.spec.channels)
        given = prompt.durations if prompt is not None else torch.zeros(0, dtype=torch.long)
        if int(given.sum()) != len(heard):
            raise ValueError("the prompt's durations must sum to its frames")
        total = int(durations.sum())
        if total == 0:
            raise UserError("nothing to say: every phone would last zero frames")
        features = torch.cat([heard, torch.zeros(total, self.spec.channels)])
        known = torch.arange(len(features)) < len(heard)
        return Infilling((*before, *saying.phones), torch.cat([given, durations]), features, known, saying.rng)

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
        return self.infill_many([Infilling(tuple(phones), durations, features, known, rng)], sampling)[0]

    @torch.no_grad()
    def infill_many(self, jobs: Sequence[Infilling], sampling: Sampling) -> list[Generated]:
        """As ``infill``, for several utterances at once: batches of similar lengths, each from its own generator.

        Differs from one by one in the last bits only, as products of another shape do.

        Raises:
            UserError: the sampling does not fit the model.
        """
        sampling = replace(sampling, grid=resolved(sampling.grid, self.folder))
        if self.audio.config.average and Guidance.parse(sampling.guidance) != Guidance():
            raise UserError(f"this few-step model has its guidance built in: leave out --guidance {sampling.guidance}")
        made: dict[int, Generated] = {}
        for batch in plan_batches([len(job.features) for job in jobs], BATCH_FRAMES):
            for index, generated in zip(batch, self._batch([jobs[i] for i in batch], sampling), strict=True):
                made[index] = generated
        return [made[index] for index in range(len(jobs))]

    def _batch(self, jobs: Sequence[Infilling], sampling: Sampling) -> list[Generated]:
        channels, device = self.spec.channels, self.device
        cond = self._condition(jobs)
        noise = [torch.randn(len(job.features), channels, generator=job.rng) * sampling.temperature for job in jobs]
        x0 = pad_sequence(noise, batch_first=True).to(device)
        path, rngs = CondOT(self.audio.config.sigma_min), [job.rng for job in jobs]
        network, weak = self._network(), self._weaker_network(sampling)
        with self._engine.running():
            if device.type == "cuda":
                solution = self._graphs.solve(
                    network, cond, sampling.guidance, x0, sampling, weak=weak, schedule=path, rng=rngs
                )
            else:
                field = guided(network, cond, sampling.guidance, weak)
                solution = solve(field, x0, sampling, schedule=path, rng=rngs)
        found = []
        for job, x in zip(jobs, solution.x.float().cpu(), strict=True):
            features = torch.where(job.known[:, None], job.features, x[: len(job.features)])
            found.append(Generated(features, job.durations, solution.nfe, solution.network_calls))
        return found

    def _network(self) -> AudioModel:
        """The audio model as the engine wants it, converted when it is first needed."""
        if self._sampled is None:
            self._sampled = self.audio if self.engine == "eager" else self._engine.convert(self.audio)
        return self._sampled

    def _weaker_network(self, sampling: Sampling) -> AudioModel | None:
        name = Guidance.parse(sampling.guidance).weak
        if not name:
            return None
        if self._weaker is None:
            raise UserError(f"guidance '{sampling.guidance}': this model was loaded without a way to find {name}")
        if name not in self._weak:
            self._weak[name] = self._engine.convert(self._weaker(name))
        return self._weak[name]

    def field(
        self, phones: Sequence[Phone], durations: Tensor, features: Tensor, known: Tensor, guidance: float | str = 1.0
    ) -> Field:
        """The velocity that ``infill`` follows, for looking at it: inversion, likelihood, fitting a grid.

        Args:
            phones: all L phones.
            durations: (L,) int64 frames, summing to T.
            features: (T, C) normalised log-mel; read only where ``known``.
            known: (T,) bool.
            guidance: as in ``Sampling``.

        Returns:
            (t, x (1, T, C)) -> velocity (1, T, C), in the precision of the weights, on the model's device.
        """
        job = Infilling(tuple(phones), durations, features, known, torch.Generator())
        weak = None if self._weaker is None or not (name := Guidance.parse(guidance).weak) else self._weaker(name)
        return guided(self.audio, self._condition([job]), guidance, weak)

    def _condition(self, jobs: Sequence[Infilling]) -> Condition:
        lengths = [len(job.features) for job in jobs]
        text = [
            repeat(self.ids(j.phones)[None], j.durations[None].long(), n)[0] for j, n in zip(jobs, lengths, strict=True)
        ]
        prompt = [job.features * job.known[:, None] for job in jobs]
        known = [job.known for job in jobs]
        texts, prompts, places = (pad_sequence(values, batch_first=True) for values in (text, prompt, known))
        mask = lengths_to_mask(torch.tensor(lengths))
        return Condition(texts, prompts, places, mask, torch.ones(len(jobs), dtype=torch.bool)).to(self.device)
