"""Speaking rate, pauses and level of speech, and how far they are from those of a recording of the same text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowtts.audio.active import active_rms
from flowtts.text import FrontEnd
from flowtts.text.symbols import is_vowel
from flowtts.types import Audio, Item, Score, UserError

from .bootstrap import mean_interval
from .judging import JUDGED_RATE, Progress, UnjudgeableError, item_names, judged, no_progress, score

FRAME = 0.02
MARGIN = 15.9
"""dB below the level of the speech at which speech ends, as in ITU-T P.56."""
SHORTEST_PAUSE = 0.2
"""Seconds; shorter gaps are the closures of stops, and P.56 counts them as speech too."""

BACKEND = f"frames of 20 ms within {MARGIN} dB of the level of speech (ITU-T P.56)"


@dataclass(frozen=True)
class Prosody:
    """What a recording does with time and level.

    Attributes:
        seconds: from the first to the last frame of speech.
        pauses: seconds of pauses between them.
        level: of the speech, dB relative to full scale (``flowtts.audio.active``).
    """

    seconds: float
    pauses: float
    level: float


@dataclass(eq=False)
class PlainProsody:
    """One of ``PLAIN``: a property of the speech, of which neither more nor less is better.

    Compare it with the row of the recordings, or use the errors of ``ProsodyError``. ``higher_is_better`` is False
    because every metric has to say something; nothing follows from it.

    * ``rate``: syllables per second of speech, pauses left out (articulation rate). The syllables are those of the
      text: the vowels that the front end reads in it.
    * ``pauses``: share of pauses in the time from the beginning to the end of speech.
    * ``energy``: level of the speech, dB relative to full scale.

    Attributes:
        name: which.
        progress: called per item.
    """

    name: str
    progress: Progress = no_progress
    higher_is_better: bool = False

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; silence is dropped, and for ``rate`` texts that cannot be read."""
        front_end = FrontEnd()

        def judge(item: Item) -> float:
            syllables = count_syllables(front_end, item.text) if self.name == "rate" else 0
            return PLAIN[self.name](prosody(item.audio), syllables)

        return _judge(self.name, items, judge, self.progress)


@dataclass(eq=False)
class ProsodyError:
    """One of ``ERRORS``: how far a property is from that of the reference, which says the same text; 0 is no error.

    * ``rate-error``: relative difference of the articulation rates; 0.1 is 10 % too fast or too slow.
    * ``pause-error``: absolute difference of the shares of pauses.
    * ``energy-error``: absolute difference of the levels of speech, dB.

    Attributes:
        name: which.
        progress: called per item.
    """

    name: str
    progress: Progress = no_progress
    higher_is_better: bool = False

    def __call__(self, items: Sequence[Item]) -> Score:
        """Judge all items together; silence and items without a reference are dropped."""

        def judge(item: Item) -> float:
            if item.reference is None:
                raise UnjudgeableError("it has no reference")
            return ERRORS[self.name](prosody(item.audio), prosody(item.reference, "the reference"))

        return _judge(self.name, items, judge, self.progress)


def prosody(audio: Audio, what: str = "the audio") -> Prosody:
    """Measure a recording.

    Frames of 20 ms within ``MARGIN`` of the level of the speech are speech, and gaps between them shorter than
    ``SHORTEST_PAUSE``. Noise less than ``MARGIN`` below the speech counts as speech.

    Raises:
        UnjudgeableError: it is too short or silent.
    """
    samples = judged(audio, what)
    level = active_rms(samples, JUDGED_RATE)
    size = round(FRAME * JUDGED_RATE)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    power = np.square(frames, dtype=np.float64).mean(1)
    if level == 0:
        raise UnjudgeableError(f"{what} is silent but for its last {FRAME} s")
    speech = np.flatnonzero(power >= level**2 * 10 ** (-MARGIN / 10))
    gaps = np.diff(speech) - 1
    pauses = int(gaps[gaps >= round(SHORTEST_PAUSE / FRAME)].sum())
    return Prosody(int(speech[-1] - speech[0] + 1) * FRAME, pauses * FRAME, 20 * math.log10(level))


def count_syllables(front_end: FrontEnd, text: str) -> int:
    """Vowels among the phones of a text, at least one.

    Raises:
        UnjudgeableError: the text cannot be read, or has none.
    """
    try:
        words = front_end.analyse(text).words
    except UserError as error:
        raise UnjudgeableError(f"its text cannot be read: {error}") from error
    syllables = sum(is_vowel(phone) for word in words for phone in word.phones)
    if syllables == 0:
        raise UnjudgeableError("its text has no syllable")
    return syllables


def _rate(made: Prosody, syllables: int) -> float:
    return syllables / (made.seconds - made.pauses)


def _rate_error(made: Prosody, reference: Prosody) -> float:
    # Of one text the syllables are the same.
    return abs((reference.seconds - reference.pauses) / (made.seconds - made.pauses) - 1)


def _share(made: Prosody) -> float:
    return made.pauses / made.seconds


PLAIN: Mapping[str, Callable[[Prosody, int], float]] = {
    "rate": _rate,
    "pauses": lambda made, syllables: _share(made),
    "energy": lambda made, syllables: made.level,
}
"""(recording, syllables of its text) -> value."""

ERRORS: Mapping[str, Callable[[Prosody, Prosody], float]] = {
    "rate-error": _rate_error,
    "pause-error": lambda made, reference: abs(_share(made) - _share(reference)),
    "energy-error": lambda made, reference: abs(made.level - reference.level),
}
"""(recording, reference) -> value."""


def _judge(name: str, items: Sequence[Item], judge: Callable[[Item], float], progress: Progress) -> Score:
    values: dict[str, float] = {}
    dropped: dict[str, str] = {}
    for done, (key, item) in enumerate(zip(item_names(items), items, strict=True)):
        progress(name, done, len(items))
        try:
            values[key] = judge(item)
        except UnjudgeableError as error:
            dropped[key] = str(error)
    progress(name, len(items), len(items))
    return score(mean_interval(list(values.values())), values, dropped, BACKEND)
