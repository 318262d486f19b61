"""Rotary positions (arXiv 2104.09864): vectors are turned by angles that grow with their position.

The product of a query and a key that were both turned depends on their distance alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Pairs = Literal["half", "interleaved"]
"""Which of R channels turn together: "half" i with i + R / 2 (GPT-NeoX, CLVP), "interleaved" 2i with 2i + 1 (the paper,
GPT-J). Weights made for one are nonsense in the other."""


@dataclass(frozen=True, eq=False)
class Rotary:
    """The angles of some positions, made once and used in every layer. Made by `rotary`.

    Attributes:
        cos: (T, R) or (B, 1, T, R) float32.
        sin: the same shape.
        pairs: see `Pairs`.
    """

    cos: Tensor
    sin: Tensor
    pairs: Pairs

    def __call__(self, x: Tensor) -> Tensor:
        """X (B, H, T, D) turned in its first R channels, in float32 or better; the others stay as they are."""
        width = self.cos.shape[-1]
        turning, still = x[..., :width], x[..., width:]
        if self.pairs == "half":
            first, second = turning.chunk(2, dim=-1)
            across = torch.cat([-second, first], dim=-1)
        else:
            first, second = turning[..., 0::2], turning[..., 1::2]
            across = torch.stack([-second, first], dim=-1).flatten(-2)
        turned = (turning * self.cos + across * self.sin).to(x.dtype)
        return torch.cat([turned, still], dim=-1) if still.shape[-1] else turned


def rotary(positions: Tensor, width: int, pairs: Pairs = "half", base: float = 10_000.0) -> Rotary:
    """The angles ``position * base ** (-2 i / width)`` of every pair i (section 3.4.2).

    Args:
        positions: (T,), or (B, T) where items differ; on the device of the vectors.
        width: R, the channels of a head that turn; even and at most D.
        pairs: see `Pairs`.
        base: wavelengths run from 2 pi positions to nearly this many times that.
    """
    if width <= 0 or width % 2:
        raise ValueError(f"channels turn in pairs: {width} is not a positive even number")
    if pairs not in ("half", "interleaved"):
        raise ValueError(f"rotary pairs are half or interleaved, not {pairs!r}")
    powers = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    angles = positions[..., None].float() * (1.0 / base**powers)
    angles = torch.cat([angles, angles], dim=-1) if pairs == "half" else angles.repeat_interleave(2, dim=-1)
    if positions.ndim == 2:
        angles = angles[:, None]
    return Rotary(angles.cos(), angles.sin(), pairs)
