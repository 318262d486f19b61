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
    """L1 of log-mel and log-magnitude spectra, spectral convergence and phase slopes, averaged over window lengths.

    Short windows see the pulses of the voice, long ones its harmonics: a waveform that satisfies all of them at once
    has nearly consistent phases, although no phase itself is compared. A mel does not tell the phases of a sound, but
    it does tell their slopes, which are those of the log magnitude turned by ninety degrees (Průša, Balazs and
    Søndergaard, "A noniterative method for reconstruction of phase from STFT magnitude", 2017); so the slopes over time
    (instantaneous frequency) and over frequency (group delay) are compared too, as in APNet (arXiv 2305.07952), by the
    cosine of their error.
    """

    def __init__(
        self,
        sample_rate: int,
        windows: Sequence[int],
        linear: float = 0.5,
        convergence: float = 0.5,
        slopes: float = 1.0,
        slope_windows: Sequence[int] = (1024, 512, 256),
    ) -> None:
        """Prepare the tables.

        Args:
            sample_rate: Hz.
            windows: FFT sizes, each with a Hann window of that length and a hop of a quarter.
            linear: weight of the L1 between log magnitudes, beside 1 for log-mel.
            convergence: weight of the spectral convergence.
            slopes: weight of the phase slopes.
            slope_windows: those of ``windows`` at which they are compared.
        """
        super().__init__()
        self.windows = tuple(windows)
        self.linear = linear
        self.convergence = convergence
        self.slopes = slopes
        self.slope_windows = frozenset(slope_windows) if slopes > 0 else frozenset()
        for size in self.windows:
            self.register_buffer(f"hann{size}", torch.hann_window(size), persistent=False)
            bank = mel_filterbank(_bands(sample_rate, size))
            self.register_buffer(f"bank{size}", bank, persistent=False)

    def forward(self, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        """(B, N) and (B, N) samples -> scalars: "spectral" to minimise, and the "slopes" in it before weighting."""
        total, slopes = made.new_zeros(()), made.new_zeros(())
        for size in self.windows:
            hann, bank = self.get_buffer(f"hann{size}"), self.get_buffer(f"bank{size}")
            with torch.no_grad():
                target_stft = _stft(real, size, hann)
                target = _magnitude(target_stft)
            stft = _stft(made, size, hann)
            magnitude = _magnitude(stft)
            mel = (_log(magnitude @ bank) - _log(target @ bank)).abs().mean()
            linear = (_log(magnitude) - _log(target)).abs().mean()
            difference = torch.linalg.vector_norm(magnitude - target, dim=(1, 2))
            scale = torch.linalg.vector_norm(target, dim=(1, 2)).clamp(min=FLOOR * size)
            total = total + mel + self.linear * linear + self.convergence * (difference / scale).clamp(max=4.0).mean()
            if size in self.slope_windows:
                slopes = slopes + slope_error(stft, target_stft) / len(self.slope_windows)
        return {"spectral": total / len(self.windows) + self.slopes * slopes, "slopes": slopes.detach()}


def slope_error(made: Tensor, real: Tensor) -> Tensor:
    """How much the slopes of the phase differ, over time and over frequency.

    Args:
        made: (B, T, F) complex spectra.
        real: the same of what they should be; its magnitudes, compressed, weigh the bins.

    Returns:
        Mean of 1 - cos(error): 0 for equal slopes, 1 for unrelated ones, 2 for opposite ones.
    """
    # Bins 40 dB below the average hold no phase worth matching, and dividing by their magnitude would blow up.
    floor = 1e-4 * real.abs().square().mean(dim=(1, 2), keepdim=True) + FLOOR**2
    total = made.new_zeros((), dtype=torch.float32)
    for axis in (1, 2):
        count = made.shape[axis] - 1
        a = made.narrow(axis, 1, count) * made.narrow(axis, 0, count).conj()
        b = real.narrow(axis, 1, count) * real.narrow(axis, 0, count).conj()
        size = b.abs()
        cosine = (a.real * b.real + a.imag * b.imag) / ((_modulus(a) + floor) * (size + floor))
        weight = size.sqrt()
        total = total + 0.5 * (weight * (1 - cosine)).sum() / weight.sum().clamp(min=FLOOR)
    return total


def _bands(sample_rate: int, size: int) -> MelSpec:
    """As many bands as keep each at least about one bin wide."""
    n_mels = max(8, min(128, size // 8))
    return MelSpec(
        sample_rate=sample_rate, n_fft=size, win_length=size, hop_length=size // 4, n_mels=n_mels, f_max=sample_rate / 2
    )


def _stft(samples: Tensor, size: int, hann: Tensor) -> Tensor:
    """(B, N) -> (B, T, bins) complex."""
    return torch.stft(samples, size, size // 4, size, hann, center=True, return_complex=True).transpose(1, 2)


def _magnitude(stft: Tensor) -> Tensor:
    """The square root is kept off zero, where its slope is infinite."""
    return torch.view_as_real(stft).square().sum(dim=-1).clamp(min=FLOOR**2).sqrt()


def _modulus(product: Tensor) -> Tensor:
    return torch.view_as_real(product).square().sum(dim=-1).clamp(min=FLOOR**4).sqrt()


def _log(magnitude: Tensor) -> Tensor:
    return magnitude.clamp(min=FLOOR).log()
