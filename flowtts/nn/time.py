"""Embedding of a continuous time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal(t: Tensor, width: int, scale: float = 1000.0, longest: float = 10_000.0) -> Tensor:
    """Sinusoidal embedding (B, width) of times t (B,) in [0, 1].

    Args:
        t: (B,) times.
        width: even embedding size.
        scale: t is multiplied by it, so that [0, 1] spans the range that positions usually have.
        longest: ratio of the longest to the shortest wavelength.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(longest) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = scale * t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
