"""How users name a choice: "name", or "name:number" for one with a parameter."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
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
    name, colon, number = spelling.partition(":")
    if name not in table:
        near = difflib.get_close_matches(name.lower(), table, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UserError(f"unknown {kind} '{name}': {hint}known are {', '.join(table)}")
    if not colon:
        return table[name], None
    try:
        return table[name], float(number)
    except ValueError:
        raise UserError(f"{kind} '{spelling}': '{number}' is not a number") from None
