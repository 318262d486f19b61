"""Level of the speech in a recording, pauses left out, and bringing recordings to one level.

Recipes are trained at one speech level and see prompts at that level; what they make is brought
back to the level of the prompt.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flowtts.types import Audio, Samples

TRAINING_RMS = 0.063
"""Speech level at which the shipped recipes are trained: -24 dB relative to full scale."""

_RANGE = 10 ** (-40 / 10)


def active_rms(samples: Samples, sample_rate: int) -> float:
    """Root mean square of mono ``samples`` (N,) over the 20 ms frames within 40 dB of the loudest one.

    Returns 0.0 for digital silence.
    """
    size = max(1, sample_rate // 50)
    count = len(samples) // size
    if count == 0:
        return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
    power = np.square(samples[: count * size].reshape(count, size), dtype=np.float64).mean(axis=1)
    loudest = power.max()
    if loudest <= 0:
        return 0.0
    return float(np.sqrt(power[power >= loudest * _RANGE].mean()))


def to_level(audio: Audio, rms: float = TRAINING_RMS) -> tuple[Audio, float]:
    """Scale mono ``audio`` to an active level. Returns it and the gain that was applied (1.0 for silence)."""
    level = active_rms(audio.samples, audio.sample_rate)
    gain = rms / level if level > 1e-6 else 1.0
    return replace(audio, samples=(audio.samples * np.float32(gain)).astype(np.float32)), gain
