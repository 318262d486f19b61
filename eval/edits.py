"""All metrics of edits over a set of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowtts.types import Score, UserError

from .boundary import judge_boundaries
from .edit_durations import judge_durations
from .edit_items import EditItem, from_sidecar
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

_FLOW = "flowtts, docs/editing.md"
_VOICEBOX = "after arXiv 2306.15687, section 5.4"

TABLE: Mapping[str, tuple[str, str, bool, bool, str]] = {
    "untouched": ("largest change outside", "", False, False, _FLOW),
    "differing": ("samples changed outside", "samples", False, False, _FLOW),
    "boundary": ("natural joins", "", True, True, _FLOW),
    "boundary-natural": ("natural joins, unedited", "", True, True, _FLOW),
    "wer-span": ("WER of new words", "", False, True, _VOICEBOX),
    "wer-rest": ("WER of kept words", "", False, True, _VOICEBOX),
    "wer-rest-before": ("WER of kept words before", "", False, True, _FLOW),
    "wer-before": ("WER before the edit", "", False, True, _FLOW),
    "sim-span": ("voice of new words", "cosine", True, False, _FLOW),
    "sim-span-natural": ("voice of such words, unedited", "cosine", True, False, _FLOW),
    "duration": ("length of new words", "s", False, False, _FLOW),
}
"""Scores by name, those with -closed left out: (label, unit, whether more is better, whether a rate, source)."""


def info(name: str) -> dict[str, Any]:
    """What a table says of a score, see ``flowtts.compare.result.MetricInfo``."""
    plain = name.removesuffix("-closed")
    label, unit, better, rate, paper = TABLE[plain]
    closed = " (closed)" if plain != name else ""
    # The largest difference of a set is no mean of those of its edits.
    level = "set" if plain == "untouched" else "item"
    return {
        "label": label + closed, "unit": unit, "higher_is_better": better, "rate": rate, "level": level, "paper": paper
    }  # fmt: skip


def judge_edits(edits: Sequence[Mapping[str, Any]]) -> dict[str, Score]:
    """All scores of edits that are given as plain values.

    Args:
        edits: {id, input, output, text, to, spans, words, reference}; ``spans`` and ``words`` as ``flowtts edit
            --json`` has them, recordings as paths.

    Raises:
        UserError: something does not describe an edit.
    """
    items = [
        from_sidecar(
            one["input"], one["output"], one, text=one["text"], to=one["to"], id=one["id"], reference=one["reference"]
        )
        for one in edits
    ]  # fmt: skip
    return evaluate_edits(items)


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
