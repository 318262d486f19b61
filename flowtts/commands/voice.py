"""``flowtts voice``: keep what a model knows of a voice, or mix such voices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowtts.commands.options import Device, Json, VocoderName, output_file
from flowtts.commands.terminal import Misuse, terminal


def voice(
    ctx: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="Recordings, folders of them, shipped or kept voices; SOURCE=WEIGHT to mix."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to keep the voice in: .safetensors.")],
    model: Annotated[str, typer.Option("--model", help="The model that is to speak with it.")] = "tortoise",
    vocoder: VocoderName = "auto",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Keep what a model knows of a voice, for --voice; several sources are mixed, all alike or by their weights."""
    parts = [_weighted(source) for source in sources]
    output_file(output, (".safetensors",), tuple(Path(name) for name, _ in parts))

    import flowtts
    from flowtts.latents import mix

    tts = flowtts.load(model, vocoder=vocoder, device=device)
    made = mix([(tts.voice([name]), weight) for name, weight in parts])
    made.save(output)
    term = terminal(ctx)
    if json:
        term.result({"voice": output, "model": model, "model_hash": made.model, "hash": made.hash})
    else:
        term.message(f"{output}: {len(parts)} source{'s' if len(parts) > 1 else ''}, for {model}")


def _weighted(source: str) -> tuple[str, float]:
    """A source and its weight, from SOURCE or SOURCE=WEIGHT."""
    name, equals, weight = source.rpartition("=")
    if not equals or Path(source).exists():
        return source, 1.0
    try:
        value = float(weight)
    except ValueError:
        raise Misuse(f"{source}: the weight behind = is a number, such as 0.5") from None
    if not 0 < value < float("inf"):
        raise Misuse(f"{source}: the weight is a positive number, not {weight}")
    return name, value
