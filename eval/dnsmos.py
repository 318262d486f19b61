"""DNSMOS P.835 (arXiv 2110.01763) through the package speechmos, whose wheel holds the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from flowtts.compat import require
from flowtts.types import Item, Samples, Score, UserError

from .bootstrap import mean_interval
from .judging import JUDGED_RATE, Progress, UnjudgeableError, item_names, judged, no_progress, score

KEYS: Mapping[str, str] = {"ovrl": "ovrl_mos", "sig": "sig_mos", "bak": "bak_mos", "p808": "p808_mos"}
PARTS = tuple(KEYS)
"""Overall (the default), the speech alone, the background alone (ITU-T P.835), and one opinion (ITU-T P.808)."""


@dataclass(eq=False)
class Dnsmos:
    """Mean of a predicted opinion score, about 1 to 5, without a reference.

    It was trained on noisy speech and what noise suppressors made of it: it hears noise and artefacts. It does not
    rank how natural voices are: of the shipped ones those of flite score 2.7, 2.9 and 3.2, people 2.8, 3.3 and 3.4.
    Recordings shorter than 9 s are repeated to that length, and of longer ones 9 s are judged every second, as the
    published script does.

    Attributes:
        part: one of ``PARTS``.
        progress: called per item.

    Raises:
        UserError: no such part, or the extra "compare" is missing.
    """

    part: str = PARTS[0]
    progress: Progress = no_progress
    name: str = "dnsmos"
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if self.part not in KEYS:
            raise UserError(f"dnsmos has no part {self.part!r}; there are {', '.join(PARTS)}")
        require("speechmos.dnsmos", "compare")

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; silence and what is too short are dropped."""
        run: Callable[[Samples, int], Mapping[str, float]] = require("speechmos.dnsmos", "compare").run
        values: dict[str, float] = {}
        dropped: dict[str, str] = {}
        for done, (name, item) in enumerate(zip(item_names(items), items, strict=True)):
            self.progress(self.name, done, len(items))
            try:
                # What is resampled may pass 1 by a little, which the package refuses.
                values[name] = float(run(np.clip(judged(item.audio), -1.0, 1.0), JUDGED_RATE)[KEYS[self.part]])
            except UnjudgeableError as error:
                dropped[name] = str(error)
        self.progress(self.name, len(items), len(items))
        backend = f"DNSMOS P.835 {self.part} (speechmos {version('speechmos')})"
        return score(mean_interval(list(values.values())), values, dropped, backend)
