"""A file of finished rows that survives interruptions: one JSON object a line, appended; the last of an id counts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from flowtts.data.rows import Row
from flowtts.data.work import Options
from flowtts.types import UserError

FORMAT = 1


def fingerprint(row: Row) -> str:
    """Changes when anything about the row does, so that a corrected row is done again."""
    return hashlib.sha1(repr(row).encode()).hexdigest()[:16]


class Journal:
    """What is finished, by id. A context manager; one writer at a time."""

    def __init__(self, path: Path, options: Options) -> None:
        """Open or begin the journal.

        Raises:
            UserError: it was begun with other options, is of another format, or cannot be written.
        """
        self.path = path
        self._places: dict[str, tuple[int, str]] = {}
        header = {"format": FORMAT, "options": asdict(options)}
        try:
            size = self._scan(header) if path.exists() else 0
            self._file = path.open("r+b" if path.exists() else "w+b")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); check the folder") from error
        # A line that an interruption cut short goes.
        self._file.truncate(size)
        self._file.seek(size)
        if size == 0:
            self._write([header])

    def _scan(self, header: dict[str, Any]) -> int:
        """Note where the entries are. Returns the length of the whole lines."""
        size = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(line)
                except ValueError:
                    break
                if size == 0:
                    self._check(entry, header)
                elif "fault" in entry:
                    self._places.pop(entry["id"], None)
                else:
                    self._places[entry["id"]] = (size, entry["row"])
                size += len(line)
        return size

    def _check(self, found: Any, header: dict[str, Any]) -> None:
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise UserError(f"{self.path}: is not a journal of this version of flowtts; prepare into another folder")
        if found["options"] != header["options"]:
            theirs, ours = found["options"], header["options"]
            name = next((n for n in ours if theirs.get(n) != ours[n]), "options")
            raise UserError(
                f"{self.path}: was begun with {name}={theirs.get(name)}, now it is {ours.get(name)}; "
                "give the same options, or prepare into another folder"
            )

    def __contains__(self, row: Row) -> bool:
        """True if the row was accepted as it is now. Rejected rows are tried again: that is how they get repaired."""
        place = self._places.get(row.id)
        return place is not None and place[1] == fingerprint(row)

    def add(self, rows: Iterable[Row], entries: Iterable[dict[str, Any]]) -> None:
        """Append finished rows and make them durable."""
        lines = []
        for row, entry in zip(rows, entries, strict=True):
            lines.append({**entry, "row": fingerprint(row)})
        for line, place in zip(lines, self._write(lines), strict=True):
            if "fault" not in line:
                self._places[line["id"]] = (place, line["row"])

    def get(self, name: str) -> dict[str, Any]:
        """An accepted entry, read back from the file: a corpus' alignments need not fit into memory."""
        self._file.seek(self._places[name][0])
        entry: dict[str, Any] = json.loads(self._file.readline())
        return entry

    def _write(self, entries: Iterable[dict[str, Any]]) -> list[int]:
        places = []
        self._file.seek(0, os.SEEK_END)
        for entry in entries:
            places.append(self._file.tell())
            self._file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return places

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
