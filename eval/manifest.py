"""Evaluation manifests: a table of recordings and what they should say."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowtts.audio.io import read
from flowtts.types import Audio, Item, PathLike, UserError

_log = logging.getLogger(__name__)

REQUIRED = ("audio", "text")
OPTIONAL = ("reference", "prompt", "id", "took")


@dataclass(frozen=True, eq=False)
class Manifest:
    """An evaluation's rows.

    Attributes:
        items: in the order of the file.
        took: seconds of computing by id, where the column ``took`` says so.
    """

    items: tuple[Item, ...]
    took: Mapping[str, float]


def read_manifest(path: PathLike) -> Manifest:
    """Read a tab-separated table.

    The first line names the columns: ``audio`` and ``text``, and as wanted ``reference`` (a recording of the same
    text), ``prompt`` (the voice), ``id`` (the audio's path by default) and ``took`` (seconds of computing). Columns of
    other names are left alone, and so are empty lines. Relative paths start at the manifest's folder. A recording that
    several rows name is read once.

    Raises:
        UserError: the file, its header, a row or a recording is wrong; the message names the line.
    """
    path = Path(path)
    lines = _lines(path)
    header = _header(path, lines)
    sounds: dict[Path, Audio] = {}
    items: list[Item] = []
    took: dict[str, float] = {}
    taken: set[str] = set()
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        row = _row(where, header, line)
        name = row.get("id") or row["audio"]
        if name in taken and row.get("id"):
            raise UserError(f"{where}: the id {name!r} is used twice; give every row its own")
        name = name if name not in taken else f"{name}#{number}"
        taken.add(name)
        audio, reference, prompt = (_sound(where, path.parent, row.get(c, ""), sounds) for c in _SOUNDS)
        if audio is None:
            raise UserError(f"{where}: the column 'audio' is empty; name a recording")
        items.append(Item(audio, row["text"], reference, prompt, name))
        if row.get("took"):
            took[name] = _seconds(where, row["took"])
    if not items:
        raise UserError(f"{path}: has no rows; add one per recording below the header")
    return Manifest(tuple(items), took)


_SOUNDS = ("audio", "reference", "prompt")


def _lines(path: Path) -> list[str]:
    try:
        # Not splitlines(): it also breaks at form feeds and Unicode separators, which a text may hold.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; save the manifest as a tab-separated UTF-8 file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path of the manifest") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _header(path: Path, lines: list[str]) -> list[str]:
    header = [column.strip() for column in lines[0].split("\t")]
    for column in REQUIRED:
        if column not in header:
            wanted = f"{', '.join(REQUIRED)} and optionally {', '.join(OPTIONAL)}"
            raise UserError(
                f"{path} line 1: no column {column!r}; the first line names tab-separated columns: {wanted}"
            )
    known = [column for column in header if column in REQUIRED + OPTIONAL]
    for column in known:
        if known.count(column) > 1:
            raise UserError(f"{path} line 1: the column {column!r} comes twice; keep one")
    for column in header:
        if column not in known:
            _log.warning("%s: the column %r is none of %s and is left alone", path, column, ", ".join(OPTIONAL))
    return header


def _row(where: str, header: list[str], line: str) -> dict[str, str]:
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) != len(header):
        raise UserError(f"{where}: {len(cells)} columns instead of {len(header)}; separate them with single tabs")
    row = dict(zip(header, cells, strict=True))
    if not row["text"]:
        raise UserError(f"{where}: the column 'text' is empty; write what the recording should say")
    return row


def _sound(where: str, folder: Path, name: str, sounds: dict[Path, Audio]) -> Audio | None:
    if not name:
        return None
    path = folder / Path(name).expanduser()
    if path not in sounds:
        try:
            sounds[path] = read(path)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    return sounds[path]


def _seconds(where: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"{where}: {text!r} in the column 'took' is no time; write seconds")
    return seconds
