"""Positions: symmetric ALiBi and convolutional positional embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def alibi_bias(length: int, heads: int, *, extra: int = 0, device: torch.device | str | None = None) -> Tensor:
    """Symmetric ALiBi bias (heads, length + extra, length + extra): -slope_h |i - j|.

    Slopes are 2^(-8 h / heads), h = 1 … heads (arXiv 2108.12409), made symmetric for bidirectional
    attention (arXiv 2306.15687, section 5). The last ``extra`` positions are not positions in time
    (Voicebox's time token): their rows and columns are zero.
    """
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=device, dtype=torch.float32) / heads)
    place = torch.arange(length, device=device, dtype=torch.float32)
    distance = (place[:, None] - place[None]).abs()
    return F.pad(-slopes[:, None, None] * distance, (0, extra, 0, extra))


class ConvPosition(nn.Module):
    """Convolutional positional embedding, added to its input (wav2vec 2.0, arXiv 2006.11477).

    Args:
        width: channels.
        kernel: odd kernel width in positions.
        groups: of the convolutions.
        depth: convolutions in a row, each followed by GELU.
    """

    def __init__(self, width: int, kernel: int = 31, groups: int = 16, depth: int = 2) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError("ConvPosition needs an odd kernel")
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups) for _ in range(depth)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """X (B, T, C), mask (B, T) -> (B, T, C); padding never reaches a real position."""
        gate = mask[:, None].to(x.dtype)
        hidden = x.transpose(1, 2) * gate
        for conv in self.convs:
            hidden = F.gelu(conv(hidden)) * gate
        return x + hidden.transpose(1, 2)
