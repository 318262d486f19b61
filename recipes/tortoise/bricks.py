"""Bricks that Tortoise's conditioning encoder and diffusion decoder share. Channels come first here: (B, C, T)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GroupNorm(nn.GroupNorm):
    """Group normalisation in float32, whatever comes in.

    Args:
        channels: C; 32 groups, fewer for few channels.
    """

    def __init__(self, channels: int) -> None:
        groups = 8 if channels <= 16 else 16 if channels <= 64 else 32
        while channels % groups:
            groups //= 2
        if groups <= 2:
            raise ValueError(f"{channels} channels cannot be normalised in groups: take a multiple of 16")
        super().__init__(groups, channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """X (B, C, T) -> the same shape and dtype; statistics are of the frames in ``mask`` (B, T) bool alone."""
        # The weights may be of half precision, which not every kernel mixes with float32.
        weight, bias = self.weight.float(), self.bias.float()
        if mask is None:
            return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)
        batch, channels, length = x.shape
        grouped = x.float().reshape(batch, self.num_groups, -1, length)
        real = mask[:, None, None].float()
        # Of a clip that is all padding, nothing is asked but to be finite.
        count = real.sum((2, 3), keepdim=True).clamp(min=1) * grouped.shape[2]
        mean = (grouped * real).sum((2, 3), keepdim=True) / count
        apart = (grouped - mean) * real
        variance = (apart**2).sum((2, 3), keepdim=True) / count
        normal = (apart * (variance + self.eps).rsqrt()).reshape(batch, channels, length)
        return (normal * weight[:, None] + bias[:, None]).to(x.dtype)


class RelativeBias(nn.Module):
    """T5's bias of attention by bucketed distance (arXiv 1910.10683, section 2.1), both ways.

    Args:
        heads: H.
        scale: factor on the learnt values.
        buckets: of distances, half of them for each direction.
        longest: distances from here on share a bucket.
    """

    def __init__(self, heads: int, scale: float, buckets: int = 32, longest: int = 64) -> None:
        super().__init__()
        self.scale, self.buckets, self.longest = scale, buckets, longest
        self.values = nn.Embedding(buckets, heads)
        nn.init.normal_(self.values.weight, std=0.1 / scale)

    def forward(self, length: int) -> Tensor:
        """(1, H, T, T) bias of a sequence of ``length``."""
        # A table of distances is enough: row i of the bias is a window of it, one place to the left of row i - 1's.
        apart = torch.arange(1 - length, length, device=self.values.weight.device)
        half = self.buckets // 2
        near = half // 2
        distance = apart.abs()
        far = near + (
            (distance.float().clamp(min=1) / near).log() / math.log(self.longest / near) * (half - near)
        ).long().clamp(max=half - 1 - near)
        bucket = torch.where(distance < near, distance, far) + (apart > 0) * half
        table: Tensor = self.values(bucket).t() * self.scale
        return table.unfold(1, length, 1).flip(1)[None]


class AttentionBlock(nn.Module):
    """Self-attention over time with a residual, after group normalisation (arXiv 2105.05233's, in one dimension).

    Args:
        channels: C.
        heads: divides C.
        relative: with a relative bias.
    """

    def __init__(self, channels: int, heads: int, *, relative: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)
        self.bias = RelativeBias(heads, (channels // heads) ** 0.5) if relative else None

    def forward(self, x: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """X (B, C, T) -> (B, C, T); ``mask`` (B, T) bool hides padding from everybody.

        ``bias`` is what `biases` made of the mask, if it is at hand.
        """
        batch, channels, length = x.shape
        # The published layout: q, k and v of one head lie together.
        qkv = self.qkv(self.norm(x, mask)).reshape(batch, self.heads, 3, channels // self.heads, length)
        q, k, v = (part.transpose(-1, -2) for part in qkv.unbind(2))
        bias = self.biases(length, mask, q.dtype) if bias is None else bias
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = x + self.out(mixed.transpose(-1, -2).reshape(batch, channels, length))
        return out

    def biases(self, length: int, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """What is added to the logits (1 or B, 1 or H, 1 or T, T): the relative bias, and what hides padding."""
        bias = None if self.bias is None else self.bias(length).to(dtype)
        if mask is None:
            return bias
        hidden = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -1e4)[:, None, None]
        return hidden if bias is None else bias + hidden


class TimedBlock(nn.Module):
    """Two convolutions with a residual, scaled and shifted by the time (arXiv 2105.05233, section 3: AdaGN).

    Args:
        channels: C.
        dropout: before the last convolution.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm_in = GroupNorm(channels)
        self.conv_in = nn.Conv1d(channels, channels, 1)
        self.time = nn.Linear(channels, 2 * channels)
        self.norm_out = GroupNorm(channels)
        self.conv_out = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor, mask: Tensor | None = None) -> Tensor:
        """X (B, C, T) -> (B, C, T), with what `modulation` made of the time, (1 or B, 2 C, 1)."""
        scale, shift = time.chunk(2, dim=1)
        hidden = self.conv_in(F.silu(self.norm_in(x, mask)))
        hidden = self.norm_out(hidden, mask) * (1 + scale) + shift
        hidden = F.dropout(F.silu(hidden), self.dropout, self.training)
        out: Tensor = x + self.conv_out(silent(hidden, mask))
        return out

    def modulation(self, token: Tensor) -> Tensor:
        """(B, 2 C, 1) scale and shift from a time's embedding (B, C)."""
        made: Tensor = self.time(F.silu(token))
        return made[..., None]


def silent(x: Tensor, mask: Tensor | None) -> Tensor:
    """X (B, C, T) with zeros on padding, as a convolution finds beyond the end of what is not padded."""
    return x if mask is None else x * mask[:, None].to(x.dtype)
