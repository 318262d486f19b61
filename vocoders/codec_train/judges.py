"""Discriminators of codecs: EnCodec's and SoundStream's, and those that vocoders have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from ..discriminators import PeriodDiscriminator, SpectrumDiscriminator
from .config import JudgeConfig


@dataclass(frozen=True, eq=False)
class Verdict:
    """Of one discriminator.

    Attributes:
        scores: (B, …) above 0 for what sounds real.
        maps: what its layers said.
    """

    scores: Tensor
    maps: list[Tensor]


class SpectraJudge(nn.Module):
    """A complex STFT through 2-D convolutions, dilated in time (arXiv 2210.13438, section 3.4 and figure 2).

    The paper says kernels of 3 x 8; the authors' program has 3 x 9, and so has this. Frames are not padded.

    Args:
        window: samples; the hop is a quarter.
        filters: channels.
    """

    window: Tensor

    def __init__(self, window: int, filters: int = 32) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        layers = [nn.Conv2d(2, filters, (3, 9), padding=(1, 4))]
        layers += [
            nn.Conv2d(filters, filters, (3, 9), (1, 2), padding=(dilation, 4), dilation=(dilation, 1))
            for dilation in (1, 2, 4)
        ]
        layers.append(nn.Conv2d(filters, filters, (3, 3), padding=1))
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.last = weight_norm(nn.Conv2d(filters, 1, (3, 3), padding=1))

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, N) -> scores (B, 1, frames, bins) and what each layer said."""
        x, maps = spectrum(samples, self.window), []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            maps.append(x)
        return self.last(x), maps


class StftJudge(nn.Module):
    """A complex STFT through residual blocks (arXiv 2107.03312, section III-D and figure 4).

    Args:
        window: samples; the hop is a quarter.
        channels: of the first layer; the last block has 16 times as many.
    """

    window: Tensor
    GROWTH = (1, 2, 4, 4, 8, 8)
    """Channels of the six blocks, over those of the first layer; each block's second convolution has the next's."""

    def __init__(self, window: int, channels: int = 32) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.first = weight_norm(nn.Conv2d(2, channels, 7, padding=3))
        sizes = [channels * growth for growth in (*self.GROWTH, 16)]
        self.blocks = nn.ModuleList(
            StftBlock(a, b, (1 + number % 2, 2)) for number, (a, b) in enumerate(pairwise(sizes))
        )
        # The Nyquist bin is left out, so that six halvings come out even.
        self.last = weight_norm(nn.Conv2d(sizes[-1], 1, (1, max(1, window // 2 // 64))))

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, N) -> scores (B, 1, frames / 8, 1) and what each layer said."""
        x = F.elu(self.first(spectrum(samples, self.window)[..., :-1]))
        maps = [x]
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return self.last(x), maps


class StftBlock(nn.Module):
    """Two convolutions, the second strided, beside one of width 1: (B, C, T, F) -> (B, C', T / stride, F / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride
        self.narrow = weight_norm(nn.Conv2d(inputs, inputs, 3, padding=1))
        self.wide = weight_norm(nn.Conv2d(inputs, outputs, (2 + stride[0], 2 + stride[1]), stride))
        self.round = weight_norm(nn.Conv2d(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """As many positions as strides make of them, rounded up in time."""
        inside = F.elu(self.narrow(x))
        # Kernels are two wider than strides; one of it stands before, and behind as much as the last frame wants.
        short = -x.shape[2] % self.stride[0]
        inside = F.pad(inside, (1, 1, 1, 1 + short))
        out: Tensor = F.elu(self.wide(inside) + self.round(x))
        return out


class WaveJudge(nn.Module):
    """Samples through grouped convolutions (MelGAN, arXiv 1910.06711, as in arXiv 2107.03312, section III-D).

    Args:
        scale: the sound is halved in rate this often.
        channels: of the first layer; each of the four strided ones has four times as many, up to 64 times.
    """

    def __init__(self, scale: int, channels: int = 16) -> None:
        super().__init__()
        self.scale = scale
        sizes = [channels, *(min(channels * 4**n, 64 * channels) for n in (1, 2, 3, 4))]
        layers = [nn.Conv1d(1, channels, 15, padding=7)]
        layers += [nn.Conv1d(a, b, 41, 4, padding=20, groups=max(1, a // 4)) for a, b in pairwise(sizes)]
        layers.append(nn.Conv1d(sizes[-1], sizes[-1], 5, padding=2))
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.last = weight_norm(nn.Conv1d(sizes[-1], 1, 3, padding=1))

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, N) -> scores (B, 1, N / 256) and what each layer said."""
        x, maps = samples[:, None], []
        for _ in range(self.scale):
            x = F.avg_pool1d(x, 4, 2, padding=1, count_include_pad=False)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            maps.append(x)
        return self.last(x), maps


def spectrum(samples: Tensor, window: Tensor) -> Tensor:
    """(B, N) -> (B, 2, frames, bins), real and imaginary parts; the window has the norm 1."""
    size = len(window)
    with torch.autocast(samples.device.type, enabled=False):
        made = torch.stft(
            samples.float(), size, size // 4, size, window / window.norm(), center=False, return_complex=True
        )
        return torch.view_as_real(made).permute(0, 3, 2, 1)


class Panel(nn.Module):
    """All discriminators of a run.

    Attributes:
        shares: what each counts for in losses.
    """

    def __init__(self, config: JudgeConfig) -> None:
        """Random weights, from PyTorch's default generator."""
        super().__init__()
        made: dict[str, Callable[[], Iterator[nn.Module]]] = {
            "spectra": lambda: (SpectraJudge(size, config.spectra_filters) for size in config.spectra),
            "waves": lambda: (WaveJudge(scale, config.wave_channels) for scale in range(config.waves)),
            "stft": lambda: (StftJudge(config.stft, config.stft_channels) for _ in range(1)),
            "periods": lambda: (PeriodDiscriminator(period, config.period_widths) for period in config.periods),
            "bands": lambda: (SpectrumDiscriminator(size, config.band_channels) for size in config.bands),
        }
        groups, members = config.groups, list[nn.Module]()
        self.shares: list[float] = []
        for name, size in groups.items():
            members += made[name]()
            weight = config.weights.get(name, 1.0) if config.weights else size / sum(groups.values())
            self.shares += [weight / size] * size
        self.members = nn.ModuleList(members)

    def forward(self, real: Tensor, made: Tensor) -> tuple[list[Verdict], list[Verdict]]:
        """(B, N) and (B, N) samples -> verdicts over both, member by member."""
        return [Verdict(*member(real)) for member in self.members], [Verdict(*member(made)) for member in self.members]
