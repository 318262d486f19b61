"""Distances of log-mels: computed directly, published values, orders that anybody would agree with."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from flowtts.audio.io import read
from flowtts.audio.mel import LogMel, mel_edges
from flowtts.eval.mel_distance import SIGHT, _decibels, nsim
from flowtts.eval.metrics import load
from flowtts.types import Audio, Item, Samples

CLEAN = read(Path(__file__).parent / "assets" / "captain_rms.flac")
NAMES = ("mel", "mel-dac", "nsim")


def at(snr: float, audio: Audio = CLEAN) -> Audio:
    """With white noise so many dB below it."""
    noise = np.random.default_rng(0).standard_normal(len(audio.samples))
    level = math.sqrt(float(np.mean(np.square(audio.samples, dtype=np.float64)))) * 10 ** (-snr / 20)
    return Audio((audio.samples + level * noise).astype(np.float32), audio.sample_rate)


def louder(audio: Audio, decibels: float) -> Audio:
    return Audio((audio.samples * 10 ** (decibels / 20)).astype(np.float32), audio.sample_rate)


def values(name: str, *made: Audio) -> list[float]:
    return list(load(name)([Item(audio, "", reference=CLEAN) for audio in made]).items.values())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_changed_is_perfect_and_more_noise_is_worse(name: str) -> None:
    same, *noisy = values(name, CLEAN, at(20), at(10), at(0))
    perfect = 1.0 if name == "nsim" else 0.0
    assert same == pytest.approx(perfect, abs=1e-9)
    worse = sorted(noisy, reverse=name == "nsim")
    assert noisy == worse and len(set(noisy)) == 3 and same != noisy[0]


def test_levels_count_for_distances_and_not_for_similarity() -> None:
    # Half the level is log10 2 at every scale, wherever both are above the floor.
    noise = Audio(np.random.default_rng(1).standard_normal(16_000).astype("f4") * np.float32(0.1), 16_000)
    found = load("mel-dac")([Item(louder(noise, -20 * math.log10(2)), "", reference=noise)])
    assert found.value == pytest.approx(7 * math.log10(2), rel=1e-3)
    plain, soft, loud = values("nsim", at(10), louder(at(10), -12), louder(at(10), 12))
    assert soft == pytest.approx(plain, abs=1e-4) and loud == pytest.approx(plain, abs=1e-4)
    assert values("nsim", louder(CLEAN, -6)) == [pytest.approx(1, abs=1e-4)]


def direct(samples: Samples, size: int, bands: int) -> np.ndarray:
    """A log10 mel as DAC's loss has it, frame by frame."""
    librosa = pytest.importorskip("librosa")
    bank = librosa.filters.mel(sr=16_000, n_fft=size, n_mels=bands, fmin=0.0, fmax=8000.0)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    padded = np.pad(samples.astype(np.float64), size // 2, mode="reflect")
    starts = range(0, len(padded) - size + 1, size // 4)
    frames = np.stack([padded[start : start + size] * window for start in starts])
    return np.log10(np.maximum(np.abs(np.fft.rfft(frames)) @ bank.T, 1e-5))


@pytest.mark.filterwarnings("ignore:Empty filters")
def test_the_distance_of_dac_computed_directly() -> None:
    made = at(15)
    wanted = 0.0
    for size, bands in ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320)):
        wanted += np.abs(direct(made.samples, size, bands) - direct(CLEAN.samples, size, bands)).mean()
    assert values("mel-dac", made) == [pytest.approx(wanted, rel=1e-4)]


def test_similarity_of_patches_is_as_the_published_program_has_it() -> None:
    # tests/neurogram_similiarity_index_measure_test of ViSQOL 3: a patch of one frame and three bands against silence.
    reference = torch.tensor([[[1.0], [0.0], [0.0]]], dtype=torch.float64)
    found = nsim(reference, torch.zeros_like(reference))[0]
    assert found.tolist() == pytest.approx([0.000125225, 0.00875062, 1.0], abs=1e-7)


def test_similarity_of_patches_written_out() -> None:
    rng = np.random.default_rng(3)
    a, b = 40 * rng.random((2, 4, 5))
    g = np.array([[0.0113033910173052, 0.0838251475442633], [0.0838251475442633, 0.619485845753726]])
    wanted = np.zeros(4)
    for i in range(4):
        for j in range(5):
            cells = [
                (g[int(k == 0), int(m == 0)], min(max(i + k, 0), 3), min(max(j + m, 0), 4))
                for k in (-1, 0, 1) for m in (-1, 0, 1)
            ]  # fmt: skip
            ra, rb = (sum(w * x[k, m] for w, k, m in cells) for x in (a, b))
            va, vb = (sum(w * x[k, m] ** 2 for w, k, m in cells) - mean**2 for x, mean in ((a, ra), (b, rb)))
            both = sum(w * a[k, m] * b[k, m] for w, k, m in cells) - ra * rb
            intensity = (2 * ra * rb + 1e-4) / (ra**2 + rb**2 + 1e-4)
            wanted[i] += intensity * (both + 4.5e-4) / (math.sqrt(va * vb) + 4.5e-4) / 5
    found = nsim(torch.from_numpy(a)[None], torch.from_numpy(b)[None])[0]
    assert found.tolist() == pytest.approx(wanted.tolist(), rel=1e-9)


def test_bands_are_seen_as_loud_as_they_are() -> None:
    # Noise of -20 dB in all: the mean squares of triangles that overlap by half add up to it, from 50 Hz on.
    noise = np.random.default_rng(0).standard_normal(64_000).astype("f4") * np.float32(0.1)
    seen = _decibels(LogMel(SIGHT), noise)
    assert 10 * math.log10(float((10 ** (seen / 10)).sum(1).mean())) == pytest.approx(-20, abs=0.3)
    # A full sine on the peak of a band is -3 dB, and what is silent is at the floor.
    hertz = float(mel_edges(SIGHT)[21])
    sine = np.sin(2 * np.pi * hertz * np.arange(32_000) / 16_000).astype("f4")
    assert float(_decibels(LogMel(SIGHT), sine).amax(1).median()) == pytest.approx(-3.01, abs=0.3)
    assert float(_decibels(LogMel(SIGHT), np.zeros(32_000, "f4")).max()) == -45


def test_pauses_do_not_count() -> None:
    # Half a second of nothing, which is the same in both, makes noisy speech no more similar.
    pause = np.zeros(32_000, "f4")
    longer = [Audio(np.concatenate([audio.samples, pause]), 16_000) for audio in (at(10), CLEAN)]
    padded = load("nsim")([Item(longer[0], "", reference=longer[1])])
    assert padded.value == pytest.approx(values("nsim", at(10))[0], abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_judged_is_dropped(name: str) -> None:
    short = Audio(CLEAN.samples[:-8000], 16_000)
    items = [Item(CLEAN, "", id="alone"), Item(short, "", reference=CLEAN, id="short")]
    dropped = load(name)(items).dropped
    assert dropped["alone"] == "it has no reference" and "same timing" in dropped["short"]


def test_similarity_needs_a_patch() -> None:
    scrap = Audio(CLEAN.samples[8000:14_000], 16_000)
    assert load("nsim")([Item(scrap, "", reference=scrap, id="a")]).dropped == {"a": "NSIM judges at least 0.4 s"}
