"""``fill`` and ``denoise``: the same words, some of them generated anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

from flowtts.edit import durations
from flowtts.edit.canvas import hold, lay
from flowtts.edit.locate import align_long
from flowtts.edit.noise import find_noise
from flowtts.edit.recording import Recording
from flowtts.edit.request import EditRequest, Progress
from flowtts.edit.result import Edited
from flowtts.edit.source import settings
from flowtts.edit.studio import Studio
from flowtts.edit.takes import Piece, perform
from flowtts.edit.window import WHOLE, Window, open_window
from flowtts.request import derive
from flowtts.text import Analysis
from flowtts.types import Audio, PathLike, UserError, Word

Seconds = tuple[float, float]
"""A span of a recording."""

NOISY = 0.1
"""Least confidence with which words must be recognised in a noisy recording: noise hides what is said."""


_TOGETHER = 15.0
"""Seconds: spans within so much share a window of a long recording."""

_CONTEXT = 6.0
"""Seconds of a long recording that are read on either side of a span."""

_LEAST = 0.3
"""Seconds of speech that must be left to take the voice from."""


def fill(
    studio: Studio, source: PathLike | Audio, text: str, spans: Sequence[Seconds], request: EditRequest,
    progress: Progress | None = None,
) -> Edited:  # fmt: skip
    """Generate spans anew: the same words, each phone as long as it was, so that the length stays the same.

    Args:
        studio: the models.
        source: the recording.
        text: what it says.
        spans: seconds; each is widened to whole phones.
        request: how.
        progress: see ``Progress``.

    Raises:
        UserError: a span is empty or outside the recording, or the text is not what is said.
    """
    recording = Recording.open(source)
    given = check_spans(spans, recording.seconds)
    if not given:
        raise UserError("there is nothing to fill: give at least one span in seconds")
    asked = settings(studio, source, recording, request, "fill", {"text": text, "at": [list(s) for s in spans]})
    said = studio.frontend.analyse(text)
    pieces = [
        _piece(window, own, studio, None)
        for window, own in _windows(studio, recording, said, given, request.confidence)
    ]
    return perform(studio, recording, pieces, request, asked, said.normalised, progress)


def denoise(
    studio: Studio, source: PathLike | Audio, text: str, spans: Sequence[Seconds] | None, request: EditRequest,
    progress: Progress | None = None,
) -> Edited:  # fmt: skip
    """Replace speech that noise covers by the same words without it (arXiv 2306.15687, 1.5: transient noise removal).

    Where noise covers speech the aligner cannot see boundaries: within each span the phones share its length anew, as
    the duration model expects. If no noise is found the result is an exact copy, without spans.

    Args:
        studio: the models.
        source: the recording.
        text: what it says.
        spans: seconds, each widened to whole phones; found if None.
        request: how.
        progress: see ``Progress``.

    Raises:
        UserError: a span is empty or outside the recording, or the text is not what is said.
    """
    recording = Recording.open(source)
    listed = None if spans is None else [list(s) for s in spans]
    given = check_spans(find_noise(recording) if spans is None else spans, recording.seconds)
    asked = settings(studio, source, recording, request, "denoise", {"text": text, "at": listed})
    said = studio.frontend.analyse(text)
    found = _windows(studio, recording, said, given, NOISY if request.confidence is None else request.confidence)
    pieces = [_piece(window, own, studio, request.seed) for window, own in found]
    return perform(studio, recording, pieces, request, asked, said.normalised, progress)


def check_spans(spans: Sequence[Seconds], seconds: float) -> list[Seconds]:
    """The spans in order, overlapping ones joined.

    Raises:
        UserError: one is empty or outside the recording.
    """
    for start, end in spans:
        if not start < end:
            raise UserError(f"the span {start:g}:{end:g} is empty: its start must come before its end")
        if start < 0 or end > seconds + 1e-3:
            raise UserError(f"the span {start:g}:{end:g} is not inside the recording, which lasts {seconds:.2f} s")
    joined: list[Seconds] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, min(end, seconds)))
    return joined


def _windows(
    studio: Studio, recording: Recording, said: Analysis, spans: Sequence[Seconds], confidence: float | None
) -> list[tuple[Window, list[Seconds]]]:
    """What has to be read, and which spans lie in it."""
    if recording.seconds <= WHOLE:
        return [(open_window(recording, said, studio.spec, confidence, unheard=spans), list(spans))]
    if not spans:
        return []
    groups: list[list[Seconds]] = []
    for span in spans:
        if groups and span[1] - groups[-1][0][0] <= _TOGETHER:
            groups[-1].append(span)
        else:
            groups.append([span])
    words, rate, found = align_long(recording, said.words), recording.sample_rate, []
    for group in groups:
        cuts = _cuts(words, recording.seconds)
        low, first = _cut(cuts, group[0][0] - _CONTEXT, before=group[0][0])
        high, last = _cut(cuts, group[-1][1] + _CONTEXT, after=group[-1][1])
        if first == last:
            continue
        where = (round(low * rate), min(recording.length, round(high * rate)), first, last)
        found.append((open_window(recording, said, studio.spec, confidence, where, group), group))
    return found


def _cuts(words: Sequence[Word], seconds: float) -> list[tuple[float, float, int]]:
    """Places between words: (middle, length of the pause, index of the word after)."""
    edges = [0.0, *(time for word in words for time in (word.start, word.end)), seconds]
    return [((a + b) / 2, b - a, k) for k, (a, b) in enumerate(zip(edges[0::2], edges[1::2], strict=True))]


def _cut(
    cuts: Sequence[tuple[float, float, int]], aim: float, before: float = math.inf, after: float = -math.inf
) -> tuple[float, int]:
    """The best pause near a time: long, and not far from it."""
    fitting = [cut for cut in cuts if after <= cut[0] <= before]
    if not fitting:
        return (after, len(cuts) - 1) if math.isfinite(after) else (0.0, 0)
    best = max(fitting, key=lambda cut: min(cut[1], 0.5) - abs(cut[0] - aim) / 5)
    return best[0], best[2]


def _piece(window: Window, spans: Sequence[Seconds], studio: Studio, seed: int | None) -> Piece:
    """A window with the phones that the spans touch generated anew; with a seed they are timed anew as well."""
    edges = [window.seconds(frame) for frame in (0, *accumulate(window.durations))]
    anew = [any(start < b and end > a for start, end in spans) and a < b for a, b in pairwise(edges)]
    runs = _runs(anew, window.durations)
    rows = zip(window.durations, anew, window.analysis.phones, strict=True)
    kept = sum(frames for frames, new, phone in rows if not new and phone.word >= 0)
    if kept < _LEAST * studio.spec.frame_rate and any(anew):
        raise UserError("too little of the recording's voice would be left: give shorter spans")
    for first, last, _ in runs:
        anew[first:last] = [True] * (last - first)
    canvas = hold(window.analysis.phones, window.durations, anew, [seed is not None] * len(anew))
    lengths = list(window.durations)
    if seed is not None and runs:
        predicted = durations.fill(studio.filler, canvas, derive(seed, f"durations/{window.start}", 0))
        lengths = durations.retime(canvas, predicted, runs)
    return Piece(window, lay(canvas, lengths), window.analysis, prompt=False, keep_length=True)


def _runs(anew: Sequence[bool], lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """Neighbouring phones that are new, pauses of no length between them included: (first, last, frames)."""
    runs: list[tuple[int, int, int]] = []
    for place, new in enumerate(anew):
        if not new:
            continue
        if runs and not any(lengths[runs[-1][1] : place]):
            runs[-1] = (runs[-1][0], place + 1, runs[-1][2] + lengths[place])
        else:
            runs.append((place, place + 1, lengths[place]))
    return runs
