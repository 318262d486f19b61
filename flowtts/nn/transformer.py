"""A bidirectional transformer with U-Net skips, symmetric ALiBi and an optional convolution per block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.nn.position import ConvPosition, alibi_bias


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes.

    Attributes:
        layers: blocks; even when ``skips`` is on.
        heads: attention heads; divides ``width``.
        width: D.
        ffn: inner width of the feed-forward.
        skips: block L-1-i also reads the output of block i, through a linear of 2D to D.
        position_kernel: width of the convolutional positional embedding, positions.
        position_groups: its groups.
        position_depth: its convolutions.
        block_kernel: width of a depthwise convolution in each block; 0 for none, as in the paper.
        dropout: on the activation of the feed-forward.
        attention_dropout: on the attention weights.
    """

    layers: int = 24
    heads: int = 16
    width: int = 1024
    ffn: int = 4096
    skips: bool = True
    position_kernel: int = 31
    position_groups: int = 16
    position_depth: int = 2
    block_kernel: int = 0
    dropout: float = 0.1
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % self.position_groups:
            raise ValueError("width must be a multiple of heads and of position_groups")
        if self.skips and self.layers % 2:
            raise ValueError("U-Net skips need an even number of layers")


class Attention(nn.Module):
    """Multi-head self-attention with an additive bias."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """X (B, T, D), bias (B or 1, heads, T, T) added to the logits -> (B, T, D)."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=dropout)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return out


class Block(nn.Module):
    """Pre-norm block: attention, optional depthwise convolution, feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, config.attention_dropout)
        self.norm_ffn = nn.LayerNorm(width)
        self.ffn_in = nn.Linear(width, config.ffn)
        self.ffn_out = nn.Linear(config.ffn, width)
        self.dropout = nn.Dropout(config.dropout)
        self.conv: nn.Conv1d | None = None
        if config.block_kernel:
            kernel = config.block_kernel
            self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)

    def forward(self, x: Tensor, bias: Tensor, gate: Tensor) -> Tensor:
        """X (B, T, D), gate (B, T, 1) zero on padding and on tokens outside time -> (B, T, D)."""
        x = x + self.attention(self.norm_attention(x), bias)
        hidden = self.norm_ffn(x)
        if self.conv is not None:
            near = self.conv((hidden * gate).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + near * gate
        out: Tensor = x + self.ffn_out(self.dropout(F.gelu(self.ffn_in(hidden))))
        return out


class Transformer(nn.Module):
    """The body shared by Voicebox's two models (arXiv 2306.15687, section 5)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.position = ConvPosition(
            config.width, config.position_kernel, config.position_groups, config.position_depth
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        skips = config.layers // 2 if config.skips else 0
        self.skips = nn.ModuleList(nn.Linear(2 * config.width, config.width) for _ in range(skips))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, mask: Tensor, token: Tensor | None = None) -> Tensor:
        """Map x (B, T, D) with mask (B, T) to (B, T, D).

        ``token`` (B, D) is appended along time and dropped at the end; ALiBi gives it no position.
        """
        length = x.shape[1]
        x = self.position(x, mask)
        extra = 0
        present = mask
        gate = mask[..., None].to(x.dtype)
        if token is not None:
            extra = 1
            x = torch.cat([x, token[:, None].to(x.dtype)], dim=1)
            present = F.pad(mask, (0, 1), value=True)
            gate = F.pad(gate, (0, 0, 0, 1))
        bias = attention_bias(length, self.config.heads, present, extra)
        if torch.is_autocast_enabled(x.device.type):  # once, not in every block
            bias = bias.to(torch.get_autocast_dtype(x.device.type))
        for_skip: list[Tensor] = []
        half = len(self.blocks) // 2
        for index, block in enumerate(self.blocks):
            if self.skips and index >= half:
                x = self.skips[index - half](torch.cat([x, for_skip.pop()], dim=-1))
            x = block(x, bias, gate)
            if self.skips and index < half:
                for_skip.append(x)
        out: Tensor = self.norm(x[:, :length])
        return out


def attention_bias(length: int, heads: int, present: Tensor, extra: int) -> Tensor:
    """ALiBi with absent positions masked out: (1 or B, heads, T + extra, T + extra)."""
    bias = alibi_bias(length, heads, extra=extra, device=present.device)[None]
    if bool(present.all()):
        return bias
    return bias.masked_fill(~present[:, None, None, :], -1e9)
