"""Numbers to words, the American way: "one hundred ten", without "and".

That form was chosen by measurement: it is how the reader of LJSpeech reads.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .rules import Rule, after, before, rule

NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
"""A number as written, thousands separated or not. Needs a guard in front, so that it does not begin inside one."""
START = r"(?<![\w.,])"
"""That guard: no letter, digit or decimal point directly before."""

_LONGEST = 15
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@lru_cache(maxsize=4096)
def cardinal(value: int) -> str:
    """110 -> "one hundred ten"."""
    from num2words import num2words

    return str(num2words(value, lang="en")).replace(" and ", " ").replace(",", "")


@lru_cache(maxsize=1024)
def ordinal(value: int) -> str:
    """21 -> "twenty-first"."""
    from num2words import num2words

    return str(num2words(value, lang="en", to="ordinal")).replace(" and ", " ").replace(",", "")


def digits(text: str, zero: str = "zero") -> str:
    """Digit by digit: "2915" -> "two nine one five". Other characters are left out."""
    return " ".join(zero if digit == "0" else _DIGITS[int(digit)] for digit in text if digit.isdecimal())


def amount(text: str) -> str:
    """A number as written: "1,234.50" -> "one thousand two hundred thirty-four point five zero"."""
    whole, point, decimals = text.replace(",", "").partition(".")
    if len(whole) > _LONGEST or (len(whole) > 1 and whole.startswith("0")):
        said = digits(whole)
    else:
        said = cardinal(int(whole)) if whole else ""
    return f"{said} point {digits(decimals)}".strip() if point else said


def year(text: str) -> str:
    """A year of up to four digits: "1803" -> "eighteen oh three", "606" -> "six oh six"."""
    value = int(text)
    if value < 100 or value > 9999 or value % 1000 == 0 or 2000 < value < 2010:
        return cardinal(value)
    return pairs(str(value))


def pairs(text: str) -> str:
    """Three or four digits by hundreds, as years and house numbers are: "249" -> "two forty-nine"."""
    front, back = cardinal(int(text[:-2])), int(text[-2:])
    if back == 0:
        return f"{front} hundred"
    return f"{front} oh {cardinal(back)}" if back < 10 else f"{front} {cardinal(back)}"


def label(text: str) -> str:
    """A number that names something: a page, a room, a box. Long ones go digit by digit."""
    if text.startswith("0") or len(text) > 3:
        return digits(text)
    return pairs(text) if len(text) == 3 and not text.endswith("00") else cardinal(int(text))


def plural(word: str) -> str:
    """Plural of a number word: "sixty" -> "sixties"."""
    if word.endswith("y"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("x", "s")) else "s")


_TIME_WORD = re.compile(
    r"\b(?:in|of|the|since|by|from|until|till|before|after|during|and|to|year|between|about|circa|year of"
    r"|January|February|March|April|May|June|July|August|September|October|November|December),?$",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\s(?:[a-z]+ed |[a-z]+ing )?(?!was|has|is|this|its|as|his|us)[a-z]+s\b|\s(?:people|men|women|children)\b"
)


def _integer(match: re.Match[str]) -> str:
    text = match.group()
    timed = _TIME_WORD.search(before(match)) is not None
    if (
        len(text) == 4
        and (1000 if timed else 1100) <= int(text) <= 2099
        and (timed or not _COUNTED.match(after(match)))
    ):
        return year(text)
    return amount(text)


def _ordinal(match: re.Match[str]) -> str:
    return ordinal(int(match.group(1).replace(",", "")))


def _named(match: re.Match[str]) -> str:
    letter = f" {match.group(3)}" if match.group(3) else ""
    return f"{match.group(1)}{label(match.group(2))}{letter}"


def _house(match: re.Match[str]) -> str:
    text = match.group(1)
    return amount(text) if text.endswith("000") else pairs(text)


def _digits_of(match: re.Match[str]) -> str:
    return match.group(1) + digits(match.group(2))


def _version(match: re.Match[str]) -> str:
    prefix = "version " if match.group(1) else ""
    groups = match.group(2).split(".")
    read = digits if len(groups) == 4 and any(len(group) > 1 for group in groups) else amount
    return prefix + (" dot " if read is digits else " point ").join(read(group) for group in groups)


_STREET = "Street|Avenue|Road|Boulevard|Lane|Drive|Square|Place|Court|Highway|Terrace"
_NAMES = (
    r"\b((?:[Nn]umbers?|[Pp]ages?|[Ff]rames?|[Ee]xhibits?|[Rr]ooms?|[Ff]lights?|[Rr]outes?|[Hh]ighways?|[Cc]hannels?"
    r"|Boeing|Airbus|[Ii]nterstate|[Ss]uite|[Ee]xtension|[Gg]ate|[Aa]rea [Cc]ode|PS|IQ of)\s)"
)

LABELS: tuple[Rule, ...] = (
    # "2d" and "3d", as ordinals were once written.
    rule(START + r"(\d*[23])d\b(?!\.)", _ordinal),
    rule(r"\b([Cc]all(?:ed|ing)?\s|[Dd]ial(?:ed|led|ing|ling)?\s)(\d{3})\b", _digits_of),
    rule(START + r"(v|[Vv]er\.\s?)?(\d+(?:\.\d+){2,})(?!\w)", _version),
    rule(r"\b[vV](?=\d+\.\d)", "version "),
    rule(r"\b((?:P\.?\s?O\.?\s)?[Bb]ox\s|[Ss]erial (?:[Nn]umber\s)?|ZIP\s|PIN\s|[Zz]ip code\s)(\d+)\b", _digits_of),
    # A house number before its street.
    rule(
        rf"{START}(\d{{3,4}})(?=\s(?:(?:North|South|East|West|[NSEW]\.?)\s[A-Z]|[A-Z][a-z]+\s(?:{_STREET})\b))", _house
    ),
    rule(_NAMES + r"(\d{3,})(?:-?([A-Z])\b)?(?![\d,.]*\d)", _named),
)
"""Numbers that name something; before anything counts them."""

GROUPED: tuple[Rule, ...] = (
    rule(
        r"(?<![\d.,])([1-9]\d{0,2})((?:\s\d{3}){2,}|(?:\s000)+)(?![\d,])", lambda match: match.group().replace(" ", ",")
    ),
)
"""Thousands set apart by spaces."""

PLAIN: tuple[Rule, ...] = (
    rule(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th|ST|ND|RD|TH)\b", _ordinal),
    rule(START + r"\.\d+\b", lambda match: amount(match.group())),
    rule(r"(?<![\d.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)\.\d+", lambda match: amount(match.group())),
    rule(r"\d{1,3}(?:,\d{3})+(?!\d)", lambda match: amount(match.group())),
    rule(r"\d+", _integer),
)
"""Whatever numbers are left at the end."""
