"""Voices out of nowhere for a Tortoise of one's own: Gaussian in the space of the latents of its training voices.

Published weights bring networks for it instead (``random.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from flowtts import checkpoint
from flowtts.config import load as load_config
from flowtts.latents import Latents
from flowtts.mask import randn
from flowtts.types import UserError

VOICES_KIND = "tortoise-voices"
VOICES_PART = "voices"


class Voices(Protocol):
    """Draws voices."""

    def __call__(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(count, D) for the autoregressive model and (count, D') for the diffusion decoder."""
        ...


@dataclass(frozen=True)
class GaussianConfig:
    """Sizes.

    Attributes:
        voice: width of the autoregressive model's voice.
        decoder: width of the diffusion decoder's.
        factors: directions in which voices differ.
    """

    voice: int
    decoder: int
    factors: int


class GaussianVoices(nn.Module):
    """The mean of the known voices and the directions in which they differ; both kinds of latents together."""

    mean: Tensor
    directions: Tensor

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.config = config
        width = config.voice + config.decoder
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("directions", torch.zeros(config.factors, width))

    def forward(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(count, D) and (count, D')."""
        drawn = self.mean + randn((count, self.config.factors), rng, self.mean.device) @ self.directions
        return drawn[:, : self.config.voice], drawn[:, self.config.voice :]

    @classmethod
    def fit(cls, voices: Sequence[Latents], factors: int = 12) -> GaussianVoices:
        """From the latents of at least two voices, by their principal components.

        Raises:
            UserError: there are fewer.
        """
        if len(voices) < 2:
            raise UserError("random voices need at least two that they lie between")
        ar, decoder = (torch.stack([voice.tensors[name] for voice in voices]) for name in ("ar", "decoder"))
        whole = torch.cat([ar, decoder], dim=1)
        mean = whole.mean(0)
        # Each kind counts the same, however large its numbers are.
        spreads = [(part, max(float(part.std(0).norm()), 1e-12)) for part in (ar, decoder)]
        weight = torch.cat([part.new_full((part.shape[1],), 1 / spread) for part, spread in spreads])
        _, values, axes = torch.linalg.svd((whole - mean) * weight, full_matrices=False)
        kept = min(factors, len(voices) - 1, len(values))
        made = cls(GaussianConfig(ar.shape[1], decoder.shape[1], kept))
        made.mean.copy_(mean)
        made.directions.copy_(axes[:kept] * values[:kept, None] / (len(voices) - 1) ** 0.5 / weight)
        return made


def load_gaussian(folder: Path, device: torch.device | str = "cpu") -> GaussianVoices | None:
    """The random voices of a Tortoise checkpoint that was trained here, or None if it has none.

    Raises:
        UserError: they are broken or of another kind.
    """
    part = folder / VOICES_PART
    if not part.is_dir():
        return None
    found = checkpoint.require_kind(checkpoint.load(part), VOICES_KIND, part)
    network = GaussianVoices(load_config(GaussianConfig, found.config))
    checkpoint.load_state(network, found.state, part)
    return network.to(device).eval()
