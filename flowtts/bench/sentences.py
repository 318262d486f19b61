"""What a benchmark says."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from flowtts.types import UserError

_SAFE = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Sentence:
    """A sentence and its name, which becomes a file's."""

    id: str
    text: str


def shipped() -> Path:
    """Forty short sentences that hold every phone of English, in words that every recogniser knows."""
    return Path(str(resources.files("flowtts") / "prompts" / "english.tsv"))


def read_sentences(path: Path | None = None, count: int | None = None) -> tuple[Sentence, ...]:
    """Sentences from a TSV with the columns id and text; the shipped ones if no file is given.

    Args:
        path: UTF-8, one row per sentence, no quoting.
        count: how many to take from its beginning; all if None.

    Raises:
        UserError: the file is unreadable, lacks a column, holds no row, fewer than ``count``, or a bad one.
    """
    path = shipped() if path is None else path
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            missing = [name for name in ("id", "text") if name not in (rows.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{path}: has no column {missing[0]!r}; its first line must name id and text, tabs between"
                )
            found = [_sentence(path, number, row["id"], row["text"]) for number, row in enumerate(rows, 2)]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a TSV of sentences") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None
    if not found:
        raise UserError(f"{path}: holds no sentence; write one per line")
    names = [sentence.id.casefold() for sentence in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: the id {twice!r} comes twice; ids name files and must differ")
    if count is not None and count > len(found):
        raise UserError(f"{path}: holds {len(found)} sentences, not {count}; give a lower --count or more sentences")
    return tuple(found[:count])


def _sentence(path: Path, line: int, name: str | None, text: str | None) -> Sentence:
    if not name or not text or not text.strip():
        raise UserError(f"{path} line {line}: needs an id and a text with a tab between")
    if not _SAFE.fullmatch(name):
        raise UserError(f"{path} line {line}: the id {name!r} cannot name a file; use letters, digits, _ . and -")
    return Sentence(name, text.strip())
