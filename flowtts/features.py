"""Sound to the features of a spec: log-mels, or a codec's latents."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from torch import Tensor

from flowtts import registry
from flowtts.audio.mel import LogMel
from flowtts.audio.mel import frames as mel_frames
from flowtts.codec import Codec
from flowtts.types import FeatureSpec, LatentSpec, MelSpec, UserError

Extractor = Callable[[Tensor], Tensor]
"""Samples (N,) or (B, N) -> (B, T, C) normalised features."""


def extractor(spec: FeatureSpec) -> Extractor:
    """What makes features of sound at the spec's rate.

    Raises:
        UserError: a spec of latents whose codec is not here, or is another one.
    """
    return LogMel(spec) if isinstance(spec, MelSpec) else _latents(spec)


def frames(spec: FeatureSpec, samples: int) -> int:
    """How many frames an extractor makes of that many samples."""
    if isinstance(spec, MelSpec):
        return mel_frames(spec, samples)
    return -(-samples // spec.hop_length)


def latent_spec(codec: Codec, name: str) -> LatentSpec:
    """Of a codec's latents.

    Args:
        codec: any.
        name: by which it can be loaded again.
    """
    width = len(codec.statistics()[0])
    return LatentSpec(name, codec.hash, codec.spec.sample_rate, codec.spec.hop_length, width)


class Latents:
    """A codec's latents, brought to mean 0 and deviation 1 by what it knows of speech.

    Args:
        codec: any.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._mean, self._std = (x.cpu() for x in codec.statistics())

    def __call__(self, samples: Tensor) -> Tensor:
        """Samples (N,) or (B, N) -> (B, T, C)."""
        return (self._codec.latents(samples.reshape(-1, samples.shape[-1])) - self._mean) / self._std

    def invert(self, features: Tensor) -> Tensor:
        """(B, T, C) -> what the codec calls latents."""
        return features * self._std.to(features.device) + self._mean.to(features.device)


@lru_cache(maxsize=2)
def _latents(spec: LatentSpec) -> Latents:
    codec = registry.load_codec(spec.codec)
    if (found := latent_spec(codec, spec.codec)) != spec:
        raise UserError(
            f"the model was trained on latents of the codec {spec.codec} {spec.hash}, and the one here is "
            f"{found.hash}: take the codec that it was trained with"
        )
    return Latents(codec)
