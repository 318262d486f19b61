"""Aligners by name."""

from __future__ import annotations

from functools import lru_cache

from flowtts.alignment.base import Aligner
from flowtts.alignment.ctc import CtcAligner
from flowtts.alignment.pocketsphinx import PocketsphinxAligner


def choose_aligner(name: str) -> Aligner:
    """The aligner "pocketsphinx", or one from the name or folder of a checkpoint.

    Raises:
        UserError: neither.
    """
    return english_aligner() if name == "pocketsphinx" else CtcAligner.load(name)


@lru_cache(maxsize=1)
def english_aligner() -> PocketsphinxAligner:
    """The one that everything shares: loading the acoustic model takes longer than aligning with it."""
    return PocketsphinxAligner()
