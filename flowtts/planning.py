"""Texts in parts that a model can say at once, and durations that can be heard."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowtts.text import Analysis, FrontEnd, split
from flowtts.types import UserError

LONGEST_CHUNK = 120
"""Characters: about the length of the utterances that the shipped recipes are trained on."""

SHORTEST_PHONE = 1.5
SHORTEST_PAUSE = 2.0
"""Frames."""


def analyse(frontend: FrontEnd, text: str) -> list[tuple[str, Analysis]]:
    """Every part of a text as the user wrote it, and analysed.

    Raises:
        UserError: there is nothing to say.
    """
    found = [(chunk.text, frontend.analyse(chunk.text)) for chunk in split(text, longest=LONGEST_CHUNK)]
    if not found:
        raise UserError("there is nothing to say: the text is empty")
    return found


def audible(durations: Tensor, analyses: Sequence[Analysis]) -> Tensor:
    """Every phone lasts long enough to be heard; a pause of less than two frames is none (a ghost silence).

    Args:
        durations: (L,) frames of the phones of all analyses in a row.
        analyses: of a text's parts.
    """
    pause = torch.tensor([phone.word < 0 for analysis in analyses for phone in analysis.phones])
    heard = durations.clamp(min=SHORTEST_PHONE)
    return torch.where(pause, torch.where(durations < SHORTEST_PAUSE, torch.zeros_like(durations), durations), heard)
