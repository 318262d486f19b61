"""The verbs that change recordings, with everything real behind them: the shipped model and a shipped voice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from flowtts import cli, pipeline, voice

FAST = ("--steps", "1", "--solver", "euler")
Json = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def load() -> Callable[..., pipeline.Pipeline]:
    """``flowtts.load`` that loads the same parts only once."""
    return lru_cache(maxsize=None)(pipeline.load)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[..., pipeline.Pipeline]) -> Path:
    """The current folder: ``in.wav``, what it says in ``in.txt``, and files that are no recordings of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWTTS_DEBUG", raising=False)
    monkeypatch.setattr(pipeline, "load", load)
    path = voice.shipped()["slt"]
    samples, rate = soundfile.read(path, dtype="int16")
    soundfile.write("in.wav", samples, rate)
    Path("in.txt").write_bytes(path.with_suffix(".txt").read_bytes())
    soundfile.write("silent.wav", np.zeros(32_000), 16_000)
    soundfile.write("empty.wav", np.zeros(0), 16_000)
    soundfile.write("tiny.wav", np.zeros(160), 16_000)
    soundfile.write("nan.wav", np.full(32_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    Path("text.wav").write_bytes(b"this is no sound")
    Path("cut.wav").write_bytes(Path("in.wav").read_bytes()[:30])
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Json:
    """Runs a verb with --json; returns the objects that it printed."""

    def call(*words: str) -> list[dict[str, Any]]:
        status = cli.main([*words, "--json"])
        out, err = capsys.readouterr()
        assert status == 0, err
        return [json.loads(line) for line in out.splitlines()]

    return call


def said() -> str:
    return Path("in.txt").read_text(encoding="utf-8").strip()


def same_outside(found: dict[str, Any]) -> None:
    """Every sample outside the spans is that of ``in.wav``, bit for bit."""
    before, rate = soundfile.read("in.wav", dtype="int16")
    after, rate_after = soundfile.read(found["audio"], dtype="int16")
    assert rate == rate_after == found["sample_rate"]
    assert found["seconds"] == pytest.approx(len(after) / rate, abs=1e-3)
    at, at_out = 0, 0
    for span in found["spans"]:
        start, start_out = span["start_sample"], span["start_out_sample"]
        assert start - at == start_out - at_out
        np.testing.assert_array_equal(before[at:start], after[at_out:start_out])
        at, at_out = span["end_sample"], span["end_out_sample"]
    np.testing.assert_array_equal(before[at:], after[at_out:])


def test_edit_changes_a_word_and_nothing_else(run: Json) -> None:
    first, second, *rest = said().split()
    wanted = " ".join([first, "found", *rest])
    (found,) = run("edit", "in.wav", "--text", said(), "--to", wanted, *FAST, "--words", "w.srt", "-o", "new/a.wav")
    assert found["audio"] == str(Path("new/a.wav"))
    assert {
        "sample_rate", "seconds", "normalised", "phones", "words", "model", "seed", "solver", "nfe", "network_calls",
        "rtf", "candidates", "spans",
    } <= set(found)  # fmt: skip
    (span,) = found["spans"]
    assert second in span["removed"] and "found" in span["inserted"]
    assert 0 < span["start"] < span["end"] < found["seconds"]
    same_outside(found)
    assert "found" in Path("w.srt").read_text(encoding="utf-8")
    assert [word["text"] for word in found["words"]][:2] == [first, "found"]
    assert json.loads(Path("new/a.json").read_text(encoding="utf-8"))["spans"] == found["spans"]


def test_fill_stays_in_its_span_and_keeps_the_length(run: Json) -> None:
    (found,) = run("fill", "in.wav", "--text-file", "in.txt", "--span", "0.6:0.9", *FAST)
    assert Path(found["audio"]).name == "in.filled.wav"
    same_outside(found)
    assert len(soundfile.read("in.filled.wav")[0]) == len(soundfile.read("in.wav")[0])


def test_denoise_in_given_spans(run: Json) -> None:
    (found,) = run("denoise", "in.wav", "--text", said(), "--span", "0.6:0.8", *FAST, "--no-sidecar")
    same_outside(found)
    assert len(found["spans"]) == 1 and not Path("in.denoised.json").exists()


def test_restyle_says_the_same_words(run: Json) -> None:
    (found,) = run("restyle", "in.wav", "--text", said(), "--style", "rms", *FAST)
    assert [word["text"].lower() for word in found["words"]] == [w.strip(".,?!").lower() for w in said().split()]
    assert Path("in.restyled.wav").exists() and Path("in.restyled.json").exists()


def test_continue_goes_on_behind_the_recording(run: Json) -> None:
    (found,) = run("continue", "in.wav", "--text", said(), "--then", "Then she slept.", *FAST)
    same_outside(found)
    assert [word["text"] for word in found["words"]][-3:] == ["Then", "she", "slept"]
    assert found["seconds"] > len(soundfile.read("in.wav")[0]) / found["sample_rate"]


@pytest.mark.parametrize("durations", ["regression", "flow"])
def test_sample_makes_different_recordings(run: Json, durations: str) -> None:
    found = run("sample", "Good morning.", "-n", "2", "-o", "out", "--durations", durations, *FAST)
    assert [Path(one["audio"]).name for one in found] == ["0001.wav", "0002.wav"]
    assert len({one["seed"] for one in found}) == 2
    assert Path("out/0001.wav").read_bytes() != Path("out/0002.wav").read_bytes()


def test_candidates_have_seeds_and_scores(run: Json) -> None:
    words = said().split()
    wanted = " ".join([words[0], "found", *words[2:]])
    (found,) = run(
        "edit", "in.wav", "--text", said(), "--to", wanted, *FAST, "--best-of", "2", "--rank", "boundary"
    )  # fmt: skip
    assert len({candidate["seed"] for candidate in found["candidates"]}) == 2
    assert all("boundary" in candidate["scores"] for candidate in found["candidates"])
    assert found["seed"] in [candidate["seed"] for candidate in found["candidates"]]


SPOKEN = "--text-file", "in.txt"
MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("edit", "text.wav", *SPOKEN, "--to", "hello"), "text.wav"),
    (("edit", "cut.wav", *SPOKEN, "--to", "hello"), "cut.wav"),
    (("edit", "empty.wav", *SPOKEN, "--to", "hello"), "empty.wav"),
    (("edit", "tiny.wav", *SPOKEN, "--to", "hello"), ""),
    (("edit", "silent.wav", *SPOKEN, "--to", "hello"), ""),
    (("edit", "nan.wav", *SPOKEN, "--to", "hello"), "nan.wav"),
    (("edit", "in.wav", *SPOKEN, "--to", "日本語"), ""),
    (("edit", "in.wav", "--text", "日本語", "--to", "hello"), ""),
    (("edit", "in.wav", *SPOKEN, "--to", "..."), ""),
    (("edit", "in.wav", "--text", "a transcript of something else altogether", "--to", "a transcript"), "transcript"),
    (("edit", "in.wav", *SPOKEN, "--to", "hello", "--model", "voicebxo"), "voicebxo"),
    (("edit", "in.wav", *SPOKEN, "--to", "hello", "--vocoder", "vocso"), "vocso"),
    (("edit", "in.wav", *SPOKEN, "--to", "hello", "--solver", "eulr"), "eulr"),
    (("edit", "in.wav", *SPOKEN, "--to", "hello", "--device", "gpu9"), "gpu9"),
    (("edit", "in.wav", *SPOKEN, "--to", "hello", "--lexicon", "in.txt"), "in.txt"),
    (("fill", "in.wav", *SPOKEN, "--span", "1:99"), "lasts"),
    (("fill", "text.wav", *SPOKEN, "--span", "0:1"), "text.wav"),
    (("fill", "in.wav", "--text", "a transcript of something else altogether", "--span", "0.5:1"), "transcript"),
    (("denoise", "in.wav", *SPOKEN, "--span", "98:99"), "lasts"),
    (("denoise", "text.wav", *SPOKEN), "text.wav"),
    (("denoise", "in.wav", "--text", "a transcript of something else", "--span", "0.5:1"), "transcript"),
    (("restyle", "in.wav", *SPOKEN, "--style", "gone.wav"), "gone.wav"),
    (("restyle", "in.wav", *SPOKEN, "--style", "text.wav"), "text.wav"),
    (("restyle", "in.wav", *SPOKEN, "--style", "silent.wav", "--style-text", "hello"), "silent.wav"),
    (("restyle", "in.wav", *SPOKEN, "--style", "rms", "--accent", "gone.wav"), "gone.wav"),
    (("restyle", "text.wav", *SPOKEN, "--style", "rms"), "text.wav"),
    (("continue", "in.wav", *SPOKEN, "--then", "日本語"), ""),
    (("continue", "text.wav", *SPOKEN, "--then", "hello"), "text.wav"),
    (("continue", "in.wav", "--text", "a transcript of something else altogether", "--then", "hello"), "transcript"),
    (("sample", "日本語", "-n", "2", "-o", "new"), ""),
    (("sample", "hello", "-n", "2", "-o", "new", "--solver", "eulr"), "eulr"),
]


def refuse(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run what must be refused; the one line that says why."""
    before = contents()
    status = cli.main(words)
    out, err = capsys.readouterr()
    assert (status, out) == (2, ""), err
    assert err.startswith("flowtts: ") and err.endswith("\n") and err.count("\n") == 1 and "Traceback" not in err
    assert contents() == before, "something was left behind"
    return err


def contents() -> dict[str, bytes]:
    """Everything in the folder."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in Path().rglob("*")}


@pytest.mark.parametrize(("words", "why"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], why: str
) -> None:
    assert why in refuse(capsys, *words)


TASKS: list[tuple[str, ...]] = [
    ("edit", "in.wav", *SPOKEN, "--to", "hello"),
    ("fill", "in.wav", *SPOKEN, "--span", "0.5:1"),
    ("denoise", "in.wav", *SPOKEN, "--span", "0.5:1"),
    ("restyle", "in.wav", *SPOKEN, "--style", "rms"),
    ("continue", "in.wav", *SPOKEN, "--then", "hello"),
    ("sample", "hello", "-n", "2", "-o", "new"),
]


@pytest.mark.parametrize("words", TASKS, ids=[words[0] for words in TASKS])
def test_a_model_that_cannot_is_refused_with_those_that_can(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    recipe = pipeline.load("voicebox", vocoder="auto", device="auto", engine="auto", tag=True).recipe
    monkeypatch.setattr(recipe, "tasks", frozenset({"say"}))
    line = refuse(capsys, *words)
    assert words[0] in line and "voicebox" in line


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_folder_that_may_not_be_written_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = folder / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    assert "closed" in refuse(capsys, "edit", "in.wav", *SPOKEN, "--to", "hello", "-o", "closed/a.wav")
    assert "closed" in refuse(capsys, "sample", "hello", "-n", "1", "-o", "closed/new")
