"""Errors of pitch and voicing on tones that are known, on hand-made frames and on noisy recordings."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from flowtts.audio.io import read
from flowtts.eval.judging import UnjudgeableError
from flowtts.eval.pitch import MEASURES, PitchError, f0_cents, f0_correlation, f0_rmse, voicing_error
from flowtts.eval.world import Frames, Pair, World
from flowtts.types import Audio, Item
from flowtts.voice import shipped

pytest.importorskip("pyworld")
pytest.importorskip("scipy.signal")

VOICES = {name: read(path) for name, path in shipped().items() if name in ("slt", "awb", "reader-m", "accented-f")}
CLEAN = Audio(VOICES["slt"].samples[:32_000], 16_000)


def noisy(audio: Audio, decibel: float) -> Audio:
    """With white noise at a ratio of speech to noise."""
    noise = np.random.default_rng(0).standard_normal(len(audio.samples))
    noise *= np.sqrt(np.mean(np.square(audio.samples)) / np.mean(np.square(noise)) / 10 ** (decibel / 10))
    return Audio((audio.samples + noise).astype("f4"), audio.sample_rate)


def tone(f0: NDArray[np.float64]) -> Audio:
    """A voice of 20 harmonics that fall by 6 dB per octave, with a pitch in Hz for every sample at 16 kHz."""
    phase = 2 * np.pi * np.cumsum(f0) / 16_000
    samples = sum(np.sin(k * phase) / k for k in range(1, 21))
    return Audio((0.1 * np.asarray(samples)).astype("f4"), 16_000)


def pair(made: list[float], reference: list[float]) -> Pair:
    """Frames already aligned, each ten times."""
    sides = [np.repeat(np.array(f0, dtype="f8"), 10) for f0 in (made, reference)]
    return Frames(np.zeros((len(sides[0]), 1)), sides[0]), Frames(np.zeros((len(sides[1]), 1)), sides[1])


@pytest.mark.parametrize("cents", [-300.0, 50.0, 200.0])
def test_a_shifted_tone_is_off_by_the_shift(cents: float) -> None:
    reference = np.full(16_000, 150.0)
    items = [Item(tone(reference * 2 ** (cents / 1200)), "", reference=tone(reference))]
    world = World()
    # The first and last frames of a tone are heard a little lower.
    assert PitchError("f0-cents", world)(items).value == pytest.approx(abs(cents), abs=3)
    assert PitchError("f0-rmse", world)(items).value == pytest.approx(150 * abs(2 ** (cents / 1200) - 1), abs=0.5)
    assert PitchError("voicing", world)(items).value == 0


def test_measures_of_hand_made_frames() -> None:
    # Voiced on both sides: 100/100, 200/100, 300/400 Hz; one frame of five differs in voicing.
    frames = pair([100, 200, 300, 0, 0], [100, 100, 400, 90, 0])
    assert f0_rmse(frames) == pytest.approx(np.sqrt((0 + 100**2 + 100**2) / 3))
    assert f0_cents(frames) == pytest.approx(np.sqrt((0 + 1200**2 + (1200 * np.log2(3 / 4)) ** 2) / 3))
    assert f0_correlation(frames) == pytest.approx(np.corrcoef([100, 200, 300], [100, 100, 400])[0, 1])
    assert voicing_error(frames) == pytest.approx(0.2)


def test_a_melody_is_followed_whatever_the_voice() -> None:
    assert f0_correlation(pair([100, 150, 120], [210, 310, 250])) == pytest.approx(1)
    assert f0_correlation(pair([150, 100, 130], [210, 310, 250])) == pytest.approx(-1)


def test_a_monotone_follows_no_melody() -> None:
    assert f0_correlation(pair([120, 120, 120], [100, 150, 120])) == 0
    with pytest.raises(UnjudgeableError, match="does not change"):
        f0_correlation(pair([100, 150, 120], [120, 120, 120]))


def test_too_little_voice_is_no_pitch() -> None:
    frames = pair([100, 0, 200], [100, 100, 0])
    for measure in (f0_rmse, f0_cents, f0_correlation):
        with pytest.raises(UnjudgeableError, match="20 frames"):
            measure(frames)
    assert voicing_error(frames) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", sorted(VOICES))
def test_noise_ranks(name: str) -> None:
    clean = VOICES[name]
    items = [Item(audio, "", reference=clean) for audio in (clean, *(noisy(clean, ratio) for ratio in (20, 10, 0)))]
    world = World()
    for measure in MEASURES:
        metric = PitchError(measure, world)
        values = list(metric(items).items.values())
        # Its own noise hides the voice of the recording from a room: noise of 0 dB makes no difference to 10 dB.
        ranked = values[:3] if (name, measure) == ("accented-f", "voicing") else values
        assert ranked == sorted(ranked, reverse=metric.higher_is_better) and len(set(ranked)) == len(ranked)
        assert values[0] == pytest.approx(1 if metric.higher_is_better else 0)


def test_what_cannot_be_judged_is_dropped_with_the_reason() -> None:
    hiss = Audio(np.diff(np.random.default_rng(0).normal(0, 0.1, 16_000), 2).astype("f4"), 16_000)
    silent = Audio(np.zeros(16_000, "f4"), 16_000)
    items = [
        Item(CLEAN, "", id="alone"),
        Item(Audio(np.zeros(0, "f4"), 16_000), "", reference=CLEAN, id="empty"),
        Item(silent, "", reference=CLEAN, id="silent"),
        Item(hiss, "", reference=hiss, id="hiss"),
        Item(CLEAN, "", reference=CLEAN, id="fine"),
    ]
    world = World()
    for measure in MEASURES:
        found = PitchError(measure, world)(items)
        judged = ["hiss", "fine"] if measure == "voicing" else ["fine"]
        assert list(found.items) == judged and found.count == len(judged)
        assert found.dropped["alone"] == "it has no reference"
        assert found.dropped["empty"] == "the audio is shorter than 0.1 s"
        assert found.dropped["silent"] == "the audio is silent"
        assert ("hiss" in found.dropped) == (measure != "voicing")
        assert np.isfinite([*found.items.values(), found.value]).all()
