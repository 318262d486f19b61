"""Layouts of corpora."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowtts.data.rows import Broken, Row, read_rows
from flowtts.types import UserError


def put(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_ljspeech(tmp_path: Path) -> None:
    put(tmp_path / "metadata.csv", 'LJ001|He had 2 "cats.|He had two "cats.\nLJ002|No.|\n\nLJ003\n')
    assert list(read_rows("ljspeech", tmp_path)) == [
        Row("LJ001", tmp_path / "wavs/LJ001.wav", 'He had two "cats.', "LJ"),
        Row("LJ002", tmp_path / "wavs/LJ002.wav", "No.", "LJ"),
        Broken("metadata.csv:3", "1 fields instead of id|text|normalised"),
        Broken("metadata.csv:4", "1 fields instead of id|text|normalised"),
    ]


def test_librispeech(tmp_path: Path) -> None:
    put(tmp_path / "train/19/198/19-198.trans.txt", "19-198-0000 IT WAS MR SMITH\n19-198-0001\n")
    folder = tmp_path / "train/19/198"
    assert list(read_rows("librispeech", tmp_path)) == [
        Row("19-198-0000", folder / "19-198-0000.flac", "it was mr smith", "19"),
        Broken("19-198-0001", "no transcript"),
    ]


def test_libritts(tmp_path: Path) -> None:
    put(tmp_path / "19/198/19_198_000000_000000.normalized.txt", "It was. ")
    put(tmp_path / "19/198/19_198_000000_000001.normalized.txt", "\n")
    folder = tmp_path / "19/198"
    assert list(read_rows("libritts", tmp_path)) == [
        Row("19_198_000000_000000", folder / "19_198_000000_000000.wav", "It was. ", "19"),
        Broken("19_198_000000_000001", "no transcript"),
    ]


def test_vctk_new_and_old(tmp_path: Path) -> None:
    put(tmp_path / "txt/p225/p225_001.txt", "Please call Stella.\n")
    put(tmp_path / "txt/p225/p225_002.txt", "Ask her.\n")
    put(tmp_path / "wav48/p225/p225_002.wav")
    assert list(read_rows("vctk", tmp_path)) == [
        Row("p225_001", tmp_path / "wav48_silence_trimmed/p225/p225_001_mic1.flac", "Please call Stella.", "p225"),
        Row("p225_002", tmp_path / "wav48/p225/p225_002.wav", "Ask her.", "p225"),
    ]


def test_table(tmp_path: Path) -> None:
    path = put(
        tmp_path / "t.tsv",
        "Text\taudio\tspeaker\tid\tstart\tend\r\n"
        "One.\ta/b.wav\tann\tx\t\t\r\n\r\nTwo.\ta/b.wav\t\t\t1.5\t2\nThree.\ta.wav\n"
        "Four.\t\t\t\t\t\nFive.\ta.wav\t\t\tsoon\t\nSix.\ta.wav\t\t\t3\t2\nSeven.\ta.wav\t\t\t-1\t\n",
    )
    assert list(read_rows("table", path)) == [
        Row("x", tmp_path / "a/b.wav", "One.", "ann"),
        Row("a/b@1.5", tmp_path / "a/b.wav", "Two.", None, 1.5, 2.0),
        Broken("t.tsv:5", "2 fields instead of 6"),
        Broken("t.tsv:6", "no audio file"),
        Broken("t.tsv:7", "start 'soon' is not a number of seconds"),
        Broken("t.tsv:8", "the stretch from 3 to 2 s is empty"),
        Broken("t.tsv:9", "start -1 is negative"),
    ]


def test_engine(tmp_path: Path) -> None:
    row = {
        "id": "a",
        "voice": "rms",
        "text": "Hi.",
        "audio": "rms/a.flac",
        "phones": [["hh", 0, 0.1], ["ay", 0.1, 0.3]],
    }
    put(tmp_path / "rms.jsonl", json.dumps(row) + "\n{broken\n" + json.dumps({"id": "b"}) + "\n")
    good, *bad = read_rows("engine", tmp_path)
    labels = (("hh", 0.0, 0.1), ("ay", 0.1, 0.3))
    assert good == Row("rms/a", tmp_path / "rms/a.flac", "Hi.", "rms", labels=labels)
    assert [b.id for b in bad] == ["rms.jsonl:2", "rms.jsonl:3"]


def test_folder(tmp_path: Path) -> None:
    put(tmp_path / "ann/1.wav")
    put(tmp_path / "2.FLAC")
    put(tmp_path / "notes.txt")
    assert list(read_rows("folder", tmp_path)) == [
        Row("2", tmp_path / "2.FLAC", "", None), Row("ann/1", tmp_path / "ann/1.wav", "", "ann"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("ljspeech", r"is no LJ Speech \(no metadata.csv"),
        ("librispeech", "is no LibriSpeech"),
        ("libritts", "is no LibriTTS"),
        ("vctk", "is no VCTK"),
        ("engine", "spoken corpus"),
        ("folder", "holds no sound files"),
        ("commonvoice", "unknown kind of corpus 'commonvoice'; use one of ljspeech"),
    ],
)
def test_wrong_folders(kind: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=problem):
        list(read_rows(kind, tmp_path))


def test_broken_headers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: no column 'text'"):
        list(read_rows("table", put(tmp_path / "a.tsv", "audio\tspeaker\nx\ty\n")))
    with pytest.raises(UserError, match=r"line 1: no column 'audio'"):
        list(read_rows("table", put(tmp_path / "b.tsv")))
    with pytest.raises(UserError, match="no such file"):
        list(read_rows("table", tmp_path / "c.tsv"))
    (tmp_path / "d.tsv").write_bytes(b"audio\ttext\nx.wav\t\xff\n")
    with pytest.raises(UserError, match="not UTF-8"):
        list(read_rows("table", tmp_path / "d.tsv"))
