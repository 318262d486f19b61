"""Symmetric ALiBi attention, two ways: a ready-made additive bias, and flex attention that computes it on the fly.

Which one (`Transformer.prepare` follows this rule unless it is told): **flex** on CUDA when lengths of a batch differ
and a ready-made bias, which then needs a copy per item, would exceed ``FLEX_FROM`` bytes; **bias** everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from flowtts.nn.position import alibi_bias, alibi_slopes

Kernel = Literal["auto", "bias", "flex"]
ALIGNMENT = 16
"""Elements. PyTorch's memory-efficient kernel takes a bias whose rows begin on such a multiple and copies others."""
FLEX_FROM = 1 << 34
"""Bytes of additive bias beyond which flex attention is taken, for its memory: in time the bias won every case that was
measured on an H200 (330M parameters, 10 and 30 s, batch 1 and 32: flex takes 1.2 to 1.7 of it, 3.3 with padding)."""


class Attend(Protocol):
    """Attention of one layout: (q, k, v (B, H, S, D), dropout probability) -> (B, H, S, D)."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """Softmax of the biased logits times the values."""
        ...


@dataclass(frozen=True, eq=False)
class BiasAttend:
    """SDPA with an additive bias (1 or B, H, S, S) in the dtype of the computation, rows aligned for CUDA."""

    bias: Tensor

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """See `Attend`."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias, dropout_p=dropout)


@dataclass(frozen=True, eq=False)
class FlexAttend:
    """Flex attention (arXiv 2412.05496): ALiBi as a score function, padding as a block mask; nothing of size S x S.

    Compiled on CUDA; elsewhere its eager reference, which is for comparison alone.

    Attributes:
        score: PyTorch's score_mod.
        blocks: PyTorch's BlockMask of the real keys; None where all are real.
        compiled: whether the kernel is compiled.
    """

    score: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    blocks: Any
    compiled: bool

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """See `Attend`.

        Raises:
            ValueError: dropout is asked for, which flex attention has not.
        """
        if dropout:
            raise ValueError("flex attention has no dropout: train with the bias")
        out: Tensor = _flex(self.compiled)(q, k, v, score_mod=self.score, block_mask=self.blocks)
        return out


@lru_cache(maxsize=2)
def _flex(compiled: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    kernel: Any = torch.compile(flex_attention) if compiled else flex_attention
    return cast(Callable[..., Tensor], kernel)


def attend_bias(present: Tensor | None, length: int, heads: int, extra: int, dtype: torch.dtype,
                device: torch.device | str) -> BiasAttend:  # fmt: skip
    """Attention through a bias.

    Args:
        present: (B, T + extra) bool, or None where everything is.
        length: T positions in time.
        heads: H.
        extra: positions outside time, behind the others.
        dtype: of q, k and v.
        device: where.
    """
    bias = alibi_bias(length, heads, extra=extra, device=device)[None]
    if present is not None:
        bias = bias.masked_fill(~present[:, None, None, :], -1e9)
    size = length + extra
    bias = bias.to(dtype)
    if bias.device.type == "cuda":
        bias = F.pad(bias, (0, -size % ALIGNMENT))[..., :size]
    return BiasAttend(bias)


def attend_flex(present: Tensor | None, length: int, heads: int, extra: int, device: torch.device | str) -> FlexAttend:
    """Attention through flex attention; arguments as in `attend_bias`."""
    from torch.nn.attention.flex_attention import create_block_mask

    slopes = alibi_slopes(heads, device)

    def score(value: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        near = slopes[h] * (q - k).abs()
        return value - (torch.where((q < length) & (k < length), near, 0.0) if extra else near)

    blocks = None
    if present is not None:

        def real(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return present[b, k]

        size = length + extra
        blocks = create_block_mask(real, len(present), None, size, size, device=str(device))
    return FlexAttend(score, blocks, torch.device(device).type == "cuda")


def is_whole(mask: Tensor) -> bool:
    """Whether nothing of ``mask`` is padding.

    Waits for the device. While a CUDA graph is being captured nothing may, and the answer is that something is.
    """
    if mask.is_cuda and torch.cuda.is_current_stream_capturing():
        return False
    return bool(mask.all())


def compute_dtype(weight: Tensor) -> torch.dtype:
    """What attention will compute in: autocast's choice, or else the weights' own."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def choose_kernel(device: torch.device, batch: int, size: int, heads: int, dtype: torch.dtype, whole: bool) -> Kernel:
    """The rule at the top of this file. ``whole``: nothing is padding, so that one bias serves the batch."""
    if device.type != "cuda" or whole:
        return "bias"
    return "flex" if batch * heads * size**2 * dtype.itemsize > FLEX_FROM else "bias"
