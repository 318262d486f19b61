"""Judges with weights of their own, on tiny random ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_judges
import torch

from flowtts.audio.io import read
from flowtts.compat import require
from flowtts.eval.metrics import load
from flowtts.types import Audio, Item, UserError

SAID = read(Path(__file__).parent / "assets" / "captain_slt.flac")
SOUND = Audio(SAID.samples[:32_000], 16_000)


def package(name: str, extra: str) -> object:
    try:
        return require(name, extra)
    except UserError as error:
        pytest.skip(str(error))


def test_whisper_runs_from_a_file(tmp_path: Path) -> None:
    package("whisper", "whisper")
    path = tiny_judges.whisper(tmp_path)
    metric = load(f"wer-whisper:{path}")
    first, second = (metric([Item(SOUND, "seven lanterns")]) for _ in range(2))
    assert first.count == 1
    assert first.value > 0
    assert first.items == second.items
    assert "tiny" in first.backend


def test_whisper_is_never_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package("whisper", "whisper")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"whisper/large-v3\.pt: no such Whisper checkpoint"):
        load("wer-whisper:large")
    (tmp_path / "bad.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"bad\.pt: is no Whisper checkpoint"):
        load(f"wer-whisper:{tmp_path / 'bad.pt'}")([Item(SOUND, "seven")])


def test_hubert_decodes_greedily_from_a_folder(tmp_path: Path) -> None:
    package("transformers", "hf")
    tiny_judges.hubert(tmp_path)
    found = load(f"wer-hubert:{tmp_path}")([Item(SOUND, "a", id="right"), Item(SOUND, "seven a", id="half")])
    assert found.items == {"right": 0.0, "half": 0.5}
    assert str(tmp_path) in found.backend


def test_wavlm_compares_voices_from_a_folder(tmp_path: Path) -> None:
    package("transformers", "hf")
    tiny_judges.wavlm(tmp_path)
    noise = Audio(torch.randn(32_000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1, 16_000)
    found = load(f"sim-wavlm:{tmp_path}")([Item(SOUND, "", prompt=SOUND, id="same"), Item(SOUND, "", prompt=noise)])
    assert found.items["same"] == pytest.approx(1, abs=1e-5)
    assert found.items["#2"] < 0.9999


@pytest.mark.parametrize("name", ["wer-hubert", "sim-wavlm"])
def test_absent_models_are_named_and_not_fetched(name: str, tmp_path: Path) -> None:
    package("transformers", "hf")
    with pytest.raises(UserError, match="no complete model on this machine"):
        load(f"{name}:{tmp_path}")([Item(SOUND, "a", prompt=SOUND)])
