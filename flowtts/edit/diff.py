"""What changes between two texts, word by word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_APOSTROPHES = str.maketrans({"‘": "'", "’": "'", "ʼ": "'"})
# A word that changes outweighs any number of changes, so that one sum orders (distance, changes).
_WORD = 1 << 32
_NEVER = 1 << 60
# How a changed word was reached (0: it replaces another), whether it opens a change, what a kept word follows.
_DELETE, _INSERT = 1, 2
_FROM_KEPT, _KEPT_FROM_CHANGE = 4, 8
_BAND = 128


@dataclass(frozen=True)
class Change:
    """Words of the source that go and words of the wanted text that come in their place.

    Attributes:
        start: first word of the source that goes.
        end: one past the last; equal to ``start`` for an insertion, which stands before the word ``start``.
        first: first word of the wanted text that comes.
        last: one past the last; equal to ``first`` for a deletion.
    """

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True)
class Kept:
    """A run of words that both texts have: [start, end) of the source is [first, last) of the wanted text."""

    start: int
    end: int
    first: int
    last: int


def same_word(word: str) -> str:
    """What two spellings of a word share: letters without case, typographic apostrophes as plain ones."""
    return word.translate(_APOSTROPHES).casefold()


def diff(source: Sequence[str], wanted: Sequence[str]) -> list[Change]:
    """The smallest set of changes that makes the wanted words of the source words.

    The number of words that change (of each change the greater of the words that go and come) is the Levenshtein
    distance. Among all such solutions those with the fewest changes win: neighbouring words are one change. Of an
    insertion or deletion that could stand in several places, because the words around it repeat its own, the earliest
    place is taken: "the cat and the dog" becomes "the cat [and the cow] and the dog", since English phrases begin with
    the words that repeat.

    Between two changes there is at least one kept word. Time and memory grow with the number of words times the
    distance.

    Args:
        source: normalised words.
        wanted: normalised words; compared by ``same_word``.

    Returns:
        Changes in order; none if the texts are the same.
    """
    ids: dict[str, int] = {}
    old = np.array([ids.setdefault(same_word(word), len(ids)) for word in source], dtype=np.int64)
    new = np.array([ids.setdefault(same_word(word), len(ids)) for word in wanted], dtype=np.int64)
    shorter = min(len(old), len(new))
    # A common beginning and end belong to some best solution; only the place among equal ones has to be mended.
    head = _common(old[:shorter], new[:shorter])
    tail = _common(old[head:][::-1][: shorter - head], new[head:][::-1][: shorter - head])
    middle = _changes(old[head : len(old) - tail], new[head : len(new) - tail])
    moved = [Change(c.start + head, c.end + head, c.first + head, c.last + head) for c in middle]
    return _earliest(old, new, moved)


def kept_runs(changes: Sequence[Change], source: int, wanted: int) -> list[Kept]:
    """The runs of words that stay, in order, none empty.

    Args:
        changes: of ``diff``.
        source: number of words of the source.
        wanted: number of words of the wanted text.
    """
    starts = [(0, 0), *((c.end, c.last) for c in changes)]
    ends = [*((c.start, c.first) for c in changes), (source, wanted)]
    runs = [Kept(start, end, first, last) for (start, first), (end, last) in zip(starts, ends, strict=True)]
    return [run for run in runs if run.end > run.start]


def _common(old: NDArray[np.int64], new: NDArray[np.int64]) -> int:
    """Length of the beginning that two arrays of one length share."""
    different = np.flatnonzero(old != new)
    return int(different[0]) if len(different) else len(old)


def _changes(old: NDArray[np.int64], new: NDArray[np.int64]) -> list[Change]:
    """Widen the band until it provably holds every best path: one of distance d stays within d of the diagonal."""
    band = max(_BAND, abs(len(old) - len(new)))
    while True:
        cost, in_change, codes = _fill(old, new, band)
        if cost // _WORD <= band:
            return _trace(len(old), len(new), band, in_change, codes)
        band *= 4


def _fill(old: NDArray[np.int64], new: NDArray[np.int64], band: int) -> tuple[int, bool, list[NDArray[np.uint8]]]:
    """Dynamic programme over (words of old, words of new, whether the last word was kept or changed).

    Returns:
        The least cost, ``_WORD`` for each word and 1 for each change; whether it ends in a change; and for every row,
        from column max(0, row - band), how each cell was reached.
    """
    width = len(new) + 1
    price = np.arange(width, dtype=np.int64) * _WORD
    # Place 0 is a column before the first, which nothing reaches: column j is place j + 1.
    kept = np.full(width + 1, _NEVER, dtype=np.int64)
    changed = kept.copy()
    kept[1] = 0
    changed[2 : band + 2] = price[1 : band + 1] + 1
    codes = [np.full(min(width, band + 1), _INSERT, dtype=np.uint8)]
    codes[0][1:2] |= _FROM_KEPT
    word = np.concatenate(([-1], new))
    for row in range(1, len(old) + 1):
        lo, hi = max(0, row - band), min(width, row + band + 1)
        above_kept, above_changed = kept[lo : hi + 1].copy(), changed[lo : hi + 1].copy()
        opened = above_kept < above_changed
        either = np.minimum(above_kept, above_changed)
        kept[lo] = changed[lo] = _NEVER
        kept[lo + 1 : hi + 1] = np.where(word[lo:hi] == old[row - 1], either[:-1], _NEVER)
        enter = either + opened
        # Insertions run along the row: a running minimum once their price is taken off.
        insert = kept[lo:hi] + 1
        step = np.minimum(enter[:-1], enter[1:])
        best = np.minimum(step, insert) + _WORD
        run = np.minimum.accumulate(best - price[lo:hi]) + price[lo:hi]
        changed[lo + 1 : hi + 1] = run
        flags = opened * np.uint8(_FROM_KEPT)
        code = np.where(enter[1:] < enter[:-1], flags[1:] | np.uint8(_DELETE), flags[:-1])
        code[insert < step] = _INSERT | _FROM_KEPT
        code[run < best] = _INSERT
        code[~opened[:-1]] |= _KEPT_FROM_CHANGE
        codes.append(code)
    ends = int(kept[-1]), int(changed[-1])
    return min(ends), ends[1] < ends[0], codes


def _trace(rows: int, columns: int, band: int, in_change: bool, codes: list[NDArray[np.uint8]]) -> list[Change]:
    """Walk back from the last cell, collecting the changes."""
    changes: list[Change] = []
    row, column = rows, columns
    end, last = rows, columns
    while row or column:
        code = int(codes[row][column - max(0, row - band)])
        if not in_change:
            row, column = row - 1, column - 1
            in_change = bool(code & _KEPT_FROM_CHANGE)
            end, last = row, column
            continue
        step = code & 3
        row -= step != _INSERT
        column -= step != _DELETE
        if code & _FROM_KEPT:
            changes.append(Change(row, end, column, last))
            in_change = False
    return changes[::-1]


def _earliest(old: NDArray[np.int64], new: NDArray[np.int64], changes: Sequence[Change]) -> list[Change]:
    """Slide insertions and deletions towards the beginning as far as the words allow."""
    done: list[Change] = []
    for change in changes:
        start, end, first, last = change.start, change.end, change.first, change.last
        least = done[-1].end if done else 0
        while start > least + bool(done) and (
            (start == end and new[last - 1] == old[start - 1]) or (first == last and old[end - 1] == old[start - 1])
        ):
            start, end, first, last = start - 1, end - 1, first - 1, last - 1
        done.append(Change(start, end, first, last))
    return done
