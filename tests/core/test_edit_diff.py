"""flowtts.edit.diff: the smallest change between two texts."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowtts.edit.diff import Change, Kept, diff, kept_runs, same_word

TEXTS = st.lists(st.sampled_from("abc"), max_size=9)


def least(source: Sequence[str], wanted: Sequence[str]) -> tuple[int, int]:
    """(Levenshtein distance, fewest changes at that distance), straight from the definition."""

    @cache
    def rest(i: int, j: int, open_: bool) -> tuple[int, int]:
        if i == len(source) and j == len(wanted):
            return 0, 0
        found = []
        if i < len(source) and j < len(wanted) and source[i] == wanted[j]:
            found.append(rest(i + 1, j + 1, False))
        for di, dj in ((1, 1), (1, 0), (0, 1)):
            if i + di <= len(source) and j + dj <= len(wanted):
                words, changes = rest(i + di, j + dj, True)
                found.append((words + 1, changes + (not open_)))
        return min(found)

    return rest(0, 0, False)


def size(changes: Sequence[Change]) -> int:
    return sum(max(c.end - c.start, c.last - c.first) for c in changes)


def applied(source: Sequence[str], wanted: Sequence[str], changes: Sequence[Change]) -> list[str]:
    made: list[str] = []
    place = 0
    for change in changes:
        made += source[place : change.start]
        made += wanted[change.first : change.last]
        place = change.end
    return [*made, *source[place:]]


@given(TEXTS, TEXTS)
def test_changes_make_the_wanted_text_and_are_minimal(source: list[str], wanted: list[str]) -> None:
    changes = diff(source, wanted)
    assert applied(source, wanted, changes) == wanted
    assert (size(changes), len(changes)) == least(source, wanted)


@given(TEXTS, TEXTS)
def test_no_more_than_difflib_changes(source: list[str], wanted: list[str]) -> None:
    operations = difflib.SequenceMatcher(None, source, wanted, autojunk=False).get_opcodes()
    theirs = sum(max(b - a, d - c) for tag, a, b, c, d in operations if tag != "equal")
    assert size(diff(source, wanted)) <= theirs


@given(TEXTS, TEXTS)
def test_kept_runs_are_what_changes_leave(source: list[str], wanted: list[str]) -> None:
    changes = diff(source, wanted)
    runs = kept_runs(changes, len(source), len(wanted))
    assert all(source[r.start : r.end] == wanted[r.first : r.last] != [] for r in runs)
    assert sum(r.end - r.start for r in runs) + sum(c.end - c.start for c in changes) == len(source)
    # Between two changes something is kept: otherwise they were one.
    assert all(a.end < b.start and a.last < b.first for a, b in pairwise(changes))


@given(TEXTS, TEXTS)
def test_insertions_and_deletions_stand_as_early_as_they_can(source: list[str], wanted: list[str]) -> None:
    for change in diff(source, wanted):
        if change.start and change.start == change.end:
            assert source[change.start - 1] != wanted[change.last - 1]
        if change.start and change.first == change.last:
            assert source[change.start - 1] != source[change.end - 1]


@pytest.mark.parametrize(
    ("source", "wanted", "changes"),
    [
        ("the old ship sailed", "the old ship sailed", []),
        ("the old ship sailed", "The OLD ship Sailed", []),
        ("don’t go", "don't go", []),
        ("the old ship sailed", "the new boat sailed", [Change(1, 3, 1, 3)]),
        ("the ship sailed", "the old ship sailed", [Change(1, 1, 1, 2)]),
        ("the old ship sailed", "the ship sailed", [Change(1, 2, 1, 1)]),
        ("", "all of it", [Change(0, 0, 0, 3)]),
        ("all of it", "", [Change(0, 3, 0, 0)]),
        ("one two three", "two three", [Change(0, 1, 0, 0)]),
        ("one two", "one two three", [Change(2, 2, 2, 3)]),
        ("the cat and the dog", "the cat and the cow and the dog", [Change(2, 2, 2, 5)]),
        ("the cat and the cow and the dog", "the cat and the dog", [Change(2, 5, 2, 2)]),
        ("a very good day", "a very very very good day", [Change(1, 1, 1, 3)]),
        ("go now please", "come now thanks", [Change(0, 1, 0, 1), Change(2, 3, 2, 3)]),
    ],
)
def test_examples(source: str, wanted: str, changes: list[Change]) -> None:
    assert diff(source.split(), wanted.split()) == changes


def test_long_texts_with_changes_at_both_ends_and_more_than_one_band_apart() -> None:
    source = [f"w{i}" for i in range(3000)]
    wanted = ["new", *source[1:1000], *(f"x{i}" for i in range(300)), *source[1000:-2], "end"]
    assert diff(source, wanted) == [
        Change(0, 1, 0, 1),
        Change(1000, 1000, 1000, 1300),
        Change(2998, 3000, 3298, 3299),
    ]
    shifted = [*(f"x{i}" for i in range(100)), *source[:-100]]
    assert diff(source, shifted) == [Change(0, 0, 0, 100), Change(2900, 3000, 3000, 3000)]


def test_kept_runs_of_no_change_and_of_nothing() -> None:
    assert kept_runs([], 3, 3) == [Kept(0, 3, 0, 3)]
    assert kept_runs([Change(0, 2, 0, 1)], 2, 1) == []


def test_same_word_ignores_case_and_the_kind_of_apostrophe() -> None:
    assert same_word("Don’t") == same_word("don't") == same_word("DONʼT")
    assert same_word("its") != same_word("it's")
