"""``flowtts bench`` from the command line, with the shipped model at very few steps, and every mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flowtts import cli
from flowtts.bench import measure

FEW = ("--voice", "slt", "--sentences", "s.tsv", "--reference", "solver=euler", "--reference", "steps=3")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWTTS_DEBUG", raising=False)
    for name, text in {
        "s.tsv": "id\ttext\na\tGood morning.\n", "bad.tsv": "id\twords\n", "odd.tsv": "id\ttext\na\t日本語\n",
        "plan.yaml": "settings: [{solver: euler, steps: [1, 2]}]\n", "typo.yaml": "settings: [{slover: euler}]\n",
        "a_file": "", "text.wav": "no sound",
    }.items():  # fmt: skip
        Path(name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def flowtts_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def run(*words: str) -> dict[str, Any]:
        assert cli.main(["bench", *words, "--json"]) == 0
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        found: dict[str, Any] = json.loads(out)
        return found

    return run


def test_a_dry_run_counts_and_writes_nothing(folder: Path, flowtts_json: Callable[..., dict[str, Any]]) -> None:
    before = sorted(folder.iterdir())
    words = (
        "--solver",
        "euler",
        "--solver",
        "rk4",
        "--grid",
        "uniform",
        "--steps",
        "2",
        "--steps",
        "4",
        "--guidance",
        "1",
    )
    found = flowtts_json(*words, "--guidance", "2", *FEW, "-o", "out", "--dry-run")
    calls = {row["name"]: row["network_calls"] for row in found["settings"]}
    assert len(calls) == 8 + 2 and sum(row["reference"] for row in found["settings"]) == 2
    assert calls["voicebox-rk4-uniform-4-g1.0"] == 16 and calls["voicebox-rk4-uniform-4-g2.0"] == 32
    assert (found["utterances"], found["network_calls"]) == (1, 2 * sum(calls.values()))
    assert sorted(folder.iterdir()) == before


def test_it_measures_and_continues(folder: Path, flowtts_json: Callable[..., dict[str, Any]]) -> None:
    pytest.importorskip("jiwer")
    words = ("--plan", "plan.yaml", "--metrics", "wer-closed", *FEW, "-o", "out")
    found = flowtts_json(*words)
    assert json.loads(Path("out/bench.json").read_text(encoding="utf-8")) == found
    assert [(row["solver"], row["steps"], row["reference"]) for row in found["rows"]] == [
        ("euler", 3, True), ("euler", 1, False), ("euler", 2, False)
    ]  # fmt: skip
    # Another solver of the same trajectory comes nearer with every step.
    far = [row["mel"]["value"] for row in found["rows"][1:]]
    assert far[0] > far[1] > 0
    assert [row["network_calls"] / row["nfe"] for row in found["rows"]] == [2, 2, 2]
    assert all(row["metrics"]["wer-closed"]["value"] >= 0 for row in found["rows"])
    recordings = {path: path.stat().st_mtime_ns for path in Path("out/audio").rglob("*.flac")}
    assert len(recordings) == 3
    assert flowtts_json(*words) == found
    assert {path: path.stat().st_mtime_ns for path in recordings} == recordings


def test_people_get_a_table_and_a_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jiwer")
    words = ["bench", "--solver", "euler", "--steps", "2", "--metrics", "wer-closed", *FEW, "-o", "out"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "euler (reference)" in out and "wer-closed within 1 point" in out
    assert "4 calls" in err


def test_if_nothing_works_the_status_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("it is raining")

    monkeypatch.setattr(measure.Measurement, "_measure", broken)
    assert cli.main(["bench", "--steps", "2", *FEW, "--metrics", "mel", "-o", "out", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["error"] for row in rows} == {"RuntimeError: it is raining"}


WRONG: list[tuple[tuple[str, ...], str]] = [
    ((), "-o FOLDER"),
    (("-o", "a_file"), "a_file"),
    (("-o", "out", "--steps", "0"), "--steps"),
    (("-o", "out", "--steps", "some"), "--steps"),
    (("-o", "out", "--solver", "eulr"), "eulr"),
    (("-o", "out", "--grid", "unifrom"), "unifrom"),
    (("-o", "out", "--grid", "gone.json"), "gone.json"),
    (("-o", "out", "--guidance", "strong"), "--guidance"),
    (("-o", "out", "--guidance", "nan"), "--guidance"),
    (("-o", "out", "--guidance", "1000"), "guidance"),
    (("-o", "out", "--model", "voicebxo"), "voicebxo"),
    (("-o", "out", "--vocoder", "vocso"), "vocso"),
    (("-o", "out", "--voice", "gone.wav"), "gone.wav"),
    (("-o", "out", "--voice", "text.wav"), "text.wav"),
    (("-o", "out", "--device", "gpu9"), "gpu9"),
    (("-o", "out", "--metrics", ","), "--metrics"),
    (("-o", "out", "--metrics", "wre"), "wre"),
    (("-o", "out", "--jobs", "0"), "--jobs"),
    (("-o", "out", "--count", "0"), "--count"),
    (("-o", "out", "--count", "41"), "--count"),
    (("-o", "out", "--sentences", "gone.tsv"), "gone.tsv"),
    (("-o", "out", "--sentences", "bad.tsv"), "bad.tsv"),
    (("-o", "out", "--sentences", "odd.tsv"), "sentence a"),
    (("-o", "out", "--plan", "gone.yaml"), "gone.yaml"),
    (("-o", "out", "--plan", "typo.yaml"), "slover"),
    (("-o", "out", "--reference", "64"), "KEY=VALUE"),
    (("-o", "out", "--reference", "stesp=64"), "stesp"),
    (("-o", "out", "--reference", "solver=rk5"), "rk5"),
    (("-o", "out", "--fit-grid", "grid.txt"), ".txt"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words) or "nothing" for words, _ in WRONG])
def test_mistakes_are_one_line_and_leave_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    before = sorted(folder.rglob("*"))
    assert cli.main(["bench", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("flowtts: ") and err.count("\n") == 1 and said in err, err
    assert sorted(folder.rglob("*")) == before


def test_tune_times_the_engines_and_keeps_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowtts.bench.engines import tune_engines
    from flowtts.engine import choose_engine
    from flowtts.registry import load_recipe
    from flowtts.tuning import measurements

    monkeypatch.setenv("FLOWTTS_CACHE", str(tmp_path))
    found = tune_engines("voicebox", "cpu", ("bf16", "warp"), seconds=0.6, rounds=1)
    assert set(found.engines) == {"eager", "bf16"} and "warp" in found.refused["warp"]
    assert found.engines["eager"].error == 0 < found.engines["bf16"].error
    assert found.file.is_file() and len(measurements()) == 1
    recipe = load_recipe("voicebox")
    assert choose_engine("auto", recipe.audio, torch.device("cpu")).name == found.chosen  # type: ignore[attr-defined]
