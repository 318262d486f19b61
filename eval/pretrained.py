"""Pretrained judges of the transformers library, from a local folder or its offline cache."""

from __future__ import annotations

from typing import Any

from flowtts.compat import require
from flowtts.types import UserError


def check(name: str) -> None:
    """Look whether a model is here at all, which is cheap.

    Raises:
        UserError: as ``load``.
    """
    load("AutoConfig", name)


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
