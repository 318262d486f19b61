"""Short-time objective intelligibility and scale-invariant distortion against recordings of the same timing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flowtts.audio.io import read, resample
from flowtts.eval.sisdr import SiSdr, si_sdr
from flowtts.eval.stoi import Stoi
from flowtts.types import Audio, Item, Metric
from flowtts.voice import shipped

pystoi: Any = pytest.importorskip("pystoi")
signal: Any = pytest.importorskip("scipy.signal")

VOICES = {name: Audio(read(path).samples[: 3 * 16_000], 16_000) for name, path in shipped().items()}
CLEAN = VOICES["slt"]


def noisy(audio: Audio, decibel: float) -> Audio:
    """With white noise at a ratio of speech to noise."""
    noise = np.random.default_rng(0).standard_normal(len(audio.samples))
    noise *= np.sqrt(np.mean(np.square(audio.samples)) / np.mean(np.square(noise)) / 10 ** (decibel / 10))
    return Audio((audio.samples + noise).astype("f4"), audio.sample_rate)


def metrics() -> list[Metric]:
    return [Stoi(), Stoi(extended=True), SiSdr()]


@pytest.mark.parametrize("name", sorted(VOICES))
def test_noise_ranks(name: str) -> None:
    clean = VOICES[name]
    items = [Item(audio, "", reference=clean) for audio in (clean, *(noisy(clean, ratio) for ratio in (20, 10, 0)))]
    for metric in metrics():
        values = list(metric(items).items.values())
        assert values == sorted(values, reverse=True) and len(set(values)) == 4, metric.name


@pytest.mark.parametrize("extended", [False, True])
def test_pystoi_at_ten_kilohertz_says_the_same(extended: bool) -> None:
    for ratio in (10.0, 0.0):
        made = noisy(CLEAN, ratio)
        ten = [signal.resample_poly(audio.samples, 5, 8) for audio in (CLEAN, made)]
        expected = pystoi.stoi(*ten, 10_000, extended=extended)
        score = Stoi(extended=extended)([Item(made, "", reference=CLEAN)])
        assert score.value == pytest.approx(expected, abs=2e-3)
        assert score.sample_rate == 10_000 and score.backend.startswith("pystoi ")


def test_a_copy_is_perfect_at_any_level_and_rate() -> None:
    quiet = Audio(CLEAN.samples * np.float32(0.25), CLEAN.sample_rate)
    items = [Item(quiet, "", reference=CLEAN), Item(resample(CLEAN, 48_000), "", reference=CLEAN)]
    for metric in metrics()[:2]:
        assert metric(items).items == {"#1": pytest.approx(1, abs=1e-6), "#2": pytest.approx(1, abs=1e-3)}
    assert SiSdr()(items[:1]).value == 100


def test_estoi_is_repeatable_and_leaves_the_generator_alone() -> None:
    # Where what was made is digital silence, ESTOI correlates with noise that pystoi draws.
    samples = CLEAN.samples.copy()
    samples[20_000:40_000] = 0
    items = [Item(Audio(samples, 16_000), "", reference=CLEAN)]
    np.random.seed(1)
    values = {Stoi(extended=True)(items).value for _ in range(3)}
    after = np.random.random()
    np.random.seed(1)
    assert len(values) == 1
    assert after == np.random.random()


@pytest.mark.parametrize("ratio", [-20.0, 0.0, 3.0, 40.0])
def test_si_sdr_of_orthogonal_noise_is_the_ratio(ratio: float) -> None:
    rng = np.random.default_rng(0)
    speech = rng.standard_normal(16_000)
    noise = rng.standard_normal(16_000)
    noise -= speech * (speech @ noise) / (speech @ speech)
    noise *= np.sqrt(speech @ speech / (noise @ noise) / 10 ** (ratio / 10))
    for gain in (1.0, -0.01):
        made = (gain * (speech + noise)).astype("f4")
        assert si_sdr(made, speech.astype("f4")) == pytest.approx(ratio, abs=1e-3)


def test_si_sdr_is_always_a_number() -> None:
    sine, cosine = (f(np.arange(16_000) * 2 * np.pi / 160).astype("f4") for f in (np.sin, np.cos))
    assert si_sdr(sine, sine) == 100
    assert -100 <= si_sdr(cosine, sine) < -60
    assert si_sdr(np.zeros_like(sine), sine) == -100


def test_what_cannot_be_judged_is_dropped_with_the_reason(noise: Callable[[float, int], Audio]) -> None:
    silent = Audio(np.zeros_like(CLEAN.samples), 16_000)
    word = np.zeros(32_000, "f4")
    word[8000:12_000] = CLEAN.samples[16_000:20_000]
    broken = CLEAN.samples.copy()
    broken[100] = np.nan
    late = np.zeros(19_000, "f4")
    late[18_000:] = 0.1
    items = [
        Item(CLEAN, "", id="alone"),
        Item(Audio(CLEAN.samples[:-8000], 16_000), "", reference=CLEAN, id="timing"),
        Item(silent, "", reference=CLEAN, id="silent"),
        Item(CLEAN, "", reference=silent, id="nothing"),
        Item(Audio(broken, 16_000), "", reference=CLEAN, id="broken"),
        Item(Audio(np.zeros(0, "f4"), 16_000), "", reference=Audio(CLEAN.samples[:100], 16_000), id="empty"),
        Item(noise(1.0, 16_000), "", reference=Audio(late, 16_000), id="late"),
        Item(Audio(word, 16_000), "", reference=Audio(word, 16_000), id="word"),
        Item(noise(0.35, 16_000), "", reference=noise(0.35, 16_000), id="scrap"),
        Item(noisy(CLEAN, 10), "", reference=CLEAN, id="fine"),
    ]
    for metric in metrics():
        found = metric(items)
        assert found.dropped["alone"] == "it has no reference"
        assert "same timing" in found.dropped["timing"]
        assert found.dropped["silent"] == "the audio is silent"
        assert found.dropped["nothing"] == "the reference is silent"
        assert "NaN" in found.dropped["broken"]
        assert "shorter than 0.1 s" in found.dropped["empty"]
        assert "silent as long as" in found.dropped["late"]
        assert np.isfinite(list(found.items.values())).all()
        if metric.name == "si-sdr":
            assert list(found.items) == ["word", "scrap", "fine"]
        else:
            assert list(found.items) == ["fine"]
            assert "the reference has less" in found.dropped["word"]
            assert "at least 0.4 s" in found.dropped["scrap"]
