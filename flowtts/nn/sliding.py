"""A causal transformer that sees a bounded past, and therefore runs in pieces with a bounded memory (arXiv 2410.00037).

Pre-norm, rotary positions, linear maps without offsets, LayerScale (arXiv 2103.17239) on both branches: that of Mimi.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.nn.rotary import Rotary, rotary


@dataclass(frozen=True)
class SlidingConfig:
    """Sizes.

    Attributes:
        layers: blocks.
        heads: attention heads; divides ``width``.
        width: D.
        ffn: inner width of the feed-forward.
        context: positions that one sees, itself among them.
        scale: that both branches of a block begin with.
        base: of the rotary wavelengths.
    """

    layers: int = 8
    heads: int = 8
    width: int = 512
    ffn: int = 2048
    context: int = 250
    scale: float = 0.01
    base: float = 10_000.0

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError("width must be an even multiple of heads")
        if self.context < 1:
            raise ValueError("a position sees itself at least: the context is 1 or more")


@dataclass(frozen=True, eq=False)
class Past:
    """What was before a piece, at most ``context - 1`` positions of it.

    Attributes:
        length: positions so far.
        keys: turned keys (B, H, P, D / H) of every block.
        values: values of the same shape.
    """

    length: int
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class SlidingBlock(nn.Module):
    """Attention and feed-forward."""

    def __init__(self, config: SlidingConfig) -> None:
        super().__init__()
        width, self.heads, self.context = config.width, config.heads, config.context
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.scale_attention = nn.Parameter(torch.full((width,), config.scale))
        self.norm_ffn = nn.LayerNorm(width)
        self.ffn_in = nn.Linear(width, config.ffn, bias=False)
        self.ffn_out = nn.Linear(config.ffn, width, bias=False)
        self.scale_ffn = nn.Parameter(torch.full((width,), config.scale))

    def forward(self, x: Tensor, turn: Rotary, seen: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, ...]:
        """X (B, T, D) with its angles and what it sees (T, P + T) -> (B, T, D), keys and values to remember."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = turn(q), turn(k)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + self.scale_attention * self.out(mixed.transpose(1, 2).reshape(x.shape))
        x = x + self.scale_ffn * self.ffn_out(F.gelu(self.ffn_in(self.norm_ffn(x))))
        first = max(0, k.shape[2] - self.context + 1)
        return x, k[:, :, first:], v[:, :, first:]


class SlidingTransformer(nn.Module):
    """X (B, T, D) -> (B, T, D); position i sees i - context + 1 to i. Nothing is normalised behind the last block."""

    def __init__(self, config: SlidingConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(SlidingBlock(config) for _ in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        """The whole. Padding goes behind: nothing before it can see it."""
        return self.stream(x)[0]

    def stream(self, x: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """The next piece: pieces put together are the whole to rounding.

        Args:
            x: (B, T, D).
            past: what the piece before returned; None for the first.
        """
        length = x.shape[1]
        begin, before = (0, 0) if past is None else (past.length, past.keys[0].shape[2])
        positions = torch.arange(begin, begin + length, device=x.device)
        turn = rotary(positions, self.config.width // self.config.heads, base=self.config.base)
        apart = positions[:, None] - torch.arange(begin - before, begin + length, device=x.device)
        seen = (apart >= 0) & (apart < self.config.context)
        keys, values = [], []
        for number, block in enumerate(self._sequence()):
            x, k, v = block(x, turn, seen, None if past is None else (past.keys[number], past.values[number]))
            keys.append(k)
            values.append(v)
        return x, Past(begin + length, tuple(keys), tuple(values))

    def _sequence(self) -> Iterator[SlidingBlock]:
        return cast("Iterator[SlidingBlock]", iter(self.blocks))
