"""``flowtts replay``: make a recording again from its sidecar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowtts.commands.options import Device, Json, existing_file, output_file
from flowtts.commands.terminal import Misuse, terminal


def replay(
    ctx: typer.Context,
    sidecar: Annotated[Path, typer.Argument(help="OUT.json, which flowtts wrote beside OUT.wav.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to; the recording's own name if it is gone.")
    ] = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Make a recording again. On the same CPU build the bytes are the same."""
    existing_file(sidecar, "sidecar")
    original, source = _files(sidecar)
    path = output_file(output or _free_name(original), None, (sidecar, *source))
    if path.exists() and original.exists() and path.samefile(original):
        raise Misuse(f"{path}: would overwrite the recording to compare with; choose another name with -o")

    from flowtts.pipeline import replay as make_again

    before = original.read_bytes() if original.is_file() and original.suffix == path.suffix else None
    path.parent.mkdir(parents=True, exist_ok=True)
    speech = make_again(sidecar, path, device)
    same = None if before is None else path.read_bytes() == before
    term = terminal(ctx)
    if json:
        term.result({**speech.info(path), "identical": same})
    else:
        verdict = {True: ", the same bytes as before", False: f", not the bytes of {original}", None: ""}[same]
        term.message(f"{path}: {speech.seconds:.2f} s{verdict}")


def _files(sidecar: Path) -> tuple[Path, tuple[Path, ...]]:
    """The recording beside its sidecar, whether or not it is still there, and the one that it was edited from."""
    from json import loads

    try:
        found = loads(sidecar.read_text(encoding="utf-8"))
        source = (Path(found["recording"]["name"]),) if "recording" in found else ()
        return sidecar.with_suffix(Path(found["audio"]).suffix), source
    except (ValueError, KeyError, TypeError):
        raise Misuse(f"{sidecar}: not the sidecar of a recording that flowtts made") from None


def _free_name(original: Path) -> Path:
    """The recording's own name if it is gone, else one beside it."""
    return original.with_name(f"{original.stem}.replay{original.suffix}") if original.exists() else original
