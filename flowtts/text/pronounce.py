"""English words to phones: user's lexicon, homographs, dictionary, word formation, letter names, network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .context import Context
from .dictionary import Dictionary, Pronunciation, cmudict, parse_phones
from .formation import form, plural_ending
from .homographs import choose
from .network import guess
from .normalise import normalise
from .rules import words
from .symbols import is_vowel
from .tokens import Token

LETTER_NAMES: Mapping[str, str] = {
    "a": "EY1", "b": "B IY1", "c": "S IY1", "d": "D IY1", "e": "IY1", "f": "EH1 F", "g": "JH IY1", "h": "EY1 CH",
    "i": "AY1", "j": "JH EY1", "k": "K EY1", "l": "EH1 L", "m": "EH1 M", "n": "EH1 N", "o": "OW1", "p": "P IY1",
    "q": "K Y UW1", "r": "AA1 R", "s": "EH1 S", "t": "T IY1", "u": "Y UW1", "v": "V IY1",
    "w": "D AH1 B AH0 L Y UW0", "x": "EH1 K S", "y": "W AY1", "z": "Z IY1",
}  # fmt: skip

_SHORT_WORDS = words(
    "AM AN AS AT AX BE BY DO GO HA HE HI HO IF IN IS IT LO ME MY NO OF OH ON OR OX SO TO UP WE YE MR MS ST DR"
)
"""Two capitals that are a word said with emphasis; any others are an initialism."""
_LETTERED = words("vitamin hepatitis grade plan type group section class exhibit part appendix option schedule")
_INITIALISMS = words("NGO DEA MIT IDE POW MIA RAF SEC AKA LED SAT IRA")
"""Initialisms whose letters are another word in the dictionary."""
_LONGEST_INITIALISM = 5
_CASE_BREAK = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True)
class Pronouncer:
    """Says words.

    Attributes:
        lexicon: the user's words, lower case; they win over everything but phones written in the text.
        dictionary: the language's words.
    """

    lexicon: Mapping[str, Pronunciation] = field(default_factory=dict)
    dictionary: Dictionary = field(default_factory=cmudict)

    def normalise(self, text: str) -> str:
        """See ``flowtts.text.normalise``."""
        return normalise(text)

    def knows(self, word: str) -> bool:
        """True if this lower-case spelling, apostrophes and hyphens included, is looked up and not guessed."""
        return word in self.lexicon or word in self.dictionary

    def __call__(self, tokens: Sequence[Token]) -> list[Pronunciation]:
        """Phones of every word of a text; the neighbours decide between homographs.

        Raises:
            UserError: wrong phones in braces.
        """
        capitals = sum(token.text.isupper() and len(token.text) > 1 for token in tokens)
        shouting = capitals > max(2, len(tokens) // 2)
        said = [self._in_context(Context(tokens, at), shouting) for at in range(len(tokens))]
        for at in range(len(tokens) - 1):
            vowel = is_vowel(said[at + 1][0]) if said[at + 1] else False
            if vowel and tokens[at].text.lower() == "the" and "the" not in self.lexicon:
                said[at] = ("DH", "IY0")
        return said

    def _in_context(self, context: Context, shouting: bool) -> Pronunciation:
        word = context.written
        small = word.lower()
        if small not in self.lexicon:
            if word == "A" and _letter_a(context):
                return spell(word)
            if not shouting and _is_initialism(context):
                return spell(word)
            found = choose(context)
            if found:
                return found
        return self.word(word, shouting)

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
        if not shouting and _split_ending(word)[0] in _INITIALISMS:
            return self._unknown(word, shouting)
        return self._known(word.lower()) or self._unknown(word, shouting)

    def _known(self, word: str) -> Pronunciation:
        return self.lexicon.get(word) or self.dictionary.best(word)

    def _unknown(self, word: str, shouting: bool) -> Pronunciation:
        stem, ending = _split_ending(word)
        if len(stem) == 1 or (stem.isupper() and not shouting and len(stem) <= _LONGEST_INITIALISM):
            said = self._known(stem.lower()) if len(stem) > 2 and stem not in _INITIALISMS else ()
            said = said or spell(stem)
            return said + plural_ending(said) if ending and said else said
        parts = _CASE_BREAK.split(word)
        if len(parts) > 1 and not shouting:
            return tuple(phone for part in parts for phone in self.word(part))
        small = word.lower()
        return form(small, self._known) or guess(small)


def _split_ending(word: str) -> tuple[str, str]:
    """Capitals and a plural or possessive s: "FBI's" -> ("FBI", "s"), "MPs" -> ("MP", "s")."""
    match = re.fullmatch(r"([A-Z]+|[A-Za-z])('?s|'S)", word)
    return (match[1], match[2]) if match else (word, "")


def _is_initialism(context: Context) -> bool:
    """Capitals that are spelled although the dictionary has a word of the same letters: "US", "AM", "WHO"."""
    word = context.written
    if word == "WHO":
        return context.back() in ("the", "by", "of")
    if len(word) != 2 or not word.isupper() or not word.isalpha():
        return False
    if word == "AM":
        return context.back() not in ("i", "")
    if word == "IT":
        return context.back() in ("the", "an", "our", "in", "of", "for", "and")
    return word not in _SHORT_WORDS


def _letter_a(context: Context) -> bool:
    """The letter and not the article: "vitamin A", "J A Smith"."""
    before = context.tokens[context.at - 1].text if context.back() else ""
    following = context.tokens[context.at + 1].text if context.ahead() else ""
    if before.lower() in _LETTERED or any(
        len(near) == 1 and near.isupper() and near != "I" for near in (before, following)
    ):
        return True
    return bool(before) and not (following and (following[0].isupper() or before[0].isupper()))


def spell(letters: str) -> Pronunciation:
    """Letter names of a to z, one after another: ``"bbc"`` -> B IY1 B IY1 S IY1."""
    names = (LETTER_NAMES[letter] for letter in letters.lower() if letter in LETTER_NAMES)
    return tuple(phone for name in names for phone in name.split())
