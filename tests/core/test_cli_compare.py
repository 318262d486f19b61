"""``flowtts compare`` from the command line: what it makes of good and bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from flowtts import checkpoint, cli
from flowtts.voice import shipped

SENTENCES = {"a": "The red fox ran.", "b": "A boat sank."}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWTTS_DEBUG", raising=False)
    voices = shipped()
    for name in ("rms", "slt"):
        shutil.copy(voices[name], f"{name}.flac")
    rows = "".join(f"{id}\t{text}\trms.flac\tslt.flac\n" for id, text in SENTENCES.items())
    Path("p.tsv").write_text("id\ttext\tvoice\treference\n" + rows, encoding="utf-8")
    files = {
        "no_columns.tsv": "a\tb\n1\t2\n", "no_text.tsv": "id\ttext\na\t\n", "twice.tsv": "id\ttext\na\tone\na\ttwo\n",
        "slash.tsv": "id\ttext\na/b\tone\n", "no_rows.tsv": "id\ttext\n",
        "no_voice.tsv": "id\ttext\tvoice\na\tone\tme.wav\n",
        "no_sound.tsv": "id\ttext\tvoice\na\tone\ttext.wav\n", "odd_task.tsv": "id\ttext\ttask\na\tone\tsing\n",
        "edit.tsv": "id\ttext\tvoice\ttask\na\tone\trms.flac\tedit\n", "text.wav": "no sound", "a_file": "",
        "bad.yaml": "- wer: [", "odd.yaml": "- wre\n",
    }  # fmt: skip
    for name, text in files.items():
        Path(name).write_text(text, encoding="utf-8")
    Path("latin.tsv").write_bytes("id\ttext\na\tcafé\n".encode("latin-1"))
    Path("full").mkdir()
    Path("full/letter.txt").write_text("dear")
    Path("empty").mkdir()
    return tmp_path


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "no folder": (("recordings",), "--out"),
    "nothing to compare": (("--out", "o"), "nothing to compare"),
    "unknown model": (("voicebx", "--out", "o"), "did you mean 'voicebox'"),
    "no speaking checkpoint": (("vocos-16k", "--out", "o"), "no recipe speaks with it"),
    "unknown option": (("voicebox:stps=3", "--out", "o"), "no option 'stps'"),
    "option without number": (("voicebox:steps=x", "--out", "o"), "is no number"),
    "steps out of range": (("voicebox:steps=0", "--out", "o"), "steps is from 1"),
    "unknown solver": (("voicebox", "--solver", "eulr", "--out", "o"), "eulr"),
    "unknown vocoder": (("voicebox", "--vocoder", "wavenet", "--out", "o"), "no vocoder 'wavenet'"),
    "vocoder without weights": (("univnet-copy", "--out", "o"), "no weights of univnet"),
    "two of one name": (("recordings", "recordings", "--out", "o"), "two systems are called"),
    "unknown metric": (("recordings", "--metrics", "wre", "--out", "o"), "unknown metric 'wre'"),
    "no metric": (("recordings", "--metrics", ",", "--out", "o"), "names no metric"),
    "metric twice": (("recordings", "--metrics", "wer,wer", "--out", "o"), "twice"),
    "speed as a metric": (("recordings", "--metrics", "rtf", "--out", "o"), "leave rtf out"),
    "broken YAML": (("recordings", "--metrics", "bad.yaml", "--out", "o"), "bad.yaml"),
    "unknown metric in YAML": (("recordings", "--metrics", "odd.yaml", "--out", "o"), "wre"),
    "unknown set": (("recordings", "--prompts", "englsh", "--out", "o"), "english"),
    "no columns": (("recordings", "--prompts", "no_columns.tsv", "--out", "o"), "no column 'id'"),
    "no text": (("recordings", "--prompts", "no_text.tsv", "--out", "o"), "line 2"),
    "id twice": (("recordings", "--prompts", "twice.tsv", "--out", "o"), "'a' comes twice"),
    "id with a slash": (("recordings", "--prompts", "slash.tsv", "--out", "o"), "cannot name a file"),
    "no rows": (("recordings", "--prompts", "no_rows.tsv", "--out", "o"), "no_rows.tsv"),
    "other encoding": (("recordings", "--prompts", "latin.tsv", "--out", "o"), "UTF-8"),
    "missing voice": (("recordings", "--prompts", "no_voice.tsv", "--out", "o"), "me.wav"),
    "voice without sound": (("recordings", "--prompts", "no_sound.tsv", "--out", "o"), "text.wav"),
    "unknown task": (("recordings", "--prompts", "odd_task.tsv", "--out", "o"), "no task 'sing'"),
    "edit without transcript": (("recordings", "--prompts", "edit.tsv", "--out", "o"), "no voice_text"),
    "more prompts than there are": (("recordings", "--prompts", "p.tsv", "--count", "9", "--out", "o"), "not 9"),
    "unknown format": (("recordings", "--prompts", "p.tsv", "--format", "csv", "--out", "o"), "csv"),
    "no audio root": (("recordings", "--prompts", "p.tsv", "--audio-root", "gone", "--out", "o"), "gone"),
    "unknown voice": (("recordings", "--prompts", "no_voice.tsv", "--out", "o"), "no shipped voice"),
    "out is a file": (("recordings", "--prompts", "p.tsv", "--out", "a_file"), "a_file"),
    "out holds other things": (
        ("recordings", "--prompts", "p.tsv", "--metrics", "mel", "--out", "full"), "other things"
    ),
    "ratings of nothing": (("--ratings", "bad.yaml", "--out", "empty"), "no finished comparison"),
    "missing ratings": (("recordings", "--prompts", "p.tsv", "--ratings", "gone.json", "--out", "o"), "gone.json"),
    "unknown device": (
        ("griffin-lim-copy", "--prompts", "p.tsv", "--device", "tpu", "--metrics", "mel", "--out", "o"), "tpu"
    ),
}  # fmt: skip


@pytest.mark.parametrize("words, said", BAD.values(), ids=BAD.keys())
def test_what_is_asked_wrongly_gives_one_line_and_makes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    before = sorted(folder.rglob("*"))
    assert cli.main(["compare", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err
    assert sorted(folder.rglob("*")) == before


@pytest.fixture
def compare(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    def run(*words: str) -> tuple[int, dict[str, Any]]:
        status = cli.main(["compare", *words, "--prompts", "p.tsv", "--out", "o", "--json"])
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        found: dict[str, Any] = json.loads(out)
        return status, found

    return run


def rows(result: dict[str, Any], system: str) -> dict[str, dict[str, Any]]:
    return {row["item"]: row for row in result["items"] if row["system"] == system}


def test_a_folder_of_finished_audio_with_every_kind_of_trouble(
    compare: Callable[..., tuple[int, dict[str, Any]]], folder: Path
) -> None:
    for name in ("good", "gaps", "broken", "silent", "wrong"):
        (folder / name).mkdir()
    speech, rate = soundfile.read(folder / "slt.flac")
    for id in SENTENCES:
        soundfile.write(folder / "good" / f"{id}.wav", np.stack([speech, speech], 1), rate)
        soundfile.write(folder / "silent" / f"{id}.wav", np.zeros(rate), rate)
        soundfile.write(folder / "wrong" / f"{id}.wav", speech[::2], rate // 2)
    (folder / "good" / "a.json").write_text(json.dumps({"took": 1.5, "nfe": 8, "network_calls": 16}))
    shutil.copy(folder / "slt.flac", folder / "gaps" / "a.flac")
    (folder / "broken" / "a.wav").write_text("no sound")
    soundfile.write(folder / "broken" / "b.wav", np.full(rate, np.nan, dtype=np.float32), rate, subtype="FLOAT")
    names = ("good", "gaps", "broken", "silent", "wrong", "empty")
    status, found = compare(*(str(folder / name) for name in names), "recordings", "--metrics", "mel,sim-o")
    assert status == 1  # one made nothing
    systems = {system["name"]: system for system in found["systems"]}
    assert {name: systems[name]["made"] for name in names} == {
        "good": 2, "gaps": 1, "broken": 0, "silent": 2, "wrong": 2, "empty": 0
    }  # fmt: skip
    assert rows(found, "good")["a"]["nfe"] == 8 and rows(found, "good")["a"]["took"] == 1.5
    assert rows(found, "gaps")["b"]["error"].endswith("has no recording called b")
    assert "cannot" in rows(found, "broken")["a"]["error"] and "NaN" in rows(found, "broken")["b"]["error"]
    assert "silent" in rows(found, "silent")["a"]["dropped"]["sim-o"]
    assert rows(found, "wrong")["a"]["sample_rate"] == 8_000
    assert found["scores"]["gaps"]["sim-o"]["count"] == 1
    assert "b" in found["scores"]["gaps"]["sim-o"]["dropped"]
    assert found["scores"]["silent"]["sim-o"]["value"] is None
    assert found["scores"]["good"]["mel"]["value"] == pytest.approx(
        found["scores"]["recordings"]["mel"]["value"], abs=0.05
    )
    page = (folder / "o" / "index.html").read_text(encoding="utf-8")
    assert "has no recording called b" in page


def test_a_model_that_fails_is_a_row_and_the_others_go_on(
    compare: Callable[..., tuple[int, dict[str, Any]]], folder: Path
) -> None:
    shutil.copytree(checkpoint.find("voicebox-fewstep"), folder / "mine")
    weights = folder / "mine" / checkpoint.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:1000])
    status, found = compare("mine", "voicebox-fewstep:steps=2", "griffin-lim-copy", "--metrics", "sim-o")
    assert status == 1
    by_name = {system["label"]: system for system in found["systems"]}
    assert by_name["mine"]["failed"] == 2 and "broken" in by_name["mine"]["error"]
    assert by_name["voicebox-fewstep steps=2"]["made"] == 2 and by_name["griffin-lim-copy"]["made"] == 2
    name = by_name["voicebox-fewstep steps=2"]["name"]
    assert found["scores"][name]["sim-o"]["count"] == 2
    assert [row["network_calls"] for row in rows(found, name).values()] == [2, 2]
    assert {difference["metric"] for difference in found["differences"]} == {"sim-o"}


def test_the_same_again_makes_nothing_and_says_the_same(
    compare: Callable[..., tuple[int, dict[str, Any]]], folder: Path
) -> None:
    words = ("griffin-lim-copy", "recordings", "--metrics", "mel")
    _, first = compare(*words)
    made = {path: path.stat().st_mtime_ns for path in (folder / "o" / "audio").rglob("*")}
    _, second = compare(*words)
    assert made == {path: path.stat().st_mtime_ns for path in (folder / "o" / "audio").rglob("*")}
    first["created"] = second["created"] = ""
    assert first == second


def test_a_changed_prompt_is_made_anew_and_the_others_stay(
    compare: Callable[..., tuple[int, dict[str, Any]]], folder: Path
) -> None:
    words = ("griffin-lim-copy", "--metrics", "mel")
    _, first = compare(*words)
    table = folder / "p.tsv"
    table.write_text(table.read_text().replace("A boat sank.\trms.flac\tslt.flac", "A ship sank.\trms.flac\trms.flac"))
    _, second = compare(*words)
    before, after = rows(first, "griffin-lim-copy"), rows(second, "griffin-lim-copy")
    assert before["a"] == after["a"]
    assert before["b"]["audio_hash"] != after["b"]["audio_hash"]


def test_a_dry_run_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    words = ["compare", "voicebox", "recordings", "--prompts", "p.tsv", "--steps", "2", "--steps", "4"]
    assert cli.main([*words, "--out", "o", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [system["recordings"] for system in found["systems"]] == [2, 2, 2]
    assert sorted(folder.rglob("*")) == before
