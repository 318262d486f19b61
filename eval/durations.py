"""How well durations are predicted: MS-MAE, MS-Corr and FDD (Voicebox, arXiv 2306.15687, section 5.1).

Durations are in frames, (B, L), phones along L; masks are bool and True means the phone counts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ms_mae(predicted: Tensor, true: Tensor, masked: Tensor) -> Tensor:
    """Masked-speech mean absolute error, E||m (l - l^)||_1 / E||m||_1, in frames.

    For a model that samples durations, Voicebox averages 20 samples before this.

    Args:
        predicted: (B, L) durations.
        true: (B, L) durations.
        masked: (B, L) bool, the phones that were predicted; False on padding.

    Raises:
        ValueError: nothing is masked, or shapes differ.
    """
    _same_shape(predicted, true, masked)
    if not masked.any():
        raise ValueError("MS-MAE needs a masked phone")
    return (predicted.double() - true.double()).abs()[masked].mean()


def ms_corr(predicted: Tensor, context: Tensor, masked: Tensor, real: Tensor) -> Tensor:
    """Correlation across utterances of the mean predicted duration with the mean duration of the context, in [-1, 1].

    Says whether the predictions follow the prompt's speaking rate.

    Args:
        predicted: (B, L) durations.
        context: (B, L) true durations.
        masked: (B, L) bool, the phones that were predicted.
        real: (B, L) bool, False on padding.

    Raises:
        ValueError: fewer than two utterances have both masked phones and context, or one side does not vary.
    """
    _same_shape(predicted, context, masked, real)
    inside, outside = masked & real, ~masked & real
    usable = inside.any(1) & outside.any(1)
    if int(usable.sum()) < 2:
        raise ValueError("MS-Corr needs two utterances that are partly masked")
    rates = torch.stack([_row_means(predicted, inside)[usable], _row_means(context, outside)[usable]])
    if (rates.std(1) == 0).any():
        raise ValueError("MS-Corr needs speaking rates that differ between utterances")
    return torch.corrcoef(rates)[0, 1]


def fdd(predicted: Tensor, true: Tensor) -> Tensor:
    """Frechet duration distance: (mu - mu')^2 + s + s' - 2 sqrt(s s'), s the population variances, in frames squared.

    Args:
        predicted: (N,) durations of all phones of a set.
        true: (M,) durations of all phones of another.

    Raises:
        ValueError: one of them is empty.
    """
    if predicted.numel() == 0 or true.numel() == 0:
        raise ValueError("FDD needs durations on both sides")
    made, wanted = predicted.double().flatten(), true.double().flatten()
    variance, wanted_variance = made.var(correction=0), wanted.var(correction=0)
    spread = variance + wanted_variance - 2 * (variance * wanted_variance).sqrt()
    return (made.mean() - wanted.mean()).square() + spread


def _row_means(values: Tensor, chosen: Tensor) -> Tensor:
    return (values.double() * chosen).sum(1) / chosen.sum(1)


def _same_shape(*tensors: Tensor) -> None:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) != 1 or tensors[0].ndim != 2:
        raise ValueError(f"durations and masks must all be (B, L) of one shape, not {sorted(shapes)}")
