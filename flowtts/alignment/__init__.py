"""Forced alignment: when every phone and word of a known text sounds in a recording."""
from flowtts.alignment.base import Aligner, Alignment, PhoneTime, check_match
from flowtts.alignment.pocketsphinx import PocketsphinxAligner
__all__ = ["Aligner", "Alignment", "PhoneTime", "PocketsphinxAligner", "check_match"]
