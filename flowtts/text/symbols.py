"""The vocabulary of English phones: ARPAbet with stress, word positions and pauses.

A phone inside a word carries its position as a postfix, ``_B`` first, ``_I`` inside, ``_E`` last,
``_S`` the only one (arXiv 2306.15687, section 5). Between words stands one of the pauses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from ..types import UserError

PAD = "PAD"
PAUSES: tuple[str, ...] = ("SIL", "SIL,", "SIL.", "SIL?", "SIL!")
"""Plain gap (may last no time), clause pause, and the ends of a statement, question and exclamation."""

CONSONANTS: tuple[str, ...] = (
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N",
    "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
VOWELS: tuple[str, ...] = (
    "AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW",
)  # fmt: skip
PHONES: tuple[str, ...] = tuple(sorted((*CONSONANTS, *(vowel + digit for vowel in VOWELS for digit in "012"))))
"""CMUdict's phones; a vowel ends in its stress: 0 none, 1 primary, 2 secondary."""

POSITIONS: tuple[str, ...] = ("_B", "_I", "_E", "_S")
SYMBOLS: tuple[str, ...] = (PAD, *PAUSES, *(phone + position for phone in PHONES for position in POSITIONS))
"""Index is the phone id. PAD is 0."""

_ID = MappingProxyType({symbol: index for index, symbol in enumerate(SYMBOLS)})


def ids(phones: Iterable[str], symbols: Sequence[str] = SYMBOLS) -> list[int]:
    """Ids of symbols such as ``"AH0_B"`` or ``"SIL,"``.

    Args:
        phones: symbols.
        symbols: the vocabulary; English by default.

    Raises:
        UserError: a symbol is not in the vocabulary.
    """
    table = _ID if symbols is SYMBOLS else {symbol: index for index, symbol in enumerate(symbols)}
    found = []
    for phone in phones:
        if phone not in table:
            raise UserError(f"the phone {phone!r} is not in the vocabulary of {len(table)} symbols")
        found.append(table[phone])
    return found


def positioned(phones: Sequence[str]) -> tuple[str, ...]:
    """The phones of one word with their position postfixes."""
    if len(phones) == 1:
        return (phones[0] + "_S",)
    inside = (phone + "_I" for phone in phones[1:-1])
    return (phones[0] + "_B", *inside, phones[-1] + "_E") if phones else ()


def bare(symbol: str) -> str:
    """The phone of a symbol: ``"AH0_B"`` -> ``"AH0"``; pauses stay as they are."""
    return symbol[:-2] if symbol[-2:] in POSITIONS else symbol


def is_pause(symbol: str) -> bool:
    """True for the silences between words."""
    return symbol in PAUSES


def is_vowel(phone: str) -> bool:
    """True for a bare ARPAbet vowel, with or without its stress digit."""
    return phone.rstrip("012") in VOWELS
