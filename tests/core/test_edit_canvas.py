"""Which frames of an edited utterance are the recording's: arithmetic, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtts.edit.canvas import APART, EDGE, MARGIN, ROOM, SILENCE, Canvas, Layout, compose, hold, lay
from flowtts.edit.diff import Change, diff
from flowtts.types import Phone, UserError

WORD = (7, 20, 9)
"""Frames of the three phones of a word, unless said otherwise."""


def utterance(words: str, pauses: list[int]) -> tuple[list[Phone], list[int]]:
    """Three phones per word; "a, b" has a pause "SIL," after a."""
    phones, durations = [Phone("SIL", -1, 0, 0)], [pauses[0]]
    for index, word in enumerate(words.split()):
        for i, frames in enumerate(WORD):
            phones.append(Phone(f"{word.strip(',')}{i}", index, index, index + 1))
            durations.append(frames)
        phones.append(Phone("SIL," if word.endswith(",") else "SIL", -1, index, index))
        durations.append(pauses[index + 1])
    return phones, durations


def target(source: str, pauses: list[int], wanted: str, new: int = 10) -> Layout:
    """The layout of an edit in which every new phone lasts ``new`` frames and new pauses none."""
    phones, durations = utterance(source, pauses)
    aim, _ = utterance(wanted, [0] * (len(wanted.split()) + 1))
    bare = [text.replace(",", "").split() for text in (source, wanted)]
    canvas = compose(phones, durations, aim, diff(*bare))
    return lay(canvas, [s.frames if s.known else new * (s.phone.word >= 0) for s in canvas.slots])


def symbols(canvas: Canvas) -> str:
    """Words of the phones, one letter each, and pauses as dots."""
    return "".join("." if s.phone.word < 0 else s.phone.symbol[0] for s in canvas.slots)


def check(layout: Layout, source_frames: int) -> None:
    """What holds for every layout."""
    origin = layout.origin
    assert len(origin) == sum(layout.durations)
    expected = at = 0
    for stretch in layout.stretches:
        kept = stretch.start - at
        assert np.array_equal(origin[at : stretch.start], np.arange(expected, expected + kept))
        assert expected + kept == stretch.source_start <= stretch.source_end <= source_frames
        assert (origin[stretch.start : stretch.end] == -1).all()
        at, expected = stretch.end, stretch.source_end
    assert np.array_equal(origin[at:], np.arange(expected, source_frames))
    gaps = [b.start - a.end for a, b in zip(layout.stretches[:-1], layout.stretches[1:], strict=True)]
    assert all(gap >= APART for gap in gaps)


def test_the_same_text_has_no_stretches() -> None:
    layout = target("a b, c", [5, 3, 30, 8], "a b c")
    assert layout.stretches == () and layout.origin.tolist() == list(range(5 + 3 + 30 + 8 + 3 * sum(WORD)))
    assert [s.phone.symbol for s in layout.canvas.slots if s.phone.word < 0] == ["SIL", "SIL", "SIL,", "SIL"]


def test_a_replaced_word_takes_the_edges_of_its_neighbours_along() -> None:
    layout = target("a b c", [10, 0, 0, 10], "a x c")
    assert symbols(layout.canvas) == ".aaa.xxx.ccc."
    (stretch,) = layout.stretches
    # The phones beside it last 9 and 7 frames: of each, half is generated anew.
    assert (stretch.source_start, stretch.source_end) == (10 + 36 - 5, 10 + 72 + 4)
    assert (stretch.start, stretch.end) == (10 + 36 - 5, 10 + 36 + 30 + 4)
    assert (stretch.removed, stretch.inserted) == ((1, 2), (1, 2))
    check(layout, 128)


def test_silence_beside_a_change_stays_but_for_its_margin() -> None:
    layout = target("a b c", [10, 20, 30, 10], "a x c")
    (stretch,) = layout.stretches
    assert (stretch.source_start, stretch.source_end) == (10 + 36 + 20 - MARGIN, 10 + 36 + 20 + 36 + MARGIN)
    assert stretch.end - stretch.start == 30 + 2 * MARGIN
    check(layout, 178)


def test_an_edge_is_never_longer_than_the_limit() -> None:
    phones, _ = utterance("a b c", [0] * 4)
    wanted, _ = utterance("a x c", [0] * 4)
    lengths = [0, 40, 40, 40, 0, 40, 40, 40, 0, 40, 40, 40, 0]
    canvas = compose(phones, lengths, wanted, [Change(1, 2, 1, 2)])
    assert [(s.head, s.tail) for s in canvas.slots if s.source_word >= 0] == [
        (0, 0), (0, 0), (0, EDGE), (EDGE, 0), (0, 0), (0, 0)
    ]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), [(20, 12), (12, 20), (ROOM, 40), (40, ROOM), (ROOM, ROOM), (6, 5)])
def test_deletion_between_silences_is_a_pure_cut_that_leaves_the_longer_pause(before: int, after: int) -> None:
    layout = target("a b c", [10, before, after, 10], "a c")
    (stretch,) = layout.stretches
    left = max(before, after, 2 * ROOM)
    assert stretch.cut and (stretch.removed, stretch.inserted) == ((1, 2), (1, 1))
    assert stretch.source_end - stretch.source_start == sum(WORD) + before + after - left
    assert layout.durations[4] == left and (layout.origin >= 0).all()
    # Silence remains on either side of the cut.
    assert 10 + 36 + ROOM <= stretch.source_start <= 10 + 36 + before
    assert 10 + 72 + before <= stretch.source_end <= 10 + 72 + before + after - ROOM
    check(layout, 20 + 108 + before + after)


@pytest.mark.parametrize(("before", "after"), [(20, 0), (SILENCE, ROOM - 1), (0, 20), (ROOM - 1, SILENCE)])
def test_deletion_beside_one_silence_keeps_it_and_renews_the_word_that_touched(before: int, after: int) -> None:
    layout = target("a b c", [10, before, after, 10], "a c")
    (stretch,) = layout.stretches
    if before > after:
        assert (stretch.source_start, stretch.source_end) == (10 + 36 + before - MARGIN, 10 + 72 + before + after + 4)
        assert stretch.end - stretch.start == MARGIN + 4
    else:
        assert (stretch.source_start, stretch.source_end) == (10 + 36 - 5, 10 + 72 + before + MARGIN)
        assert stretch.end - stretch.start == 5 + MARGIN
    assert layout.durations[4] == max(before, after)
    check(layout, 20 + 108 + before + after)


def test_a_word_deleted_at_either_end_is_cut_off_at_the_silence() -> None:
    layout = target("a b c", [2, 20, 20, 3], "b")
    assert [s.cut for s in layout.stretches] == [True, True] and (layout.origin >= 0).all()
    check(layout, 45 + 108)


def test_deletion_without_silence_only_renews_what_touches() -> None:
    layout = target("a b c", [10, 2, 0, 10], "a c")
    (stretch,) = layout.stretches
    assert stretch.end - stretch.start == 5 + 4 and stretch.source_end - stretch.source_start == 5 + 2 + 36 + 0 + 4
    check(layout, 130)


@pytest.mark.parametrize(
    ("wanted", "removed", "inserted"),
    [
        ("x b c", (0, 1), (0, 1)),
        ("a b x", (2, 3), (2, 3)),
        ("x y z", (0, 3), (0, 3)),
        ("x a b c", (0, 0), (0, 1)),
        ("a b c x", (3, 3), (3, 4)),
        ("b c", (0, 1), (0, 0)),
        ("a b", (2, 3), (2, 2)),
        ("a x b c", (1, 1), (1, 2)),
    ],
)
@pytest.mark.parametrize("edge", [0, 3, 25])
def test_either_end_and_everything(wanted: str, removed: tuple[int, int], inserted: tuple[int, int], edge: int) -> None:
    layout = target("a b c", [edge, 0, 0, edge], wanted)
    (stretch,) = layout.stretches
    assert (stretch.removed, stretch.inserted) == (removed, inserted)
    assert symbols(layout.canvas).replace(".", "") == "".join(3 * word for word in wanted.split())
    # The silence at either end of the recording keeps its length.
    assert (layout.durations[0], layout.durations[-1]) == (edge, edge)
    check(layout, 108 + 2 * edge)


@pytest.mark.parametrize(
    ("source", "wanted", "kept"),
    [
        ("a b", "a x b", 1),
        ("a, b", "a x, b", 2),
        ("a, b", "a, x b", 1),
        ("a, b", "a x b", 1),
    ],
)
def test_the_pause_at_an_insertion_goes_where_its_comma_went(source: str, wanted: str, kept: int) -> None:
    layout = target(source, [10, 20, 10], wanted)
    pauses = [n for s, n in zip(layout.canvas.slots, layout.durations, strict=True) if s.phone.word < 0]
    assert pauses == [10, *(20 if i == kept else 0 for i in (1, 2)), 10]
    check(layout, 112)


def test_changes_with_a_short_word_between_become_one_stretch() -> None:
    phones = [
        Phone(s, w, 0, 0) for s, w in [("SIL", -1), ("A", 0), ("SIL", -1), ("B", 1), ("SIL", -1), ("C", 2), ("SIL", -1)]
    ]
    wanted = [Phone(p.symbol.replace("A", "X").replace("C", "Y"), p.word, 0, 0) for p in phones]
    for frames, stretches in ((APART + 16, 2), (APART + 15, 1)):
        canvas = compose(phones, [0, 30, 0, frames, 0, 30, 0], wanted, [Change(0, 1, 0, 1), Change(2, 3, 2, 3)])
        layout = lay(canvas, [s.frames or 12 * (s.phone.word >= 0) for s in canvas.slots])
        assert len(layout.stretches) == stretches
        check(layout, 60 + frames)
        if stretches == 1:
            assert layout.stretches[0].removed == layout.stretches[0].inserted == (0, 3)


def test_no_word_left_is_refused_and_wrong_changes_too() -> None:
    phones, durations = utterance("a b", [1, 1, 1])
    with pytest.raises(UserError, match="no word"):
        compose(phones, durations, phones[:1], [Change(0, 2, 0, 0)])
    with pytest.raises(ValueError, match="changes"):
        compose(phones, durations, phones, [Change(0, 1, 0, 0)])
    with pytest.raises(ValueError, match="lasts"):
        lay(compose(phones, durations, phones, []), [n + 1 for n in durations])


def test_held_phones_keep_their_frames_and_new_times_keep_the_total() -> None:
    phones, durations = utterance("a b c", [10, 0, 30, 10])
    anew = [5 <= i <= 7 for i in range(len(phones))]
    for again in (False, True):
        canvas = hold(phones, durations, anew, [again] * len(phones))
        lengths = list(durations)
        lengths[5:8] = [12, 12, 12] if again else lengths[5:8]
        (stretch,) = lay(canvas, lengths).stretches
        assert (stretch.start, stretch.end) == (stretch.source_start, stretch.source_end) == (46, 82)
        assert stretch.removed == stretch.inserted == (1, 2)
    silent = hold(phones, durations, [i == 8 for i in range(len(phones))], [False] * len(phones))
    assert lay(silent, durations).stretches[0].removed == (2, 2)


TEXTS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=9)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS, st.data())
def test_any_edit_is_consistent(source: list[str], wanted: list[str], data: st.DataObject) -> None:
    lengths = st.sampled_from([0, 0, 2, 5, 6, 7, 40])
    pauses = data.draw(st.lists(lengths, min_size=len(source) + 1, max_size=len(source) + 1))
    layout = target(" ".join(source), pauses, " ".join(wanted), data.draw(st.integers(1, 15)))
    total = sum(pauses) + 36 * len(source)
    check(layout, total)
    assert symbols(layout.canvas).replace(".", "") == "".join(3 * word for word in wanted)
    # Every change is in exactly one stretch, and together they remove and insert all its words.
    changes = diff(source, wanted)
    for change in changes:
        holding = [
            s for s in layout.stretches
            if s.removed[0] <= change.start and change.end <= s.removed[1]
            and s.inserted[0] <= change.first and change.last <= s.inserted[1]
        ]  # fmt: skip
        assert len(holding) == 1
    assert bool(layout.stretches) == bool(changes)
    shift = sum((s.inserted[1] - s.inserted[0]) - (s.removed[1] - s.removed[0]) for s in layout.stretches)
    assert shift == len(wanted) - len(source)
    assert all(start < end for start, end in layout.word_frames().values())
