"""Scale-invariant signal-to-distortion ratio, and what metrics share that compare samples with samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flowtts.types import Item, Samples, Score

from .bootstrap import mean_interval
from .judging import Progress, UnjudgeableError, item_names, judged, no_progress, score

SLACK = 0.25
"""Seconds by which the lengths may differ; the longer one is cut."""
LIMIT = 100.0
"""dB that stand for no distortion at all, and minus them for nothing but distortion; 16 bits reach 98 dB."""


@dataclass(eq=False)
class SiSdr:
    """SI-SDR in dB against a reference of the same timing (Le Roux et al., arXiv 1811.02508, equation 3).

    It compares waveforms: a delay of one sample or another phase counts as distortion, so that it suits codecs and
    denoising, and vocoders only where they keep phases.
    """

    progress: Progress = no_progress
    name: str = "si-sdr"
    higher_is_better: bool = True

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those without a reference of the same length are dropped."""
        ratios, dropped = judge_pairs(items, si_sdr, self.name, self.progress)
        return score(mean_interval(list(ratios.values())), ratios, dropped, "SI-SDR")


def si_sdr(made: Samples, reference: Samples) -> float:
    """10 lg (|a s|^2 / |a s - s^|^2) with a = <s^, s> / |s|^2, within ``LIMIT``.

    Args:
        made: s^, (N,).
        reference: s, (N,), not all zero.
    """
    said, should = made.astype(np.float64), reference.astype(np.float64)
    target = should * (said @ should / (should @ should))
    rest = said - target
    signal, distortion = float(target @ target), float(rest @ rest)
    if signal == 0:
        return -LIMIT
    return min(LIMIT, max(-LIMIT, 10 * math.log10(signal / distortion))) if distortion > 0 else LIMIT


def judge_pairs(
    items: Sequence[Item], judge: Callable[[Samples, Samples], float], name: str, progress: Progress
) -> tuple[dict[str, float], dict[str, str]]:
    """Values by item, and the reasons why others have none.

    Args:
        items: what to judge.
        judge: (made, reference), both (N,) at 16 kHz, to a value; may raise ``UnjudgeableError``.
        name: of the metric.
        progress: called per item.
    """
    values: dict[str, float] = {}
    dropped: dict[str, str] = {}
    for done, (key, item) in enumerate(zip(item_names(items), items, strict=True)):
        progress(name, done, len(items))
        try:
            values[key] = judge(*same_timing(item))
        except UnjudgeableError as error:
            dropped[key] = str(error)
    progress(name, len(items), len(items))
    return values, dropped


def same_timing(item: Item) -> tuple[Samples, Samples]:
    """What was made and its reference, both (N,) at 16 kHz.

    Raises:
        UnjudgeableError: there is no reference, it lasts longer or shorter, or one of them is too short or silent.
    """
    if item.reference is None:
        raise UnjudgeableError("it has no reference")
    lasts, should = item.audio.seconds, item.reference.seconds
    if abs(lasts - should) > SLACK:
        raise UnjudgeableError(f"it lasts {lasts:.2f} s and its reference {should:.2f} s; it needs the same timing")
    made, reference = judged(item.audio), judged(item.reference, "the reference")
    shared = min(len(made), len(reference))
    if not reference[:shared].any():
        raise UnjudgeableError("the reference is silent as long as the audio lasts")
    return made[:shared], reference[:shared]
