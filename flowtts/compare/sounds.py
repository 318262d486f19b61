"""Players of recordings, whose sounds are in the page or beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from flowtts.compare.result import Result

EMBEDDED_BYTES = 40_000_000
"""Recordings that together are no larger than this go into the page, unless somebody says otherwise."""

_TYPES = {".flac": "audio/flac", ".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".opus": "audio/ogg"}


def inside(folder: Path, name: str) -> Path | None:
    """The file of that name, if there is one and it lies in the folder."""
    parts = PurePosixPath(name)
    path = folder / parts
    return path if not parts.is_absolute() and ".." not in parts.parts and path.is_file() else None


def named(result: Result) -> Iterator[str]:
    """The names of all sounds, each once."""
    prompts = (prompt[key] for prompt in result["prompts"] for key in ("voice_audio", "reference_audio"))
    rows = (row["audio"] for row in result["items"])
    yield from dict.fromkeys(str(name) for name in (*prompts, *rows) if name)


def fits(result: Result, folder: Path) -> bool:
    """Whether all sounds together are small enough to go into the page."""
    paths = [path for name in named(result) if (path := inside(folder, name)) is not None]
    return sum(path.stat().st_size for path in paths) <= EMBEDDED_BYTES


class Sounds:
    """Makes the players of a page, in the order in which they stand there.

    An embedded sound is in the page once: whoever plays it again shares it, by script, or without one by a link.

    Args:
        folder: where the names of recordings begin.
        embed: whether sounds go into the page.
    """

    def __init__(self, folder: Path, embed: bool) -> None:
        self.embed = embed
        self._folder = folder
        self._seen: dict[str, str] = {}

    def player(self, name: str, label: str) -> str:
        """A player, or in its place a line saying that the recording is missing.

        Args:
            name: of the file, relative to the folder.
            label: what screen readers call it.
        """
        path = inside(self._folder, name)
        if path is None:
            return f'<span class="failure">no such file: {escape(name)}</span>'
        opening = f'<audio controls preload="none" aria-label="{escape(label)}"'
        if not self.embed:
            return f'{opening} src="{escape(quote(name))}"></audio>'
        data = path.read_bytes()
        key = hashlib.sha256(data).hexdigest()
        if key in self._seen:
            first = self._seen[key]
            return (
                f'{opening} hidden data-same="{first}"></audio>'
                f'<a class="same" href="#{first}">the same recording as above</a>'
            )
        self._seen[key] = id = f"sound-{len(self._seen) + 1}"
        kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
        return f'{opening} id="{id}" src="data:{kind};base64,{base64.b64encode(data).decode()}"></audio>'
