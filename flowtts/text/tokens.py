"""Normalised text to words and the pauses between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_LETTER = r"[^\W\d_]"
_PLAIN = rf"{_LETTER}+(?:'{_LETTER}+)*"
_PIECE = re.compile(rf"\{{[^{{}}]*\}}|'?{_PLAIN}(?:-{_PLAIN})*'?")
_HYPHENATED = re.compile(_PLAIN)

_STATEMENT, _QUESTION, _EXCLAMATION, _CLAUSE, _GAP = "SIL.", "SIL?", "SIL!", "SIL,", "SIL"
_CLAUSE_MARKS = re.compile(r"[,;:()\[\]{}—–…/]|--|\s-\s")
_ELLIPSIS = re.compile(r"\.\s?\.|…")


@dataclass(frozen=True)
class Token:
    """A word as written.

    Attributes:
        text: the characters of the normalised text.
        start: first character.
        end: one past the last.
        pause: the pause symbol that follows it.
    """

    text: str
    start: int
    end: int
    pause: str


def tokenise(text: str, is_word: Callable[[str], bool]) -> list[Token]:
    """Words of a normalised text, each with the pause after it.

    Apostrophes at the rim ("'tis", "runnin'") and hyphens ("t-shirt") belong to a word when the dictionary says
    so; otherwise the apostrophe is a quotation mark and the hyphen a gap. ``{HH AH0}`` is one word.

    Args:
        text: normalised text.
        is_word: tells whether a lower-case spelling has a pronunciation of its own.
    """
    spans: list[tuple[int, int]] = []
    for match in _PIECE.finditer(text):
        spans.extend(_words(match.group(), match.start(), is_word))
    tokens = []
    for index, (start, end) in enumerate(spans):
        after = spans[index + 1][0] if index + 1 < len(spans) else len(text)
        tokens.append(Token(text[start:end], start, end, pause(text[end:after], text[after : after + 1])))
    return tokens


def _words(piece: str, start: int, is_word: Callable[[str], bool]) -> list[tuple[int, int]]:
    """Spans of the words of a piece that begins at ``start``."""
    if piece.startswith("{"):
        return [(start, start + len(piece))]
    kept = piece.strip("'")
    if not (piece.startswith("'") and piece.endswith("'")):
        spellings = (piece, piece.lstrip("'"), piece.rstrip("'"))
        kept = next((spelling for spelling in spellings if is_word(spelling.lower())), kept)
    start += piece.index(kept)
    if "-" not in kept or is_word(kept.lower()):
        return [(start, start + len(kept))]
    return [(start + part.start(), start + part.end()) for part in _HYPHENATED.finditer(kept)]


def pause(between: str, following: str = "") -> str:
    """The pause that the characters between two words ask for.

    Args:
        between: what stands between the words.
        following: first letter of the next word; an ellipsis before a small letter does not end a sentence.
    """
    if "?" in between:
        return _QUESTION
    if "!" in between:
        return _EXCLAMATION
    if _ELLIPSIS.search(between) and following.islower():
        return _CLAUSE
    if "." in between or "…" in between:
        return _STATEMENT
    return _CLAUSE if _CLAUSE_MARKS.search(between) else _GAP
