"""The parts of a splice by themselves: the transform, the cross-fade, and changes of length."""

from __future__ import annotations

import numpy as np
import pytest

from flowtts.edit import joint
from flowtts.edit.spectrum import Bands, Stft


def test_the_transform_is_undone_exactly() -> None:
    for rate in (8000, 16_000, 44_100):
        stft = Stft.at(rate)
        for length in (1, 7, stft.hop, stft.size, 10_001):
            sound = np.random.default_rng(0).standard_normal(length)
            spectrum = stft.analyse(sound)
            np.testing.assert_allclose(stft.synthesise(spectrum, length), sound, atol=1e-12)
            assert len(stft.centres(len(spectrum))) == len(spectrum)
        noise = np.abs(stft.valid(np.random.default_rng(0).standard_normal(200_000))) ** 2
        assert np.mean(noise) == pytest.approx(stft.noise_power, rel=0.02)
        bands = Bands.of(stft)
        np.testing.assert_allclose(bands.weights.sum(axis=0), 1)
        np.testing.assert_allclose(bands.curve(np.full(len(bands.centres), 3.0)), 3.0)


def test_a_crossfade_of_equal_sounds_changes_nothing() -> None:
    sound = np.random.default_rng(0).standard_normal((400, 2))
    np.testing.assert_allclose(joint.crossfade(sound, sound), sound, atol=1e-12)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_a_crossfade_keeps_the_power(correlation: float) -> None:
    rng, power = np.random.default_rng(0), np.zeros(200)
    for _ in range(400):
        one, other = rng.standard_normal((2, 200))
        mixed = correlation * one + np.sqrt(1 - correlation**2) * other
        power += joint.crossfade(one[:, None], mixed[:, None])[:, 0] ** 2 / 400
    np.testing.assert_allclose(power.reshape(10, 20).mean(axis=1), 1.0, atol=0.06)


@pytest.mark.parametrize("change", [-200, -31, 0, 1, 57, 300])
def test_length_is_made_up_in_the_quietest_place(change: int) -> None:
    sound = np.random.default_rng(0).standard_normal((4000, 2))
    sound[1900:2700] *= 1e-5
    made = joint.resize(sound, change, 500, 3500, 16_000)
    assert len(made) == 4000 + change
    np.testing.assert_array_equal(made[:1900], sound[:1900])
    np.testing.assert_array_equal(made[len(made) - 1300 :], sound[2700:])
    assert np.abs(made[1900 : 2700 + change]).max() < 1e-4


@pytest.mark.parametrize(("length", "change"), [(5, 20), (1, 3), (100, -100), (50, -80), (0, 0), (200, -199)])
def test_length_is_made_up_even_of_almost_nothing(length: int, change: int) -> None:
    made = joint.resize(np.ones((length, 1)), change, 0, length, 16_000)
    assert len(made) == max(0, length + change) and np.isfinite(made).all()
