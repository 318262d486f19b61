"""The text front end: a string to words and phones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from ..types import UserError
from .analysis import Analysis, TextWord, assemble
from .dictionary import Pronunciation, parse_phones, read_lexicon
from .espeak import Espeak, split_phones, vocabulary
from .pronounce import Pronouncer
from .symbols import SYMBOLS
from .tokens import Token, tokenise


class Reader(Protocol):
    """What a language brings."""

    def normalise(self, text: str) -> str:
        """Text as read aloud."""
        ...

    def knows(self, word: str) -> bool:
        """Whether a lower-case spelling, apostrophes and hyphens included, is one word."""
        ...

    def __call__(self, tokens: Sequence[Token]) -> list[Pronunciation]:
        """Phones of every word."""
        ...


class FrontEnd:
    """Reads a language.

    Attributes:
        language: "en", or a code of espeak-ng such as "de" or "fr-fr" (extra ``espeak``).
    """

    def __init__(self, lexicon: Path | None = None, language: str = "en", symbols: Sequence[str] | None = None) -> None:
        """Make a front end.

        Args:
            lexicon: a file of own pronunciations, ``word PHONES`` per line; ARPAbet for English, IPA otherwise.
            language: see the class.
            symbols: the vocabulary of a language other than English, from ``collect``.

        Raises:
            UserError: the lexicon is wrong.
        """
        self.language = language
        self._symbols = tuple(symbols) if symbols is not None else (SYMBOLS if language == "en" else ())
        self._reader = _reader(lexicon, language)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The vocabulary; index is the phone id.

        Raises:
            UserError: the language is not English and no vocabulary was given.
        """
        if not self._symbols:
            raise UserError(
                f"the phones of {self.language!r} are collected from texts: FrontEnd(language={self.language!r}, "
                "symbols=FrontEnd(...).collect(texts))"
            )
        return self._symbols

    def analyse(self, text: str) -> Analysis:
        """Normalise, split into words, pronounce.

        Phones may be written into the text in braces, ``{HH AH0 L OW1}``.

        Raises:
            UserError: there is nothing to say, a word cannot be said, or phones in braces are wrong.
        """
        normalised = self._reader.normalise(text)
        tokens = tokenise(normalised, self._reader.knows)
        if not tokens:
            raise UserError(f"there is nothing to say in {_shown(text)}; give at least one word")
        said = self._reader(tokens)
        for token, phones in zip(tokens, said, strict=True):
            if not phones:
                raise UserError(
                    f"cannot pronounce {token.text!r} in the language {self.language!r}; "
                    "write its phones in braces or in a lexicon"
                )
        words = tuple(TextWord(t.text, t.start, t.end, p) for t, p in zip(tokens, said, strict=True))
        return assemble(text, normalised, words, tuple(token.pause for token in tokens))

    def collect(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The vocabulary that texts of this language need; English has a fixed one.

        Raises:
            UserError: as ``analyse``.
        """
        if self.language == "en":
            return SYMBOLS
        return vocabulary(word.phones for text in texts for word in self.analyse(text).words)


def _reader(lexicon: Path | None, language: str) -> Reader:
    if language == "en":
        return Pronouncer(read_lexicon(Path(lexicon), parse_phones) if lexicon is not None else {})
    return Espeak(language, read_lexicon(Path(lexicon), split_phones) if lexicon is not None else {})


def _shown(text: str) -> str:
    short = " ".join(text.split())
    return repr(short if len(short) <= 40 else short[:39] + "…")
