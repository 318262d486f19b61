"""Between phones and frames: repetition by durations, its inverse, and rounding that keeps a total."""

from __future__ import annotations

import torch
from torch import Tensor


def repeat(values: Tensor, durations: Tensor, frames: int | None = None) -> Tensor:
    """Voicebox's rep(y, l): every phone's value repeated for its frames (arXiv 2306.15687, section 3.1).

    Args:
        values: (B, L) or (B, L, C), one per phone.
        durations: (B, L) int64 frames per phone; zero for ghost silences and padding.
        frames: T of the result; the longest total by default. Frames past an item's total are zero.

    Returns:
        (B, T) or (B, T, C).
    """
    ends = durations.cumsum(1)
    size = int(ends[:, -1].max()) if frames is None else frames
    times = torch.arange(size, device=durations.device).expand(len(durations), size)
    # The phone of frame t is the number of phones that have ended by t; zero-length phones are passed over.
    index = torch.searchsorted(ends, times.contiguous(), right=True)
    inside = index < durations.shape[1]
    index = index.clamp(max=durations.shape[1] - 1)
    if values.ndim == 3:
        picked = values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
        return picked * inside[..., None].to(values.dtype)
    return values.gather(1, index) * inside.to(values.dtype)


def collapse(per_frame: Tensor) -> tuple[Tensor, Tensor]:
    """Runs of equal values of a (T,) sequence: (values (L,), durations (L,)). Inverse of rep without ghosts."""
    values, counts = torch.unique_consecutive(per_frame, return_counts=True)
    return values, counts


def round_to_total(durations: Tensor, total: int) -> Tensor:
    """Round (L,) non-negative float durations to int64 that sum to ``total``, scaled, by largest remainder.

    Durations that are exactly zero stay zero.

    Raises:
        ValueError: if no duration is positive or ``total`` is negative.
    """
    if total < 0 or not bool((durations > 0).any()):
        raise ValueError("round_to_total needs a positive duration and a total of at least 0")
    scaled = durations.double() * (total / float(durations.double().sum()))
    whole = scaled.floor()
    missing = total - int(whole.sum())
    remainder = torch.where(durations > 0, scaled - whole, torch.full_like(scaled, -1.0))
    whole[remainder.topk(missing).indices] += 1
    return whole.long()
