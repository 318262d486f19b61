"""Long text to chunks that a model can speak at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .abbreviations import DAYS, ENDINGS, MONTHS, STARTERS, STREETS, TITLES, WORDS

_CLOSING = r"[\"'”’)\]»]*"
_SENTENCE_END = re.compile(rf"[.!?…。！？]+{_CLOSING}(?=\s)")
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_CLAUSE_END = re.compile(rf"[,;:]{_CLOSING}\s+|\s?—\s?|\s[–-]\s|--\s?|(?<=[)\]])\s+")
_SPACE = re.compile(r"\s+")
_BRACES = re.compile(r"\{[^{}]*\}")
_SOUND = re.compile(r"[^\W_]")
_AMBIGUOUS_TITLES = frozenset(["St", "Dr", "Ft", "Mt", "Hon", "Gen", "Rep", "Pres"])
_NEVER_LAST = frozenset(
    [
        *(title for title in TITLES if title not in _AMBIGUOUS_TITLES),
        "e.g",
        "i.e",
        "cf",
        "vs",
        "viz",
        "pp",
        "ca",
        "approx",
    ]
)
_BEFORE_NUMBER = frozenset(
    ["no", "nos", "p", "pp", "ch", "sec", "art", "fig", "figs", "vol", "vols", "chap", "eq", "eqn"]
)
_SELDOM_LAST = frozenset([*_AMBIGUOUS_TITLES, *STREETS, *ENDINGS, *MONTHS, *DAYS, *WORDS, "al"])
_SMALLEST_CLAUSE = 12
"""A clause of fewer characters is not worth a chunk of its own."""


@dataclass(frozen=True)
class Chunk:
    """A part of a text.

    Attributes:
        text: its characters, white space behind it included.
        start: its first character in the source.
        end: one past its last character.
    """

    text: str
    start: int
    end: int


def split(text: str, longest: int = 200) -> list[Chunk]:
    """Cut a text at paragraphs and sentences, where a sentence is too long at clauses, then between words.

    Neighbouring sentences of a paragraph share a chunk as long as they fit. The chunks joined are the text. A chunk is
    longer than ``longest`` only where a single word is.

    Args:
        text: any text, phones in braces included.
        longest: characters that a chunk should not exceed, white space at its end not counted.

    Raises:
        ValueError: ``longest`` is not positive.
    """
    if longest < 1:
        raise ValueError(f"longest must be at least 1, not {longest}")
    held = [match.span() for match in _BRACES.finditer(text)]
    chunks: list[tuple[int, int]] = []
    for start, end in _pieces(text, 0, len(text), [match.end() for match in _PARAGRAPH.finditer(text)]):
        ends = [e for s, e in sentences(text[start:end])]
        parts: list[tuple[int, int]] = []
        for first, last in _pieces(text, start, end, [start + e for e in ends]):
            parts.extend(_shorten(text, first, last, longest, held))
        chunks.extend(_pack(text, parts, longest))
    return [Chunk(text[start:end], start, end) for start, end in _voiced(text, chunks)]


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences of a text, white space behind each included; they cover it without gaps."""
    ends = []
    for match in _SENTENCE_END.finditer(text):
        after = _SPACE.match(text, match.end())
        end = after.end() if after is not None else match.end()
        stop = match.group().rstrip("\"'”’)]»")
        if stop == "." and not ends_sentence(text, match.start()):
            continue
        if stop != "." and text[end : end + 1].islower():
            continue
        ends.append(end)
    return _pieces(text, 0, len(text), ends)


def ends_sentence(text: str, dot: int) -> bool:
    """Whether the full stop at ``text[dot]`` ends a sentence and does not just mark an abbreviation.

    Args:
        text: text as written.
        dot: index of a ".".
    """
    rest = text[dot + 1 :].lstrip("\"'”’)]»")
    if not rest.strip():
        return True
    if not rest[0].isspace() or rest.lstrip("\"'“‘(«\n\t ")[:1].islower():
        return False
    last = re.search(r"[^\s(\"'“‘«]*$", text[:dot])
    word = last.group() if last is not None else ""
    starts = STARTERS.match(rest) is not None
    if word in _NEVER_LAST or (word.lower() in _BEFORE_NUMBER and rest.lstrip()[:1].isdigit()):
        return False
    initials = re.fullmatch(r"(?:[^\W\d_]\.)*[^\W\d_]", word) is not None and word != "I"
    return starts if initials or word in _SELDOM_LAST else True


def _pieces(text: str, start: int, end: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive spans between the cuts that lie inside (start, end)."""
    edges = [start, *sorted({cut for cut in cuts if start < cut < end}), end]
    return [(a, b) for a, b in pairwise(edges) if a < b]


def _width(text: str, start: int, end: int) -> int:
    return len(text[start:end].rstrip())


def _shorten(text: str, start: int, end: int, longest: int, held: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Halve a span, at a clause if there is one, until every part fits."""
    if _width(text, start, end) <= longest:
        return [(start, end)]
    middle = (start + start + _width(text, start, end)) / 2
    for pattern, margin in ((_CLAUSE_END, max(1, min(_SMALLEST_CLAUSE, longest // 3))), (_SPACE, 1)):
        cuts = [
            match.end()
            for match in pattern.finditer(text, start, end)
            if _width(text, start, match.end()) >= margin
            and _width(text, match.end(), end) >= margin
            and not any(a < match.end() < b for a, b in held)
        ]
        if cuts:
            cut = min(cuts, key=lambda place: abs(place - middle))
            return _shorten(text, start, cut, longest, held) + _shorten(text, cut, end, longest, held)
    return [(start, end)]


def _pack(text: str, parts: Sequence[tuple[int, int]], longest: int) -> list[tuple[int, int]]:
    """Join neighbours while they fit."""
    packed: list[tuple[int, int]] = []
    for start, end in parts:
        if packed and _width(text, packed[-1][0], end) <= longest:
            packed[-1] = (packed[-1][0], end)
        else:
            packed.append((start, end))
    return packed


def _voiced(text: str, chunks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Give chunks without a letter or digit to their neighbour: there is nothing to say in them."""
    kept: list[tuple[int, int]] = []
    waiting: int | None = None
    for start, end in chunks:
        if _SOUND.search(text, start, end):
            kept.append((start if waiting is None else waiting, end))
            waiting = None
        elif kept:
            kept[-1] = (kept[-1][0], end)
        else:
            waiting = start if waiting is None else waiting
    return kept if waiting is None else [(waiting, len(text))]
