"""``flowtts encode``: a recording to a file of codes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from flowtts.commands.options import Device, Json, existing_file, output_file
from flowtts.commands.terminal import terminal

Codebooks = Annotated[int | None, typer.Option("--codebooks", min=1, help="Use the first so many: fewer bits.")]


def encode(
    ctx: typer.Context,
    recording: Annotated[Path, typer.Argument(metavar="IN.wav", help="A recording.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.ftc", help="The file of codes.")],
    codec: Annotated[str, typer.Option("--codec", help="A name that `flowtts models` lists, or a folder.")] = "codec",
    codebooks: Codebooks = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write a recording as the codes of a neural codec; several channels are averaged."""
    existing_file(recording, "recording")
    output_file(output, (".ftc",), (recording,))

    from flowtts import container
    from flowtts.audio.io import read
    from flowtts.device import choose_device
    from flowtts.registry import load_codec

    audio = read(recording)
    where = choose_device(device)
    maker = load_codec(codec, codebooks, where)
    started = time.perf_counter()
    coded = container.encode(maker, audio, where)
    seconds = time.perf_counter() - started
    output.parent.mkdir(parents=True, exist_ok=True)
    container.write(output, coded)
    size = output.stat().st_size
    term = terminal(ctx)
    if json:
        term.result(
            {
                "file": output,
                "seconds": round(coded.seconds, 4),
                "codec": coded.codec,
                "hash": coded.hash,
                "codebooks": coded.spec.codebooks,
                "frames": len(coded.codes),
                "frame_rate": coded.spec.frame_rate,
                "bits_per_second": coded.bits_per_second,
                "bytes": size,
                "rtf": round(seconds / coded.seconds, 4),
            }
        )
    else:
        term.message(
            f"{output}: {coded.seconds:.2f} s in {size} bytes, {coded.bits_per_second / 1000:.2f} kbit/s of codes"
        )
