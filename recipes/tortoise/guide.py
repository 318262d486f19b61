"""Helping the autoregressive model to find its place in the text, where the corpus is too small for it to find out.

None of it is in the paper, and all of it leaves the network as it is: positions that begin on one clock, codes that
begin as their vectors in the codebook, and a loss for the attention of some heads, as guided attention is used in
text-to-speech (arXiv 1710.08969, section 4), but with the true times in the place of a diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from flowtts.mask import masked_mean
from flowtts.nn.causal import CausalBlock

_SHORTEST, _LONGEST = 12.0, 800.0
"""Wavelengths of positions that begin on one clock, in codes."""


@torch.no_grad()
def start_on_time(text: nn.Embedding, codes: nn.Embedding, codes_per_symbol: float) -> None:
    """Begin with sinusoids by which a symbol and the codes that say it, at a mean pace, have like positions."""
    for table, pace in ((text, codes_per_symbol), (codes, 1.0)):
        half = table.weight.shape[1] // 2
        rates = 2 * math.pi / (_SHORTEST * (_LONGEST / _SHORTEST) ** torch.linspace(0, 1, half))
        angles = pace * torch.arange(len(table.weight))[:, None] * rates
        # As large as random tables begin.
        table.weight[:, : 2 * half] = torch.cat([angles.sin(), angles.cos()], 1) * (0.02 * math.sqrt(2))


@torch.no_grad()
def start_alike(tables: Sequence[Tensor], codebook: Tensor, seed: int) -> None:
    """Begin with like rows for codes that sound alike.

    Args:
        tables: (K or more, D) rows of codes, which become a turned copy of the codebook, as large as they were.
        codebook: (K, W) code vectors.
        seed: turns it.
    """
    rng, (count, width) = torch.Generator().manual_seed(seed), codebook.shape
    apart = (codebook - codebook.mean(0)) / codebook.std().clamp(min=1e-8)
    for table in tables:
        turn, _ = torch.linalg.qr(torch.randn(max(table.shape[1], width), width, generator=rng))
        turned = apart @ turn[: table.shape[1]].T
        table[:count] = turned * (table.std() / turned.std())


@contextmanager
def inputs_of(block: nn.Module | None) -> Iterator[list[Tensor]]:
    """What a block is called with, filled as it is called; of no block, nothing."""
    seen: list[Tensor] = []
    if block is None:
        yield seen
        return
    handle = block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def attention_loss(block: CausalBlock, x: Tensor, text_lengths: Tensor, spoken: Tensor) -> tuple[Tensor, Tensor]:
    """How little two heads look at the symbol that the next code says, and at the symbol behind it.

    Args:
        block: whose first two heads are guided.
        x: (B, S, D) its input, in the layout of `flowtts.recipes.tortoise.autoregressive`: voice, start, text, stop,
            start, codes.
        text_lengths: (B,) int64.
        spoken: (B, N) int64, which symbol of the text each code says; -1 counts for nothing.

    Returns:
        The mean negative logarithm of the attention, and the mean attention on the symbol itself.
    """
    q, k, _ = block.project(x)
    width, size = q.shape[-1], spoken.shape[1]
    # The state at place begin + j predicts code j; symbol i stands at place 2 + i.
    begin = 3 + text_lengths[:, None]
    place = begin + torch.arange(size, device=x.device)[None]
    inside = place.clamp(max=x.shape[1] - 1)
    rows = q[:, :2].gather(2, inside[:, None, :, None].expand(-1, 2, -1, width))
    logits = (rows @ k[:, :2].transpose(-1, -2)).float() / math.sqrt(width)
    seen = torch.arange(x.shape[1], device=x.device)[None, None] <= inside[..., None]
    logs = logits.masked_fill(~seen[:, None], -torch.inf).log_softmax(-1)
    # Behind the last symbol stands the stop, at the place that would be the next symbol's.
    wanted = torch.stack([spoken, spoken + 1], 1).clamp(min=0) + 2
    found = logs.gather(-1, wanted[..., None])[..., 0]
    real = (spoken >= 0) & (place < x.shape[1])
    loss = -masked_mean(found.transpose(1, 2), real)
    return loss, masked_mean(found[:, 0].exp(), real)
