"""Classifier-free guidance: a network and a condition become a field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from flowtts.types import Condition, UserError

Network = Callable[[Tensor, Tensor, Condition], Tensor]
"""(x (B, T, C), t (B,), condition of B items) -> velocity (B, T, C)."""


@dataclass(frozen=True, eq=False)
class GuidedField:
    """The field null + g (cond - null). Build it with `guided`.

    Attributes:
        network: the conditional network.
        condition: of B items; of 2 B when both branches run, the conditional ones first.
        scale: g.
    """

    network: Network
    condition: Condition
    scale: float

    @property
    def calls_per_evaluation(self) -> int:
        """Forward passes of B items that one evaluation costs: 2 with both branches, though they run as one batch."""
        return 1 if self.scale in (0, 1) else 2

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocity (B, T, C) at a scalar ``t`` and ``x`` (B, T, C)."""
        if self.calls_per_evaluation == 1:
            return self.network(x, t.expand(len(x)), self.condition)
        both = self.network(torch.cat((x, x)), t.expand(2 * len(x)), self.condition)
        cond, null = both.chunk(2)
        return torch.lerp(null, cond, self.scale)


def guided(network: Network, cond: Condition, scale: float) -> GuidedField:
    """Guide a network: null + scale (cond - null) (arXiv 2207.12598, eq. 6, with scale = 1 + w).

    Scale 1 is the conditional network bit for bit and 0 the unconditional one; neither runs the other branch.
    Any other scale runs both as one batch of 2 B, whose condition is built here, once.

    Args:
        network: called with x, t (B,) and a condition; must drop everything where ``keep`` is False.
        cond: B items.
        scale: g; Voicebox's alpha is g - 1 (see `scale_of`).

    Raises:
        UserError: ``scale`` is not finite.
    """
    if not math.isfinite(scale):
        raise UserError(f"guidance must be a finite number, not {scale}")
    if scale == 1:
        return GuidedField(network, cond, scale)
    if scale == 0:
        return GuidedField(network, cond.null(), scale)
    return GuidedField(network, _concatenate(cond, cond.null()), scale)


def scale_of(alpha: float) -> float:
    """The scale g of a strength alpha in (1 + alpha) cond - alpha null.

    That is how Voicebox (alpha), Ho and Salimans (w), Tortoise (cond_free_k) and F5-TTS (cfg_strength) spell it.
    """
    return 1 + alpha


def alpha_of(scale: float) -> float:
    """The strength alpha of a scale g: the inverse of `scale_of`."""
    return scale - 1


def _concatenate(first: Condition, second: Condition) -> Condition:
    pairs = ((getattr(first, f.name), getattr(second, f.name)) for f in fields(Condition))
    return Condition(*(torch.cat(pair) for pair in pairs))
