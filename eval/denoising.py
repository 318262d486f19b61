"""What the removal of noise does to the words and the voice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowtts.types import Audio, Item, Score

from .edit_items import EditItem, names, sound
from .intelligibility import ErrorRate, Recogniser, Transcripts
from .judging import Progress, no_progress
from .similarity import Similarity, SpeakerEncoder


def judge_denoising(
    items: Sequence[EditItem],
    recogniser: Recogniser,
    encoder: SpeakerEncoder,
    suffix: str = "",
    progress: Progress = no_progress,
) -> dict[str, Score]:
    """Word error rate and speaker similarity before and after, and of the clean recording where there is one.

    ``wer-noisy``, ``wer-denoised``, ``wer-clean``: of the whole recording against its text. ``sim-noisy``,
    ``sim-denoised``: cosine to ``reference``, the clean recording (Voicebox, arXiv 2306.15687, section 5.4, compares
    with the clean speech too); edits without one are dropped from these and from ``wer-clean``.

    Args:
        items: denoised recordings; ``to`` is what they say.
        recogniser: a closed vocabulary knows the texts of all items.
        encoder: whose space the similarity is in.
        suffix: of the word error rates' names, e.g. "-closed".
        progress: called per recording.
    """
    sets: dict[str, list[Item]] = {"noisy": [], "denoised": [], "clean": []}
    for name, item in zip(names(items), items, strict=True):
        clean = None if item.reference is None else sound(item.reference)
        sets["noisy"].append(Item(sound(item.input), item.to, clean, clean, name))
        sets["denoised"].append(Item(sound(item.output), item.to, clean, clean, name))
        if clean is not None:
            sets["clean"].append(Item(clean, item.to, id=name))
    found: dict[str, Score] = {}
    for kind, own in sets.items():
        if own:
            wer = f"wer-{kind}{suffix}"
            # The vocabulary must be one for all three, also where only some have a clean recording.
            known = _Known(recogniser, tuple(item.to for item in items))
            found[wer] = ErrorRate(wer, Transcripts(known, progress))(own)
        if own and kind != "clean":
            found[f"sim-{kind}"] = Similarity(f"sim-{kind}", encoder, progress=progress)(own)
    return found


@dataclass(frozen=True)
class _Known:
    """A recogniser that expects the same texts whatever it is asked to judge."""

    recogniser: Recogniser
    texts: tuple[str, ...]

    @property
    def backend(self) -> str:
        """Of the recogniser."""
        return self.recogniser.backend

    def open(self, texts: Sequence[str]) -> Callable[[Audio], str]:
        """Load it."""
        return self.recogniser.open(self.texts)
