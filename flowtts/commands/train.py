"""``flowtts train``: train a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowtts.commands.options import Json, output_folder
from flowtts.commands.terminal import terminal

if TYPE_CHECKING:
    from torch import Tensor

    from flowtts.types import Audio


def train(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Argument(help="voicebox, voicebox-duration …")],
    data: Annotated[list[Path], typer.Option(help="A manifest that `flowtts prepare` made; may be given again.")],
    out: Annotated[Path, typer.Option(help="The folder of the run.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="train.steps=1000 …")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML, or the name of one that the recipe brings.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    vocoder: Annotated[str, typer.Option(help="Makes the samples along the way audible.")] = "vocos",
    json: Json = False,
) -> None:
    """Train a recipe; under `accelerate launch -m flowtts train …` on several devices or machines.

    Ctrl-C saves a checkpoint and stops; --resume goes on from there.
    """
    output_folder(out)

    from flowtts.registry import trainer

    run = trainer(recipe)(
        recipe, data, out, source=config, overrides=overrides or [], resume=resume, vocode=_Vocode(vocoder)
    )
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


class _Vocode:
    """Features to sound, with a vocoder that is loaded when the first sample is due."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, features: Tensor) -> Audio:
        """(T, C) normalised log-mel of Voicebox to sound."""
        import torch

        from flowtts.registry import load_vocoder
        from flowtts.types import VOICEBOX_MEL, Audio

        vocoder = load_vocoder(self._name, VOICEBOX_MEL)
        with torch.inference_mode():
            samples = vocoder.decode(features[None])[0].float().cpu().numpy()
        return Audio(samples, VOICEBOX_MEL.sample_rate)
