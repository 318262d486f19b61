"""``flowtts prepare``: a corpus to a manifest that can be trained on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flowtts.commands.options import Json, Lexicon, existing_file, finite, output_folder
from flowtts.commands.terminal import terminal


def prepare(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(help="ljspeech, librispeech, libritts, vctk, table, engine or folder.")],
    source: Annotated[Path, typer.Argument(help="The corpus' folder; for table, a TSV with audio and text columns.")],
    out: Annotated[Path, typer.Argument(help="The folder of the manifest.")],
    aligner: Annotated[str, typer.Option(help="pocketsphinx, or an aligner's checkpoint.")] = "pocketsphinx",
    textgrids: Annotated[Path | None, typer.Option(help="A folder of TextGrids to take the times from.")] = None,
    transcribed: Annotated[bool, typer.Option("--transcribed/--untranscribed", help="Use the transcripts.")] = True,
    lexicon: Lexicon = None,
    min_seconds: Annotated[float, typer.Option(min=0, callback=finite, help="Shorter rows are left out.")] = 0.4,
    max_seconds: Annotated[float, typer.Option(min=0, callback=finite, help="Longer rows are left out.")] = 35.0,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, callback=finite, help="Rows that fit their text worse are left out.")
    ] = 0.5,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Processes.")] = 1,
    json: Json = False,
) -> None:
    """Normalise, pronounce and align a corpus. The same command again continues where it was stopped."""
    output_folder(out)
    if lexicon is not None:
        existing_file(lexicon, "lexicon")

    from flowtts.data import prepare as make_manifest

    report = make_manifest(
        kind, source, out, aligner=aligner, textgrids=textgrids, transcribed=transcribed, lexicon=lexicon,
        min_seconds=min_seconds, max_seconds=max_seconds, min_confidence=min_confidence, jobs=jobs,
    )  # fmt: skip
    term = terminal(ctx)
    if json:
        term.result(asdict(report))
        return
    term.message(f"{report.cuts}: {report.accepted} rows, {report.seconds / 3600:.2f} h ({report.resumed} from before)")
    if report.rejected:
        faults = ", ".join(f"{count} {name}" for name, count in sorted(report.faults.items()))
        term.message(f"{report.rejected} rows left out ({faults}): {report.rejections} says why")
