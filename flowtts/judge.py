"""CLVP as a judge of any recipe's takes: how well sound fits the phones it should say (arXiv 2305.07243, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from flowtts.registry import load_judge
from flowtts.text import Analysis
from flowtts.types import Audio


class Judge(Protocol):
    """Hears sound and knows the text."""

    hash: str

    def __call__(self, audio: Audio, analyses: Sequence[Analysis]) -> float:
        """How well mono sound fits the parts of a text said in a row; more is better."""
        ...


@lru_cache(maxsize=1)
def shipped_judge() -> Judge:
    """The one that everything shares.

    Raises:
        UserError: it is not installed.
    """
    made: Judge = load_judge("clvp")
    return made
