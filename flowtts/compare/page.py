"""The report as a page: one file that works from disk, offline, by keyboard, and without its script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from flowtts.audio.io import replacing
from flowtts.compare import page_plots, page_rows, page_tables
from flowtts.compare.figures import NOTHING, Figures
from flowtts.compare.page_parts import Cell, Column, name_cell, number_cell, table
from flowtts.compare.page_ratings import ratings
from flowtts.compare.result import Result
from flowtts.compare.sounds import EMBEDDED_BYTES, Sounds, fits
from flowtts.compare.svg import key

NAME = "index.html"

BESIDE: Mapping[str, str] = {
    "listen.html": "a blind test for listeners",
    "report.json": "everything on this page",
    "scores.csv": "every value of every recording",
    "scores.parquet": "the same",
    "summary.csv": "every system by every metric",
    "differences.csv": "every pair of systems",
    "table.tex": "the summary for a paper",
}
"""Files that the page links to if they are there, so it is written last."""


def write_page(result: Result, folder: Path, embed: bool | None = None) -> Path:
    """Write ``index.html``.

    Args:
        result: what was found; its sounds are named relative to ``folder``.
        folder: where the page goes.
        embed: whether sounds are in the page, so that it can be sent alone, or beside it. None embeds them if they are
            small together, ``sounds.EMBEDDED_BYTES``.

    Returns:
        Its path.

    Raises:
        UserError: it cannot be written, or the extra "compare" is missing.
    """
    sounds = Sounds(folder, fits(result, folder) if embed is None else embed)
    text = _page(Figures.of(result), folder, sounds)
    path = folder / NAME
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return path


def _page(figures: Figures, folder: Path, sounds: Sounds) -> str:
    result = figures.result
    assets = files("flowtts.compare") / "assets"
    style, script = (assets.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    sections = {
        "summary": ("Summary", f"{page_tables.summary(figures)}{page_tables.missing(figures)}"),
        "differences": ("Which differences are real", page_tables.differences(figures)),
        "plots": ("Plots", f'<div class="plots">{page_plots.plots(figures)}</div>' if result["metrics"] else ""),
        "ratings": ("What listeners said", ratings(figures)),
        "recordings": ("Recordings", page_rows.recordings(figures, folder, sounds)),
        "metrics": ("What was measured", page_tables.metrics(figures)),
        "about": ("How it was made", _about(figures, sounds)),
    }
    shown = {id: section for id, section in sections.items() if section[1]}
    links = "".join(f'<li><a href="#{id}">{heading}</a></li>' for id, (heading, _) in shown.items())
    body = "\n".join(
        f'<section id="{id}" aria-labelledby="{id}-heading"><h2 id="{id}-heading">{heading}</h2>{content}</section>'
        for id, (heading, content) in shown.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script, sounds.embed)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">\n'
        f"<title>{escape(result['title'])}</title>\n<style>{style}</style></head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the results</a>\n'
        f'<header class="top"><h1 dir="auto">{escape(result["title"])}</h1><p class="lead">{_lead(result)}</p>'
        f"{_files(folder)}</header>\n"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
        f'<main id="main" tabindex="-1">\n{_HOW_TO_READ}\n{body}\n</main>\n'
        f"<footer><p>Made by flowtts {escape(result['versions'].get('flowtts', ''))}.</p></footer>\n"
        f'<p id="announcement" class="unseen" role="status"></p>\n<script>{script}</script>\n</body></html>\n'
    )


_HOW_TO_READ = (
    '<aside class="how" aria-label="How to read this"><p><b>How to read this.</b> Values are means over the prompts '
    "with their 95 % interval in brackets; an arrow tells which way is better. A number in a frame is the rank: "
    "systems that share one do not differ for certain. Bold are the best of what is compared; recordings, and copies "
    "of them through a vocoder, show how far one could get. “37 of 40” means that three recordings failed or could not "
    "be judged: the reasons are listed, and the mean is over the others. RTF is computing time over the length of the "
    "sound, warm where the model was loaded and the voice known; cold is the time until the first recording, loading "
    "included. NFE counts evaluations of the network for a recording. Times hold for this machine alone.</p></aside>"
)


def _policy(style: str, script: str, embed: bool) -> str:
    """Nothing but this page's own style and script runs, and nothing is fetched but sounds beside it."""
    own = (f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (style, script))
    media = "data:" if embed else "'self' file:"
    rules = (
        "default-src 'none'; style-src {}; script-src {}; img-src data:; media-src {}; "
        "base-uri 'none'; form-action 'none'"
    )
    return rules.format(*own, media)


def _lead(result: Result) -> str:
    counts = (
        (len(result["systems"]), "system"),
        (len(result["prompts"]), "prompt"),
        (len(result["metrics"]), "metric"),
        (sum(row["audio"] is not None for row in result["items"]), "recording"),
    )
    said = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts)
    created = result["created"]
    return escape(said) + (f' · <time datetime="{escape(created)}">{escape(created)}</time>' if created else "")


def _files(folder: Path) -> str:
    """Links to what lies beside the page."""
    found = [name for name in BESIDE if (folder / name).is_file()]
    links = "".join(f'<li><a href="{name}">{name}</a> {BESIDE[name]}</li>' for name in found)
    return f'<ul class="files">{links}</ul>' if found else ""


def _about(figures: Figures, sounds: Sounds) -> str:
    """Command, machine, versions, sets, systems: what it takes to do it again."""
    result = figures.result
    seeds = sorted({seed for system in result["systems"] for seed in system["seeds"]})
    tagged = "yes: flowtts detect finds it" if result["tagged"] else "no"
    where = "in this page" if sounds.embed else "beside this page, which has to stay with them"
    facts = {
        "Created": escape(result["created"]) or NOTHING,
        "Seeds": escape(", ".join(map(str, seeds))) or NOTHING,
        "Provenance tag in what was made": tagged,
        "Sounds": f"{where}; up to {EMBEDDED_BYTES // 1_000_000} MB are put into the page unless told otherwise",
        "Machine": _pairs(result["machine"].items()),
        "Versions": _pairs(result["versions"].items()),
    }
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return (
        f'<p>The command:</p><pre tabindex="0"><code>{escape(result["command"])}</code></pre>'
        f'<dl class="facts">{listed}</dl>{_sets(result)}{_systems(figures)}'
    )


def _sets(result: Result) -> str:
    columns = [
        Column("Set", numeric=False), Column("Prompts"), Column("Hash", numeric=False), Column("Source", numeric=False)
    ]  # fmt: skip
    rows = [
        [
            name_cell(str(s.get("name", ""))), number_cell(s.get("count"), "g"), _code(str(s.get("hash") or "")),
            Cell(str(s.get("source", ""))),
        ]
        for s in result["sets"]
    ]  # fmt: skip
    return table("The sets of prompts", columns, rows, sortable=False)


def _systems(figures: Figures) -> str:
    names = ("System", "Kind", "Source", "Hash", "Licence", "Settings", "Seeds")
    rows = []
    for number, system in enumerate(figures.systems.values()):
        label = escape(system["label"])
        rows.append([
            name_cell(system["label"], f'<span id="system-{number}">{key(number)}{label}</span>'),
            Cell(system["kind"]), Cell(system["source"]), _code(system["hash"]), Cell(system["licence"] or NOTHING),
            Cell("", html=_pairs(system["settings"].items())), Cell(", ".join(map(str, system["seeds"])) or NOTHING),
        ])  # fmt: skip
    columns = [Column(name, numeric=False) for name in names]
    return table("The systems, with all that decides what they make", columns, rows, id="system-table", sortable=False)


def _code(text: str) -> Cell:
    return Cell(text or NOTHING, html=f"<code>{escape(text)}</code>" if text else None)


def _pairs(items: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{escape(str(name))} {escape(_plain(value))}" for name, value in items) or NOTHING


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_plain(held)}" for name, held in value.items()) + ")"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
