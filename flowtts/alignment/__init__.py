"""Forced alignment: when every phone and word of a known text sounds in a recording."""

from __future__ import annotations

from flowtts.alignment.base import Aligner, Alignment, PhoneTime, check_match
from flowtts.alignment.choose import choose_aligner
from flowtts.alignment.ctc import CtcAligner
from flowtts.alignment.match import from_textgrid, impose
from flowtts.alignment.pocketsphinx import PocketsphinxAligner
from flowtts.alignment.textgrid import TextGrid, read_textgrid, write_textgrid
from flowtts.alignment.writers import write_alignment

__all__ = [
    "Aligner",
    "Alignment",
    "CtcAligner",
    "PhoneTime",
    "PocketsphinxAligner",
    "TextGrid",
    "check_match",
    "choose_aligner",
    "from_textgrid",
    "impose",
    "read_textgrid",
    "write_alignment",
    "write_textgrid",
]
