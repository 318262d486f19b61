"""What a benchmark says, and the reading of tables and lists of texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Protocol, TypeVar

from flowtts.types import UserError

_SAFE = re.compile(r"[\w.-]+")
_STRAY = re.compile(r"[\r\0]")
_LONGEST = 150
"""Bytes of an id: file systems allow 255 for a name, and suffixes are added."""


class Named(Protocol):
    """Something whose name becomes a file's."""

    @property
    def id(self) -> str:
        """The name."""
        ...


N = TypeVar("N", bound=Named)


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
    _, rows = read_table(path, ("id", "text"), "sentences")
    found = [(line, _sentence(path, line, row.get("id"), row.get("text"))) for line, row in rows]
    return take(path, found, count, "sentence")


def _sentence(path: Path, line: int, name: str | None, text: str | None) -> Sentence:
    if not name or not text or not text.strip():
        raise UserError(f"{path} line {line}: needs an id and a text with a tab between")
    return Sentence(file_name(path, line, name), text.strip())


def read_lines(path: Path, what: str) -> list[tuple[int, str]]:
    r"""Lines of UTF-8 text that are not empty, numbered from 1; they end in \n or \r\n.

    Args:
        path: the file.
        what: it should hold, for messages.

    Raises:
        UserError: it is unreadable, no UTF-8 text, or a line holds a lone carriage return.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a file of {what}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None
    lines = [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1)]
    stray = next((number for number, line in lines if _STRAY.search(line)), None)
    if stray is not None:
        raise UserError(f"{path} line {stray}: holds a lone carriage return or a zero byte; end lines with a line feed")
    return [(number, line) for number, line in lines if line]


def read_table(
    path: Path, needed: Sequence[str], what: str, exact: bool = False
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a TSV without quoting, and its rows with their lines; cells that a row lacks are left out.

    Args:
        path: the file.
        needed: columns that it must have.
        what: it should hold, for messages.
        exact: whether each row must have as many cells as there are columns.

    Raises:
        UserError: see ``read_lines``; or a column is missing or comes twice, or a row has too many or too few cells.
    """
    lines = read_lines(path, what)
    names = lines[0][1].split("\t") if lines else []
    missing = [name for name in needed if name not in names]
    if missing:
        raise UserError(
            f"{path}: has no column {missing[0]!r}; its first line must name {' and '.join(needed)}, tabs between"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: has two columns {twice!r}; name each once")
    rows = [(line, text.split("\t")) for line, text in lines[1:]]
    wrong = next(((line, len(cells)) for line, cells in rows if exact and len(cells) != len(names)), None)
    if wrong is not None:
        raise UserError(f"{path} line {wrong[0]}: has {wrong[1]} columns, not {len(names)}; put one tab between cells")
    return names, [(line, dict(zip(names, cells, strict=False))) for line, cells in rows]


def file_name(path: Path, line: int, name: str) -> str:
    """An id, as it stands.

    Raises:
        UserError: it cannot name a file.
    """
    if not _SAFE.fullmatch(name):
        raise UserError(f"{path} line {line}: the id {name!r} cannot name a file; use letters, digits, _ . and -")
    if len(name.encode()) > _LONGEST:
        raise UserError(f"{path} line {line}: the id {name[:20]!r} … cannot name a file: it is too long")
    return name


def take(path: Path, found: Sequence[tuple[int, N]], count: int | None, noun: str) -> tuple[N, ...]:
    """The first ``count`` of what was found, all if None.

    Args:
        path: where.
        found: with their lines.
        count: how many.
        noun: what one of them is called.

    Raises:
        UserError: there is none, two have one id, or there are fewer.
    """
    if not found:
        raise UserError(f"{path}: holds no {noun}; write one per line")
    seen: set[str] = set()
    for line, one in found:
        if one.id.casefold() in seen:
            raise UserError(f"{path} line {line}: the id {one.id!r} comes twice; ids name files and must differ")
        seen.add(one.id.casefold())
    if count is not None and count > len(found):
        raise UserError(f"{path}: holds {len(found)} {noun}s, not {count}; give a lower --count or more {noun}s")
    return tuple(one for _, one in found[:count])
