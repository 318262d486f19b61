"""The verbs encode and decode with a small codec of random weights, by its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from published_codecs import spread

from flowtts import cli, container
from flowtts.provenance.metadata import read_comments
from flowtts.registry import load_codec

Json = Callable[..., dict[str, Any]]
Refused = Callable[..., str]


def make(folder: Path, seed: int = 0, codebooks: int = 4) -> Path:
    """A codec of 50 frames a second whose codes say something: 100 codes a codebook, which are 7 bits."""
    network = import_module("flowtts.vocoders.codec.network")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = network.CodecConfig(
            dim=16, intermediate=16, encoder_layers=1, decoder_layers=1, width=8, codebooks=codebooks, codes=100
        )
        made = network.CodecNetwork(config)
        latents = made.latents(0.1 * torch.randn(1, 1, 16_000))[0].detach()
        spread([level.quantiser.codebook for level in made.quantiser.levels], latents)
    saved: Path = import_module("flowtts.vocoders.codec").save(made, folder, dtype=torch.float32)
    return saved


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("codecs") / "small")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with recordings in it, and no user's cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWTTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FLOWTTS_DEBUG", raising=False)
    Path("small").symlink_to(made)
    rng = np.random.default_rng(0)
    soundfile.write("noise.wav", 0.1 * rng.standard_normal(24_007), 16_000)
    soundfile.write("stereo.wav", 0.1 * rng.standard_normal((44_100, 2)), 44_100)
    soundfile.write("silent.wav", np.zeros(8000), 16_000)
    soundfile.write("one.wav", np.array([0.5]), 16_000)
    soundfile.write("tiny.wav", np.array([0.5]), 48_000)
    soundfile.write("empty.wav", np.zeros(0), 16_000)
    return tmp_path


@pytest.fixture
def flowtts_json(capsys: pytest.CaptureFixture[str]) -> Json:
    """Runs a verb with --json; returns the one object it printed."""

    def run(*words: str) -> dict[str, Any]:
        status = cli.main([*words, "--json"])
        out, err = capsys.readouterr()
        assert (status, err, out.count("\n")) == (0, "", 1)
        found: dict[str, Any] = json.loads(out)
        return found

    return run


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a verb that must refuse; returns its one line."""

    def run(*words: str) -> str:
        before = sorted(folder.rglob("*"))
        status = cli.main(words)
        out, err = capsys.readouterr()
        assert (status, out, err.count("\n")) == (2, "", 1), err
        assert sorted(folder.rglob("*")) == before, "something was left behind"
        return err

    return run


def test_encode_then_decode_says_what_it_did(flowtts_json: Json) -> None:
    found = flowtts_json("encode", "noise.wav", "-o", "new/a.ftc", "--codec", "small")
    codec = load_codec("small")
    assert found["seconds"] == pytest.approx(24_007 / 16_000, abs=1e-4) and found["frames"] == 76
    assert (found["codec"], found["hash"], found["codebooks"]) == ("codec", codec.hash, 4)
    assert (found["frame_rate"], found["bits_per_second"]) == (50.0, 1400.0)
    assert found["bytes"] == Path("new/a.ftc").stat().st_size == 50 + 76 * 4 * 7 // 8 and found["rtf"] > 0
    assert set(found) == {
        "file", "seconds", "codec", "hash", "codebooks", "frames", "frame_rate", "bits_per_second", "bytes", "rtf",
    }  # fmt: skip
    samples = torch.from_numpy(soundfile.read("noise.wav", dtype="float32")[0])[None]
    codes = codec.encode(samples)
    assert torch.equal(container.read("new/a.ftc").codes, codes[0]) and len(codes.unique()) > 30

    heard = flowtts_json("decode", "new/a.ftc", "-o", "new/a.wav", "--codec", "small", "--no-tag")
    assert (heard["sample_rate"], heard["codec"], heard["codebooks"]) == (16_000, "codec", 4)
    assert set(heard) == {"audio", "sample_rate", "seconds", "codec", "codebooks", "rtf"}
    sound, rate = soundfile.read("new/a.wav", dtype="float32")
    assert (len(sound), rate) == (24_007, 16_000)
    assert np.allclose(sound, codec.decode(codes)[0, :24_007].numpy(), atol=1 / 32_768)
    assert read_comments("new/a.wav") == {}


def test_sound_is_tagged_unless_asked_otherwise(flowtts_json: Json) -> None:
    flowtts_json("encode", "noise.wav", "-o", "a.ftc", "--codec", "small")
    flowtts_json("decode", "a.ftc", "-o", "tagged.wav", "--codec", "small")
    flowtts_json("decode", "a.ftc", "-o", "plain.wav", "--codec", "small", "--no-tag")
    assert "vocoded speech, made by flowtts" in read_comments("tagged.wav")["comment"]
    from flowtts.audio.io import read
    from flowtts.provenance.tag import embed

    assert np.allclose(read("tagged.wav").samples, embed(read("plain.wav")).samples, atol=2 / 32_768)
    assert not np.array_equal(read("tagged.wav").samples, read("plain.wav").samples)


def test_fewer_codebooks_are_fewer_bits_either_way(flowtts_json: Json) -> None:
    flowtts_json("encode", "noise.wav", "-o", "all.ftc", "--codec", "small")
    found = flowtts_json("encode", "noise.wav", "-o", "two.ftc", "--codec", "small", "--codebooks", "2")
    assert (found["codebooks"], found["bits_per_second"], found["bytes"]) == (2, 700.0, 50 + 76 * 2 * 7 // 8)
    assert torch.equal(container.read("two.ftc").codes, container.read("all.ftc").codes[:, :2])
    words = ("--codec", "small", "--no-tag")
    assert flowtts_json("decode", "all.ftc", "-o", "a.wav", "--codebooks", "2", *words)["codebooks"] == 2
    flowtts_json("decode", "two.ftc", "-o", "b.wav", *words)
    flowtts_json("decode", "all.ftc", "-o", "c.wav", *words)
    first, second, whole = (Path(f"{name}.wav").read_bytes() for name in "abc")
    assert first == second != whole


def test_rates_and_channels_are_the_codecs(flowtts_json: Json) -> None:
    found = flowtts_json("encode", "stereo.wav", "-o", "a.ftc", "--codec", "small")
    assert (found["seconds"], found["frames"]) == (1.0, 50)
    assert container.read("a.ftc").source_rate == 44_100
    assert flowtts_json("decode", "a.ftc", "-o", "a.flac", "--codec", "small")["seconds"] == 1.0
    assert soundfile.info("a.flac").samplerate == 16_000 and soundfile.info("a.flac").frames == 16_000


def test_silence_and_a_single_sample_are_recordings_too(flowtts_json: Json) -> None:
    for name, samples, frames in (("silent", 8000, 25), ("one", 1, 1)):
        assert flowtts_json("encode", f"{name}.wav", "-o", "a.ftc", "--codec", "small")["frames"] == frames
        flowtts_json("decode", "a.ftc", "-o", "a.wav", "--codec", "small")
        assert soundfile.info("a.wav").frames == samples


def test_long_recordings_go_in_pieces_with_the_same_bytes(flowtts_json: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = import_module("flowtts.vocoders.codec.network").Encoder
    into, longest = encoder._into, [0]

    def watched(self: Any, frames: torch.Tensor) -> Any:
        longest[0] = max(longest[0], frames.shape[1])
        return into(self, frames)

    monkeypatch.setattr(encoder, "_into", watched)
    monkeypatch.setattr(container, "PIECE", 0.3)
    flowtts_json("encode", "noise.wav", "-o", "pieces.ftc", "--codec", "small")
    flowtts_json("decode", "pieces.ftc", "-o", "pieces.wav", "--codec", "small", "--no-tag")
    assert 0 < longest[0] <= 32
    monkeypatch.setattr(container, "PIECE", 1e3)
    flowtts_json("encode", "noise.wav", "-o", "whole.ftc", "--codec", "small")
    flowtts_json("decode", "whole.ftc", "-o", "whole.wav", "--codec", "small", "--no-tag")
    assert longest[0] >= 140
    assert Path("pieces.ftc").read_bytes() == Path("whole.ftc").read_bytes()
    heard, whole = (soundfile.read(f"{name}.wav")[0] for name in ("pieces", "whole"))
    assert np.abs(heard - whole).max() <= 1 / 32_768


def test_people_get_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["encode", "noise.wav", "-o", "a.ftc", "--codec", "small"]) == 0
    assert cli.main(["decode", "a.ftc", "-o", "a.wav", "--codec", "small"]) == 0
    out, err = capsys.readouterr()
    assert out == "" and err == "a.ftc: 1.50 s in 316 bytes, 1.40 kbit/s of codes\na.wav: 1.50 s at 16000 Hz\n"


ENCODE: list[tuple[tuple[str, ...], str]] = [
    (("gone.wav", "-o", "a.ftc"), "gone.wav"),
    (("empty.wav", "-o", "a.ftc"), "holds no sound"),
    (("tiny.wav", "-o", "a.ftc"), "too short: 1 samples at 48000 Hz are none at 16000 Hz"),
    (("noise.wav",), "-o"),
    (("noise.wav", "-o", "a.wav"), "use .ftc"),
    (("noise.wav", "-o", "a.ftc", "--codebooks", "0"), "--codebooks"),
    (("noise.wav", "-o", "a.ftc", "--codebooks", "5"), "4 codebooks"),
    (("noise.wav", "-o", "a.ftc", "--codec", "codce"), "did you mean 'codec'"),
    (("noise.wav", "-o", "a.ftc", "--device", "gpu9"), "gpu9"),
]


@pytest.mark.parametrize(("words", "said"), ENCODE, ids=[" ".join(words) for words, _ in ENCODE])
def test_encode_refuses(refused: Refused, words: tuple[str, ...], said: str) -> None:
    codec = () if "--codec" in words else ("--codec", "small")
    assert said in refused("encode", *words, *codec)


def test_decode_refuses(refused: Refused, flowtts_json: Json, folder: Path) -> None:
    flowtts_json("encode", "noise.wav", "-o", "a.ftc", "--codec", "small")
    data = Path("a.ftc").read_bytes()
    Path("cut.ftc").write_bytes(data[:100])
    Path("long.ftc").write_bytes(data + b"\0")
    Path("newer.ftc").write_bytes(data[:4] + b"\2" + data[5:])
    Path("damaged.ftc").write_bytes(data[:100] + bytes([data[100] ^ 4]) + data[101:])
    Path("empty.ftc").write_bytes(b"")
    make(folder / "other", seed=1)
    cases: list[tuple[tuple[str, ...], str]] = [
        (("cut.ftc",), "cut.ftc is cut short: it has 100 of"),
        (("long.ftc",), "long.ftc goes on for 1 bytes"),
        (("newer.ftc",), "newer.ftc has format 2"),
        (("damaged.ftc",), "damaged.ftc is damaged: its checksum is wrong"),
        (("empty.ftc",), "empty.ftc is empty"),
        (("noise.wav",), "noise.wav is no file of codes"),
        (("gone.ftc",), "gone.ftc: no such file of codes"),
        (("a.ftc", "--codec", "other"), "wrong codec: a.ftc was written by codec"),
        (("a.ftc", "--codec", "mimi"), "no weights of mimi"),
        (("a.ftc", "--codebooks", "5"), "take 1 to 4 of them, not 5"),
    ]
    for words, said in cases:
        codec = () if "--codec" in words else ("--codec", "small")
        assert said in refused("decode", *words, "-o", "b.wav", *codec)
    assert "unknown format '.xyz'" in refused("decode", "a.ftc", "-o", "b.xyz", "--codec", "small")
    Path("same.wav").write_bytes(data)
    assert "would overwrite the input" in refused("decode", "same.wav", "-o", "same.wav", "--codec", "small")


def test_the_codec_that_wrote_a_file_is_found_without_being_named(
    flowtts_json: Json, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowtts_json("encode", "noise.wav", "-o", "a.ftc", "--codec", "small")
    asked: list[str] = []

    def load(name: Any, codebooks: Any, device: Any) -> Any:
        asked.append(str(name))
        return load_codec(made, codebooks, device)

    monkeypatch.setattr("flowtts.registry.load_codec", load)
    assert flowtts_json("decode", "a.ftc", "-o", "a.wav")["codec"] == "codec"
    assert asked == ["codec"]


def test_models_lists_codecs_and_what_can_be_pulled(flowtts_json: Json) -> None:
    found = flowtts_json("models")
    assert {"codec", "encodec", "mimi", "dac"} <= {codec["name"] for codec in found["codecs"]}
    published = {entry["name"]: entry for entry in found["published"]}
    assert published["mimi"] == {
        "name": "mimi", "repository": "kyutai/mimi", "licence": "CC-BY-4.0", "folder": None,
    }  # fmt: skip
