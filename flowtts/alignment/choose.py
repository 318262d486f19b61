"""Aligners by name."""

from __future__ import annotations

from flowtts.alignment.base import Aligner
from flowtts.alignment.ctc import CtcAligner
from flowtts.alignment.pocketsphinx import PocketsphinxAligner


def choose_aligner(name: str) -> Aligner:
    """The aligner "pocketsphinx", or one from the name or folder of a checkpoint.

    Raises:
        UserError: neither.
    """
    return PocketsphinxAligner() if name == "pocketsphinx" else CtcAligner.load(name)
