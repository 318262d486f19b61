"""Made sound given the level, colour, channels and room tone of the recording it goes into.

The model works on one channel at its own rate. What it lacks is measured on the recording near by: the kept context
that exists both in the recording and in the made sound shows what the vocoder did to level and colour; the recording
alone shows how its channels relate and what its silence sounds like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowtts.edit.bandwidth import high_band, upper
from flowtts.edit.recording import mix
from flowtts.edit.spectrum import Bands, Complex, Real, Stft, active, decibels, smooth
from flowtts.types import Samples

_LEVEL = 6.0
"""Decibels by which the level may be corrected."""

_COLOUR = 9.0
"""Decibels by which a band may be corrected against the others."""


@dataclass(frozen=True, eq=False)
class Side:
    """The kept context on one side: the same words in the recording and in the made sound.

    Attributes:
        original: (n,) the recording, one channel.
        made: (n,) the vocoder's.
    """

    original: Real
    made: Real


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The recording near the new stretch.

    Attributes:
        spectra: (channels, frames, bins).
        mono: (frames, bins) of the mixed channels.
        offset: (channels,) mean of the samples.
    """

    spectra: Complex
    mono: Complex
    offset: Real

    @classmethod
    def of(cls, stft: Stft, pieces: Sequence[Samples]) -> Surroundings:
        """Analyse stretches of the recording, each (n, channels)."""
        channels = pieces[0].shape[1]
        count = sum(len(piece) for piece in pieces)
        offset = sum((piece.sum(axis=0, dtype=np.float64) for piece in pieces), np.zeros(channels)) / max(count, 1)
        centred = [piece - offset for piece in pieces]
        spectra = [
            np.concatenate([stft.valid(np.ascontiguousarray(piece[:, at])) for piece in centred])
            for at in range(channels)
        ]
        mono = np.concatenate([stft.valid(mix(piece.astype(np.float32)).astype(np.float64)) for piece in centred])
        return cls(np.stack(spectra), mono, offset)


def matched(
    made: Real, stretch: tuple[int, int], left: Side, right: Side, pieces: Sequence[Samples], sample_rate: int,
    rng: np.random.Generator,
) -> Real:  # fmt: skip
    """The made sound as the recording would have it.

    Args:
        made: (n,) at the recording's rate.
        stretch: first and one past the last sample of ``made`` that are new.
        left: the context before it.
        right: the context after it.
        pieces: the recording near by, each (m, channels).
        sample_rate: Hz.
        rng: of the noise that is added.

    Returns:
        (n, channels).
    """
    stft = Stft.at(sample_rate)
    bands = Bands.of(stft)
    near = Surroundings.of(stft, pieces)
    spectrum = stft.analyse(made - made.mean() if len(made) else made)
    where = np.interp(stft.centres(len(spectrum)), [stretch[0], max(stretch[1], stretch[0] + 1)], [0.0, 1.0])
    before, after = corrections(stft, bands, left, right)
    # A line in decibels from one side to the other: the gain at a joint is the one that was measured there.
    spectrum *= 10 ** ((np.outer(1 - where, before) + np.outer(where, after)) / 20)
    gains = channel_gains(bands, near)
    share = upper(stft)
    noises = _noises(stft, len(made), near, rng)
    above = high_band(stft, spectrum, near.mono, near.spectra, room_tone(near.mono))
    result = np.zeros((len(made), len(gains)))
    for channel, gain in enumerate(gains):
        wanted = spectrum * (gain * np.sqrt(1 - share))
        power = missing(np.abs(wanted) ** 2, room_tone(near.spectra[channel])) * (1 - share) + above[channel] * share
        if power.any():
            wanted += noises[channel] * np.sqrt(power / stft.noise_power)
        result[:, channel] = stft.synthesise(wanted, len(made)) + near.offset[channel]
    return result


def corrections(stft: Stft, bands: Bands, left: Side, right: Side) -> tuple[Real, Real]:
    """Gains, (bins,) in decibels, that turn the made context into the recording's, before and after the stretch.

    The less of a side can be heard, the more it follows the other, and the less both can be heard, the less is done.
    """
    (one, first), (other, second) = _difference(stft, bands, left), _difference(stft, bands, right)
    heard = first + second
    pooled = (one * first + other * second) / max(heard, 1e-9)
    sides = [pooled + (side - pooled) * (own / (own + 0.3)) for side, own in ((one, first), (other, second))]
    curves = []
    for side in sides:
        level = side[0] * heard / (heard + 0.1)
        colour = np.clip(side[1:] * (heard / (heard + 0.25)), -_COLOUR, _COLOUR)
        curves.append(float(np.clip(level, -_LEVEL, _LEVEL)) + bands.curve(colour))
    return curves[0], curves[1]


def channel_gains(bands: Bands, near: Surroundings) -> list[Real]:
    """For every channel the signed gains, (bins,), that make it of the mixed channels.

    The size compares powers, the sign is that of the correlation: a silent channel stays silent, an inverted one
    inverted, and two equal ones equal.
    """
    bins = near.spectra.shape[2]
    if len(near.spectra) == 1:
        return [np.ones(bins)]
    heard = active(np.abs(near.mono) ** 2)
    if not heard.any():
        return [np.ones(bins) for _ in near.spectra]
    mono = near.mono[heard]
    reference = bands.power(np.abs(mono) ** 2).sum(axis=0)
    little = 1e-9 * reference.max()
    gains = []
    for spectrum in near.spectra[:, heard]:
        power = bands.power(np.abs(spectrum) ** 2).sum(axis=0)
        ratio = np.minimum((power + little * (power.sum() > 0)) / (reference + little), 1e3)
        sign = -1.0 if np.vdot(mono, spectrum).real < 0 else 1.0
        gains.append(sign * bands.curve(np.sqrt(ratio)))
    return gains


def room_tone(spectrum: Complex) -> Real:
    """The power of a recording's background, (frames, bins) -> (bins,).

    The lowest twentieth of the frames shows it. Noise has a twentieth of its values below 0.051 of its mean and half
    below 0.69; what sounds on and on, and is no noise, has not, whence the smallest of three estimates.
    """
    if not len(spectrum):
        return np.zeros(spectrum.shape[1])
    power = np.abs(spectrum) ** 2
    low, middle = np.quantile(power, [0.05, 0.5], axis=0)
    floor = np.minimum(np.minimum(low / 0.0513, middle / 0.69), power.mean(axis=0))
    return smooth(floor, 3, 0)


def missing(power: Real, floor: Real) -> Real:
    """The power to add, (frames, bins), where sound lies clearly below the background (bins,); never more than it."""
    if not floor.any():
        return np.zeros_like(power)
    own = smooth(smooth(power, 3, 1), 4, 0)
    return smooth(np.where(own < 0.35 * floor, 0.8 * floor - own, 0.0), 1, 0)


def _difference(stft: Stft, bands: Bands, side: Side) -> tuple[Real, float]:
    """Recording against made sound in decibels, level first and then (bands,) colour; and seconds heard of it."""
    size = min(len(side.original), len(side.made))
    none = np.zeros(1 + len(bands.centres)), 0.0
    if size < stft.size // 2:
        return none
    original = np.abs(stft.analyse(side.original - side.original.mean())) ** 2
    made = np.abs(stft.analyse(side.made - side.made.mean())) ** 2
    heard = active(original) & active(made)
    if not heard.any():
        return none
    wanted, given = bands.power(original[heard]).mean(axis=0), bands.power(made[heard]).mean(axis=0)
    # A bin of s is 50 dB below one of a vowel; what is 80 dB below the loudest cannot be measured.
    wanted, given = (power + 1e-8 * power.max() for power in (wanted, given))
    curve = decibels(wanted) - decibels(given)
    # The level counts power as it is; the colour is what is left in the bands.
    level = float(decibels(original[heard].sum()) - decibels(made[heard].sum()))
    padded = np.pad(curve - level, 1, mode="edge")
    colour = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return np.concatenate([[level], colour]), float(heard.sum()) * stft.hop / stft.sample_rate


def _noises(stft: Stft, length: int, near: Surroundings, rng: np.random.Generator) -> list[Complex]:
    """White noise of unit variance, as alike from channel to channel as the quiet of the recording."""
    common = stft.analyse(rng.standard_normal(length))
    spectra = near.spectra
    if len(spectra) == 1 or not near.mono.size:
        return [common] * len(spectra)
    total = (np.abs(spectra) ** 2).sum(axis=(0, 2))
    quiet = spectra[:, total <= np.quantile(total, 0.2)]
    # Every bin counts alike: the hum at the bottom says nothing about the hiss.
    quiet = quiet / np.sqrt((np.abs(quiet) ** 2).mean(axis=1, keepdims=True) + 1e-20)
    energies = (np.abs(quiet) ** 2).sum(axis=(1, 2))
    reference = quiet[int(energies.argmax())]
    noises = []
    for channel, energy in zip(quiet, energies, strict=True):
        scale = float(np.sqrt(energy * energies.max()))
        alike = float(np.vdot(reference, channel).real) / scale if scale else 0.0
        own = stft.analyse(rng.standard_normal(length))
        alike = alike if abs(alike) < 0.999 else float(np.sign(alike))
        noises.append(alike * common + np.sqrt(1 - alike**2) * own)
    return noises
