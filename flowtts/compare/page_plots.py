"""Plots of a comparison, each with its numbers as a table: nobody needs to see the drawing, or its colours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from flowtts.compare.figures import Figures
from flowtts.compare.page_parts import Cell, Column, name_cell, number_cell, table
from flowtts.compare.result import Figure, MetricInfo, System
from flowtts.compare.svg import COLOURS, Canvas, key, linear, logarithmic, mark

_STEPS = re.compile(r"\s*\bsteps=\S+")
_ROW = 50.0
"""Height of a system among distributions."""


@dataclass(frozen=True)
class Point:
    """A system in a plane. Intervals are None where unknown."""

    name: str
    x: Figure
    y: Figure


def plots(figures: Figures) -> str:
    """All plots that the result has numbers for."""
    metrics = list(figures.metrics.values())
    if not metrics:
        return ""
    first = next((metric for metric in metrics if metric["rate"]), metrics[0])
    made = [_quality_against_speed(figures, first)]
    pair = [next((m for m in metrics if m["name"].startswith(family)), None) for family in ("wer", "sim")]
    if pair[0] is not None and pair[1] is not None:
        made.append(_metric_against_metric(figures, pair[0], pair[1]))
    made += _curves(figures)
    made += [_distribution(figures, metric) for metric in metrics if metric["level"] == "item"]
    return "\n".join(plot for plot in made if plot)


def families(systems: Iterable[System]) -> dict[str, list[System]]:
    """Systems that differ in nothing but their number of steps, by what they share; single ones are left out."""
    found: dict[str, list[System]] = {}
    for system in systems:
        settings = {name: value for name, value in system["settings"].items() if name != "steps"}
        same = json.dumps([system["kind"], system["source"], settings], sort_keys=True, default=str)
        found.setdefault(same, []).append(system)
    named: dict[str, list[System]] = {}
    for members in found.values():
        if len({str(system["settings"].get("steps")) for system in members}) > 1:
            labels = list(dict.fromkeys(_STEPS.sub("", system["label"]) for system in members))
            named[labels[0] if len(labels) == 1 and labels[0] not in named else ", ".join(_labels(members))] = members
    return named


def _labels(systems: Iterable[System]) -> list[str]:
    return [system["label"] for system in systems]


def _quality_against_speed(figures: Figures, metric: MetricInfo) -> str:
    points = [
        Point(name, rtf, score)
        for name, system in figures.systems.items()
        if (rtf := _figure((system["times"] or {}).get("rtf"))) is not None
        and rtf["value"]
        and (score := _scored(figures, name, metric)) is not None
    ]
    x = "real-time factor (← faster)"
    return _plane(figures, f"{metric['label']} against speed", points, (x, "RTF"), metric, None)


def _metric_against_metric(figures: Figures, x: MetricInfo, y: MetricInfo) -> str:
    points = [
        Point(name, left, right)
        for name in figures.systems
        if (left := _scored(figures, name, x)) is not None and (right := _scored(figures, name, y)) is not None
    ]
    return _plane(figures, f"{y['label']} against {x['label']}", points, (_label(x, "←", "→"), x["label"]), y, x)


def _plane(
    figures: Figures, title: str, points: Sequence[Point], across: tuple[str, str], y: MetricInfo, x: MetricInfo | None
) -> str:
    """Systems as crosses of their intervals; ``x`` is a metric, or None for the real-time factor on a log scale."""
    if not points:
        return ""
    factors = (figures.scales[x["name"]].factor if x else 1.0, figures.scales[y["name"]].factor)
    xs, ys = ([_scaled(getattr(point, "xy"[i]), factors[i]) for point in points] for i in (0, 1))
    if x is None:
        # An interval cannot reach zero there.
        xs = [[max(value, numbers[0] / 10) for value in numbers] for numbers in xs]
    axis = (linear if x else logarithmic)(across[0], [value for numbers in xs for value in numbers])
    canvas = Canvas(axis, linear(_label(y, "↓", "↑"), [value for numbers in ys for value in numbers]))
    order = list(figures.systems)
    parts, rows = [], []
    for point, horizontal, vertical in zip(points, xs, ys, strict=True):
        number = order.index(point.name)
        if len(horizontal) == 3:
            parts.append(canvas.horizontal(number, horizontal[1], horizontal[2], vertical[0]))
        if len(vertical) == 3:
            parts.append(canvas.vertical(number, horizontal[0], vertical[1], vertical[2]))
        parts.append(mark(number, canvas.across(horizontal[0]), canvas.up(vertical[0])))
        label = figures.label(point.name)
        rows.append([name_cell(label), *_numbers(horizontal), *_numbers(vertical)])
    names = [(order.index(point.name), figures.label(point.name)) for point in points]
    head = ["System", across[1], "low", "high", y["label"], "low", "high"]
    return _figure_of(title, canvas.draw(_told(title, rows, head), parts), head, rows, names)


def _curves(figures: Figures) -> list[str]:
    """A metric over evaluations, a line for each family of systems that differ in their steps."""
    groups = families(system for system in figures.systems.values() if system["nfe"])
    return [_curve(figures, metric, groups) for metric in figures.metrics.values()] if groups else []


def _curve(figures: Figures, metric: MetricInfo, groups: Mapping[str, Sequence[System]]) -> str:
    factor, points = figures.scales[metric["name"]].factor, {}
    for family, systems in groups.items():
        known = [
            (float(system["nfe"] or 0), _scaled(score, factor))
            for system in systems
            if (score := _scored(figures, system["name"], metric)) is not None
        ]
        if known:
            points[family] = sorted(known)
    if not points:
        return ""
    evaluations = sorted({x for known in points.values() for x, _ in known})
    values = [value for known in points.values() for _, numbers in known for value in numbers]
    x = logarithmic("evaluations of the network (NFE)", evaluations, evaluations if len(evaluations) < 9 else ())
    canvas = Canvas(x, linear(_label(metric, "↓", "↑"), values))
    parts, rows = [], []
    for number, (family, known) in enumerate(points.items()):
        line = canvas.path((x, numbers[0]) for x, numbers in known)
        parts.append(f'<path class="line c{number % COLOURS} d{number % COLOURS}" d="{line}"/>')
        for x_, numbers in known:
            if len(numbers) == 3:
                parts.append(canvas.vertical(number, x_, numbers[1], numbers[2]))
            parts.append(mark(number, canvas.across(x_), canvas.up(numbers[0])))
            rows.append([name_cell(family), number_cell(x_, "g"), *_numbers(numbers)])
    title, head = f"{metric['label']} over evaluations", ["Family", "NFE", metric["label"], "low", "high"]
    return _figure_of(title, canvas.draw(_told(title, rows, head), parts), head, rows, list(enumerate(points)))


def _distribution(figures: Figures, metric: MetricInfo) -> str:
    """Every recording as a dot, over a box from the first to the third quartile with the median."""
    name, factor = metric["name"], figures.scales[metric["name"]].factor
    values: dict[str, list[float]] = {system: [] for system in figures.systems}
    for row in figures.result["items"]:
        value = row["scores"].get(name)
        if value is not None and row["system"] in values:
            values[row["system"]].append(factor * value)
    known = {system: sorted(numbers) for system, numbers in values.items() if numbers}
    if not known:
        return ""
    x = linear(_label(metric, "←", "→"), [value for numbers in known.values() for value in numbers])
    canvas = Canvas(x, None, height=60 + _ROW * len(known))
    order, parts, rows = list(figures.systems), [], []
    for place, (system, numbers) in enumerate(known.items()):
        quartiles = [float(q) for q in np.quantile(numbers, (0, 0.25, 0.5, 0.75, 1))]
        parts.append(_box(canvas, order.index(system), place, figures.label(system), numbers, quartiles))
        mean = float(np.mean(numbers))
        rows.append([
            name_cell(figures.label(system)), number_cell(len(numbers), "d"),
            *map(number_cell, (*quartiles, mean)),
        ])  # fmt: skip
    title = f"{metric['label']} of every recording"
    head = ["System", "n", "lowest", "quartile", "median", "quartile", "highest", "mean"]
    return _figure_of(title, canvas.draw(_told(title, rows, head), parts), head, rows, [])


def _box(
    canvas: Canvas, number: int, place: int, label: str, values: Sequence[float], quartiles: Sequence[float]
) -> str:
    top = 32 + _ROW * place
    left, middle, right = (canvas.across(value) for value in quartiles[1:4])
    dots = "".join(
        # The golden ratio spreads any number of dots over the height, the same way each time.
        f'<circle cx="{canvas.across(value):.1f}" cy="{top + 2 + 16 * ((n * 0.618034) % 1):.1f}" r="2"/>'
        for n, value in enumerate(values)
    )
    colour = f"c{number % COLOURS}"
    return (
        f'<text x="{canvas.left + 14:g}" y="{top - 6:.1f}">{escape(label)}</text>'
        f"{mark(number, canvas.left + 4, top - 10)}"
        f'<rect class="box {colour}" x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0.5):.1f}" height="20"/>'
        f'<path class="median {colour}" d="M{middle:.1f},{top - 1:.1f}v22"/><g class="dots {colour}">{dots}</g>'
    )


def _figure(value: Any) -> Figure | None:
    """A figure with a value, or None."""
    if not isinstance(value, Mapping) or value.get("value") is None:
        return None
    return {"value": value["value"], "low": value.get("low"), "high": value.get("high")}


def _scored(figures: Figures, system: str, metric: MetricInfo) -> Figure | None:
    return _figure(figures.score(system, metric["name"]))


def _scaled(figure: Figure, factor: float) -> list[float]:
    """[value] or [value, low, high]."""
    numbers = (figure["value"], figure["low"], figure["high"])
    return [factor * number for number in numbers if number is not None][: 3 if None not in numbers else 1]


def _numbers(numbers: Sequence[float]) -> list[Cell]:
    return [number_cell(number) for number in [*numbers, None, None][:3]]


def _label(metric: MetricInfo, less: str, more: str) -> str:
    unit = f", {metric['unit']}" if metric["unit"] else ""
    if metric["higher_is_better"] is None:
        return f"{metric['label']}{unit}"
    return f"{metric['label']}{unit} ({more if metric['higher_is_better'] else less} better)"


def _told(title: str, rows: Sequence[Sequence[Cell]], head: Sequence[str]) -> str:
    """The drawing in words; the table below it has all of it."""
    lines = (", ".join(f"{name} {cell.text}" for name, cell in zip(head, row, strict=True)) for row in rows[:12])
    said = "; ".join(lines)
    return f"{title}. {said}{' …' if len(rows) > 12 else ''}"


def _figure_of(
    title: str, drawing: str, head: Sequence[str], rows: Sequence[Sequence[Cell]], names: Sequence[tuple[int, str]]
) -> str:
    """A figure with its legend and its numbers."""
    legend = "".join(f"<li>{key(number)}{escape(name)}</li>" for number, name in names)
    legend = f'<ul class="legend">{legend}</ul>' if legend else ""
    columns = [Column(name, numeric=place > 0) for place, name in enumerate(head)]
    numbers = table(f"{title}: the numbers", columns, rows, sortable=False)
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{drawing}{legend}"
        f"<details><summary>Numbers</summary>{numbers}</details></figure>"
    )
