"""Forced alignment of a recording whose phone times are known."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowtts.alignment import Alignment, PocketsphinxAligner, check_match
from flowtts.alignment.pocketsphinx import to_arpabet
from flowtts.audio.io import read, resample
from flowtts.text import Analysis, FrontEnd
from flowtts.types import Audio, UserError

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    made: dict[str, Any] = json.loads((ASSETS / "spoken.json").read_text())
    return made


@pytest.fixture(scope="module")
def spoken() -> Audio:
    return read(ASSETS / "spoken.flac")


@pytest.fixture(scope="module")
def front_end() -> FrontEnd:
    return FrontEnd()


@pytest.fixture(scope="module")
def analysis(front_end: FrontEnd, truth: dict[str, Any]) -> Analysis:
    return front_end.analyse(truth["text"])


@pytest.fixture(scope="module")
def aligner() -> PocketsphinxAligner:
    return PocketsphinxAligner()


@pytest.fixture(scope="module")
def aligned(aligner: PocketsphinxAligner, spoken: Audio, analysis: Analysis) -> Alignment:
    return aligner.align(spoken, analysis)


def test_phones_match_the_analysis_one_to_one(aligned: Alignment, analysis: Analysis, spoken: Audio) -> None:
    assert [(p.symbol, p.word) for p in aligned.phones] == [(p.symbol, p.word) for p in analysis.phones]
    assert aligned.phones[0].start == 0 and aligned.phones[-1].end == pytest.approx(spoken.seconds)
    assert all(a.end == b.start for a, b in pairwise(aligned.phones))
    assert [w.text for w in aligned.words] == [w.text for w in analysis.words]


def test_phone_starts_agree_with_the_engine(aligned: Alignment, truth: dict[str, Any]) -> None:
    ours = [p for p in aligned.phones if p.word >= 0]
    theirs = [(label, start) for label, start, _ in truth["phones"] if label != "pau"]
    same = [(p, s) for p, (label, s) in zip(ours, theirs, strict=True) if to_arpabet(p.symbol) == label.upper()]
    assert len(same) >= 0.9 * len(theirs)
    errors = np.array([abs(p.start - start) for p, start in same])
    # Both bounds are about twice what is measured; a shift of two frames breaks the first.
    assert np.median(errors) < 0.016 and np.quantile(errors, 0.9) < 0.04


def test_pauses_are_found_and_ghosts_last_no_time(aligned: Alignment, truth: dict[str, Any]) -> None:
    pauses = [p for p in aligned.phones if p.word < 0]
    clause = next(p for p in pauses if p.symbol == "SIL,")
    assert clause.start == pytest.approx(1.557, abs=0.12) and clause.end == pytest.approx(1.731, abs=0.05)
    inside = [p for p in pauses[1:-1] if p.symbol == "SIL"]
    assert len(inside) == 6 and all(p.start == p.end for p in inside)


def test_durations_sum_to_the_frames(aligned: Alignment, spoken: Audio) -> None:
    for rate, frames in ((100.0, 307), (93.75, 289), (50.0, 154)):
        assert int(aligned.durations(rate, frames).sum()) == frames


def test_the_right_words_are_believed(aligned: Alignment) -> None:
    check_match(aligned)
    assert aligned.confidence is not None and aligned.confidence > 0.9
    assert all(w.confidence is not None and 0 <= w.confidence <= 1 for w in aligned.words)


@pytest.mark.parametrize("text", ["My new bicycle is faster than hers.", "Rain fell over the harbour for seven days."])
def test_wrong_words_are_refused(text: str, aligner: PocketsphinxAligner, spoken: Audio, front_end: FrontEnd) -> None:
    made = aligner.align(spoken, front_end.analyse(text))
    assert made.confidence is not None and made.confidence < 0.1
    with pytest.raises(UserError, match="does not fit the recording"):
        check_match(made)


def test_other_rates_channels_and_levels_align_alike(
    aligner: PocketsphinxAligner, spoken: Audio, analysis: Analysis, aligned: Alignment
) -> None:
    stereo = np.repeat(0.01 * resample(spoken, 44_100).samples[:, None], 2, axis=1)
    made = aligner.align(Audio(stereo, 44_100), analysis)
    assert np.median([abs(a.start - b.start) for a, b in zip(made.words, aligned.words, strict=True)]) <= 0.02


def test_each_word_is_said_as_the_analysis_says(
    aligner: PocketsphinxAligner, spoken: Audio, front_end: FrontEnd
) -> None:
    """One spelling, two pronunciations in one text: both are used where they stand."""
    text = "The old {K L AA1 K} stopped, and nobody {HH ER1 D} it."
    made = aligner.align(spoken, front_end.analyse(text))
    wrong = aligner.align(spoken, front_end.analyse(text.replace("{HH ER1 D}", "{K L AA1 K}")))
    assert made.words[2].confidence > 0.9 > wrong.words[6].confidence  # type: ignore[operator]


def test_too_short_a_recording_is_refused(aligner: PocketsphinxAligner, spoken: Audio, analysis: Analysis) -> None:
    with pytest.raises(UserError, match=r"0\.20 s cannot hold its \d+ phones"):
        aligner.align(Audio(spoken.samples[:3200], 16_000), analysis)


def test_a_fifth_of_a_second_can_be_aligned(aligner: PocketsphinxAligner, spoken: Audio, front_end: FrontEnd) -> None:
    piece = Audio(spoken.samples[round(2.497 * 16_000) : round(2.717 * 16_000)], 16_000)
    made = aligner.align(piece, front_end.analyse("heard"))
    assert made.seconds == pytest.approx(0.22) and made.words[0].end > made.words[0].start


def test_silence_and_foreign_phones_are_refused(
    aligner: PocketsphinxAligner, analysis: Analysis, noise: Callable[[float, int], Audio]
) -> None:
    from dataclasses import replace

    with pytest.raises(UserError, match="silent"):
        aligner.align(Audio(np.zeros(16_000, np.float32), 16_000), analysis)
    foreign = replace(analysis, phones=tuple(replace(p, symbol="ɲ_B") if p.word == 0 else p for p in analysis.phones))
    with pytest.raises(UserError, match="does not know the phone 'ɲ_B'"):
        aligner.align(noise(5.0, 16_000), foreign)


def test_it_travels_to_other_processes(aligner: PocketsphinxAligner, spoken: Audio, analysis: Analysis) -> None:
    copy = pickle.loads(pickle.dumps(aligner))
    assert copy.align(spoken, analysis) == aligner.align(spoken, analysis)
