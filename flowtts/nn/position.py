"""Positions: symmetric ALiBi and convolutional positional embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def alibi_slopes(heads: int, device: torch.device | str | None = None) -> Tensor:
    """(heads,) ALiBi slopes 2^(-8 h / heads), h = 1 … heads (arXiv 2108.12409)."""
    return 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=device, dtype=torch.float32) / heads)


def alibi_bias(length: int, heads: int, *, extra: int = 0, device: torch.device | str | None = None) -> Tensor:
    """Symmetric ALiBi bias (heads, length + extra, length + extra): -slope_h |i - j|.

    Made symmetric for bidirectional attention (arXiv 2306.15687, section 5). The last ``extra`` positions are not
    positions in time (Voicebox's time token): their rows and columns are zero.
    """
    slopes = alibi_slopes(heads, device)
    place = torch.arange(length, device=device, dtype=torch.float32)
    distance = (place[:, None] - place[None]).abs()
    return F.pad(-slopes[:, None, None] * distance, (0, extra, 0, extra))


def convolve(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution along T of x (B, T, C) -> (B, T, C')."""
    if x.device.type != "cpu" or torch.is_grad_enabled():
        out: Tensor = conv(x.transpose(1, 2))
        return out.transpose(1, 2)
    # oneDNN reads a picture of height 1 with its channels last as it lies; Conv1d would transpose it there and back.
    picture, weight = x.transpose(1, 2)[:, :, None], conv.weight[:, :, None]
    assert isinstance(conv.padding, tuple)
    made = F.conv2d(picture, weight, conv.bias, (1, *conv.stride), (0, *conv.padding), (1, *conv.dilation), conv.groups)
    return made[:, :, 0].transpose(1, 2)


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

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """X (B, T, C) -> (B, T, C).

        ``gate`` (B, T, 1) is 0 on padding, which then never reaches a real position; None where nothing is padding.
        """
        hidden = x if gate is None else x * gate
        for conv in self.convs:
            assert isinstance(conv, nn.Conv1d)
            hidden = F.gelu(convolve(conv, hidden))
            if gate is not None:
                hidden = hidden * gate
        return x + hidden
