"""Every metric: how it is made, what it is called, what decides its values and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from flowtts.types import Metric

from .asr_hubert import DEFAULT_MODEL as HUBERT
from .asr_hubert import Hubert
from .asr_whisper import DEFAULT_SIZE, Whisper
from .dnsmos import PARTS, Dnsmos
from .duration_items import DurationError, DurationSpread, PhoneTimes
from .frechet import FrechetSpeechDistance
from .intelligibility import ErrorRate, Pocketsphinx, Recogniser, Transcripts, Unit
from .judging import Context
from .mcd import MelCepstralDistortion
from .mel_distance import MelDistance
from .pairwise import PairwiseSimilarity
from .pesq import Pesq
from .pitch import PitchError
from .prosody import PlainProsody, ProsodyError
from .resemblyzer import Resemblyzer
from .rtf import RealTimeFactor
from .similarity import Similarity, SpeakerEncoder
from .sisdr import SiSdr
from .stoi import Stoi
from .utmos import Utmos
from .wav2vec import DEFAULT_MODEL as WAV2VEC
from .wav2vec import Wav2Vec
from .wavlm import DEFAULT_MODEL as WAVLM
from .wavlm import WavLM
from .world import OWN, VERSA, World

T = TypeVar("T")

Need = Literal["prompt", "reference", "timing", "texts", "vocoder", "timings"]
"""What a metric asks for beside the sound and its text: a prompt, a reference, a reference of the same timing, all
texts of the set, the system's vocoder, seconds of computing."""


@dataclass(frozen=True)
class Making:
    """What a metric is made of.

    Attributes:
        options: what the user said, by name.
        context: see ``judging.Context``.
        shared: what metrics that are made together have in common: listening, analysis, alignment.
    """

    options: Mapping[str, str]
    context: Context
    shared: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: object, make: Callable[[], T]) -> T:
        """The same thing for the same key."""
        if key not in self.shared:
            self.shared[key] = make()
        return cast(T, self.shared[key])


@dataclass(frozen=True)
class Entry:
    """A metric.

    Attributes:
        make: makes it.
        label: for tables.
        source: the paper or the definition.
        unit: of the value.
        higher: whether more is better.
        rate: whether it is shown in per cent.
        level: "set" for one that judges all items together and has no values by item.
        packages: whose versions decide the values.
        options: what it takes; the first is what a bare ":value" means.
        needs: see ``Need``.
        shares: metrics of the same word do a part of their work together.
    """

    make: Callable[[Making], Metric]
    label: str
    source: str
    unit: str = ""
    higher: bool = False
    rate: bool = False
    level: Literal["item", "set"] = "item"
    packages: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    shares: str = ""


VOICEBOX = "arXiv 2306.15687, section 5.1"
_TIMED: tuple[Need, ...] = ("reference", "timing")

Hearing = tuple[str, Callable[[Making], Recogniser], tuple[str, ...], tuple[str, ...], tuple[Need, ...]]

RECOGNISERS: Mapping[str, Hearing] = {
    "": ("", lambda m: Pocketsphinx(), ("pocketsphinx",), (), ()),
    "closed": ("closed", lambda m: Pocketsphinx(closed=True), ("pocketsphinx",), (), ("texts",)),
    "whisper": (
        "Whisper", lambda m: Whisper(m.options.get("model", DEFAULT_SIZE), m.context.device), ("openai-whisper",),
        ("model",), (),
    ),
    "hubert": (
        "HuBERT", lambda m: Hubert(m.options.get("model", HUBERT), m.context.device), ("transformers",), ("model",), (),
    ),
}  # fmt: skip
"""What follows "wer-" and "cer-": (its name, how it is made, packages, options, needs)."""


def _rate(key: str, unit: Unit) -> Entry:
    shown, make, packages, options, needs = RECOGNISERS[key]

    def made(m: Making) -> Metric:
        name = f"{'wer' if unit == 'word' else 'cer'}-{key}".rstrip("-")
        transcripts = m.once(
            ("hearing", key, tuple(sorted(m.options.items()))),
            lambda: Transcripts(make(m), m.context.progress, m.context.texts),
        )
        return ErrorRate(name, transcripts, unit)

    label = ("WER" if unit == "word" else "CER") + (f" ({shown})" if shown else "")
    source = f"{VOICEBOX}; errors over {unit}s of the text"
    return Entry(
        made, label, source, "%", rate=True, packages=("jiwer", *packages), options=options, needs=needs,
        shares=f"hearing {key}",
    )  # fmt: skip


def _resemblyzer(m: Making) -> SpeakerEncoder:
    return Resemblyzer(m.options.get("model"), m.context.device)


def _wavlm(m: Making) -> SpeakerEncoder:
    return WavLM(m.options.get("model", WAVLM), m.context.device)


def _similarity(name: str, label: str, encoder: Callable[[Making], SpeakerEncoder], package: str, again: bool) -> Entry:
    """SIM-o, or SIM-r if the prompt goes through the vocoder first."""

    def made(m: Making) -> Metric:
        return Similarity(name, encoder(m), again, m.context.resynthesise if again else None, m.context.progress)

    needs: tuple[Need, ...] = ("prompt", "vocoder") if again else ("prompt",)
    return Entry(made, label, VOICEBOX, "cosine", True, packages=(package,), options=("model",), needs=needs)


def _frechet(name: str, label: str, encoder: Callable[[Making], SpeakerEncoder], package: str) -> Entry:
    def made(m: Making) -> Metric:
        return FrechetSpeechDistance(name, encoder(m), m.context.progress)

    return Entry(made, label, VOICEBOX, "", level="set", packages=(package,), options=("model",), needs=("reference",))


def _world(m: Making) -> World:
    return m.once("world", lambda: World(VERSA if m.options.get("definition") == "versa" else OWN))


def _pitch(name: str, label: str, unit: str, higher: bool = False, rate: bool = False) -> Entry:
    def made(m: Making) -> Metric:
        return PitchError(name, _world(m), m.context.progress)

    source = "ESPnet's and VERSA's F0 and voicing errors, after DTW"
    return Entry(made, label, source, unit, higher, rate, packages=("pyworld",), needs=("reference",), shares="world")


def _prosody(name: str, label: str, unit: str, rate: bool = False) -> Entry:
    """What speech does with time and level, or how far that is from the reference."""
    wrong = name.endswith("-error")

    def made(m: Making) -> Metric:
        return (ProsodyError if wrong else PlainProsody)(name, m.context.progress)

    return Entry(made, label, "ITU-T P.56 activity", unit, rate=rate, needs=("reference",) if wrong else ())


def _times(m: Making) -> PhoneTimes:
    return m.once("phone times", lambda: PhoneTimes(m.context.progress))


def _spread(name: str, label: str, unit: str, higher: bool) -> Entry:
    def made(m: Making) -> Metric:
        return DurationSpread(name, _times(m))

    return Entry(
        made, label, VOICEBOX, unit, higher, level="set", packages=("pocketsphinx",), needs=("reference",),
        shares="phone times",
    )  # fmt: skip


METRICS: Mapping[str, Entry] = {
    **{f"wer-{key}".rstrip("-"): _rate(key, "word") for key in RECOGNISERS},
    **{f"cer-{key}".rstrip("-"): _rate(key, "character") for key in RECOGNISERS},
    "sim-o": _similarity("sim-o", "SIM-o", _resemblyzer, "resemblyzer", False),
    "sim-r": _similarity("sim-r", "SIM-r", _resemblyzer, "resemblyzer", True),
    "sim-wavlm": _similarity("sim-wavlm", "SIM-o (WavLM)", _wavlm, "transformers", False),
    "sim-r-wavlm": _similarity("sim-r-wavlm", "SIM-r (WavLM)", _wavlm, "transformers", True),
    "sim-pairs": Entry(
        lambda m: PairwiseSimilarity(_resemblyzer(m), m.context.progress), "similarity of voices", "flowtts: diversity",
        "cosine", level="set", packages=("resemblyzer",), options=("model",),
    ),
    "fsd": _frechet("fsd", "FSD (speaker)", _resemblyzer, "resemblyzer"),
    "fsd-wav2vec2": _frechet(
        "fsd-wav2vec2", "FSD", lambda m: Wav2Vec(m.options.get("model", WAV2VEC), m.context.device), "transformers"
    ),
    "dnsmos": Entry(
        lambda m: Dnsmos(m.options.get("part", PARTS[0]), m.context.progress), "DNSMOS", "arXiv 2110.01763", "MOS",
        True, packages=("speechmos", "onnxruntime"), options=("part",),
    ),
    "utmos": Entry(
        lambda m: Utmos(m.options.get("model"), m.context.device, m.context.progress), "UTMOS", "arXiv 2204.02152",
        "MOS", True, packages=("transformers",), options=("model",),
    ),
    "pesq": Entry(
        lambda m: Pesq(m.context.progress), "PESQ", "ITU-T P.862.2", "MOS", True, packages=("pesq",), needs=_TIMED
    ),
    "stoi": Entry(
        lambda m: Stoi(m.context.progress), "STOI", "Taal et al. 2011", "", True, packages=("pystoi",), needs=_TIMED
    ),
    "estoi": Entry(
        lambda m: Stoi(m.context.progress, extended=True), "ESTOI", "Jensen and Taal 2016", "", True,
        packages=("pystoi",), needs=_TIMED,
    ),
    "si-sdr": Entry(lambda m: SiSdr(m.context.progress), "SI-SDR", "arXiv 1811.02508", "dB", True, needs=_TIMED),
    "mel": Entry(lambda m: MelDistance(), "mel distance", "flowtts: L1 of log-mels", "dB", needs=_TIMED),
    "mcd": Entry(
        lambda m: MelCepstralDistortion(_world(m), m.context.progress), "MCD", "Kubichek 1993, with DTW", "dB",
        packages=("pyworld",), options=("definition",), needs=("reference",), shares="world",
    ),
    "f0-rmse": _pitch("f0-rmse", "F0 error", "Hz"),
    "f0-cents": _pitch("f0-cents", "F0 error", "cents"),
    "f0-corr": _pitch("f0-corr", "F0 correlation", "", True),
    "voicing": _pitch("voicing", "voicing error", "%", rate=True),
    "rate": _prosody("rate", "speaking rate", "syllables/s"),
    "pauses": _prosody("pauses", "pauses", "%", True),
    "energy": _prosody("energy", "level", "dB"),
    "rate-error": _prosody("rate-error", "rate error", "%", True),
    "pause-error": _prosody("pause-error", "pause error", "%", True),
    "energy-error": _prosody("energy-error", "level error", "dB"),
    "duration-mae": Entry(
        lambda m: DurationError(_times(m)), "duration error", VOICEBOX, "frames", packages=("pocketsphinx",),
        needs=("reference",), shares="phone times",
    ),
    "duration-corr": _spread("duration-corr", "duration correlation", "", True),
    "fdd": _spread("fdd", "FDD", "frames²", False),
    "rtf": Entry(lambda m: RealTimeFactor(m.context.took), "RTF", "computing over sound", needs=("timings",)),
}  # fmt: skip
"""By name."""

ALIASES: Mapping[str, str] = {"sim": "sim-o"}
