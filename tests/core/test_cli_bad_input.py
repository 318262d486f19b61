"""Every mistake: exit status 2, one line on standard error that says what and where, and nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from flowtts import cli

Words = tuple[str, ...]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the cases speak of; it is also the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWTTS_DEBUG", raising=False)
    rng = np.random.default_rng(0)
    soundfile.write("noise.wav", 0.1 * rng.standard_normal(32_000), 16_000)
    soundfile.write("short.wav", 0.1 * rng.standard_normal(1_600), 16_000)
    soundfile.write("silent.wav", np.zeros(32_000), 16_000)
    soundfile.write("empty.wav", np.zeros(0), 16_000)
    files = {
        "text.wav": b"this is no sound",
        "cut.wav": Path("noise.wav").read_bytes()[:30],
        "latin.txt": "caf\xe9\n".encode("latin-1"),
        "blank.txt": b"\n   \n",
        "lines.txt": "Good morning.\n\n日本語\n".encode(),
        "a_file": b"",
        "broken.json": b"{",
        "other.json": b'{"a": 1}',
        "header.tsv": b"sound\twords\nnoise.wav\thello\n",
        "row.tsv": b"audio\ttext\nnoise.wav\thello\nnoise.wav\n",
        "gone.tsv": b"audio\ttext\nnoise.wav\thello\ngone.wav\thello\n",
        "empty.tsv": b"audio\ttext\n",
        "good.tsv": b"audio\ttext\nnoise.wav\thello\n",
        "words.txt": b"mirobelix NOT A PHONE\n",
        "config.yaml": b"steps: [1\n",
        "typo.yaml": b"stpes: 1\n",
    }
    for name, content in files.items():
        Path(name).write_bytes(content)
    Path("a_folder").mkdir()
    Path("no_model").mkdir()
    return tmp_path


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command line, which must refuse; returns the one line."""

    def run(*words: str) -> str:
        before = snapshot(folder)
        status = cli.main(words)
        out, err = capsys.readouterr()
        assert status == 2, (status, out, err)
        assert out == ""
        assert err.startswith("flowtts: ") and err.endswith("\n") and err.count("\n") == 1, err
        assert "Traceback" not in err
        assert snapshot(folder) == before, "something was left behind"
        return err

    return run


def snapshot(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


SAY: list[tuple[Words, str]] = [
    ((), "TEXT or --lines"),
    (("hello", "--lines", "lines.txt"), "TEXT or --lines"),
    (("",), "TEXT is empty"),
    (("  \t ",), "TEXT is empty"),
    (("...",), ""),
    (("日本語",), ""),
    (("hello", "--steps", "0"), "--steps"),
    (("hello", "--steps", "1001"), "--steps"),
    (("hello", "--steps", "many"), "--steps"),
    (("hello", "--speed", "0.1"), "--speed"),
    (("hello", "--speed", "5"), "--speed"),
    (("hello", "--speed", "nan"), "--speed"),
    (("hello", "--guidance", "inf"), "--guidance"),
    (("hello", "--guidance", "-1"), "--guidance"),
    (("hello", "--guidance", "101"), "0 to 100"),
    (("hello", "--guidance", "strong"), "'strong' is not a number"),
    (("hello", "--guidance", "2,intervall=0:1"), "did you mean 'interval'"),
    (("hello", "--guidance", "2,rescale=2"), "rescale is from 0 to 1"),
    (("hello", "--guidance", ""), "--guidance"),
    (("hello", "--grid", "gone.json"), "cannot read the grid gone.json"),
    (("hello", "--model", "voicebox-fewstep", "--grid", "fitted"), "no grid 'fitted'"),
    (("hello", "--duration", "0"), "--duration"),
    (("hello", "--duration", "-1"), "--duration"),
    (("hello", "--seed", "-1"), "--seed"),
    (("hello", "--best-of", "0"), "--best-of"),
    (("hello", "--rank", "beauty"), "--rank"),
    (("hello", "--solver", "eulr"), "eulr"),
    (("hello", "--grid", "unifrom"), "unifrom"),
    (("hello", "--model", "voicebxo"), "voicebxo"),
    (("hello", "--model", "no_model"), "no_model"),
    (("hello", "--vocoder", "vocso"), "vocso"),
    (("hello", "--device", "gpu9"), "gpu9"),
    (("hello", "--device", "cuda:99"), "cuda:99"),
    (("hello", "--voice-text", "hi"), "--voice"),
    (("hello", "--voice", "gone.wav"), "gone.wav"),
    (("hello", "--voice", "a_folder"), "a_folder"),
    (("hello", "--voice", "text.wav"), "text.wav"),
    (("hello", "--voice", "cut.wav"), "cut.wav"),
    (("hello", "--voice", "empty.wav", "--voice-text", "hello"), "empty.wav"),
    (("hello", "--voice", "short.wav", "--voice-text", "hello"), "short.wav"),
    (("hello", "--voice", "silent.wav", "--voice-text", "hello"), "silent.wav"),
    (("hello", "--voice", "noise.wav", "--voice-text", "the cat sat on the mat"), ""),
    (("hello", "--lexicon", "gone.txt"), "gone.txt"),
    (("hello", "--lexicon", "words.txt"), "words.txt"),
    (("hello", "-o", "a.xyz"), ".xyz"),
    (("hello", "-o", "a_folder"), "a_folder"),
    (("hello", "-o", "a_file/x/a.wav"), "a_file"),
    (("hello", "--voice", "noise.wav", "-o", "noise.wav"), "overwrite"),
    (("--lines", "lines.txt"), "-o FOLDER"),
    (("--lines", "gone.txt", "-o", "new"), "gone.txt"),
    (("--lines", "latin.txt", "-o", "new"), "UTF-8"),
    (("--lines", "blank.txt", "-o", "new"), "blank.txt"),
    (("--lines", "lines.txt", "-o", "a_file"), "a_file"),
    (("--lines", "lines.txt", "-o", "new"), "line 3"),
]

OTHERS: list[tuple[Words, str]] = [
    (("align", "gone.wav", "--text", "hello"), "gone.wav"),
    (("align", "noise.wav"), "--text"),
    (("align", "noise.wav", "--text", ""), "--text is empty"),
    (("align", "noise.wav", "--text", "hello", "-o", "words.doc"), ".doc"),
    (("align", "text.wav", "--text", "hello"), "text.wav"),
    (("align", "noise.wav", "--text", "the transcript of something else altogether"), ""),
    (("prepare", "ljspech", "a_folder", "new"), "ljspech"),
    (("prepare", "table", "missing.tsv", "new"), "missing.tsv"),
    (("prepare", "table", "header.tsv", "new"), "header.tsv"),
    (("prepare", "table", "good.tsv", "new", "--jobs", "0"), "--jobs"),
    (("prepare", "ljspeech", "a_folder", "new"), "a_folder"),
    (("convert",), "WHAT"),
    (("convert", "tortoise", "a_folder"), "--output"),
    (("convert", "tortois", "a_folder", "-o", "new"), "did you mean 'tortoise'"),
    (("convert", "tortoise", "gone", "-o", "new"), "gone"),
    (("convert", "tortoise", "a_folder", "-o", "new"), "lacks autoregressive.pth"),
    (("convert", "tortoise", "a_folder", "-o", "a_folder"), "a_folder"),
    (("convert", "tortoise", "a_folder", "-o", "a_file"), "a_file"),
    (("convert", "univnet", "text.wav", "-o", "new"), "text.wav"),
    (("train", "voicebxo", "--data", "good.tsv", "--out", "new"), "voicebxo"),
    (("train", "voicebox", "--data", "gone.jsonl", "--out", "new"), "gone.jsonl"),
    (("train", "voicebox", "--data", "good.tsv", "--out", "new", "--config", "gone.yaml"), "gone.yaml"),
    (("train", "voicebox", "--data", "good.tsv", "--out", "new", "--config", "typo.yaml"), "stpes"),
    (("train", "voicebox", "--data", "good.tsv", "--out", "new", "--config", "config.yaml"), "config.yaml"),
    (("train", "voicebox", "--data", "good.tsv", "--out", "new", "stpes=3"), "stpes"),
    (("train", "voicebox", "--data", "good.tsv"), "--out"),
    (("vocode", "noise.wav"), "-o"),
    (("vocode", "gone.wav", "-o", "a.wav"), "gone.wav"),
    (("vocode", "noise.wav", "-o", "noise.wav"), "overwrite"),
    (("vocode", "noise.wav", "-o", "a.wav", "--vocoder", "vocso"), "vocso"),
    (("evaluate", "gone.tsv"), "gone.tsv"),
    (("evaluate", "header.tsv"), "audio"),
    (("evaluate", "row.tsv"), "line 3"),
    (("evaluate", "gone.tsv", "-o", "a_folder"), "a_folder"),
    (("evaluate", "empty.tsv"), "empty.tsv"),
    (("evaluate", "good.tsv", "--metrics", "wre"), "wre"),
    (("evaluate", "good.tsv", "--metrics", ","), "--metrics"),
    (("replay", "gone.json"), "gone.json"),
    (("replay", "broken.json"), "broken.json"),
    (("replay", "other.json"), "other.json"),
    (("models", "extra"), "extra"),
    (("sing", "hello"), "sing"),
]


def name_of(case: Words) -> str:
    return " ".join(case) or "nothing"


@pytest.mark.parametrize(("words", "said"), SAY, ids=[name_of(words) for words, _ in SAY])
def test_say_refuses(refused: Callable[..., str], words: Words, said: str) -> None:
    assert said in refused("say", *words)


@pytest.mark.parametrize(("words", "said"), OTHERS, ids=[name_of(words) for words, _ in OTHERS])
def test_other_verbs_refuse(refused: Callable[..., str], words: Words, said: str) -> None:
    assert said in refused(*words)


@pytest.mark.parametrize(
    "words", [("say",), ("say", "hello", "--voice", "gone.wav"), ("evaluate", "row.tsv")], ids=name_of
)
def test_json_changes_nothing_about_mistakes(refused: Callable[..., str], words: Words) -> None:
    assert refused(*words, "--json") == refused(*words)


def test_a_checkpoint_of_another_version_says_so(refused: Callable[..., str], folder: Path) -> None:
    future = folder / "future"
    future.mkdir()
    (future / "config.yaml").write_text("format: 99\nkind: voicebox\nflowtts: 9.0.0\nconfig: {}\n", encoding="utf-8")
    assert "9.0.0" in refused("say", "hello", "--model", "future")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_folder_that_may_not_be_written_is_refused(refused: Callable[..., str], folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    assert "closed" in refused("say", "hello", "-o", "closed/a.wav")


@pytest.mark.parametrize(("stdin", "said"), [(b"", "empty"), (b"caf\xe9", "UTF-8")])
def test_standard_input_in_a_process_of_its_own(folder: Path, stdin: bytes, said: str) -> None:
    before = snapshot(folder)
    environment = {**os.environ, "PYTHONUTF8": "1"}
    words = [sys.executable, "-m", "flowtts", "say", "-", "--json"]
    done = subprocess.run(words, input=stdin, capture_output=True, check=False, cwd=folder, env=environment)
    err = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b"")
    assert err.startswith("flowtts: ") and err.count("\n") == 1 and said in err
    assert snapshot(folder) == before


def test_a_missing_voice_in_a_process_of_its_own(folder: Path) -> None:
    """The whole way with the real libraries, whose chatter must not add a line."""
    before = snapshot(folder)
    words = [sys.executable, "-m", "flowtts", "say", "hello", "--voice", "gone.wav"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "gone.wav" in done.stderr
    assert snapshot(folder) == before


def test_json_is_never_half_an_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --lines the lines before the wrong one are not spoken either: it is found before the work starts."""
    assert cli.main(["say", "--lines", "lines.txt", "-o", "new", "--json"]) == 2
    out, _ = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == []
    assert not (folder / "new").exists()
