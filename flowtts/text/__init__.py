"""Text to phones: normalisation, pronunciation, pauses, chunks."""

from __future__ import annotations

from .analysis import Analysis, TextWord
from .frontend import FrontEnd
from .normalise import normalise
from .split import Chunk, split
from .symbols import SYMBOLS, ids

__all__ = ["SYMBOLS", "Analysis", "Chunk", "FrontEnd", "TextWord", "ids", "normalise", "split"]
