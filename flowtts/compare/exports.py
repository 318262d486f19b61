"""A comparison as files for other programs: JSON, CSV, Parquet, and a table for a paper."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flowtts.audio.io import replacing
from flowtts.compare.figures import Figures, Scale, asked
from flowtts.compare.result import MetricInfo, Result, Score
from flowtts.compat import require
from flowtts.speech import write_json
from flowtts.types import UserError

SCORES: Mapping[str, str] = {
    "system": "string", "set": "string", "prompt": "string", "speaker": "string", "item": "string", "seed": "int64",
    "metric": "string", "value": "float64", "dropped": "string", "heard": "string",
}  # fmt: skip
"""Columns of scores.csv and scores.parquet, with Arrow's types."""

COSTS = ("rtf", "rtf_low", "rtf_high", "warm_rtf", "cold_seconds", "load_seconds", "peak_memory_mb")

_INTERVAL = ("", "_low", "_high", "_speaker_low", "_speaker_high")

Line = dict[str, Any]


def write_exports(result: Result, folder: Path) -> list[str]:
    """Write ``report.json``, ``scores`` as CSV and Parquet, ``summary.csv``, ``differences.csv`` and ``table.tex``.

    CSV files hold every digit, rates as shares of 1, and nothing where a value is missing.

    Args:
        result: what was found.
        folder: where they go.

    Returns:
        What the user should know, in lines: that a file is missing, and why.

    Raises:
        UserError: a file cannot be written.
    """
    write_json(folder / "report.json", result)
    scores, figures = score_lines(result), Figures.of(result)
    _write_csv(folder / "scores.csv", list(SCORES), scores)
    _write_csv(folder / "summary.csv", _summary_columns(result), [_summary(figures, name) for name in figures.systems])
    pairs: list[Line] = [dict(difference) for difference in result["differences"]]
    names = ["metric", "a", "b", "value", "low", "high", "p", "adjusted", "pairs", "real"]
    _write_csv(folder / "differences.csv", names, pairs)
    with replacing(folder / "table.tex") as part:
        part.write_text(latex(figures), encoding="utf-8", newline="\n")
    return _write_parquet(folder / "scores.parquet", scores)


def score_lines(result: Result) -> list[Line]:
    """Every metric of every recording, in the order of the report; metrics of whole sets have none."""
    prompts = {prompt["id"]: prompt for prompt in result["prompts"]}
    metrics = [metric["name"] for metric in result["metrics"] if metric["level"] == "item"]
    return [
        {
            "system": row["system"], "set": prompts[row["prompt"]]["set"], "prompt": row["prompt"],
            "speaker": prompts[row["prompt"]]["speaker"], "item": row["item"], "seed": row["seed"], "metric": metric,
            "value": row["scores"].get(metric), "dropped": row["dropped"].get(metric, row["error"]),
            "heard": row["heard"].get(metric),
        }
        for row in result["items"]
        for metric in metrics
    ]  # fmt: skip


def _summary_columns(result: Result) -> list[str]:
    columns = ["system", "label", "kind", "made", "failed", "seconds", "nfe", "network_calls", *COSTS]
    for metric in result["metrics"]:
        columns += [metric["name"] + end for end in (*_INTERVAL, "_count", "_dropped", "_rank")]
    return columns


def _summary(figures: Figures, name: str) -> Line:
    """A system: what it cost, then each metric with both intervals."""
    system = figures.systems[name]
    times = system["times"] or {}
    rtf = times.get("rtf") or {}
    line: Line = {
        "system": name, "label": system["label"], "kind": system["kind"], "made": system["made"],
        "failed": system["failed"], "seconds": system["seconds"], "nfe": system["nfe"],
        "network_calls": system["network_calls"],
        "rtf": rtf.get("value"), "rtf_low": rtf.get("low"), "rtf_high": rtf.get("high"),
        **{key: times.get(key) for key in COSTS[3:]},
    }  # fmt: skip
    for metric in figures.metrics:
        score = figures.score(name, metric)
        if score is not None:
            values = (score["value"], score["low"], score["high"], score["speaker_low"], score["speaker_high"])
            line |= {metric + end: value for end, value in zip(_INTERVAL, values, strict=True)}
            line |= {
                f"{metric}_count": score["count"],
                f"{metric}_dropped": len(score["dropped"]),
                f"{metric}_rank": score["rank"],
            }
    return line


def _write_csv(path: Path, columns: Sequence[str], lines: Iterable[Line]) -> None:
    # Python writes the shortest digits that read back as the same number.
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _write_parquet(path: Path, lines: Sequence[Line]) -> list[str]:
    try:
        arrow, parquet = require("pyarrow", "compare"), require("pyarrow.parquet", "compare")
    except UserError as error:
        # What an earlier run left would not be of this one.
        path.unlink(missing_ok=True)
        return [f"{path.name} was not written: {error}"]
    schema = arrow.schema([(name, getattr(arrow, kind)()) for name, kind in SCORES.items()])
    table = arrow.Table.from_pylist(list(lines), schema=schema)
    with replacing(path) as part:
        parquet.write_table(table, part)
    return []


# --- LaTeX -----------------------------------------------------------------------------------------------------------


def latex(figures: Figures) -> str:
    r"""The summary as a table of the package booktabs; intervals are subscripts, the best group is bold.

    The only commands used are booktabs' rules and what LaTeX itself defines; text is escaped.
    """
    metrics = list(figures.metrics.values())
    head = " & ".join(["System", *(_heading(metric) for metric in metrics)])
    body = [
        " & ".join([tex(system["label"]), *(_value(figures, name, metric) for metric in metrics)]) + r" \\"
        for name, system in figures.systems.items()
    ]
    return "\n".join([
        r"% Needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(figures)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        r"\toprule",
        head + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ])  # fmt: skip


def _heading(metric: MetricInfo) -> str:
    unit = f" ({tex(metric['unit'])})" if metric["unit"] else ""
    arrow = {True: r"$\uparrow$", False: r"$\downarrow$", None: ""}[metric["higher_is_better"]]
    return f"{tex(metric['label'])}{unit} {arrow}"


def _value(figures: Figures, system: str, metric: MetricInfo) -> str:
    """A value with its interval; a dagger where something is missing, which the caption explains."""
    score = figures.score(system, metric["name"])
    if score is None or score["value"] is None:
        return "--"
    scale = figures.scales[metric["name"]]
    value = _number(scale, score["value"])
    if system in figures.best(metric["name"]):
        value = rf"\mathbf{{{value}}}"
    low, high = score["low"], score["high"]
    interval = "" if low is None or high is None else f"_{{[{_number(scale, low)},\\,{_number(scale, high)}]}}"
    dagger = r"^{\dagger}" if score["dropped"] else ""
    return f"${value}{interval}{dagger}$"


def _number(scale: Scale, value: float) -> str:
    return scale.text(value).replace("−", "-")


def _caption(figures: Figures) -> str:
    """What is shown, who judged, how many, and what is missing."""
    held = ", ".join(f"{tex(str(s.get('name', '')))} ({s.get('count', 0)})" for s in figures.result["sets"])
    said = [f"Over $n={len(figures.result['prompts'])}$ prompts" + (f" of the sets {held}" if held else "")]
    said[0] += r" with bootstrap 95\,\% intervals; bold: the best, recordings and copies aside, as far as can be told"
    said += [
        f"{tex(metric['label'])} by {tex(metric['backend'])}"
        for metric in figures.metrics.values()
        if metric["backend"]
    ]
    missing = [
        f"{tex(figures.label(name))} {tex(metric['label'])} {score['count']} of {asked(score)}"
        for name in figures.systems
        for metric in figures.metrics.values()
        if (score := _gap(figures, name, metric)) is not None
    ]
    if missing:
        said.append(rf"$\dagger$ judged in part: {', '.join(missing)}")
    return "; ".join(said) + "."


def _gap(figures: Figures, system: str, metric: MetricInfo) -> Score | None:
    score = figures.score(system, metric["name"])
    return score if score is not None and score["dropped"] else None


# A bracket or a star would be read as an argument where it follows the end of a row.
_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''", "–": "--",
    "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''", "…": r"\ldots{}", "×": r"$\times$", "±": r"$\pm$",
    "−": "$-$", "[": "{[}", "]": "{]}", "*": "{*}", "→": r"$\rightarrow$",
    "°": r"$^{\circ}$", "µ": r"$\mu$", "μ": r"$\mu$", "\u00a0": "~",
}  # fmt: skip

_LATIN = "ÆæŒœØøßÅåŁł"
"""Letters besides those with accents that LaTeX knows with any font."""


def tex(text: str) -> str:
    """Text as LaTeX; a character that it does not know by itself is written as its number."""
    return "".join(_TEX.get(character) or _letter(character) for character in " ".join(text.split()))


def _letter(character: str) -> str:
    if character.isascii() or character in _LATIN:
        return character
    base = unicodedata.normalize("NFD", character)
    accents = {"\u0300", "\u0301", "\u0302", "\u0303", "\u0308", "\u030a", "\u030c", "\u0327"}
    if len(base) == 2 and base[0].isascii() and base[1] in accents:
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"
