"""All metrics of edits over a set of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowtts.types import Score, UserError

from .boundary import judge_boundaries
from .edit_durations import judge_durations
from .edit_items import EditItem
from .edit_similarity import judge_voices
from .edit_wer import judge_words
from .intelligibility import Pocketsphinx, Recogniser
from .judging import Progress, no_progress
from .resemblyzer import Resemblyzer
from .similarity import SpeakerEncoder
from .untouched import judge_untouched

METRICS = ("untouched", "boundary", "wer", "wer-closed", "sim", "duration")
"""Families of metrics; ``duration`` needs references and is left out by default where none has one."""

HIGHER_IS_BETTER: Mapping[str, bool] = {"boundary": True, "sim": True}
"""By family; all others are errors."""


def evaluate_edits(
    items: Sequence[EditItem],
    metrics: Sequence[str] | None = None,
    *,
    recogniser: Recogniser | None = None,
    encoder: SpeakerEncoder | None = None,
    progress: Progress = no_progress,
) -> dict[str, Score]:
    """Judge edits by several metrics.

    Args:
        items: edits.
        metrics: names out of ``METRICS``; all that apply by default.
        recogniser: hears for ``wer``; pocketsphinx with its own language model by default.
        encoder: for ``sim``; Resemblyzer by default.
        progress: called per item.

    Returns:
        Scores by name: untouched, differing, boundary, boundary-natural, wer-span, wer-rest, wer-rest-before and
        wer-before (each again with -closed), sim-span, sim-span-natural, duration.

    Raises:
        UserError: there is nothing to judge, a name is unknown, or what a metric needs is missing.
    """
    if not items:
        raise UserError("nothing to evaluate; give at least one edit")
    if metrics is None:
        has_reference = any(item.reference is not None or item.reference_words for item in items)
        metrics = [name for name in METRICS if name != "duration" or has_reference]
    for name in metrics:
        if name not in METRICS:
            raise UserError(f"unknown metric of edits {name!r}; there are {', '.join(METRICS)}")
    judges = {
        "untouched": lambda: judge_untouched(items),
        "boundary": lambda: judge_boundaries(items, progress=progress),
        "wer": lambda: judge_words(items, recogniser or Pocketsphinx(), progress=progress),
        "wer-closed": lambda: judge_words(items, Pocketsphinx(closed=True), "-closed", progress=progress),
        "sim": lambda: judge_voices(items, encoder or Resemblyzer(), progress=progress),
        "duration": lambda: judge_durations(items, progress=progress),
    }
    return {key: score for name in dict.fromkeys(metrics) for key, score in judges[name]().items()}
