"""``flowtts bench``: how good and how fast a model is, per solver, grid, steps and guidance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowtts.commands.options import Device, Engine, Json, Seed, VocoderName, existing_file, output_file, output_folder
from flowtts.commands.terminal import Misuse, Terminal, terminal

if TYPE_CHECKING:
    from flowtts.bench import Job

_Many = list[str] | None


def bench(
    ctx: typer.Context,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A folder; it may hold earlier results.")
    ] = None,
    model: Annotated[_Many, typer.Option(help="A name that `flowtts models` lists, or a folder. Repeatable.")] = None,
    solver: Annotated[_Many, typer.Option(help="euler, midpoint, heun, rk4, dopri5 … Repeatable.")] = None,
    grid: Annotated[_Many, typer.Option(help="uniform, sway, cosine … or a grid's file. Repeatable.")] = None,
    steps: Annotated[list[int] | None, typer.Option(min=1, max=1000, help="Intervals of the grid. Repeatable.")] = None,
    guidance: Annotated[_Many, typer.Option(help="A scale, or all of what say takes. Repeatable.")] = None,
    plan: Annotated[Path | None, typer.Option(help="A YAML file with the settings, row by row.")] = None,
    reference: Annotated[
        _Many, typer.Option(help="About the converged run, rk4 with 32 steps: steps=64, model=NAME … Repeatable.")
    ] = None,
    voice: Annotated[_Many, typer.Option(help="A recording, or a shipped voice's name. Repeatable.")] = None,
    sentences: Annotated[Path | None, typer.Option(help="TSV with the columns id and text; 40 are shipped.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Sentences to say in each voice; all of them.")] = None,
    metrics: Annotated[
        str, typer.Option(help="Names that `flowtts models` lists, with commas.")
    ] = "wer-closed,wer,sim-o",
    fit_grid: Annotated[
        Path | None, typer.Option(help="Fit a grid to the model and write it to this .json; --grid may name it.")
    ] = None,
    seed: Seed = 0,
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", min=1, help="Processes that judge; speaking is timed alone.")
    ] = 1,
    vocoder: VocoderName = "auto",
    device: Device = "auto",
    engine: Engine = "auto",
    tune: Annotated[
        bool, typer.Option("--tune", help="Only time the engines here, and keep the fastest for --engine auto.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the settings and what they cost; run none.")] = False,
    json: Json = False,
) -> None:
    """Measure a model: quality, speed and network calls of every combination of the options.

    Every setting says the same sentences in the same voices with the same durations and noise. The same command again
    continues where it was stopped.
    """
    if tune:
        _tune(terminal(ctx), model or ["voicebox"], device, engine, json)
        return
    if output is None and not dry_run:
        raise Misuse("bench needs a folder for its results: give it with -o FOLDER")
    if output is not None:
        output_folder(output)
    for path, what in ((plan, "plan"), (sentences, "file of sentences")):
        if path is not None:
            existing_file(path, what)
    if fit_grid is not None:
        output_file(fit_grid, (".json",), tuple(path for path in (plan, sentences) if path is not None))
    wanted = tuple(dict.fromkeys(name.strip() for name in metrics.split(",") if name.strip()))
    if not wanted:
        raise Misuse("--metrics names no metric; give at least one, such as wer-closed")
    given = {"model": model, "solver": solver, "grid": grid, "steps": steps, "guidance": guidance}

    from flowtts.bench import Job, read_sentences
    from flowtts.request import DEFAULT_VOICE

    rows, about = _rows(given, plan, reference)
    job = Job(
        rows=rows, sentences=read_sentences(sentences, count), voices=tuple(voice or (DEFAULT_VOICE,)), metrics=wanted,
        reference=about, seed=seed, jobs=jobs, vocoder=vocoder, device=device, engine=engine, fit=fit_grid,
    )  # fmt: skip
    if dry_run or output is None:
        _show(terminal(ctx), job, json)
    elif not _measure(terminal(ctx), job, output, json):
        raise typer.Exit(1)


def _tune(term: Terminal, models: list[str], device: str, engine: str, json: bool) -> None:
    """Time the engines, all that start at once or the one that is named beside eager."""
    from flowtts.bench.engines import QUICK, tune_engines, verdict

    if len(models) > 1:
        raise Misuse("--tune measures one model; give --model once")
    with term.progress("timing engines", None):
        found = tune_engines(models[0], device, QUICK if engine == "auto" else (engine,))
    if json:
        term.result(found.as_json())
        return
    exact = found.engines["eager"].seconds
    rows = [
        (name, f"{m.seconds:.3f}", f"{m.seconds / found.seconds:.3f}", f"{exact / m.seconds:.2f}", f"{m.error:.4f}")
        for name, m in found.engines.items()
    ]
    title = f"{models[0]} on {found.device}, {found.threads} threads, {found.seconds:g} s of speech"
    term.table(title, ("engine", "seconds", "real-time factor", "gain", "error"), rows)
    for name, why in found.refused.items():
        term.show(f"{name} was not timed: {why}")
    term.show(verdict(found))


def _rows(
    given: dict[str, Any], plan: Path | None, reference: list[str] | None
) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """The settings: those of the plan, and the options for whatever a row does not say."""
    from flowtts.bench.settings import read_plan, value_of

    options = {
        key: [value_of(key, value, f"--{key}") for value in values] for key, values in given.items() if values
    }  # fmt: skip
    options.setdefault("model", ["voicebox"])
    rows, about = ([{}], {}) if plan is None else read_plan(plan)
    for spelling in reference or ():
        key, equals, value = spelling.partition("=")
        if not equals:
            raise Misuse(f"--reference {spelling!r}: write KEY=VALUE, such as steps=64")
        about[key] = value_of(key, value, "--reference")
    return tuple({**options, **row} for row in rows), about


def _show(term: Terminal, job: Job, json: bool) -> None:
    """What would be measured."""
    from flowtts.bench import load, outline

    found = outline(job, load(job)).as_json()
    if json:
        term.result(found)
        return
    rows = [
        (
            row["name"], "?" if row["nfe"] is None else row["nfe"],
            "?" if row["network_calls"] is None else row["network_calls"], "reference" if row["reference"] else "",
        )
        for row in found["settings"]
    ]  # fmt: skip
    title = f"{len(rows)} settings of {found['utterances']} utterances: about {found['network_calls']} network calls"
    term.table(title, ("setting", "NFE", "network calls", ""), rows)


def _measure(term: Terminal, job: Job, folder: Path, json: bool) -> bool:
    """Measure and report; whether any setting worked."""
    from flowtts.bench import bench as run
    from flowtts.bench.report import cells, columns, judges, verdicts, write_all

    with term.progress("loading", None) as bar:
        result = run(job, folder, bar)
    missing = write_all(result, folder)
    if missing is not None:
        term.message(missing)
    if json:
        term.result(result)
    else:
        term.table(str(folder), columns(result), (cells(result, row) for row in result["rows"]))
        for line in (*judges(result), *verdicts(result)):
            term.show(line)
    return any(row["error"] is None for row in result["rows"])
