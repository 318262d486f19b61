"""Languages other than English: espeak-ng through phonemizer (extra ``espeak``, both under the GPL).

A phone is one symbol of espeak-ng's IPA, length and stress marks included ("ˈaː"). There is no fixed list of them, so
the vocabulary of a language is collected from texts, once, and kept beside the model that is trained with it.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from ..compat import require
from ..types import UserError
from .dictionary import Pronunciation
from .symbols import PAD, PAUSES, POSITIONS
from .tokens import Token

_LOG = logging.getLogger(__name__)
_EXTRA = "espeak"
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)?(?![\w])")
_SAME = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "\u00a0": " "})
_WORD_END = "|"
_PAUSED = frozenset(PAUSES) - {"SIL"}


class _Backend(Protocol):
    """What is used of phonemizer's ``EspeakBackend``."""

    def phonemize(self, text: Sequence[str], separator: object, strip: bool) -> list[str]:
        """Phones of utterances."""
        ...


@dataclass(frozen=True, eq=False)
class Espeak:
    """A language of espeak-ng.

    Attributes:
        language: espeak-ng's code, e.g. "de" or "fr-fr".
        lexicon: the user's words, lower case.
    """

    language: str
    lexicon: Mapping[str, Pronunciation]

    def normalise(self, text: str) -> str:
        """Plain quotation marks and spaces; whole and decimal numbers in words where num2words knows the language."""
        plain = unicodedata.normalize("NFC", text).translate(_SAME)
        return " ".join(_NUMBER.sub(lambda match: _number(match.group(), self.language), plain).split())

    def knows(self, word: str) -> bool:
        """True for words of the lexicon, and for hyphens and apostrophes inside a word, which espeak-ng reads."""
        return word in self.lexicon or (word[:1].isalpha() and word[-1:].isalpha())

    def __call__(self, tokens: Sequence[Token]) -> list[Pronunciation]:
        """Phones of every word; espeak-ng sees the words between two pauses together.

        Raises:
            UserError: phonemizer or espeak-ng is missing, or the language unknown.
        """
        said: list[Pronunciation] = []
        clause: list[str] = []
        for token in tokens:
            clause.append(token.text)
            if token.pause in _PAUSED or token is tokens[-1]:
                said.extend(self._clause(clause))
                clause = []
        return said

    def _clause(self, words: Sequence[str]) -> list[Pronunciation]:
        own = [self._own(word) for word in words]
        spoken = [word for word, phones in zip(words, own, strict=True) if not phones]
        if not spoken:
            return own
        said = _phones(self.language, " ".join(spoken))
        if len(said) != len(spoken):
            # espeak-ng joined or split words ("of the"): word by word keeps every phone with its word.
            said = [tuple(phone for part in _phones(self.language, word) for phone in part) for word in spoken]
        rest = iter(said)
        return [phones or next(rest) for phones in own]

    def _own(self, word: str) -> Pronunciation:
        return split_phones(word[1:-1], f"in the text {word}") if word[0] == "{" else self.lexicon.get(word.lower(), ())


def split_phones(text: str, where: str) -> Pronunciation:
    """Phones that a user wrote, separated by spaces; any symbols, for a vocabulary decides later.

    Raises:
        UserError: there are none.
    """
    phones = tuple(text.split())
    if not phones:
        raise UserError(f"{where}: no phones; write IPA separated by spaces")
    return phones


def vocabulary(said: Iterable[Pronunciation]) -> tuple[str, ...]:
    """The symbols of a language: padding, pauses, and every phone that occurs, in each place of a word."""
    phones = sorted({phone for word in said for phone in word})
    return (PAD, *PAUSES, *(phone + position for phone in phones for position in POSITIONS))


def _phones(language: str, text: str) -> list[Pronunciation]:
    backend = _backend(language)
    separator = require("phonemizer.separator", _EXTRA).Separator(phone=" ", word=_WORD_END)
    spoken = backend.phonemize([text], separator=separator, strip=True)[0]
    # "-" marks syllables that espeak-ng keeps apart, which is no sound.
    return [tuple(word.replace("-", "").split()) for word in spoken.split(_WORD_END) if word.strip()]


@cache
def _backend(language: str) -> _Backend:
    """The espeak back end of phonemizer, with the espeak-ng of espeakng-loader where the system has none."""
    backend = require("phonemizer.backend", _EXTRA).EspeakBackend
    if not backend.is_available():
        loader = require("espeakng_loader", _EXTRA)
        wrapper = require("phonemizer.backend.espeak.wrapper", _EXTRA).EspeakWrapper
        wrapper.set_library(loader.get_library_path())
        wrapper.set_data_path(loader.get_data_path())
    known = backend.supported_languages()
    if language not in known:
        near = [code for code in known if code.split("-")[0] == language.split("-")[0]]
        hint = ", ".join(sorted(near or known)[:12])
        raise UserError(f"espeak-ng has no language {language!r}; it has {hint}{'' if near else ', …'}")
    made: _Backend = backend(
        language, with_stress=True, language_switch="remove-flags", words_mismatch="ignore", logger=_LOG
    )
    return made


def _number(text: str, language: str) -> str:
    from num2words import num2words

    plain = text.replace(",", ".")
    try:
        return str(num2words(float(plain) if "." in plain else int(plain), lang=language.replace("-", "_")))
    except (NotImplementedError, OverflowError):
        return text
