"""Spectral losses that teach a vocoder most of what it needs before any discriminator is paid for.

The multi-resolution STFT loss is that of Parallel WaveGAN (arXiv 1910.11480, equations 4 to 6), the multi-scale mel
loss that of the Descript codec (arXiv 2306.06546, section 3.3). Both are read off the same transforms here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowtts.audio.mel import mel_filterbank
from flowtts.types import MelSpec

FLOOR = 1e-5
"""Magnitudes are raised to this before the logarithm, so that digital silence has a finite loss."""


class SpectralLoss(nn.Module):
    """L1 of log-mel and log-magnitude spectra plus spectral convergence, averaged over window lengths.

    Short windows see the pulses of the voice, long ones its harmonics: a waveform that satisfies all of them at once
    has nearly consistent phases, although no phase is compared.
    """

    def __init__(self, sample_rate: int, windows: Sequence[int], linear: float = 0.5, convergence: float = 0.5) -> None:
        """Prepare the tables.

        Args:
            sample_rate: Hz.
            windows: FFT sizes, each with a Hann window of that length and a hop of a quarter.
            linear: weight of the L1 between log magnitudes, beside 1 for log-mel.
            convergence: weight of the spectral convergence.
        """
        super().__init__()
        self.windows = tuple(windows)
        self.linear = linear
        self.convergence = convergence
        for size in self.windows:
            self.register_buffer(f"hann{size}", torch.hann_window(size), persistent=False)
            bank = mel_filterbank(_bands(sample_rate, size))
            self.register_buffer(f"bank{size}", bank, persistent=False)

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """(B, N) and (B, N) samples -> scalar."""
        total = made.new_zeros(())
        for size in self.windows:
            hann, bank = self.get_buffer(f"hann{size}"), self.get_buffer(f"bank{size}")
            with torch.no_grad():
                target = _magnitude(real, size, hann)
            magnitude = _magnitude(made, size, hann)
            mel = (_log(magnitude @ bank) - _log(target @ bank)).abs().mean()
            linear = (_log(magnitude) - _log(target)).abs().mean()
            difference = torch.linalg.vector_norm(magnitude - target, dim=(1, 2))
            scale = torch.linalg.vector_norm(target, dim=(1, 2)).clamp(min=FLOOR * size)
            total = total + mel + self.linear * linear + self.convergence * (difference / scale).clamp(max=4.0).mean()
        return total / len(self.windows)


def _bands(sample_rate: int, size: int) -> MelSpec:
    """As many bands as keep each at least about one bin wide."""
    n_mels = max(8, min(128, size // 8))
    return MelSpec(
        sample_rate=sample_rate, n_fft=size, win_length=size, hop_length=size // 4, n_mels=n_mels, f_max=sample_rate / 2
    )


def _magnitude(samples: Tensor, size: int, hann: Tensor) -> Tensor:
    """(B, N) -> (B, T, bins). The square root is kept off zero, where its slope is infinite."""
    stft = torch.stft(samples, size, size // 4, size, hann, center=True, return_complex=True)
    power = torch.view_as_real(stft).square().sum(dim=-1)
    return power.clamp(min=FLOOR**2).sqrt().transpose(1, 2)


def _log(magnitude: Tensor) -> Tensor:
    return magnitude.clamp(min=FLOOR).log()
