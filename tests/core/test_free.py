"""Recipes without durations: which takes are drawn, judged and rendered, how long they last, when words are said.

The recipe is a parrot, whose takes are noise of a length that their generators choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from flowtts import voice
from flowtts.alignment import Alignment
from flowtts.alignment.choose import english_aligner
from flowtts.audio.io import read
from flowtts.decode import Decoding
from flowtts.latents import Latents
from flowtts.pipeline import Pipeline
from flowtts.request import Request
from flowtts.sidecar import replay
from flowtts.tasks import FreeRecipe, Preset, Spoken, TimedRecipe, timed
from flowtts.text import Analysis, FrontEnd
from flowtts.text.symbols import SYMBOLS
from flowtts.types import VOICEBOX_MEL, Audio, Generated, Item, MelSpec, Sampling, UserError

SHORT = "Hello there, my friend."
LONG = " ".join(f"This is sentence number {i}, and it goes on for a while." for i in range(6))
ASSETS = Path(__file__).parents[1] / "assets"
RATE, HOP = VOICEBOX_MEL.frame_rate, VOICEBOX_MEL.hop_length


@dataclass(frozen=True)
class Take:
    """As long as its generator chose."""

    frames: int
    network_calls: int = 2


@dataclass
class Parrot:
    """Remembers what it was asked."""

    name: str = "parrot"
    tasks: frozenset[str] = frozenset({"say", "sample"})
    spec: MelSpec = VOICEBOX_MEL
    symbols: tuple[str, ...] = SYMBOLS
    sampling: Sampling = field(default_factory=lambda: Sampling("ddim", steps=5, guidance=2.0, temperature=1.0))
    decoding: Decoding = field(default_factory=lambda: Decoding(repetition=1.5))
    presets: Mapping[str, Preset] = field(default_factory=lambda: {"quick": Preset(3, 7, "1.5")})
    hears: list[int] = field(default_factory=list)
    draws: list[tuple[str, Latents, Decoding, int]] = field(default_factory=list)
    renders: list[tuple[int, Latents, Sampling, float]] = field(default_factory=list)

    def voice(self, clips: Sequence[Audio]) -> Latents:
        self.hears.append(len(clips))
        return Latents(
            {"v": torch.tensor([float(np.abs(clip.samples).mean()) for clip in clips]).mean(0, True)}, "hash"
        )

    def random_voice(self, rng: torch.Generator) -> Latents:
        return Latents({"v": torch.rand(1, generator=rng)}, "hash")

    def draw(
        self, analysis: Analysis, voice: Latents, decoding: Decoding, rngs: Sequence[torch.Generator]
    ) -> Sequence[Take]:
        self.draws.append((analysis.normalised, voice, decoding, len(rngs)))
        return [Take(int(torch.randint(40, 90, (1,), generator=rng))) for rng in rngs]

    def judge(self, analysis: Analysis, takes: Sequence[Spoken]) -> Tensor:
        return torch.tensor([float(take.frames) for take in takes])

    def render(
        self, analysis: Analysis, take: Spoken, voice: Latents, sampling: Sampling, rng: torch.Generator, pace: float
    ) -> Generated:
        frames = round(take.frames * pace)
        self.renders.append((take.frames, voice, sampling, pace))
        features = torch.randn(frames, self.spec.channels, generator=rng) + voice.tensors["v"]
        return Generated(features, torch.zeros(0, dtype=torch.long), sampling.steps, 2 * sampling.steps)


class Hum:
    """A vocoder that holds the first band."""

    name = "hum"
    spec = VOICEBOX_MEL

    def decode(self, features: Tensor) -> Tensor:
        return 0.01 * features[..., 0].repeat_interleave(HOP, 1)


class Playback:
    """A vocoder that plays a recording, whatever it reads, as often as there is time."""

    name = "playback"
    spec = VOICEBOX_MEL

    def __init__(self, samples: Tensor) -> None:
        self.samples = samples[: len(samples) // HOP * HOP]

    def decode(self, features: Tensor) -> Tensor:
        return self.samples.repeat(features.shape[1] * HOP // len(self.samples))[None]


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def tts(parrot: Parrot) -> Pipeline:
    return Pipeline(parrot, Hum(), "parrot", "hash")


@pytest.fixture
def unaligned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be aligned, which is quick."""

    def align(audio: Audio, analysis: Analysis) -> None:
        raise UserError("too short")

    monkeypatch.setattr("flowtts.free.english_aligner", lambda: SimpleNamespace(align=align))


@dataclass
class Meter:
    """A metric: the length of the sound."""

    higher_is_better: bool
    name: str = "meter"
    items: list[Item] = field(default_factory=list)

    def __call__(self, items: Sequence[Item]) -> SimpleNamespace:
        self.items += items
        return SimpleNamespace(value=items[0].audio.seconds)


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], Meter]]:
    def install(higher_is_better: bool) -> Meter:
        made = Meter(higher_is_better)
        monkeypatch.setattr("flowtts.judge.load_metric", lambda name: made)
        return made

    yield install


pytestmark = pytest.mark.usefixtures("unaligned")


def test_the_parrot_is_a_free_recipe_and_times_nothing(parrot: Parrot) -> None:
    assert isinstance(parrot, FreeRecipe) and not isinstance(parrot, TimedRecipe)
    with pytest.raises(UserError, match="mine does not time its phones"):
        timed(parrot, "mine")


# --- takes -----------------------------------------------------------------------------------------------------------


def test_same_seed_same_samples_and_another_seed_others(tts: Pipeline) -> None:
    a, b, c = (tts.say(SHORT, seed=seed).audio.samples for seed in (3, 3, 4))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


@pytest.mark.parametrize("text", [SHORT, LONG])
def test_a_take_is_the_same_alone_and_in_company(tts: Pipeline, text: str, meter: Callable[[bool], Meter]) -> None:
    judged = meter(True)
    few, many = (tts.say(text, seed=3, best_of=count, rank="wer") for count in (2, 5))
    heard = [item.audio.samples for item in judged.items]
    seeds = [candidate.seed for candidate in many.candidates]
    assert len(set(seeds)) == 5 and seeds[0] == 3
    assert [candidate.seed for candidate in few.candidates] == seeds[:2]
    for alone, company in zip(heard[:2], heard[2:], strict=False):
        assert np.array_equal(alone, company)
    for seed, samples in zip(seeds, heard[2:], strict=True):
        assert np.array_equal(tts.say(text, seed=seed).audio.samples, samples)


@pytest.mark.parametrize("text", [SHORT, LONG])
def test_clvp_judges_all_and_the_best_alone_is_rendered(tts: Pipeline, parrot: Parrot, text: str) -> None:
    seen: list[tuple[int, int]] = []
    speech = tts.say(text, seed=3, best_of=6, progress=lambda done, total: seen.append((done, total)))
    parts = len(speech.plan.chunks)
    assert parts == len(parrot.renders) == len(parrot.draws) and (parts > 1) == (text == LONG)
    assert seen == [(done, parts) for done in range(1, parts + 1)]
    scores = {candidate.seed: candidate.scores["clvp"] for candidate in speech.candidates}
    assert len(scores) == 6 and scores[speech.seed] == max(scores.values()) > min(scores.values())
    # The parrot's judge likes length, and a text's score is the mean of its parts'.
    assert scores[speech.seed] * parts == pytest.approx(sum(drawn for drawn, *_ in parrot.renders))
    assert speech.nfe == 5 * parts and speech.network_calls == 10 * parts + 2 * 6 * parts
    assert np.array_equal(tts.say(text, seed=speech.seed).audio.samples, speech.audio.samples)


@pytest.mark.parametrize("higher_is_better", [True, False])
@pytest.mark.parametrize("rank", ["wer", "sim"])
def test_who_listens_hears_all_takes(
    tts: Pipeline, parrot: Parrot, meter: Callable[[bool], Meter], rank: str, higher_is_better: bool
) -> None:
    judged, choose = meter(higher_is_better), max if higher_is_better else min
    speech = tts.say(LONG, seed=3, best_of=4, rank=rank, voice="slt")
    parts = len(speech.plan.chunks)
    assert len(parrot.renders) == 4 * parts
    assert speech.nfe == 5 * 4 * parts and speech.network_calls == 4 * parts * (2 + 10)
    scores = {candidate.seed: candidate.scores[rank] for candidate in speech.candidates}
    assert scores[speech.seed] == choose(scores.values()) == speech.seconds
    assert {item.text for item in judged.items} == {speech.normalised}
    prompts = [item.prompt for item in judged.items]
    assert all(prompt is not None and prompt is prompts[0] for prompt in prompts)


def test_likeness_to_no_recording_is_refused_before_anything_is_drawn(
    tts: Pipeline, parrot: Parrot, tmp_path: Path
) -> None:
    kept = tts.voice(["slt"]).save(tmp_path / "v.safetensors")
    for ask in (
        lambda: tts.say(SHORT, best_of=2, rank="sim", voice=kept),
        lambda: tts.sample(SHORT, 1, best_of=2, rank="sim"),
    ):
        with pytest.raises(UserError, match="sim compares with a recording"):
            ask()
    assert parrot.draws == []
    assert tts.say(SHORT, rank="sim", voice=kept).candidates[0].scores == {}


# --- what is asked for -----------------------------------------------------------------------------------------------


def test_presets_decide_what_is_left_open(tts: Pipeline) -> None:
    def asked(**options: object) -> tuple[object, ...]:
        settings = tts.plan(SHORT, **options).settings
        return settings["best_of"], settings["steps"], settings["guidance"], settings["solver"], settings["rank"]

    assert asked() == (1, 5, 2.0, "ddim", "clvp")
    assert asked(preset="quick") == (3, 7, 1.5, "ddim", "clvp")
    assert asked(preset="quick", best_of=None, steps=9, guidance="3") == (3, 9, 3.0, "ddim", "clvp")
    assert asked(preset="quick", best_of=1, rank="wer", solver="ddpm") == (1, 7, 1.5, "ddpm", "wer")
    with pytest.raises(UserError, match="no preset 'slow'; there are quick"):
        asked(preset="slow")
    with pytest.raises(TypeError):
        asked(gidance=2)


def test_decoding_starts_from_what_the_recipe_recommends(tts: Pipeline, parrot: Parrot) -> None:
    for spelling, wanted, kept in (
        (None, Decoding(repetition=1.5), ""),
        ("", Decoding(repetition=1.5), ""),
        ("top_p=0.5", Decoding(repetition=1.5, top_p=0.5), "top_p=0.5"),
        # The default of decoding is not the recipe's, and must survive a replay.
        ("repetition=2", Decoding(), "repetition=2"),
    ):
        speech = tts.say(SHORT, decoding=spelling)
        assert parrot.draws[-1][2] == wanted
        assert speech.plan.settings["decoding"] == kept
        tts.say(SHORT, decoding=kept)
        assert parrot.draws[-1][2] == wanted
    with pytest.raises(UserError, match="top_p is more than 0"):
        tts.plan(SHORT, decoding="top_p=2")


def test_a_replay_asks_for_the_same(
    tts: Pipeline, parrot: Parrot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowtts.pipeline.load", lambda *_: tts)
    made = (
        tts.say(SHORT, seed=3, preset="quick", speed=1.3, decoding="repetition=2", voice="slt"),
        tts.say(LONG, seed=3, duration=4.0, steps=2),
        *tts.sample(SHORT, 2, seed=3, best_of=2, speed=0.8, decoding="top_k=5"),
    )
    for speech in made:
        speech.save(tmp_path / "a.wav")
        before = speech.info()
        again = replay(tmp_path / "a.json", tmp_path / "b.wav").info()
        assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
        # Of several takes the sidecar names the seed of the one that was kept.
        assert {**again, "rtf": 0, "audio": ""} == {**before, "rtf": 0, "audio": ""}


def test_a_replay_with_another_recording_is_refused(
    tts: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowtts.pipeline.load", lambda *_: Pipeline(Parrot(), Hum(), "parrot", "hash"))
    kept = tmp_path / "v.safetensors"
    tts.voice(["slt"]).save(kept)
    tts.say(SHORT, voice=kept).save(tmp_path / "a.wav")
    tts.voice(["rms"]).save(kept)
    with pytest.raises(UserError, match=r"the voice .*v\.safetensors is not the recording"):
        replay(tmp_path / "a.json", tmp_path / "b.wav")
    assert not (tmp_path / "b.wav").exists()


# --- voices ----------------------------------------------------------------------------------------------------------


def test_a_voice_is_heard_once_and_stays_the_same_for_all_parts(tts: Pipeline, parrot: Parrot) -> None:
    tts.say(LONG, voice="slt", best_of=2, rank="clvp")
    tts.plan(SHORT, voice="slt")
    assert parrot.hears == [1]
    used = {voice.hash for _, voice, _, _ in parrot.draws} | {voice.hash for _, voice, _, _ in parrot.renders}
    assert used == {tts.voice(["slt"]).hash} and len(parrot.draws) > 1


def test_a_kept_voice_speaks_like_its_recording(tts: Pipeline, tmp_path: Path) -> None:
    kept = tts.voice(["slt"]).save(tmp_path / "v.safetensors")
    a, b = (tts.say(SHORT, voice=source).audio.samples for source in ("slt", kept))
    assert np.array_equal(a, b)


def test_the_level_is_that_of_the_voice(tts: Pipeline) -> None:
    recording = read(voice.resolve("slt", None)[0])
    quiet = replace(recording, samples=0.1 * recording.samples)
    loud, soft = (tts.say(SHORT, voice=source).audio.samples for source in (recording, quiet))
    assert np.allclose(0.1 * loud, soft, rtol=1e-3, atol=1e-6)


def test_several_voices_count_by_their_recordings(tts: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    for name in ("slt", "awb"):
        source = voice.resolve(name, None)[0]
        (tmp_path / "two" / source.name).write_bytes(source.read_bytes())
    a, b, c = (float(tts.voice([name]).tensors["v"]) for name in ("slt", "awb", "rms"))
    assert float(tts.voice([tmp_path / "two"]).tensors["v"]) == pytest.approx((a + b) / 2)
    assert float(tts.voice([tmp_path / "two", "rms"]).tensors["v"]) == pytest.approx((a + b + c) / 3)


def test_every_sample_has_a_voice_of_its_own(tts: Pipeline, parrot: Parrot) -> None:
    seen: list[tuple[int, int]] = []
    made = tts.sample(SHORT, 3, seed=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)] and parrot.hears == []
    assert len({speech.seed for speech in made}) == 3 and made[0].seed == 3
    assert len({speech.plan.settings["voice"]["hash"] for speech in made}) == 3
    for speech in made:
        assert speech.plan.settings["verb"] == "sample" and speech.plan.settings["voice"]["name"] == "random"
        (alone,) = tts.sample(SHORT, 1, seed=speech.seed)
        assert np.array_equal(alone.audio.samples, speech.audio.samples)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "n is from 1"),
        ({"durations": "flow"}, "no durations 'flow'"),
        ({"voice": "slt"}, "leave out the voice"),
        ({"preset": "slow"}, "no preset"),
        ({"rank": "beauty"}, "no ranker"),
    ],
)
def test_samples_that_cannot_be(tts: Pipeline, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        tts.sample(SHORT, **options)  # type: ignore[arg-type]


# --- lengths and times -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.25, 0.7, 1.0, 1.3, 4.0])
@pytest.mark.parametrize("text", [SHORT, LONG])
def test_speed_divides_the_length_of_every_part(tts: Pipeline, parrot: Parrot, text: str, speed: float) -> None:
    speech = tts.say(text, seed=3, speed=speed)
    wanted = [round(drawn / speed) for drawn, *_ in parrot.renders]
    assert [sum(chunk.frames) for chunk in speech.plan.chunks] == wanted
    assert len(speech.audio.samples) == HOP * sum(wanted)


@pytest.mark.parametrize("seconds", [0.5, 1.234, 7.77, 33.3])
@pytest.mark.parametrize("text", [SHORT, LONG])
def test_a_duration_is_met_to_the_frame(tts: Pipeline, parrot: Parrot, text: str, seconds: float) -> None:
    for options in ({}, {"best_of": 3}, {"speed": 2.0}):
        speech = tts.say(text, seed=3, duration=seconds, **options)
        assert len(speech.audio.samples) == HOP * round(seconds * RATE)
        assert speech.plan.seconds == pytest.approx(speech.seconds)
    shares = [sum(chunk.frames) for chunk in speech.plan.chunks]
    drawn = [drawn for drawn, *_ in parrot.renders[-len(shares) :]]
    assert all(abs(x - n * sum(shares) / sum(drawn)) <= 1 for x, n in zip(shares, drawn, strict=True))


def test_plans_draw_nothing_and_know_the_length_asked_for(tts: Pipeline, parrot: Parrot) -> None:
    plain, fast = (tts.plan(SHORT, speed=speed).seconds for speed in (1.0, 2.0))
    assert plain == pytest.approx(2 * fast, abs=0.02) and 0.5 < plain < 3
    for text in (SHORT, LONG):
        assert tts.plan(text, duration=2.5).seconds == pytest.approx(2.5)
    assert parrot.draws == [] and tts.plan(SHORT).settings["timing"] == "estimated"


def test_estimated_times_are_in_order_and_fill_the_parts(tts: Pipeline) -> None:
    speech = tts.say(LONG, seed=3)
    assert speech.plan.settings["timing"] == "estimated"
    times = [time for word in speech.words for time in (word.start, word.end)]
    assert times == sorted(times) and times[0] == 0 and times[-1] == pytest.approx(speech.seconds)
    assert [word.text for word in speech.words] == [word for chunk in speech.plan.chunks for word in chunk.words]
    assert sum(len(chunk.words) for chunk in speech.plan.chunks) == len(LONG.split())


def test_words_are_where_the_aligner_hears_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is aligned by itself, and follows the one before."""
    text, recording = "The old clock stopped, and nobody heard it.", read(ASSETS / "spoken.flac")
    analysis, playback = FrontEnd().analyse(text), Playback(torch.from_numpy(recording.samples))
    frames, known = len(playback.samples) // HOP, dict[bytes, Alignment]()

    def align(audio: Audio, analysis: Analysis) -> Alignment:
        key = audio.samples.tobytes()
        known[key] = known.get(key) or english_aligner().align(audio, analysis)
        return known[key]

    class Fixed(Parrot):
        def draw(self, analysis: Analysis, voice: Latents, decoding: Decoding, rngs: Sequence[object]) -> list[Take]:
            return [Take(frames) for _ in rngs]

    monkeypatch.setattr("flowtts.free.english_aligner", lambda: SimpleNamespace(align=align))
    monkeypatch.setattr("flowtts.free.analyse", lambda *_: [(text, analysis)] * 3)
    # Untagged: the parts are to sound alike to the last bit.
    speech = Pipeline(Fixed(), playback, "parrot", "hash", tag=False).say(text)
    assert speech.plan.settings["timing"] == "aligned" and len(speech.audio.samples) == 3 * frames * HOP
    (aligned,) = known.values()
    assert [word.text for word in speech.words] == 3 * [word.text for word in aligned.words]
    for index, word in enumerate(speech.words):
        part, place = divmod(index, len(aligned.words))
        start, end = (part * frames / RATE + time for time in (aligned.words[place].start, aligned.words[place].end))
        assert word.start == pytest.approx(start, abs=0.011) and word.end == pytest.approx(end, abs=0.011)
    # The engine that spoke it says so.
    assert speech.words[2].start == pytest.approx(0.646, abs=0.05)


def test_requests_name_their_seeds() -> None:
    assert Request("a", seed=4, best_of=3).seeds[:2] == Request("a", seed=4, best_of=2).seeds
    assert Request("a", seed=4).seeds == [4]
