"""Alignments as files."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from flowtts.alignment import Alignment, PhoneTime, read_textgrid, write_alignment
from flowtts.alignment.writers import LINE, LONGEST, cues, to_vtt
from flowtts.text.analysis import Analysis, TextWord, assemble
from flowtts.types import UserError, Word

MARKS = {",": "SIL,", ".": "SIL.", "?": "SIL?"}


def sentence(text: str, seconds: float = 0.4, pause: float = 0.0) -> tuple[Alignment, Analysis]:
    """Every word one phone of ``seconds``; ``pause`` after each mark."""
    words, pauses, place = [], [], 0
    for token in text.split():
        bare = token.strip(".,?\"'()")
        start = text.index(token, place) + token.index(bare)
        place = text.index(token, place) + len(token)
        words.append(TextWord(bare, start, start + len(bare), ("AH0",)))
        mark = token.rstrip("\"')")[-1]
        pauses.append(MARKS.get(mark, "SIL"))
    analysis = assemble(text, text, tuple(words), tuple(pauses))
    phones, clock = [], 0.0
    for phone in analysis.phones:
        length = seconds if phone.word >= 0 else pause * (phone.symbol != "SIL")
        phones.append(PhoneTime(phone.symbol, phone.word, clock, clock + length, 0.5 if phone.word >= 0 else None))
        clock += length
    spoken = [p for p in phones if p.word >= 0]
    timed = tuple(Word(w.text, p.start, p.end, 0.5) for w, p in zip(words, spoken, strict=True))
    return Alignment(timed, tuple(phones)), analysis


def test_json(tmp_path: Path) -> None:
    made, analysis = sentence("Hi, you.", 0.5)
    write_alignment(tmp_path / "a.json", made, analysis)
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "words": [
            {"text": "Hi", "start": 0.0, "end": 0.5, "confidence": 0.5},
            {"text": "you", "start": 0.5, "end": 1.0, "confidence": 0.5},
        ],
        "phones": [
            {"text": "SIL", "start": 0.0, "end": 0.0, "confidence": None, "word": -1},
            {"text": "AH0_S", "start": 0.0, "end": 0.5, "confidence": 0.5, "word": 0},
            {"text": "SIL,", "start": 0.5, "end": 0.5, "confidence": None, "word": -1},
            {"text": "AH0_S", "start": 0.5, "end": 1.0, "confidence": 0.5, "word": 1},
            {"text": "SIL.", "start": 1.0, "end": 1.0, "confidence": None, "word": -1},
        ],
    }


def test_srt_is_exact(tmp_path: Path) -> None:
    made, analysis = sentence('She said: "Stop here, please." Did he (really) stop? No.', 0.4, 0.25)
    write_alignment(tmp_path / "a.srt", made, analysis)
    assert (tmp_path / "a.srt").read_text() == (
        '1\n00:00:00,000 --> 00:00:02,250\nShe said: "Stop here, please."\n\n'
        "2\n00:00:02,500 --> 00:00:04,100\nDid he (really) stop?\n\n"
        "3\n00:00:04,350 --> 00:00:05,000\nNo.\n"
    )


def test_vtt_is_exact_and_escaped() -> None:
    made, analysis = sentence("Tom & Jerry.", 1800.0)
    assert to_vtt(cues(made, analysis)) == (
        "WEBVTT\n\n00:00:00.000 --> 00:30:00.000\nTom\n\n00:30:00.000 --> 01:00:00.000\n&amp;\n\n"
        "01:00:00.000 --> 01:30:00.000\nJerry.\n"
    )


def test_without_the_text_pauses_give_the_marks() -> None:
    made, _ = sentence("Stop here, please. Now?", 0.4)
    assert [c.lines for c in cues(made)] == [("Stop here, please.",), ("Now?",)]


def test_subtitles_keep_their_limits_and_all_words() -> None:
    text = (
        "When the committee had finally gathered in the old town hall, which nobody had heated since the spring, the "
        "chairman read out a letter of extraordinary length and read it twice. Nobody answered, and he sat down."
    )
    made, analysis = sentence(text, 0.3)
    found = cues(made, analysis)
    assert " ".join(line for c in found for line in c.lines) == text
    assert all(len(c.lines) <= 2 and all(len(line) <= LINE for line in c.lines) for c in found)
    assert all(c.end - c.start <= LONGEST + 1e-9 for c in found)
    assert all(a.end <= b.start + 1e-9 for a, b in itertools.pairwise(found))
    assert found[0].lines[-1].endswith("hall,"), "a full subtitle ends with a clause rather than in the middle of one"
    assert any(c.lines[-1].endswith("twice.") for c in found)


def test_a_long_pause_and_an_overlong_word_stand_alone() -> None:
    made, analysis = sentence("one, two", 0.4, 2.0)
    assert [c.lines for c in cues(made, analysis)] == [("one,",), ("two",)]
    word = "x" * 60
    made, analysis = sentence(f"so {word} it", 0.4)
    assert [c.lines for c in cues(made, analysis)] == [("so",), (word,), ("it",)]


def test_textgrid_by_suffix(tmp_path: Path) -> None:
    made, analysis = sentence("one two", 0.4)
    write_alignment(tmp_path / "a.TextGrid", made, analysis)
    words = read_textgrid(tmp_path / "a.TextGrid").tier("words")
    assert words is not None and [i.text for i in words.intervals] == ["one", "two"]


def test_unknown_suffix_and_folder(tmp_path: Path) -> None:
    made, _ = sentence("one")
    with pytest.raises(UserError, match=r"use \.json, \.srt, \.vtt or \.TextGrid"):
        write_alignment(tmp_path / "a.doc", made)
    with pytest.raises(UserError, match="cannot be written"):
        write_alignment(tmp_path / "none" / "a.json", made)
    assert list(tmp_path.iterdir()) == []
