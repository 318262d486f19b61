"""Lengths, masks and masked means. Masks are bool, True means real."""

from __future__ import annotations

import torch
from torch import Tensor


def lengths_to_mask(lengths: Tensor, longest: int | None = None) -> Tensor:
    """(B,) lengths -> (B, T) bool, True before each length."""
    size = int(lengths.max()) if longest is None else longest
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (B, T, …) over the True positions of mask (B, T): a scalar.

    Every remaining axis of ``values`` counts too. Without a True position the result is 0.
    """
    weights = mask.to(values.dtype).reshape(mask.shape + (1,) * (values.ndim - mask.ndim)).expand_as(values)
    return (values * weights).sum() / weights.sum().clamp(min=1)


def random_span(lengths: Tensor, low: float, high: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A contiguous chunk of each sequence covering r of it, r ~ U[low, high], placed uniformly.

    Returns:
        (B,) int64 first positions and (B,) int64 one past the last; at least one position each.
    """
    count = lengths.shape[0]
    share = low + (high - low) * torch.rand(count, generator=rng)
    sizes = (share * lengths.cpu()).round().long().clamp(min=1).minimum(lengths.cpu())
    starts = (torch.rand(count, generator=rng) * (lengths.cpu() - sizes + 1)).long()
    starts = starts.minimum(lengths.cpu() - sizes)
    return starts.to(lengths.device), (starts + sizes).to(lengths.device)
