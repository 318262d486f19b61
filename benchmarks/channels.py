"""Other microphones and rooms for a recording: what a classifier of accents must not hear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from flowtts.types import Audio

Spectrum = NDArray[np.float64]

_FFT = 1024
_QUIET = 1e-8


def disturb(audio: Audio, rng: np.random.Generator) -> Audio:
    """A random equaliser, band limits, a room and noise; each recording gets its own."""
    samples = audio.mono().samples.astype(np.float64)
    rate = audio.sample_rate
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / rate)
    centres = np.geomspace(60, rate / 2, 7)
    decibels = np.interp(np.log(hertz + 1), np.log(centres + 1), rng.uniform(-9, 9, len(centres)))
    low, high = rng.uniform(40, 250), rng.uniform(3200, rate / 2)
    # First-order slopes: real channels have no edges.
    gain = 10 ** (decibels / 20) / np.sqrt(1 + (low / (hertz + 1)) ** 4) / np.sqrt(1 + (hertz / high) ** 8)
    heard = np.fft.irfft(spectrum * gain, len(samples))
    if rng.random() < 0.5:
        heard = _room(heard, rate, rng)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(len(heard))) / (hertz + 30) ** rng.uniform(0, 0.7), len(heard))
    level = np.sqrt(np.mean(heard**2) / max(float(np.mean(noise**2)), _QUIET)) * 10 ** (-rng.uniform(12, 40) / 20)
    return replace(audio, samples=_limited(heard + level * noise))


def average_spectrum(recordings: Sequence[Audio]) -> Spectrum:
    """(513,) mean log magnitude over the louder half of the frames of all recordings at one rate, of level 0."""
    means = []
    for audio in recordings:
        magnitude = _magnitudes(audio)
        power = (magnitude**2).sum(1)
        means.append(np.log(magnitude[power >= np.median(power)] + _QUIET).mean(0))
    mean = np.mean(means, axis=0)
    return np.asarray(mean - mean.mean())


def pause_spectrum(audio: Audio, bands: int = 24, *, normalised: bool) -> Spectrum:
    """(bands,) log magnitude of the quietest fifth of the frames, minus its own mean or that of all frames."""
    magnitude = _magnitudes(audio)
    power = (magnitude**2).sum(1)
    edges = np.geomspace(2, magnitude.shape[1], bands + 1).astype(int)
    logs = np.stack([np.log(magnitude[:, a : max(b, a + 1)].mean(1) + _QUIET) for a, b in pairwise(edges)], 1)
    quiet = logs[power <= np.quantile(power, 0.2)].mean(0)
    return np.asarray(quiet - logs.mean(0) if normalised else quiet - quiet.mean())


def impose(audio: Audio, own: Spectrum, other: Spectrum) -> Audio:
    """As if recorded through the other channel: filtered by the difference of two average spectra, up to 30 dB."""
    samples = audio.mono().samples.astype(np.float64)
    # Smoothed over about 250 Hz, so that it carries channels, not voices.
    kernel = np.hanning(17) / np.hanning(17).sum()
    difference = np.convolve(np.pad(other - own, 8, mode="edge"), kernel, mode="valid").clip(-3.45, 3.45)
    spectrum = np.fft.rfft(samples)
    gain = np.exp(np.interp(np.linspace(0, 1, len(spectrum)), np.linspace(0, 1, len(difference)), difference))
    return replace(audio, samples=_limited(np.fft.irfft(spectrum * gain, len(samples))))


def _room(samples: NDArray[np.float64], rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    seconds = rng.uniform(0.1, 0.4)
    length = int(seconds * rate)
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    response = np.concatenate([[1.0], tail * rng.uniform(0.1, 0.5) / np.sqrt((tail**2).sum())])
    size = len(samples) + len(response)
    echoed = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)
    return np.asarray(echoed[: len(samples)])


def _magnitudes(audio: Audio) -> NDArray[np.float64]:
    samples = audio.mono().samples.astype(np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (0, _FFT)), _FFT)[:: _FFT // 4]
    return np.abs(np.fft.rfft(frames * np.hanning(_FFT), axis=1))


def _limited(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    return (samples * (0.7 / max(float(np.abs(samples).max(initial=0.0)), _QUIET))).astype(np.float32)
