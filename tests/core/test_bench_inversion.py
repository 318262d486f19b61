"""The benchmark of inversion: what it does to recordings, and how it ranks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowtts.types import Audio, Phone

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import inversion

PHONES = tuple(Phone(s, w, 0, 1) for s, w in (("SIL", -1), ("A", 0), ("B", 0), ("SIL", -1), ("C", 1), ("D", 1)))


def tone() -> Audio:
    return Audio(np.sin(np.arange(16_000) * 0.3).astype(np.float32), 16_000)


def recording(phones: tuple[Phone, ...] = PHONES) -> inversion.Recording:
    return inversion.Recording("r", tone(), phones, torch.tensor([10, 20, 20, 10, 20, 20]))


def test_noise_has_the_asked_level() -> None:
    for decibels in (20, 0):
        rng = np.random.default_rng(0)
        noise = inversion.noisy(tone(), decibels, rng).samples - tone().samples
        ratio = 10 * np.log10(np.mean(tone().samples ** 2) / np.mean(noise**2))
        assert abs(ratio - decibels) < 0.01


def test_the_asked_share_is_clipped() -> None:
    made = inversion.clipped(tone(), 0.2).samples
    assert abs(float(np.mean(np.abs(made) == np.abs(made).max())) - 0.2) < 0.01
    assert np.abs(made).max() < np.abs(tone().samples).max()


def test_pauses_stay_and_sounds_move() -> None:
    mixed = [p.symbol for p in inversion.shuffled(PHONES, np.random.default_rng(1))]
    assert mixed != [p.symbol for p in PHONES] and sorted(mixed) == sorted(p.symbol for p in PHONES)
    assert mixed[0] == mixed[3] == "SIL"
    other = (Phone("X", 0, 0, 1), Phone("SIL", -1, 1, 1), Phone("Y", 1, 1, 2), Phone("Z", 1, 1, 2))
    assert [p.symbol for p in inversion.respelled(PHONES, other)] == ["SIL", "X", "Y", "SIL", "Z", "X"]


def test_variants_change_one_thing_each() -> None:
    other = recording(tuple(Phone(s, 0, 0, 1) for s in "XYZXYZ"))
    made = inversion.variants(recording(), other, 0)
    for name, variant in made.items():
        sound = not np.array_equal(variant.audio.samples, tone().samples)
        assert sound == name.startswith(("noise", "clipped")), name
        assert (variant.phones != PHONES) == (name in ("phones shuffled", "another text")), name
        assert torch.equal(variant.durations, recording().durations)


def test_known_frames_are_noised_as_in_training() -> None:
    seen: list[Tensor] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        seen.append(x)
        return x

    features, unknown = torch.ones(1, 4, 2), torch.tensor([[False, False, True, True]])
    given = inversion.held(field, features, unknown, torch.Generator().manual_seed(0))
    x = torch.full((1, 4, 2), 7.0)
    for t in (0.0, 0.5, 1.0):
        given(torch.tensor(t, dtype=torch.float64), x)
    assert all(torch.equal(at[:, 2:], x[:, 2:]) for at in seen)
    torch.testing.assert_close(seen[1][:, :2], (seen[0][:, :2] + seen[2][:, :2]) / 2)
    torch.testing.assert_close(seen[2][:, :2], features[:, :2], atol=1e-3, rtol=0)


def test_ranks_count_how_often_clean_is_above() -> None:
    values = {"clean": {"a": 1.0, "b": 2.0, "c": 3.0}, "worse": {"a": 0.5, "b": 1.0, "c": 3.5}}
    ranks = inversion.ranked(values)
    assert ranks["worse"]["above"] == 2 / 3 and ranks["clean"] == {"mean": 2.0}
    assert abs(ranks["worse"]["gap"]["value"] - 1 / 3) < 1e-3
    row = {"guidance": 1.0, "steps": 16, "solver": "rk4", "grid": "sway", "method": "reverse", "errors": [0.1, 0.2],
           "median": 0.15, "nfe": 128.0, "deviation": 1.0}  # fmt: skip
    lines = inversion.markdown({"trips": [row], "ranks": ranks}).splitlines()
    assert lines[2] == "| 1.000 | 16 | rk4 | sway | reverse | 128 | 1.5e-01 | 2.0e-01 | 1.000 |"
    assert lines[-1].startswith("| worse | 1.667 | 0.333 [") and lines[-1].endswith("| 0.667 |")
