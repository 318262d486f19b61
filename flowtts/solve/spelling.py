"""How users name a choice: "name", or "name:number" for one with a parameter."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import TypeVar

from flowtts.types import UserError

T = TypeVar("T")


def lookup(kind: str, table: Mapping[str, T], spelling: str) -> tuple[T, float | None]:
    """The entry of ``table`` that ``spelling`` names, and the number after its colon if there is one.

    Args:
        kind: what the table holds, for messages.
        table: choices by name.
        spelling: for example "sway" or "sway:-0.5".

    Raises:
        UserError: the name is unknown, or what follows the colon is no number.
    """
    name, colon, value = spelling.partition(":")
    known(kind, table, name)
    return table[name], number(f"{kind} '{spelling}'", value) if colon else None


def known(kind: str, names: Collection[str], name: str) -> None:
    """Refuse a name that is not among ``names``, and say which is like it.

    Raises:
        UserError: it is unknown.
    """
    if name not in names:
        near = difflib.get_close_matches(name.lower(), names, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UserError(f"unknown {kind} '{name}': {hint}known are {', '.join(names)}")


def number(where: str, text: str) -> float:
    """The number that a user wrote; ``where`` opens the message if it is none.

    Raises:
        UserError: it is no number.
    """
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where}: '{text}' is not a number") from None
