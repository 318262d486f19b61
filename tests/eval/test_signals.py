"""Metrics against a reference of the same timing, and real-time factors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flowtts.audio.io import read
from flowtts.eval.judging import Context
from flowtts.eval.metrics import load
from flowtts.eval.rtf import RealTimeFactor, measure
from flowtts.types import Audio, Item, UserError

CLEAN = read(Path(__file__).parent / "assets" / "captain_rms.flac")


def noisy(amount: float) -> Audio:
    noise = np.random.default_rng(0).normal(0, amount, len(CLEAN.samples)).astype("f4")
    return Audio(CLEAN.samples + noise, 16_000)


def test_pesq_ranks_noise_and_knows_perfection() -> None:
    pytest.importorskip("pesq")
    items = [Item(audio, "", reference=CLEAN) for audio in (CLEAN, noisy(0.001), noisy(0.02))]
    perfect, good, bad = load("pesq")(items).items.values()
    assert perfect == pytest.approx(4.644, abs=1e-3)
    assert perfect > good > bad > 1


def test_pesq_drops_what_it_cannot_judge() -> None:
    pytest.importorskip("pesq")
    long = Audio(np.tile(CLEAN.samples, 16), 16_000)
    silent = Audio(np.zeros_like(CLEAN.samples), 16_000)
    # PESQ itself finds no utterance in so little.
    word = Audio(CLEAN.samples[8000:12_001], 16_000)
    items = [
        Item(CLEAN, "", id="alone"),
        Item(Audio(CLEAN.samples[:2000], 16_000), "", reference=CLEAN, id="scrap"),
        Item(long, "", reference=long, id="long"),
        Item(Audio(CLEAN.samples[:-8000], 16_000), "", reference=CLEAN, id="timing"),
        Item(silent, "", reference=CLEAN, id="silent"),
        Item(word, "", reference=word, id="word"),
        Item(noisy(0.01), "", reference=CLEAN, id="fine"),
    ]
    found = load("pesq")(items)
    assert list(found.items) == ["fine"]
    assert found.dropped["alone"] == "it has no reference"
    assert found.dropped["silent"] == "the audio is silent"
    assert "0.25 to 20 s" in found.dropped["scrap"]
    assert "0.25 to 20 s" in found.dropped["long"]
    assert "same timing" in found.dropped["timing"]
    assert found.dropped["word"].startswith("PESQ gave up: No utterances")


@pytest.mark.parametrize("beat", [0.4, 0.5, 0.6])
def test_pesq_survives_the_longest_recording_of_many_short_words(beat: float) -> None:
    pytest.importorskip("pesq")
    # More than 50 stretches of speech would end the process.
    samples = np.tile(CLEAN.samples, 5)[: 20 * 16_000]
    speaking = np.arange(len(samples)) / 16_000 % beat < beat / 2
    chopped = Audio(samples * speaking.astype("f4"), 16_000)
    assert load("pesq")([Item(chopped, "", reference=chopped)]).value > 4


def test_mel_distance_of_a_gain_is_that_gain() -> None:
    half = Audio(CLEAN.samples * np.float32(0.5), 16_000)
    items = [Item(CLEAN, "", reference=CLEAN, id="same"), Item(half, "", reference=CLEAN, id="half")]
    found = load("mel")([*items, Item(CLEAN, "", id="alone")])
    assert found.items["same"] == 0
    # Exactly 20 lg 2 dB wherever both are above the floor of the logarithm.
    assert found.items["half"] == pytest.approx(6.0206, abs=0.3)
    assert found.dropped == {"alone": "it has no reference"}


def test_rtf_is_total_over_total(noise: Callable[[float, int], Audio]) -> None:
    items = [Item(noise(seconds, 24_000), "", id=name) for name, seconds in (("a", 1.0), ("b", 3.0), ("c", 1.0))]
    found = load("rtf", Context(took={"a": 0.5, "b": 0.5}))(items)
    assert found.value == pytest.approx(0.25)
    assert found.items == {"a": pytest.approx(0.5), "b": pytest.approx(1 / 6)}
    assert found.weights == {"a": 1.0, "b": 3.0}
    assert found.dropped == {"c": "it has no timing"}
    assert found.sample_rate == 24_000
    with pytest.raises(UserError, match="took"):
        load("rtf")


def test_measuring_warms_up_and_times_each_item(noise: Callable[[float, int], Audio]) -> None:
    asked: list[str] = []

    def synthesise(item: Item) -> Audio:
        asked.append(item.text)
        return noise(2.0, 16_000)

    ticks = itertools.count(0.0, 0.5)
    items = [Item(noise(0.1, 16_000), text) for text in ("first", "second")]
    made, took = measure(synthesise, items, clock=lambda: next(ticks))
    assert asked == ["first", "first", "second"]
    assert took == {"#1": 0.5, "#2": 0.5}
    assert RealTimeFactor(took)(made).value == pytest.approx(0.25)
