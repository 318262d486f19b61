"""What decoding returns, and the order of its candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowtts.decode.settings import Decoding


@dataclass(frozen=True, eq=False)
class Decoded:
    """N candidates of one prompt, on the CPU.

    Attributes:
        tokens: of each candidate, (n,) int64, without the stop token.
        log_probabilities: (N,) float64, of all its choices under the network's own distribution.
        filtered_log_probabilities: (N,) float64, under the distributions that they were drawn from; 0 at temperature 0.
        choices: (N,) int64, how many choices those are: its tokens, and the stop token if it came.
        finished: (N,) bool, whether it ended by itself; otherwise it was cut off.
        steps: calls of the network after the prompt.
    """

    tokens: tuple[Tensor, ...]
    log_probabilities: Tensor
    filtered_log_probabilities: Tensor
    choices: Tensor
    finished: Tensor
    steps: int


def joined(parts: Sequence[Decoded]) -> Decoded:
    """Candidates of one prompt that were decoded in several batches, as one; their steps are added up."""
    return Decoded(
        tuple(tokens for part in parts for tokens in part.tokens),
        torch.cat([part.log_probabilities for part in parts]),
        torch.cat([part.filtered_log_probabilities for part in parts]),
        torch.cat([part.choices for part in parts]),
        torch.cat([part.finished for part in parts]),
        sum(part.steps for part in parts),
    )


def scores(log_probabilities: Tensor, choices: Tensor, length_penalty: float) -> Tensor:
    """Log-probability / length ** penalty, the length being the number of choices: 1 gives the mean of a choice."""
    return log_probabilities / choices.clamp(min=1).to(log_probabilities.dtype) ** length_penalty


def ranked(decoded: Decoded, decoding: Decoding) -> Tensor:
    """(N,) int64 numbers of the candidates, the best first: those that finished by their score, then the others."""
    score = scores(decoded.log_probabilities, decoded.choices, decoding.length_penalty)
    order = score.argsort(descending=True, stable=True)
    return order[(~decoded.finished[order]).int().argsort(stable=True)]
