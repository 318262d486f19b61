"""Discontinuities with known answers, and joins against natural boundaries."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowtts.audio.io import read
from flowtts.edit.joins import REACH, Discontinuity, Limits, discontinuity, limits, natural, share
from flowtts.types import Audio, Samples, Word
from flowtts.voice import shipped

RATE = 16_000


def white(seed: int, seconds: float = 1.0) -> Samples:
    made: Samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32) * 0.05
    return made


def worst(sound: Samples, at: float = 0.5) -> Discontinuity:
    return discontinuity(Audio(sound.astype(np.float32), RATE), at)


def test_stationary_noise_does_not_change() -> None:
    found = [worst(white(seed)) for seed in range(20)]
    assert abs(np.mean([d.spectral for d in found])) < 1.5
    assert abs(np.mean([d.level for d in found])) < 1.0
    assert abs(np.mean([d.click for d in found])) < 1.5


@pytest.mark.parametrize("step", [-20.0, -10.0, 10.0])
def test_a_step_of_level_shows_in_full_and_only_as_level(step: float) -> None:
    found = []
    for seed in range(10):
        sound = white(seed)
        sound[RATE // 2 :] *= 10 ** (step / 20)
        found.append(worst(sound))
    assert np.mean([d.level for d in found]) == pytest.approx(abs(step), abs=1.0)
    assert abs(np.mean([d.spectral for d in found])) < 1.5


def test_a_fade_is_no_step() -> None:
    # 20 dB in 100 ms, at constant speed: louder by 5 dB from one window to the next, everywhere.
    time = np.arange(RATE) / RATE
    fade = 10 ** (np.clip((time - 0.35) * 200 - 30, -30, 30) / 20)
    assert np.mean([worst(white(seed) * fade, 0.5).level for seed in range(10)]) < 2.0


def test_a_change_of_colour_shows_as_colour() -> None:
    found = []
    for seed in range(10):
        sound = white(seed)
        dark = np.convolve(white(seed + 100), np.ones(12) / 12, "same")
        # The same level on both sides.
        dark *= sound.std() / dark.std()
        found.append(worst(np.concatenate([sound[: RATE // 2], dark[RATE // 2 :]])))
    assert min(d.spectral for d in found) > 5.0
    assert abs(np.mean([d.level for d in found])) < 2.0


def test_a_click_is_found_where_it_is() -> None:
    tone = (0.1 * np.sin(2 * math.pi * 150 * np.arange(RATE) / RATE)).astype(np.float32) + 0.01 * white(0)
    clean, cut = worst(tone), tone.copy()
    cut[RATE // 2] += 0.2
    assert clean.click < 6 < 20 < worst(cut).click
    assert worst(cut, 0.3).click < 6
    # So is a cut inside a wave.
    jump = np.concatenate([tone[: RATE // 2 + 20], tone[RATE // 2 + 73 :]])
    assert worst(jump.astype(np.float32), 0.5).click > 20


def test_gain_and_place_do_not_count() -> None:
    sound = white(3)
    sound[RATE // 2 :] *= 3
    quiet = worst(sound * np.float32(0.01))
    assert quiet.level == pytest.approx(worst(sound).level, abs=1e-3)
    assert quiet.spectral == pytest.approx(worst(sound).spectral, abs=1e-3)
    # The place is only known to within a tolerance.
    assert worst(sound, 0.508).level == pytest.approx(worst(sound).level, abs=1.5)
    assert abs(worst(sound, 0.3).level) < 3


def test_silence_is_finite() -> None:
    silence = worst(np.zeros(RATE, np.float32))
    assert (silence.spectral, silence.level, silence.click) == (0.0, 0.0, 0.0)
    half = white(0)
    half[: RATE // 2] = 0
    found = worst(half)
    assert 50 < found.level < 65 and math.isfinite(found.spectral)


def test_it_needs_sound_on_both_sides() -> None:
    sound = Audio(white(0), RATE)
    for at in (REACH - 0.001, 1.0 - REACH + 0.001, -1.0, 2.0):
        with pytest.raises(ValueError, match="either side"):
            discontinuity(sound, at)
    discontinuity(sound, REACH)
    discontinuity(sound, 1.0 - REACH)
    # Boundaries without are left out, shared ones counted once.
    words = [Word("a", 0.0, 0.4), Word("b", 0.4, 0.7), Word("c", 0.8, 1.0)]
    assert natural(sound, words) == [discontinuity(sound, at) for at in (0.4, 0.7, 0.8)]


def test_other_rates_and_channels() -> None:
    for rate in (8_000, 22_050, 48_000):
        sound = np.random.default_rng(0).standard_normal((rate, 2)).astype(np.float32) * 0.05
        sound[rate // 2 :] *= 10 ** (-10 / 20)
        assert discontinuity(Audio(sound, rate), 0.5).level == pytest.approx(10, abs=2.0)


def test_limits_and_share() -> None:
    boundaries = [Discontinuity(float(n), float(100 - n)) for n in range(101)]
    assert limits(boundaries) == Limits(95.0, 95.0)
    assert limits(boundaries, 0.5) == Limits(50.0, 50.0)
    joins = [Discontinuity(95, 95), Discontinuity(95.1, 0), Discontinuity(0, 95.1), Discontinuity(-1, -1, 60)]
    assert share(joins, boundaries) == 0.5
    assert math.isnan(share([], boundaries))
    with pytest.raises(ValueError, match="natural"):
        share(joins, [])


def test_a_careless_cut_in_speech_is_worse_than_speech() -> None:
    audio = read(shipped()["reader-f"]).mono()
    places = np.arange(0.2, audio.seconds - 0.2, 0.05)
    smooth = [discontinuity(audio, float(at)) for at in places]
    rng = np.random.default_rng(0)
    cuts = []
    for at in places:
        other = rng.permutation(places)[0]
        left, right = audio.samples[: int(at * audio.sample_rate)], audio.samples[int(other * audio.sample_rate) :]
        joined = Audio(np.concatenate([left, right]), audio.sample_rate)
        cuts.append(discontinuity(joined, len(left) / audio.sample_rate))
    assert share(smooth, smooth) > 0.88
    assert share(cuts, smooth) < 0.6
    assert np.median([d.click for d in cuts]) > np.median([d.click for d in smooth])
