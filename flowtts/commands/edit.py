"""``flowtts edit``, ``fill`` and ``denoise``: make stretches of a recording anew and keep every other sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowtts.commands.editing import Confidence, Files, Input, Rank, Ranking, Sampled, Spans, Text, TextFile, carry_out
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
    parse_spans,
    text_from,
)
from flowtts.commands.terminal import Misuse

if TYPE_CHECKING:
    from flowtts.edit.request import Progress
    from flowtts.edit.result import Edited
    from flowtts.pipeline import Pipeline


def edit(
    ctx: typer.Context,
    recording: Input,
    text: Text = None,
    text_file: TextFile = None,
    to: Annotated[str | None, typer.Option("--to", help="What it shall say; - reads standard input.")] = None,
    to_file: Annotated[Path | None, typer.Option("--to-file", help="The same from a file.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="IN.edited.wav if not given.")] = None,
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
    """Change words in a recording; every sample elsewhere stays as it is."""
    target = Files(recording, output, words, sidecar).check("edited", (text_file, to_file), lexicon)
    one_from_stdin(text, to)
    said, wanted = text_from("--text", text, text_file), text_from("--to", to, to_file)
    options = Sampled(seed, steps, solver, grid, guidance, best_of, rank, lexicon, confidence).options()

    def make(tts: Pipeline, progress: Progress) -> Edited:
        return tts.edit(recording, said, wanted, progress=progress, **options)

    carry_out(ctx, "editing", (model, vocoder, device, engine, tag), make, target, json)


def fill(
    ctx: typer.Context,
    recording: Input,
    text: Text = None,
    text_file: TextFile = None,
    span: Spans = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="IN.filled.wav if not given.")] = None,
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
    """Make stretches of a recording anew from its transcript, such as a word that was cut out or spoilt."""
    target = Files(recording, output, words, sidecar).check("filled", (text_file,), lexicon)
    said, spans = text_from("--text", text, text_file), parse_spans(span)
    if not spans:
        raise Misuse("--span is missing; say what to fill with --span START:END, in seconds")
    options = Sampled(seed, steps, solver, grid, guidance, best_of, rank, lexicon, confidence).options()

    def make(tts: Pipeline, progress: Progress) -> Edited:
        return tts.fill(recording, said, spans, progress=progress, **options)

    carry_out(ctx, "filling", (model, vocoder, device, engine, tag), make, target, json)


def denoise(
    ctx: typer.Context,
    recording: Input,
    text: Text = None,
    text_file: TextFile = None,
    span: Spans = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="IN.denoised.wav if not given.")] = None,
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
    """Say anew what a cough, a bark or a slammed door covers; the spans are found if not given."""
    target = Files(recording, output, words, sidecar).check("denoised", (text_file,), lexicon)
    said, spans = text_from("--text", text, text_file), parse_spans(span)
    options = Sampled(seed, steps, solver, grid, guidance, best_of, rank, lexicon, confidence).options()

    def make(tts: Pipeline, progress: Progress) -> Edited:
        return tts.denoise(recording, said, spans or None, progress=progress, **options)

    carry_out(ctx, "denoising", (model, vocoder, device, engine, tag), make, target, json)
