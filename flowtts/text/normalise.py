"""Text as written to text as read aloud: one pass of rules over everything but phones in braces."""

from __future__ import annotations

import re

from . import abbreviations, dates, money, numbers, roman, units, written
from .characters import clean
from .rules import Rule, apply, rule

_BRACES = re.compile(r"(\{[^{}]*\})")
_HEADING = re.compile(r"([^\W_])[^\S\n]*\n[^\S\n]*\n\s*")
"""A paragraph that ends without punctuation, such as a heading."""
_TIDY: tuple[Rule, ...] = (
    rule(r"\s+", " "),
    rule(r"\s+(?=[,.;:?!])(?!\.\.)", ""),
    rule(r",(?:\s?,)+", ","),
    rule(r",(?=[.;:?!])", ""),
    rule(r"(?<=\w),(?=\w)", ", "),
)
ENGLISH: tuple[Rule, ...] = (
    *written.ADDRESSES,
    *abbreviations.RULES,
    *roman.RULES,
    *written.TELEPHONES,
    *numbers.GROUPED,
    *written.LEADING,
    *money.RULES,
    *dates.RULES,
    *numbers.LABELS,
    *units.RULES,
    *written.SIGNS,
    *written.CODES,
    *numbers.PLAIN,
    *written.LEFTOVERS,
)
"""In order: what reads a whole expression goes before what reads its parts."""


def normalise(text: str) -> str:
    """Write out numbers, abbreviations, symbols and addresses as an American reader says them.

    Phones in braces stay as they are. Punctuation that shapes speech stays; accents go.

    Args:
        text: one or more sentences.

    Returns:
        The reading, on one line. It holds no digit.
    """
    parts = _BRACES.split(_HEADING.sub(r"\1.\n", text))
    read = (part if _BRACES.fullmatch(part) else apply(ENGLISH, clean(part)) for part in parts)
    return apply(_TIDY, "".join(read)).strip()
