"""A small codec for processors: everything it learns works at the rate of frames.

An STFT goes in and an inverse one comes out (Vocos, arXiv 2306.00814); between them are causal ConvNeXt blocks and
residual quantisation (arXiv 2107.03312). Convolutions at the rate of the samples, as SEANet has them, cost several
times as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

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
        plain: share of the crops that are not quantised in training, so that the decoder knows latents too.
    """

    sample_rate: int = 16_000
    hop: int = 320
    stride: int = 2
    n_fft: int = 640
    dim: int = 256
    intermediate: int = 768
    encoder_layers: int = 4
    decoder_layers: int = 8
    width: int = 64
    codebooks: int = 8
    codes: int = 1024
    dropout: float = 0.5
    plain: float = 0.125

    @property
    def spec(self) -> CodeSpec:
        """What it emits."""
        return CodeSpec(self.sample_rate, self.sample_rate / self.hop, self.codebooks, self.codes)


State = list[Tensor]
"""What a part of the network remembers between pieces: the same sizes after every one."""


class CausalConv(nn.Conv1d):
    """A convolution that sees no later samples: (B, C, N) -> (B, C', N / stride)."""

    @property
    def past(self) -> int:
        """Samples that it looks back."""
        return (self.kernel_size[0] - 1) * self.dilation[0] - (self.stride[0] - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Zeros stand before the beginning."""
        return super().forward(F.pad(x, (self.past, 0)))

    def stream(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """The next samples, a multiple of the stride, and what to remember."""
        before = x.new_zeros(*x.shape[:2], self.past) if past is None else past
        joined = torch.cat([before, x], -1)
        # A copy, so that what is remembered does not hold what was.
        kept = joined[..., joined.shape[-1] - self.past :].clone()
        made = super().forward(joined) if x.shape[-1] else x.new_zeros(len(x), self.out_channels, 0)
        return made, kept


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
        return self._rest(x, self.depthwise(x.transpose(1, 2)))

    def stream(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """The next frames, and what to remember."""
        mixed, past = self.depthwise.stream(x.transpose(1, 2), past)
        return self._rest(x, mixed), past

    def _rest(self, x: Tensor, mixed: Tensor) -> Tensor:
        hidden = self.norm(mixed.transpose(1, 2))
        out: Tensor = x + self.scale * self.narrow(F.gelu(self.widen(hidden)))
        return out


def _blocks(config: CodecConfig, count: int) -> nn.ModuleList:
    return nn.ModuleList(Block(config.dim, config.intermediate, count) for _ in range(count))


def _streamed(blocks: nn.ModuleList, x: Tensor, state: State | None) -> tuple[Tensor, State]:
    """Blocks one after the other, each with its own past."""
    kept: State = []
    for number, block in enumerate(cast("list[Block]", list(blocks))):
        x, past = block.stream(x, None if state is None else state[number])
        kept.append(past)
    return x, kept


class Encoder(nn.Module):
    """Samples to latents."""

    window: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.n_fft, self.hop, self.stride = config.n_fft, config.hop // config.stride, config.stride
        self.first = nn.Linear(3 * (config.n_fft // 2 + 1), config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.blocks = _blocks(config, config.encoder_layers)
        self.last = nn.LayerNorm(config.dim, eps=1e-6)
        self.shorten = CausalConv(config.dim, config.width, 2 * config.stride, stride=config.stride)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    @property
    def late(self) -> int:
        """Samples after a frame that it hears."""
        return (self.n_fft - self.hop) // 2

    def forward(self, samples: Tensor) -> Tensor:
        """(B, T * hop) -> (B, T, D)."""
        frames = F.pad(samples, (self.late, self.late)).unfold(-1, self.n_fft, self.hop)
        x = self._into(frames)
        for block in self.blocks:
            x = block(x)
        latents: Tensor = self.shorten(self.last(x).transpose(1, 2)).transpose(1, 2)
        return latents

    def stream(self, samples: Tensor, state: State | None) -> tuple[Tensor, State]:
        """`forward` of the next samples, one latent frame late."""
        held = samples.new_zeros(len(samples), self.late) if state is None else state[0]
        held = torch.cat([held, samples], -1)
        count = max(0, (held.shape[-1] - self.n_fft) // self.hop + 1) // self.stride * self.stride
        used = (count - 1) * self.hop + self.n_fft
        frames = held[:, :used].unfold(-1, self.n_fft, self.hop) if count else held.new_zeros(len(held), 0, self.n_fft)
        x, kept = _streamed(self.blocks, self._into(frames), None if state is None else state[1:-1])
        made, past = self.shorten.stream(self.last(x).transpose(1, 2), None if state is None else state[-1])
        return made.transpose(1, 2), [held[:, count * self.hop :].clone(), *kept, past]

    def rest(self, state: State) -> Tensor:
        """What `stream` still owes."""
        return self.stream(state[0].new_zeros(len(state[0]), self.late), state)[0]

    def _into(self, frames: Tensor) -> Tensor:
        """(B, T, n_fft) frames of samples -> (B, T, C)."""
        if not frames.shape[1]:
            return frames.new_zeros(len(frames), 0, self.first.out_features)
        spectrum = torch.fft.rfft(frames.float() * self.window)
        size = spectrum.abs().clamp_min(1e-5)
        # The phase as a point, which does not jump; the size as ears have it.
        unit = torch.view_as_real(spectrum / size).flatten(-2)
        normal: Tensor = self.norm(self.first(torch.cat([size.log(), unit], dim=-1)))
        return normal


class Decoder(nn.Module):
    """Latents to samples."""

    window: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.stride, self.n_fft, self.hop = config.stride, config.n_fft, config.hop // config.stride
        self.first = CausalConv(config.width, config.stride * config.dim, 7)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.blocks = _blocks(config, config.decoder_layers)
        self.last = nn.LayerNorm(config.dim, eps=1e-6)
        self.head = nn.Linear(config.dim, config.n_fft + 2)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    @property
    def late(self) -> int:
        """Samples of its end that are not final before the next frame comes."""
        return (self.n_fft - self.hop) // 2

    def forward(self, latents: Tensor) -> Tensor:
        """(B, T, D) -> (B, T * hop)."""
        x = self._into(self.first(latents.transpose(1, 2)))
        for block in self.blocks:
            x = block(x)
        total, weight = self._added(self._frames(x))
        return (total / weight)[:, self.late : total.shape[-1] - self.late]

    def stream(self, latents: Tensor, state: State | None) -> tuple[Tensor, State]:
        """`forward` of the next frames, `late` samples late."""
        first, past = self.first.stream(latents.transpose(1, 2), None if state is None else state[0])
        x, kept = _streamed(self.blocks, self._into(first), None if state is None else state[3:])
        total, weight = self._added(self._frames(x))
        begins, done = state is None, x.shape[1] * self.hop
        if state is not None:
            overlap = state[1].shape[-1]
            total, weight = (F.pad(y, (0, max(0, overlap - y.shape[-1]))) for y in (total, weight))
            total[:, :overlap] += state[1]
            weight[:, :overlap] += state[2]
        ready = (total / weight)[:, self.late if begins else 0 : done]
        return ready, [past, total[:, done:].clone(), weight[:, done:].clone(), *kept]

    def rest(self, state: State) -> Tensor:
        """What `stream` still owes."""
        return (state[1] / state[2])[:, : self.late]

    def _into(self, first: Tensor) -> Tensor:
        """(B, stride * C, T) -> (B, T * stride, C)."""
        batch, channels, count = first.shape
        frames = first.transpose(1, 2).reshape(batch, count * self.stride, channels // self.stride)
        normal: Tensor = self.norm(frames)
        return normal

    def _frames(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, n_fft) windowed frames of samples."""
        magnitude, phase = self.head(self.last(x)).float().chunk(2, dim=-1)
        # As Vocos: e^m kept finite, the phase without an angle's jump.
        spectrum = torch.polar(magnitude.exp().clamp(max=1e2), phase)
        frames: Tensor = torch.fft.irfft(spectrum, self.n_fft) * self.window
        return frames

    def _added(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames overlapped and added, and the sum of squared windows that divides them; both (B, N)."""
        count = frames.shape[1]
        if not count:
            return frames.new_zeros(len(frames), 0), frames.new_zeros(1, 0)
        length = (count - 1) * self.hop + self.n_fft
        weight = _fold((self.window**2).expand(1, count, -1), length, self.hop)
        return _fold(frames, length, self.hop), weight.clamp_min(1e-11)


def _fold(frames: Tensor, length: int, hop: int) -> Tensor:
    """(B, T, W) frames hop apart, added up: (B, length)."""
    size = frames.shape[-1]
    folded = F.fold(frames.transpose(1, 2), (1, length), (1, size), stride=(1, hop))
    return folded[:, 0, 0]


class CodecNetwork(nn.Module):
    """Encoder, quantiser, decoder."""

    mean: Tensor
    std: Tensor
    plain = True
    streams = True
    starts = (1, 1)

    def __init__(self, config: CodecConfig) -> None:
        """Random weights, from PyTorch's default generator."""
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantiser = ResidualQuantiser(config.width, config.codebooks, config.codes, dropout=config.dropout)
        self.register_buffer("mean", torch.zeros(config.width))
        self.register_buffer("std", torch.ones(config.width))

    @property
    def spec(self) -> CodeSpec:
        """What it emits."""
        return self.config.spec

    @property
    def coder(self) -> ResidualQuantiser:
        """Its quantiser."""
        return self.quantiser

    def forward(self, samples: Tensor, rng: torch.Generator | None = None) -> tuple[Tensor, Residual]:
        """(B, T * hop) -> (B, T * hop), and what the quantiser made."""
        latents = self.encoder(samples)
        mask = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
        coded = self.quantiser(latents, mask, rng)
        vectors = coded.vectors
        if self.training and self.config.plain and rng is not None:
            skips = torch.rand(len(samples), 1, 1, generator=rng, device=rng.device) < self.config.plain
            vectors = torch.where(skips.to(vectors.device), latents, vectors)
        return self.decoder(vectors), coded

    def latents(self, samples: Tensor) -> Tensor:
        """(B, 1, T * hop) -> (B, T, D)."""
        out: Tensor = self.encoder(samples[:, 0])
        return out

    def from_latents(self, latents: Tensor) -> Tensor:
        """(B, T, D) -> (B, 1, T * hop)."""
        out: Tensor = self.decoder(latents)[:, None]
        return out

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (D,) of latents of speech."""
        return self.mean, self.std

    def stream_latents(self, samples: Tensor, state: State | None) -> tuple[Tensor, State]:
        """`latents` of the next whole frames, a frame late: an STFT frame hears 15 ms of what follows."""
        return self.encoder.stream(samples[:, 0], state)

    def stream_samples(self, latents: Tensor, state: State | None) -> tuple[Tensor, State]:
        """`from_latents` of the next frames, 15 ms late: later frames are added to a frame's end."""
        samples, state = self.decoder.stream(latents, state)
        return samples[:, None], state

    def last_latents(self, state: State) -> Tensor:
        """The frame that `stream_latents` still owes."""
        return self.encoder.rest(state)

    def last_samples(self, state: State) -> Tensor:
        """The samples that `stream_samples` still owes."""
        return self.decoder.rest(state)[:, None]
