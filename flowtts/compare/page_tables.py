"""The tables of the page: systems by metrics, what is missing, which differences are real, what the metrics are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from flowtts.compare.figures import NOTHING, Figures, asked, probability, scale_of
from flowtts.compare.page_parts import Cell, Column, metric_column, name_cell, number_cell, table, unseen
from flowtts.compare.result import Difference, Score, System
from flowtts.compare.svg import key

_COSTS: tuple[tuple[str, Callable[[System], Any]], ...] = (
    ("NFE", lambda system: system["nfe"]),
    ("Network calls", lambda system: system["network_calls"]),
    ("RTF", lambda system: _time(system, "rtf")),
    ("RTF warm", lambda system: _time(system, "warm_rtf")),
    ("Cold, s", lambda system: _time(system, "cold_seconds")),
    ("Loading, s", lambda system: _time(system, "load_seconds")),
    ("Memory, MB", lambda system: _time(system, "peak_memory_mb")),
)
"""Columns of what a system costs: a number, a figure, or None."""


def summary(figures: Figures) -> str:
    """Systems by metrics and costs, with the choice of the interval."""
    costs = [[_figure(cost(system)) for system in figures.systems.values()] for _, cost in _COSTS]
    scales = [scale_of(value for figure in column for value in figure) for column in costs]
    rows = []
    for number, (name, system) in enumerate(figures.systems.items()):
        label = system["label"]
        cells = [name_cell(label, f'<a href="#system-{number}">{key(number)}{escape(label)}</a>')]
        cells += [_score(figures, name, metric) for metric in figures.metrics]
        cells.append(Cell(f"{system['made']} of {system['made'] + system['failed']}", system["made"], _made(system)))
        for scale, column in zip(scales, costs, strict=True):
            value, low, high = column[number]
            interval = scale.between(low, high)
            shown = f'{scale.text(value)}<small class="interval">{interval}</small>' if interval else None
            cells.append(Cell(scale.text(value), value, shown))
        rows.append(cells)
    columns = [
        Column("System", numeric=False),
        *(metric_column(metric) for metric in figures.metrics.values()),
        Column("Made", first="descending"),
        *(Column(label) for label, _ in _COSTS),
    ]
    groups = [("", 1), ("What it sounds like", len(figures.metrics)), ("What it costs", 1 + len(_COSTS))]
    shown = table(
        "Every system by every metric, and what it costs", columns, rows, id="summary-table",
        groups=[(label, span) for label, span in groups if span],
    )  # fmt: skip
    return f"{_INTERVALS if figures.metrics else ''}{shown}"


_INTERVALS = (
    '<fieldset class="intervals"><legend>95 % intervals over</legend>'
    '<label><input type="radio" name="interval" id="by-prompt" checked> prompts</label>'
    '<label><input type="radio" name="interval" id="by-speaker"> speakers</label></fieldset>'
)


def _time(system: System, name: str) -> Any:
    return (system["times"] or {}).get(name)


def _figure(cost: Any) -> tuple[float | None, float | None, float | None]:
    """(value, low, high) of a number, a figure or None."""
    if isinstance(cost, Mapping):
        return cost.get("value"), cost.get("low"), cost.get("high")
    return cost, None, None


def _made(system: System) -> str:
    total = system["made"] + system["failed"]
    text = f"{system['made']} of {total}"
    return f'<a class="gap" href="#missing">{text}</a>' if system["failed"] else text


def _score(figures: Figures, system: str, metric: str) -> Cell:
    """Value, rank, both intervals, and how many were judged where that is not all."""
    score = figures.score(system, metric)
    if score is None:
        return Cell(NOTHING, None, f"{NOTHING}{unseen('not judged')}")
    scale = figures.scales[metric]
    value = scale.text(score["value"])
    if system in figures.best(metric):
        value = f"<b>{value}</b>"
    rank = "" if score["rank"] is None else f' <span class="rank">{unseen("rank ")}{score["rank"]}</span>'
    gap = f'<a class="gap" href="#missing">{score["count"]} of {asked(score)}</a>' if score["dropped"] else ""
    shown = f'<span class="value">{value}{rank}</span>{_intervals(scale.between, score)}{gap}'
    return Cell(value, score["value"], shown)


def _intervals(between: Callable[[float | None, float | None], str], score: Score) -> str:
    ways = (("prompt", score["low"], score["high"]), ("speaker", score["speaker_low"], score["speaker_high"]))
    return "".join(
        f'<small class="interval by-{way}">{between(low, high) or "no interval"}</small>' for way, low, high in ways
    )


def missing(figures: Figures) -> str:
    """What failed and what could not be judged, with the reasons; "" if nothing is missing."""
    systems = "".join(
        f"<li><b>{escape(system['label'])}</b>: {system['made']} of {system['made'] + system['failed']} made"
        f"<ul>{gaps}</ul></li>"
        for name, system in figures.systems.items()
        if (gaps := _gaps(figures, name))
    )
    return f'<section id="missing"><h3>What is missing</h3><ul>{systems}</ul></section>' if systems else ""


def _gaps(figures: Figures, name: str) -> str:
    """Every reason once, with the recordings that it struck."""
    error = figures.systems[name]["error"]
    reasons: dict[tuple[str, str], list[str]] = {}
    failed = {row["item"]: row["error"] for row in figures.result["items"] if row["system"] == name and row["error"]}
    for item, reason in failed.items():
        reasons.setdefault(("failed", str(reason)), []).append(item)
    judged: dict[tuple[str, str], list[str]] = {}
    for metric, info in figures.metrics.items():
        score = figures.score(name, metric)
        for item, reason in (score["dropped"] if score else {}).items():
            if item not in failed:
                judged.setdefault((item, reason), []).append(info["label"])
    for (item, reason), labels in judged.items():
        reasons.setdefault((f"not judged ({', '.join(labels)})", reason), []).append(item)
    lines = [f"<li>the whole system: {escape(error)}</li>"] if error else []
    lines += [
        f"<li>{escape(what)}: {escape(', '.join(items))} – {escape(reason)}</li>"
        for (what, reason), items in reasons.items()
    ]
    return "".join(lines)


def differences(figures: Figures) -> str:
    """Every pair of systems, by metric."""
    found = figures.result["differences"]
    if not found:
        return "<p>There is nothing to compare: that takes two systems and a metric with values for each recording.</p>"
    real = sum(difference["real"] for difference in found)
    columns = [
        Column("Metric", numeric=False), Column("First", numeric=False), Column("Second", numeric=False),
        Column("First − second"), Column("95 % interval", numeric=False), Column("p"), Column("p, corrected"),
        Column("Prompts", first="descending"), Column("Verdict", numeric=False),
    ]  # fmt: skip
    options = "".join(
        f'<option value="{escape(name)}">{escape(metric["label"])}</option>'
        for name, metric in figures.metrics.items()
        if any(difference["metric"] == name for difference in found)
    )
    tools = (
        '<form class="tools" hidden id="difference-tools">'
        '<label>Metric <select id="difference-metric"><option value="">all</option>'
        f"{options}</select></label>"
        '<label><input type="checkbox" id="difference-real"> only those that are real</label>'
        '<output id="difference-count"></output></form>'
    )
    attributes = [
        f'data-metric="{escape(d["metric"])}" data-real="{int(d["real"])}"' + (' class="real"' if d["real"] else "")
        for d in found
    ]
    return (
        f"<p>{real} of {len(found)} differences are real: below 0.05 in a permutation test of the paired values, after "
        f"Holm’s correction over all pairs of a metric. Where none is shown, there may still be one.</p>{tools}"
        + table(
            "Every pair of systems on the prompts that both were judged on",
            columns,
            [_pair(figures, difference) for difference in found],
            id="difference-table",
            attributes=attributes,
        )
    )


def _pair(figures: Figures, d: Difference) -> list[Cell]:
    metric, scale = figures.metrics[d["metric"]], figures.scales[d["metric"]]
    unit = (" points" if metric["rate"] else f" {metric['unit']}") if metric["unit"] else ""
    value = scale.text(d["value"])
    verdict = figures.verdict(d)
    return [
        name_cell(metric["label"]),
        Cell(figures.label(d["a"])),
        Cell(figures.label(d["b"])),
        Cell(value, d["value"], None if d["value"] is None else f'{value}<small class="unit">{escape(unit)}</small>'),
        Cell(scale.between(d["low"], d["high"]) or NOTHING),
        Cell(probability(d["p"]), d["p"]),
        Cell(probability(d["adjusted"]), d["adjusted"]),
        Cell(str(d["pairs"]), d["pairs"]),
        Cell(verdict, html=f"<b>{escape(verdict)}</b>" if d["real"] else None),
    ]


def metrics(figures: Figures) -> str:
    """What each metric is and who judged."""
    if not figures.metrics:
        return "<p>No metric was asked for.</p>"
    names = ("Metric", "Name", "Unit", "Better", "Judge")
    columns = [*(Column(name, numeric=False) for name in names), Column("Judged at, Hz"),
               Column("Source", numeric=False), Column("Notes", numeric=False)]  # fmt: skip
    rows = []
    for name, metric in figures.metrics.items():
        notes = ["in per cent here, a share of 1 in the files"] if metric["rate"] else []
        notes += ["of the whole set: no value for a single recording"] if metric["level"] == "set" else []
        better = {True: "↑ higher", False: "↓ lower", None: "neither"}[metric["higher_is_better"]]
        rows.append([
            name_cell(metric["label"]), Cell(name), Cell(metric["unit"] or NOTHING), Cell(better),
            Cell(metric["backend"] or NOTHING), number_cell(metric["sample_rate"] or None, "g"),
            Cell(metric["paper"] or NOTHING), Cell("; ".join(notes)),
        ])  # fmt: skip
    return table("What was measured, by whom", columns, rows, id="metric-table")
