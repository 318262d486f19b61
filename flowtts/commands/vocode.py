"""``flowtts vocode``: a recording to features and back, which shows what a vocoder costs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from flowtts.commands.options import Device, Json, Tag, VocoderName, existing_file, output_file
from flowtts.commands.terminal import terminal


def vocode(
    ctx: typer.Context,
    recording: Annotated[Path, typer.Argument(metavar="IN.wav", help="A recording.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The copy.")],
    vocoder: VocoderName = "vocos",
    device: Device = "auto",
    tag: Tag = True,
    json: Json = False,
) -> None:
    """Copy a recording through a vocoder: its features made sound again."""
    existing_file(recording, "recording")
    output_file(output, None, (recording,))

    from flowtts.audio.io import read, write
    from flowtts.copying import copy
    from flowtts.device import choose_device
    from flowtts.provenance.metadata import comments
    from flowtts.registry import load_vocoder

    audio = read(recording)
    maker = load_vocoder(vocoder, None, choose_device(device))
    started = time.perf_counter()
    made = copy(maker, audio, tag)
    seconds = time.perf_counter() - started
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output, made, comments=comments("copy", maker.name) if tag else None)
    term = terminal(ctx)
    if json:
        term.result(
            {
                "audio": output,
                "sample_rate": made.sample_rate,
                "seconds": round(made.seconds, 4),
                "vocoder": maker.name,
                "rtf": round(seconds / made.seconds, 4),
            }
        )
    else:
        term.message(f"{output}: {made.seconds:.2f} s at {made.sample_rate} Hz")
