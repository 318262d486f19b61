"""The verbs with everything real behind them: the shipped models and voices."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from flowtts import cli, voice

TEXT = "She kept 2 letters."
FAST = ("--steps", "2", "--solver", "euler")
Json = Callable[..., dict[str, Any]]


@pytest.fixture
def flowtts_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Json:
    """Runs a verb with --json in an empty folder; returns the one object it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> dict[str, Any]:
        status = cli.main([*words, "--json"])
        out, err = capsys.readouterr()
        assert status == 0, err
        assert out.count("\n") == 1
        found: dict[str, Any] = json.loads(out)
        return found

    return run


def test_say_says_what_it_made(flowtts_json: Json) -> None:
    found = flowtts_json("say", TEXT, *FAST, "--voice", "slt", "--seed", "3", "-o", "new/a.wav")
    samples, rate = soundfile.read("new/a.wav")
    assert (found["audio"], found["sample_rate"]) == (str(Path("new/a.wav")), rate)
    assert found["seconds"] == pytest.approx(len(samples) / rate, abs=1e-3)
    assert found["normalised"] == "She kept two letters."
    assert [word["text"] for word in found["words"]] == ["She", "kept", "two", "letters"]
    starts = [word["start"] for word in found["words"]]
    assert starts == sorted(starts) and found["words"][-1]["end"] <= found["seconds"]
    assert found["phones"] and found["model"] == "voicebox" and found["solver"] == "euler"
    assert (found["seed"], found["nfe"], found["network_calls"]) == (3, 2, 4)
    assert found["rtf"] > 0 and found["candidates"] == [{"seed": 3, "scores": {}}]
    sidecar = json.loads(Path("new/a.json").read_text(encoding="utf-8"))
    assert {key: sidecar[key] for key in found} == found


def test_a_dry_run_says_the_same_and_writes_nothing(flowtts_json: Json) -> None:
    found = flowtts_json("say", TEXT, "--voice", "slt", "--dry-run")
    assert list(Path().iterdir()) == []
    assert "audio" not in found
    assert found["normalised"] == "She kept two letters." and len(found["words"]) == 4
    assert {"seconds", "phones", "model", "seed", "solver"} <= set(found)


def test_replay_makes_the_same_bytes(flowtts_json: Json) -> None:
    flowtts_json("say", TEXT, *FAST, "--voice", "slt", "-o", "a.wav")
    before = Path("a.wav").read_bytes()
    again = flowtts_json("replay", "a.json")
    assert again["identical"] is True
    assert Path(again["audio"]).name == "a.replay.wav" and Path("a.replay.wav").read_bytes() == before
    Path("a.wav").unlink()
    assert flowtts_json("replay", "a.json")["identical"] is None
    assert Path("a.wav").read_bytes() == before


def test_lines_become_numbered_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("Good morning.\n\nGood night.\n", encoding="utf-8")
    words = ["say", "--lines", "lines.txt", "-o", "out", "--voice", "slt", "--no-sidecar", *FAST]
    assert cli.main([*words, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["audio"]).name for line in found] == ["0001.wav", "0003.wav"]
    assert [line["normalised"] for line in found] == ["Good morning.", "Good night."]
    assert sorted(path.name for path in Path("out").iterdir()) == ["0001.wav", "0003.wav"]


def test_text_from_standard_input_and_words_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Good\nmorning.\n")))
    assert cli.main(["say", "-", "--voice", "slt", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert "morning" in out and "phones:" in out and err == ""


def test_align_finds_the_words(flowtts_json: Json) -> None:
    path = voice.shipped()["slt"]
    text = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
    found = flowtts_json("align", str(path), "--text", text, "-o", "new/words.srt")
    assert [word["text"] for word in found["words"]][:3] == ["She", "kept", "the"]
    assert all(word["start"] < word["end"] and 0 <= word["confidence"] <= 1 for word in found["words"])
    assert found["phones"][-1]["end"] == pytest.approx(found["seconds"], abs=1e-3)
    assert "She kept the letters" in Path("new/words.srt").read_text(encoding="utf-8")


@pytest.mark.parametrize("vocoder", ["vocos", "griffin-lim"])
def test_vocode_copies_a_recording(flowtts_json: Json, vocoder: str) -> None:
    path = voice.shipped()["slt"]
    found = flowtts_json("vocode", str(path), "--vocoder", vocoder, "-o", "copy.wav")
    original, copy = soundfile.read(path)[0], soundfile.read("copy.wav")[0]
    assert (len(copy), found["sample_rate"]) == (len(original), 16_000)

    # Loud where the recording is loud: correlation of the energies of 20 ms.
    def energy(x: np.ndarray) -> np.ndarray:
        return np.log(np.square(x[: len(x) // 320 * 320]).reshape(-1, 320).mean(1) + 1e-6)

    assert np.corrcoef(energy(original), energy(copy))[0, 1] > 0.95


def test_evaluate_judges_a_recording(flowtts_json: Json) -> None:
    path = voice.shipped()["slt"]
    text = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
    Path("set.tsv").write_text(f"audio\ttext\tprompt\n{path}\t{text}\t{path}\n", encoding="utf-8")
    found = flowtts_json("evaluate", "set.tsv", "--metrics", "wer,sim", "-o", "scores.json")
    assert (found["items"], found["dropped"]) == (1, 0)
    assert list(found["metrics"]) == ["wer", "sim"]
    assert found["metrics"]["wer"]["value"] < 0.5
    assert found["metrics"]["sim"]["value"] == pytest.approx(1.0, abs=1e-3)
    for score in found["metrics"].values():
        assert {"value", "low", "high", "backend", "sample_rate", "count"} <= set(score)
    assert json.loads(Path("scores.json").read_text(encoding="utf-8")) == found


def test_models_lists_what_is_shipped(flowtts_json: Json) -> None:
    found = flowtts_json("models")
    assert "voicebox" in [recipe["name"] for recipe in found["recipes"]]
    assert {"vocos", "griffin-lim"} <= {vocoder["name"] for vocoder in found["vocoders"]}
    assert {"wer", "sim"} <= set(found["metrics"])
    for entry in (*found["checkpoints"], *found["voices"]):
        assert entry["bytes"] > 0 and entry["licence"] and entry["description"], entry["name"]


def test_prepare_then_train_then_resume(flowtts_json: Json) -> None:
    path = voice.shipped()["slt"]
    text = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
    Path("table.tsv").write_text(f"audio\ttext\n{path}\t{text}\n", encoding="utf-8")
    report = flowtts_json("prepare", "table", "table.tsv", "corpus")
    assert (report["accepted"], report["rejected"]) == (1, 0)
    tiny = (
        "model.body={layers: 2, heads: 2, width: 16, ffn: 32, position_kernel: 3, position_groups: 2}",
        "model.text_width=8", "data.cache=null", "train.warmup=0", "train.minutes=null", "train.sample_every=0",
        "train.tensorboard=false", "train.precision=float32", "train.cpu=true",
    )  # fmt: skip
    words = ("train", "voicebox", "--data", report["cuts"], "--out", "run", *tiny)
    first = flowtts_json(*words, "train.steps=1")
    assert (first["step"], first["finished"]) == (1, True)
    assert cli.main([*words, "train.steps=2"]) == 2  # a run is there
    assert flowtts_json(*words, "train.steps=2", "--resume")["step"] == 2
