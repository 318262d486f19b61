"""How speech comes to be a file: codecs, sampling rates, rooms, filters and noise, the same for all speech.

The recordings at hand have been through Ogg Opus at 56 kbit/s once, by libsndfile. Generated speech goes through the
same (``as_recorded``) before anything else is done to either, so that there is no codec to be learnt. What follows is
drawn at random for training (``disturb``) and fixed for measuring (``CONDITIONS``).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from flowtts.audio.active import active_rms
from flowtts.provenance import embed
from flowtts.types import Audio, Samples

RATE = 16_000
Channel = Callable[[Samples, np.random.Generator], Samples]

_OPUS = (6_000, 256_000)
"""Bit rates that libsndfile's compression levels 1 and 0 stand for, one channel."""

_MP3 = (8_000, 160_000)
"""Likewise at sampling rates of 16 to 24 kHz."""

_MP3_DELAY = 1105
"""Samples by which LAME and a decoder delay."""

_RATES = (11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def opus(samples: Samples, bits: float) -> Samples:
    """Through Ogg Opus at a bit rate."""
    return _fitted(_coded(samples, "OGG", "OPUS", _level(bits, _OPUS)), len(samples))


def mp3(samples: Samples, bits: float) -> Samples:
    """Through MP3 at a constant bit rate."""
    heard = _coded(samples, "MP3", "MPEG_LAYER_III", _level(bits, _MP3), "CONSTANT")
    # Frames of low bit rates have no room for the note of how long the encoder's delay is.
    return _fitted(heard[_MP3_DELAY:] if len(heard) > len(samples) else heard, len(samples))


def vorbis(samples: Samples, quality: float) -> Samples:
    """Through Ogg Vorbis of a quality from 0 to 1."""
    return _fitted(_coded(samples, "OGG", "VORBIS", 1 - quality), len(samples))


def as_recorded(samples: Samples) -> Samples:
    """What was done to the recordings before they came here."""
    return opus(samples, 56_000)


def noisy(samples: Samples, rng: np.random.Generator, snr: float, tilt: float = 0.0) -> Samples:
    """With stationary noise ``snr`` dB below the speech; its spectrum falls with frequency to the power ``tilt``."""
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    noise = np.fft.irfft(spectrum / (np.fft.rfftfreq(len(samples), 1 / RATE) + 30) ** tilt, len(samples))
    level = active_rms(samples, RATE) * 10 ** (-snr / 20) / max(float(np.sqrt(np.mean(noise**2))), 1e-12)
    return (samples + level * noise).astype(np.float32)


def through_rate(samples: Samples, rate: int) -> Samples:
    """Resampled there and back."""
    there = soxr.resample(samples, RATE, rate, quality="HQ")
    return _fitted(soxr.resample(there, rate, RATE, quality="HQ"), len(samples))


CONDITIONS: Mapping[str, Channel] = {
    "clean": lambda samples, rng: samples,
    "Opus 24 kbit/s": lambda samples, rng: opus(samples, 24_000),
    "MP3 64 kbit/s": lambda samples, rng: mp3(samples, 64_000),
    "noise at 20 dB": lambda samples, rng: noisy(samples, rng, 20.0, 0.5),
    "8 kHz": lambda samples, rng: through_rate(samples, 8000),
    "Opus 56 kbit/s again": lambda samples, rng: as_recorded(samples),
    "with the tag": lambda samples, rng: embed(Audio(samples, RATE)).samples,
}
"""What both classes go through when they are measured. The last two are controls: a recording that takes one step more
than others, as generated speech did, or that carries the tag of ``flowtts.provenance``, is no more generated for it."""


def disturb(samples: Samples, rng: np.random.Generator) -> Samples:
    """A random way to a file: speed, filter, room, noise, sampling rate, codec, level and 16 bit."""
    size = len(samples)
    if rng.random() < 0.5:
        # Played a little faster or slower: no grid of frames or codec survives.
        samples = soxr.resample(samples, RATE, RATE * rng.uniform(0.94, 1.06), quality="HQ").astype(np.float32)
    if rng.random() < 0.5:
        samples = _filtered(samples, rng)
    if rng.random() < 0.2:
        samples = _room(samples, rng)
    if rng.random() < 0.4:
        samples = noisy(samples, rng, rng.uniform(12, 45), rng.uniform(0, 1))
    if rng.random() < 0.35:
        samples = through_rate(samples, 8000 if rng.random() < 0.35 else int(rng.choice(_RATES)))
    # Encoders expect a usual level; whoever records makes one.
    samples = _levelled(samples, rng.uniform(-30, -18))
    kind = rng.random()
    if kind < 0.25:
        samples = opus(samples, rng.uniform(14_000, 64_000))
    elif kind < 0.45:
        samples = mp3(samples, float(rng.choice([24_000, 32_000, 48_000, 64_000, 96_000])))
    elif kind < 0.6:
        samples = vorbis(samples, rng.uniform(0.1, 0.7))
    samples = _levelled(samples, rng.uniform(-40, -16))
    return np.asarray(np.round(samples.clip(-1, 1) * 32767) / 32767, dtype=np.float32)[:size]


def _filtered(samples: Samples, rng: np.random.Generator) -> Samples:
    """Up to 9 dB of a smooth equaliser, and the slopes of a band in half of the cases."""
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    centres = np.geomspace(60, RATE / 2, 7)
    gain = 10 ** (np.interp(np.log(hertz + 1), np.log(centres + 1), rng.uniform(-9, 9, len(centres))) / 20)
    if rng.random() < 0.5:
        low, high = rng.uniform(40, 300), rng.uniform(3200, RATE / 2)
        gain /= np.sqrt(1 + (low / (hertz + 1)) ** 4) * np.sqrt(1 + (hertz / high) ** 12)
    return np.fft.irfft(spectrum * gain, len(samples)).astype(np.float32)


def _room(samples: Samples, rng: np.random.Generator) -> Samples:
    """A decaying tail of 0.1 to 0.4 s."""
    length = int(rng.uniform(0.1, 0.4) * RATE)
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    response = np.concatenate([[1.0], tail * rng.uniform(0.1, 0.5) / np.sqrt((tail**2).sum())])
    size = len(samples) + length
    echoed = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)
    return echoed[: len(samples)].astype(np.float32)


def _levelled(samples: Samples, decibels: float) -> Samples:
    """Speech at a level, dB of full scale, unless a peak would pass full scale."""
    gain = 10 ** (decibels / 20) / max(active_rms(samples, RATE), 1e-6)
    return (samples * min(gain, 0.99 / max(float(np.abs(samples).max()), 1e-6))).astype(np.float32)


def _coded(samples: Samples, form: str, subtype: str, level: float, mode: str | None = None) -> Samples:
    file = io.BytesIO()
    soundfile.write(
        file, samples, RATE, format=form, subtype=subtype, compression_level=float(np.clip(level, 0, 1)),
        bitrate_mode=mode,
    )  # fmt: skip
    file.seek(0)
    heard: Samples = soundfile.read(file, dtype="float32")[0]
    return heard


def _level(bits: float, limits: tuple[int, int]) -> float:
    return (limits[1] - bits) / (limits[1] - limits[0])


def _fitted(samples: NDArray[np.float32], size: int) -> Samples:
    return np.pad(samples, (0, max(0, size - len(samples))))[:size].astype(np.float32)
