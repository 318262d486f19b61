"""Mel-cepstra, dynamic time warping and mel-cepstral distortion against closed forms and naive implementations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flowtts.audio.io import read
from flowtts.eval import world as analysis
from flowtts.eval.mcd import MelCepstralDistortion
from flowtts.eval.pitch import PitchError
from flowtts.eval.world import VERSA, World, align, analyse, frequency_transform, mel_cepstra
from flowtts.types import Audio, Item
from flowtts.voice import shipped

pyworld: Any = pytest.importorskip("pyworld")
signal: Any = pytest.importorskip("scipy.signal")

Array = NDArray[np.float64]
VOICES = {name: Audio(read(path).samples[16_000:40_000], 16_000) for name, path in shipped().items()}
CLEAN = VOICES["slt"]


def noisy(audio: Audio, decibel: float) -> Audio:
    """With white noise at a ratio of speech to noise."""
    noise = np.random.default_rng(0).standard_normal(len(audio.samples))
    noise *= np.sqrt(np.mean(np.square(audio.samples)) / np.mean(np.square(noise)) / 10 ** (decibel / 10))
    return Audio((audio.samples + noise).astype("f4"), audio.sample_rate)


def naive_freqt(cepstrum: Array, order: int, alpha: float) -> Array:
    """The recursion of Oppenheim and Johnson, from the highest coefficient down; (M,) or (M, T)."""
    warped = np.zeros((order + 1, *cepstrum.shape[1:]))
    for coefficient in cepstrum[::-1]:
        before = warped.copy()
        warped[0] = coefficient + alpha * before[0]
        if order:
            warped[1] = (1 - alpha**2) * before[0] + alpha * before[1]
        for k in range(2, order + 1):
            warped[k] = before[k - 1] + alpha * (before[k] - warped[k - 1])
    return warped


def naive_dtw(made: Array, reference: Array) -> tuple[Array, list[tuple[int, int]]]:
    """Least total distance to every cell, and a path that reaches it."""
    total = np.full((len(made), len(reference)), np.inf)
    came: dict[tuple[int, int], tuple[int, int]] = {}
    for i in range(len(made)):
        for j in range(len(reference)):
            ways = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
            possible = [way for way in ways if min(way) >= 0]
            best = min(possible, key=lambda way: total[way]) if possible else None
            total[i, j] = np.sqrt(np.sum((made[i] - reference[j]) ** 2)) + (total[best] if best else 0)
            if best:
                came[i, j] = best
    path = [(len(made) - 1, len(reference) - 1)]
    while path[-1] in came:
        path.append(came[path[-1]])
    return total, path[::-1]


@pytest.mark.parametrize(("order", "alpha"), [(23, 0.42), (39, 0.466), (5, 0.0), (30, -0.3)])
def test_the_frequency_transform_is_the_recursion(order: int, alpha: float) -> None:
    cepstrum = np.random.default_rng(0).standard_normal(60)
    expected = naive_freqt(cepstrum, order, alpha)
    np.testing.assert_allclose(frequency_transform(60, order, alpha) @ cepstrum, expected, atol=1e-10)
    if alpha == 0:
        np.testing.assert_array_equal(expected, cepstrum[: order + 1])


def test_mel_cepstra_of_a_spectrum_that_is_smooth_on_the_warped_scale() -> None:
    # log |H| = sum of c_m cos(m w~) with the phase of the all-pass, w~ = w + 2 atan(a sin w / (1 - a cos w)).
    alpha = 0.42
    coefficients = np.random.default_rng(0).standard_normal((4, 24)) / (1 + np.arange(24))
    w = np.linspace(0, np.pi, 513)
    warped = w + 2 * np.arctan2(alpha * np.sin(w), 1 - alpha * np.cos(w))
    spectra = np.exp(2 * coefficients @ np.cos(np.arange(24)[:, None] * warped))
    np.testing.assert_allclose(mel_cepstra(spectra, 23, alpha), coefficients, atol=1e-9)


def test_mel_cepstra_are_those_of_sptk() -> None:
    pysptk: Any = pytest.importorskip("pysptk")
    spectra = np.exp(np.random.default_rng(0).standard_normal((3, 513)))
    np.testing.assert_allclose(mel_cepstra(spectra, 39, 0.466), pysptk.sp2mc(spectra, 39, 0.466), atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 6), (6, 1), (13, 20), (20, 13), (25, 25)])
def test_warping_finds_the_least_distance(rows: int, columns: int) -> None:
    rng = np.random.default_rng(rows)
    made, reference = rng.standard_normal((rows, 3)), rng.standard_normal((columns, 3))
    here, there = align(made, reference)
    assert (here[0], there[0], here[-1], there[-1]) == (0, 0, rows - 1, columns - 1)
    steps = set(zip(np.diff(here), np.diff(there), strict=True))
    assert steps <= {(1, 1), (1, 0), (0, 1)}
    distance = np.linalg.norm(made[here] - reference[there], axis=1).sum()
    assert distance == pytest.approx(naive_dtw(made, reference)[0][-1, -1])


def test_warping_undoes_frames_that_repeat() -> None:
    made = np.random.default_rng(0).standard_normal((30, 4))
    times = np.sort(np.random.default_rng(1).integers(0, 30, 50))
    times[[0, -1]] = 0, 29
    present, _ = np.unique(times, return_index=True)
    here, there = align(made[present], made[times])
    np.testing.assert_array_equal(present[here], times[there])


def test_the_definition_of_versa() -> None:
    def cepstra(samples: Array) -> Array:
        sound = signal.lfilter(signal.firwin(255, 70 / 8000, pass_zero=False), 1, samples * 32_767)
        f0, times = pyworld.harvest(sound, 16_000, f0_floor=40, f0_ceil=800, frame_period=5)
        spectra = pyworld.cheaptrick(sound, f0, times, 16_000, fft_size=1024)
        power = np.array([(np.sum(s) * 2 - s[0] - s[-1]) / 1024 for s in spectra])
        loud = 10 * np.log10(power / np.mean(power)) > -20
        cepstra = np.fft.irfft(np.log(spectra[loud])).T
        cepstra[0] /= 2
        return naive_freqt(cepstra[:513], 39, 0.466).T

    clean = CLEAN.samples[:6400]
    made = noisy(Audio(clean, 16_000), 15).samples[800:]
    sides = cepstra(made.astype("f8")), cepstra(clean.astype("f8"))
    _, path = naive_dtw(*sides)
    expected = np.mean([10 / np.log(10) * np.sqrt(2 * np.sum((sides[0][i] - sides[1][j]) ** 2)) for i, j in path])
    metric = MelCepstralDistortion(World(VERSA), name="mcd-versa")
    found = metric([Item(Audio(made, 16_000), "", reference=Audio(clean, 16_000))])
    assert found.value == pytest.approx(expected, rel=1e-6)
    assert "Harvest 40 to 800 Hz; c0 to c39" in found.backend


def test_a_gain_is_no_distortion_unless_c0_counts() -> None:
    short = Audio(CLEAN.samples[:8000], 16_000)
    half = Audio(short.samples * np.float32(0.5), 16_000)
    items = [Item(short, "", reference=short), Item(half, "", reference=short)]
    same, gain = MelCepstralDistortion(World())(items).items.values()
    assert same == 0
    assert gain == pytest.approx(0, abs=0.01)
    same, gain = MelCepstralDistortion(World(VERSA))(items).items.values()
    assert same == 0
    # 10 sqrt(2) / ln 10 times ln 2, the difference of c0; warping finds a little less.
    assert gain == pytest.approx(4.257, abs=0.3) and gain < 4.258


@pytest.mark.parametrize("name", sorted(VOICES))
def test_noise_ranks(name: str) -> None:
    clean = VOICES[name]
    items = [Item(audio, "", reference=clean) for audio in (clean, *(noisy(clean, ratio) for ratio in (20, 10, 0)))]
    values = list(MelCepstralDistortion(World())(items).items.values())
    assert values == sorted(values) and len(set(values)) == 4


def test_slower_speech_is_close_and_other_speech_is_not() -> None:
    sound = CLEAN.samples.astype("f8")
    f0, times = pyworld.dio(sound, 16_000)
    spectra = pyworld.cheaptrick(sound, f0, times, 16_000)
    breath = pyworld.d4c(sound, f0, times, 16_000)

    def spoken(frames: NDArray[Any]) -> Audio:
        at = np.round(frames).astype(int)
        made = pyworld.synthesize(f0[at], spectra[at], breath[at], 16_000)
        return Audio(made.astype("f4"), 16_000)

    last = len(f0) - 1
    plain, slow = spoken(np.arange(last)), spoken(np.arange(0, last, 0.7))
    other = Audio(CLEAN.samples[::-1].copy(), 16_000)
    items = [Item(audio, "", reference=plain) for audio in (slow, other)]
    stretched, reversed_ = MelCepstralDistortion(World())(items).items.values()
    assert slow.seconds > 1.4 * plain.seconds
    assert stretched < 2.5
    assert reversed_ > 4 * stretched


def test_metrics_share_one_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    analysed: list[int] = []

    def counting(samples: Any, settings: Any) -> analysis.Frames:
        analysed.append(len(samples))
        return analyse(samples, settings)

    monkeypatch.setattr(analysis, "analyse", counting)
    world = World()
    items = [Item(noisy(CLEAN, ratio), "", reference=CLEAN) for ratio in (20, 10)]
    MelCepstralDistortion(world)(items)
    PitchError("f0-rmse", world)(items)
    assert len(analysed) == 3


def test_what_cannot_be_judged_is_dropped_with_the_reason(noise: Callable[[float, int], Audio]) -> None:
    silent = Audio(np.zeros(16_000, "f4"), 16_000)
    broken = Audio(np.full(16_000, np.inf, "f4"), 16_000)
    pause = np.concatenate([np.zeros(8000, "f4"), CLEAN.samples[:8000], np.zeros(8000, "f4")])
    items = [
        Item(CLEAN, "", id="alone"),
        Item(Audio(np.zeros(0, "f4"), 16_000), "", reference=CLEAN, id="empty"),
        Item(silent, "", reference=CLEAN, id="silent"),
        Item(CLEAN, "", reference=silent, id="nothing"),
        Item(broken, "", reference=CLEAN, id="broken"),
        Item(noise(60.5, 8000), "", reference=CLEAN, id="long"),
        Item(noise(0.1, 16_000), "", reference=CLEAN, id="scrap"),
        Item(Audio(pause, 16_000), "", reference=Audio(CLEAN.samples[:8000], 16_000), id="pause"),
    ]
    found = MelCepstralDistortion(World())(items)
    assert found.dropped == {
        "alone": "it has no reference",
        "empty": "the audio is shorter than 0.1 s",
        "silent": "the audio is silent",
        "nothing": "the reference is silent",
        "broken": "the audio holds NaN or infinite samples",
        "long": "the audio lasts 60.5 s; at most 60 s can be aligned",
    }
    assert list(found.items) == ["scrap", "pause"]
    assert np.isfinite(list(found.items.values())).all()
    assert found.items["pause"] < 1 < found.items["scrap"]
    assert found.count == 2 and np.isfinite(found.value)
    assert np.isnan(MelCepstralDistortion(World())(items[:1]).value)
