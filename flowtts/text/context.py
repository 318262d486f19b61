"""What stands around a word, and whether that makes it a verb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .rules import words
from .tokens import Token

DETERMINERS = words(
    "a an the this these those my your his her its our their no some any each every another such what which whose "
    "several many few much more most all both either neither one two three four five six seven eight nine ten "
    "hundred thousand first second third last next other own same new old good great little big small young long "
    "high full certain"
)
PREPOSITIONS = words(
    "of in for with on at by from into without under over about between against during through after before upon as "
    "than toward towards within among amongst behind beyond despite per like via"
)
PLURAL_SUBJECTS = words("i you we they who these those")
SINGULAR_SUBJECTS = words("he she it who which that this everyone everybody nobody someone")
MODALS = words(
    "to will would shall should can could may might must cannot do does did don't doesn't didn't won't can't "
    "couldn't wouldn't shouldn't mustn't let's i'll you'll he'll she'll we'll they'll it'll i'd you'd he'd she'd "
    "we'd they'd please not never help let make made"
)
TO_BE = words(
    "is was are were be been being am isn't wasn't aren't weren't i'm you're he's she's it's we're they're that's"
)
TO_HAVE = words("have has had having haven't hasn't hadn't i've you've we've they've")
OBJECTS = words("me him them us it you myself yourself himself herself itself ourselves themselves")
ARTICLES = words("a an the this these those my your his her its our their every each")
_ADVERBS = words(
    "never always often also just still only ever even soon then now usually really not seldom sometimes thus "
    "almost hardly scarcely nearly first"
)
_NOT_ADVERBS = words("family only reply supply early daily likely friendly apply assembly july italy lovely lonely")
_ADJECTIVE_ENDINGS = ("al", "ous", "ive", "ful", "ic", "able", "ible", "ish", "ary", "less", "ian", "ese")


@dataclass(frozen=True)
class Context:
    """A word among its neighbours.

    Attributes:
        tokens: the words of the text.
        at: index of the word.
    """

    tokens: Sequence[Token]
    at: int

    @property
    def written(self) -> str:
        """The word as written."""
        return self.tokens[self.at].text

    def back(self, steps: int = 1) -> str:
        """The word ``steps`` before, lower case; "" beyond a pause or the beginning."""
        start = self.at - steps
        if start < 0 or any(token.pause != "SIL" for token in self.tokens[start : self.at]):
            return ""
        return self.tokens[start].text.lower()

    def ahead(self, steps: int = 1) -> str:
        """The word ``steps`` behind, lower case; "" beyond a pause or the end."""
        end = self.at + steps
        if end >= len(self.tokens) or any(token.pause != "SIL" for token in self.tokens[self.at : end]):
            return ""
        return self.tokens[end].text.lower()

    def near(self, words: frozenset[str], reach: int = 5) -> bool:
        """Whether one of ``words`` stands within ``reach`` words on either side, pauses or not."""
        around = self.tokens[max(0, self.at - reach) : self.at + reach + 1]
        return any(token.text.lower() in words for token in around)

    def governor(self) -> str:
        """The word before, adverbs skipped: "has often read" -> "has"."""
        steps = 1
        while is_adverb(self.back(steps)) and self.back(steps + 1):
            steps += 1
        return self.back(steps)

    @property
    def opens(self) -> bool:
        """Whether the word begins its sentence."""
        return self.at == 0 or self.tokens[self.at - 1].pause in ("SIL.", "SIL?", "SIL!")


def is_adverb(word: str) -> bool:
    """Whether a word is an adverb that may stand between a verb and what governs it."""
    return word in _ADVERBS or (word.endswith("ly") and word not in _NOT_ADVERBS and len(word) > 4)


def is_verb(context: Context, inflected: bool) -> bool:
    """Whether a word that may be noun, adjective or verb is a verb here.

    A sum of weights of what stands directly before and after; the weights were set by hand.

    Args:
        context: the word.
        inflected: the word is a form in -s: a plural noun, or a verb of the third person singular.
    """
    return _evidence_before(context, inflected) + _evidence_after(context, inflected) > 0


def _evidence_before(context: Context, inflected: bool) -> float:
    word = context.governor()
    if not word:
        return -0.5 if inflected else -0.2
    if word in MODALS:
        return -2.0 if inflected else 3.0
    if word in ("that", "this") and not inflected:
        return -1.0
    if word in SINGULAR_SUBJECTS and inflected:
        return 3.0
    if word in PLURAL_SUBJECTS:
        return -1.0 if inflected else 3.0
    if word in DETERMINERS or word.endswith(("'s", "s'")):
        return -3.0
    if word in TO_BE or word in TO_HAVE:
        return -3.0
    if word in PREPOSITIONS:
        return -2.5
    if word in ("and", "or", "but"):
        return 0.2
    if word in SINGULAR_SUBJECTS:
        return 0.0
    if word.endswith(_ADJECTIVE_ENDINGS):
        return -1.5
    plural = word.endswith("s") and not word.endswith(("ss", "us", "is"))
    if inflected:
        return 0.0 if plural else 0.3
    return 0.7 if plural else -0.7


def _evidence_after(context: Context, inflected: bool) -> float:
    word = context.ahead()
    if not word:
        return -0.4
    if word in ARTICLES or word in OBJECTS:
        return 1.6
    if word in ("that", "whether", "how", "why"):
        return 0.8
    if word == "to":
        return 0.8 if inflected or context.governor() not in TO_BE else 0.0
    if word == "of" or word in TO_BE or word in TO_HAVE or word in MODALS:
        return -2.0
    if word in ("and", "or"):
        return -0.2
    if is_adverb(word):
        return 0.6
    return -0.3 if word in PREPOSITIONS else 0.1
