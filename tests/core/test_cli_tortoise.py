"""The command line with a Tortoise of random weights: speaking, voices, repeating, judging, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny_tortoise import tiny_tortoise

import flowtts
from flowtts import checkpoint, cli, judge, registry
from flowtts.latents import Latents, read_latents
from flowtts.pipeline import Pipeline
from flowtts.recipes.tortoise import load
from flowtts.recipes.tortoise.voices import VOICES_KIND, VOICES_PART, GaussianVoices

TEXT = "She kept 2 letters."
LONG = "She kept the letters in a wooden box beside the window. " * 4
CONTRACT = (
    "audio", "sample_rate", "seconds", "normalised", "phones", "words", "model", "seed", "solver", "nfe",
    "network_calls", "rtf", "candidates",
)  # fmt: skip
PLANNED = ("seconds", "normalised", "phones", "words", "chunks", "model", "seed", "solver")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random voices."""
    folder = tiny_tortoise(tmp_path_factory.mktemp("tortoise") / "tiny")
    rng, known = torch.Generator().manual_seed(0), []
    for _ in range(4):
        known.append(Latents({"ar": torch.randn(32, generator=rng), "decoder": torch.randn(64, generator=rng)}, ""))
    voices = GaussianVoices.fit(known)
    checkpoint.save(folder / VOICES_PART, kind=VOICES_KIND, config=voices.config, state=voices.state_dict())
    return folder


@pytest.fixture(scope="module")
def voiceless(tiny: Path) -> Path:
    """The same weights without."""
    return tiny_tortoise(tiny.with_name("voiceless"))


@pytest.fixture(scope="module")
def loaded() -> Callable[..., Pipeline]:
    """``flowtts.load``, which reads checkpoints once and hears voices anew."""
    once = cache(flowtts.load)

    def again(*words: str, **options: str) -> Pipeline:
        known = once(*words, **options)
        return Pipeline(known.recipe, known.vocoder, known.name, known.hash, known.tag)

    return again


@pytest.fixture(autouse=True)
def load_once(loaded: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowtts.pipeline.load", loaded)


@pytest.fixture(scope="module")
def tiny_hash(tiny: Path) -> str:
    """Of the weights of both."""
    return load(tiny).hash


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with recordings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWTTS_DEBUG", raising=False)
    rng = np.random.default_rng(0)
    Path("clips").mkdir()
    Path("empty").mkdir()
    for name, level, samples in (
        ("clips/a.wav", 0.1, 16_000), ("clips/b.flac", 0.02, 16_000), ("other.wav", 0.1, 16_000),
        ("short.wav", 0.1, 8_000), ("silent.wav", 0.0, 32_000),
    ):  # fmt: skip
        soundfile.write(name, level * rng.standard_normal(samples), 16_000)
    return tmp_path


@pytest.fixture
def run(folder: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[dict[str, Any]]]:
    """Runs a verb with --json and the tiny model, unless another is named; returns the objects it printed."""

    def call(verb: str, *words: str) -> list[dict[str, Any]]:
        given = [verb, *words, "--json"]
        if verb != "replay" and "--model" not in words:
            given += ["--model", str(tiny), "--vocoder", "griffin-lim"]
        status = cli.main(given)
        out, err = capsys.readouterr()
        assert status == 0, err
        return [json.loads(line) for line in out.splitlines()]

    return call


Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def tiny_judge(voiceless: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tiny CLVP in the place of the shipped one."""
    monkeypatch.setitem(registry.JUDGES, "clvp", ("flowtts.recipes.tortoise.judge", str(voiceless)))
    judge.shipped_judge.cache_clear()
    yield
    judge.shipped_judge.cache_clear()


# --- speaking --------------------------------------------------------------------------------------------------------


def test_say_says_what_it_made(run: Run, tiny: Path) -> None:
    (found,) = run("say", TEXT, "--voice", "clips", "--seed", "3", "--best-of", "3", "--words", "w.srt", "-o", "a.wav")
    samples, rate = soundfile.read("a.wav")
    assert set(CONTRACT) <= found.keys()
    assert (found["audio"], found["sample_rate"]) == ("a.wav", rate) and found["rtf"] > 0
    assert found["seconds"] == pytest.approx(len(samples) / rate, abs=1e-3)
    assert found["normalised"] == "She kept two letters." and found["phones"]
    assert [word["text"] for word in found["words"]] == ["She", "kept", "two", "letters"]
    times = [time for word in found["words"] for time in (word["start"], word["end"])]
    assert times == sorted(times) and times[-1] <= found["seconds"]
    assert (found["model"], found["solver"], found["steps"], found["rank"]) == (str(tiny), "ddim", 4, "clvp")
    # One take was rendered, all were judged.
    scores = {candidate["seed"]: candidate["scores"]["clvp"] for candidate in found["candidates"]}
    assert found["nfe"] == 4 and len(scores) == 3 and scores[found["seed"]] == max(scores.values())
    assert found["voice"]["clips"] == 2 and found["timing"] in ("aligned", "estimated")
    assert "She kept two letters." in Path("w.srt").read_text(encoding="utf-8")
    sidecar = json.loads(Path("a.json").read_text(encoding="utf-8"))
    assert {key: sidecar[key] for key in found} == found


def test_a_dry_run_says_what_would_be_said_and_writes_nothing(run: Run, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    (found,) = run("say", TEXT, "--voice", "clips", "--dry-run", "--preset", "ultra_fast", "--steps", "9")
    assert set(PLANNED) <= found.keys() and "audio" not in found
    assert found["normalised"] == "She kept two letters." and len(found["words"]) == 4
    assert (found["best_of"], found["steps"], found["guidance"]) == (16, 9, 1.0)
    assert sorted(folder.rglob("*")) == before


def test_same_seed_same_bytes_and_a_replay_too(run: Run) -> None:
    words = (
        "say",
        TEXT,
        "--voice",
        "clips",
        "--best-of",
        "2",
        "--speed",
        "1.1",
        "--decoding",
        "top_p=0.9,temperature=1",
    )
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        run(*words, "--seed", seed, "-o", f"{name}.wav")
    a, b, c = (Path(f"{name}.wav").read_bytes() for name in "abc")
    assert a == b != c
    (found,) = run("replay", "a.json", "-o", "again.wav")
    assert found["identical"] and Path("again.wav").read_bytes() == a
    assert found["decoding"] == "temperature=1,top_p=0.9"


def test_long_texts_keep_their_voice_and_their_length(run: Run) -> None:
    (found,) = run("say", LONG, "--voice", "clips", "--duration", "3.21", "-o", "a.wav")
    assert len(found["chunks"]) > 1 and found["seconds"] == pytest.approx(3.21, abs=1e-4)
    times = [time for word in found["words"] for time in (word["start"], word["end"])]
    assert times == sorted(times) and len(found["words"]) == len(LONG.split())


def test_samples_are_of_voices_that_are_drawn_and_can_be_repeated(run: Run) -> None:
    made = run("sample", TEXT, "-n", "2", "--seed", "5", "-o", "new")
    assert [Path(found["audio"]).name for found in made] == ["0001.wav", "0002.wav"]
    assert made[0]["seed"] == 5 != made[1]["seed"] and made[0]["voice"]["hash"] != made[1]["voice"]["hash"]
    for number in (1, 2):
        (found,) = run("replay", f"new/000{number}.json", "-o", f"{number}.wav")
        assert found["identical"]
        assert Path(f"{number}.wav").read_bytes() == Path(f"new/000{number}.wav").read_bytes()


# --- voices ----------------------------------------------------------------------------------------------------------


def test_a_kept_voice_is_its_clips_and_speaks_like_them(run: Run, tiny: Path, tiny_hash: str) -> None:
    (found,) = run("voice", "clips", "-o", "v.safetensors")
    kept = read_latents("v.safetensors", tiny_hash)
    assert found == {"voice": "v.safetensors", "model": str(tiny), "model_hash": kept.model, "hash": kept.hash}
    for voice, name in (("clips", "a"), ("v.safetensors", "b")):
        run("say", TEXT, "--voice", voice, "--seed", "3", "-o", f"{name}.wav")
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    (again,) = run("replay", "b.json", "-o", "c.wav")
    assert again["identical"] and again["voice"]["hash"] == kept.hash


def test_a_folder_is_the_mean_of_its_clips_and_weights_mix(run: Run, tiny_hash: str) -> None:
    sources = {"a": "clips/a.wav", "b": "clips/b.flac", "both": "clips", "o": "other.wav"}
    for name, source in sources.items():
        run("voice", source, "-o", f"{name}.safetensors")
    run("voice", "clips/a.wav", "clips/b.flac", "-o", "alike.safetensors")
    run("voice", "a.safetensors=3", "other.wav=0.5", "-o", "mixed.safetensors")
    a, b, both, o, alike, mixed = (
        read_latents(f"{name}.safetensors", tiny_hash) for name in ("a", "b", "both", "o", "alike", "mixed")
    )
    for name in ("ar", "decoder"):
        # Clips of one length and one piece, so that what hears them all together hears their mean.
        mean = (a.tensors[name] + b.tensors[name]) / 2
        assert torch.allclose(both.tensors[name], mean, atol=1e-5)
        assert torch.allclose(alike.tensors[name], mean, atol=1e-6)
        assert torch.allclose(mixed.tensors[name], (6 * a.tensors[name] + o.tensors[name]) / 7, atol=1e-6)
    assert both.gain == pytest.approx((a.gain * b.gain) ** 0.5) == pytest.approx(alike.gain)
    assert mixed.gain == pytest.approx(a.gain ** (6 / 7) * o.gain ** (1 / 7))


# --- the judge -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_judge")
def test_clvp_chooses_for_recipes_that_draw_no_codes(run: Run) -> None:
    fast = ("--model", "voicebox", "--steps", "1", "--solver", "euler", "--guidance", "1")
    (found,) = run("say", "Yes.", *fast, "--best-of", "2", "--rank", "clvp", "-o", "a.wav")
    scores = {candidate["seed"]: candidate["scores"]["clvp"] for candidate in found["candidates"]}
    assert len(scores) == 2 and scores[found["seed"]] == max(scores.values()) > min(scores.values())
    assert found["rank"] == "clvp" and found["nfe"] == 2
    (again,) = run("replay", "a.json", "-o", "b.wav")
    assert again["identical"] and again["candidates"] == found["candidates"]


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command line, which must refuse and leave nothing behind; returns the one line."""

    def call(*words: str) -> str:
        before = {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}
        status = cli.main(words)
        out, err = capsys.readouterr()
        assert (status, out) == (2, ""), (status, out, err)
        assert err.startswith("flowtts: ") and err.count("\n") == 1 and "Traceback" not in err
        assert {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")} == before
        return err

    return call


TORTOISE: list[tuple[str, str]] = [
    ("say hello --preset slow", "no preset 'slow'; there are ultra_fast, fast"),
    ("say hello --steps 1", "takes 2 to 60 steps, not 1"),
    ("say hello --solver dimm", "did you mean 'ddim'"),
    ("say hello --rank beauty", "--rank"),
    ("say hello --best-of 2 --rank sim --voice kept.safetensors", "sim compares with a recording"),
    ("say hello --voice empty", "empty holds no recordings"),
    ("say hello --voice silent.wav", "silent.wav is silent"),
    ("say hello --voice short.wav", "short.wav lasts 0.50 s"),
    ("say hello --voice gone.wav", "gone.wav"),
    ("say hello --voice gone.safetensors", "gone.safetensors"),
    ("say hello --voice broken.safetensors", "broken.safetensors"),
    ("say hello --voice foreign.safetensors", "was made with the weights xyz"),
    ("say hello --voice-text hi", "--voice"),
    ("say hello --decoding min_tokens=100,max_tokens=100", "min_tokens"),
    ("say 777777777777777,777777777777777,777777777777777", "symbols, the model reads 160"),
    ("sample hello -n 1 -o new", "has no random voices"),
    ("sample hello -n 1 -o new --durations flow", "no durations 'flow'"),
    ("voice empty -o v.safetensors", "empty holds no recordings"),
    ("voice silent.wav -o v.safetensors", "silent.wav is silent"),
    ("voice foreign.safetensors -o v.safetensors", "was made with the weights xyz"),
    ("edit other.wav --text a --to b", "cannot edit a recording (edit): take voicebox"),
    ("fill other.wav --text a --span 0:1", "(fill): take voicebox"),
    ("denoise other.wav --text a", "(denoise): take voicebox"),
    ("restyle other.wav --text a --style slt", "(restyle): take voicebox"),
    ("continue other.wav --text a --then b", "(continue): take voicebox"),
]

ANY: list[tuple[str, str]] = [
    ("say hello --decoding top_p=2", "--decoding"),
    ("say hello --decoding top_p", "write top_p=VALUE"),
    ("say hello --decoding temprature=1", "did you mean 'temperature'"),
    ("say hello --model voicebox --preset fast", "has no presets: leave out --preset"),
    ("say hello --model voicebox --decoding top_k=5", "draws no tokens: leave out --decoding"),
    ("say hello --model voicebox --voice clips", "clips is a folder"),
    ("say hello --model voicebox --voice kept.safetensors --voice-text hi", "kept.safetensors"),
    ("voice other.wav --model voicebox -o v.safetensors", "keeps no voices"),
    ("voice", "SOURCE"),
    ("voice other.wav", "--output"),
    ("voice other.wav -o v.wav", "use .safetensors"),
    ("voice other.wav=abc -o v.safetensors", "the weight behind = is a number"),
    ("voice other.wav=-1 -o v.safetensors", "the weight is a positive number, not -1"),
    ("voice other.wav=0 -o v.safetensors", "the weight is a positive number, not 0"),
    ("voice other.wav=nan -o v.safetensors", "the weight is a positive number, not nan"),
    ("voice kept.safetensors=2 -o kept.safetensors", "would overwrite the input"),
]


@pytest.fixture
def voices(folder: Path, tiny_hash: str) -> None:
    made = Latents({"ar": torch.zeros(32), "decoder": torch.zeros(64)}, tiny_hash)
    made.save("kept.safetensors")
    Latents(made.tensors, "xyz").save("foreign.safetensors")
    Path("broken.safetensors").write_bytes(b"this is no voice")


@pytest.mark.usefixtures("voices")
@pytest.mark.parametrize(("words", "said"), TORTOISE, ids=[words for words, _ in TORTOISE])
def test_what_this_model_refuses(refused: Callable[..., str], voiceless: Path, words: str, said: str) -> None:
    model = ("--model", str(voiceless), "--vocoder", "griffin-lim")
    assert said in refused(*words.split(), *model)


@pytest.mark.usefixtures("voices")
@pytest.mark.parametrize(("words", "said"), ANY, ids=[words for words, _ in ANY])
def test_what_is_refused_of_others(refused: Callable[..., str], words: str, said: str) -> None:
    assert said in refused(*words.split())


def test_a_missing_judge_is_found_out_before_anything_is_said(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.JUDGES, "clvp", ("flowtts.recipes.tortoise.judge", "gone"))
    judge.shipped_judge.cache_clear()
    monkeypatch.setattr("flowtts.pipeline.Pipeline._render", lambda *_: pytest.fail("something was said"))
    assert "no judge 'gone'" in refused("say", "hello", "--best-of", "2", "--rank", "clvp")
