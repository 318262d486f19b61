"""Pronunciations that are looked up: CMUdict, a user's lexicon, phones written in the text."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from ..types import UserError
from .characters import clean
from .symbols import CONSONANTS, PHONES, VOWELS

Pronunciation = tuple[str, ...]
"""ARPAbet with stress digits, without word positions."""

_KNOWN = frozenset(PHONES)
_CORRECTIONS: Mapping[str, str] = {
    "houses": "HH AW1 Z IH0 Z", "viz": "V IH1 Z", "et": "EH1 T", "versus": "V ER1 S AH0 S",
    "mademoiselle": "M AE2 D M AH0 Z EH1 L",
}  # fmt: skip
"""Where CMUdict is wrong or lacks what the normaliser writes."""


@dataclass(frozen=True)
class Dictionary:
    """Words to pronunciations.

    Attributes:
        entries: lower-case word -> pronunciations, "HH AH0 L OW1", joined by "|", best first.
    """

    entries: Mapping[str, str]

    def __contains__(self, word: str) -> bool:
        return word in self.entries

    def lookup(self, word: str) -> tuple[Pronunciation, ...]:
        """All pronunciations of a lower-case word, the usual one first; empty if it is unknown."""
        found = self.entries.get(word)
        return () if found is None else tuple(tuple(p.split()) for p in found.split("|"))

    def best(self, word: str) -> Pronunciation:
        """The usual pronunciation of a lower-case word; empty if it is unknown."""
        found = self.entries.get(word)
        return () if found is None else tuple(found.partition("|")[0].split())


@cache
def cmudict() -> Dictionary:
    """The bundled CMU pronouncing dictionary, read once, on first use."""
    packed = resources.files(__package__).joinpath("data", "cmudict.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").splitlines()
    return Dictionary({**dict(line.split(" ", 1) for line in lines), **_CORRECTIONS})


def parse_phones(text: str, where: str) -> Pronunciation:
    """Phones that a user wrote, such as ``"HH AH0 L OW1"``, checked and completed with stress.

    Case does not matter. A vowel without a digit is unstressed if another vowel of the word carries one; if no vowel
    does, the first becomes the stressed one.

    Args:
        text: phones separated by spaces.
        where: what to blame in the message, e.g. ``"lexicon.txt line 3"``.

    Raises:
        UserError: there is no phone, or one that ARPAbet lacks.
    """
    phones = text.upper().split()
    if not phones:
        raise UserError(f"{where}: no phones; write ARPAbet such as HH AH0 L OW1")
    for phone in phones:
        if phone not in _KNOWN and phone not in VOWELS:
            raise UserError(f"{where}: unknown phone {phone!r}; {_hint(phone)}")
    stressed = any(phone[-1].isdigit() for phone in phones)
    complete = []
    for phone in phones:
        if phone in VOWELS:
            phone += "0" if stressed else "1"
            stressed = True
        complete.append(phone)
    return tuple(complete)


def _hint(phone: str) -> str:
    stem = phone.rstrip("0123456789")
    if stem in CONSONANTS:
        return f"{stem} is a consonant and takes no stress digit"
    if stem in VOWELS:
        return f"the stress of {stem} is 0, 1 or 2"
    return f"ARPAbet has {' '.join(CONSONANTS)} and the vowels {' '.join(VOWELS)}"


def read_lexicon(path: Path, parse: Callable[[str, str], Pronunciation] = parse_phones) -> dict[str, Pronunciation]:
    """A user's lexicon: one ``word PHONES`` per line, separated by a tab or spaces; ``#`` starts a comment line.

    A word that comes twice keeps its last pronunciation. Case of the words does not matter.

    Args:
        path: UTF-8 text.
        parse: turns the phones of a line, given where it stands, into a pronunciation; ARPAbet by default.

    Raises:
        UserError: the file cannot be read, or a line is wrong; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"cannot read the lexicon {path}: {reason}") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        word, *rest = line.strip().split(None, 1)
        where = f"{path} line {number}"
        if not any(letter.isalpha() for letter in word):
            raise UserError(f"{where}: {word!r} is not a word; a line is a word, then its phones")
        found[clean(word).lower()] = parse(rest[0] if rest else "", where)
    return found
