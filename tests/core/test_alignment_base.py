"""Alignments: frames of phones, and the verdict on a transcript."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtts.alignment import Alignment, PhoneTime, check_match
from flowtts.alignment.base import worst_stretch
from flowtts.types import UserError, Word


def timed(*phones: tuple[str, float]) -> Alignment:
    made, clock = [], 0.0
    for symbol, seconds in phones:
        made.append(PhoneTime(symbol, -1 if symbol.startswith("SIL") else 0, clock, clock + seconds))
        clock += seconds
    return Alignment((), tuple(made))


def test_durations_follow_the_boundaries() -> None:
    made = timed(("SIL", 0.1), ("HH_B", 0.034), ("AY1_E", 0.2), ("SIL", 0.0), ("Y_B", 0.066), ("SIL.", 0.1))
    # Boundaries at 10, 13.4, 33.4, 33.4, 40, 50 frames.
    assert made.durations(100, 50).tolist() == [10, 3, 20, 0, 7, 10]


def test_the_last_phone_takes_what_the_features_have_more_or_less() -> None:
    made = timed(("SIL", 0.1), ("AH0_S", 0.1), ("SIL", 0.1))
    assert made.durations(100, 33).tolist() == [10, 10, 13]
    assert made.durations(100, 28).tolist() == [10, 10, 8]


def test_short_phones_keep_a_frame_and_pauses_need_none() -> None:
    made = timed(("SIL", 0.004), ("T_B", 0.002), ("S_E", 0.001), ("SIL", 0.0), ("AH0_S", 0.003), ("SIL.", 0.0))
    assert made.durations(100, 3).tolist() == [0, 1, 1, 0, 1, 0]
    assert int(made.durations(100, 2).sum()) == 2, "fewer frames than phones: some phones vanish, the sum holds"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(["SIL", "SIL,", "AH0_S"]), st.floats(0, 0.3)), min_size=1, max_size=30),
    st.floats(20, 200),
    st.integers(-3, 3),
)
def test_durations_always_sum_to_the_frames(phones: list[tuple[str, float]], rate: float, more: int) -> None:
    made = timed(*phones)
    frames = max(1, round(made.seconds * rate) + more)
    durations = made.durations(rate, frames)
    assert durations.dtype == torch.int64 and int(durations.sum()) == frames and bool((durations >= 0).all())
    real = torch.tensor([not p.symbol.startswith("SIL") for p in made.phones])
    if int(real.sum()) <= frames:
        assert bool((durations[real] >= 1).all())


def test_alignments_with_gaps_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="where the one before ends"):
        Alignment((), (PhoneTime("SIL", -1, 0.0, 0.1), PhoneTime("AH0_S", 0, 0.2, 0.3)))
    with pytest.raises(ValueError, match="start at 0"):
        Alignment((), (PhoneTime("SIL", -1, 0.1, 0.2),))
    with pytest.raises(ValueError, match="before it starts"):
        Alignment((), (PhoneTime("SIL", -1, 0.0, -0.1),))


def judged(*deficits: float, contrast: float = float("inf")) -> Alignment:
    words = tuple(Word(f"w{i}", i * 0.5, i * 0.5 + 0.5) for i in range(len(deficits)))
    phones = tuple(PhoneTime("AH0_S", i, w.start, w.end) for i, w in enumerate(words))
    return Alignment(words, phones, deficits, limit=5.0, slope=2.0, contrast=contrast)


def test_the_verdict_weighs_words_by_their_length() -> None:
    made = judged(4.0, 8.0)
    assert made.deficit == pytest.approx(6.0)
    assert made.confidence == pytest.approx(1 / (1 + math.exp(2 * (6 - 5))))
    check_match(judged(4.0, 4.9))
    check_match(judged(4.0, 8.0), confidence=0.1)


def test_a_misfit_names_the_worst_words() -> None:
    with pytest.raises(UserError, match=r"does not fit the recording: .* word 'w2' at 1\.0 s") as caught:
        check_match(judged(2.0, 2.0, 16.0, 15.0, 2.0))
    assert "\n" not in str(caught.value)


def test_a_few_wrong_words_in_a_right_text_are_noticed() -> None:
    deficits = (1.0, 1.0, 1.0, 8.0, 8.0, 1.0, 1.0, 1.0)
    assert judged(*deficits).confidence == pytest.approx(1 / (1 + math.exp(2 * (2.75 - 5))))
    # 8 is 3 above the limit and 7 above the rest: 3 above the contrast.
    assert judged(*deficits, contrast=4.0).confidence == pytest.approx(1 / (1 + math.exp(2 * 3)))
    with pytest.raises(UserError, match="word 'w3'"):
        check_match(judged(*deficits, contrast=4.0))
    check_match(judged(*deficits, contrast=7.5))
    # Below the limit nothing is wrong, however much it stands out.
    check_match(judged(*(0.1,) * 6, 4.8, 4.8, contrast=4.0))


def test_nothing_measured_is_nothing_refused() -> None:
    made = timed(("SIL", 0.1), ("AH0_S", 0.1))
    assert made.confidence is None and made.deficit is None
    check_match(made)


def test_a_stretch_is_long_enough_to_judge() -> None:
    made = judged(1.0, 9.0, 1.0, 7.0, 7.0, 1.0)
    assert worst_stretch(made.words, made.deficits) == (3, 4), "two words of 7 outweigh one of 9 beside a good one"
    assert worst_stretch(made.words[:1], made.deficits[:1]) == (0, 0)
    made = judged(1.0, 1.0, 5.0, 9.0)
    assert worst_stretch(made.words, made.deficits) == (2, 3), "the last word alone is too short"
