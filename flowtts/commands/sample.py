"""``flowtts sample``: a text in voices that the model makes up."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from flowtts.commands.options import (
    Device,
    Engine,
    Grid,
    Guidance,
    Json,
    Lexicon,
    Model,
    Seed,
    Sidecar,
    Solver,
    Steps,
    Tag,
    VocoderName,
    WordsFile,
    existing_file,
    output_folder,
    text_or_stdin,
)
from flowtts.commands.outputs import Outputs, numbered
from flowtts.commands.terminal import terminal


class Durations(str, Enum):
    """Which model times the phones."""

    regression = "regression"
    flow = "flow"


def sample(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(help="What to say; - reads standard input.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=9999, help="How many recordings.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder for 0001.wav, 0002.wav …")],
    durations: Annotated[
        Durations, typer.Option(help="regression gives all the likeliest timing, flow each its own.")
    ] = Durations.regression,
    model: Model = "voicebox",
    vocoder: VocoderName = "auto",
    seed: Seed = 0,
    steps: Steps = None,
    solver: Solver = None,
    grid: Grid = None,
    guidance: Guidance = None,
    lexicon: Lexicon = None,
    words: WordsFile = None,
    sidecar: Sidecar = True,
    device: Device = "auto",
    engine: Engine = "auto",
    tag: Tag = True,
    json: Json = False,
) -> None:
    """Say a text without a prompt: every recording in a voice of its own, from a seed of its own.

    --words words.srt writes words.0001.srt and so on; --json prints one object per recording.
    """
    inputs = () if lexicon is None else (existing_file(lexicon, "lexicon"),)
    said = text_or_stdin(text)
    output_folder(output)
    targets = [
        Outputs(output / f"{number:04d}.wav", sidecar, numbered(words, number)).check(inputs)
        for number in range(1, count + 1)
    ]
    given = {"steps": steps, "solver": solver, "grid": grid, "guidance": guidance, "lexicon": lexicon}
    options = {name: value for name, value in given.items() if value is not None}

    import flowtts

    tts = flowtts.load(model, vocoder=vocoder, device=device, engine=engine, tag=tag)
    term = terminal(ctx)
    with term.progress("sampling", count) as bar:
        made = tts.sample(said, count, durations=durations.value, seed=seed, progress=bar.set, **options)
    for speech, target in zip(made, targets, strict=True):
        target.save(speech)
        if json:
            term.result(speech.info(target.audio))
        else:
            term.message(f"{target.audio}: {speech.seconds:.2f} s, seed {speech.seed}")
