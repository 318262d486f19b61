"""Short-time spectra for matching sounds: analysis, synthesis, bands and smoothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Stft:
    """A short-time Fourier transform with square-root Hann windows, three quarters overlapping.

    Attributes:
        sample_rate: Hz.
        size: samples of a window, a power of two of at least 40 ms.
    """

    sample_rate: int
    size: int

    @classmethod
    def at(cls, sample_rate: int) -> Stft:
        """The transform for a sampling rate."""
        return cls(sample_rate, 1 << int(np.ceil(np.log2(0.04 * sample_rate))))

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return self.size // 4

    @property
    def frequencies(self) -> Real:
        """(bins,) Hz."""
        return np.arange(self.size // 2 + 1, dtype=np.float64) * (self.sample_rate / self.size)

    @property
    def noise_power(self) -> float:
        """Mean squared magnitude of a bin of white noise of unit variance."""
        return self.size / 2

    def valid(self, samples: Real) -> Complex:
        """(n,) -> (frames, bins), only frames that lie wholly inside; none if there are fewer samples than a window."""
        if len(samples) < self.size:
            return np.zeros((0, self.size // 2 + 1), np.complex128)
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.size)[:: self.hop]
        return np.asarray(np.fft.rfft(frames * self._window(), axis=1))

    def analyse(self, samples: Real) -> Complex:
        """(n,) -> (frames, bins) with silence assumed around; ``synthesise`` undoes it exactly."""
        return self.valid(np.pad(samples, (self.size, self.size + self.hop)))

    def centres(self, frames: int) -> Real:
        """(frames,) the sample at the middle of each frame of ``analyse``."""
        return np.arange(frames, dtype=np.float64) * self.hop - self.size / 2

    def synthesise(self, spectrum: Complex, length: int) -> Real:
        """(frames, bins) of ``analyse`` -> (length,)."""
        frames = np.fft.irfft(spectrum, self.size, axis=1) * self._window()
        quarters = frames.reshape(len(frames), 4, self.hop)
        total = np.zeros((len(frames) + 3, self.hop))
        for quarter in range(4):
            total[quarter : quarter + len(frames)] += quarters[:, quarter]
        # Hann windows a quarter apart add up to 2.
        return np.asarray(total.reshape(-1)[self.size : self.size + length] / 2)

    def _window(self) -> Real:
        return np.asarray(np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.size) / self.size)))


@dataclass(frozen=True, eq=False)
class Bands:
    """Third-octave bands with triangular weights over the logarithm of frequency.

    Attributes:
        centres: (bands,) Hz.
        weights: (bins, bands), every column adds up to one.
        frequencies: (bins,) Hz.
    """

    centres: Real
    weights: Real
    frequencies: Real

    @classmethod
    def of(cls, stft: Stft, low: float = 80.0, high: float = 7500.0) -> Bands:
        """Bands from ``low`` to ``high`` Hz, or to where the sound ends."""
        frequencies = stft.frequencies
        high = min(high, 0.47 * stft.sample_rate)
        count = max(2, 1 + round(3 * np.log2(high / low)))
        centres = np.geomspace(low, high, count)
        step = np.log(centres[1] / centres[0])
        distance = np.abs(np.log(np.maximum(frequencies, 1.0)[:, None] / centres)) / step
        weights = np.maximum(1.0 - distance, 0.0)
        # At low frequencies a band may fall between two bins: it then takes the nearest.
        nearest = np.abs(frequencies[:, None] - centres).argmin(axis=0)
        empty = weights.sum(axis=0) == 0
        weights[nearest[empty], np.flatnonzero(empty)] = 1.0
        return cls(centres, weights / weights.sum(axis=0), frequencies)

    def power(self, power: Real) -> Real:
        """(frames, bins) -> (frames, bands) mean power."""
        return np.asarray(power @ self.weights)

    def curve(self, values: Real) -> Real:
        """(bands,) -> (bins,), straight between the centres over the logarithm of frequency."""
        return np.interp(np.log(np.maximum(self.frequencies, 1.0)), np.log(self.centres), values)


def smooth(values: Real, radius: int, axis: int) -> Real:
    """The mean over 2 * radius + 1 neighbours, over as many as there are near the ends."""
    size = values.shape[axis]
    sums = np.concatenate([np.zeros_like(values.take([0], axis)), np.cumsum(values, axis)], axis)
    at = np.arange(size)
    high, low = np.minimum(at + radius + 1, size), np.maximum(at - radius, 0)
    shape = [1] * values.ndim
    shape[axis] = size
    # Differences of sums may fall below zero by rounding.
    return np.asarray(np.maximum((sums.take(high, axis) - sums.take(low, axis)) / (high - low).reshape(shape), 0.0))


def decibels(power: Real) -> Real:
    """Power to decibels, at least -200."""
    return np.asarray(10.0 * np.log10(np.maximum(power, 1e-20)))


def active(power: Real, reach: float = 35.0) -> NDArray[np.bool_]:
    """(frames, …) -> (frames,) which are within ``reach`` decibels of the loudest; none of silence."""
    total = power.reshape(len(power), -1).sum(axis=1)
    if not len(total) or total.max() <= 0:
        return np.zeros(len(total), np.bool_)
    return np.asarray(total > total.max() * 10 ** (-reach / 10))
