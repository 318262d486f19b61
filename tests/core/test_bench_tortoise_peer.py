"""The benchmark beside the public Tortoise: its sizes, its arithmetic, and that our half does the work it says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from flowtts.recipes.tortoise.recipe import Tortoise
from flowtts.text import Analysis

_BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, _BENCHMARKS)
peer = pytest.importorskip("tortoise_peer")
public = pytest.importorskip("parity_tortoise_peer")
timing = pytest.importorskip("peers_timing")
sys.path.remove(_BENCHMARKS)

CPU = torch.device("cpu")


def test_sizes_are_the_published_ones_and_scale() -> None:
    assert peer.sizes(30, 1024) == public.FULL
    half = peer.sizes(10, 512)
    assert half["clvp"] == {"dim": 384, "latent": 384, "depth": 6, "heads": 6, "codes": 8192}
    assert (half["diffusion"]["num_layers"], half["diffusion"]["num_heads"], half["ar"]["heads"]) == (3, 8, 8)
    for wrong in ((10, 500), (0, 512), (1, 32)):
        with pytest.raises(ValueError, match="multiple of 64"):
            peer.sizes(*wrong)


def test_a_ledger_goes_by_what_the_work_says() -> None:
    ledger, now = peer.Ledger(), [100.0]

    def work() -> int:
        now[0] += 3.0
        return 12

    assert ledger.measured(work, lambda: now[0], lambda: None) == 12 and ledger() == 3.0

    def elsewhere() -> int:
        now[0] += 50.0
        ledger.now += 6.0
        return 12

    ours = timing.Contestant("flowtts eager", lambda: ledger.measured(work, lambda: now[0], lambda: None))
    race = timing.Race("draw", [ours, timing.Contestant(peer.PEER, elsewhere)])
    for _ in range(3):
        race.turn(ledger)
    found = peer.results(race, {"flowtts eager": 0.1}, 4)
    mine, theirs = found["flowtts eager"], found[peer.PEER]
    assert mine["tokens_per_second"] == {"value": 4.0, "low": 4.0, "high": 4.0, "count": 3}
    assert theirs["tokens_per_second"]["value"] == 2.0 and mine["over tortoise-tts"]["value"] == 2.0
    # Four candidates share a step of a second, of which reading the weights takes a tenth.
    assert mine["of_floor"]["value"] == pytest.approx(0.1) and "of_floor" not in theirs
    shown = peer.markdown({"draw": found})
    assert "| draw | flowtts eager | 2.000 [2.000, 2.000] | 4.000 [4.000, 4.000] | 0.100 [0.100, 0.100] | – |" in shown


class Text:
    """Five symbols, whatever is said."""

    def __call__(self, analysis: Analysis) -> torch.Tensor:
        return torch.tensor([5, 4, 3, 2, 1])


@pytest.fixture(scope="module")
def parts() -> Any:
    return peer.our_parts(peer.sizes(1, 64), CPU, [str(number) for number in range(255)])


def test_ours_draws_all_codes_and_makes_sound_of_the_best(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = peer.Ours(Tortoise(parts, Text(), "eager"), peer.TEXT, 3, 2)
    assert ours.draw(7) == 21 and ours.decoder(6) == 1
    heard = []
    monkeypatch.setattr(ours._tts, "sound", lambda features, gain: heard.append(features))
    assert ours.whole(6) == 1
    # 6 codes of 1024 samples at 22.05 kHz in frames of 256 samples at 24 kHz.
    assert heard[0].shape == (6 * 4 * 24_000 // 22_050, 100) and bool(heard[0].isfinite().all())


def test_a_step_reads_the_transformer_and_the_head(parts: Any) -> None:
    width, codes = 64, 8194
    linear = 12 * width**2
    rest = (4 + 9) * width + 2 * width + 2 * width + codes * (width + 1)
    assert peer.bytes_of_step(parts.ar, "eager") == 4 * (linear + rest)
    assert peer.bytes_of_step(parts.ar, "half") == 2 * linear + 4 * rest
    assert peer.bytes_of_step(parts.ar, "bf16") == 2 * (linear + rest)
