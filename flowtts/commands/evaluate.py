"""``flowtts evaluate``: judge recordings by metrics."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from flowtts.commands.options import Device, Json, VocoderName, existing_file, output_file
from flowtts.commands.terminal import Misuse, Terminal, terminal


def evaluate(
    ctx: typer.Context,
    manifest: Annotated[Path, typer.Argument(help="TSV with the columns audio, text[, reference, prompt, id, took].")],
    metrics: Annotated[
        str | None,
        typer.Option(help="Names that `flowtts models` lists, with commas, or a YAML list; wer and, with prompts, sim"),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A .json file for the scores.")] = None,
    vocoder: VocoderName = "vocos",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Judge recordings: what is heard in them, whose voice it is, how good it sounds."""
    existing_file(manifest, "manifest")
    if metrics is not None and not metrics.strip(" ,"):
        raise Misuse("--metrics names no metric; give at least one, such as wer")
    if output is not None:
        output_file(output, (".json",), (manifest,))
    from flowtts.registry import read_metrics

    wanted = None if metrics is None else list(read_metrics(metrics))
    term = terminal(ctx)
    result, table = _judge(term, manifest, wanted, vocoder, device)
    if output is not None:
        from flowtts.speech import write_json

        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, result)
    if json:
        term.result(result)
    else:
        term.rich(table)


def _judge(
    term: Terminal, path: Path, wanted: list[str] | None, vocoder: str, device: str
) -> tuple[dict[str, Any], Any]:
    """The scores, keyed by the names that were asked for, and a table of them."""
    from flowtts.copying import copy
    from flowtts.device import choose_device
    from flowtts.registry import load_vocoder, metric_info

    judging, report = import_module("flowtts.eval.judging"), import_module("flowtts.eval.report")
    manifest = import_module("flowtts.eval.manifest").read_manifest(path)
    if wanted is None:
        wanted = ["wer", "sim"] if any(item.prompt is not None for item in manifest.items) else ["wer"]
    place = choose_device(device)
    # Only sim-r resynthesises; loading a vocoder for nothing would cost the others a second.
    again = any("vocoder" in metric_info(name)["needs"] for name in wanted)
    resynthesise = partial(copy, load_vocoder(vocoder, None, place)) if again else None
    with term.progress("judging", None) as bar:
        context = judging.Context(
            resynthesise=resynthesise,
            took=manifest.took,
            device=str(place),
            progress=lambda name, done, total: bar.set(done, total, name),
        )
        found = report.evaluate(manifest.items, wanted, context)
    result = found.as_json()
    names = [name.partition(":")[0] for name in wanted]
    result["metrics"] = dict(zip(names, result["metrics"].values(), strict=True))
    return {"manifest": str(path), **result}, found.table()
