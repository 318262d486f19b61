"""Discriminators for training vocoders: Vocos' own, and narrow ones of the same structure.

Multi-period (HiFi-GAN, arXiv 2010.05646) and multi-resolution (UnivNet, arXiv 2106.07889, in the banded form of the
Descript codec, arXiv 2306.06546), judged with the hinge and feature-matching losses of Vocos (arXiv 2306.00814).
The full ones have 42.5 M parameters and cost a processor hundreds of times what the generator does; a few narrow
channels already tell a buzz from a voice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad
from torch.nn.utils.parametrizations import weight_norm

from flowtts.compat import require

Judgement = tuple[list[Tensor], list[Tensor], list[list[Tensor]], list[list[Tensor]]]
"""Scores of the real and of the made samples, feature maps of both, by sub-discriminator."""


class PeriodDiscriminator(nn.Module):
    """One period: samples folded into a plane, 2-D convolutions along time only."""

    def __init__(self, period: int, widths: Sequence[int]) -> None:
        """Strides are 3, and 1 in the last of ``widths``."""
        super().__init__()
        self.period = period
        sizes = [1, *widths]
        strides = [3] * (len(widths) - 1) + [1]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (stride, 1), padding=(2, 0)))
            for a, b, stride in zip(sizes, sizes[1:], strides, strict=False)
        )
        self.last = weight_norm(nn.Conv2d(sizes[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, N) -> scores (B, S) and feature maps."""
        x = pad(samples[:, None], (0, -samples.shape[-1] % self.period), "reflect")
        x = x.reshape(len(x), 1, -1, self.period)
        maps = []
        for number, conv in enumerate(self.convs):
            x = leaky_relu(conv(x), 0.1)
            if number > 0:
                maps.append(x)
        x = self.last(x)
        return x.flatten(1), [*maps, x]


class SpectrumDiscriminator(nn.Module):
    """One resolution: the complex STFT in five bands, each through its own 2-D convolutions."""

    BANDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)

    def __init__(self, n_fft: int, channels: int) -> None:
        """Hop is a quarter of ``n_fft``; the first and last convolutions are strided in frequency as in Vocos."""
        super().__init__()
        self.n_fft = n_fft
        bins = n_fft // 2 + 1
        self.edges = [int(share * bins) for share in self.BANDS]
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.stacks = nn.ModuleList(self._stack(channels) for _ in self.BANDS[1:])
        self.last = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=1))

    @staticmethod
    def _stack(channels: int) -> nn.ModuleList:
        inputs, strides = [2, channels, channels, channels], [1, 2, 2, 2]
        layers = [
            weight_norm(nn.Conv2d(a, channels, (3, 9), (1, stride), padding=(1, 4)))
            for a, stride in zip(inputs, strides, strict=True)
        ]
        return nn.ModuleList([*layers, weight_norm(nn.Conv2d(channels, channels, (3, 3), padding=1))])

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, N) -> scores (B, 1, frames, bands) and feature maps. Loudness and offset are taken out first."""
        samples = samples - samples.mean(dim=-1, keepdim=True)
        samples = 0.8 * samples / (samples.abs().amax(dim=-1, keepdim=True) + 1e-9)
        window = self.get_buffer("window")
        stft = torch.stft(samples, self.n_fft, self.n_fft // 4, self.n_fft, window, return_complex=True)
        plane = torch.view_as_real(stft).permute(0, 3, 2, 1)
        maps, ends = [], []
        for low, high, stack in zip(self.edges, self.edges[1:], self.stacks, strict=False):
            x = plane[..., low:high]
            for number, conv in enumerate(stack.children()):
                x = leaky_relu(conv(x), 0.1)
                if number > 0:
                    maps.append(x)
            ends.append(x)
        x = self.last(torch.cat(ends, dim=-1))
        return x, [*maps, x]


class Ensemble(nn.Module):
    """Several discriminators judging the same samples. Real and made ones go through together, as one batch."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """Members return (scores, feature maps)."""
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, y: Tensor, y_hat: Tensor) -> Judgement:
        """(B, N) real and (B, N) made samples -> a judgement, as Vocos' discriminators give it."""
        count = len(y)
        real, made, real_maps, made_maps = [], [], [], []
        for member in self.members:
            scores, maps = member(torch.cat([y, y_hat]))
            real.append(scores[:count])
            made.append(scores[count:])
            real_maps.append([x[:count] for x in maps])
            made_maps.append([x[count:] for x in maps])
        return real, made, real_maps, made_maps


def build(
    kind: str, periods: Sequence[int], widths: Sequence[int], sizes: Sequence[int], channels: int
) -> nn.ModuleDict:
    """The two ensembles, under "period" and "spectrum".

    Args:
        kind: "full" for Vocos' own classes (their own widths and channels), "narrow".
        periods: of the multi-period discriminator.
        widths: its channels, layer by layer; narrow only.
        sizes: FFT sizes of the multi-resolution discriminator.
        channels: its channels; narrow only.
    """
    if kind == "full":
        package = require("vocos.discriminators", "")
        return nn.ModuleDict(
            {
                "period": package.MultiPeriodDiscriminator(periods=tuple(periods)),
                "spectrum": package.MultiResolutionDiscriminator(fft_sizes=tuple(sizes)),
            }
        )
    return nn.ModuleDict(
        {
            "period": Ensemble([PeriodDiscriminator(period, widths) for period in periods]),
            "spectrum": Ensemble([SpectrumDiscriminator(size, channels) for size in sizes]),
        }
    )
