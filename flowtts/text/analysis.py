"""What the text front end returns."""

from __future__ import annotations

from dataclasses import dataclass

from ..types import Phone
from .symbols import positioned


@dataclass(frozen=True)
class TextWord:
    """A word of the normalised text.

    Attributes:
        text: as it stands there.
        start: its first character in the normalised text.
        end: one past its last character.
        phones: how it is said, without word positions.
    """

    text: str
    start: int
    end: int
    phones: tuple[str, ...]


@dataclass(frozen=True)
class Analysis:
    """A text, ready to be spoken.

    Attributes:
        source: what the user wrote.
        normalised: numbers and abbreviations written out; words and phones point into it.
        words: the words that are spoken.
        phones: pause, word, pause, word, …, pause; always begins with "SIL" and ends with a pause.
    """

    source: str
    normalised: str
    words: tuple[TextWord, ...]
    phones: tuple[Phone, ...]


def assemble(source: str, normalised: str, words: tuple[TextWord, ...], pauses: tuple[str, ...]) -> Analysis:
    """Lay out words with one pause around each (the "ghost silence" of arXiv 2306.15687, section 5).

    Args:
        source: the user's text.
        normalised: the text that ``words`` point into.
        words: at least one.
        pauses: the pause symbol after each word.
    """
    phones = [Phone("SIL", -1, 0, words[0].start)]
    for index, (word, pause) in enumerate(zip(words, pauses, strict=True)):
        phones.extend(Phone(symbol, index, word.start, word.end) for symbol in positioned(word.phones))
        after = words[index + 1].start if index + 1 < len(words) else len(normalised)
        phones.append(Phone(pause, -1, word.end, after))
    return Analysis(source, normalised, words, tuple(phones))
