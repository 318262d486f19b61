"""Levels."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest

from flowtts.audio.level import SILENCE_DB, loudness, normalise_loudness, peak_guard, rms_db
from flowtts.types import Audio


def _sine(amplitude: float, seconds: float = 1.0, rate: int = 16_000, hz: float = 1000.0) -> Audio:
    time = np.arange(round(seconds * rate)) / rate
    return Audio((amplitude * np.sin(2 * math.pi * hz * time)).astype(np.float32), rate)


def test_peak_guard_touches_only_what_is_too_loud() -> None:
    quiet = _sine(0.9)
    assert peak_guard(quiet) is quiet
    loud = peak_guard(_sine(3.0))
    assert np.abs(loud.samples).max() == pytest.approx(1.0, abs=1e-6) and np.abs(loud.samples).max() <= 1.0
    assert np.allclose(loud.samples, _sine(1.0).samples, atol=1e-6)
    assert np.abs(peak_guard(_sine(3.0), 0.5).samples).max() <= 0.5
    with pytest.raises(ValueError, match="ceiling"):
        peak_guard(quiet, 0.0)


def test_rms_of_a_sine() -> None:
    assert rms_db(_sine(0.5)) == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=0.01)
    assert rms_db(_sine(0.0)) == SILENCE_DB
    assert rms_db(Audio(np.zeros(0, dtype=np.float32), 16_000)) == SILENCE_DB


@pytest.mark.skipif(importlib.util.find_spec("pyloudnorm") is None, reason="pyloudnorm is not installed")
def test_loudness_of_the_standards_sine() -> None:
    """BS.1770: a full-scale 997 Hz sine in one channel reads -3.01 LUFS."""
    sine = _sine(1.0, 2.0, 48_000, 997.0)
    assert loudness(sine) == pytest.approx(-3.01, abs=0.05)
    assert loudness(normalise_loudness(sine, -23.0)) == pytest.approx(-23.0, abs=0.05)
    assert loudness(_sine(1.0, 0.1)) == SILENCE_DB and loudness(_sine(0.0)) == SILENCE_DB
