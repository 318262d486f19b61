"""Tortoise: an autoregressive model of codes, a contrastive judge, a diffusion decoder (arXiv 2305.07243)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .recipe import Tortoise

AR_KIND = "tortoise"
VQVAE_KIND = "tortoise-vqvae"
CLVP_KIND = "tortoise-clvp"
DIFFUSION_KIND = "tortoise-diffusion"


def load(folder: Path, device: torch.device | str = "cpu", engine: str = "eager") -> Tortoise:
    """Tortoise from a checkpoint folder of its autoregressive model, which holds the other networks' folders.

    Raises:
        UserError: a part is missing, broken, of another kind, or belongs to another checkpoint.
    """
    from .parts import TOKENISER, load_parts
    from .recipe import PhoneText, Tortoise
    from .tokens import BPETokens
    from .voices import load_gaussian

    folder = Path(folder)
    parts = load_parts(folder, device)
    text = BPETokens(folder / TOKENISER) if (folder / TOKENISER).is_file() else PhoneText(parts.symbols)
    return Tortoise(parts, text, engine, load_gaussian(folder, device) or parts.voices)
