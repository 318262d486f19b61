"""What an edited utterance is made of: which of its frames are the recording's, and which are to be generated.

Pure arithmetic on indices. First the phones: ``compose`` lays out the wanted utterance from phones of the source, with
their durations, and new ones without. When the new ones have durations, ``lay`` lays out frames and finds the stretches
to generate. Frames count from the beginning of the window that is edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flowtts.edit.diff import Change
from flowtts.types import Phone, UserError

SILENCE = 6
"""Frames (60 ms): a shorter pause is no silence that could be kept or cut in."""

MARGIN = 3
"""Frames of a kept silence that are generated anew beside a change: boundaries are no more certain than that."""

EDGE = 8
"""Most frames of a kept phone that are generated anew, to sound right beside its new neighbour."""

ROOM = 4
"""Frames of silence on either side of a pure cut, so that words begin and end as they did."""

APART = 20
"""Stretches with fewer kept frames (0.2 s) between them become one."""

_BOTH = (True, True)


@dataclass(frozen=True)
class Slot:
    """One phone of the target.

    Attributes:
        phone: with its word counted in the target.
        pieces: spans of source frames it lasts, in order, empty if it is new; (f, f) is a pause of no length.
        source_word: word of the source it belongs to, -1 for pauses and new words.
        head: of its frames, how many at the start are generated anew.
        tail: likewise at the end.
        touches: of a pause beside a change, whether the sound (before, after) it touches new sound or comes from
            beside a sound that is gone.
    """

    phone: Phone
    pieces: tuple[tuple[int, int], ...] = ()
    source_word: int = -1
    head: int = 0
    tail: int = 0
    touches: tuple[bool, bool] = (False, False)

    @property
    def known(self) -> bool:
        """Whether its duration is the source's."""
        return bool(self.pieces)

    @property
    def frames(self) -> int:
        """Its duration in the source; 0 if it is new."""
        return sum(end - start for start, end in self.pieces)


@dataclass(frozen=True)
class Canvas:
    """The target, phone by phone.

    Attributes:
        slots: pause, word, pause, …, pause.
        changes: what makes it of the source; words of the target are counted by ``first`` and ``last``.
        source_frames: length of the source.
    """

    slots: tuple[Slot, ...]
    changes: tuple[Change, ...]
    source_frames: int

    @property
    def phones(self) -> tuple[Phone, ...]:
        """Of the target."""
        return tuple(slot.phone for slot in self.slots)


@dataclass(frozen=True)
class Stretch:
    """Consecutive frames that are not the source's.

    Attributes:
        start: first frame of the target that is generated.
        end: one past the last; equal to ``start`` for a pure cut.
        source_start: first frame of the source that is replaced.
        source_end: one past the last.
        removed: words [first, last) of the source that are gone or sound anew.
        inserted: words [first, last) of the target that stand there instead.
    """

    start: int
    end: int
    source_start: int
    source_end: int
    removed: tuple[int, int]
    inserted: tuple[int, int]

    @property
    def cut(self) -> bool:
        """Nothing is generated."""
        return self.start == self.end


@dataclass(frozen=True, eq=False)
class Layout:
    """The target, frame by frame.

    Attributes:
        canvas: its phones.
        durations: frames of each.
        origin: (T,) int64 frame of the source that a frame is, -1 if it is generated.
        stretches: where it is not the source, in order.
    """

    canvas: Canvas
    durations: tuple[int, ...]
    origin: NDArray[np.int64]
    stretches: tuple[Stretch, ...]

    @property
    def starts(self) -> NDArray[np.int64]:
        """(L + 1,) first frame of every phone, and the end."""
        return np.concatenate([[0], np.cumsum(np.asarray(self.durations, dtype=np.int64))]).astype(np.int64)

    def word_frames(self) -> dict[int, tuple[int, int]]:
        """Target word -> its frames [start, end)."""
        found: dict[int, tuple[int, int]] = {}
        for slot, start, end in zip(self.canvas.slots, self.starts[:-1], self.starts[1:], strict=True):
            if slot.phone.word >= 0:
                found[slot.phone.word] = (found.get(slot.phone.word, (int(start), 0))[0], int(end))
        return found


@dataclass(frozen=True)
class _Timed:
    """A phone of the source with its frames."""

    phone: Phone
    start: int
    end: int

    @property
    def frames(self) -> int:
        return self.end - self.start


def compose(
    source: Sequence[Phone], durations: Sequence[int], wanted: Sequence[Phone], changes: Sequence[Change]
) -> Canvas:
    """Lay out the wanted utterance.

    Kept words are the source's, with its phones and durations, and so are the pauses between them. Beside a change the
    pauses are the wanted text's; a silence of the source that stands there is kept, with its room tone.
    A deletion between silences becomes a pure cut that leaves the longer of the two pauses around it.

    Args:
        source: phones of the source, pause, word, pause, …, pause.
        durations: frames of each.
        wanted: phones of the wanted text in the same form.
        changes: from ``diff``, in order.

    Raises:
        UserError: no word would be left.
        ValueError: the changes do not lead from one to the other.
    """
    old_pauses, old_words = _units(source, durations)
    new_pauses, new_words = _units(wanted, [0] * len(wanted))
    if not new_words:
        raise UserError("no word would be left: keep at least one, or delete the recording")
    kept = _kept(len(old_words), len(new_words), changes)
    slots: list[Slot] = []
    for place, pause in enumerate(new_pauses):
        change = next((c for c in changes if c.first <= place <= c.last), None)
        if change is None:
            same = old_pauses[kept[place - 1] + 1 if place else 0]
            slots.append(Slot(same.phone, ((same.start, same.end),)))
        else:
            slots.append(_gap(place, pause.phone, change, old_pauses, new_pauses))
        if place == len(new_words):
            break
        origin = kept.get(place, -1)
        if origin < 0:
            slots += [Slot(phone.phone) for phone in new_words[place]]
            continue
        said = [(p, replace(p.phone, word=place)) for p in old_words[origin]]
        slots += [Slot(phone, ((p.start, p.end),), origin) for p, phone in said]
    total = int(sum(durations))
    return Canvas(tuple(_with_edges(slots)), tuple(changes), total)


def hold(phones: Sequence[Phone], durations: Sequence[int], anew: Sequence[bool], retime: Sequence[bool]) -> Canvas:
    """The same utterance with some phones generated anew.

    Args:
        phones: of the source.
        durations: frames of each.
        anew: which phones to generate.
        retime: which of these get new durations; the others keep theirs.
    """
    slots: list[Slot] = []
    at = 0
    for phone, frames, again, free in zip(phones, durations, anew, retime, strict=True):
        pieces = () if again and free else ((at, at + int(frames)),)
        slots.append(Slot(phone, pieces, phone.word, int(frames) if again else 0))
        at += int(frames)
    changes: list[Change] = []
    for place, (phone, again) in enumerate(zip(phones, anew, strict=True)):
        if not again or phone.word < 0:
            continue
        # Words on either side of a pause that is generated, or of none, are one change.
        linked = place > 0 and (anew[place - 1] or (durations[place - 1] == 0 and anew[place - 2]))
        if changes and (changes[-1].last > phone.word or linked):
            changes[-1] = replace(changes[-1], end=phone.word + 1, last=phone.word + 1)
        else:
            changes.append(Change(phone.word, phone.word + 1, phone.word, phone.word + 1))
    return Canvas(tuple(slots), tuple(changes), at)


def lay(canvas: Canvas, durations: Sequence[int]) -> Layout:
    """Lay out the frames of a canvas.

    Args:
        canvas: from ``compose`` or ``hold``.
        durations: frames of every phone; those of known ones must be the canvas's.

    Raises:
        ValueError: a known phone has another duration.
    """
    origin: list[int] = []
    for slot, frames in zip(canvas.slots, durations, strict=True):
        if not slot.known:
            origin += [-1] * frames
            continue
        if frames != slot.frames:
            raise ValueError(f"the phone {slot.phone.symbol} lasts {slot.frames} frames in the source, not {frames}")
        own = [f for start, end in slot.pieces for f in range(start, end)]
        own[: slot.head] = [-1] * min(slot.head, len(own))
        own[len(own) - min(slot.tail, len(own)) :] = [-1] * min(slot.tail, len(own))
        origin += own
    runs = _merged(_runs(origin, canvas.source_frames))
    for start, end, _, _ in runs:
        origin[start:end] = [-1] * (end - start)
    laid = Layout(canvas, tuple(int(d) for d in durations), np.asarray(origin, dtype=np.int64), ())
    return replace(laid, stretches=tuple(_worded(laid, run) for run in runs))


def _units(phones: Sequence[Phone], durations: Sequence[int]) -> tuple[list[_Timed], list[list[_Timed]]]:
    """Pauses and words in turn."""
    pauses: list[_Timed] = []
    words: list[list[_Timed]] = []
    at = 0
    for phone, frames in zip(phones, durations, strict=True):
        timed = _Timed(phone, at, at + int(frames))
        at = timed.end
        if phone.word < 0:
            pauses.append(timed)
        elif len(words) < len(pauses):
            words.append([timed])
        else:
            words[-1].append(timed)
    if len(pauses) != len(words) + 1:
        raise ValueError("an utterance is pause, word, pause, …, pause")
    return pauses, words


def _kept(old: int, new: int, changes: Sequence[Change]) -> dict[int, int]:
    """Word of the target -> the word of the source that it is."""
    kept: dict[int, int] = {}
    i = j = 0
    for change in changes:
        if change.start - i != change.first - j or change.start < i or change.end > old or change.last > new:
            raise ValueError("the changes do not fit the two texts")
        kept.update(zip(range(j, change.first), range(i, change.start), strict=True))
        i, j = change.end, change.last
    if old - i != new - j:
        raise ValueError("the changes do not fit the two texts")
    kept.update(zip(range(j, new), range(i, old), strict=True))
    return kept


def _gap(place: int, wanted: Phone, change: Change, old: Sequence[_Timed], new: Sequence[_Timed]) -> Slot:
    """The pause before word ``place`` of the target, which stands beside or within a change."""
    before, after = old[change.start], old[change.end]
    at_start, at_end = change.start == 0, change.end == len(old) - 1
    if change.first == change.last:
        return _closed(wanted, before, after, at_start, at_end)
    left, right = place == change.first, place == change.last
    if change.start == change.end:
        # One pause of the source, two of the target: it goes with its punctuation, or else stays before the new words.
        symbols = new[change.first].phone.symbol, new[change.last].phone.symbol
        moves = symbols[1] == before.phone.symbol != symbols[0]
        to_right = at_start < at_end or (at_start == at_end and moves)
        left, right = left and not to_right, right and to_right
    if left:
        return _beside(wanted, before, 0, MARGIN, at_start)
    if right:
        return _beside(wanted, after, MARGIN, 0, at_end)
    return Slot(wanted, touches=_BOTH)


def _beside(wanted: Phone, pause: _Timed, head: int, tail: int, edge: bool) -> Slot:
    """A pause between a kept and a new word. The silence at either end of a recording always keeps its length."""
    span = ((pause.start, pause.end),)
    if pause.frames >= SILENCE:
        return Slot(wanted, span, head=head, tail=tail)
    return Slot(wanted, span, head=pause.frames, touches=_BOTH) if edge else Slot(wanted, touches=_BOTH)


def _closed(wanted: Phone, before: _Timed, after: _Timed, at_start: bool, at_end: bool) -> Slot:
    """The pause that is left where words were: of the two around them the longer, cut together in the silence.

    Where there is silence on one side alone, the word on the other still sounds of what was beside it.
    """
    longer, shorter = max(before.frames, after.frames), min(before.frames, after.frames)
    if shorter >= ROOM:
        total = max(longer, 2 * ROOM)
        left = round(total * before.frames / (before.frames + after.frames))
        left = min(max(left, ROOM, total - after.frames), total - ROOM, before.frames)
        return Slot(wanted, ((before.start, before.start + left), (after.end - (total - left), after.end)))
    if longer >= SILENCE and before.frames == longer:
        kept = ((before.start, before.end),)
        return Slot(wanted, kept) if at_end else Slot(wanted, kept, tail=MARGIN, touches=(False, True))
    if longer >= SILENCE:
        kept = ((after.start, after.end),)
        return Slot(wanted, kept) if at_start else Slot(wanted, kept, head=MARGIN, touches=(True, False))
    return _beside(wanted, before if at_start else after, 0, 0, at_start or at_end)


def _with_edges(slots: Sequence[Slot]) -> list[Slot]:
    """Kept phones that touch new sound are generated anew on that side."""
    found = list(slots)
    for i, slot in enumerate(slots):
        if slot.source_word >= 0:
            edge = min(EDGE, (slot.frames + 1) // 2)
            head, tail = edge * slots[i - 1].touches[1], edge * slots[i + 1].touches[0]
            found[i] = replace(slot, head=head, tail=tail)
    return found


def _runs(origin: Sequence[int], source_frames: int) -> list[tuple[int, int, int, int]]:
    """Where the target is not the source: (start, end, source start, source end)."""
    found: list[tuple[int, int, int, int]] = []
    expected, start = 0, -1
    for frame, place in enumerate([*origin, source_frames]):
        if place < 0:
            start = frame if start < 0 else start
            continue
        if start >= 0 or place != expected:
            found.append((frame if start < 0 else start, frame, expected, place))
        expected, start = place + 1, -1
    return found


def _merged(runs: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Runs with too little between them, joined."""
    found: list[tuple[int, int, int, int]] = []
    for run in runs:
        if found and run[0] - found[-1][1] < APART:
            found[-1] = (found[-1][0], run[1], found[-1][2], run[3])
        else:
            found.append(run)
    return found


def _worded(layout: Layout, run: tuple[int, int, int, int]) -> Stretch:
    """A run with the words that it removes and inserts."""
    words, starts = layout.word_frames(), layout.starts
    pauses = [i for i, slot in enumerate(layout.canvas.slots) if slot.phone.word < 0]
    start, end = run[:2]
    inside = []
    for change in layout.canvas.changes:
        if change.first == change.last:
            gap = pauses[change.first]
            near = start <= starts[gap + 1] and end >= starts[gap]
        else:
            near = start < words[change.last - 1][1] and end > words[change.first][0]
        inside += [change] if near else []
    if not inside:
        before = sum(first < end for first, _ in words.values())
        return Stretch(*run, (before, before), (before, before))
    first, last = inside[0], inside[-1]
    return Stretch(*run, (first.start, last.end), (first.first, last.last))
