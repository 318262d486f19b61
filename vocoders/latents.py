"""A codec as a vocoder: its latents are the features, its decoder makes them audible."""

from __future__ import annotations

import torch
from torch import Tensor

from flowtts.codec import Codec
from flowtts.features import Latents, latent_spec
from flowtts.types import LatentSpec


class LatentVocoder:
    """A codec behind ``flowtts.types.Vocoder``.

    Args:
        codec: taken over.
        name: by which it can be loaded again.
    """

    def __init__(self, codec: Codec, name: str) -> None:
        self.codec, self.name = codec, name
        self._latents = Latents(codec)
        self._spec = latent_spec(codec, name)

    @property
    def spec(self) -> LatentSpec:
        """The latents it reads."""
        return self._spec

    @torch.inference_mode()
    def decode(self, features: Tensor) -> Tensor:
        """(B, T, C) standardised latents, not quantised -> (B, T * hop_length) samples in [-1, 1].

        Raises:
            ValueError: the features have another number of channels.
        """
        if features.ndim != 3 or features.shape[-1] != self.spec.width:
            raise ValueError(f"{self.name} needs (B, T, {self.spec.width}) features, not {tuple(features.shape)}")
        if not features.shape[1]:
            return features.new_zeros(len(features), 0)
        return self.codec.from_latents(self._latents.invert(features.float()))

    def copy(self, samples: Tensor) -> Tensor:
        """(B, N) -> (B, N) through codes, which is what a codec costs."""
        return self.codec.decode(self.codec.encode(samples))[:, : samples.shape[-1]]

    def to(self, device: torch.device | str) -> LatentVocoder:
        """Moves the codec."""
        self.codec.to(device)
        return self
