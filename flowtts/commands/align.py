"""``flowtts align``: when every word and phone of a recording is said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowtts.commands.options import Json, Lexicon, Transcript, existing_file, output_file, text_or_stdin
from flowtts.commands.terminal import terminal

FORMATS = (".json", ".srt", ".vtt", ".TextGrid")


def align(
    ctx: typer.Context,
    recording: Annotated[Path, typer.Argument(metavar="IN.wav", help="A recording.")],
    text: Transcript,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A .json, .srt, .vtt or .TextGrid file.")
    ] = None,
    aligner: Annotated[str, typer.Option(help="pocketsphinx, or an aligner's checkpoint.")] = "pocketsphinx",
    lexicon: Lexicon = None,
    json: Json = False,
) -> None:
    """Find when every word and phone of a transcript is said in a recording."""
    existing_file(recording, "recording")
    text = text_or_stdin(text, "--text")
    if lexicon is not None:
        existing_file(lexicon, "lexicon")
    if output is not None:
        output_file(output, FORMATS, (recording,))

    from flowtts.alignment import check_match, choose_aligner, write_alignment
    from flowtts.alignment.writers import as_dict
    from flowtts.audio.io import read
    from flowtts.text import FrontEnd

    audio = read(recording).mono()
    analysis = FrontEnd(lexicon).analyse(text)
    alignment = choose_aligner(aligner).align(audio, analysis)
    check_match(alignment)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_alignment(output, alignment, analysis)
    term = terminal(ctx)
    if json:
        head = {"audio": recording, "seconds": round(audio.seconds, 4), "normalised": analysis.normalised}
        term.result({**head, **as_dict(alignment), "output": output})
    elif output is not None:
        term.message(f"{output}: {len(alignment.words)} words, {audio.seconds:.2f} s")
    else:
        rows = [(w.text, f"{w.start:.2f}", f"{w.end:.2f}", _shown(w.confidence)) for w in alignment.words]
        term.table(f"{recording}  ({audio.seconds:.2f} s)", ("word", "start", "end", "confidence"), rows)


def _shown(confidence: float | None) -> str:
    return "" if confidence is None else f"{confidence:.2f}"
