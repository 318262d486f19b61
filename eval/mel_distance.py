"""Log-mel distance to a reference of the same timing: the quick check of vocoders and codecs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from flowtts.audio.mel import LogMel
from flowtts.types import Item, MelSpec, Score

from .bootstrap import mean_interval
from .judging import UnjudgeableError, item_names, judged, score

SPEC = MelSpec()
SLACK = 0.25
"""Seconds by which the lengths may differ; the longer one is cut."""
DECIBEL = 20.0 / math.log(10.0)


@dataclass(eq=False)
class MelDistance:
    """Mean absolute difference of 80-band log-mel magnitudes at 16 kHz, in dB; 0 is identical."""

    name: str = "mel"
    higher_is_better: bool = False

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those without a reference of the same length are dropped."""
        mel = LogMel(SPEC)
        distances: dict[str, float] = {}
        dropped: dict[str, str] = {}
        for name, item in zip(item_names(items), items, strict=True):
            try:
                distances[name] = _distance(mel, item)
            except UnjudgeableError as error:
                dropped[name] = str(error)
        interval = mean_interval(list(distances.values()))
        return score(interval, distances, dropped, f"log-mel, {SPEC.n_mels} bands")


def _distance(mel: LogMel, item: Item) -> float:
    if item.reference is None:
        raise UnjudgeableError("it has no reference")
    lasts, should = item.audio.seconds, item.reference.seconds
    if abs(lasts - should) > SLACK:
        raise UnjudgeableError(f"it lasts {lasts:.2f} s and its reference {should:.2f} s; it needs the same timing")
    made, reference = judged(item.audio), judged(item.reference, "the reference")
    shared = min(len(made), len(reference))
    with torch.inference_mode():
        difference = mel(torch.from_numpy(made[:shared])) - mel(torch.from_numpy(reference[:shared]))
    return float(difference.abs().mean()) * DECIBEL
