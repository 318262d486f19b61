"""``flowtts models``: what is installed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from flowtts.commands.options import Json
from flowtts.commands.terminal import terminal


def models(ctx: typer.Context, json: Json = False) -> None:
    """List recipes, vocoders, metrics, shipped checkpoints and voices, with their licences."""
    from flowtts import checkpoint, registry, voice

    found: dict[str, Any] = {
        "recipes": [
            {"name": name, "description": _sentence(import_module(module).__doc__ or ""), "checkpoint": shipped}
            for name, (module, shipped) in sorted(registry.RECIPES.items())
        ],
        "vocoders": [{"name": name, "checkpoint": shipped} for name, shipped in sorted(registry.VOCODERS.items())],
        "metrics": registry.metrics(),
        "checkpoints": [_checkpoint(checkpoint.SHIPPED / name) for name in checkpoint.shipped()],
        "voices": _voices(voice.shipped()),
    }
    term = terminal(ctx)
    if json:
        term.result(found)
        return
    kinds: tuple[tuple[str, Sequence[str]], ...] = (
        ("recipes", ("name", "checkpoint", "description")),
        ("vocoders", ("name", "checkpoint")),
        ("checkpoints", ("name", "kind", "size", "licence", "description")),
        ("voices", ("name", "size", "licence", "description")),
    )
    for title, columns in kinds:
        rows = [[_shown(entry, column) for column in columns] for entry in found[title]]
        term.table(title, columns, rows)
    term.show("metrics\n" + " ".join(found["metrics"]))


def _shown(entry: Any, column: str) -> str:
    if column == "size":
        return f"{entry['bytes'] / 1e6:.1f} MB"
    return "–" if entry[column] is None else str(entry[column])


def _checkpoint(folder: Path) -> dict[str, Any]:
    """What a checkpoint says about itself."""
    from flowtts.checkpoint import README, read_header

    readme = (folder / README).read_text(encoding="utf-8") if (folder / README).is_file() else ""
    return {
        "name": folder.name,
        "kind": read_header(folder)["kind"],
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "licence": licence(readme),
        "description": _sentence(readme),
        "folder": folder,
    }


def licence(readme: str) -> str | None:
    """What a README calls its licence: a line "Licence: X", or the first line below a heading "Licence"."""
    match = re.search(r"^[#*\-|\s]*licen[cs]e\b[*\s]*[:|]?[*\s]*([^\n|]*)", readme, re.IGNORECASE | re.MULTILINE)
    if match is None:
        return None
    stated = _sentence(match[1].strip() or readme[match.end() :])
    return stated.rstrip(".") or None


def _sentence(text: str) -> str:
    """The first sentence of a text, headings left out."""
    paragraphs = (part.strip() for part in re.split(r"\n\s*\n|^#.*$", text, flags=re.MULTILINE))
    first = next((" ".join(part.split()) for part in paragraphs if part and not part.startswith("|")), "")
    return re.split(r"(?<=[.!?])\s", first, maxsplit=1)[0]


def _voices(shipped: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Shipped voices; the table in their README says who they are and under which licence."""
    found = []
    for name, path in shipped.items():
        readme = path.with_name("README.md")
        who, terms = _row(readme.read_text(encoding="utf-8") if readme.is_file() else "", name)
        found.append(
            {
                "name": name,
                "bytes": path.stat().st_size,
                "licence": terms,
                "description": who,
                "text": path.with_suffix(".txt").read_text(encoding="utf-8").strip(),
            }
        )
    return found


def _row(readme: str, name: str) -> tuple[str, str | None]:
    """Description and licence from the row of a Markdown table that names the voice; "as above" is followed up."""
    above = None
    for line in readme.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or len(cells) < 3:
            continue
        above = above if cells[2] == "as above" else cells[2]
        if f"`{name}`" in cells[0]:
            return cells[1], above
    return "", None
