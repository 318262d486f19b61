"""Finding transient noise: from probabilities to spans, windows of long recordings, and the shipped network."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from flowtts import checkpoint, voice
from flowtts.audio.active import active_rms
from flowtts.audio.io import read, resample, write
from flowtts.edit.noise import KIND, NoiseConfig, NoiseFinder, NoiseNetwork, find_noise, relative, runs
from flowtts.edit.recording import Recording
from flowtts.types import Audio, UserError

RATE = 16_000


@lru_cache(maxsize=1)
def untrained() -> NoiseFinder:
    torch.manual_seed(0)
    return NoiseFinder(NoiseNetwork(NoiseConfig(dim=8, dilations=(1, 2))))


@lru_cache(maxsize=1)
def shipped() -> NoiseFinder:
    return NoiseFinder.load()


def speech(name: str = "reader-f") -> Audio:
    return resample(read(voice.shipped()[name]).mono(), RATE)


def with_burst(audio: Audio, start: float, end: float, snr: float, seed: int = 0) -> Audio:
    """White noise over [start, end) seconds."""
    first, last = round(start * RATE), round(end * RATE)
    level = active_rms(audio.samples, RATE) * 10 ** (-snr / 20)
    samples = audio.samples.copy()
    samples[first:last] += np.float32(level) * np.random.default_rng(seed).standard_normal(last - first, "f4")
    return Audio(samples, RATE)


def test_runs() -> None:
    assert runs(np.array([], dtype=bool)) == []
    assert runs(np.array([True, False, False, True, True])) == [(0, 1), (3, 5)]
    assert runs(np.ones(3, dtype=bool)) == [(0, 3)]


def spans(probabilities: list[float], seconds: float = 10.0, **changes: float) -> list[tuple[float, float]]:
    finder = untrained()
    exact = replace(finder.config, **{"margin": 0.0, "gap": 0.05, "shortest": 0.04, **changes})
    finder = NoiseFinder(finder.network)
    finder.config = exact
    found = finder.spans(np.array(probabilities, dtype=np.float32), seconds)
    return [(round(a, 6), round(b, 6)) for a, b in found]


def test_a_span_needs_one_certain_frame_and_reaches_as_far_as_likely_ones() -> None:
    assert spans([0.1, 0.6, 0.6, 0.6, 0.1]) == []
    assert spans([0.1, 0.6, 0.95, 0.6, 0.1, 0.7]) == [(0.02, 0.08)]


def test_short_spans_go_and_near_ones_join() -> None:
    assert spans([0.1, 0.95, 0.1, 0.1, 0.1, 0.1]) == []
    assert spans([0.95, 0.95, 0.1, 0.1, 0.95, 0.95]) == [(0.0, 0.12)]
    assert spans([0.95, 0.95, 0.1, 0.1, 0.1, 0.95, 0.95]) == [(0.0, 0.04), (0.1, 0.14)]


def test_margins_stay_inside_the_recording_and_make_one_span_of_two_that_they_join() -> None:
    assert spans([0.95] * 3, seconds=0.055, margin=0.02) == [(0.0, 0.055)]
    assert spans([0.1] * 5 + [0.95] * 2 + [0.1] * 5, margin=0.02) == [(0.08, 0.16)]
    assert spans([0.95, 0.95, 0.1, 0.1, 0.1, 0.95, 0.95], margin=0.03) == [(0.0, 0.17)]


def test_features_do_not_know_the_gain(rng: torch.Generator) -> None:
    mel = torch.randn(1, 50, 4, generator=rng)
    assert torch.allclose(relative(mel + 3.0), relative(mel), atol=1e-6)
    assert relative(mel).shape == (1, 50, 8)
    # A filter shifts a band: the half over the noise floor does not see it.
    assert torch.allclose(relative(mel + torch.arange(4.0))[..., 4:], relative(mel)[..., 4:], atol=1e-5)


@pytest.mark.parametrize("frames", [1, 25, 1199, 1200, 1201, 1600, 5000])
def test_windows_cover_every_frame_once_and_with_context(frames: int) -> None:
    covered = 0
    for start, end, first, last in untrained()._windows(frames):
        assert first == covered < last <= end <= frames and end - start == min(1200, frames)
        assert first - start >= 200 or start == 0
        assert end - last >= 200 or end == frames
        covered = last
    assert covered == frames


def test_one_probability_every_20_ms() -> None:
    for count, rate in ((RATE, RATE), (11_025 * 3, 11_025), (44_100 // 3, 44_100), (319, RATE)):
        audio = Audio(np.random.default_rng(0).standard_normal(count, "f4"), rate)
        assert len(untrained().probabilities(audio)) == count * 50 // rate


def test_nothing_is_found_in_nothing() -> None:
    for samples in (np.zeros(0, "f4"), np.ones(100, "f4"), np.zeros(3 * RATE, "f4")):
        assert find_noise(Audio(samples, RATE)) == []


@pytest.mark.parametrize("name", sorted(voice.shipped()))
def test_the_shipped_voices_are_clean(name: str) -> None:
    assert find_noise(speech(name)) == []


@pytest.mark.parametrize("snr", [-10.0, 0.0])
@pytest.mark.parametrize("name", ["reader-f", "reader-m", "rms"])
def test_a_burst_is_found_where_it_is(name: str, snr: float) -> None:
    found = find_noise(with_burst(speech(name), 1.0, 1.8, snr))
    assert len(found) == 1
    assert found[0] == (pytest.approx(1.0, abs=0.08), pytest.approx(1.8, abs=0.08))


def test_level_rate_and_channels_do_not_matter() -> None:
    noisy = with_burst(speech(), 1.0, 1.8, -10.0)
    wide = resample(Audio(noisy.samples * np.float32(0.05), RATE), 44_100)
    stereo = Audio(np.stack([wide.samples, wide.samples], axis=1), 44_100)
    assert np.allclose(find_noise(stereo), find_noise(noisy), atol=0.05)


def test_steady_noise_is_not_transient() -> None:
    clean = speech()
    assert find_noise(with_burst(clean, 0.0, clean.seconds, 20.0)) == []


def test_a_file_is_judged_like_its_sound(tmp_path: Path) -> None:
    audio = Audio(np.tile(speech("reader-m").samples, 8), RATE)
    write(tmp_path / "a.wav", audio, "FLOAT")
    finder = untrained()
    assert np.array_equal(finder.probabilities(Recording.open(tmp_path / "a.wav")), finder.probabilities(audio))


def test_a_burst_far_into_a_long_recording_is_found_there_alone() -> None:
    once = speech("reader-m")
    audio = Audio(np.tile(once.samples, 8), RATE)
    found = find_noise(with_burst(audio, 33.3, 33.9, -10.0))
    assert found == [(pytest.approx(33.3, abs=0.08), pytest.approx(33.9, abs=0.08))]


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    finder = untrained()
    checkpoint.save(tmp_path / "n", kind=KIND, config=finder.config, state=finder.network.state_dict())
    again = NoiseFinder.load(tmp_path / "n")
    audio = speech()
    assert again.config == finder.config
    assert np.array_equal(again.probabilities(audio), finder.probabilities(audio))


def test_another_kind_of_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "n", kind="vocos", config={}, state={"x": torch.zeros(1)})
    with pytest.raises(UserError, match="kind vocos; finding noise needs one of kind noise"):
        NoiseFinder.load(tmp_path / "n")
