"""What every metric shares: its surroundings, the sound it judges, names and drops."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flowtts.audio.io import resample
from flowtts.types import Audio, Item, Samples, Score

from .bootstrap import Interval, ratio_interval

JUDGED_RATE = 16_000
"""Hz at which recognisers, speaker encoders and wide-band PESQ listen. Anything else is resampled; below this rate
nothing above half of the recording's own rate exists to be judged, and the report lists such items."""

SHORTEST = 0.1
"""Seconds below which a recording shows no voice."""

NO_NUMBER = "the judge gave no number"
"""Why an item is dropped whose value is NaN or infinite."""

Progress = Callable[[str, int, int], None]
"""Called with a metric's name, the items done and the items in all."""


def no_progress(name: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Context:
    """What some metrics need beyond the items.

    Attributes:
        resynthesise: sound through the system's own vocoder or codec and back: the prompt of ``sim-r``.
        took: seconds of computing that made an item, by id: for ``rtf``.
        device: where neural judges run.
        texts: all that may be said, for recognisers that know it; the texts of the items if empty.
        progress: see ``Progress``.
    """

    resynthesise: Callable[[Audio], Audio] | None = None
    took: Mapping[str, float] = field(default_factory=dict)
    device: str = "cpu"
    texts: tuple[str, ...] = ()
    progress: Progress = no_progress


class UnjudgeableError(Exception):
    """One item cannot be judged; the message is the reason that the score reports."""


def judged(audio: Audio, what: str = "the audio") -> Samples:
    """(N,) mono samples at 16 kHz.

    Raises:
        UnjudgeableError: too short, silent or not finite.
    """
    if audio.seconds < SHORTEST:
        raise UnjudgeableError(f"{what} is shorter than {SHORTEST} s")
    samples = resample(audio.mono(), JUDGED_RATE).samples
    peak = float(np.abs(samples).max())
    if not np.isfinite(peak):
        raise UnjudgeableError(f"{what} holds NaN or infinite samples")
    if peak < 2**-15:
        raise UnjudgeableError(f"{what} is silent")
    return samples


def item_names(items: Sequence[Item]) -> list[str]:
    """One distinct name per item: its id, or its number from 1 where it has none or shares it."""
    names: list[str] = []
    for number, item in enumerate(items, start=1):
        name = item.id or f"#{number}"
        names.append(name if name not in names else f"{name}#{number}")
    return names


def score(
    interval: Interval,
    values: Mapping[str, float],
    dropped: Mapping[str, str],
    backend: str,
    sample_rate: int = JUDGED_RATE,
    weights: Mapping[str, float] | None = None,
    heard: Mapping[str, str] | None = None,
) -> Score:
    """A score of ``values`` by item; see ``flowtts.types.Score``.

    Values that are no finite numbers are dropped, and ``interval``, which they have spoilt, is that of the others.
    """
    weights = weights or {}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    if len(finite) < len(values):
        dropped = {**dropped, **{name: NO_NUMBER for name in values if name not in finite}}
        weights = {name: weight for name, weight in weights.items() if name in finite}
        counts = [weights.get(name, 1.0) for name in finite]
        interval = ratio_interval([value * n for value, n in zip(finite.values(), counts, strict=True)], counts)
    return Score(
        value=interval.value,
        low=interval.low,
        high=interval.high,
        backend=backend,
        sample_rate=sample_rate,
        count=len(finite),
        dropped=dict(dropped),
        items=finite,
        weights=dict(weights),
        heard=dict(heard or {}),
    )
