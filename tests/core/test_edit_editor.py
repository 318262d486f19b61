"""Verbs that edit: through the shipped checkpoints at very few steps, on shipped recordings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import flowtts
from flowtts import voice as voices
from flowtts.alignment.base import Alignment, PhoneTime
from flowtts.audio.io import read
from flowtts.edit import durations, window
from flowtts.edit.canvas import compose
from flowtts.edit.diff import Change
from flowtts.edit.recording import Patch
from flowtts.edit.request import make_edit_request
from flowtts.edit.result import Edited
from flowtts.edit.wording import carried_out, part
from flowtts.pipeline import Pipeline
from flowtts.text import FrontEnd
from flowtts.types import Audio, Generated, Phone, Samples, Sampling, UserError, Word

FEW: dict[str, Any] = {"solver": "euler", "steps": 2, "guidance": 1.0}
PATH, _TEXT = voices.resolve("rms", None)
TEXT = _TEXT or ""
SHIPS = TEXT.replace("boats", "ships")


@pytest.fixture(scope="module")
def tts() -> Pipeline:
    return flowtts.load("voicebox", "vocos", "cpu")


def outside(before: Samples, after: Samples, made: Edited) -> None:
    """Every sample outside the spans is the recording's, bit for bit, and the spans say where that is."""
    at = out = 0
    for span in made.spans:
        assert np.array_equal(before[at : span.start_sample], after[out : span.start_out_sample])
        at, out = span.end_sample, span.end_out_sample
    assert np.array_equal(before[at:], after[out:])
    assert len(after) == len(before) + sum(patch.delta for patch in made.patches)


def texts(made: Edited) -> str:
    return " ".join(word.text for word in made.words)


def in_order(made: Edited) -> None:
    times = [time for word in made.words for time in (word.start, word.end)]
    assert times == sorted(times) and times[-1] <= made.seconds + 0.011
    assert all(a < b for a, b in zip(times[0::2], times[1::2], strict=True))


@pytest.mark.parametrize(
    ("old", "new", "removed", "inserted"),
    [
        ("boats", "ships", "boats", "ships"),
        ("last boats", "boats", "last", ""),
        ("the evening", "the quiet evening", "", "quiet"),
        ("The harbour", "Our harbour", "The", "Our"),
        ("shore.", "shore again.", "", "again"),
    ],
)
def test_edit_changes_only_what_it_says(tts: Pipeline, old: str, new: str, removed: str, inserted: str) -> None:
    wanted = TEXT.replace(old, new)
    made = tts.edit(PATH, TEXT, wanted, seed=1, **FEW)
    (span,) = made.spans
    assert (span.removed, span.inserted) == (removed, inserted)
    assert span.start_sample < span.end_sample and span.end_sample - span.start_sample < 20_000
    outside(read(PATH).samples, made.audio.samples, made)
    assert texts(made) == wanted.rstrip(".").replace(",", "")
    in_order(made)
    assert made.seconds == pytest.approx(read(PATH).seconds + 0.4 * (bool(inserted) - bool(removed)), abs=0.45)


def test_several_changes_at_another_rate_in_stereo_and_saved(tts: Pipeline, tmp_path: Path) -> None:
    mono = read(PATH).samples
    wide = np.repeat(mono, 2)
    stereo = np.stack([wide, 0.5 * wide], axis=1).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", stereo, 32_000, subtype="PCM_24")
    wanted = SHIPS.replace("shore", "island")
    made = tts.edit(tmp_path / "in.wav", TEXT, wanted, seed=1, **FEW)
    assert [(s.removed, s.inserted) for s in made.spans] == [("boats", "ships"), ("shore", "island")]
    made.save(tmp_path / "out.wav")
    old, new = (soundfile.read(tmp_path / name, dtype="int32")[0] for name in ("in.wav", "out.wav"))
    at = out = 0
    for span in made.spans:
        assert np.array_equal(old[at : span.start_sample], new[out : span.start_out_sample])
        at, out = span.end_sample, span.end_out_sample
    assert np.array_equal(old[at:], new[out:])
    info = json.loads((tmp_path / "out.json").read_text())
    wanted_keys = "audio sample_rate seconds normalised phones words spans model seed solver nfe network_calls rtf"
    assert {*wanted_keys.split(), "candidates", "verb", "recording"} <= info.keys()
    assert info["sample_rate"] == 32_000 and info["seconds"] == pytest.approx(len(new) / 32_000, abs=1e-4)
    span = info["spans"][0]
    assert span["start"] == pytest.approx(span["start_sample"] / 32_000, abs=1e-6)
    assert span["end_out"] == pytest.approx(span["end_out_sample"] / 32_000, abs=1e-6)


def test_a_whole_sentence_can_be_replaced(tts: Pipeline) -> None:
    made = tts.edit(PATH, TEXT, "Please be careful with that vase.", seed=1, **FEW)
    assert texts(made) == "Please be careful with that vase"
    outside(read(PATH).samples, made.audio.samples, made)
    assert 1.0 < made.seconds < 4.5


def test_a_text_that_says_the_same_gives_a_copy(tts: Pipeline, tmp_path: Path) -> None:
    made = tts.edit(PATH, TEXT, TEXT.lower().replace(",", ""), **FEW)
    made.save(tmp_path / "out.flac")
    assert made.spans == () and made.nfe == 0
    assert np.array_equal(read(tmp_path / "out.flac").samples, read(PATH).samples)


def test_same_seed_same_samples_and_replay_the_same_bytes(tts: Pipeline, tmp_path: Path) -> None:
    a, b = (tts.edit(PATH, TEXT, SHIPS, seed=seed, **FEW) for seed in (4, 5))
    assert not np.array_equal(a.audio.samples, b.audio.samples)
    a.save(tmp_path / "a.wav")
    flowtts.replay(tmp_path / "a.json", tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_best_of_keeps_the_smoothest(tts: Pipeline) -> None:
    seen: list[tuple[int, int]] = []
    made = tts.edit(
        PATH, TEXT, SHIPS, seed=1, best_of=3, rank="boundary", progress=lambda n, of: seen.append((n, of)), **FEW
    )
    scores = {c.seed: c.scores["boundary"] for c in made.candidates}
    assert len(scores) == 3 and scores[made.seed] == min(scores.values()) and seen == [(1, 3), (2, 3), (3, 3)]


def test_fill_keeps_words_times_and_length(tts: Pipeline) -> None:
    made = tts.fill(PATH, TEXT, [(1.0, 1.1), (3.8, 3.9)], seed=1, **FEW)
    before = read(PATH).samples
    assert len(made.spans) == 2 and len(made.audio.samples) == len(before)
    outside(before, made.audio.samples, made)
    assert not np.array_equal(before, made.audio.samples)
    assert [span.removed for span in made.spans] == [span.inserted for span in made.spans] == ["lights", "boats"]
    untouched = tts.edit(PATH, TEXT, TEXT, **FEW)
    assert made.words == untouched.words


@pytest.mark.parametrize(
    ("spans", "message"),
    [([(2.0, 2.0)], "empty"), ([(3.0, 2.0)], "empty"), ([(-1.0, 2.0)], "inside"), ([(6.0, 9.0)], "inside"),
     ([], "nothing"), ([(0.0, 7.0)], "too little")],
)  # fmt: skip
def test_bad_spans_are_refused(tts: Pipeline, spans: list[tuple[float, float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tts.fill(PATH, TEXT, spans, **FEW)


def test_denoise_keeps_the_length_and_times_the_phones_anew(tts: Pipeline) -> None:
    loud = read(PATH)
    samples = loud.samples.copy()
    samples[52_000:62_000] += np.random.default_rng(0).normal(0, 0.05, 10_000).astype(np.float32)
    made = tts.denoise(Audio(samples, loud.sample_rate), TEXT, [(3.25, 3.875)], seed=1, **FEW)
    (span,) = made.spans
    assert span.start_sample < 52_000 and span.end_sample > 62_000
    assert len(made.audio.samples) == len(samples)
    outside(samples, made.audio.samples, made)
    in_order(made)


@pytest.mark.parametrize("timing", ["kept", "predicted"])
def test_restyle_says_the_same_in_another_voice(tts: Pipeline, timing: str) -> None:
    made = tts.restyle(PATH, TEXT, "slt", timing=timing, seed=1, **FEW)
    assert texts(made) == TEXT.rstrip(".").replace(",", "")
    in_order(made)
    before = read(PATH).samples
    assert (len(made.audio.samples) == len(before)) == (timing == "kept")
    assert (made.spans[0].start_sample, made.spans[0].end_sample) == (0, len(before))
    assert not np.array_equal(made.audio.samples[: len(before)], before[: len(made.audio.samples)])


def test_restyle_with_an_accent_takes_its_timing(tts: Pipeline, tmp_path: Path) -> None:
    plain, accented = (
        tts.restyle(PATH, TEXT, "slt", seed=1, timing=t, accent=a, **FEW)
        for t, a in (("style", None), ("kept", "accented-f"))
    )
    assert plain.seconds != accented.seconds
    accented.save(tmp_path / "a.wav")
    flowtts.replay(tmp_path / "a.json", tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    refused: list[tuple[dict[str, Any], str]] = [
        ({"timing": "style", "accent": "awb"}, "accent"), ({"timing": "slow"}, "timing"),
        ({"rank": "boundary"}, "joins"),
    ]  # fmt: skip
    for options, message in refused:
        with pytest.raises(UserError, match=message):
            tts.restyle(PATH, TEXT, "slt", **FEW, **options)


def test_continue_leaves_what_was_said(tts: Pipeline) -> None:
    then = " ".join(["And nobody on the long pier said a single word about it."] * 4)
    old = read(PATH)
    quiet = np.random.default_rng(0).normal(0, 3e-4, 24_000).astype(np.float32)
    before = np.concatenate([old.samples, quiet])
    made = tts.continue_(Audio(before, old.sample_rate), TEXT, then, seed=1, **FEW)
    outside(before, made.audio.samples, made)
    assert made.spans[0].start_sample > len(old.samples) - 800 and made.spans[0].end_sample == len(before)
    in_order(made)
    first = next(i for i, word in enumerate(made.words) if word.text == "And")
    assert 0.3 < made.words[first].start - made.words[first - 1].end < 1.0
    assert texts(made).endswith(then.rstrip(".").replace(".", ""))
    assert made.seconds > before.size / old.sample_rate + 7
    # More than one call of the model, each of so many steps.
    assert made.nfe > FEW["steps"] and made.nfe % FEW["steps"] == 0


def test_sample_has_other_voices_and_one_voice_each(tts: Pipeline, tmp_path: Path) -> None:
    text = "It is a fine day and nobody is at home. " * 4
    made = tts.sample(text, 2, seed=3, **FEW)
    assert [s.candidates[0].seed for s in made] == [s.seed for s in made] and made[0].seed == 3 != made[1].seed
    assert len(made[0].plan.chunks) > 1
    assert not np.array_equal(made[0].audio.samples, made[1].audio.samples)
    flow = tts.sample("Hello there.", 2, durations="flow", **FEW)
    assert flow[0].plan.chunks[0].frames != flow[1].plan.chunks[0].frames
    flow[1].save(tmp_path / "a.wav")
    flowtts.replay(tmp_path / "a.json", tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    wrong: tuple[dict[str, Any], ...] = ({"n": 0}, {"durations": "guess"}, {"best_of": 2})
    for options in wrong:
        with pytest.raises(UserError):
            tts.sample("Hello.", **options)


@pytest.mark.parametrize(("text", "to", "message"), [
    ("Completely different words were written down here, I am quite afraid.", "Other words.", "does not fit"),
    (TEXT, "", "no word"), (TEXT, "  ", "no word"), ("", "Hello.", "nothing"),
])  # fmt: skip
def test_bad_texts_are_refused(tts: Pipeline, text: str, to: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tts.edit(PATH, text, to, **FEW)


def test_a_transcript_that_is_to_be_believed_is_not_checked(tts: Pipeline, tmp_path: Path) -> None:
    wrong = "Completely different words were written down here, I am quite afraid."
    made = tts.edit(PATH, wrong, wrong.replace("here", "there"), confidence=0.0, **FEW)
    assert made.spans[0].inserted == "there"
    made.save(tmp_path / "a.wav")
    flowtts.replay(tmp_path / "a.json", tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_bad_options_are_refused() -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"best_of": 0}, {"seed": -1}, {"steps": 0}, {"rank": "taste"}, {"confidence": 1.5}, {"solver": "guess"},
        {"grid": "swey"},
    )  # fmt: skip
    for options in wrong:
        with pytest.raises(UserError):
            make_edit_request(options)
    with pytest.raises(TypeError):
        make_edit_request({"gidance": 1})


def test_samples_in_memory_cannot_be_replayed(tts: Pipeline, tmp_path: Path) -> None:
    tts.edit(read(PATH), TEXT, TEXT, **FEW).save(tmp_path / "a.wav")
    with pytest.raises(UserError, match="given as samples"):
        flowtts.replay(tmp_path / "a.json", tmp_path / "b.wav")


def test_replay_refuses_a_recording_that_changed(tts: Pipeline, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", read(PATH).samples, 16_000)
    tts.edit(tmp_path / "in.wav", TEXT, TEXT, **FEW).save(tmp_path / "a.wav")
    soundfile.write(tmp_path / "in.wav", read(PATH).samples * 0.9, 16_000)
    with pytest.raises(UserError, match="not the recording"):
        flowtts.replay(tmp_path / "a.json", tmp_path / "b.wav")


@dataclass
class _Even:
    """A recipe that expects ten frames of every phone."""

    name: str = "even"
    tasks: frozenset[str] = frozenset({"edit"})
    calls: list[int] = field(default_factory=list)

    def durations(self, phones: Sequence[Phone], prompt: object, rng: torch.Generator) -> Tensor:
        raise NotImplementedError

    def fill_durations(self, phones: Sequence[Phone], known: Tensor, given: Tensor, rng: torch.Generator) -> Tensor:
        self.calls.append(int(known.sum()))
        return torch.where(known, given.float(), torch.full((len(phones),), 10.0))

    def infill(
        self, phones: Sequence[Phone], durations: Tensor, features: Tensor, known: Tensor, sampling: Sampling,
        rng: torch.Generator,
    ) -> Generated:  # fmt: skip
        raise NotImplementedError


@pytest.mark.parametrize(("frames", "low", "high"), [(10, 10, 10), (13, 12, 13), (30, 14, 14), (8, 8, 9), (2, 7, 8)])
def test_a_slow_speaker_gets_slower_inserts(frames: int, low: int, high: int) -> None:
    front = FrontEnd()
    said, wanted = (
        front.analyse("one by one they went to the old harbour"),
        front.analyse("one by one they went down to the old harbour"),
    )
    lengths = [0 if phone.word < 0 else frames for phone in said.phones]
    canvas = compose(said.phones, lengths, wanted.phones, [Change(5, 5, 5, 6)])
    made = durations.fill(_Even(), canvas, 0)
    new = [n for n, slot in zip(made, canvas.slots, strict=True) if not slot.known and slot.phone.word >= 0]
    assert len(new) == 3 and all(low <= n <= high for n in new)
    assert all(n == slot.frames for n, slot in zip(made, canvas.slots, strict=True) if slot.known)


def test_new_times_keep_the_total_of_a_run() -> None:
    phones = FrontEnd().analyse("one two").phones
    canvas = compose(phones, [5] * len(phones), phones, [])
    made = durations.retime(canvas, [5] * len(phones), [(1, 4, 31), (5, 7, 3)])
    assert sum(made[1:4]) == 31 and sum(made[5:7]) == 3 and made[4] == 5 and min(made) >= 1


def test_parts_of_texts_and_some_of_their_changes() -> None:
    front = FrontEnd()
    said = front.analyse("One day, a dog ran. Then it sat down.")
    wanted = front.analyse("One day, two cats ran! Then it lay down again.")
    middle = part(said, 2, 6)
    assert [w.text for w in middle.words] == ["a", "dog", "ran", "Then"] and middle.normalised == "a dog ran. Then"
    assert [middle.normalised[w.start : w.end] for w in middle.words] == ["a", "dog", "ran", "Then"]
    assert [p.symbol for p in middle.phones if p.word < 0] == ["SIL", "SIL", "SIL", "SIL.", "SIL"]
    changes = [Change(2, 4, 2, 4)]
    made, own = carried_out(said, wanted, changes, 1, 7)
    assert [w.text for w in made.words] == ["day", "two", "cats", "ran", "Then", "it"] and own == [Change(1, 3, 1, 3)]
    assert [made.normalised[w.start : w.end] for w in made.words] == [w.text for w in made.words]


def test_patches_of_the_result_are_rendered_only_when_asked_for(tts: Pipeline) -> None:
    made = tts.edit(PATH, TEXT, TEXT, **FEW)
    assert "audio" not in vars(made)
    assert isinstance(made.audio, Audio) and all(isinstance(patch, Patch) for patch in made.patches)


def test_words_under_noise_are_not_judged() -> None:
    words = tuple(Word(str(i), i * 0.5, i * 0.5 + 0.4) for i in range(8))
    whole = Alignment(words, (PhoneTime("SIL", -1, 0.0, 4.0),), tuple(float(i) for i in range(8)), limit=3.0)
    clear = window.heard(whole, [(1.3, 3.1)])
    assert [w.text for w in clear.words] == ["0", "1", "7"] and clear.deficits == (0.0, 1.0, 7.0)
    assert window.heard(whole, ()) is whole
    # 0.4 s of clear speech tell nothing.
    assert window.heard(whole, [(0.0, 3.4)]).confidence is None


def test_a_wrong_word_under_noise_does_not_refuse_the_recording(tts: Pipeline) -> None:
    sound = read(PATH)
    words = tts.edit(PATH, TEXT, TEXT, **FEW).words
    start, end = words[4].start, words[9].end
    noisy = sound.samples.copy()
    span = slice(round(start * 16_000), round(end * 16_000))
    noisy[span] += np.random.default_rng(0).normal(0, 0.3, span.stop - span.start).astype(np.float32)
    made = tts.denoise(Audio(noisy, 16_000), TEXT, [(start, end)], **FEW)
    assert made.spans and len(made.audio.samples) == len(noisy)
    with pytest.raises(UserError, match="does not fit"):
        tts.denoise(PATH, "Completely different words were written down here, I am quite afraid.", [(1.0, 1.2)], **FEW)
