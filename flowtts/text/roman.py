"""Roman numerals: after a ruler's name, after a word such as "Chapter", and alone where nothing else can be meant."""

from __future__ import annotations

import re

from .numbers import cardinal, ordinal, year
from .rules import Rule, after, before, rule

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_VALID = re.compile(r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")

_RULERS = (
    "Adrian Albert Alexander Alfonso Alphonse Amadeus Artaxerxes Baldwin Benedict Boniface Carlos Catherine Charles "
    "Christian Clement Constantine Cyrus Darius David Edward Elizabeth Eric Ethelred Eugene Ferdinand Francis Franz "
    "Frederick George Gregory Gustav Gustavus Haakon Harald Harold Henry Honorius Humbert Innocent Isabella Ivan "
    "James Joan John Josef Joseph Juan Julius Justinian Leo Leopold Louis Magnus Margaret Martin Mary Maximilian "
    "Mehmed Michael Murad Napoleon Nebuchadnezzar Nicholas Olaf Oscar Otto Paul Pedro Peter Philip Pius Ptolemy "
    "Rameses Ramses Richard Robert Rudolf Rudolph Selim Sixtus Stephen Suleiman Theodosius Thutmose Umberto Urban "
    "Valdemar Vladimir Victor Wilhelm William Xerxes Emmanuel Valentinian Ludwig Manuel Afonso Sancho Casimir "
    "Sigismund Basil Andronicus Alexius Celestine Hadrian Amenhotep Seti Antiochus Seleucus Mithridates Rama"
).replace(" ", "|")
_NUMBERED = (
    "Act Apollo Appendix Article Book Bowl Canto Case Category Chapter Class Column Episode Exhibit Fantasy Figure "
    "Form Grade Group Hall Level Line Mark Model Month Number Page Part Period Phase Plan Plate Psalm Quest Rocky "
    "Round Saturn Scene Schedule Section Season Series Sonnet Stage Step Table Tier Title Titan Tome Type Unit "
    "Version Vol Volume War Week"
).replace(" ", "|")
_NUMERAL = r"[IVXLCDM]+"
_AFTER_FIRST = re.compile(
    r"[.,;:)'\"]|\s*$|\s(?:of|in|was|had|has|and|is|died|reigned|became|to|who|ascended|granted|himself)\b"
)


_SMALL_LETTER = re.compile(r"\s[a-z]")
_PRONOUN_VERB = re.compile(
    r"\s(?:am|have|had|was|will|would|do|did|can|could|shall|should|may|might|must|think|thought|say|said|see|saw|know"
    r"|knew|want|wanted|read|write|wrote|go|went|show|showed|describe|described|never|always|also)\b"
)


def value(numeral: str) -> int | None:
    """The value of a well-formed Roman numeral in capitals, or None."""
    if not numeral or _VALID.fullmatch(numeral) is None:
        return None
    total = 0
    for place, letter in enumerate(numeral):
        following = _VALUES.get(numeral[place + 1 : place + 2], 0)
        total += -_VALUES[letter] if _VALUES[letter] < following else _VALUES[letter]
    return total


def _ruler(match: re.Match[str]) -> str:
    name, numeral, dot = match.group(1), match.group(2), match.group(3)
    number = value(numeral)
    if number is None or number > 40 or (numeral == "I" and not _AFTER_FIRST.match(dot + after(match))):
        return match.group()
    # A numeral's full stop ("George III. granted") ends no sentence unless the sentence ends there.
    stop = "" if re.match(r"\s*[a-z0-9,;:]", after(match)) else dot
    return f"{name} the {ordinal(number)}{stop}"


def _numbered(match: re.Match[str]) -> str:
    number = value(match.group(2))
    # "In this chapter I have", "In Chapter I described": the pronoun.
    pronoun = _PRONOUN_VERB if match.group(1)[0].isupper() else _SMALL_LETTER
    if match.group(2) == "I" and pronoun.match(after(match)):
        number = None
    return match.group() if number is None else f"{match.group(1)} {cardinal(number)}"


def _century(match: re.Match[str]) -> str:
    number = value(match.group(1))
    return match.group() if number is None else ordinal(number)


def _alone(match: re.Match[str]) -> str:
    numeral = match.group()
    number = value(numeral)
    if number is None or (numeral == "IV" and re.search(r"\b(?:an|the|by|via|with)$", before(match))):
        return match.group()
    two_names = re.search(r"\b[A-Z][a-z]+\s(?:[A-Z]\.?\s)?[A-Z][a-z]+,?$", before(match))
    if two_names and number <= 10:
        return f"the {ordinal(number)}"
    return year(str(number)) if number > 1000 else cardinal(number)


RULES: tuple[Rule, ...] = (
    rule(rf"\b({_NUMBERED})s?\.?\s({_NUMERAL})(?![\w'])", _numbered),
    rule(rf"\b({_NUMBERED.lower()})s?\s({_NUMERAL})(?![\w'])", _numbered),
    rule(rf"\b({_RULERS})\s({_NUMERAL})\b(\.?)", _ruler),
    rule(rf"\b({_NUMERAL})(?=(?:th)?\s[Cc]entur(?:y|ies)\b)(?:th)?", _century),
    # Two letters at least, and none that doubles as an initialism or a word (XL, CD, MC, MIX, CIVIL).
    rule(r"\b(?:I{2,3}|IV|VI{1,3}|IX|X[IVX]+|XL[IVX]+|L[IVX]{2,}|M[MCDXLVI]{3,})\b(?!')", _alone),
)
