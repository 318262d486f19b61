"""Manifests."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flowtts.audio.io import write
from flowtts.eval.manifest import read_manifest
from flowtts.types import Audio, UserError


@pytest.fixture
def folder(tmp_path: Path, noise: Callable[[float, int], Audio]) -> Path:
    (tmp_path / "wavs").mkdir()
    for name in ("a", "b", "ref"):
        write(tmp_path / "wavs" / f"{name}.wav", noise(0.5, 16_000))
    return tmp_path


def manifest(folder: Path, text: str) -> Path:
    path = folder / "set.tsv"
    path.write_bytes(text.encode())
    return path


def test_columns_in_any_order_paths_from_the_manifest_and_shared_recordings(folder: Path) -> None:
    text = "text\tprompt\taudio\tid\ttook\r\nHi “you”\twavs/ref.wav\twavs/a.wav\tone\t0.25\r\n"
    text += "\r\nBye\twavs/ref.wav\twavs/b.wav\ttwo\t\r\n"
    found = read_manifest(manifest(folder, "\ufeff" + text))
    assert [(item.id, item.text) for item in found.items] == [("one", "Hi “you”"), ("two", "Bye")]
    assert found.took == {"one": 0.25}
    assert found.items[0].prompt is found.items[1].prompt
    assert found.items[0].reference is None
    assert np.abs(found.items[0].audio.samples).max() > 0


def test_ids_default_to_the_audio_and_stay_distinct(folder: Path) -> None:
    rows = "audio\ttext\nwavs/a.wav\tx\nwavs/a.wav\ty\n"
    assert [item.id for item in read_manifest(manifest(folder, rows)).items] == ["wavs/a.wav", "wavs/a.wav#3"]


def test_absolute_paths_and_unknown_columns(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = read_manifest(manifest(folder, f"audio\ttext\trefrence\n{folder}/wavs/a.wav\tx\tanything\n"))
    assert len(found.items) == 1
    assert "refrence" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"set\.tsv line 1: no column 'audio'"),
        ("audio,text\nwavs/a.wav,x\n", r"line 1: no column 'audio'; .*tab-separated"),
        ("audio\tprompt\n", r"line 1: no column 'text'"),
        ("audio\ttext\taudio\n", r"line 1: the column 'audio' comes twice"),
        ("audio\ttext\n\n", r"has no rows"),
        ("audio\ttext\nwavs/a.wav\tx\nwavs/a.wav\n", r"line 3: 1 columns instead of 2"),
        ("audio\ttext\nwavs/a.wav\tx\ty\n", r"line 2: 3 columns instead of 2"),
        ("audio\ttext\nwavs/a.wav\t \n", r"line 2: the column 'text' is empty"),
        ("audio\ttext\n\tx\n", r"line 2: the column 'audio' is empty"),
        ("audio\ttext\n\nwavs/absent.wav\tx\n", r"line 3: .*absent\.wav: no such file"),
        ("audio\ttext\tprompt\nwavs/a.wav\tx\tset.tsv\n", r"line 2: .*set\.tsv: cannot be read as sound"),
        ("audio\ttext\tid\nwavs/a.wav\tx\tq\nwavs/b.wav\ty\tq\n", r"line 3: the id 'q' is used twice"),
        ("audio\ttext\ttook\nwavs/a.wav\tx\tlong\n", r"line 2: 'long' in the column 'took'"),
        ("audio\ttext\ttook\nwavs/a.wav\tx\t-1\n", r"line 2: '-1' in the column 'took'"),
    ],
)
def test_mistakes_name_their_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_manifest(manifest(folder, text))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path / "absent.tsv")
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path)
    (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe\x00audio")
    with pytest.raises(UserError, match="not UTF-8"):
        read_manifest(tmp_path / "binary.tsv")
