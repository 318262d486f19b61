"""Pretrained judges of the transformers library, from a local folder or its offline cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowtts.compat import require
from flowtts.types import Samples, UserError

from .judging import JUDGED_RATE


def check(name: str) -> None:
    """Look whether a model is here at all, which is cheap.

    Raises:
        UserError: as ``load``.
    """
    load("AutoConfig", name)


def place(name: str) -> Path:
    """The folder of a model: as given, or the revision in the Hugging Face cache.

    Raises:
        UserError: the extra "hf" is missing, or there is no such model.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        cached = require("huggingface_hub", "hf").try_to_load_from_cache(name, "config.json")
    except ValueError:  # no such name can be
        cached = None
    if not isinstance(cached, str):
        raise UserError(f"{name}: no model of this name on this machine; give a folder made by save_pretrained")
    return Path(cached).parent


def embedder(kind: str, name: str, device: str, vector: Callable[[Any, Tensor], Tensor]) -> Callable[[Samples], Tensor]:
    """Load a network with its normalisation, to make a vector of a recording.

    Args:
        kind: a class of transformers.
        name: as for ``load``.
        device: where it runs.
        vector: (network, its input (1, N)) -> (D,).

    Raises:
        UserError: as ``load``.
    """
    network = load(kind, name).to(device).eval()
    extractor = load("AutoFeatureExtractor", name)

    def embed(samples: Samples) -> Tensor:
        inputs = extractor(samples, sampling_rate=JUDGED_RATE, return_tensors="pt")
        with torch.inference_mode():
            made = vector(network, inputs.input_values.to(device)).float()
        return made.cpu()

    return embed


def load(kind: str, name: str) -> Any:
    """``transformers.<kind>.from_pretrained(name)`` without touching the network.

    Args:
        kind: a class of transformers.
        name: a folder, or a model id that the Hugging Face cache holds.

    Raises:
        UserError: the extra "hf" is missing, or the model is not on this machine.
    """
    transformers = require("transformers", "hf")
    try:
        return getattr(transformers, kind).from_pretrained(name, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{name}: no complete model on this machine for {kind} ({reason}); give a folder made by save_pretrained"
        ) from error
