"""``flowtts models``: what is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from flowtts.commands.options import Json
from flowtts.commands.terminal import terminal
from flowtts.readme import licence, read, sentence


def models(ctx: typer.Context, json: Json = False) -> None:
    """List recipes, vocoders, codecs, metrics, checkpoints shipped and published, and voices, with their licences."""
    from flowtts import checkpoint, registry, voice
    from flowtts.pull import PUBLISHED, pulled

    found: dict[str, Any] = {
        "recipes": [
            {"name": name, "description": sentence(import_module(module).__doc__ or ""), "checkpoint": shipped}
            for name, (module, shipped) in sorted(registry.RECIPES.items())
        ],
        "vocoders": [{"name": name, "checkpoint": shipped} for name, shipped in sorted(registry.VOCODERS.items())],
        "codecs": [{"name": name, "checkpoint": shipped} for name, shipped in sorted(registry.CODECS.items())],
        "metrics": registry.metrics(),
        "checkpoints": [_checkpoint(checkpoint.SHIPPED / name) for name in checkpoint.shipped()],
        "published": [
            {"name": name, "repository": entry.repository, "licence": entry.licence, "folder": pulled(name)}
            for name, entry in PUBLISHED.items()
        ],
        "voices": _voices(voice.shipped()),
    }
    term = terminal(ctx)
    if json:
        term.result(found)
        return
    kinds: tuple[tuple[str, Sequence[str]], ...] = (
        ("recipes", ("name", "checkpoint", "description")),
        ("vocoders", ("name", "checkpoint")),
        ("codecs", ("name", "checkpoint")),
        ("checkpoints", ("name", "kind", "size", "licence", "description")),
        ("published", ("name", "repository", "licence", "folder")),
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
    from flowtts.checkpoint import read_header

    readme = read(folder)
    return {
        "name": folder.name,
        "kind": read_header(folder)["kind"],
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "licence": licence(readme),
        "description": sentence(readme),
        "folder": folder,
    }


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
