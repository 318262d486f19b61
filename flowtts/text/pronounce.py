"""English words to phones: user's lexicon, homographs, dictionary, word formation, letter names, network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .dictionary import Dictionary, Pronunciation, cmudict, parse_phones
from .network import spelling_network
from .symbols import is_vowel

LETTER_NAMES: Mapping[str, str] = {
    "a": "EY1", "b": "B IY1", "c": "S IY1", "d": "D IY1", "e": "IY1", "f": "EH1 F", "g": "JH IY1", "h": "EY1 CH",
    "i": "AY1", "j": "JH EY1", "k": "K EY1", "l": "EH1 L", "m": "EH1 M", "n": "EH1 N", "o": "OW1", "p": "P IY1",
    "q": "K Y UW1", "r": "AA1 R", "s": "EH1 S", "t": "T IY1", "u": "Y UW1", "v": "V IY1",
    "w": "D AH1 B AH0 L Y UW0", "x": "EH1 K S", "y": "W AY1", "z": "Z IY1",
}  # fmt: skip

_SIBILANTS = frozenset("S Z SH ZH CH JH".split())
_VOICELESS = frozenset("P T K F TH".split())


@dataclass(frozen=True)
class Pronouncer:
    """Says words.

    Attributes:
        lexicon: the user's words, lower case; they win over everything but phones written in the text.
        dictionary: the language's words.
    """

    lexicon: Mapping[str, Pronunciation] = field(default_factory=dict)
    dictionary: Dictionary = field(default_factory=cmudict)

    def knows(self, word: str) -> bool:
        """True if this lower-case spelling, apostrophes and hyphens included, is looked up and not guessed."""
        return word in self.lexicon or word in self.dictionary

    def __call__(self, words: Sequence[str]) -> list[Pronunciation]:
        """Phones of every word of a text; the neighbours decide between homographs."""
        shouting = sum(word.isupper() for word in words) > max(2, len(words) // 2)
        said = [self.word(word, shouting) for word in words]
        for index in range(len(words) - 1):
            if words[index].lower() == "the" and "the" not in self.lexicon and is_vowel(said[index + 1][0]):
                said[index] = ("DH", "IY0")
        return said

    def word(self, word: str, shouting: bool = False) -> Pronunciation:
        """Phones of one word on its own.

        Args:
            word: a word, or phones in braces.
            shouting: the text is in capitals, so that capitals do not mean an initialism.

        Raises:
            UserError: wrong phones in braces.
        """
        if word.startswith("{"):
            return parse_phones(word[1:-1], f"in the text {word}")
        small = word.lower()
        if small in self.lexicon:
            return self.lexicon[small]
        return self.dictionary.best(small) or self._formed(small) or self._unknown(word, shouting)

    def _formed(self, word: str) -> Pronunciation:
        """A possessive of a known word; empty if it is not one."""
        stem, apostrophe, ending = word.rpartition("'")
        if apostrophe and ending == "s":
            base = self.lexicon.get(stem) or self.dictionary.best(stem)
            return base + plural_ending(base) if base else ()
        return ()

    def _unknown(self, word: str, shouting: bool) -> Pronunciation:
        stem = word[:-2] if word.lower().endswith("'s") else word
        if len(stem) == 1 or (stem.isupper() and not shouting and len(stem) <= 5):
            said = spell(stem)
        else:
            said = spelling_network()(stem.lower())
        return said + plural_ending(said) if stem != word and said else said


def plural_ending(base: Sequence[str]) -> Pronunciation:
    """How a plural or possessive s sounds after ``base``."""
    if base[-1] in _SIBILANTS:
        return ("IH0", "Z")
    return ("S",) if base[-1] in _VOICELESS else ("Z",)


def spell(letters: str) -> Pronunciation:
    """Letter names of a to z, one after another: ``"bbc"`` -> B IY1 B IY1 S IY1."""
    names = (LETTER_NAMES[letter] for letter in letters.lower() if letter in LETTER_NAMES)
    return tuple(phone for name in names for phone in name.split())
