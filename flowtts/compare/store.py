"""The folder of a comparison: each recording and each value lies there with the hash of all that decides it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowtts.audio.io import replacing
from flowtts.checkpoint import digest
from flowtts.speech import write_json

MARK = "comparison.json"
"""A file that only the folder of a comparison has: nothing is written into a folder of something else."""

HALF = ".*.part"
"""Names of files that are being written."""


@dataclass(frozen=True)
class Store:
    """Where everything lies.

        comparison.json                  which format
        prompts/NAME.flac                recordings that systems are asked with, and references
        audio/SYSTEM/ITEM.flac           what a system made of a prompt
        audio/SYSTEM/ITEM.record.json    how, or why not
        scores/SYSTEM/METRIC.json        what a judge said of each recording
        index.html report.json ...       see ``page`` and ``exports``

    Attributes:
        folder: where.
    """

    folder: Path

    def begin(self) -> None:
        """Make the folder, and take away what a run that was killed had half written.

        Raises:
            UserError: it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for half in self.folder.rglob(HALF):
            half.unlink(missing_ok=True)
        if not (self.folder / MARK).is_file():
            write_json(self.folder / MARK, {"format": 1})

    def foreign(self) -> bool:
        """Whether the folder holds other things than a comparison."""
        if not self.folder.is_dir() or (self.folder / MARK).is_file():
            return False
        return any(not path.match(HALF) for path in self.folder.iterdir())

    def keep(self, source: Path, name: str) -> Path:
        """A copy of a recording among the prompts, named by what it is called and what it holds."""
        return self.adopt(source, self.folder / "prompts" / f"{safe(name)}-{digest(source)[:8]}{source.suffix.lower()}")

    def adopt(self, source: Path, target: Path) -> Path:
        """A copy of a file, which is written once."""
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as part:
                shutil.copyfile(source, part)
        return target

    def audio(self, system: str, item: str, suffix: str = ".flac") -> Path:
        """Where a recording goes."""
        return self.folder / "audio" / system / f"{item}{suffix}"

    def relative(self, path: Path) -> str:
        """A path as the report has it."""
        return path.relative_to(self.folder).as_posix()

    def record(self, system: str, item: str, key: str) -> dict[str, Any] | None:
        """How a recording was made, if under this key and if it is still what it was."""
        found = read(self._record(system, item))
        if found is None or found.get("key") != key or found.get("error") is not None:
            return None
        path = self.folder / str(found.get("audio"))
        return found if path.is_file() and digest(path) == found.get("audio_hash") else None

    def save_record(self, system: str, item: str, record: Mapping[str, Any]) -> None:
        """Keep how a recording was made; the sound is there already."""
        path = self._record(system, item)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record)

    def scores(self, system: str, metric: str) -> dict[str, Any]:
        """What a judge said, by item; for a metric of sets under one name of its own."""
        return read(self._scores(system, metric)) or {}

    def save_scores(self, system: str, metric: str, scores: Mapping[str, Any]) -> None:
        """Keep what a judge said."""
        path = self._scores(system, metric)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dict(sorted(scores.items())))

    def sweep(self, wanted: Mapping[str, set[str]]) -> None:
        """Take away recordings that this comparison does not have, so that the folder holds what the report shows.

        Args:
            wanted: the items of each system.
        """
        for folder in (self.folder / "audio").glob("*"):
            if folder.name not in wanted:
                shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(self.folder / "scores" / folder.name, ignore_errors=True)
                continue
            for path in folder.iterdir():
                if item_of(path) not in wanted[folder.name]:
                    path.unlink(missing_ok=True)

    def _record(self, system: str, item: str) -> Path:
        return self.folder / "audio" / system / f"{item}.record.json"

    def _scores(self, system: str, metric: str) -> Path:
        return self.folder / "scores" / system / f"{metric}.json"


def item_of(path: Path) -> str:
    """The item that a file in a system's folder belongs to."""
    return path.name.removesuffix(".record.json") if path.name.endswith(".record.json") else path.stem


def read(path: Path) -> dict[str, Any] | None:
    """A JSON file, or None if it is not there or not whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def safe(name: str) -> str:
    """A name that can be a file's."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "recording"
