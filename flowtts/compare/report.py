"""Everything that is written of a finished comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from flowtts.compare.exports import write_exports
from flowtts.compare.listen import write_listen
from flowtts.compare.page import write_page
from flowtts.compare.ratings import read_ratings
from flowtts.compare.result import FORMAT, Result
from flowtts.compare.store import read
from flowtts.types import UserError

REPORT = "report.json"


def write_report(result: Result, folder: Path, ratings: Sequence[Path] = (), embed: bool | None = None) -> list[str]:
    """Write the page, the tables and the listening test.

    Args:
        result: what was found; what listeners said is added to it.
        folder: of the comparison.
        ratings: answers that listeners saved.
        embed: whether the page holds the sounds itself; None decides by their size.

    Returns:
        What could not be written, a line each.

    Raises:
        UserError: answers that do not belong to this comparison; nothing is written then.
    """
    if ratings:
        result["ratings"] = dict(read_ratings(ratings, folder, result))
    messages = write_exports(result, folder)
    write_listen(result, folder)
    write_page(result, folder, embed)
    return messages


def read_result(folder: Path) -> Result:
    """A finished comparison.

    Raises:
        UserError: there is none, or it is of another version.
    """
    found = read(folder / REPORT)
    if found is None:
        raise UserError(
            f"{folder} holds no finished comparison; make one first: flowtts compare MODEL … --out {folder}"
        )
    if found.get("format") != FORMAT:
        raise UserError(
            f"{folder / REPORT} is of format {found.get('format')}, this flowtts reads {FORMAT}; make it again"
        )
    return cast(Result, found)


def summary_columns(result: Result) -> list[str]:
    """Heads of a table for a terminal."""
    arrow = {True: " ↑", False: " ↓", None: ""}
    heads = [metric["label"] + arrow[metric["higher_is_better"]] for metric in result["metrics"]]
    return ["system", "made", *heads, "calls", "RTF"]


def summary_cells(result: Result) -> list[list[str]]:
    """A row per system; a number in brackets is the rank."""
    rows = []
    for system in result["systems"]:
        cells = [system["label"], f"{system['made']} of {system['made'] + system['failed']}"]
        for metric in result["metrics"]:
            score = result["scores"][system["name"]].get(metric["name"])
            if score is None or score["value"] is None:
                cells.append("–")
                continue
            scale, digits = (100, 1) if metric["rate"] else (1, 3)
            between = "" if score["low"] is None or score["high"] is None else (
                f" [{scale * score['low']:.{digits}f}, {scale * score['high']:.{digits}f}]"
            )  # fmt: skip
            rank = "" if score["rank"] is None else f" ({score['rank']})"
            cells.append(f"{scale * score['value']:.{digits}f}{between}{rank}")
        times = system["times"] or {}
        rtf = times.get("warm_rtf") or (times.get("rtf") or {}).get("value")
        calls = system["network_calls"]
        rows.append([*cells, "–" if calls is None else f"{calls:g}", "–" if rtf is None else f"{rtf:.3f}"])
    return rows
