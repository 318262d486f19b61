"""A bidirectional transformer with U-Net skips, symmetric ALiBi and an optional convolution per block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.nn.attention import Attend, Kernel, attend_bias, attend_flex, choose_kernel, is_whole
from flowtts.nn.position import ConvPosition, convolve


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


@dataclass(frozen=True, eq=False)
class Layout:
    """A batch's lengths as attention and convolutions need them. Made by `Transformer.prepare`.

    Attributes:
        length: T positions in time.
        extra: positions outside time, behind the others: 1 with a token, else 0.
        gate: (B, T, 1) in the dtype of the computation, 0 on padding; None where nothing is padding.
        attend: attention over T + extra positions.
    """

    length: int
    extra: int
    gate: Tensor | None
    attend: Attend


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, attend: Attend) -> Tensor:
        """X (B, T, D) -> (B, T, D)."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(q, k, v, self.dropout if self.training else 0.0)
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

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """X (B, T + extra, D) -> (B, T + extra, D)."""
        x = x + self.attention(self.norm_attention(x), layout.attend)
        hidden = self.norm_ffn(x)
        if self.conv is not None:
            # Positions outside time have no neighbours.
            timed, outside = hidden[:, : layout.length], hidden[:, layout.length :]
            near = timed if layout.gate is None else timed * layout.gate
            near = convolve(self.conv, near)
            timed = timed + (near if layout.gate is None else near * layout.gate)
            hidden = torch.cat([timed, outside], dim=1) if layout.extra else timed
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
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return self.run(x, self.prepare(mask, extra=token is not None, dtype=dtype, kernel="bias"), token)

    def prepare(self, mask: Tensor, *, extra: bool, dtype: torch.dtype, kernel: Kernel = "auto") -> Layout:
        """Everything that depends on the lengths alone, for any number of calls of `run`.

        The only place that waits for the device, in `is_whole`.

        Args:
            mask: (B, T) bool.
            extra: whether `run` gets a token.
            dtype: what attention computes in.
            kernel: "bias", "flex", or "auto" for the rule of `flowtts.nn.attention`.
        """
        batch, length = mask.shape
        heads, tokens = self.config.heads, int(extra)
        whole = is_whole(mask)
        present = None if whole else F.pad(mask, (0, tokens), value=True)
        if kernel == "auto":
            kernel = choose_kernel(mask.device, batch, length + tokens, heads, dtype, whole)
        attend: Attend
        if kernel == "flex":
            attend = attend_flex(present, length, heads, tokens, mask.device)
        else:
            attend = attend_bias(present, length, heads, tokens, dtype, mask.device)
        return Layout(length, tokens, None if whole else mask[..., None].to(dtype), attend)

    def run(self, x: Tensor, layout: Layout, token: Tensor | None = None) -> Tensor:
        """What `forward` does, on a layout of `prepare`: never waits for the device.

        Args:
            x: (B, T, D).
            layout: of these lengths.
            token: (B or 1, D), if and only if the layout was prepared with ``extra``.
        """
        x = self.position(x, layout.gate)
        if token is not None:
            x = torch.cat([x, token[:, None].to(x.dtype).expand(len(x), 1, x.shape[-1])], dim=1)
        for_skip: list[Tensor] = []
        half = len(self.blocks) // 2
        for index, block in enumerate(self.blocks):
            if self.skips and index >= half:
                x = self.skips[index - half](torch.cat([x, for_skip.pop()], dim=-1))
            x = block(x, layout)
            if self.skips and index < half:
                for_skip.append(x)
        out: Tensor = self.norm(x[:, : layout.length])
        return out
