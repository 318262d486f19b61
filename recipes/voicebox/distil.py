"""``flowtts train voicebox-fewstep``: a student of an audio model that needs a few network calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from flowtts import checkpoint, config
from flowtts.checkpoint import Card
from flowtts.data.dataset import BatchSequence, batches
from flowtts.mask import masked_mean
from flowtts.solve import guided, solve
from flowtts.train import Run, fit
from flowtts.train_config import TrainConfig
from flowtts.types import Audio, Batch, FeatureSpec, PathLike, Sampling, UserError

from . import AUDIO_KIND
from .audio import AudioModel
from .config import AudioConfig
from .fewstep import FewStepConfig, FewStepModel
from .train import CONFIGS, DataConfig

FEWSTEP_KIND = "voicebox-fewstep"


@dataclass(frozen=True)
class FewStepRun:
    """Everything that decides a run.

    Attributes:
        teacher: name or folder of an audio model's checkpoint.
        init: name or folder of a student to go on from, or None to begin with the teacher's weights.
        recommend: steps that the student's checkpoint recommends.
        how: the method.
        data: what is read.
        train: how it is trained.
    """

    teacher: str = "voicebox-small"
    init: str | None = None
    recommend: int = 4
    how: FewStepConfig = field(default_factory=FewStepConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def train(
    kind: str,
    manifests: Sequence[PathLike],
    out: PathLike,
    *,
    source: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    vocode: Callable[[Tensor], Audio] | None = None,
) -> Run:
    """Train a student.

    Args:
        kind: "voicebox-fewstep".
        manifests: of cuts, best those that the teacher was trained on.
        out: the run's folder.
        source: YAML; ``configs/fewstep.yaml`` by default. A bare name means one in ``configs/``.
        overrides: "how.method=meanflow" …
        resume: go on with what ``out`` holds.
        vocode: not used; the student is watched by its distance to the teacher.

    Raises:
        UserError: a wrong configuration or manifest, no such teacher, or an ``out`` that holds another run.
    """
    del vocode
    run = config.load(FewStepRun, config.file_in(CONFIGS, source, "fewstep.yaml"), overrides)
    network, vocabulary = student(run)
    data = _batches(run, network.config.spec, manifests)
    watch = _watch(run, network.config.spec, data) if run.train.sample_every else None
    return fit(
        network, data, config=run.train, out=out, card=Card(AUDIO_KIND, network.config, vocabulary), sample=watch,
        resume=resume,
    )  # fmt: skip


def student(run: FewStepRun) -> tuple[FewStepModel, Sequence[str] | None]:
    """The student before its first step, and its vocabulary.

    Raises:
        UserError: the teacher, or the student to go on from, is not an audio model of Voicebox.
    """
    taught = _read(run.teacher)
    teacher = AudioModel(config.load(AudioConfig, taught.config))
    checkpoint.load_state(teacher, taught.state, run.teacher)
    if teacher.config.average:
        raise UserError(f"{run.teacher} is a few-step model itself: give the model that it was made from")
    temperature = (run.how.temperature_low + run.how.temperature_high) / 2
    made = replace(
        teacher.config,
        body=replace(teacher.config.body, dropout=0.0),  # the target has no noise that dropout could help against
        average=True,
        # Reflow straightens the paths and teaches no mean velocities.
        sampling=Sampling(
            "euler" if run.how.method == "reflow" else "flowmap", "uniform", run.recommend, 1.0, temperature
        ),
    )
    network = FewStepModel(made, teacher, run.how)
    if run.init is not None:
        checkpoint.load_state(network, _read(run.init).state, run.init)
    return network, taught.vocabulary


def _read(name: str) -> checkpoint.Checkpoint:
    return checkpoint.require_kind(checkpoint.load(checkpoint.find(name)), AUDIO_KIND, name)


def _batches(run: FewStepRun, spec: FeatureSpec, manifests: Sequence[PathLike]) -> BatchSequence:
    return batches(
        manifests, spec, max_frames_per_batch=run.data.max_frames_per_batch, seed=run.train.seed,
        max_frames=run.data.max_frames, join_share=run.data.join, cache=run.data.cache, speeds=run.data.speeds,
        colour_db=run.data.colour_db,
    )  # fmt: skip


def _watch(run: FewStepRun, spec: FeatureSpec, data: BatchSequence) -> _Agreement:
    if run.data.valid:
        held_out = replace(run, data=replace(run.data, join=0.0, speeds=(1.0,), colour_db=0.0))
        data = _batches(held_out, spec, run.data.valid)
    return _Agreement(tuple(islice(data(0), 4)), run.how)


@dataclass(frozen=True, eq=False)
class _Agreement:
    """How far the student ends from where its teacher does, by steps: mean absolute difference of the features."""

    batches: Sequence[Batch]
    how: FewStepConfig

    def __call__(self, step: int, network: nn.Module) -> Mapping[str, float]:
        assert isinstance(network, FewStepModel)
        device = next(network.parameters()).device
        totals: dict[str, list[float]] = {}
        for batch in self.batches:
            rng = torch.Generator().manual_seed(0)
            here = batch.to(device)
            cond, unknown, x0 = network.question(here, rng)
            teacher = network.teacher(device)
            wanted = solve(
                guided(teacher, cond, self.how.guidance), x0, Sampling(self.how.solver, steps=self.how.steps)
            )
            for steps in (1, 2, 4, 8):
                fast = replace(network.config.sampling, steps=steps)
                made = solve(guided(network, cond, 1.0), x0, fast)
                far = float(masked_mean((made.x - wanted.x).abs(), unknown))
                totals.setdefault(f"distance_{steps}", []).append(far)
        return {name: sum(values) / len(values) for name, values in totals.items()}
