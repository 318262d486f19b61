"""A benchmark's result for people: a table, and a picture of quality against network calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowtts.audio.io import replacing
from flowtts.compat import require
from flowtts.speech import write_json
from flowtts.types import UserError

Row = Mapping[str, Any]

_LEGEND = """\
Rates are per cent; brackets hold 95 % bootstrap intervals. Δ is the difference from the converged result, its interval
paired by utterance; mel is the mean absolute distance to the converged features. NFE and calls of the network are those
of an utterance. sampling: median seconds of an utterance in the recipe alone; rtf: those, and all from text to sound,
per second of sound. First calls are discarded."""


def write_all(result: Mapping[str, Any], folder: Path) -> str | None:
    """Write ``bench.json``, ``bench.md`` and, if matplotlib is there, ``bench.svg`` and ``bench.png``.

    Returns:
        Why there is no picture, or None.

    Raises:
        UserError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "bench.json", result)
    with replacing(folder / "bench.md") as part:
        part.write_text(markdown(result), encoding="utf-8")
    try:
        require("matplotlib.figure", "eval")
    except UserError as error:
        return f"no picture: {error}"
    plot(result, folder)
    return None


def columns(result: Mapping[str, Any]) -> list[str]:
    """Headings of the table."""
    several = ["model"] if len({row["model"] for row in result["rows"]}) > 1 else []
    judged = [name for metric in result["metrics"] for name in (metric, f"Δ {metric}")]
    return [
        *several, "solver", "grid", "steps", "guidance", "NFE", "calls", *judged, "mel", "sampling", "rtf sampling",
        "rtf",
    ]  # fmt: skip


def cells(result: Mapping[str, Any], row: Row) -> list[str]:
    """One row of the table."""
    several = [row["model"]] if "model" in columns(result) else []
    mark = " (reference)" if row["reference"] else ""
    who = [*several, f"{row['solver']}{mark}", str(row["grid"]), str(row["steps"]), str(row["guidance"])]
    if row["error"] is not None:
        return [*who, f"failed: {row['error']}", *[""] * (len(columns(result)) - len(who) - 1)]
    judged = [cell for metric in result["metrics"] for cell in _judged(row, metric)]
    return [
        *who, f"{row['nfe']:g}", f"{row['network_calls']:g}", *judged, _spread("", row["mel"]),
        f"{row['sampling']['seconds']:.3f} s", f"{row['sampling']['rtf']:.3f}", f"{row['whole']['rtf']:.3f}",
    ]  # fmt: skip


def _judged(row: Row, metric: str) -> tuple[str, str]:
    if metric not in row["metrics"]:
        return "failed", ""
    dropped = len(row["metrics"][metric]["dropped"])
    said = _spread(metric, row["metrics"][metric]) + (f" ({dropped} dropped)" if dropped else "")
    return said, _spread(metric, row["differences"].get(metric), signed=True)


def _spread(metric: str, found: Mapping[str, Any] | None, signed: bool = False) -> str:
    """A value and its interval; rates in per cent."""
    if found is None or found["value"] is None:
        return ""
    rate = metric.partition("-")[0].partition(":")[0] in ("wer", "cer")
    form = ("{:+" if signed else "{:") + (".1f}" if rate else ".3f}")
    value, low, high = (None if x is None else form.format(100 * x if rate else x) for x in _triple(found))
    return f"{value}" if low is None else f"{value} [{low}, {high}]"


def _triple(found: Mapping[str, Any]) -> tuple[float, float | None, float | None]:
    return found["value"], found["low"], found["high"]


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """One line per model: the fewest network calls that are as good as many."""
    enough = result["enough"]
    if enough is None:
        return []
    where = f"{enough['metric']} within {100 * enough['within']:g} point of the converged result's"
    return [
        f"{model}: no setting has its {where}" if row is None
        else f"{model}: {row['network_calls']:g} network calls ({row['name']}) have their {where}"
        for model, row in enough["models"].items()
    ]  # fmt: skip


def judges(result: Mapping[str, Any]) -> list[str]:
    """One line per metric: who judged, at which rate, how many."""
    found: dict[str, None] = {}
    for row in result["rows"]:
        for name, score in row.get("metrics", {}).items():
            found[f"{name}: {score['backend']} at {score['sample_rate']} Hz, {score['count']} utterances"] = None
    return list(found)


def markdown(result: Mapping[str, Any]) -> str:
    """``bench.md``."""
    machine, named = result["machine"], columns(result)
    lines = [
        "# Benchmark", "",
        *(f"* {line}" for line in verdicts(result)),
        f"* {len(result['sentences'])} sentences in the voices {', '.join(result['voices'])}, seed {result['seed']}, "
        f"vocoder {result['vocoder']}; the same durations and noise in every row",
        *(f"* {line}" for line in judges(result)),
        f"* {machine.get('gpu', machine['cpu'])}, {machine['threads']} threads, {machine['device']}; "
        + ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
        f"* weights: {', '.join(f'{name} {digest}' for name, digest in result['models'].items())}", "",
        "| " + " | ".join(named) + " |",
        "|" + "---|" * len(named),
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in cells(result, row)) + " |" for row in result["rows"]),
        "",
        _LEGEND, "",
    ]  # fmt: skip
    return "\n".join(lines)


def plot(result: Mapping[str, Any], folder: Path) -> None:
    """``bench.svg`` and ``bench.png``: a panel per metric and one for the distance, over network calls.

    Raises:
        UserError: matplotlib is missing, or the folder cannot be written.
    """
    figures = require("matplotlib.figure", "eval")
    good = [row for row in result["rows"] if row["error"] is None]
    panels = [*result["metrics"], "mel"]
    figure = figures.Figure(figsize=(5 * len(panels), 5), dpi=100, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for place, name in zip(axes, panels, strict=True):
        _panel(place, name, good)
    handles, labels = axes[-1].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    for suffix in ("svg", "png"):
        with replacing(folder / f"bench.{suffix}") as part:
            # No date in the file: the same result gives the same bytes.
            figure.savefig(part, format=suffix, metadata={"Date": None} if suffix == "svg" else None)


def _panel(place: Any, name: str, rows: Sequence[Row]) -> None:
    """One measure over network calls: a line per way of sampling, the converged result across."""
    place.set_title(name)
    place.set_xscale("log", base=2)
    place.set_xlabel("network calls")
    place.xaxis.set_major_formatter("{x:g}")
    place.grid(True, alpha=0.3)
    lines: dict[str, list[Row]] = {}
    for row in rows:
        found = row["mel"] if name == "mel" else row["metrics"].get(name)
        if found is None or found["value"] is None:
            continue
        if row["reference"]:
            place.axhline(found["value"], color="black", linewidth=1, linestyle="--")
            place.axhspan(found["low"], found["high"], color="black", alpha=0.06)
            continue
        lines.setdefault(f"{row['model']} {row['solver']} {row['grid']} g={row['guidance']}", []).append(row)
    for label, line in lines.items():
        line = sorted(line, key=lambda row: row["network_calls"])
        found = [row["mel"] if name == "mel" else row["metrics"][name] for row in line]
        values = [one["value"] for one in found]
        spread = [[max(0.0, one["value"] - one["low"]) for one in found],
                  [max(0.0, one["high"] - one["value"]) for one in found]]  # fmt: skip
        place.errorbar([row["network_calls"] for row in line], values, yerr=spread, label=label, marker="o",
                       markersize=4, linewidth=1.2, capsize=2, elinewidth=0.7)  # fmt: skip
    if name == "mel" and lines:
        place.set_yscale("log")
