"""A small codec for processors: everything it learns works at the rate of frames.

An STFT goes in and an inverse one comes out (Vocos, arXiv 2306.00814); between them are causal ConvNeXt blocks and residual
quantisation (arXiv 2107.03312). Convolutions at the rate of the samples, as SEANet has them, cost several times as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowtts.nn.residual import Residual, ResidualQuantiser
from flowtts.types import CodeSpec


@dataclass(frozen=True)
class CodecConfig:
    """Sizes.

    Attributes:
        sample_rate: Hz.
        hop: samples per latent frame.
        stride: STFT frames per latent frame, on both sides.
        n_fft: of the STFTs, samples; their hop is ``hop / stride``.
        dim, intermediate: channels of the ConvNeXt blocks, and inside them.
        encoder_layers, decoder_layers: how many.
        width: D of the latents.
        codebooks: K.
        codes: entries of each.
        dropout: of the quantiser.
    """

    sample_rate: int = 16_000
    hop: int = 320
    stride: int = 2
    n_fft: int = 640
    dim: int = 288
    intermediate: int = 864
    encoder_layers: int = 4
    decoder_layers: int = 8
    width: int = 128
    codebooks: int = 8
    codes: int = 1024
    dropout: float = 0.5

    @property
    def spec(self) -> CodeSpec:
        """What it emits."""
        return CodeSpec(self.sample_rate, self.sample_rate / self.hop, self.codebooks, self.codes)


class CausalConv(nn.Conv1d):
    """A convolution that sees no later samples: (B, C, N) -> (B, C', N / stride)."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros stand before the beginning."""
        before = (self.kernel_size[0] - 1) * self.dilation[0] - (self.stride[0] - 1)
        return super().forward(F.pad(x, (before, 0)))


class Block(nn.Module):
    """A ConvNeXt block whose depthwise convolution looks back only (arXiv 2201.03545; arXiv 2306.00814)."""

    def __init__(self, dim: int, intermediate: int, layers: int) -> None:
        super().__init__()
        self.depthwise = CausalConv(dim, dim, 7, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.widen, self.narrow = nn.Linear(dim, intermediate), nn.Linear(intermediate, dim)
        self.scale = nn.Parameter(torch.full((dim,), 1 / layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        hidden = self.norm(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        out: Tensor = x + self.scale * self.narrow(F.gelu(self.widen(hidden)))
        return out


class Encoder(nn.Module):
    """Samples to latents."""

    window: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.n_fft, self.hop, self.stride = config.n_fft, config.hop // config.stride, config.stride
        self.first = nn.Linear(3 * (config.n_fft // 2 + 1), config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.intermediate, config.encoder_layers) for _ in range(config.encoder_layers)
        )
        self.last = nn.LayerNorm(config.dim, eps=1e-6)
        self.shorten = CausalConv(config.dim, config.width, 2 * config.stride, stride=config.stride)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """(B, T * hop) -> (B, T, D)."""
        pad = self.n_fft - self.hop
        frames = F.pad(samples, (pad // 2, pad - pad // 2)).unfold(-1, self.n_fft, self.hop)
        return self.latents(frames)

    def latents(self, frames: Tensor) -> Tensor:
        """(B, T * stride, n_fft) frames of samples -> (B, T, D)."""
        spectrum = torch.fft.rfft(frames.float() * self.window)
        size = spectrum.abs().clamp_min(1e-5)
        # The phase as a point, which does not jump; the size as ears have it.
        unit = torch.view_as_real(spectrum / size).flatten(-2)
        x = self.norm(self.first(torch.cat([size.log(), unit], dim=-1)))
        for block in self.blocks:
            x = block(x)
        return self.shorten(self.last(x).transpose(1, 2)).transpose(1, 2)


class Decoder(nn.Module):
    """Latents to samples."""

    window: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.stride, self.n_fft, self.hop = config.stride, config.n_fft, config.hop // config.stride
        self.first = CausalConv(config.width, config.stride * config.dim, 7)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.blocks = nn.ModuleList(Block(config.dim, config.intermediate, config.decoder_layers) for _ in range(config.decoder_layers))
        self.last = nn.LayerNorm(config.dim, eps=1e-6)
        self.head = nn.Linear(config.dim, config.n_fft + 2)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, T, D) -> (B, T * hop)."""
        return self.overlap(self.frames(latents))

    def frames(self, latents: Tensor) -> Tensor:
        """(B, T, D) -> (B, T * stride, n_fft) windowed frames of samples."""
        batch, count, _ = latents.shape
        x = self.first(latents.transpose(1, 2)).transpose(1, 2).reshape(batch, count * self.stride, -1)
        x = self.norm(x)
        for block in self.blocks:
            x = block(x)
        magnitude, phase = self.head(self.last(x)).float().chunk(2, dim=-1)
        # As Vocos: e^m kept finite, the phase without an angle's jump.
        spectrum = torch.polar(magnitude.exp().clamp(max=1e2), phase)
        return torch.fft.irfft(spectrum, self.n_fft) * self.window

    def overlap(self, frames: Tensor) -> Tensor:
        """Overlap and add, divided by the sum of squared windows, the edges cut as Vocos' "same" padding does."""
        count, pad = frames.shape[1], (self.n_fft - self.hop) // 2
        length = (count - 1) * self.hop + self.n_fft
        total = _fold(frames, length, self.hop)
        weight = _fold((self.window**2).expand(1, count, -1), length, self.hop)
        return (total / weight.clamp_min(1e-11))[:, pad : length - pad]


def _fold(frames: Tensor, length: int, hop: int) -> Tensor:
    """(B, T, W) frames hop apart, added up: (B, length)."""
    size = frames.shape[-1]
    folded = F.fold(frames.transpose(1, 2), (1, length), (1, size), stride=(1, hop))
    return folded[:, 0, 0]


class CodecNetwork(nn.Module):
    """Encoder, quantiser, decoder."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantiser = ResidualQuantiser(config.width, config.codebooks, config.codes, dropout=config.dropout)

    def forward(self, samples: Tensor, rng: torch.Generator | None = None) -> tuple[Tensor, Residual]:
        """(B, T * hop) -> (B, T * hop), and what the quantiser made."""
        latents = self.encoder(samples)
        mask = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
        coded = self.quantiser(latents, mask, rng)
        return self.decoder(coded.vectors), coded
