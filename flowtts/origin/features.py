"""What the classifier of generated speech looks at: the spectrogram of speech without level, channel and pauses.

Whatever tells recordings from generated speech only because of how the two came to be files is kept out: levels and
filters (each frequency is taken relative to its own mean), silences (only speech counts), offsets (taken off) and the
slopes of resampling filters (above ``f_max``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RANGE_DB = 35.0
"""Speech is what is at most so far below the loud frames; pauses and what is heard in them are not judged."""

_LOUD = 0.95
"""Quantile of the frames' power; the loudest frame itself may be a click."""

_SILENT = 1e-8
"""Mean square magnitude of a frame below which it holds rounding errors."""

_FLOOR = 3e-4
"""Of magnitudes, relative to the mean of those of speech: -70 dB."""


@dataclass(frozen=True)
class SpectrumConfig:
    """A linear spectrogram.

    Attributes:
        sample_rate: Hz.
        n_fft: samples transformed at once.
        win_length: samples of the Hann window, centred in these.
        hop_length: samples from frame to frame.
        f_min, f_max: Hz; bins outside are left out.
    """

    sample_rate: int = 16_000
    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    f_min: float = 80.0
    f_max: float = 7000.0

    def __post_init__(self) -> None:
        if not 0 < self.hop_length <= self.win_length <= self.n_fft:
            raise ValueError("a spectrum needs 0 < hop_length <= win_length <= n_fft")
        if not 0 < self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError("a spectrum needs 0 < f_min < f_max <= sample_rate / 2")

    @property
    def bins(self) -> tuple[int, int]:
        """[first, last) of the transform that are kept."""
        width = self.sample_rate / self.n_fft
        return int(-(-self.f_min // width)), int(self.f_max // width) + 1

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length


class Spectra:
    """Samples to magnitudes.

    Args:
        config: of the spectrogram.
    """

    def __init__(self, config: SpectrumConfig) -> None:
        self.config = config
        self._window = torch.hann_window(config.win_length)

    def __call__(self, samples: Tensor) -> Tensor:
        """(B, N) samples, N > 0 -> (B, T, F) magnitudes, T = 1 + N // hop.

        Frames are centred, with zeros beyond the ends; the mean of the samples is taken off before.
        """
        config = self.config
        first, last = config.bins
        spectrum = torch.stft(
            samples - samples.mean(1, keepdim=True), config.n_fft, config.hop_length, config.win_length, self._window,
            center=True, pad_mode="constant", return_complex=True,
        )  # fmt: skip
        return spectrum.abs()[:, first:last].transpose(1, 2)


def loudness(power: Tensor) -> Tensor:
    """(B, T) power of frames -> (B, 1), that of loud ones."""
    return power.quantile(_LOUD, dim=1, keepdim=True)


def speech(magnitudes: Tensor, loud: Tensor | None = None) -> Tensor:
    """Where speech is: the frames within ``RANGE_DB`` of the loud ones.

    Args:
        magnitudes: (B, T, F).
        loud: (B, 1) of ``loudness``, by default that of these frames.

    Returns:
        (B, T) bool; never True in digital silence.
    """
    power = magnitudes.square().mean(-1)
    least = (loudness(power) if loud is None else loud) * 10 ** (-RANGE_DB / 10)
    return (power >= least) & (power > _SILENT)


def relative(magnitudes: Tensor, active: Tensor) -> Tensor:
    """(B, T, F) logarithms over each frequency's mean where ``active`` (B, T), zero elsewhere.

    No gain and no filter that is the same all the time changes it, but for what is near the floor.
    """
    weight = active[..., None].to(magnitudes.dtype)
    count = weight.sum(1, keepdim=True).clamp(min=1.0)
    level = (magnitudes * weight).sum((1, 2), keepdim=True) / (count * magnitudes.shape[2])
    logs = (magnitudes / level.clamp(min=1e-12) + _FLOOR).log()
    return (logs - (logs * weight).sum(1, keepdim=True) / count) * weight
