"""Whether what an edit put into a recording has the voice of the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from flowtts.types import Audio, Samples, Score

from .bootstrap import mean_interval
from .edit_items import EditItem, names, outside, sound
from .judging import JUDGED_RATE, Progress, UnjudgeableError, judged, no_progress, score
from .similarity import SpeakerEncoder

SHORTEST = 0.25
"""Seconds of a stretch below which no encoder tells a voice."""

FILLED = 1.65
"""Seconds to which a shorter stretch is repeated: one window of Resemblyzer's."""

REST = 1.0
"""Seconds of the recording that must remain to compare with."""


def filled(samples: Samples) -> Samples:
    """(N,) at 16 kHz, repeated from the start until there is ``FILLED`` of it.

    A speaker encoder is trained on windows full of speech, and ends a short stretch with silence if nothing else is
    there. Repeated, the stretch is told apart better: of stretches of 0.3, 0.5 and 0.8 s of 36 LibriSpeech readers, the
    chance that one is closer to the rest of its own recording than to another reader's rises from 0.949, 0.974 and
    0.989 to 0.979, 0.979 and 0.998 with Resemblyzer, and their similarity to their own from 0.63, 0.68 and 0.74 to
    0.67, 0.73 and 0.78.
    """
    wanted = round(FILLED * JUDGED_RATE)
    return samples if len(samples) >= wanted else np.resize(samples, wanted)


def judge_voices(
    items: Sequence[EditItem], encoder: SpeakerEncoder, progress: Progress = no_progress
) -> dict[str, Score]:
    """Mean cosine, in [-1, 1], of each patch and the rest of its recording; higher is better.

    ``sim-span``: of what was made and everything outside the patches. ``sim-span-natural``: the same of the recording
    before the edit, for a stretch of the same length around the same place: short stretches are less like the rest even
    if nobody touched them, so this is the ceiling. Only patches that have both count, so that they compare; an edit's
    value is the mean over its patches. Patches that only remove something have no voice to judge.
    """
    embed = encoder.open()
    made: dict[str, float] = {}
    ceiling: dict[str, float] = {}
    dropped: dict[str, str] = {}
    for done, (name, item) in enumerate(zip(names(items), items, strict=True)):
        progress("sim-span", done, len(items))
        try:
            made[name], ceiling[name] = _pair(item, embed)
        except UnjudgeableError as error:
            dropped[name] = str(error)
    progress("sim-span", len(items), len(items))
    return {
        key: score(mean_interval(list(values.values())), values, dropped, encoder.backend)
        for key, values in (("sim-span", made), ("sim-span-natural", ceiling))
    }


def _pair(item: EditItem, embed: Callable[[Samples], Tensor]) -> tuple[float, float]:
    before, after = sound(item.input).mono(), sound(item.output).mono()
    kept = outside(after, [(span.start_out, span.end_out) for span in item.spans])
    if kept.seconds < REST:
        raise UnjudgeableError(f"less than {REST:g} s of the recording is left to compare with")
    rest = embed(judged(kept, "the rest"))
    made, natural = [], []
    reason = "it has no patch"
    for span in item.spans:
        length = span.end_out - span.start_out
        start, end = around((span.start + span.end) // 2, length, len(before.samples))
        try:
            new = _cosine(embed, cut(after, span.start_out, span.end_out), rest)
            other = outside(before, [(start, end)])
            if other.seconds < REST:
                raise UnjudgeableError(f"less than {REST:g} s of the recording is left to compare with")
            own = _cosine(embed, cut(before, start, end), embed(judged(other, "the rest")))
        except UnjudgeableError as error:
            reason = str(error)
            continue
        made.append(new)
        natural.append(own)
    if not made:
        raise UnjudgeableError(reason)
    return float(np.mean(made)), float(np.mean(natural))


def around(middle: int, length: int, total: int) -> tuple[int, int]:
    """[start, end) of a stretch of some length around a place, moved inside [0, total)."""
    start = min(max(0, middle - length // 2), max(0, total - length))
    return start, min(total, start + length)


def cut(audio: Audio, start: int, end: int) -> Audio:
    """A stretch of mono sound.

    Raises:
        UnjudgeableError: it is shorter than ``SHORTEST``.
    """
    found = Audio(audio.samples[start:end], audio.sample_rate)
    if found.seconds < SHORTEST:
        raise UnjudgeableError(f"its patches are shorter than {SHORTEST:g} s")
    return found


def _cosine(embed: Callable[[Samples], Tensor], stretch: Audio, rest: Tensor) -> float:
    return float(embed(filled(judged(stretch, "the patch"))) @ rest)
