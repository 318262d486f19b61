"""Known orderings: white noise 20, 10 and 0 dB below speech makes every recording worse, whoever judges.

Metrics with a file of tests of their own have theirs there (distortion, pitch, intelligibility, SI-SDR).
"""

from __future__ import annotations

import numpy as np
import pytest

from flowtts.audio.io import read
from flowtts.eval.metrics import load
from flowtts.types import Audio, Item
from flowtts.voice import shipped

RATIOS = (20, 10, 0)
NAMES = tuple(sorted(shipped()))


def noisy(audio: Audio, decibel: float) -> Audio:
    """With white noise at a ratio of speech to noise."""
    noise = np.random.default_rng(0).standard_normal(len(audio.samples))
    noise *= np.sqrt(np.mean(np.square(audio.samples)) / np.mean(np.square(noise)) / 10 ** (decibel / 10))
    return Audio((audio.samples + noise).clip(-1, 1).astype("f4"), audio.sample_rate)


def ladder(name: str, seconds: float) -> list[Item]:
    """A shipped voice and what noise makes of it, from good to bad."""
    whole = read(shipped()[name])
    clean = Audio(whole.samples[: round(seconds * whole.sample_rate)], whole.sample_rate)
    made = [clean, *(noisy(clean, ratio) for ratio in RATIOS)]
    return [Item(audio, "", reference=clean, prompt=clean, id=str(n)) for n, audio in enumerate(made)]


@pytest.mark.parametrize("metric", ["sim-o", "pesq", "mel", "dnsmos", "dnsmos:bak"])
def test_noise_ranks(metric: str) -> None:
    judge = load(metric)
    for name in NAMES:
        values = list(judge(ladder(name, 4.5)).items.values())
        assert values == sorted(values, reverse=judge.higher_is_better) and len(set(values)) == 4, name
