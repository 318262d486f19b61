"""What a checkpoint's README says of it."""

from __future__ import annotations

import re
from pathlib import Path


def licence(readme: str) -> str | None:
    """What a README calls its licence: a line "Licence: X", or the first line below a heading "Licence"."""
    match = re.search(r"^[#*\-|\s]*licen[cs]e\b[*\s]*[:|]?[*\s]*([^\n|]*)", readme, re.IGNORECASE | re.MULTILINE)
    if match is None:
        return None
    stated = sentence(match[1].strip() or readme[match.end() :])
    return stated.rstrip(".") or None


def sentence(text: str) -> str:
    """The first sentence of a text, headings left out."""
    paragraphs = (part.strip() for part in re.split(r"\n\s*\n|^#.*$", text, flags=re.MULTILINE))
    first = next((" ".join(part.split()) for part in paragraphs if part and not part.startswith("|")), "")
    return re.split(r"(?<=[.!?])\s", first, maxsplit=1)[0]


def read(folder: Path) -> str:
    """A checkpoint's README, or nothing where it has none."""
    path = folder / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""
