"""A diffusion decoder that has learnt from codes begins to read the autoregressive model's states.

In the paper the way in for these states is trained together with the rest. Here it begins with what the way in for
codes does, and a least-squares guess of the code's embedding from the states around it: not in the paper, and a short
training needs no more.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from flowtts.mask import lengths_to_mask

from .data import CodeBatch
from .diffusion import DiffusionDecoder

_RIDGE = 1e-3
"""Share of the states' mean power that is added to their covariance, so that it can be inverted."""


@torch.no_grad()
def read_states_as_codes(decoder: DiffusionDecoder, batches: Iterable[CodeBatch]) -> float:
    """Let states mean what the codes mean that they stand for.

    Args:
        decoder: whose embedding of codes and its attention have learnt; what reads states is overwritten.
        batches: with codes and latents.

    Returns:
        The share of the embeddings' variance that the guess explains.
    """
    size, width = 3 * decoder.config.latent_width + 1, decoder.config.width
    covariance, cross = (torch.zeros(size, columns, dtype=torch.float64) for columns in (size, width))
    total, mean, count = torch.zeros((), dtype=torch.float64), torch.zeros(width, dtype=torch.float64), 0
    for batch in batches:
        assert batch.latents is not None
        real = lengths_to_mask(batch.code_lengths, batch.codes.shape[1])
        states = _around(batch.latents * real[..., None])[real].double()
        wanted = decoder.codes(batch.codes)[real].double()
        covariance += states.T @ states
        cross += states.T @ wanted
        total, mean, count = total + (wanted**2).sum(), mean + wanted.sum(0), count + len(wanted)
    ridge = _RIDGE * covariance.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    found = torch.linalg.solve(covariance + ridge, cross)
    # (3 taps, states, channels) to a convolution's (channels, states, taps).
    decoder.latent_in.weight.copy_(found[:-1].reshape(3, -1, width).permute(2, 1, 0))
    assert decoder.latent_in.bias is not None
    decoder.latent_in.bias.copy_(found[-1])
    for mine, theirs in zip(decoder.latent_blocks, decoder.code_blocks, strict=False):
        mine.load_state_dict(theirs.state_dict())
    error = total - 2 * (found * cross).sum() + (found * (covariance @ found)).sum()
    return float(1 - error / (total - (mean**2).sum() / count))


def _around(latents: Tensor) -> Tensor:
    """(B, N, 3 D + 1) the states before, at and behind each place, and a one."""
    before, behind = F.pad(latents, (0, 0, 1, 0))[:, :-1], F.pad(latents, (0, 0, 0, 1))[:, 1:]
    return torch.cat([before, latents, behind, torch.ones_like(latents[..., :1])], dim=-1)
