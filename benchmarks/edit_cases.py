"""Which edits to make: wanted texts built from a recording's own words, common words and other sentences."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowtts.edit.diff import diff
from flowtts.recognise import spoken_words

SHARES: Mapping[str, int] = {
    "replace": 22,
    "insert": 18,
    "several": 16,
    "delete": 14,
    "first": 10,
    "last": 10,
    "whole": 10,
}
"""Edits of each kind in a hundred."""

FEWEST: Mapping[str, int] = {"replace": 3, "insert": 2, "several": 6, "delete": 4, "first": 3, "last": 3, "whole": 1}
"""Words that a sentence needs to be edited in this way."""

_WORDS = """again always another apple beautiful because before better between bright broken brother carefully children
city cold country dark dinner doctor early evening family father finally flower friend garden green happy heavy
important kitchen large little market meeting money morning mother mountain music never number often orange paper
people perfect picture quickly quiet river school several silver simple sister small something special station
story street strong sudden summer sunday table teacher together tomorrow travel under usually village warm water
weather wednesday white window winter wonderful yellow yesterday young"""
COMMON = tuple(_WORDS.split())
_MARKS = re.compile(r"^([^\w']*)(.*?)([^\w']*)$")


@dataclass(frozen=True)
class Source:
    """A recording that may be edited.

    Attributes:
        id: its name.
        audio: its file, or the voice that speaks it.
        text: what it says.
    """

    id: str
    audio: str
    text: str


@dataclass(frozen=True)
class Case:
    """One edit.

    Attributes:
        id: number, kind and recording.
        kind: a key of ``SHARES``.
        audio: the recording's file.
        text: what it says.
        to: what it shall say.
        reference: file of a recording of ``to`` in the same voice, or "".
    """

    id: str
    kind: str
    audio: str
    text: str
    to: str
    reference: str = ""


def kinds(count: int) -> list[str]:
    """``count`` kinds in the proportions of ``SHARES`` (largest remainders), one after the other."""
    exact = {kind: count * share / sum(SHARES.values()) for kind, share in SHARES.items()}
    given = {kind: int(value) for kind, value in exact.items()}
    for kind in sorted(exact, key=lambda k: given[k] - exact[k])[: count - sum(given.values())]:
        given[kind] += 1
    return [kind for kind, number in given.items() for _ in range(number)]


def make_cases(sources: Sequence[Source], count: int, seed: int = 0) -> list[Case]:
    """Edits in fixed proportions, each of another recording as long as there are enough.

    Depends only on the arguments: the same table, count and seed give the same edits.

    Args:
        sources: recordings; those without enough words for a kind are passed over.
        count: edits.
        seed: of the choice of recordings, places and words.

    Raises:
        ValueError: no recording has enough words for some kind.
    """
    rng = np.random.default_rng(seed)
    order = sorted(sources, key=lambda s: hashlib.sha256(f"{seed}/{s.id}".encode()).digest())
    pool = [source.text.split() for source in order]
    wanted = kinds(count)
    unused = list(order)
    made: list[Case] = []
    # The choosiest kinds first, so that they find their sentences.
    for number, kind in enumerate(sorted(wanted, key=lambda k: -FEWEST[k])):
        fitting = [s for s in unused if len(s.text.split()) >= FEWEST[kind]]
        if not fitting:
            unused = list(order)
            fitting = [s for s in unused if len(s.text.split()) >= FEWEST[kind]]
        if not fitting:
            raise ValueError(f"no sentence has the {FEWEST[kind]} words that the edit {kind!r} needs")
        source = fitting[0]
        unused.remove(source)
        to = _edited(kind, source.text.split(), pool, rng)
        made.append(Case(f"{number:03d}-{kind}-{source.id}", kind, source.audio, source.text, " ".join(to)))
    return made


def _edited(kind: str, words: list[str], pool: Sequence[list[str]], rng: np.random.Generator) -> list[str]:
    """Draw until the result differs in what is spoken, and speaks at all."""
    for _ in range(100):
        made = _draw(kind, list(words), pool, rng)
        old, new = spoken_words(" ".join(words)), spoken_words(" ".join(made))
        changes = diff(old, new) if new else []
        # Drawn words may join what was two changes, or repeat what was there.
        if len(changes) >= (2 if kind == "several" else 1):
            return made
    raise ValueError(f"cannot change {' '.join(words)!r} by {kind!r}")


def _draw(kind: str, words: list[str], pool: Sequence[list[str]], rng: np.random.Generator) -> list[str]:
    last = len(words) - 1
    if kind == "whole":
        return list(pool[int(rng.choice(_nearest([len(other) for other in pool], len(words))))])
    if kind in ("first", "last"):
        place = 0 if kind == "first" else last
        # Mostly another word; sometimes one more, or one less.
        turn = rng.integers(4)
        if turn == 3:
            return _without(words, place, 1)
        return _with(words, place if turn < 2 or kind == "first" else last + 1, int(turn < 2), pool, rng)
    if kind == "several":
        number = min(3 if len(words) >= 9 else 2, len(words) // 3)
        step = len(words) / number
        # From behind, so that earlier places keep their numbers; two words apart, so that changes stay apart.
        for part in reversed(range(number)):
            low, high = int(part * step), max(int(part * step) + 1, int((part + 1) * step) - 2)
            place = int(rng.integers(low, high))
            turn = rng.integers(3)
            words = _without(words, place, 1) if turn == 2 else _with(words, place, int(turn == 1), pool, rng)
        return words
    size = 1 if len(words) < 5 else int(rng.integers(1, 3))
    place = int(rng.integers(1, max(2, last - size + 1)))
    if kind == "delete":
        return _without(words, place, size)
    return _with(words, place, size if kind == "replace" else 0, pool, rng)


def _with(words: list[str], place: int, gone: int, pool: Sequence[list[str]], rng: np.random.Generator) -> list[str]:
    """Put words at a place, instead of ``gone`` words or between two."""
    size = gone or int(rng.integers(1, 4))
    old = "".join(words[place : place + gone])
    new = [_bare(word) for word in _phrase(size, len(old) if gone else 0, pool, rng)]
    if gone:
        # What stood before and after the words that go, stays: commas, full stops, capitals.
        head, tail = _MARKS.match(words[place]), _MARKS.match(words[place + gone - 1])
        assert head is not None and tail is not None
        new[0], new[-1] = head[1] + new[0], new[-1] + tail[3]
    elif place == len(words):
        mark = _MARKS.match(words[-1])
        assert mark is not None
        words = [*words[:-1], words[-1][: len(words[-1]) - len(mark[3])]]
        new[-1] += mark[3]
    return [*words[:place], *new, *words[place + gone :]]


def _without(words: list[str], place: int, gone: int) -> list[str]:
    return [*words[:place], *words[place + gone :]]


def _phrase(size: int, letters: int, pool: Sequence[list[str]], rng: np.random.Generator) -> list[str]:
    """Words in a row from another sentence, or common words, near a number of letters if that is given."""
    tries = []
    for _ in range(12):
        other = pool[int(rng.integers(len(pool)))]
        if rng.integers(2) or len(other) < size:
            tries.append([str(word) for word in rng.choice(COMMON, size)])
        else:
            first = int(rng.integers(len(other) - size + 1))
            tries.append(other[first : first + size])
    usable = [words for words in tries if all(_bare(word) for word in words)]
    near = _nearest([len("".join(words)) for words in usable], letters) if letters else list(range(len(usable)))
    return usable[int(rng.choice(near))] if usable else [str(word) for word in rng.choice(COMMON, size)]


def _nearest(values: Iterable[int], wanted: int) -> list[int]:
    """Places of the values nearest to one, at least four of them where there are."""
    values = list(values)
    order = sorted(range(len(values)), key=lambda i: abs(values[i] - wanted))
    reach = abs(values[order[min(3, len(order) - 1)]] - wanted)
    return [i for i in order if abs(values[i] - wanted) <= reach]


def _bare(word: str) -> str:
    mark = _MARKS.match(word)
    return mark[2] if mark is not None else word
