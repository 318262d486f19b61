"""Normalisation: a table of readings, and what must hold for any text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowtts.text import normalise
from flowtts.text.numbers import amount, cardinal, ordinal, year
from flowtts.text.roman import value

LINES = (Path(__file__).with_name("text_normalise.tsv")).read_text(encoding="utf-8").splitlines()
CASES = [tuple(line.split("\t")) for line in LINES if not line.startswith("#")]


@pytest.mark.parametrize(("written", "read"), CASES)
def test_reads_as_in_the_table(written: str, read: str) -> None:
    assert normalise(written) == read


def test_table_is_large_enough() -> None:
    assert len(CASES) >= 150


@pytest.mark.parametrize(
    "text",
    [
        "He said no, and that was that.",
        "I am the one who, as you know, did it; nobody else (not even John) was there!",
        'In chapter two I wrote: "What is it?"',
        "She'd've gone to the well-known o'clock place — if only...",
        "Mix the dill, he said. A civil man.",
    ],
)
def test_plain_sentences_stay_as_they_are(text: str) -> None:
    assert normalise(text) == text


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="abcXI IVZ.,-:;/'\"$£%&@#°0123456789()+*=?!\n", max_size=60))
def test_any_text_loses_its_digits_and_keeps_one_line(text: str) -> None:
    read = normalise(text)
    assert not re.search(r"\d|\n|  ", read)
    assert read == read.strip()


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_any_unicode_is_accepted_and_settles(text: str) -> None:
    once = normalise(text)
    assert re.search(r"[0-9]", re.sub(r"\{[^{}]*\}", "", once)) is None


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**15 - 1))
def test_numbers_read_back(number: int) -> None:
    assert _parse(cardinal(number)) == number
    assert amount(f"{number:,}") == cardinal(number)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3999))
def test_roman_numerals_read_back(number: int) -> None:
    assert value(_roman(number)) == number


@pytest.mark.parametrize("wrong", ["", "IIII", "VX", "IC", "IIX", "MMMM", "ABC"])
def test_malformed_roman_numerals_have_no_value(wrong: str) -> None:
    assert value(wrong) is None


def test_ordinals_and_years() -> None:
    assert [ordinal(n) for n in (1, 12, 20, 101)] == ["first", "twelfth", "twentieth", "one hundred first"]
    assert [year(y) for y in ("44", "70", "410", "1000", "1905", "2010")] == [
        "forty-four", "seventy", "four ten", "one thousand", "nineteen oh five", "twenty ten",
    ]  # fmt: skip


_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SMALL = {word: n for n, word in enumerate(_UNITS)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_GROUPS = ("thousand", "million", "billion", "trillion")
_NUMERALS = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"),
    (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip


def _parse(words: str) -> int:
    """The number that cardinal words name: an independent reading, for the round trip."""
    total, group = 0, 0
    for word in words.replace("-", " ").split():
        if word == "hundred":
            group *= 100
        elif word in _GROUPS:
            total += group * 1000 ** (1 + _GROUPS.index(word))
            group = 0
        else:
            group += _SMALL[word]
    return total + group


def _roman(number: int) -> str:
    numeral = ""
    for size, letters in _NUMERALS:
        numeral += letters * (number // size)
        number %= size
    return numeral
