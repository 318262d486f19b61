"""Parts of analysed texts, and texts of which only some changes are carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flowtts.edit.diff import Change
from flowtts.text import Analysis
from flowtts.text.analysis import TextWord, assemble
from flowtts.types import Phone


def part(analysis: Analysis, first: int, last: int) -> Analysis:
    """The words [first, last) of an analysis as one of their own, with the pauses around them."""
    if (first, last) == (0, len(analysis.words)):
        return analysis
    offset = analysis.words[first].start
    stop = analysis.words[last].start if last < len(analysis.words) else len(analysis.normalised)
    text = analysis.normalised[offset:stop].rstrip()
    words = tuple(replace(w, start=w.start - offset, end=w.end - offset) for w in analysis.words[first:last])
    phones: list[Phone] = []
    pause = -1
    for phone in analysis.phones:
        pause += phone.word < 0
        if phone.word < 0 and first <= pause <= last:
            place = [min(max(at - offset, 0), len(text)) for at in (phone.start, phone.end)]
            phones.append(Phone("SIL" if pause == first else phone.symbol, -1, place[0], place[1]))
        elif first <= phone.word < last:
            phones.append(Phone(phone.symbol, phone.word - first, phone.start - offset, phone.end - offset))
    return Analysis(text, text, words, tuple(phones))


def carried_out(
    said: Analysis, wanted: Analysis, changes: Sequence[Change], first: int, last: int
) -> tuple[Analysis, list[Change]]:
    """The words [first, last) of a text with some of its changes carried out and all others not.

    Args:
        said: the whole text.
        wanted: the whole text with all changes.
        changes: those to carry out; they lie within [first, last).
        first: first word of ``said``.
        last: one past the last.

    Returns:
        The text, and the changes that make it of ``part(said, first, last)``.
    """
    rows: list[tuple[Analysis, int]] = []
    pauses: list[str] = []
    own: list[Change] = []
    marks = {id(text): [phone.symbol for phone in text.phones if phone.word < 0] for text in (said, wanted)}

    def take(text: Analysis, start: int, end: int) -> None:
        rows.extend((text, index) for index in range(start, end))
        pauses.extend(marks[id(text)][index + 1] for index in range(start, end))

    at = first
    for change in changes:
        take(said, at, change.start)
        if rows and change.first > 0:
            pauses[-1] = marks[id(wanted)][change.first]
        begin = len(rows)
        take(wanted, change.first, change.last)
        own.append(Change(change.start - first, change.end - first, begin, len(rows)))
        at = change.end
    take(said, at, last)
    text, words = "", []
    for analysis, index in rows:
        word = analysis.words[index]
        stop = analysis.words[index + 1].start if index + 1 < len(analysis.words) else len(analysis.normalised)
        words.append(TextWord(word.text, len(text), len(text) + word.end - word.start, word.phones))
        text += analysis.normalised[word.start : stop].rstrip() + " "
    return assemble(text.rstrip(), text.rstrip(), tuple(words), tuple(pauses)), own
