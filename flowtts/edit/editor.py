"""``edit``: other words. A diff of two texts becomes patches for a recording."""

from __future__ import annotations

from collections.abc import Sequence

from flowtts.edit import durations
from flowtts.edit.canvas import compose, lay
from flowtts.edit.diff import Change, diff
from flowtts.edit.locate import locate
from flowtts.edit.recording import Recording
from flowtts.edit.request import EditRequest, Progress
from flowtts.edit.result import Edited
from flowtts.edit.source import settings
from flowtts.edit.studio import ENOUGH, PROMPT, Studio
from flowtts.edit.takes import Piece, perform
from flowtts.edit.window import WHOLE, Window, open_window
from flowtts.edit.wording import carried_out
from flowtts.request import derive
from flowtts.text import Analysis
from flowtts.types import Audio, PathLike, UserError

_TOGETHER = 8
"""Changes with at most this many words between them share a window of a long recording."""


def edit(
    studio: Studio, source: PathLike | Audio, text: str, to: str, request: EditRequest,
    progress: Progress | None = None,
) -> Edited:  # fmt: skip
    """Make a recording say something else.

    Args:
        studio: the models.
        source: the recording.
        text: what it says.
        to: what it is to say.
        request: how.
        progress: see ``Progress``.

    Raises:
        UserError: the text is not what is said, or nothing would be left.
    """
    recording = Recording.open(source)
    if not to.strip():
        raise UserError("no word would be left: keep at least one, or delete the recording")
    said, wanted = studio.frontend.analyse(text), studio.frontend.analyse(to)
    changes = diff([word.text for word in said.words], [word.text for word in wanted.words])
    pieces = [
        piece_of(studio, window, said, wanted, own, request.seed)
        for window, own in windows(studio, recording, said, changes, request.confidence)
    ]
    asked = settings(studio, source, recording, request, "edit", {"text": text, "to": to})
    return perform(studio, recording, pieces, request, asked, wanted.normalised, progress)


def windows(
    studio: Studio, recording: Recording, said: Analysis, changes: Sequence[Change], confidence: float | None = None
) -> list[tuple[Window, list[Change]]]:
    """What has to be read, and which changes lie in it; a short recording is read whole."""
    if recording.seconds <= WHOLE:
        return [(open_window(recording, said, studio.spec, confidence), list(changes))]
    groups: list[list[Change]] = []
    for change in changes:
        if groups and change.start - groups[-1][-1].end <= _TOGETHER:
            groups[-1].append(change)
        else:
            groups.append([change])
    found = []
    for group in groups:
        first, last = group[0].start, group[-1].end
        place = locate(recording, said.words, first, last)
        where = [round(at * recording.sample_rate) for at in (place.start, place.end)]
        span = (max(0, where[0]), min(recording.length, where[1]), place.first, place.last)
        found.append((open_window(recording, said, studio.spec, confidence, where=span), group))
    return found


def piece_of(
    studio: Studio, window: Window, said: Analysis, wanted: Analysis, changes: Sequence[Change], seed: int
) -> Piece:
    """The target of a window: its own changes carried out, and no others."""
    last = window.first + len(window.analysis.words)
    if len(window.analysis.words) == len(said.words):
        aim, own = wanted, list(changes)
    else:
        aim, own = carried_out(said, wanted, changes, window.first, last)
    canvas = compose(window.analysis.phones, window.durations, aim.phones, own)
    kept = sum(slot.frames for slot in canvas.slots if slot.source_word >= 0)
    before = None
    if kept < ENOUGH * studio.spec.frame_rate:
        prompt = window.prompt(PROMPT)
        before = durations.Known(prompt.phones, tuple(int(d) for d in prompt.durations))
    lengths = durations.fill(studio.filler, canvas, derive(seed, f"durations/{window.start}", 0), before)
    return Piece(window, lay(canvas, lengths), aim)
