"""``continue``: a recording that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from flowtts.edit import durations
from flowtts.edit.canvas import Canvas, Slot, lay
from flowtts.edit.diff import Change
from flowtts.edit.locate import locate
from flowtts.edit.recording import Recording
from flowtts.edit.request import EditRequest, Progress
from flowtts.edit.result import Edited
from flowtts.edit.source import settings
from flowtts.edit.studio import PROMPT, Studio
from flowtts.edit.takes import Piece, perform
from flowtts.edit.window import WHOLE, Window, open_window
from flowtts.request import derive
from flowtts.text import Analysis
from flowtts.text.analysis import TextWord
from flowtts.types import Audio, PathLike, UserError

PAUSE = 0.2
"""Seconds of silence at the end of the recording that are kept before it goes on; the new text begins with its own."""

_BREATH: Mapping[str, float] = {"SIL": 0.1, "SIL,": 0.2, "SIL.": 0.4, "SIL?": 0.4, "SIL!": 0.4}
"""Least seconds of silence before the new words, after each pause: the duration model knows few pauses as long as those
between sentences."""

_FAR = 10.0
"""Seconds: with more than that after the last word, the new words follow the last word, not the recording."""


def continue_(
    studio: Studio, source: PathLike | Audio, text: str, then: str, request: EditRequest,
    progress: Progress | None = None,
) -> Edited:  # fmt: skip
    """Say more at the end of a recording, in its voice.

    Everything up to the last word stays bit-identical; of a longer silence behind it, ``PAUSE`` is left. Texts that are
    longer than one call of the model can make are generated in turn, always with the recording's end as prompt.

    Args:
        studio: the models.
        source: the recording.
        text: what it says.
        then: what it is to go on with.
        request: how.
        progress: see ``Progress``.

    Raises:
        UserError: the text is not what is said, or there is nothing to go on with.
    """
    recording = Recording.open(source)
    said, more = studio.frontend.analyse(text), studio.frontend.analyse(then)
    window = _end(studio, recording, said, request.confidence)
    canvas = _canvas(window, more)
    prompt = window.prompt(PROMPT, end=True)
    # Only the end of the recording counts for the speaking rate: the window may be longer.
    before = durations.Known(prompt.phones, tuple(int(n) for n in prompt.durations))
    new = replace(canvas, slots=canvas.slots[len(window.durations) :])
    lengths = durations.fill(studio.filler, new, derive(request.seed, f"durations/{window.start}", 0), before)
    breath = _BREATH[window.analysis.phones[-1].symbol] * studio.spec.frame_rate
    lengths[0] = max(lengths[0], round(breath) - canvas.slots[len(window.durations) - 1].frames)
    layout = lay(canvas, [slot.frames for slot in canvas.slots[: len(window.durations)]] + lengths)
    piece = Piece(window, layout, joined(window.analysis, more))
    asked = settings(studio, source, recording, request, "continue", {"text": text, "then": then})
    normalised = f"{said.normalised.rstrip()} {more.normalised}"
    return perform(studio, recording, [piece], request, asked, normalised, progress)


def joined(first: Analysis, second: Analysis) -> Analysis:
    """Two texts in a row, as words; the phones are those of the first alone."""
    text = first.normalised.rstrip() + " "
    moved = (TextWord(w.text, w.start + len(text), w.end + len(text), w.phones) for w in second.words)
    whole = text + second.normalised
    return replace(first, source=whole, normalised=whole, words=(*first.words, *moved))


def _end(studio: Studio, recording: Recording, said: Analysis, confidence: float | None) -> Window:
    if recording.seconds <= WHOLE:
        return open_window(recording, said, studio.spec, confidence)
    place = locate(recording, said.words, len(said.words) - 1, len(said.words))
    if place.last < len(said.words):
        raise UserError(f"{recording.name}: the last words of the transcript are not said at its end")
    near = recording.seconds - place.end < _FAR
    end = recording.length if near else round(place.end * recording.sample_rate)
    where = (round(place.start * recording.sample_rate), end, place.first, place.last)
    return open_window(recording, said, studio.spec, confidence, where)


def _canvas(window: Window, more: Analysis) -> Canvas:
    """All of the window but the rest of its last silence, then the new words."""
    count, at = len(window.analysis.words), 0
    slots = []
    for phone, frames in zip(window.analysis.phones, window.durations, strict=True):
        slots.append(Slot(phone, ((at, at + frames),), phone.word))
        at += frames
    silence = min(window.durations[-1], int(PAUSE * window.spec.frame_rate))
    start = at - window.durations[-1]
    slots[-1] = replace(slots[-1], pieces=((start, start + silence),))
    for phone in more.phones:
        slots.append(Slot(replace(phone, word=phone.word + count) if phone.word >= 0 else phone))
    change = Change(count, count, count, count + len(more.words))
    return Canvas(tuple(slots), (change,), window.frames)
