"""The text front end: a string to words and phones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..types import UserError
from .analysis import Analysis, TextWord, assemble
from .dictionary import read_lexicon
from .normalise import normalise
from .pronounce import Pronouncer
from .symbols import SYMBOLS
from .tokens import tokenise


class FrontEnd:
    """Reads a language.

    Attributes:
        language: "en", or a code of espeak-ng such as "de" or "fr-fr" (extra ``espeak``).
    """

    def __init__(self, lexicon: Path | None = None, language: str = "en") -> None:
        """Make a front end.

        Args:
            lexicon: a file of own pronunciations, ``word PHONES`` per line.
            language: see the class.

        Raises:
            UserError: the lexicon is wrong or the language unknown.
        """
        self.language = language
        self._pronounce = Pronouncer(read_lexicon(Path(lexicon)) if lexicon is not None else {})

    @property
    def symbols(self) -> Sequence[str]:
        """The vocabulary; index is the phone id."""
        return SYMBOLS

    def analyse(self, text: str) -> Analysis:
        """Normalise, split into words, pronounce.

        Phones may be written into the text in braces, ``{HH AH0 L OW1}``.

        Raises:
            UserError: there is nothing to say, a word cannot be said, or phones in braces are wrong.
        """
        normalised = normalise(text)
        tokens = tokenise(normalised, self._pronounce.knows)
        if not tokens:
            raise UserError(f"there is nothing to say in {_shown(text)}; give at least one word")
        said = self._pronounce(tokens)
        for token, phones in zip(tokens, said, strict=True):
            if not phones:
                raise UserError(f"cannot pronounce {token.text!r} in English; write its phones in braces or a lexicon")
        words = tuple(TextWord(t.text, t.start, t.end, p) for t, p in zip(tokens, said, strict=True))
        return assemble(text, normalised, words, tuple(token.pause for token in tokens))


def _shown(text: str) -> str:
    short = " ".join(text.split())
    return repr(short if len(short) <= 40 else short[:39] + "…")
