"""``flowtts train``: train a recipe."""

from __future__ import annotations

import os
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowtts.commands.options import Json, output_folder
from flowtts.commands.terminal import terminal

if TYPE_CHECKING:
    from torch import Tensor

    from flowtts.types import Audio, FeatureSpec


def train(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Argument(help="voicebox, voicebox-duration …")],
    data: Annotated[
        list[Path],
        typer.Option(
            help="A manifest that `flowtts prepare` made, or for codecs a list of sound files; may be repeated."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder of the run.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="train.steps=1000 …")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML, or the name of one that the recipe brings.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    features: Annotated[str, typer.Option(help="mel, or a codec whose latents the model is to make.")] = "mel",
    vocoder: Annotated[str, typer.Option(help="Makes the samples along the way audible.")] = "auto",
    json: Json = False,
) -> None:
    """Train a recipe; under `accelerate launch -m flowtts train …` on several devices or machines.

    Ctrl-C saves a checkpoint and stops; --resume goes on from there.
    """
    output_folder(out)

    from flowtts.registry import trainer

    spec = _spec(features)
    given = [f"model.latent.{key}={dumps(value)}" for key, value in asdict(spec).items()] if features != "mel" else []
    made_for = "vocos" if features == "mel" else features
    run = trainer(recipe)(
        recipe, data, out, source=config, overrides=[*given, *(overrides or [])], resume=resume,
        vocode=_Vocode(made_for if vocoder == "auto" else vocoder, spec),
    )  # fmt: skip
    # Every process of a distributed run comes by here.
    if int(os.environ.get("RANK", "0")) == 0:
        term = terminal(ctx)
        if json:
            term.result({"recipe": recipe, "checkpoint": run.folder, "step": run.step, "finished": run.finished})
        else:
            state = "finished" if run.finished else "stopped; --resume goes on"
            term.message(f"{run.folder}: step {run.step}, {state}")
    if not run.finished:
        raise typer.Exit(130)


def _spec(features: str) -> FeatureSpec:
    """What a model is to make."""
    from flowtts.features import latent_spec
    from flowtts.registry import load_codec
    from flowtts.types import VOICEBOX_MEL

    return VOICEBOX_MEL if features == "mel" else latent_spec(load_codec(features), features)


class _Vocode:
    """Features to sound, with a vocoder that is loaded when the first sample is due."""

    def __init__(self, name: str, spec: FeatureSpec) -> None:
        self._name, self._spec = name, spec

    def __call__(self, features: Tensor) -> Audio:
        """(T, C) features to sound."""
        import torch

        from flowtts.registry import load_vocoder
        from flowtts.types import Audio

        vocoder = load_vocoder(self._name, self._spec)
        with torch.inference_mode():
            samples = vocoder.decode(features[None])[0].float().cpu().numpy()
        return Audio(samples, self._spec.sample_rate)
