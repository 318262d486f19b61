"""Pictures of curves with intervals, legible without colours: every line has its own mark and dashes too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowtts.audio.io import replacing
from flowtts.compat import require

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which the colour-blind tell apart; the yellow is left out, too light for lines."""

MARKS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))


@dataclass(frozen=True)
class Panel:
    """One measure.

    Attributes:
        title: above it.
        label: of its vertical axis.
        lines: by name, points (x, figure with value, low and high).
        across: by name, figures that hold for all x.
        scale: what figures are multiplied by.
        log: whether the vertical axis is.
    """

    title: str
    label: str
    lines: Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]]
    across: Mapping[str, Mapping[str, Any]]
    scale: float = 1.0
    log: bool = False


def draw(folder: Path, name: str, panels: Sequence[Panel], label: str) -> None:
    """NAME.svg and NAME.png: the panels in a row, over the same axis.

    Args:
        folder: where.
        name: of the files.
        panels: what is shown.
        label: of the horizontal axis, whose steps are powers of two.

    Raises:
        UserError: matplotlib is missing, or the folder cannot be written.
    """
    figures = require("matplotlib.figure", "eval")
    figure = figures.Figure(figsize=(4.2 * len(panels), 4.6), dpi=110, layout="constrained")
    names = list(dict.fromkeys(line for panel in panels for line in panel.lines))
    levels = list(dict.fromkeys(level for panel in panels for level in panel.across))
    handles: dict[str, Any] = {}
    for place, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        handles |= _fill(place, panel, names, levels)
        place.set_xlabel(label)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=9)
    for suffix in ("svg", "png"):
        with replacing(folder / f"{name}.{suffix}") as part:
            # No date in the file: the same figures give the same bytes.
            figure.savefig(part, format=suffix, metadata={"Date": None} if suffix == "svg" else None)


def _fill(place: Any, panel: Panel, names: Sequence[str], levels: Sequence[str]) -> dict[str, Any]:
    """Draw a panel; returns what the legend shows, by name."""
    place.set_title(panel.title)
    place.set_ylabel(panel.label)
    place.set_xscale("log", base=2)
    place.xaxis.set_major_formatter("{x:g}")
    place.grid(True, alpha=0.3)
    if panel.log:
        place.set_yscale("log")
    shown: dict[str, Any] = {}
    for name, figure in panel.across.items():
        if figure["value"] is None:
            continue
        low, high = panel.scale * figure["low"], panel.scale * figure["high"]
        dash = ("--", ":", "-.")[levels.index(name) % 3]
        shown[name] = place.axhline(panel.scale * figure["value"], color="0.35", linewidth=1.4, linestyle=dash)
        place.axhspan(low, high, color="0.35", alpha=0.08, linewidth=0)
    for name, points in panel.lines.items():
        known = sorted(((x, f) for x, f in points if f["value"] is not None), key=lambda point: point[0])
        style = names.index(name) % len(COLOURS)
        values = [panel.scale * figure["value"] for _, figure in known]
        spread = [
            [max(0.0, value - panel.scale * figure["low"]) for value, (_, figure) in zip(values, known, strict=True)],
            [max(0.0, panel.scale * figure["high"] - value) for value, (_, figure) in zip(values, known, strict=True)],
        ]
        shown[name] = place.errorbar(
            [x for x, _ in known], values, yerr=spread, color=COLOURS[style], marker=MARKS[style], markersize=5,
            linestyle=DASHES[style], linewidth=1.5, capsize=2, elinewidth=0.7,
        )  # fmt: skip
    return shown
