"""From windows to patches: stretches generated, vocoded and spliced, in as many takes as wanted; the best is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowtts.edit.canvas import Layout, Stretch
from flowtts.edit.joins import discontinuity
from flowtts.edit.recording import Patch, Recording
from flowtts.edit.request import EditRequest, Progress
from flowtts.edit.result import Edited, Span
from flowtts.edit.splice import Made, join_cut, splice
from flowtts.edit.studio import Studio, fill, jobs
from flowtts.edit.times import Times, number
from flowtts.edit.window import Window
from flowtts.registry import load_metric
from flowtts.request import RANKERS, derive
from flowtts.speech import Candidate
from flowtts.text import Analysis
from flowtts.types import Audio, Item, Word

LEAD = 0.35
"""Seconds of known context that are vocoded on either side of a stretch, for the splice to choose its place in."""

_WARM = 20
"""Frames vocoded beyond that and thrown away."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A window and what is to become of it.

    Attributes:
        window: the source.
        layout: the target.
        analysis: of the words that the target says.
        prompt: whether the source may stand in front as context, see ``fill``.
        keep_length: whether every patch is as long as what it replaces.
    """

    window: Window
    layout: Layout
    analysis: Analysis
    prompt: bool = True
    keep_length: bool = False


@dataclass(frozen=True, eq=False)
class Take:
    """One way it came out.

    Attributes:
        patches: one per stretch, in order, over all pieces.
        nfe: evaluations of the field.
        network_calls: calls of the network.
    """

    patches: tuple[Patch, ...]
    nfe: int
    network_calls: int


def steps(pieces: Sequence[Piece], studio: Studio) -> int:
    """Calls of the model that one take makes."""
    return sum(len(jobs(piece.layout, studio.spec.frame_rate)) for piece in pieces)


def choose(
    make: Callable[[int, Callable[[], None]], Take], judge: Callable[[Take], Mapping[str, float]],
    request: EditRequest, steps: int, progress: Progress | None,
) -> tuple[int, list[Take], list[Candidate]]:  # fmt: skip
    """Make all takes and judge them.

    Args:
        make: (seed, report) -> a take; calls ``report`` after every step.
        judge: scores of a take, asked for only if there are several.
        request: how many takes, and what decides.
        steps: of one take.
        progress: see ``Progress``.

    Returns:
        Index of the best, all takes, and their seeds and scores.
    """
    done = 0

    def report() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps * request.best_of)

    made, candidates = [], []
    for index in range(request.best_of):
        seed = request.seed if index == 0 else derive(request.seed, "take", index)
        made.append(make(seed, report))
        candidates.append(Candidate(seed, judge(made[-1]) if request.best_of > 1 else {}))
    if request.best_of == 1:
        return 0, made, candidates
    sign = 1 if request.rank != "boundary" and load_metric(RANKERS[request.rank]).higher_is_better else -1
    best = max(range(len(made)), key=lambda i: sign * candidates[i].scores[request.rank])
    return best, made, candidates


def perform(
    studio: Studio, recording: Recording, pieces: Sequence[Piece], request: EditRequest, settings: Mapping[str, Any],
    normalised: str, progress: Progress | None,
) -> Edited:  # fmt: skip
    """Carry out the changes of all pieces.

    Args:
        studio: the models.
        recording: what is edited.
        pieces: windows with their targets, in order; their stretches do not overlap.
        request: how.
        settings: for the sidecar.
        normalised: the whole text as it is said afterwards.
        progress: see ``Progress``.
    """
    started = time.perf_counter()
    best, takes, candidates = choose(
        lambda seed, report: _take(studio, pieces, request, seed, report),
        lambda take: {request.rank: _score(recording, pieces, take, request.rank)},
        request, steps(pieces, studio), progress,
    )  # fmt: skip
    spent = time.perf_counter() - started
    take = takes[best]
    length = (recording.length + sum(p.delta for p in take.patches)) / recording.sample_rate
    times = [
        Times(piece.window, piece.layout, piece.analysis, own, shift)
        for piece, own, shift in _shared(pieces, take.patches)
    ]
    whole = len(pieces) == 1 and (pieces[0].window.start, pieces[0].window.end) == (0, recording.length)
    return Edited(
        recording, take.patches, _spans(pieces, take.patches), tuple(word for t in times for word in t.words()),
        number(times), normalised, settings, candidates[best].seed, sum(t.nfe for t in takes),
        sum(t.network_calls for t in takes), spent / max(length * len(takes), 1e-9), candidates,
        None if whole else tuple(t.cover() for t in times),
    )  # fmt: skip


def _take(studio: Studio, pieces: Sequence[Piece], request: EditRequest, seed: int, report: Callable[[], None]) -> Take:
    patches: list[Patch] = []
    nfe = calls = 0
    for piece in pieces:
        filled = fill(studio, piece.window, piece.layout, request.sampling, seed, piece.prompt, report)
        nfe, calls = nfe + filled.nfe, calls + filled.network_calls
        for index, stretch in enumerate(piece.layout.stretches):
            before, after = (piece.window.seconds(f) for f in (stretch.source_start, stretch.source_end))
            if stretch.cut:
                patches.append(join_cut(piece.window.recording, before, after))
                continue
            low, high = _sides(piece.layout, index, studio.spec.frame_rate)
            warm = max(0, low - _WARM), min(len(filled.features), high + _WARM)
            hop = studio.spec.hop_length
            sound = studio.sound(filled.features[warm[0] : warm[1]], piece.window.gain)
            sound = sound[(low - warm[0]) * hop : (high - warm[0]) * hop]
            lead, tail = (n / studio.spec.frame_rate for n in (stretch.start - low, high - stretch.end))
            made = Made(Audio(sound, studio.spec.sample_rate), lead, tail)
            rng = np.random.default_rng(derive(seed, f"splice/{piece.window.start}", index))
            patches.append(splice(piece.window.recording, before, after, made, keep_length=piece.keep_length, rng=rng))
    return Take(tuple(patches), nfe, calls)


def _sides(layout: Layout, index: int, frame_rate: float) -> tuple[int, int]:
    """Frames [low, high) around a stretch in which its splices may lie; neighbours share what is between them."""
    stretches, most = layout.stretches, int(LEAD * frame_rate)
    own = stretches[index]
    left = (own.start - stretches[index - 1].end) // 2 if index else own.start
    last = index + 1 == len(stretches)
    right = len(layout.origin) - own.end if last else (stretches[index + 1].start - own.end) // 2
    return own.start - min(left, most), own.end + min(right, most)


def _shared(pieces: Sequence[Piece], patches: Sequence[Patch]) -> list[tuple[Piece, Sequence[Patch], int]]:
    """Every piece with its own patches, and by how many samples those before it have moved it."""
    found, at, shift = [], 0, 0
    for piece in pieces:
        own = patches[at : at + len(piece.layout.stretches)]
        found.append((piece, own, shift))
        at, shift = at + len(own), shift + sum(patch.delta for patch in own)
    return found


def _spans(pieces: Sequence[Piece], patches: Sequence[Patch]) -> tuple[Span, ...]:
    found: list[Span] = []
    for piece, own, shift in _shared(pieces, patches):
        rate, moved = piece.window.recording.sample_rate, shift
        for stretch, patch in zip(piece.layout.stretches, own, strict=True):
            start = patch.start + moved
            found.append(Span(
                _said(piece.window.analysis, stretch.removed), _said(piece.analysis, stretch.inserted), patch.start,
                patch.end, start, start + len(patch.samples), rate, _confidence(piece.window.words, stretch),
            ))  # fmt: skip
            moved += patch.delta
    return tuple(found)


def _said(analysis: Analysis, words: tuple[int, int]) -> str:
    first, last = words
    return "" if first == last else analysis.normalised[analysis.words[first].start : analysis.words[last - 1].end]


def _confidence(words: Sequence[Word], stretch: Stretch) -> float | None:
    """Of the words that a stretch removes and their neighbours, the least."""
    first, last = stretch.removed
    near = [w.confidence for w in words[max(0, first - 1) : last + 1] if w.confidence is not None]
    return min(near, default=None)


def _score(recording: Recording, pieces: Sequence[Piece], take: Take, rank: str) -> float:
    """How well a take came out, over all windows.

    "wer": words recognised in the edited windows. "sim": likeness of the new sound to the rest of its window.
    "boundary": the most abrupt join, dB of colour and level together.
    """
    shared = _shared(pieces, take.patches)
    if rank == "boundary":
        return max((_roughest(piece, own) for piece, own, _ in shared if own), default=0.0)
    items = []
    for index, (piece, own, _) in enumerate(shared):
        start, end = piece.window.start, piece.window.end
        if rank == "wer":
            items.append(Item(_patched(recording, own, start, end), piece.analysis.normalised, id=str(index)))
        elif any(len(patch.samples) for patch in own):
            new = np.concatenate([patch.samples for patch in own]).mean(axis=1, dtype=np.float32)
            kept = [Patch(p.start, p.end, np.zeros((0, recording.channels), np.float32), 0, 0) for p in own]
            rest = _patched(recording, kept, start, end)
            items.append(Item(Audio(new, recording.sample_rate), "", prompt=rest, id=str(index)))
    return load_metric(RANKERS[rank])(items).value if items else 0.0


def _roughest(piece: Piece, patches: Sequence[Patch]) -> float:
    window = piece.window
    audio = _patched(window.recording, patches, window.start, window.end)
    worst, moved = 0.0, -window.start
    for patch in patches:
        start = patch.start + moved
        fades = (start + patch.fade_in / 2, start + len(patch.samples) - patch.fade_out / 2)
        for at in fades:
            join = discontinuity(audio, at / audio.sample_rate)
            worst = max(worst, join.spectral + join.level)
        moved += patch.delta
    return worst


def _patched(recording: Recording, patches: Sequence[Patch], start: int, end: int) -> Audio:
    """Samples [start, end) of a recording with their patches, mono."""
    parts, at = [], start
    for patch in patches:
        parts += [recording.read(at, patch.start), patch.samples]
        at = patch.end
    joined = np.concatenate([*parts, recording.read(at, end)])
    return Audio(joined.mean(axis=1, dtype=np.float32), recording.sample_rate)
