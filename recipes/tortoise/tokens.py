"""Text for Tortoise's published weights: byte-pair symbols of its own alphabet, in place of phones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowtts.compat import require
from flowtts.text import Analysis, normalise
from flowtts.types import PathLike, UserError

SPACE, STOP = "[SPACE]", "[STOP]"

_DASHES = str.maketrans({"–": "-", "—": "--"})
_PHONES = re.compile(r"\{[^{}]*\}")


class BPETokens:
    """Text to ids, as the published program's tokeniser has it.

    A deviation: numbers and abbreviations are read by ``flowtts.text.normalise``, which reads more of them. Text
    without any gets the published ids.

    Args:
        path: ``tokenizer.json``, in the format of the package ``tokenizers``.

    Raises:
        UserError: the file is missing or something else, or the package is.
    """

    def __init__(self, path: PathLike) -> None:
        tokenizers = require("tokenizers", "hf")
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path} is missing: convert the published files again")
        try:
            self._tokeniser: Any = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises bare exceptions
            raise UserError(f"{path} is no tokeniser that can be read: {str(error).splitlines()[0]}") from None
        named = self._tokeniser.get_vocab()
        if named.get(STOP) != 0 or SPACE not in named or sorted(named.values()) != list(range(len(named))):
            raise UserError(f"{path} is not Tortoise's: it needs {STOP} at 0, {SPACE}, and no gaps between its ids")
        self.symbols: tuple[str, ...] = tuple(sorted(named, key=named.__getitem__))
        """The vocabulary: index is the id."""

    def __call__(self, analysis: Analysis) -> Tensor:
        """(L,) int64 ids of a text, a stop at the end as published; the model adds another.

        Raises:
            UserError: phones in braces, a letter that is not English, or nothing to say.
        """
        return self._encode(analysis.normalised)

    def encode(self, text: str) -> Tensor:
        """The same of a text as it is written."""
        return self._encode(normalise(text))

    def _encode(self, normalised: str) -> Tensor:
        if found := _PHONES.search(normalised):
            raise UserError(f"phones in braces ({found[0]}) cannot be read by this model: it has letters, not phones")
        clean = normalised.translate(_DASHES).lower().replace('"', "")
        clean = re.sub(r"\s+", " ", clean)
        strange = next((letter for letter in clean if letter.isalpha() and not letter.isascii()), None)
        if strange is not None:
            raise UserError(f"the letter {strange!r} cannot be read by this model: write it in English letters")
        if not any(letter.isalpha() for letter in clean):
            raise UserError("the text has no word; give at least one")
        ids = self._tokeniser.encode(clean.replace(" ", SPACE)).ids
        return torch.tensor([*ids, 0])
