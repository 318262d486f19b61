"""What a codec costs: closed forms, and the benchmark on a tiny codec of random weights."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from flowtts.audio.io import read, write
from flowtts.compare.systems import identity, parse
from flowtts.copying import copy, recode
from flowtts.ladder import bitrates, cost, delay, read_recordings
from flowtts.nn.quantise import Usage
from flowtts.registry import load_codec, load_vocoder
from flowtts.types import Audio, CodeSpec, UserError
from flowtts.vocoders.codec import save
from flowtts.vocoders.codec.network import CodecConfig, CodecNetwork
from flowtts.voice import shipped

TINY = CodecConfig(
    hop=320, stride=2, n_fft=640, dim=16, intermediate=16, encoder_layers=1, decoder_layers=1, width=8, codebooks=4,
    codes=32,
)  # fmt: skip
SPEECH = read(shipped()["reader-m"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec that says nothing of use."""
    torch.manual_seed(0)
    network = CodecNetwork(TINY)
    for level in network.quantiser.levels:
        torch.nn.init.normal_(level.quantiser.codebook)
        level.quantiser.started.fill_(True)
    return save(network, tmp_path_factory.mktemp("codec") / "tiny", dtype=torch.float32)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script; Python itself has a module of its name."""
    path = Path(__file__).parents[2] / "benchmarks" / "codecs.py"
    spec = importlib.util.spec_from_file_location("benchmark_codecs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_codecs"] = module
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    sys.path.remove(str(path.parent))
    return module


def test_bits_add_up_over_codebooks() -> None:
    spec = CodeSpec(16_000, 50.0, 2, 1024)
    assert bitrates(spec, [Usage(1.0, 8.0), Usage(0.5, 2.0)]) == [(500.0, 150.0), (1000.0, 200.0)]


def test_the_delay_is_what_the_windows_need(folder: Path) -> None:
    # Windows of 640 samples, 160 apart, around their hop: 240 later samples. Codes wait for the frame that holds them.
    found = delay(load_codec(folder))
    assert (found.codes, found.samples) == (1, 240)
    assert found.whole == 320 + 320 + 240


def test_a_codec_that_answers_nothing_has_no_delay(folder: Path) -> None:
    with pytest.raises(UserError, match="answers nothing within 1 frames"):
        delay(load_codec(folder), frames=1)


def test_usage_is_that_of_all_codes(folder: Path) -> None:
    codec = load_codec(folder, 2)
    parts = [SPEECH, read(shipped()["reader-f"])]
    threads = torch.get_num_threads()
    found = cost(codec, parts)
    assert torch.get_num_threads() == threads
    codes = torch.cat([codec.encode(torch.from_numpy(part.samples)[None])[0] for part in parts])
    assert found.frames == len(codes) and len(found.usages) == 2
    assert found.seconds == tuple(part.seconds for part in parts)
    assert len(found.encode) == len(found.decode) == 2
    for column, usage in zip(codes.T.numpy(), found.usages, strict=True):
        shares = np.unique(column, return_counts=True)[1] / len(column)
        assert usage.bits == pytest.approx(-(shares * np.log2(shares)).sum())
        assert usage.share == len(shares) / 32


def test_a_copy_through_all_codebooks_is_the_vocoders(folder: Path) -> None:
    whole = recode(load_codec(folder), SPEECH)
    assert len(whole.samples) == len(SPEECH.samples)
    np.testing.assert_allclose(whole.samples, copy(load_vocoder(folder), SPEECH).samples, atol=1e-5)
    assert not np.allclose(whole.samples, recode(load_codec(folder, 1), SPEECH).samples, atol=1e-3)


def test_copies_through_codecs_are_told_apart(folder: Path) -> None:
    words = [f"{folder}-copy", f"{folder}-copy:codebooks=1", f"{folder}-copy:codebooks=4"]
    found = parse(words, {}, [0])
    assert [(one.kind, one.settings.get("codebooks"), one.vocoder) for one in found] == [
        ("copy", None, str(folder)), ("copy", 1, None), ("copy", 4, None),
    ]  # fmt: skip
    assert len({json.dumps(identity(one), sort_keys=True) for one in found}) == 3


def test_lists_of_recordings(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.flac").write_bytes(shipped()["rms"].read_bytes())
    (tmp_path / "a.txt").write_text("It is said.\n")
    (tmp_path / "plain.txt").write_text("a.flac\n\nb.flac\n")
    (tmp_path / "rows.jsonl").write_text('{"audio": "a.flac", "id": "one", "text": "So."}\n{"audio": "b.flac"}\n')
    (tmp_path / "rows.tsv").write_text("audio\ttext\tprompt\tspeaker\na.flac\tNo.\tb.flac\tme\n")
    plain, rows, table = (read_recordings(tmp_path / name) for name in ("plain.txt", "rows.jsonl", "rows.tsv"))
    assert [(one.id, one.text, one.voice) for one in plain] == [
        ("a", "It is said.", tmp_path / "a.flac"), ("b", "", tmp_path / "b.flac"),
    ]  # fmt: skip
    assert [(one.id, one.text) for one in rows] == [("one", "So."), ("b", "")]
    assert (table[0].text, table[0].voice, table[0].speaker) == ("No.", tmp_path / "b.flac", "me")
    assert all(one.reference is not None for one in (*plain, *rows, *table))
    assert len(read_recordings(tmp_path / "plain.txt", 1)) == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("nowhere.flac\n", "line 1: no recording"),
        ('{"path": "a.flac"}\n', "line 1: names no recording"),
        ('{"audio": \n', "line 1: is no JSON"),
        ("a.flac\na.flac\n", "line 2: the name 'a' comes twice"),
    ],
)
def test_lists_that_are_refused(lines: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(shipped()["rms"].read_bytes())
    (tmp_path / "list").write_text(lines)
    with pytest.raises(UserError, match=said):
        read_recordings(tmp_path / "list")


def test_the_rungs_of_a_ladder(benchmark: ModuleType) -> None:
    found = benchmark.rungs("codec", 6, [], [12.0, 6.0])
    assert [one.codebooks for one in found] == [1, 2, 4, 6, None, None, None, None]
    assert [one.kbps for one in found] == [None] * 4 + [6.0, 12.0, None, None]
    with pytest.raises(UserError, match="has 6 codebooks; choose from 1 to 6"):
        benchmark.rungs("codec", 6, [2, 8], [])


def test_the_whole_ladder(
    folder: Path, tmp_path: Path, benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("matplotlib")

    def here(jobs: Sequence[Any], processes: int, done: Callable[[Any, Any, str | None], None]) -> None:
        for job in jobs:
            work = job.start()
            for piece in job.pieces:
                done(piece, work(piece), None)

    monkeypatch.setattr("flowtts.crew.run", here)
    monkeypatch.setattr("flowtts.compare.judging.run", here)
    for name in ("reader-f", "reader-m"):
        audio = read(shipped()[name])
        write(tmp_path / f"{name}.flac", Audio(audio.samples[16_000:40_000], audio.sample_rate))
    (tmp_path / "list").write_text("reader-f.flac\nreader-m.flac\n")
    out = tmp_path / "out"
    benchmark.main([
        "--codec", str(folder), "--data", str(tmp_path / "list"), "--out", str(out), "--codebooks", "1,4",
        "--opus", "6,24", "--metrics", "nsim,si-sdr",
    ])  # fmt: skip
    found = json.loads((out / "codecs.json").read_text())
    rungs = found["rungs"]
    assert list(rungs) == [
        "1 of 4 codebooks", "4 of 4 codebooks", "Opus at 6 kbit/s", "Opus at 24 kbit/s", "Griffin-Lim", "recordings",
    ]  # fmt: skip
    assert (rungs["1 of 4 codebooks"]["bits"], rungs["4 of 4 codebooks"]["bits"]) == (250, 1000)
    assert 0 < rungs["4 of 4 codebooks"]["entropy"] < 1000
    ranks = [rungs[name]["scores"]["nsim"]["value"] for name in ("recordings", "Opus at 24 kbit/s", "Opus at 6 kbit/s")]
    assert ranks[0] == pytest.approx(1) and ranks == sorted(ranks, reverse=True)
    assert rungs["4 of 4 codebooks"]["scores"]["nsim"]["value"] < ranks[-1]
    score = rungs["Opus at 6 kbit/s"]["scores"]["si-sdr"]
    assert score["low"] <= score["value"] <= score["high"] and score["count"] == 2
    assert found["codec"]["delay"]["ms"] == 55 and len(found["codec"]["usage"]) == 4
    shown = (out / "codecs.md").read_text()
    assert shown.strip() == capsys.readouterr().out.strip() and "2.75 frames, 55 ms" in shown
    for name in ("codecs-sound.svg", "codecs-sound.png", "compare/index.html", "compare/report.json"):
        assert (out / name).stat().st_size > 1000
    assert not (out / "codecs-speech.svg").exists()
