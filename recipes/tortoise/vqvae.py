"""The discrete variational autoencoder that turns mels into codes (arXiv 2305.07243, section 3; 1711.00937).

Tortoise's public name for it is DVAE. It halves the frame rate ``layers`` times, so that by default one code stands for
four frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.mask import lengths_to_mask, masked_mean
from flowtts.nn.quantise import Quantised, VectorQuantiser, usage
from flowtts.types import Batch

from .config import VQVAEConfig


class ResidualBlock(nn.Module):
    """Two convolutions of width 3 and one of width 1, and a way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, channels, 3, padding=1)
        self.second = nn.Conv1d(channels, channels, 3, padding=1)
        self.last = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """X (B, C, T) -> (B, C, T), zero where ``gate`` (B, 1, T) is."""
        hidden = F.relu(self.first(x)) * gate
        hidden = F.relu(self.second(hidden))
        out: Tensor = (x + self.last(hidden)) * gate
        return out


class Encoder(nn.Module):
    """Frames (B, C, T) to what the codebook sees (B, W, T / 2^layers)."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        widths = [config.mel.channels, *(config.hidden * 2**i for i in range(config.layers))]
        self.down = nn.ModuleList(
            nn.Conv1d(a, b, config.kernel, stride=2, padding=config.kernel // 2) for a, b in pairwise(widths)
        )
        self.blocks = nn.ModuleList(ResidualBlock(widths[-1]) for _ in range(config.blocks))
        self.out = nn.Conv1d(widths[-1], config.code_width, 1)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """``gate`` (B, 1, T) is 1 on real frames and 0 on padding, which never reaches a real code."""
        x = x * gate
        for layer in self.down:
            gate = gate[..., ::2]
            x = F.relu(layer(x)) * gate
        for block in self.blocks:
            x = block(x, gate)
        out: Tensor = self.out(x)
        return out


class Decoder(nn.Module):
    """Code vectors (B, W, N) to frames (B, C, N * 2^layers): nearest neighbours are repeated, then convolved."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        inner = config.hidden * 2 ** (config.layers - 1)
        widths = [inner, *(config.hidden * 2**i for i in reversed(range(config.layers)))]
        self.project = nn.Conv1d(config.code_width, inner, 1)
        self.blocks = nn.ModuleList(ResidualBlock(inner) for _ in range(config.blocks))
        self.up = nn.ModuleList(nn.Conv1d(a, b, config.kernel, padding=config.kernel // 2) for a, b in pairwise(widths))
        self.out = nn.Conv1d(widths[-1], config.mel.channels, 1)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """``gate`` (B, 1, N) is 1 on real codes."""
        x = self.project(x) * gate
        for block in self.blocks:
            x = block(x, gate)
        for layer in self.up:
            gate = gate.repeat_interleave(2, dim=-1)
            x = F.relu(layer(x.repeat_interleave(2, dim=-1))) * gate
        out: Tensor = self.out(x)
        return out


class VQVAE(nn.Module):
    """Mel to codes and back."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantiser = VectorQuantiser(
            config.codes, config.code_width, config.update, config.decay, config.commitment, config.revive_after
        )
        self.decoder = Decoder(config)

    def lengths(self, frames: Tensor) -> Tensor:
        """Codes of so many frames; frames at the end that fill no code are left out."""
        return frames // self.config.frames_per_code

    def encode(self, features: Tensor, frames: Tensor) -> Tensor:
        """(B, N) int64 codes of features (B, T, C) with (B,) real frames; padding gets code 0."""
        latents, mask = self._latents(features, frames)
        return self.quantiser.nearest(latents) * mask

    def decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """(B, N * frames_per_code, C) features of codes (B, N) with (B,) real codes; 0 on padding."""
        mask = lengths_to_mask(lengths, codes.shape[1])
        return self._frames(self.quantiser.lookup(codes), mask)

    def forward(self, features: Tensor, frames: Tensor, rng: torch.Generator | None = None) -> tuple[Tensor, Quantised]:
        """Reconstruction (B, N * frames_per_code, C) and what the codebook made of features (B, T, C)."""
        latents, mask = self._latents(features, frames)
        quantised = self.quantiser(latents, mask, rng)
        return self._frames(quantised.vectors, mask), quantised

    def loss(self, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Mean squared error of the reconstruction and commitment; also perplexity and use of the codebook."""
        made, quantised = self(batch.features, batch.frames, rng)
        lengths = self.lengths(batch.frames)
        whole = lengths_to_mask(lengths * self.config.frames_per_code, made.shape[1])
        error = masked_mean((made.float() - batch.features[:, : made.shape[1]]) ** 2, whole)
        real = quantised.ids[lengths_to_mask(lengths, quantised.ids.shape[1])]
        used = usage(torch.bincount(real, minlength=self.config.codes))
        found = {"loss": error + quantised.loss, "mse": error, "commitment": quantised.loss}
        return {
            **found, "perplexity": error.new_tensor(used.perplexity), "used": error.new_tensor(used.share)
        }  # fmt: skip

    def _latents(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, W) before quantisation and the (B, N) mask of real codes."""
        step = self.config.frames_per_code
        size = features.shape[1] // step
        lengths = self.lengths(frames)
        gate = lengths_to_mask(lengths * step, size * step)[:, None].to(features.dtype)
        latents = self.encoder(features[:, : size * step].transpose(1, 2), gate)
        return latents.transpose(1, 2), lengths_to_mask(lengths, size)

    def _frames(self, vectors: Tensor, mask: Tensor) -> Tensor:
        made: Tensor = self.decoder(vectors.transpose(1, 2), mask[:, None].to(vectors.dtype)).transpose(1, 2)
        return made * mask.repeat_interleave(self.config.frames_per_code, dim=1)[..., None]
