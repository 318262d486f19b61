"""Weights stored in 8 bits: a quarter of float32's size, half of float16's. They are computed with as floats."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

INT8, SCALE = ":int8", ":scale"
"""Suffixes of the two tensors that stand for one. No parameter of a module can have a colon in its name."""

_LEAST = 4096
"""Elements below which a tensor stays as it is: biases and norms are small and sensitive."""


def pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Symmetric 8-bit integers and a float32 scale for every row of every large matrix; the rest in float16.

    A row is what makes one output (dimension 0), so that one large weight coarsens no other output.
    """
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        if not value.is_floating_point():
            packed[name] = value
        elif value.ndim < 2 or value.numel() < _LEAST or not bool(value.isfinite().all()):
            fits = value.numel() == 0 or float(value.abs().max()) <= torch.finfo(torch.float16).max
            packed[name] = value.half() if fits else value
        else:
            rows = value.detach().float().flatten(1)
            scale = (rows.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
            packed[name + INT8] = (rows / scale[:, None]).round().to(torch.int8).reshape(value.shape)
            packed[name + SCALE] = scale
    return packed


def unpack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `pack` was given, rounded; other states as they are.

    Raises:
        KeyError: a matrix lacks its scales.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith(INT8):
            plain = name.removesuffix(INT8)
            scale = state[plain + SCALE]
            found[plain] = value.float() * scale.reshape(-1, *[1] * (value.ndim - 1))
        elif not name.endswith(SCALE):
            found[name] = value
    return found
