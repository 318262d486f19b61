"""Lengths, masks and masked means. Masks are bool, True means real."""

from __future__ import annotations

from collections.abc import Sequence

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
    share = low + (high - low) * rand(lengths.shape, rng, lengths.device)
    sizes = (share * lengths).round().long().clamp(min=1).minimum(lengths)
    starts = (rand(lengths.shape, rng, lengths.device) * (lengths - sizes + 1)).long().minimum(lengths - sizes)
    return starts, starts + sizes


def rand(shape: Sequence[int], rng: torch.Generator, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1) of a shape, drawn where the generator lives and moved to a device."""
    return torch.rand(tuple(shape), generator=rng, device=rng.device).to(device)


def randn(shape: Sequence[int], rng: torch.Generator, device: torch.device) -> Tensor:
    """Normal numbers of a shape, drawn where the generator lives and moved to a device."""
    return torch.randn(tuple(shape), generator=rng, device=rng.device).to(device)
