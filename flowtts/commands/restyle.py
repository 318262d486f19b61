"""``flowtts restyle`` and ``continue``: a recording said in another way, or going on."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowtts.commands.editing import (
    Confidence,
    Files,
    Input,
    Rank,
    Ranking,
    Sampled,
    Text,
    TextFile,
    carry_out,
    reference,
)
from flowtts.commands.options import (
    BestOf,
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
    one_from_stdin,
    text_from,
    text_or_stdin,
)
from flowtts.commands.terminal import Misuse

if TYPE_CHECKING:
    from flowtts.edit.request import Progress
    from flowtts.edit.result import Edited
    from flowtts.pipeline import Pipeline


class Timing(str, Enum):
    """Where the durations come from."""

    kept = "kept"
    style = "style"
    predicted = "predicted"


def restyle(
    ctx: typer.Context,
    recording: Input,
    style: Annotated[str, typer.Option("--style", help="A recording in the wanted style, or a shipped voice's name.")],
    text: Text = None,
    text_file: TextFile = None,
    style_text: Annotated[str | None, typer.Option(help="What --style says; recognised if not given.")] = None,
    timing: Annotated[
        Timing, typer.Option(help="Durations: of the recording, in the style's rhythm, or predicted freely.")
    ] = Timing.kept,
    accent: Annotated[str | None, typer.Option(help="A recording in the wanted accent, or a voice's name.")] = None,
    accent_text: Annotated[str | None, typer.Option(help="What --accent says; recognised if not given.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="IN.restyled.wav if not given.")] = None,
    model: Model = "voicebox",
    vocoder: VocoderName = "auto",
    seed: Seed = 0,
    steps: Steps = None,
    solver: Solver = None,
    grid: Grid = None,
    guidance: Guidance = None,
    best_of: BestOf = 1,
    rank: Ranking = Rank.wer,
    lexicon: Lexicon = None,
    confidence: Confidence = None,
    words: WordsFile = None,
    sidecar: Sidecar = True,
    device: Device = "auto",
    engine: Engine = "auto",
    tag: Tag = True,
    json: Json = False,
) -> None:
    """Say a recording again in the voice, tone and surroundings of another."""
    if accent_text is not None and accent is None:
        raise Misuse("--accent-text says what a recording says; give the recording with --accent")
    given = [reference(style, "--style"), *([] if accent is None else [reference(accent, "--accent")])]
    recordings = tuple(path for path in map(Path, given) if path.exists())
    target = Files(recording, output, words, sidecar).check("restyled", (text_file,), lexicon, recordings)
    one_from_stdin(text, style_text, accent_text)
    said = text_from("--text", text, text_file)
    style_said = None if style_text is None else text_or_stdin(style_text, "--style-text")
    accent_said = None if accent_text is None else text_or_stdin(accent_text, "--accent-text")
    options = Sampled(seed, steps, solver, grid, guidance, best_of, rank, lexicon, confidence).options()

    def make(tts: Pipeline, progress: Progress) -> Edited:
        return tts.restyle(
            recording, said, style, style_said, timing=timing.value, accent=accent, accent_text=accent_said,
            progress=progress, **options,
        )  # fmt: skip

    carry_out(ctx, "restyling", (model, vocoder, device, engine, tag), make, target, json)


def continue_(
    ctx: typer.Context,
    recording: Input,
    then: Annotated[str, typer.Option("--then", help="What is said after it; - reads standard input.")],
    text: Text = None,
    text_file: TextFile = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="IN.continued.wav if not given.")] = None,
    model: Model = "voicebox",
    vocoder: VocoderName = "auto",
    seed: Seed = 0,
    steps: Steps = None,
    solver: Solver = None,
    grid: Grid = None,
    guidance: Guidance = None,
    best_of: BestOf = 1,
    rank: Ranking = Rank.wer,
    lexicon: Lexicon = None,
    confidence: Confidence = None,
    words: WordsFile = None,
    sidecar: Sidecar = True,
    device: Device = "auto",
    engine: Engine = "auto",
    tag: Tag = True,
    json: Json = False,
) -> None:
    """Let the speaker of a recording go on with more text; what is there stays as it is."""
    target = Files(recording, output, words, sidecar).check("continued", (text_file,), lexicon)
    one_from_stdin(text, then)
    said, more = text_from("--text", text, text_file), text_or_stdin(then, "--then")
    options = Sampled(seed, steps, solver, grid, guidance, best_of, rank, lexicon, confidence).options()

    def make(tts: Pipeline, progress: Progress) -> Edited:
        return tts.continue_(recording, said, more, progress=progress, **options)

    carry_out(ctx, "continuing", (model, vocoder, device, engine, tag), make, target, json)
