"""Rules by which a candidate ends other than by its stop token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Stop(Protocol):
    """A rule. It is asked before each token, but for the first ``Decoding.min_tokens``."""

    @property
    def finishes(self) -> bool:
        """Whether a candidate that it ends counts as finished; otherwise it was cut off."""
        ...

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """Which candidates end here.

        Args:
            tokens: (R, n) int64, those that R candidates have.
            logits: (R, V) float32 of their next ones, as the network gave them.

        Returns:
            (R,) bool; these candidates get no further token.
        """
        ...


@dataclass(frozen=True)
class RepeatedToken:
    """Ends a candidate that is stuck: the same token several times in a row.

    Attributes:
        times: how often it is there when the candidate ends.
        finishes: see `Stop`.
    """

    times: int
    finishes: bool = False

    def __post_init__(self) -> None:
        if self.times < 2:
            raise ValueError("a token is repeated when it is there twice or more often")

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """See `Stop`."""
        if tokens.shape[1] < self.times:
            return torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        return (tokens[:, -self.times :] == tokens[:, -1:]).all(-1)


@dataclass(frozen=True)
class Likely:
    """Ends a candidate when some token is likely enough, whatever would be drawn: Bark's rule for its end.

    Attributes:
        token: the end.
        probability: that it needs, without any filter.
        finishes: see `Stop`.
    """

    token: int
    probability: float
    finishes: bool = True

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """See `Stop`."""
        return logits.softmax(-1)[:, self.token] >= self.probability
