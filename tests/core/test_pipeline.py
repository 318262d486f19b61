"""From text and a voice to speech, through the shipped checkpoints at very few steps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

import flowtts
from flowtts import registry
from flowtts import voice as voices
from flowtts.audio.io import read
from flowtts.edit.request import make_edit_request
from flowtts.pipeline import Pipeline, derive, make_request
from flowtts.text import FrontEnd
from flowtts.types import VOCOS_MEL, VOICEBOX_MEL, Audio, MelSpec, Sampling, UserError
from flowtts.vocoders.griffin_lim import GriffinLim

FEW = {"solver": "euler", "steps": 2}
TEXT = "Hello there, my old friend."


@pytest.fixture(scope="module")
def tts() -> Pipeline:
    return flowtts.load("voicebox", "vocos", "cpu")


def test_speaks_with_every_key_of_the_contract(tts: Pipeline, tmp_path: Path) -> None:
    speech = tts.say(TEXT, voice="rms", seed=3, **FEW)
    speech.save(tmp_path / "out.wav")
    info = json.loads((tmp_path / "out.json").read_text())
    wanted = "audio sample_rate seconds normalised phones words model seed solver nfe network_calls rtf candidates"
    assert set(wanted.split()) <= info.keys()
    assert info["nfe"] == 2 and info["network_calls"] == 4 and info["seed"] == 3
    assert [w["text"] for w in info["words"]] == ["Hello", "there", "my", "old", "friend"]
    assert read(tmp_path / "out.wav").seconds == pytest.approx(info["seconds"], abs=1e-3)
    assert np.isfinite(speech.audio.samples).all() and np.abs(speech.audio.samples).max() > 0.01


def test_words_are_in_order_and_within_the_recording(tts: Pipeline) -> None:
    words = tts.say(TEXT, voice="rms", **FEW).words
    times = [t for w in words for t in (w.start, w.end)]
    assert times == sorted(times) and all(w.end > w.start for w in words)


def test_same_seed_same_samples_and_another_seed_others(tts: Pipeline) -> None:
    a, b, c = (tts.say(TEXT, voice="slt", seed=s, **FEW).audio.samples for s in (5, 5, 6))
    assert np.array_equal(a, b)
    assert len(a) == len(c) and not np.array_equal(a, c)


def test_replay_makes_the_same_bytes(tts: Pipeline, tmp_path: Path) -> None:
    tts.say("Say it again.", voice="awb", seed=9, speed=1.2, **FEW).save(tmp_path / "a.wav")
    flowtts.replay(tmp_path / "a.json", tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_replay_refuses_what_is_no_sidecar(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="sidecar"):
        flowtts.replay(tmp_path / "x.json", tmp_path / "b.wav")


def test_plan_says_what_would_be_said(tts: Pipeline) -> None:
    plan = tts.plan("It costs $5. Really?", voice="rms", seed=1)
    assert plan.normalised == "It costs five dollars. Really?"
    assert plan.seconds == pytest.approx(tts.say("It costs $5. Really?", voice="rms", seed=1, **FEW).seconds, abs=1e-6)
    symbols = [phone["phone"] for phone in plan.info()["phones"]]
    assert symbols[0] == "SIL" and symbols[-1] == "SIL?"


def test_duration_is_met_and_speed_scales(tts: Pipeline) -> None:
    assert tts.plan(TEXT, voice="rms", duration=3.21).seconds == pytest.approx(3.21, abs=0.011)
    slow, fast = (tts.plan(TEXT, voice="rms", speed=speed).seconds for speed in (0.5, 2.0))
    assert slow / fast == pytest.approx(4, rel=0.25)


def test_long_text_is_said_in_chunks_with_nothing_lost(tts: Pipeline) -> None:
    text = " ".join(f"This is sentence number {i}, and it goes on for a while." for i in range(6))
    seen: list[tuple[int, int]] = []
    speech = tts.say(text, voice="rms", progress=lambda done, total: seen.append((done, total)), **FEW)
    chunks = speech.plan.chunks
    assert len(chunks) > 1 and seen[-1] == (len(chunks), len(chunks))
    assert len(speech.words) == sum(len(chunk.words) for chunk in chunks)
    assert speech.seconds == pytest.approx(speech.plan.seconds, abs=1e-6)


class Linear:
    """A vocoder whose sound is as far apart as the features are."""

    name = "linear"
    spec = VOICEBOX_MEL

    def decode(self, features: Tensor) -> Tensor:
        return features.repeat_interleave(2, dim=-1).flatten(1) / 100


def test_takes_and_chunks_in_one_batch_are_what_they_are_alone(tts: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"This is sentence number {i}, and it goes on for a while." for i in range(6))
    # Griffin-Lim's phases turn the last bits of features into another sound: what is compared must be linear in them.
    exact = Pipeline(registry.load_recipe("voicebox"), Linear(), "voicebox")
    plan, voice = exact.plan(text, voice="rms"), exact._voice(make_request(text, voice="rms"))
    seen: list[tuple[int, int]] = []
    sampling = Sampling("euler", steps=1)
    alone = exact._render(plan, voice, sampling, [1, 2], None)
    monkeypatch.setattr(type(exact.recipe), "batches", True)
    together = exact._render(plan, voice, sampling, [1, 2], lambda done, total: seen.append((done, total)))
    assert len(plan.chunks) > 1 and seen == [(2 * len(plan.chunks),) * 2]
    for (a, *costs), (b, *others) in zip(alone, together, strict=True):
        assert costs == others and a.samples.shape == b.samples.shape
        assert float(np.abs(a.samples - b.samples).max()) < 1e-4 * float(np.abs(a.samples).max())
    assert not np.array_equal(alone[0][0].samples, alone[1][0].samples)


def test_the_engine_is_said_and_replayed(tts: Pipeline, tmp_path: Path) -> None:
    exact = flowtts.load("voicebox", "vocos", "cpu", engine="eager")
    made = exact.say(TEXT, voice="rms", solver="euler", steps=1)
    made.save(tmp_path / "a.wav")
    assert json.loads((tmp_path / "a.json").read_text())["engine"] == "eager"
    flowtts.replay(tmp_path / "a.json", tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    with pytest.raises(UserError, match="no engine 'warp'"):
        flowtts.load("voicebox", "vocos", "cpu", engine="warp")


def test_best_of_keeps_the_best_and_all_scores(tts: Pipeline) -> None:
    pytest.importorskip("jiwer")
    speech = tts.say("The weather is fine today.", voice="rms", seed=1, best_of=2, solver="euler", steps=4)
    seeds = [candidate.seed for candidate in speech.candidates]
    scores = {candidate.seed: candidate.scores["wer"] for candidate in speech.candidates}
    assert len(set(seeds)) == 2 and seeds[0] == 1
    assert scores[speech.seed] == min(scores.values())


def test_louder_voice_gives_louder_speech(tts: Pipeline) -> None:
    text = voices.resolve("rms", None)[1]
    heard = read(voices.resolve("rms", None)[0])
    quiet = replace(heard, samples=heard.samples * np.float32(0.1))
    loud_made, quiet_made = (tts.say(TEXT, voice=v, voice_text=text, **FEW).audio.samples for v in (heard, quiet))
    assert np.sqrt(np.mean(quiet_made**2)) / np.sqrt(np.mean(loud_made**2)) == pytest.approx(0.1, rel=0.05)


def test_other_vocoder_reads_the_same_features(tts: Pipeline) -> None:
    other = Pipeline(tts.recipe, GriffinLim(VOICEBOX_MEL, iterations=2), "voicebox")
    assert other.say(TEXT, voice="rms", **FEW).seconds == tts.say(TEXT, voice="rms", **FEW).seconds


def test_mismatched_mels_are_refused(tts: Pipeline) -> None:
    with pytest.raises(UserError, match="vocoder"):
        Pipeline(tts.recipe, GriffinLim(VOCOS_MEL), "voicebox")


def test_prompt_has_whole_words_and_short_silences() -> None:
    spec = VOICEBOX_MEL
    made = voices.prepare("reader-f", None, spec, FrontEnd(), longest=4.0)
    prompt = made.prompt
    assert int(prompt.durations.sum()) == len(prompt.features)
    assert 1.0 < len(prompt.features) / spec.frame_rate <= 4.3
    assert prompt.phones[0].word == -1 and prompt.phones[-1].word == -1
    assert int(prompt.durations[0]) <= 10 and int(prompt.durations[-1]) <= 10
    assert abs(len(made.audio.samples) - len(prompt.features) * spec.hop_length) <= spec.hop_length


def test_prompt_without_text_is_recognised() -> None:
    heard = read(voices.resolve("rms", None)[0])
    made = voices.prepare(heard, None, VOICEBOX_MEL, FrontEnd())
    assert made.heard and "lights" in made.text


@pytest.mark.parametrize(
    ("voice", "text", "message"),
    [
        ("nobody", None, "no voice"),
        (Audio(np.zeros(32_000, np.float32), 16_000), "Hello.", "silent"),
        (Audio(np.ones(8_000, np.float32), 16_000), "Hello.", "at least"),
    ],
)
def test_bad_voices_are_refused(voice: str | Audio, text: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        voices.prepare(voice, text, VOICEBOX_MEL, FrontEnd())


def test_wrong_transcript_of_a_voice_is_refused() -> None:
    heard = read(voices.resolve("rms", None)[0])
    with pytest.raises(UserError, match="does not fit"):
        voices.prepare(
            heard, "Completely different words were written down here, I am quite afraid.", VOICEBOX_MEL, FrontEnd()
        )


@pytest.mark.parametrize(
    "options",
    [{"speed": 9.0}, {"duration": -1.0}, {"best_of": 0}, {"steps": 0}, {"rank": "taste"}, {"seed": -1}],
)
def test_requests_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError):
        make_request(TEXT, **options)


def test_unknown_options_are_errors() -> None:
    with pytest.raises(TypeError):
        make_request(TEXT, gidance=2.0)


@pytest.mark.parametrize("text", ["", "   ", "…", "!!!"])
def test_nothing_to_say_is_refused(tts: Pipeline, text: str) -> None:
    with pytest.raises(UserError):
        tts.plan(text, voice="rms")


def test_unknown_names_are_refused() -> None:
    for arguments in (
        ("voicebux",),
        ("voicebox", "vokos"),
        ("voicebox", "vocos", "cuda:99"),
        ("voicebox", "vocos", "cpu", "int3"),
    ):
        with pytest.raises(UserError):
            flowtts.load(*arguments)


def test_derived_seeds_differ_by_purpose_and_index() -> None:
    made = {derive(seed, purpose, i) for seed in (0, 1) for purpose in ("noise", "durations") for i in range(50)}
    assert len(made) == 200 and all(0 <= seed < 2**63 for seed in made)


def test_sampling_options_reach_the_solver(tts: Pipeline) -> None:
    made = tts.say(TEXT, voice="rms", solver="midpoint", steps=1, guidance=1.0)
    assert (made.nfe, made.network_calls) == (2, 2)
    assert make_request(TEXT, guidance=None).sampling == Sampling()
    assert isinstance(tts.spec, MelSpec)


def test_guidance_is_a_number_or_spelled_and_stays_so_in_a_replay(tts: Pipeline, tmp_path: Path) -> None:
    made = tts.say(TEXT, voice="rms", grid="uniform", guidance="2, interval=0:0.3", **FEW)
    assert (made.nfe, made.network_calls) == (2, 3)
    made.save(tmp_path / "a.wav")
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["guidance"] == "2,interval=0:0.3"
    flowtts.replay(tmp_path / "a.json", tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    told["guidance"] = 2.0
    (tmp_path / "plain.json").write_text(json.dumps(told))
    flowtts.replay(tmp_path / "plain.json", tmp_path / "c.wav")
    assert json.loads((tmp_path / "c.json").read_text())["guidance"] == 2.0
    assert tts.plan(TEXT, voice="rms", guidance="2").settings["guidance"] == 2.0


@pytest.mark.parametrize(
    ("guidance", "message"),
    [(-0.1, "0 to 100"), (101, "0 to 100"), ("2,text=101", "0 to 100"), ("2,intervl=0:1", "did you mean 'interval'")],
)
def test_guidance_that_makes_no_sense_is_refused(guidance: float | str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_request(TEXT, guidance=guidance)
    with pytest.raises(UserError, match=message):
        make_edit_request({"guidance": guidance})


def test_requests_start_from_what_the_model_recommends(tts: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Sampling(solver="euler", grid="sway", steps=3, guidance="1.5,star", temperature=0.9)
    monkeypatch.setattr(type(tts.recipe), "sampling", wanted)
    names = ("solver", "grid", "steps", "guidance", "temperature")
    settings = tts.plan(TEXT, voice="rms", steps=2, guidance=None).settings
    assert [settings[name] for name in names] == ["euler", "sway", 2, "1.5,star", 0.9]
    made = tts.say(TEXT, voice="rms")
    assert (made.nfe, made.network_calls) == (3, 6)
    (free,) = tts.sample("Yes.", 1)
    assert [free.plan.settings[name] for name in names] == ["euler", "sway", 3, 1.0, 0.9]
    recording, said = voices.resolve("rms", None)
    assert said is not None
    edited = tts.edit(recording, said, said)
    assert [edited.settings[name] for name in names] == ["euler", "sway", 3, "1.5,star", 0.9]


def test_the_model_knows_its_fitted_grid() -> None:
    assert make_request(TEXT, grid="fitted").sampling.grid == "fitted"
    with pytest.raises(UserError, match=r"cannot read the grid gone\.json"):
        make_request(TEXT, grid="gone.json")
