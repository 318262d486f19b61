"""The symmetric contrastive loss: each half of a pair finds the other in the batch (arXiv 2103.00020, figure 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Contrast(NamedTuple):
    """Scalars.

    Attributes:
        loss: mean of the two cross-entropies.
        left: share of the left sides whose best match is their own other half.
        right: the same of the right sides.
    """

    loss: Tensor
    left: Tensor
    right: Tensor


def contrast(left: Tensor, right: Tensor, scale: Tensor, same: Tensor | None = None) -> Contrast:
    """Cross-entropy of finding right i among all for left i, and the other way round.

    Computed in float32 or better, under autocast as well: the scale magnifies what bfloat16 rounds away. Of several
    processes each contrasts its own pairs.

    Args:
        left: (B, D) unit vectors.
        right: (B, D) unit vectors; left i belongs to right i.
        scale: scalar factor on the cosines.
        same: (B, B) bool, pairs that would be just as right (one text spoken twice) and so do not count as wrong; its
            diagonal is not read.

    Returns:
        The loss, which is ln B where nothing was learnt, and two accuracies without gradient.
    """
    if left.ndim != 2 or left.shape != right.shape:
        raise ValueError(f"pairs need two (B, D) of one shape, not {tuple(left.shape)} and {tuple(right.shape)}")
    dtype = torch.promote_types(left.dtype, torch.float32)
    with torch.autocast(left.device.type, enabled=False):
        logits = scale.to(dtype) * (left.to(dtype) @ right.to(dtype).T)
        own = torch.arange(len(left), device=left.device)
        if same is not None:
            logits = logits.masked_fill(same & (own[:, None] != own), -torch.inf)
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    found = [(side.detach().argmax(1) == own).to(dtype).mean() for side in (logits, logits.T)]
    return Contrast(loss, *found)
