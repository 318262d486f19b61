"""How long the words last that an edit put into a recording, against the same voice saying the whole sentence."""

from __future__ import annotations

from collections.abc import Sequence

from flowtts.types import Score, UserError, Word

from .bootstrap import ratio_interval
from .edit_items import EditItem, aligned, names, read_changes
from .judging import Progress, UnjudgeableError, no_progress, score


def judge_durations(items: Sequence[EditItem], progress: Progress = no_progress) -> dict[str, Score]:
    """``duration``: mean absolute difference of the lengths of inserted words, seconds per word; lower is better.

    Times come from the editor and the reference where they are given, else from forced alignment.
    """
    errors: dict[str, float] = {}
    counts: dict[str, int] = {}
    dropped: dict[str, str] = {}
    measured = False
    for done, (name, item) in enumerate(zip(names(items), items, strict=True)):
        progress("duration", done, len(items))
        try:
            made, reference, places = _lengths(item)
        except UnjudgeableError as error:
            dropped[name] = str(error)
            continue
        measured = measured or not item.reference_words
        counts[name] = len(places)
        errors[name] = sum(abs(made[i] - reference[i]) for i in places)
    progress("duration", len(items), len(items))
    interval = ratio_interval(list(errors.values()), list(counts.values()))
    backend = "word times, pocketsphinx's where none are given" if measured else "word times as given"
    means = {name: errors[name] / counts[name] for name in errors}
    return {"duration": score(interval, means, dropped, backend, weights=counts)}


def _lengths(item: EditItem) -> tuple[list[float], list[float], list[int]]:
    """Lengths of all words of the wanted text on both sides, and which of them were put there."""
    if item.reference is None and not item.reference_words:
        raise UnjudgeableError("it has no reference")
    own = read_changes(item.text, item.to)
    places = [index for index, edited in enumerate(own.edited) if edited]
    if not places:
        raise UnjudgeableError("it inserts no word")
    try:
        made = item.words or aligned(item.output, item.to)
        reference = item.reference_words
        if not reference and item.reference is not None:
            reference = aligned(item.reference, item.to)
    except UserError as error:
        raise UnjudgeableError(f"it cannot be aligned: {error}") from error
    for words, what in ((made, "the edit"), (reference, "the reference")):
        if len(words) != len(own.wanted):
            raise UnjudgeableError(f"{what} has {len(words)} timed words and its text {len(own.wanted)}")
    return _seconds(made), _seconds(reference), places


def _seconds(words: Sequence[Word]) -> list[float]:
    return [word.end - word.start for word in words]
