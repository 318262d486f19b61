"""What listeners said, on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from flowtts.compare.figures import NOTHING, Figures, Scale, probability
from flowtts.compare.page_parts import Cell, Column, name_cell, number_cell, table
from flowtts.compare.svg import key

_OPINION = Scale(decimals=2)


def ratings(figures: Figures) -> str:
    """Opinions and preferences; "" if nobody was asked.

    Whatever is not there is left out or a dash.
    """
    found = figures.result["ratings"]
    if not found:
        return ""
    opinions = "".join(
        _opinions(figures, caption, found.get(name) or {}, f"{name}-table") for name, caption in _OPINIONS.items()
    )
    return f"{_lead(found)}{opinions}{_preferences(figures, found.get('preferences') or [])}"


_OPINIONS: Mapping[str, str] = {
    "mos": "Mean opinion scores: how natural it sounds",
    "smos": "Mean opinion scores: how alike the voice is to the prompt’s",
}


def _lead(found: Mapping[str, Any]) -> str:
    """Who answered, and how far that can be trusted."""
    listeners, catches = found.get("listeners"), found.get("catches") or {}
    said = [] if listeners is None else [f"{listeners} {'listener' if listeners == 1 else 'listeners'}"]
    said += [f"read from {', '.join(map(str, files))}"] if (files := found.get("files")) else []
    said += [f"no answer from {', '.join(map(str, silent))}"] if (silent := found.get("silent")) else []
    said += [f"trials that could not be answered: {unanswered}"] if (unanswered := found.get("unanswered")) else []
    if catches.get("trials"):
        right = f"{catches.get('same')} of {catches['trials']}"
        said.append(f"in {right} pairs of a clip and itself no difference was heard, as is right")
    return f"<p>{escape('; '.join(said))}.</p>" if said else ""


def _opinions(figures: Figures, caption: str, opinions: Mapping[str, Mapping[str, Any]], id: str) -> str:
    if not opinions:
        return ""
    order = list(figures.systems)
    rows = []
    for name, opinion in opinions.items():
        label = figures.label(name)
        mark = key(order.index(name)) if name in figures.systems else ""
        value = opinion.get("value")
        rows.append([
            name_cell(label, f"{mark}{escape(label)}"), Cell(_OPINION.text(value), value),
            Cell(_OPINION.between(opinion.get("low"), opinion.get("high")) or NOTHING),
            number_cell(opinion.get("count"), "g"), number_cell(opinion.get("listeners"), "g"),
        ])  # fmt: skip
    columns = [
        Column("System", numeric=False), Column("Opinion", first="descending", arrow="↑", unit="1 to 5"),
        Column("95 % interval", numeric=False), Column("Ratings", first="descending"),
        Column("Listeners", first="descending"),
    ]  # fmt: skip
    return table(caption, columns, rows, id=id)


def _preferences(figures: Figures, preferences: Sequence[Mapping[str, Any]]) -> str:
    if not preferences:
        return ""
    rows = [
        [
            name_cell(figures.label(str(preference.get("a", "")))),
            Cell(figures.label(str(preference.get("b", "")))),
            *(number_cell(preference.get(name), "g") for name in ("wins", "losses", "ties")),
            *(Cell(probability(preference.get(name)), preference.get(name)) for name in ("p", "adjusted")),
        ]
        for preference in preferences
    ]
    columns = [
        Column("First", numeric=False), Column("Second", numeric=False), Column("First preferred", first="descending"),
        Column("Second preferred", first="descending"), Column("No preference", first="descending"), Column("p"),
        Column("p, corrected"),
    ]  # fmt: skip
    return table("Which of two was preferred; p of a sign test without ties", columns, rows, id="preference-table")
