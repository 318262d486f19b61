"""Wide-band PESQ (ITU-T P.862.2): how much a recording suffered between its reference and what was made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from flowtts.compat import require
from flowtts.types import Item, Score

from .bootstrap import mean_interval
from .judging import JUDGED_RATE, Progress, UnjudgeableError, item_names, judged, no_progress, score

LONGEST = 20.0
"""Seconds. P.862 was made for 8 to 20 s; its implementation has room for 50 stretches of speech, which are at least
0.2 s long and 0.2 s apart, and crashes the process on more."""
SHORTEST = 0.25
"""Seconds below which PESQ is undefined."""
SLACK = 0.25
"""Seconds by which the lengths may differ."""


@dataclass(eq=False)
class Pesq:
    """Mean opinion score, about 1.04 to 4.64, against a reference of the same timing: vocoders, codecs, denoising.

    Two readings of one text have different timing, so that synthesis from text cannot be judged by it; items whose
    length differs from the reference's by more than 0.25 s are dropped.
    """

    progress: Progress = no_progress
    name: str = "pesq"
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        require("pesq", "eval")

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; those it cannot judge are dropped with the reason."""
        package: Any = require("pesq", "eval")
        scores: dict[str, float] = {}
        dropped: dict[str, str] = {}
        for done, (name, item) in enumerate(zip(item_names(items), items, strict=True)):
            self.progress(self.name, done, len(items))
            try:
                scores[name] = _judge(package, item)
            except UnjudgeableError as error:
                dropped[name] = str(error)
        self.progress(self.name, len(items), len(items))
        backend = f"pesq {version('pesq')} (P.862.2 wide band)"
        return score(mean_interval(list(scores.values())), scores, dropped, backend)


def _judge(package: Any, item: Item) -> float:
    if item.reference is None:
        raise UnjudgeableError("it has no reference")
    lasts, should = item.audio.seconds, item.reference.seconds
    if min(lasts, should) < SHORTEST or max(lasts, should) > LONGEST:
        raise UnjudgeableError(f"PESQ judges {SHORTEST} to {LONGEST:.0f} s, not {lasts:.2f} s against {should:.2f} s")
    if abs(lasts - should) > SLACK:
        raise UnjudgeableError(f"it lasts {lasts:.2f} s and its reference {should:.2f} s; PESQ needs the same timing")
    reference = judged(item.reference, "the reference")
    try:
        return float(package.pesq(JUDGED_RATE, reference, judged(item.audio), "wb"))
    except package.PesqError as error:
        said = error.args[0] if error.args else type(error).__name__
        reason = said.decode() if isinstance(said, bytes) else str(said)
        raise UnjudgeableError(f"PESQ gave up: {' '.join(reason.split())}") from error
