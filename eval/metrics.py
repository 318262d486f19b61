"""Metrics by name, for the registry and the command line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

from flowtts.types import Metric, UserError

from .asr_hubert import DEFAULT_MODEL as HUBERT
from .asr_hubert import Hubert
from .asr_whisper import DEFAULT_SIZE, Whisper
from .frechet import FrechetSpeechDistance
from .intelligibility import ErrorRate, Pocketsphinx, Recogniser, Transcripts, Unit
from .judging import Context
from .mel_distance import MelDistance
from .pairwise import PairwiseSimilarity
from .pesq import Pesq
from .resemblyzer import Resemblyzer
from .rtf import RealTimeFactor
from .similarity import Similarity
from .wav2vec import DEFAULT_MODEL as WAV2VEC
from .wav2vec import Wav2Vec
from .wavlm import DEFAULT_MODEL as WAVLM
from .wavlm import WavLM

RECOGNISERS: Mapping[str, Callable[[str, str], Recogniser]] = {
    "": lambda option, device: Pocketsphinx(),
    "closed": lambda option, device: Pocketsphinx(closed=True),
    "whisper": lambda option, device: Whisper(option or DEFAULT_SIZE, device),
    "hubert": lambda option, device: Hubert(option or HUBERT, device),
}
"""What follows "wer-" and "cer-": (option, device) -> recogniser."""

METRICS: Mapping[str, Callable[[str, Context], Metric]] = {
    "sim-o": lambda option, c: Similarity("sim-o", Resemblyzer(option or None, c.device), progress=c.progress),
    "sim-r": lambda option, c: Similarity(
        "sim-r", Resemblyzer(option or None, c.device), True, c.resynthesise, c.progress
    ),
    "sim-wavlm": lambda option, c: Similarity("sim-wavlm", WavLM(option or WAVLM, c.device), progress=c.progress),
    "sim-pairs": lambda option, c: PairwiseSimilarity(Resemblyzer(option or None, c.device), c.progress),
    "fsd": lambda option, c: FrechetSpeechDistance("fsd", Resemblyzer(option or None, c.device), c.progress),
    "fsd-wav2vec2": lambda option, c: FrechetSpeechDistance(
        "fsd-wav2vec2", Wav2Vec(option or WAV2VEC, c.device), c.progress
    ),
    "pesq": lambda option, c: Pesq(c.progress),
    "mel": lambda option, c: MelDistance(),
    "rtf": lambda option, c: RealTimeFactor(c.took),
}
"""All other metrics: (option, context) -> metric. The option is what the user wrote after a colon."""

ALIASES: Mapping[str, str] = {"sim": "sim-o"}

_TAKE_OPTIONS = ("whisper", "hubert", "sim-o", "sim-r", "sim-wavlm", "sim-pairs", "fsd", "fsd-wav2vec2")


def names() -> list[str]:
    """Every metric's name."""
    rates = [f"{unit}-{key}".rstrip("-") for key in RECOGNISERS for unit in ("wer", "cer")]
    return sorted([*rates, *METRICS, *ALIASES])


def load(name: str, context: Context | None = None) -> Metric:
    """One metric; see ``load_all``."""
    return load_all([name], context)[0]


def load_all(wanted: Sequence[str], context: Context | None = None) -> list[Metric]:
    """Metrics by name, checked at once and cheap to make: models are loaded when a metric is called.

    A name may carry an option after a colon: a size, an id or a path, e.g. "wer-whisper:base.en",
    "wer-hubert:/models/hubert", "sim-wavlm:/models/wavlm". Word and character error rates of one recogniser
    share one listening.

    Args:
        wanted: names, each at most once.
        context: what the metrics need beyond the items.

    Raises:
        UserError: a name is unknown or comes twice, or what its metric needs is missing.
    """
    context = context or Context()
    heard: dict[tuple[str, str], Transcripts] = {}
    made: list[Metric] = []
    for spelt in wanted:
        name, _, option = spelt.partition(":")
        name = ALIASES.get(name, name)
        family, _, key = name.partition("-")
        is_rate = family in ("wer", "cer") and key in RECOGNISERS and not name.endswith("-")
        if not is_rate and name not in METRICS:
            raise _unknown(spelt, name)
        if option and (key if is_rate else name) not in _TAKE_OPTIONS:
            raise UserError(f"the metric {name!r} takes no option; write {name!r} without ':{option}'")
        if is_rate:
            if (key, option) not in heard:
                heard[key, option] = Transcripts(RECOGNISERS[key](option, context.device), context.progress)
            unit: Unit = "word" if family == "wer" else "character"
            made.append(ErrorRate(name, heard[key, option], unit))
        else:
            made.append(METRICS[name](option, context))
        if [metric.name for metric in made].count(name) > 1:
            raise UserError(f"the metric {name!r} is asked for twice; name it once")
    return made


def _unknown(spelt: str, name: str) -> UserError:
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown metric {spelt!r}; {hint}there are {', '.join(names())}")
