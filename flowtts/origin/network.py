"""A light convolutional network over spectrograms (LCNN: Lavrentyeva et al., ASVspoof 2017 and arXiv 1904.05576).

Its activation takes the larger of two channels (max-feature-map); the frames of speech are pooled to their mean and
deviation. Batch normalisation lets a network this small be trained in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from flowtts.origin.features import SpectrumConfig, relative


@dataclass(frozen=True)
class OriginConfig:
    """The network.

    Attributes:
        spectrum: what it reads.
        channels: of the convolutions; each but the last halves time and frequency, the first by its stride.
        dim: of a frame.
        dropout: before the last layer, in training.
    """

    spectrum: SpectrumConfig = field(default_factory=SpectrumConfig)
    channels: tuple[int, ...] = (8, 16, 24, 32)
    dim: int = 40
    dropout: float = 0.3


class _MaxFeature(nn.Module):
    """Convolution of kernel k to 2C channels, normalised; of each pair the larger."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, 2 * out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(2 * out)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.norm(self.conv(x)).chunk(2, dim=1)
        return torch.maximum(one, other)


class OriginNetwork(nn.Module):
    """Magnitudes to the logit of "generated"."""

    def __init__(self, config: OriginConfig) -> None:
        """Random weights, from PyTorch's default generator."""
        super().__init__()
        self.config = config
        widths = list(zip((1, *config.channels), config.channels, strict=False))
        # Steps of two instead of pooling afterwards: a quarter of the work, and it fits a processor.
        self.layers = nn.ModuleList(
            _MaxFeature(a, b, 3 if i else 5, 1 if i == len(widths) - 1 else 2) for i, (a, b) in enumerate(widths)
        )
        low, high = config.spectrum.bins
        bins = high - low
        for _ in config.channels[:-1]:
            bins = -(-bins // 2)
        self.frame = nn.Linear(config.channels[-1] * bins, 2 * config.dim)
        self.out = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(2 * config.dim, 1))

    def forward(self, magnitudes: Tensor, active: Tensor) -> Tensor:
        """(B, T, F) of ``Spectra`` and (B, T), False on pauses and padding -> (B,) logits."""
        steps = 2 ** (len(self.config.channels) - 1)
        more = -active.shape[1] % steps
        x = pad(relative(magnitudes, active), (0, 0, 0, more))[:, None]
        there = pad(active, (0, more))
        for layer in self.layers:
            # What lies on padding must not be seen, as if nothing were there.
            x = layer(x * there[:, None, :, None])
            there = there if layer.conv.stride == (1, 1) else _halved(there)
        one, other = self.frame(x.transpose(1, 2).flatten(2)).chunk(2, dim=-1)
        logits: Tensor = self.out(_pooled(torch.maximum(one, other), there))[:, 0]
        return logits


def _halved(active: Tensor) -> Tensor:
    """(B, T) -> (B, T / 2): where either frame of two is active."""
    return active.view(len(active), -1, 2).any(-1)


def _pooled(frames: Tensor, active: Tensor) -> Tensor:
    """(B, T, C) -> (B, 2C): mean and deviation of the active frames."""
    weight = active[..., None].to(frames.dtype)
    count = weight.sum(1).clamp(min=1.0)
    mean = (frames * weight).sum(1) / count
    variance = ((frames - mean[:, None]).square() * weight).sum(1) / count
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=-1)
