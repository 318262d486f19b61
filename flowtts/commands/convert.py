"""``flowtts convert``: published weights into a checkpoint of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowtts.commands.options import Json, output_folder
from flowtts.commands.terminal import Misuse, terminal


def convert(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(metavar="WHAT", help="tortoise, or univnet for its vocoder alone.")],
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="The published files.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The checkpoint's folder.")],
    half: Annotated[bool, typer.Option("--half", help="Store weights in half precision: half the size.")] = False,
    json: Json = False,
) -> None:
    """Make a checkpoint of published weights. Nothing in their files is run, and every weight must have its place."""
    if not source.exists():
        raise Misuse(f"{source}: no such folder; fetch the published files first")
    output_folder(output)
    if output.resolve() == source.resolve():
        raise Misuse(f"{output} holds the published files; choose another folder with -o")
    if output.is_dir() and any(output.iterdir()) and not (output / "config.yaml").is_file():
        raise Misuse(f"{output} exists and is not a checkpoint: choose another name or move it away")

    import torch

    from flowtts.checkpoint import CONFIG, read_header
    from flowtts.registry import converter

    folder = converter(what)(source, output, dtype=torch.float16 if half else None, others=converter)
    parts = {
        path.parent.relative_to(folder).as_posix(): read_header(path.parent)["kind"]
        for path in sorted(folder.rglob(CONFIG))
    }
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    term = terminal(ctx)
    if json:
        term.result({"checkpoint": folder, "parts": parts, "bytes": size})
    else:
        term.message(f"{folder}: {', '.join(parts.values())}, {size / 1e6:.1f} MB")
