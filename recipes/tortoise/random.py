"""Voices out of nowhere: networks that turn Gaussian noise into the latents of a voice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.mask import randn

RANDOM_KIND = "tortoise-random"


@dataclass(frozen=True)
class RandomConfig:
    """Sizes. The defaults have 6,297,600 and 25,178,112 parameters.

    Attributes:
        voice: width of the autoregressive model's voice.
        decoder: width of the diffusion decoder's.
        layers: before the last.
    """

    voice: int = 1024
    decoder: int = 2048
    layers: int = 5


class RandomLatents(nn.Module):
    """Noise to one kind of latent by the mapping network of StyleGAN 2 (arXiv 1912.04958), as published.

    Args:
        width: of noise and latent.
        layers: before the last.
    """

    def __init__(self, width: int, layers: int = 5) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.ModuleList(EqualLinear(width) for _ in range(layers))
        self.out = nn.Linear(width, width)

    def forward(self, noise: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        for layer in self.layers:
            noise = layer(noise)
        made: Tensor = self.out(noise)
        return made


class EqualLinear(nn.Module):
    """A linear layer that learns at a tenth of the others' rate (arXiv 1710.10196), and a rectifier."""

    rate = 0.1

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width) / self.rate)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, D), of unchanged variance."""
        scale = self.rate / math.sqrt(self.weight.shape[1])
        return F.leaky_relu(F.linear(x, self.weight * scale, self.bias * self.rate), 0.2) * math.sqrt(2)


class RandomVoices(nn.Module):
    """Both kinds of latents. They are drawn apart, as published: the two halves of a random voice do not match."""

    def __init__(self, config: RandomConfig) -> None:
        super().__init__()
        self.config = config
        self.voice = RandomLatents(config.voice, config.layers)
        self.decoder = RandomLatents(config.decoder, config.layers)

    def forward(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Voices (count, D) for the autoregressive model and (count, D') for the diffusion decoder."""
        device = self.voice.out.weight.device
        drawn = [randn((count, part.width), rng, device) for part in (self.voice, self.decoder)]
        return self.voice(drawn[0]), self.decoder(drawn[1])
