"""Sound above the model's 8 kHz, taken from the recording round about.

What lies up there is breath, the noise of s and t, and the room: its envelope follows from the sound below, its phases
do not matter. Every frame of made sound therefore takes the mean envelope of the frames of the recording that are
most like it below 7.5 kHz. A recording that has nothing above 8 kHz gives nothing.
"""

from __future__ import annotations

import numpy as np

from flowtts.edit.spectrum import Bands, Complex, Real, Stft, decibels, smooth

_FROM, _TO = 7250.0, 7750.0
"""Hz between which made sound hands over to what the recording gives."""

_NEIGHBOURS = 4


def upper(stft: Stft) -> Real:
    """The share of the power, (bins,) in [0, 1], that comes from the recording; none if it has no more than 8 kHz."""
    if stft.sample_rate <= 16_000:
        return np.zeros(stft.size // 2 + 1)
    ramp = np.clip((stft.frequencies - _FROM) / (_TO - _FROM), 0.0, 1.0)
    return np.asarray(np.sin(0.5 * np.pi * ramp) ** 2)


def high_band(stft: Stft, spectrum: Complex, mono: Complex, channels: Complex, floor: Real) -> Real:
    """The power that made sound should have above 7.25 kHz.

    Args:
        stft: the transform of all three.
        spectrum: (frames, bins) of made sound at the recording's level.
        mono: (others, bins) of the recording near by.
        channels: (channels, others, bins) of the same.
        floor: (bins,) the power of the background of ``mono``.

    Returns:
        (channels, frames, bins), zero below and where nothing is known.
    """
    power = np.zeros((len(channels), *spectrum.shape))
    if stft.sample_rate <= 16_000 or not len(mono):
        return power
    bands = Bands.of(stft, 100.0, _FROM)
    theirs, ours = bands.power(np.abs(mono) ** 2), bands.power(np.abs(spectrum) ** 2)
    # Differences below the background should not decide who is alike: all silence is.
    little = bands.power(floor[None]) + 1e-7 * theirs.max() + 1e-20
    known, asked = decibels(theirs + little), decibels(ours + little)
    distance = (asked**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2 * asked @ known.T
    count = min(_NEIGHBOURS, len(mono))
    nearest = np.argpartition(distance, count - 1, axis=1)[:, :count]
    above = stft.frequencies >= _FROM
    for channel, own in enumerate(channels):
        envelopes = smooth(np.abs(own[:, above]) ** 2, 4, 1)
        chosen = np.sum([envelopes[nearest[:, at]] for at in range(count)], axis=0)
        power[channel][:, above] = smooth(chosen / count, 1, 0)
    return power
