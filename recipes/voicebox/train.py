"""``flowtts train voicebox`` and ``flowtts train voicebox-duration``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowtts import checkpoint, config
from flowtts.align import repeat
from flowtts.audio.io import write
from flowtts.checkpoint import Card
from flowtts.compat import require
from flowtts.data.dataset import BatchSequence, batches
from flowtts.solve import guided, solve
from flowtts.text.symbols import SYMBOLS
from flowtts.train import Run, Sample, fit
from flowtts.train_config import TrainConfig
from flowtts.types import VOICEBOX_MEL, Audio, Batch, Condition, FeatureSpec, PathLike, Sampling
from flowtts.validate import Validate

from . import AUDIO_KIND, DURATION_KIND
from .audio import AudioModel
from .config import AudioConfig, DurationConfig
from .duration import DurationModel

log = logging.getLogger(__name__)

Vocode = Callable[[Tensor], Audio]
"""(T, C) features to sound."""


@dataclass(frozen=True)
class DataConfig:
    """What is read from the manifests.

    Attributes:
        max_frames_per_batch: padded frames of one batch.
        max_frames: longer utterances are cropped.
        join: share of each speaker's utterances joined in pairs, the shape of prompt and target.
        cache: folder for computed features, or None.
        speeds: every utterance is used at each of these speeds, as so many voices.
        colour_db: deviation of a random filter for each utterance, see ``flowtts.data.dataset.colour``.
        valid: manifests of speakers that are held out; their loss is logged with the samples.
    """

    max_frames_per_batch: int = 7500
    max_frames: int = 1600
    join: float = 0.0
    cache: str | None = None
    speeds: tuple[float, ...] = (1.0,)
    colour_db: float = 0.0
    valid: tuple[str, ...] = ()


@dataclass(frozen=True)
class AudioRun:
    """Everything that decides a run of the audio model.

    Attributes:
        model: its sizes.
        data: what it reads.
        train: how it is trained.
        init: a checkpoint of the same sizes to start from (fine-tuning), or None.
    """

    model: AudioConfig = field(default_factory=AudioConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    init: str | None = None


@dataclass(frozen=True)
class DurationRun:
    """Likewise for the duration model; its defaults are the paper's."""

    model: DurationConfig = field(default_factory=DurationConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(max_frames_per_batch=60_000))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=600_000))
    init: str | None = None


CONFIGS = Path(__file__).parent / "configs"
RUNS: Mapping[str, tuple[type[Any], str]] = {
    AUDIO_KIND: (AudioRun, "small.yaml"),
    DURATION_KIND: (DurationRun, "duration.yaml"),
}


def train(
    kind: str,
    manifests: Sequence[PathLike],
    out: PathLike,
    *,
    source: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    vocode: Vocode | None = None,
) -> Run:
    """Train one of the two models.

    Args:
        kind: "voicebox" or "voicebox-duration".
        manifests: of cuts, made by ``flowtts prepare``; one that is named n times counts n times.
        out: the run's folder.
        source: YAML; the shipped model's by default. A bare name means one in ``configs/``.
        overrides: "train.steps=1000" …
        resume: go on with what ``out`` holds.
        vocode: makes samples audible; without it only their pictures are drawn.

    Raises:
        UserError: a wrong configuration or manifest, or an ``out`` that holds another run.
    """
    cls, default = RUNS[kind]
    run = config.load(cls, config.file_in(CONFIGS, source, default), [f"model.symbols={len(SYMBOLS)}", *overrides])
    network = _network(kind, run)
    spec = run.model.spec if kind == AUDIO_KIND else VOICEBOX_MEL
    data = batches(
        manifests, spec, max_frames_per_batch=run.data.max_frames_per_batch, seed=run.train.seed,
        max_frames=run.data.max_frames, join_share=run.data.join, cache=run.data.cache, speeds=run.data.speeds,
        colour_db=run.data.colour_db,
    )  # fmt: skip
    sample = _watchers(kind, run, data, spec, Path(out) / "samples", vocode) if run.train.sample_every else None
    card = Card(kind, run.model, SYMBOLS)
    return fit(network, data, config=run.train, out=out, card=card, sample=sample, resume=resume)


def _network(kind: str, run: AudioRun | DurationRun) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.train.seed)
        network = AudioModel(run.model) if isinstance(run, AudioRun) else DurationModel(run.model)
    if run.init is not None:
        checkpoint.begin(network, run.init, kind)
    return network


def _watchers(
    kind: str, run: AudioRun | DurationRun, data: BatchSequence, spec: FeatureSpec, folder: Path, vocode: Vocode | None
) -> Sample | None:
    """What is looked at along the way: a picture and a recording, and the loss of held-out speakers."""
    watchers: list[Sample] = []
    if kind == AUDIO_KIND:
        watchers.append(_Listen(next(data(0)), folder, vocode))
    if run.data.valid:
        # Few large batches: as many frames as the held-out speakers have, at most 16 batches of training.
        held_out = batches(
            run.data.valid, spec, max_frames_per_batch=run.data.max_frames_per_batch, seed=0,
            max_frames=run.data.max_frames, cache=run.data.cache,
        )(0)  # fmt: skip
        watchers.append(Validate(tuple(islice(held_out, 16))))
    if not watchers:
        return None

    def watch(step: int, network: nn.Module) -> Mapping[str, float]:
        return {name: value for w in watchers for name, value in (w(step, network) or {}).items()}

    return watch


@dataclass(frozen=True, eq=False)
class _Listen:
    """Infills the last two thirds of a fixed utterance: a picture, a recording and an error."""

    batch: Batch
    folder: Path
    vocode: Vocode | None

    def __call__(self, step: int, network: nn.Module) -> Mapping[str, float]:
        assert isinstance(network, AudioModel)
        device = next(network.parameters()).device
        one = _first(self.batch).to(device)
        frames = one.features.shape[1]
        present = torch.ones(1, frames, dtype=torch.bool, device=device)
        known = (torch.arange(frames, device=device) < frames // 3)[None]
        text = repeat(one.phones, one.durations, frames)
        cond = Condition(text, one.features * known[..., None], known, present, present[:, 0])
        rng = torch.Generator().manual_seed(0)
        x0 = torch.randn(one.features.shape, generator=rng).to(device)
        with torch.no_grad():
            made = solve(guided(network, cond, 1.7), x0, Sampling(solver="euler", steps=16)).x
        made = torch.where(known[..., None], one.features, made)[0].float().cpu()
        true, unknown = one.features[0].cpu(), ~known[0].cpu()
        self.folder.mkdir(parents=True, exist_ok=True)
        _picture(true, made, unknown, self.folder / f"{step:07d}.png")
        if self.vocode is not None:
            write(self.folder / f"{step:07d}.flac", self.vocode(made))
        return {"infill_l1": float((made - true).abs()[unknown].mean())}


def _first(batch: Batch) -> Batch:
    frames, length = int(batch.frames[0]), int(batch.lengths[0])
    return Batch(
        batch.features[:1, :frames], batch.frames[:1], batch.phones[:1, :length], batch.durations[:1, :length],
        batch.lengths[:1], batch.transcribed[:1], batch.ids[:1],
    )  # fmt: skip


def _picture(true: Tensor, made: Tensor, masked: Tensor, path: Path) -> None:
    figures = require("matplotlib.figure", "train")
    figure = figures.Figure(figsize=(10, 4), dpi=100)
    for place, (title, features) in enumerate((("recording", true), ("infilled", made)), 1):
        axes = figure.add_subplot(2, 1, place)
        axes.imshow(features.T.numpy(), origin="lower", aspect="auto", vmin=-3, vmax=3, cmap="magma")
        axes.set_title(title, fontsize=8, loc="left")
        edges = np.flatnonzero(np.diff(masked.numpy().astype(int)))
        for edge in edges:
            axes.axvline(edge + 1, color="white", linewidth=0.8)
    figure.savefig(path)
