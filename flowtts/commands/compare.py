"""``flowtts compare``: the same prompts by several systems, measured, with a report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowtts.commands.options import Device, Engine, Json, output_folder
from flowtts.commands.terminal import Misuse, Terminal, terminal

if TYPE_CHECKING:
    from flowtts.compare import Job, Result

_Many = list[str] | None

DEFAULT_PROMPTS = "english"
DEFAULT_METRICS = "wer-closed,wer,cer,sim-o"
DEFAULT_VOICES = ("rms", "slt")


def compare(
    ctx: typer.Context,
    systems: Annotated[
        _Many,
        typer.Argument(
            metavar="MODEL…", help="[LABEL=]NAME[:OPTION=VALUE…]: model, VOCODER-copy, recordings, folder of audio."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder; it may hold an earlier comparison, which goes on.")
    ] = None,
    prompts: Annotated[
        _Many, typer.Option(help="english, hard, edits, accents, or a TSV: id, text[, voice, voice_text]. Repeatable.")
    ] = None,
    format: Annotated[
        str, typer.Option(help="Of the prompts: auto, tsv, seed-tts, librispeech-pc or voicebox.")
    ] = "auto",
    audio_root: Annotated[Path | None, typer.Option(help="Where the recordings of a published list lie.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Prompts of each set; all of them.")] = None,
    voice: Annotated[
        _Many, typer.Option(help="For prompts that name none: a shipped name or a recording. Repeatable.")
    ] = None,
    solver: Annotated[_Many, typer.Option(help="Solvers of every model. Repeatable.")] = None,
    grid: Annotated[_Many, typer.Option(help="Time grids of every model. Repeatable.")] = None,
    steps: Annotated[list[int] | None, typer.Option(min=1, max=1000, help="Steps of every model. Repeatable.")] = None,
    guidance: Annotated[_Many, typer.Option(help="Guidance of every model. Repeatable.")] = None,
    vocoder: Annotated[_Many, typer.Option(help="Vocoders of every model. Repeatable.")] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="Each says everything once more. Repeatable.")] = None,
    metrics: Annotated[str, typer.Option(help="Names with commas, or a YAML list.")] = DEFAULT_METRICS,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Processes; speeds are honest with one.")] = 1,
    device: Device = "auto",
    engine: Engine = "auto",
    tag: Annotated[bool, typer.Option("--tag/--no-tag", help="Mark what is made as synthetic, inaudibly.")] = True,
    title: Annotated[str, typer.Option(help="Of the report.")] = "A comparison of speech synthesis",
    embed: Annotated[
        bool | None, typer.Option("--embed/--no-embed", help="Put the sounds into the page; by default up to 40 MB.")
    ] = None,
    ratings: Annotated[
        list[Path] | None, typer.Option(help="Answers that listen.html saved; the report is made anew. Repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be made and what is there; make none.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare systems on the same prompts: recordings, scores with intervals, which differences are real, a page.

    The same command again continues where it was stopped and redoes what has changed. With --ratings and a finished
    comparison in --out no system is needed. Exit status: 0 if every system made something, 1 if one made nothing,
    2 if it was asked wrongly; single recordings that failed are rows of the report.
    """
    if out is None:
        raise Misuse("compare needs a folder for its report: give it with --out FOLDER")
    output_folder(out)
    given = {"solver": solver, "grid": grid, "steps": steps, "guidance": guidance, "vocoder": vocoder}
    term = terminal(ctx)
    if not systems:
        if not ratings:
            raise Misuse("nothing to compare: name a model, a folder of recordings, griffin-lim-copy or recordings")
        _rate(term, out, ratings, embed, json)
        return
    for path in (*(ratings or ()), *([audio_root] if audio_root is not None else ())):
        if not path.exists():
            raise Misuse(f"{path}: no such file or folder")

    from flowtts.compare import Job, parse, read_sets
    from flowtts.registry import metric_info, read_metrics

    named = prompts or [DEFAULT_PROMPTS]
    asked, sets = read_sets(named, format=format, root=audio_root, count=count)
    job = Job(
        systems=parse(systems, {key: list(values) for key, values in given.items() if values}, seed or [0]),
        prompts=asked, metrics=tuple(metric_info(name)["spelled"] for name in read_metrics(metrics)),
        voices=tuple(voice or DEFAULT_VOICES), jobs=jobs, device=device,
        engine=engine, tag=tag, title=title, command=shlex.join(["flowtts", *sys.argv[1:]]), sets=sets, embed=embed,
    )  # fmt: skip
    if dry_run:
        _show(term, job, out, json)
        return
    if not _measure(term, job, out, ratings or [], json):
        raise typer.Exit(1)


def _measure(term: Terminal, job: Job, folder: Path, ratings: list[Path], json: bool) -> bool:
    """Make everything and report; whether every system made something."""
    from flowtts.compare import Ranks, write_report
    from flowtts.compare import compare as run

    ranks = Ranks.join(job.device)
    with term.progress("loading", None) as bar:
        result = run(job, folder, bar, ranks)
        if result is None:
            return True
        bar.set(0, None, "writing the report")
        messages = write_report(result, folder, ratings, job.embed)
    _tell(term, result, folder, messages, json)
    return all(system["made"] for system in result["systems"])


def _rate(term: Terminal, folder: Path, ratings: list[Path], embed: bool | None, json: bool) -> None:
    """Read answers of listeners into a finished report."""
    from flowtts.compare import read_result, write_report

    result = read_result(folder)
    messages = write_report(result, folder, ratings, embed)
    _tell(term, result, folder, messages, json)


def _tell(term: Terminal, result: Result, folder: Path, messages: list[str], json: bool) -> None:
    for line in messages:
        term.message(line)
    if json:
        term.result({**result, "folder": str(folder)})
        return
    from flowtts.compare import summary_cells, summary_columns

    term.table(str(folder / "index.html"), summary_columns(result), summary_cells(result))
    for line in _verdicts(result):
        term.show(line)


def _verdicts(result: Result) -> list[str]:
    """What the table means, in a line or two."""
    real = sum(difference["real"] for difference in result["differences"])
    lines = []
    if result["differences"]:
        lines.append(
            f"{real} of {len(result['differences'])} differences are real "
            "(paired permutation test, Holm's correction, 5 %)"
        )
    failed = [f"{system['failed']} of {system['label']}" for system in result["systems"] if system["failed"]]
    if failed:
        lines.append(f"recordings that could not be made: {', '.join(failed)}; the report says why")
    return lines


def _show(term: Terminal, job: Job, folder: Path, json: bool) -> None:
    """What would be made."""
    from flowtts.compare import outline

    found: list[dict[str, Any]] = outline(job, folder)
    if json:
        term.result({"prompts": len(job.prompts), "systems": found, "metrics": list(job.metrics)})
        return
    rows = [(row["label"], row["kind"], row["recordings"], row["there"]) for row in found]
    term.table(f"{len(job.prompts)} prompts", ("system", "kind", "recordings", "there already"), rows)
