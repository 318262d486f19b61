"""What was heard beside what should have been said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flowtts.compat import require

Kind = Literal["equal", "substitute", "delete", "insert"]


@dataclass(frozen=True)
class Piece:
    """Words that were heard alike: right, one as another, not at all, or too many.

    Attributes:
        kind: which.
        wanted: words of the text.
        heard: words that the recogniser heard in their place.
    """

    kind: Kind
    wanted: tuple[str, ...]
    heard: tuple[str, ...]

    @property
    def errors(self) -> int:
        """Errors, as a word error rate counts them."""
        return 0 if self.kind == "equal" else max(len(self.wanted), len(self.heard))


def align(wanted: Sequence[str], heard: Sequence[str]) -> list[Piece]:
    """The alignment with the fewest errors, jiwer's, which the word error rate is counted on.

    Args:
        wanted: words of the text, as ``flowtts.recognise.spoken_words`` has them.
        heard: words of the recogniser.

    Raises:
        UserError: the extra "compare" is missing.
    """
    if not wanted:
        return [Piece("insert", (), tuple(heard))] if heard else []
    if not heard:
        return [Piece("delete", tuple(wanted), ())]
    found = require("jiwer", "compare").process_words(" ".join(wanted), " ".join(heard))
    pieces: list[Piece] = []
    for chunk in found.alignments[0]:
        asked = tuple(wanted[chunk.ref_start_idx : chunk.ref_end_idx])
        said = tuple(heard[chunk.hyp_start_idx : chunk.hyp_end_idx])
        if chunk.type == "substitute":
            # As many of the one as of the other: each is a pair.
            pieces += [Piece("substitute", (one,), (other,)) for one, other in zip(asked, said, strict=True)]
        else:
            pieces.append(Piece(chunk.type, asked, said))
    return pieces
