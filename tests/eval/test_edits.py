"""Metrics of edits on edits made by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flowtts.audio.io import read, write
from flowtts.edit.joins import Discontinuity
from flowtts.eval.boundary import judge_boundaries, natural_boundaries, places
from flowtts.eval.denoising import judge_denoising
from flowtts.eval.edit_durations import judge_durations
from flowtts.eval.edit_items import EditItem, EditSpan, changes, from_sidecar
from flowtts.eval.edit_similarity import around, filled, judge_voices
from flowtts.eval.edit_wer import Errors, attribute, judge_words
from flowtts.eval.edits import METRICS, evaluate_edits
from flowtts.eval.untouched import Untouched, judge_untouched, untouched
from flowtts.types import Audio, Samples, UserError, Word

TEXT = "The old captain counted seven lanterns, and the river was quiet."
SUNDAY = ("We", "met", "there", "on", "Sunday")
SAID = read(Path(__file__).parent / "assets" / "captain_rms.flac")


@dataclass
class Script:
    """A recogniser that hears what it is told to."""

    says: dict[Audio, str]
    backend: str = "script"
    opened: list[Sequence[str]] = field(default_factory=list)

    def open(self, texts: Sequence[str]) -> Callable[[Audio], str]:
        self.opened.append(texts)
        return self.says.__getitem__


@dataclass(frozen=True)
class Loudness:
    """An encoder that maps sound to an angle by its share of positive samples."""

    backend: str = "loudness"

    def open(self) -> Callable[[Samples], Tensor]:
        def embed(samples: Samples) -> Tensor:
            angle = float((samples > 0).mean()) * math.pi / 2
            return torch.tensor([math.cos(angle), math.sin(angle)])

        return embed


def ramp(count: int, rate: int = 16_000, first: float = 0.0) -> Audio:
    return Audio(((first + np.arange(count, dtype=np.float32)) / 2**18).astype(np.float32), rate)


def replaced(audio: Audio, start: int, end: int, new: Samples) -> Audio:
    parts = [audio.samples[:start], new, audio.samples[end:]]
    return Audio(np.concatenate(parts).astype(np.float32), audio.sample_rate)


def test_untouched_samples_are_zero_and_one_bit_is_found(tmp_path: Path) -> None:
    before = ramp(100_000)
    spans = [EditSpan(1_000, 2_000, 1_000, 1_500), EditSpan(50_000, 50_000, 49_500, 60_000)]
    after = replaced(before, 50_000, 50_000, np.ones(10_500, np.float32))
    after = replaced(after, 1_000, 2_000, np.ones(500, np.float32))
    assert untouched(before, after, spans) == Untouched(0.0, 0, 99_000)
    after.samples[70_000] += np.float32(2**-18)
    assert untouched(before, after, spans) == Untouched(2**-18, 1, 99_000)
    # The same of files, where encodings differ: 16 bit on one side, 24 on the other.
    write(tmp_path / "a.wav", before)
    stored = read(tmp_path / "a.wav")
    moved = replaced(stored, 1_000, 2_000, np.zeros(500, np.float32))
    write(tmp_path / "b.flac", moved, "PCM_24")
    assert untouched(tmp_path / "a.wav", tmp_path / "b.flac", spans[:1]) == Untouched(0.0, 0, 99_000)


def test_untouched_notices_other_lengths_and_forms() -> None:
    before = ramp(1_000)
    longer = ramp(1_010)
    assert untouched(before, longer, []) == Untouched(math.inf, 10, 1_000)
    assert untouched(longer, before, []) == Untouched(math.inf, 10, 1_000)
    # Kept stretches whose lengths differ are out of step.
    assert untouched(before, before, [EditSpan(500, 600, 510, 600)]).difference == math.inf
    assert untouched(before, Audio(before.samples, 8_000), []).difference == math.inf
    stereo = Audio(np.stack([before.samples, before.samples], 1), 16_000)
    assert untouched(before, stereo, []).difference == math.inf
    other = Audio(stereo.samples.copy(), 16_000)
    other.samples[3, 1] = 0.5
    assert untouched(stereo, other, []).samples == 1
    assert untouched(stereo, other, [EditSpan(0, 4, 0, 4)]) == Untouched(0.0, 0, 1992)


def test_untouched_scores_are_the_worst_and_the_mean() -> None:
    before = ramp(1_000)
    after = Audio(before.samples.copy(), 16_000)
    after.samples[:4] += np.float32(0.25)
    items = [EditItem(before, before, "a", "a", (), "good"), EditItem(before, after, "a", "a", (), "bad")]
    found = judge_untouched(items)
    assert found["untouched"].items == {"good": 0.0, "bad": 0.25} and found["untouched"].value == 0.25
    assert found["differing"].value == 2.0
    assert judge_untouched(items[:1])["untouched"].value == 0.0


def test_sidecars_are_read_and_others_refused(tmp_path: Path) -> None:
    span = {
        "start_sample": 4,
        "end_sample": 5,
        "start_out_sample": 4,
        "end_out_sample": 9,
        "removed": "",
        "inserted": "x",
    }
    words = [{"text": "a", "start": 0.0, "end": 0.5}]
    item = from_sidecar("a.wav", "b.wav", {"spans": [span], "words": words}, text="a", to="x a")
    assert item.spans == (EditSpan(4, 5, 4, 9),) and item.words == (Word("a", 0.0, 0.5),) and item.id == "b.wav"
    part = from_sidecar("a.wav", "b.wav", {"spans": [], "words": words, "words_cover": [[0, 1]]}, text="a", to="a")
    assert part.words == ()
    for wrong in ({}, {"spans": [{}]}, {"spans": [span, span]}, {"spans": [{**span, "end_sample": 1}]}):
        with pytest.raises(UserError, match=r"^b\.wav: its JSON does not describe an edit"):
            from_sidecar("a.wav", "b.wav", wrong, text="a", to="b")


def test_changes_are_told_from_the_texts() -> None:
    found = changes("We met on Monday.", "We met there on Sunday!")
    assert found.wanted == ("we", "met", "there", "on", "sunday")
    assert found.edited == (False, False, True, False, True)
    assert found.stretches == ((2, 3), (4, 5))
    assert changes("a b c", "a c").edited == (False, False)


@pytest.mark.parametrize(
    ("edited", "heard", "expected"),
    [
        ("00110", "a b x y e", Errors(2, 2, 0, 3)),
        ("00110", "z b c d e", Errors(0, 2, 1, 3)),
        ("00110", "a b d e", Errors(1, 2, 0, 3)),
        ("00110", "", Errors(2, 2, 3, 3)),
        # Words too many beside the edit are the edit's, elsewhere the rest's.
        ("00110", "a b so c d e", Errors(1, 2, 0, 3)),
        ("00110", "a b c d so e", Errors(1, 2, 0, 3)),
        ("00110", "a so b c d e", Errors(0, 2, 1, 3)),
        ("00110", "a b c d e so so", Errors(0, 2, 2, 3)),
        ("00000", "so a b c d e", Errors(0, 0, 1, 5)),
        ("11111", "so a b c d", Errors(2, 5, 0, 0)),
    ],
)
def test_errors_are_attributed(edited: str, heard: str, expected: Errors) -> None:
    assert attribute(list("abcde"), [flag == "1" for flag in edited], heard.split()) == expected


def test_word_error_rates_before_and_after() -> None:
    sounds = [ramp(16_000) for _ in range(4)]
    script = Script({sounds[0]: "we meet on monday", sounds[1]: "we meet on sun", sounds[2]: "yes", sounds[3]: "no"})
    items = [
        EditItem(sounds[0], sounds[1], "We met on Monday.", "We met on Sunday.", (), "one"),
        EditItem(sounds[2], sounds[3], "Yes", "No", (), "whole"),
    ]
    found = judge_words(items, script, "-x")
    assert found["wer-span-x"].items == {"one": 1.0, "whole": 0.0} and found["wer-span-x"].value == 0.5
    assert found["wer-rest-x"].items == {"one": pytest.approx(1 / 3)}
    assert found["wer-rest-before-x"].items == {"one": pytest.approx(1 / 3)}
    assert found["wer-before-x"].value == pytest.approx(1 / 5)
    assert found["wer-rest-x"].dropped == {"whole": "no such word in its text"}
    assert script.opened == [["We met on Monday.", "We met on Sunday.", "Yes", "No"]]


def test_a_smooth_edit_passes_the_boundary_and_a_spliced_in_noise_does_not() -> None:
    rate = SAID.sample_rate
    start, end = round(1.2 * rate), round(1.6 * rate)
    noise = np.random.default_rng(0).standard_normal(end - start).astype(np.float32)
    span = (EditSpan(start, end, start, end),)
    smooth = EditItem(SAID, SAID, TEXT, TEXT, span, "smooth")
    rough = EditItem(SAID, replaced(SAID, start, end, noise), TEXT, TEXT, span, "rough")
    whole = EditItem(SAID, SAID, TEXT, TEXT, (EditSpan(0, len(SAID.samples), 0, len(SAID.samples)),), "whole")
    known, failed = natural_boundaries([smooth, rough])
    assert list(known) == ["smooth"] and len(known["smooth"]) > 8 and not failed
    found = judge_boundaries([smooth, rough, whole], known)
    assert found["boundary"].items["smooth"] == 1.0
    assert found["boundary"].items["rough"] <= 0.5
    assert found["boundary"].dropped == {"whole": "it has no join with sound on both sides"}
    assert 0.8 < found["boundary-natural"].value < 1.0


def test_boundaries_without_natural_ones_say_so() -> None:
    item = EditItem(SAID, SAID, TEXT, TEXT, (EditSpan(8_000, 9_000, 8_000, 9_000),), "one")
    short = EditItem(ramp(800), ramp(800), TEXT, TEXT, (), "short")
    found = judge_boundaries([short])
    assert math.isnan(found["boundary"].value) and "cannot be aligned" in found["boundary"].dropped["short"]
    strict = judge_boundaries([item], {"x": [Discontinuity(-99, -99)]})
    assert strict["boundary"].value == 0.0


def test_joins_lie_inside_the_edges() -> None:
    long, short = EditSpan(0, 0, 16_000, 32_000), EditSpan(0, 0, 40_000, 40_320)
    assert places([long, short], 16_000) == pytest.approx([1.01, 1.99, 2.51])


def test_durations_compare_inserted_words_only() -> None:
    text, to = "We met on Monday.", "We met there on Sunday."
    made = [Word(w, i, i + 0.5) for i, w in enumerate(SUNDAY)]
    true = [Word(w, i, i + n) for i, (w, n) in enumerate(zip(SUNDAY, (9, 9, 0.4, 9, 0.8), strict=True))]
    good = EditItem(SAID, SAID, text, to, (), "good", tuple(made), reference_words=tuple(true))
    less = EditItem(SAID, SAID, text, to, (), "less", tuple(made[:3]), reference_words=tuple(true))
    none = EditItem(SAID, SAID, text, to, (), "none", tuple(made))
    gone = EditItem(
        SAID, SAID, to, text.replace("Monday", "Sunday"), (), "gone", tuple(made), reference_words=tuple(true)
    )
    found = judge_durations([good, less, none, gone])["duration"]
    assert found.value == pytest.approx((0.1 + 0.3) / 2)
    assert found.dropped == {
        "less": "the edit has 3 timed words and its text 5",
        "none": "it has no reference",
        "gone": "it inserts no word",
    }


def test_durations_of_a_reference_are_measured_if_not_given() -> None:
    item = EditItem(SAID, SAID, "The old captain.", TEXT, (), "same", reference=SAID)
    assert judge_durations([item])["duration"].value == pytest.approx(0.0, abs=1e-9)


def test_voices_of_patches_and_their_ceiling() -> None:
    # Of "Loudness", all of it lies at one end or the other: similarity is 1 or 0.
    low, high = np.full(48_000, -0.1, np.float32), np.full(16_000, 0.1, np.float32)
    before = Audio(low, 16_000)
    span = EditSpan(16_000, 16_000, 16_000, 32_000)
    other = EditItem(before, replaced(before, 16_000, 16_000, high), "a", "b", (span,), "other")
    same = EditItem(before, replaced(before, 16_000, 16_000, low[:16_000]), "a", "b", (span,), "same")
    cut = EditItem(before, before, "a b", "b", (EditSpan(16_000, 17_000, 16_000, 16_500),), "cut")
    all_ = EditItem(before, before, "a", "b", (EditSpan(0, 48_000, 0, 48_000),), "all")
    found = judge_voices([other, same, cut, all_], Loudness())
    assert found["sim-span"].items == {"other": pytest.approx(0, abs=1e-6), "same": pytest.approx(1)}
    assert found["sim-span-natural"].items == {"other": pytest.approx(1), "same": pytest.approx(1)}
    assert found["sim-span"].dropped == {
        "cut": "its patches are shorter than 0.25 s",
        "all": "less than 1 s of the recording is left to compare with",
    }


def test_short_stretches_are_repeated_and_natural_ones_stay_inside() -> None:
    short = np.arange(8_000, dtype=np.float32)
    assert len(filled(short)) == 26_400 and np.array_equal(filled(short)[8_000:16_000], short)
    long = np.zeros(30_000, np.float32)
    assert filled(long) is long
    assert around(50, 20, 100) == (40, 60)
    assert around(2, 20, 100) == (0, 20)
    assert around(99, 20, 100) == (80, 100)
    assert around(5, 20, 10) == (0, 10)


def test_denoising_before_and_after() -> None:
    clean, noisy, made, bare = (ramp(16_000, first=n) for n in (1.0, 2.0, 3.0, 4.0))
    noisy = Audio(-noisy.samples, 16_000)
    script = Script({noisy: "a x y d", made: "a b c x", clean: "a b c d", bare: "a b c d"})
    items = [
        EditItem(noisy, made, "a b c d", "a b c d", (), "one", reference=clean),
        EditItem(noisy, bare, "a b c d", "a b c d", (), "two"),
    ]
    found = judge_denoising(items, script, Loudness())
    assert found["wer-noisy"].value == 0.5 and found["wer-denoised"].value == 0.125 and found["wer-clean"].value == 0
    assert found["sim-noisy"].items == {"one": pytest.approx(0, abs=1e-3)}
    assert found["sim-denoised"].items == {"one": pytest.approx(1)}
    assert found["sim-denoised"].dropped == {"two": "it has no prompt"}
    # One vocabulary for all.
    assert {tuple(texts) for texts in script.opened} == {("a b c d", "a b c d")}


def test_evaluate_edits_runs_what_applies() -> None:
    script = Script({SAID: TEXT})
    span = (EditSpan(16_000, 24_000, 16_000, 24_000),)
    items = [EditItem(SAID, SAID, TEXT.replace("old", "young"), TEXT, span, "one")]
    found = evaluate_edits(items, ["untouched", "wer", "sim"], recogniser=script, encoder=Loudness())
    assert found["untouched"].value == 0 and found["wer-span"].value == 0 and found["wer-rest-before"].value == 0
    assert set(found) == {
        "untouched", "differing", "wer-span", "wer-rest", "wer-rest-before", "wer-before", "sim-span",
        "sim-span-natural",
    }  # fmt: skip
    with pytest.raises(UserError, match=f"there are {', '.join(METRICS)}"):
        evaluate_edits(items, ["beauty"])
    with pytest.raises(UserError, match="at least one edit"):
        evaluate_edits([])
