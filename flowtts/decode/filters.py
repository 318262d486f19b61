"""What remains of a distribution before a token is drawn: (R, V) logits, minus infinity where nothing may come.

Each filter is that of the same name in Hugging Face's ``generate``, and so is their order. Where tokens at a boundary
are equally likely these here treat them alike, so that no order of sorting matters.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flowtts.decode.settings import Decoding


def filtered(logits: Tensor, decoding: Decoding, before: Tensor | None = None, forbidden: int | None = None) -> Tensor:
    """All filters in their order.

    Args:
        logits: (R, V) float32.
        decoding: at temperature 0 only the penalty and ``forbidden`` apply.
        before: (R, n) int64, tokens that the candidates have already.
        forbidden: a token that must not come now.

    Returns:
        (R, V) logits of the distribution to draw from; every row has a finite one.
    """
    if before is not None and decoding.repetition != 1:
        logits = penalised(logits, before, decoding.repetition)
    if forbidden is not None:
        logits = logits.clone()
        logits[:, forbidden] = -torch.inf
    if not decoding.temperature:
        return logits
    if decoding.temperature != 1:
        logits = logits / decoding.temperature
    if decoding.top_k:
        logits = top_k(logits, decoding.top_k)
    if decoding.top_p < 1:
        logits = top_p(logits, decoding.top_p)
    if decoding.min_p:
        logits = min_p(logits, decoding.min_p)
    if decoding.typical:
        logits = typical(logits, decoding.typical)
    return logits


def penalised(logits: Tensor, before: Tensor, penalty: float) -> Tensor:
    """Of the tokens in ``before`` (R, n) the positive logits are divided, the negative ones multiplied; once each."""
    found = logits.gather(-1, before)
    return logits.scatter(-1, before, torch.where(found < 0, found * penalty, found / penalty))


def top_k(logits: Tensor, count: int) -> Tensor:
    """The ``count`` likeliest tokens."""
    return _from(logits, logits.topk(min(count, logits.shape[-1])).values[:, -1:])


def top_p(logits: Tensor, mass: float) -> Tensor:
    """The likeliest tokens that together have a mass of at least ``mass``: no smaller set has it."""
    values = _sorted(logits)
    last = (values.softmax(-1).cumsum(-1) < mass).sum(-1, keepdim=True).clamp_(max=logits.shape[-1] - 1)
    return _from(logits, values.gather(-1, last))


def min_p(logits: Tensor, share: float) -> Tensor:
    """Tokens at least ``share`` times as likely as the likeliest."""
    probabilities = logits.softmax(-1)
    likeliest = probabilities.amax(-1, keepdim=True)
    return logits.masked_fill((probabilities < share * likeliest) & (probabilities < likeliest), -torch.inf)


def typical(logits: Tensor, mass: float) -> Tensor:
    """Tokens whose information is nearest to the entropy, up to a mass of ``mass``."""
    logs = logits.log_softmax(-1)
    probabilities = logs.exp()
    entropy = -torch.where(probabilities > 0, logs * probabilities, 0.0).sum(-1, keepdim=True)
    apart, order = (-logs - entropy).abs().sort(-1)
    last = (probabilities.gather(-1, order).cumsum(-1) < mass).sum(-1, keepdim=True).clamp_(max=logs.shape[-1] - 1)
    return logits.masked_fill((-logs - entropy).abs() > apart.gather(-1, last), -torch.inf)


def _from(logits: Tensor, least: Tensor) -> Tensor:
    return logits.masked_fill(logits < least, -torch.inf)


def _sorted(logits: Tensor) -> Tensor:
    """Each row from the largest to the smallest. NumPy takes a CPU a tenth of the time that PyTorch does."""
    if logits.device.type != "cpu":
        return logits.sort(-1, descending=True).values
    return torch.from_numpy(np.sort(logits.detach().numpy(), -1)).flip(-1)
