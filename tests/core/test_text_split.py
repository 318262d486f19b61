"""Chunks: nothing is lost, cuts are where they should be."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtts.text import split
from flowtts.text.split import sentences


def texts(text: str, longest: int = 200) -> list[str]:
    return [chunk.text for chunk in split(text, longest)]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab. ,;!?\n\"'(){}—Z1", max_size=120), st.integers(1, 40))
def test_chunks_joined_are_the_text(text: str, longest: int) -> None:
    chunks = split(text, longest)
    assert "".join(chunk.text for chunk in chunks) == text
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    for before, after in pairwise(chunks):
        assert before.end == after.start
        # A cut stands behind white space or a dash, never inside a word.
        assert before.text[-1].isspace() or before.text[-1] in "—" or after.text[0] in " —"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["word", "a", "longer,", "end.", "stop!"]), min_size=1, max_size=60), st.integers(10, 80)
)
def test_chunks_are_short(words: list[str], longest: int) -> None:
    assert all(len(chunk.text.rstrip()) <= longest for chunk in split(" ".join(words), longest))


def test_sentences_share_a_chunk_while_they_fit() -> None:
    text = "One two three. Four five six. Seven eight nine."
    assert texts(text) == [text]
    assert texts(text, 30) == ["One two three. Four five six. ", "Seven eight nine."]
    assert texts(text, 20) == ["One two three. ", "Four five six. ", "Seven eight nine."]


def test_long_sentences_are_cut_at_clauses_first() -> None:
    text = "When the rain had stopped at last, the children ran out to play."
    assert texts(text, 40) == ["When the rain had stopped at last, ", "the children ran out to play."]
    assert texts("one two three four", 10) == ["one two ", "three four"]


def test_paragraphs_are_kept_apart() -> None:
    assert texts("Heading\n\nThe text. More.") == ["Heading\n\n", "The text. More."]


def test_a_long_word_stays_whole() -> None:
    assert texts("a" * 50 + " b", 10) == ["a" * 50 + " ", "b"]


def test_phones_in_braces_stay_whole() -> None:
    assert texts("Say {HH AH0 L OW1} {W ER1 L D} now", 14) == ["Say ", "{HH AH0 L OW1} ", "{W ER1 L D} ", "now"]


def test_marks_alone_join_their_neighbour() -> None:
    assert texts("Yes. ... \n\n* * *\n\nNo.", 5) == ["Yes. ... \n\n* * *\n\n", "No."]
    assert texts("... Yes.", 4) == ["... Yes."]
    assert texts("...") == ["..."] and texts("") == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Mr. Smith met Dr. Jones. They spoke.", 2),
        ("He lives on Main St. The house is red.", 2),
        ("St. Paul is here. See No. 5 there.", 2),
        ("I said no. 5 came.", 1),
        ("It was at 5 p.m. on Monday. It rained.", 2),
        ("He came at 5 p.m. The door was shut.", 2),
        ("The U.S. Army came. J. F. Kennedy spoke.", 2),
        ("Pi is 3.14 exactly. Yes.", 2),
        ('"Stop!" he cried. "Why?" she asked.', 2),
        ("Wait... what? Oh... Never mind.", 3),
        ("Smith & Co. was sold. Acme Inc. He left.", 3),
        ("See e.g. Smith et al. for more. Done.", 2),
        ("So did I. Then we left.", 2),
        ("Visit www.example.com today. Bye.", 2),
    ],
)
def test_sentences_are_safe_from_abbreviations(text: str, count: int) -> None:
    assert len(sentences(text)) == count


def test_longest_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        split("text", 0)
