"""Peaks and loudness. The level of the speech alone, pauses left out, is ``flowtts.audio.active``'s."""

from __future__ import annotations

import math

import numpy as np

from flowtts.compat import require
from flowtts.types import Audio, Samples

SILENCE_DB = -100.0
"""What is quieter than this counts as silence, which no gain makes louder."""


def peak_guard(audio: Audio, ceiling: float = 1.0) -> Audio:
    """Scales down what is louder than the ceiling; everything else is returned untouched, bit for bit.

    Args:
        audio: any.
        ceiling: largest absolute sample to allow.

    Raises:
        ValueError: the ceiling is not positive.
    """
    if ceiling <= 0:
        raise ValueError(f"ceiling must be positive, not {ceiling}")
    peak = float(np.abs(audio.samples).max(initial=0.0))
    if peak <= ceiling:
        return audio
    # Rounding to float32 may land one step above the ceiling.
    scaled = (audio.samples * (ceiling / peak)).clip(-ceiling, ceiling)
    return Audio(scaled.astype(np.float32), audio.sample_rate)


def rms_db(audio: Audio) -> float:
    """Root mean square over time and channels, dB relative to a full-scale square wave; ``SILENCE_DB`` at least."""
    if audio.samples.size == 0:
        return SILENCE_DB
    power = float(np.mean(np.square(audio.samples, dtype=np.float64)))
    return max(SILENCE_DB, 10 * math.log10(max(power, 1e-30)))


def loudness(audio: Audio) -> float:
    """Integrated loudness by ITU-R BS.1770-4, LUFS; ``SILENCE_DB`` for silence or less than 0.4 s, its shortest block.

    Raises:
        UserError: ``pyloudnorm`` is not installed.
    """
    meter = require("pyloudnorm", "loudness").Meter(audio.sample_rate)
    if audio.seconds < 0.4 or not np.any(audio.samples):
        return SILENCE_DB
    return max(SILENCE_DB, float(meter.integrated_loudness(audio.samples)))


def normalise_loudness(audio: Audio, target_lufs: float = -23.0) -> Audio:
    """Brings ``loudness`` to a target by one gain; a peak that would pass full scale limits the gain.

    Args:
        audio: any; what has no loudness is returned as it is.
        target_lufs: LUFS; EBU R 128 asks for -23.

    Raises:
        UserError: ``pyloudnorm`` is not installed.
    """
    level = loudness(audio)
    return audio if level <= SILENCE_DB else _amplify(audio, target_lufs - level)


def _amplify(audio: Audio, gain_db: float) -> Audio:
    scaled: Samples = (audio.samples * np.float32(10 ** (gain_db / 20))).astype(np.float32)
    return peak_guard(Audio(scaled, audio.sample_rate))
