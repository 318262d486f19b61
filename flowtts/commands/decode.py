"""``flowtts decode``: a file of codes to sound."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowtts.commands.options import Device, Json, Tag, existing_file, output_file
from flowtts.commands.terminal import terminal

if TYPE_CHECKING:
    from flowtts.container import Coded
    from flowtts.types import PathLike


def decode(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="IN.ftc", help="A file that `flowtts encode` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.wav", help="The sound.")],
    codec: Annotated[
        str | None, typer.Option("--codec", help="The codec that wrote it, if not the file's own: a name or a folder.")
    ] = None,
    codebooks: Annotated[int | None, typer.Option("--codebooks", min=1, help="Use the first so many only.")] = None,
    device: Device = "auto",
    tag: Tag = True,
    json: Json = False,
) -> None:
    """Make codes sound again, with the very weights that wrote them; at the codec's sampling rate."""
    existing_file(file, "file of codes")
    output_file(output, None, (file,))

    from flowtts import container
    from flowtts.audio.io import write
    from flowtts.device import choose_device
    from flowtts.provenance.metadata import comments
    from flowtts.provenance.tag import embed
    from flowtts.registry import load_codec

    coded = container.read(file).first(codebooks)
    where = choose_device(device)
    maker = load_codec(codec or _writer(coded), None, where)
    container.require_codec(coded, maker, file)
    started = time.perf_counter()
    made = container.decode(maker, coded, where)
    seconds = time.perf_counter() - started
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output, embed(made) if tag else made, comments=comments("copy", maker.name) if tag else None)
    term = terminal(ctx)
    if json:
        term.result(
            {
                "audio": output,
                "sample_rate": made.sample_rate,
                "seconds": round(made.seconds, 4),
                "codec": maker.name,
                "codebooks": coded.spec.codebooks,
                "rtf": round(seconds / made.seconds, 4),
            }
        )
    else:
        term.message(f"{output}: {made.seconds:.2f} s at {made.sample_rate} Hz")


def _writer(coded: Coded) -> PathLike:
    """What wrote codes: the codec that comes with flowtts by its name, pulled ones by their weights."""
    from flowtts.pull import with_hash
    from flowtts.registry import CODECS

    return coded.codec if CODECS.get(coded.codec) else with_hash(coded.hash) or coded.codec
