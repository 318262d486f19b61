"""``flowtts train tortoise``: all networks from one manifest, each when those before it have learnt."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from flowtts import checkpoint, config
from flowtts.data.manifest import read_cuts
from flowtts.train import Run
from flowtts.train_config import TrainConfig, progress
from flowtts.train_state import POSITION, STATE, Position
from flowtts.types import PathLike, Sampling, UserError

from .config import DiffusionConfig
from .parts import assemble
from .train import CONFIGS, AnyRun, ARRun, CLVPRun, CodeData, DiffusionRun, VQVAERun, fit_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineRun:
    """How the decoder that learnt from codes goes on with the autoregressive model's states; its sizes are known.

    Attributes:
        warm: see `DiffusionRun`.
        shallow: see `DiffusionConfig`.
        sampling: what is recommended for the model in the end.
        data: what it reads.
        train: how it is trained.
    """

    warm: int = 0
    shallow: int = 0
    sampling: Sampling = field(default_factory=lambda: DiffusionConfig().sampling)
    data: CodeData = field(default_factory=CodeData)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class WholeRun:
    """Everything that decides a run of all networks. The run itself says which checkpoints they build on.

    Attributes:
        vqvae: the VQ-VAE.
        ar: the autoregressive model.
        clvp: the judge.
        decoder: the diffusion decoder, from codes.
        fine: the same, from the autoregressive model's states.
        cache: folder for computed features and codes, of all stages; None leaves each its own.
        valid: manifests of held-out speakers, of all stages; none leaves each its own.
    """

    vqvae: VQVAERun = field(default_factory=VQVAERun)
    ar: ARRun = field(default_factory=ARRun)
    clvp: CLVPRun = field(default_factory=CLVPRun)
    decoder: DiffusionRun = field(default_factory=DiffusionRun)
    fine: FineRun = field(default_factory=FineRun)
    cache: str | None = None
    valid: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One network's turn.

    Attributes:
        name: its folder in the run's.
        run: what is trained.
        heirs: later stages that build on it.
    """

    name: str
    run: AnyRun
    heirs: tuple[str, ...]


def train(
    kind: str,
    manifests: Sequence[PathLike],
    out: PathLike,
    *,
    source: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    vocode: Callable[[Tensor], Any] | None = None,
) -> Run:
    """Train all networks in order, and put them together.

    Args:
        kind: "tortoise".
        manifests: of cuts, made by ``flowtts prepare``; one that is named n times counts n times.
        out: the run's folder: every stage has one inside, and the whole is a checkpoint of ``out`` itself.
        source: YAML of a `WholeRun`; without one, every stage is that of the shipped model.
        overrides: "ar.train.minutes=90", "cache=FOLDER" …
        resume: go on where a run was stopped; what is finished stays as it is.
        vocode: not used; the networks are watched by their losses on held-out data.

    Returns:
        The whole checkpoint and the updates of all stages; or the stage that a signal stopped.

    Raises:
        UserError: a wrong configuration or manifest, or an ``out`` that holds another run.
    """
    del kind, vocode
    out, how = Path(out), read(source, overrides)
    for path in dict.fromkeys([*manifests, *_held_out(how)]):
        next(iter(read_cuts(path)), None)  # hours before the stage that would find it missing
    total, order = 0, stages(how, out)
    if not resume and any(checkpoint.steps(out / stage.name) for stage in order):
        raise UserError(f"{out} holds a run already: resume it, or choose another folder")
    for stage in order:
        folder = out / stage.name
        saved = checkpoint.steps(folder)
        if resume and saved and _finished(saved[-1], stage.run.train):
            step = _position(saved[-1]).step
            logger.info("%s is finished", folder)
        else:
            _refuse_stale(stage, out)
            logger.info("training %s", folder)
            made = fit_run(stage.run, manifests, folder, resume=resume)
            if not made.finished:
                return made
            step = made.step
        total += step
    return Run(_whole(out, total, manifests), total, finished=True)


def read(source: Path | None, overrides: Sequence[str]) -> WholeRun:
    """The configuration, with what is shared handed to all stages.

    Raises:
        UserError: it is wrong, or names a checkpoint that the run makes.
    """
    if source is None:
        run = config.load(WholeRun, None, overrides, shipped())
    else:
        run = config.load(WholeRun, config.file_in(CONFIGS, source, ""), overrides)
    named = {
        "ar.vqvae": run.ar.vqvae, "clvp.vqvae": run.clvp.vqvae, "decoder.vqvae": run.decoder.vqvae,
        "decoder.ar": run.decoder.ar,
    }  # fmt: skip
    for key, value in named.items():
        if value:
            raise UserError(f"{key}={value}: this run makes that itself; leave it out, or train the stages one by one")
    cache, valid = run.cache, run.valid
    vqvae, codes = run.vqvae.data, {name: getattr(run, name).data for name in ("ar", "clvp", "decoder", "fine")}
    if cache is not None:
        vqvae, codes = replace(vqvae, cache=cache), {k: replace(v, cache=cache) for k, v in codes.items()}
    if valid:
        vqvae, codes = replace(vqvae, valid=valid), {k: replace(v, valid=valid) for k, v in codes.items()}
    return replace(
        run, vqvae=replace(run.vqvae, data=vqvae), ar=replace(run.ar, data=codes["ar"]),
        clvp=replace(run.clvp, data=codes["clvp"]), decoder=replace(run.decoder, data=codes["decoder"]),
        fine=replace(run.fine, data=codes["fine"]),
    )  # fmt: skip


def shipped() -> WholeRun:
    """The shipped model's stages."""
    fine = config.load(DiffusionRun, CONFIGS / "fine.yaml")
    return WholeRun(
        config.load(VQVAERun, CONFIGS / "vqvae.yaml"), config.load(ARRun, CONFIGS / "ar.yaml"),
        config.load(CLVPRun, CONFIGS / "clvp.yaml"), config.load(DiffusionRun, CONFIGS / "diffusion.yaml"),
        FineRun(fine.warm, fine.model.shallow, fine.model.sampling, fine.data, fine.train),
    )  # fmt: skip


def stages(run: WholeRun, out: Path) -> list[Stage]:
    """The five of a run, in order."""
    codes, ar, decoder = str(out / "vqvae"), str(out / "ar"), str(out / "decoder")
    model = replace(run.decoder.model, latent_width=run.ar.model.body.width)
    fine = DiffusionRun(
        vqvae=codes, ar=ar, warm=run.fine.warm, data=run.fine.data, train=run.fine.train, init=decoder,
        model=replace(model, shallow=run.fine.shallow, sampling=run.fine.sampling),
    )  # fmt: skip
    return [
        Stage("vqvae", run.vqvae, ("ar", "clvp", "decoder", "fine")),
        Stage("ar", replace(run.ar, vqvae=codes), ("fine",)),
        Stage("clvp", replace(run.clvp, vqvae=codes), ()),
        Stage("decoder", replace(run.decoder, vqvae=codes, model=model), ("fine",)),
        Stage("fine", fine, ()),
    ]


def _held_out(run: WholeRun) -> list[str]:
    data = (run.vqvae.data, run.ar.data, run.clvp.data, run.decoder.data, run.fine.data)
    return [path for part in data for path in part.valid]


def _finished(folder: Path, settings: TrainConfig) -> bool:
    """Whether a checkpoint is the last that its settings ask for."""
    position = _position(folder)
    return progress(settings, position.step, position.seconds) >= 1.0


def _position(folder: Path) -> Position:
    path = folder / STATE / POSITION
    try:
        return Position(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{path} is missing or broken: remove {folder} to resume from the one before") from None


def _refuse_stale(stage: Stage, out: Path) -> None:
    """A network must not change under those that were trained on it."""
    heirs = [name for name in stage.heirs if checkpoint.steps(out / name)]
    if heirs:
        raise UserError(
            f"{out / stage.name} would be trained further and {out / heirs[0]} has learnt from it already: give the "
            f"settings that it was trained with, or move {', '.join(heirs)} away"
        )


def _whole(out: Path, total: int, manifests: Sequence[PathLike]) -> Path:
    """The networks as one checkpoint, written by the main process."""
    folder = out / "checkpoints" / f"step-{total:08d}"
    if int(os.environ.get("RANK", "0")) == 0:
        data = "".join(f"* {path}\n" for path in dict.fromkeys(map(str, manifests)))
        about = f"# Tortoise\n\nTrained by `flowtts train tortoise` in {total} updates.\n\nTraining data:\n\n{data}"
        assemble(out / "ar", folder, vqvae=out / "vqvae", clvp=out / "clvp", diffusion=out / "fine", readme=about)
    return folder
