"""How well generated speech is told from recordings: balanced accuracy, equal error rate, AUC, intervals by speaker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from origin_channels import RATE
from origin_fit import Clips

from flowtts.origin import OriginClassifier
from flowtts.origin.features import Spectra, speech
from flowtts.speech import write_json
from flowtts.types import Audio, Samples, UserError

Values = NDArray[np.float64]

BANDS = ((80, 500), (500, 1000), (1000, 2000), (2000, 3000), (3000, 4000), (4000, 5000), (5000, 6000), (6000, 7000))
"""Hz, hidden one at a time."""

_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Heard:
    """Verdicts on the clips of a kind.

    Attributes:
        probabilities: (n,) of "generated".
        speakers: n names.
        refused: clips with too little speech.
    """

    probabilities: Values
    speakers: tuple[str, ...]
    refused: int = 0

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "probabilities": self.probabilities.tolist(), "speakers": list(self.speakers), "refused": self.refused
        }  # fmt: skip

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Heard:
        """From ``plain``."""
        return cls(np.asarray(plain["probabilities"], dtype=float), tuple(plain["speakers"]), plain["refused"])


@dataclass(frozen=True)
class Figure:
    """A measure and its 95 % interval."""

    value: float
    low: float
    high: float

    def shown(self, scale: float = 100, digits: int = 1) -> str:
        """As 93.1 [90.2, 95.5]."""
        return f"{scale * self.value:.{digits}f} [{scale * self.low:.{digits}f}, {scale * self.high:.{digits}f}]"


def hear(classifier: OriginClassifier, clips: Clips, seconds: float | None = None) -> Heard:
    """Judges clips, or the middle ``seconds`` of those that are as long."""
    found, speakers, refused = [], [], 0
    for index, speaker in enumerate(clips.speakers):
        try:
            verdict = classifier.judge(Audio(_middle(clips.clip(index), seconds), RATE))
        except UserError:
            refused += 1
            continue
        found.append(verdict.probability)
        speakers.append(speaker)
    return Heard(np.asarray(found, dtype=float), tuple(speakers), refused)


def _middle(samples: Samples, seconds: float | None) -> Samples:
    if seconds is None:
        return samples
    size = round(seconds * RATE)
    start = max(0, (len(samples) - size) // 2)
    return samples[start : start + size]


def hidden(classifier: OriginClassifier, clips: Clips, band: tuple[int, int]) -> Heard:
    """Judges clips with a band of frequencies replaced by its mean, which tells the network nothing."""
    config = classifier.config.spectrum
    spectra, low = Spectra(config), config.bins[0]
    first, last = (max(0, round(hertz * config.n_fft / config.sample_rate) - low) for hertz in band)
    found = []
    for index in range(len(clips.speakers)):
        magnitudes = spectra(torch.from_numpy(clips.clip(index))[None])
        active = speech(magnitudes)
        magnitudes[:, :, first:last] = 0
        with torch.inference_mode():
            found.append(float(classifier.network(magnitudes, active)[0].sigmoid()))
    return Heard(np.asarray(found), clips.speakers)


def balanced_accuracy(made: Values, recorded: Values, weights: tuple[Values, Values]) -> float:
    """Mean share of either class on its side of 0.5."""
    return float((np.average(made > 0.5, weights=weights[0]) + np.average(recorded <= 0.5, weights=weights[1])) / 2)


def area(made: Values, recorded: Values, weights: tuple[Values, Values]) -> float:
    """Chance that a generated clip is judged likelier than a recorded one; ties count half."""
    wins = (made[:, None] > recorded) + 0.5 * (made[:, None] == recorded)
    return float(weights[0] @ wins @ weights[1] / (weights[0].sum() * weights[1].sum()))


def equal_error(made: Values, recorded: Values, weights: tuple[Values, Values]) -> float:
    """Where as many recordings are called generated as generated clips are called recorded; linear between."""
    values = np.unique(np.concatenate([made, recorded]))
    missed = _share_below(made, weights[0], values)
    false = 1 - _share_below(recorded, weights[1], values)
    # Below every value nothing is missed and everything recorded is taken for generated.
    missed, false = np.concatenate([[0.0], missed]), np.concatenate([[1.0], false])
    after = int(np.argmax(missed >= false))
    gap = (missed - false)[[after - 1, after]]
    part = -gap[0] / (gap[1] - gap[0])
    return float(missed[after - 1] + part * (missed[after] - missed[after - 1]))


def _share_below(values: Values, weights: Values, thresholds: Values) -> Values:
    """Weighted share of values up to each threshold."""
    order = np.argsort(values)
    total = np.concatenate([[0.0], np.cumsum(weights[order])])
    return np.asarray(total[np.searchsorted(values[order], thresholds, side="right")] / total[-1])


MEASURES: Mapping[str, Callable[[Values, Values, tuple[Values, Values]], float]] = {
    "balanced accuracy": balanced_accuracy, "EER": equal_error, "AUC": area,
}  # fmt: skip


def measured(made: Sequence[Heard], recorded: Heard, seed: int = 0) -> dict[str, Figure]:
    """The measures of kinds together against the recordings; speakers are resampled with all that is theirs."""
    values = np.concatenate([heard.probabilities for heard in made])
    owners = [speaker for heard in made for speaker in heard.speakers]
    names = sorted({*owners, *recorded.speakers})
    where = {name: i for i, name in enumerate(names)}
    mine, theirs = (np.array([where[name] for name in group]) for group in (owners, recorded.speakers))
    rng = np.random.default_rng(seed)
    ones = np.ones(len(names))
    draws = [ones] + [np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names)) * 1.0
                      for _ in range(_RESAMPLES)]  # fmt: skip
    # A draw without anybody of a class measures nothing.
    pairs = [(draw[mine], draw[theirs]) for draw in draws if draw[mine].sum() > 0 and draw[theirs].sum() > 0]
    found = {}
    for name, measure in MEASURES.items():
        all_values = [measure(values, recorded.probabilities, weights) for weights in pairs]
        low, high = np.quantile(all_values[1:], [0.025, 0.975])
        found[name] = Figure(all_values[0], float(low), float(high))
    return found


class Book:
    """Verdicts kept in a JSON file, so that a broken run goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def __call__(self, key: str, make: Callable[..., Heard], *what: Any) -> Heard:
        """What is known under a key, or ``make`` makes of ``what`` now."""
        if key not in self._known:
            self._known[key] = make(*what).plain()
            write_json(self._path, self._known)
        return Heard.of(self._known[key])

    def get(self, key: str) -> Heard | None:
        """What is known, or None."""
        return Heard.of(self._known[key]) if key in self._known else None
