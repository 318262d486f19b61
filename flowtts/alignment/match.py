"""Phones that somebody else timed (a speech engine, the Montreal Forced Aligner) put onto an analysed text.

Such labels are what was really said, but they know neither the text's words nor, often, stress. An edit distance
between the labels and the front end's phones finds out which label is which phone: the said phones are kept, words
and stress come from the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flowtts.alignment.base import Alignment, PhoneTime, gather_words
from flowtts.alignment.textgrid import Interval, TextGrid, is_silence
from flowtts.text.analysis import Analysis, TextWord, assemble
from flowtts.text.symbols import VOWELS, bare, is_vowel
from flowtts.types import UserError

_SKIP = 0.7
_PAUSE_IN_WORD = 2.0
_EDGE_IN_WORD = 0.8
_WORST = 0.45
"""Mean cost per phone above which labels and text are taken for different sentences."""

# What flite and festival (the "radio" phone set of CMU's English voices) call the phones that ARPAbet lacks.
_ENGINE = {
    "ax": ("AH0",), "axr": ("ER0",), "ix": ("IH0",), "ux": ("UW0",), "el": ("AH0", "L"), "em": ("AH0", "M"),
    "en": ("AH0", "N"), "dx": ("T",), "nx": ("N",), "hv": ("HH",),
}  # fmt: skip
_CLASSES = (
    "P B", "T D DH TH", "K G", "F V", "S Z SH ZH", "CH JH SH ZH", "M N NG", "L R W Y", "HH", "D N L R T",
    "AA AO AH AE OW", "IH IY EH EY AH", "UH UW AH OW", "ER AH R AO UH", "AY AA AE", "AW AA OW", "OY AO OW",
)  # fmt: skip


@dataclass(frozen=True)
class _Said:
    """A timed phone (ARPAbet, stress digit or not), "" for one the phone set does not know, None for a pause."""

    phone: str | None
    start: float
    end: float


def impose(analysis: Analysis, labels: Sequence[Interval], seconds: float) -> tuple[Analysis, Alignment]:
    """Give a text the phones and times of a labelled recording.

    Args:
        analysis: of the text that was said.
        labels: contiguous phones in order: ARPAbet with or without stress, the engines' additions to it, or unknown
            names (IPA), which stand for whatever phone the text has at that place; pauses as ``is_silence`` knows them.
        seconds: length of the recording.

    Returns:
        The analysis with the phones that were said, and its alignment.

    Raises:
        UserError: the labels are those of another text, or a word was not said at all.
    """
    return _impose(analysis, _said(labels), (), seconds)


def from_textgrid(grid: TextGrid, analysis: Analysis, seconds: float) -> tuple[Analysis, Alignment]:
    """Give a text the phones and times of a TextGrid with tiers "phones" and, better, "words".

    Raises:
        UserError: no phones, or those of another text.
    """
    tier = grid.tier("phones", "phone", "segments", "mau")
    if tier is None:
        names = ", ".join(t.name for t in grid.tiers) or "none"
        raise UserError(f"the TextGrid has no tier 'phones' (tiers: {names}); align it with phones")
    words = grid.tier("words", "word")
    edges = () if words is None else tuple(i.start for i in words.intervals if not is_silence(i.text))
    return _impose(analysis, _said(tier.intervals), edges, seconds)


def _said(labels: Sequence[Interval]) -> list[_Said]:
    said: list[_Said] = []
    for label in labels:
        if label.end <= label.start:
            continue
        if is_silence(label.text):
            said.append(_Said(None, label.start, label.end))
            continue
        phones = to_phones(label.text)
        step = (label.end - label.start) / len(phones)
        said += [_Said(p, label.start + i * step, label.start + (i + 1) * step) for i, p in enumerate(phones)]
    return said


def to_phones(label: str) -> tuple[str, ...]:
    """ARPAbet for an engine's or aligner's label: "ax" -> ("AH0",), "AA1" -> ("AA1",), an unknown one -> ("",)."""
    known = _ENGINE.get(label.lower())
    if known is not None:
        return known
    name = re.sub(r"_[BIES]$", "", label.upper())
    return (name,) if name.rstrip("012") in _NEAR else ("",)


def _neighbours() -> dict[str, frozenset[str]]:
    near: dict[str, set[str]] = {}
    for group in _CLASSES:
        for phone in group.split():
            near.setdefault(phone, set()).update(group.split())
    return {phone: frozenset(others) for phone, others in near.items()}


_NEAR = _neighbours()


def _cost(said: str, phone: str) -> float:
    """Of hearing ``said`` where the text has ``phone``."""
    a, b = said.rstrip("012"), phone.rstrip("012")
    if a == b:
        return 0.0
    if not a:
        return 0.3
    if b in _NEAR[a]:
        return 0.3
    return 0.6 if (a in VOWELS) == (b in VOWELS) else 1.3


def _impose(
    analysis: Analysis, said: Sequence[_Said], edges: Sequence[float], seconds: float
) -> tuple[Analysis, Alignment]:
    phones = [(bare(p.symbol), p.word) for p in analysis.phones if p.word >= 0]
    spoken = [s for s in said if s.phone is not None]
    if not spoken:
        raise UserError("the labels hold no phones; nothing was said")
    steps, cost = _match(said, phones, _edge_costs(said, edges))
    if cost / max(len(phones), len(spoken)) > _WORST:
        raise UserError("the labelled phones do not fit the text; give the words that were said")
    owners: list[tuple[_Said, int, str]] = []
    for index, place in steps:
        item = said[index]
        if item.phone is None:
            continue
        matched, word = (phones[place], phones[place][1]) if place >= 0 else (("", -1), -1)
        owners.append((item, word, _stressed(item.phone, matched[0])))
    return _assembled(analysis, _adopted(owners), seconds)


def _edge_costs(said: Sequence[_Said], edges: Sequence[float]) -> list[float]:
    """What it costs to be inside a word before each label: pauses and known word edges forbid it."""
    costs = [0.0] * (len(said) + 1)
    for i, item in enumerate(said):
        if item.phone is None:
            costs[i] = _PAUSE_IN_WORD
        elif any(abs(item.start - edge) < 1e-3 for edge in edges):
            costs[i] = _EDGE_IN_WORD
    return costs


def _match(
    said: Sequence[_Said], phones: Sequence[tuple[str, int]], edge_costs: Sequence[float]
) -> tuple[list[tuple[int, int]], float]:
    """Edit distance. Returns (index in ``said``, index in ``phones`` or -1) for every label, and the cost."""
    rows, columns = len(said) + 1, len(phones) + 1
    inside = [0 < j < len(phones) and phones[j - 1][1] == phones[j][1] for j in range(columns)]
    best = [[float("inf")] * columns for _ in range(rows)]
    back = [[0] * columns for _ in range(rows)]
    best[0][0] = 0.0
    for i in range(rows):
        for j in range(columns):
            here, origin = best[i][j], back[i][j]
            if j and best[i][j - 1] + _SKIP < here:
                here, origin = best[i][j - 1] + _SKIP, 1
            if i:
                name = said[i - 1].phone
                toll = edge_costs[i - 1] if inside[j] else 0.0
                insertion = best[i - 1][j] + toll + (0.0 if name is None else _SKIP)
                if insertion < here:
                    here, origin = insertion, 2
                if name is not None and j:
                    toll = edge_costs[i - 1] if inside[j - 1] else 0.0
                    match = best[i - 1][j - 1] + toll + _cost(name, phones[j - 1][0])
                    if match <= here:
                        here, origin = match, 3
            best[i][j], back[i][j] = here, origin
    steps = []
    i, j = rows - 1, columns - 1
    while i or j:
        origin = back[i][j]
        if origin >= 2:
            steps.append((i - 1, j - 1 if origin == 3 else -1))
            i -= 1
        if origin in (1, 3):
            j -= 1
    return steps[::-1], best[-1][-1]


def _stressed(said: str, phone: str) -> str:
    """The said phone with the stress of the text's."""
    name = said or phone
    if not is_vowel(name) or name[-1:].isdigit():
        return name
    return name + (phone[-1] if is_vowel(phone) and phone[-1:].isdigit() else "0")


def _adopted(owners: Sequence[tuple[_Said, int, str]]) -> list[tuple[_Said, int, str]]:
    """Said phones that the text lacks go to the word beside them: the one they touch, rather the one before."""
    adopted: list[tuple[_Said, int, str]] = []
    for i, (item, word, name) in enumerate(owners):
        if word < 0:
            after = next(((o, w) for o, w, _ in owners[i + 1 :] if w >= 0), None)
            before = adopted[-1] if adopted else None
            touches = before is not None and abs(before[0].end - item.start) < 1e-6
            if before is not None and (touches or after is None or after[0].start > item.end + 1e-6):
                word = before[1]
            elif after is not None:
                word = after[1]
        if name:
            adopted.append((item, word, name))
        elif adopted and adopted[-1][1] == word:
            # An unknown label without a counterpart only lends its time to the phone before it.
            last, _, symbol = adopted[-1]
            adopted[-1] = (replace(last, end=item.end), word, symbol)
    return adopted


def _assembled(
    analysis: Analysis, owners: Sequence[tuple[_Said, int, str]], seconds: float
) -> tuple[Analysis, Alignment]:
    by_word: dict[int, list[tuple[_Said, str]]] = {}
    for item, owner, name in owners:
        by_word.setdefault(owner, []).append((item, name))
    words = []
    for index, word in enumerate(analysis.words):
        if index not in by_word:
            raise UserError(f"the word '{word.text}' was not said in the recording; correct the text")
        words.append(TextWord(word.text, word.start, word.end, tuple(name for _, name in by_word[index])))
    pauses = [p.symbol for p in analysis.phones if p.word < 0][1:]
    made = assemble(analysis.source, analysis.normalised, tuple(words), tuple(pauses))
    items = [item for index in range(len(words)) for item, _ in by_word[index]]
    phones: list[PhoneTime] = []
    now, used = 0.0, 0
    for place, phone in enumerate(made.phones):
        if phone.word < 0:
            end = items[used].start if used < len(items) else seconds
        else:
            follows = made.phones[place + 1].word >= 0
            # Gaps between the phones of one word, which labels may leave, go to the phone before them.
            end = items[used + 1].start if follows else items[used].end
            used += 1
        end = min(max(end, now), seconds)
        phones.append(PhoneTime(phone.symbol, phone.word, now, end))
        now = end
    return made, Alignment(gather_words(made, phones)[0], tuple(phones))
