"""Every metric: how it is made, what it is called, what decides its values and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from flowtts.types import Metric, UserError

from .asr_hubert import DEFAULT_MODEL as HUBERT
from .asr_hubert import Hubert
from .asr_whisper import DEFAULT_SIZE, Whisper
from .asr_whisper import checkpoint as whisper_file
from .dnsmos import PARTS, Dnsmos
from .duration_items import DurationError, DurationSpread, PhoneTimes
from .frechet import FrechetSpeechDistance
from .intelligibility import ErrorRate, Pocketsphinx, Recogniser, Transcripts, Unit
from .judging import Context
from .mcd import MelCepstralDistortion
from .mel_distance import MelDistance, MultiScaleMelDistance, NeurogramSimilarity
from .pairwise import PairwiseSimilarity
from .pesq import Pesq
from .pitch import PitchError
from .pretrained import place
from .prosody import PlainProsody, ProsodyError
from .resemblyzer import Resemblyzer
from .rtf import RealTimeFactor
from .similarity import Similarity, SpeakerEncoder
from .sisdr import SiSdr
from .stoi import Stoi
from .utmos import Utmos
from .utmos import weights as utmos_file
from .wav2vec import DEFAULT_MODEL as WAV2VEC
from .wav2vec import Wav2Vec
from .wavlm import DEFAULT_MODEL as WAVLM
from .wavlm import WavLM
from .world import OWN, VERSA, Settings, World

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

    def number(self, option: str) -> int | None:
        """A whole number, or None if the user said none.

        Raises:
            UserError: it is no number.
        """
        said = self.options.get(option)
        if said is not None and not said.isdecimal():
            raise UserError(f"the option {option!r} must be a whole number, not {said!r}")
        return None if said is None else int(said)


def no_weights(options: Mapping[str, str]) -> None:
    """A metric's that has none, or that has them in its package."""


@dataclass(frozen=True)
class Entry:
    """A metric.

    Attributes:
        make: makes it.
        label: for tables.
        source: the paper or the definition.
        unit: of the value.
        higher: whether more is better; None where neither is.
        rate: whether it is shown in per cent.
        level: "set" for one that judges all items together and has no values by item.
        packages: whose versions decide the values.
        options: what it takes; the first is what a bare ":value" means.
        needs: see ``Need``.
        weights: where those lie that it would read, from its options; may raise ``UserError``.
        shares: metrics of the same word do a part of their work together.
    """

    make: Callable[[Making], Metric]
    label: str
    source: str
    unit: str = ""
    higher: bool | None = False
    rate: bool = False
    level: Literal["item", "set"] = "item"
    packages: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    weights: Callable[[Mapping[str, str]], Path | None] = no_weights
    shares: str = ""


VOICEBOX = "arXiv 2306.15687, section 5.1"
_TIMED: tuple[Need, ...] = ("reference", "timing")


Weights = Callable[[Mapping[str, str]], Path | None]


def _cached(model: str) -> Weights:
    """Of a model of transformers, ``model`` unless an option says another."""
    return lambda options: place(options.get("model", model))


def _given(options: Mapping[str, str]) -> Path | None:
    """Of Resemblyzer, whose own are in its package."""
    return Path(options["model"]).expanduser() if "model" in options else None


@dataclass(frozen=True)
class Hearing:
    """A recogniser.

    Attributes:
        make: makes it.
        label, source, packages, options, needs, weights: as ``Entry`` has them.
    """

    make: Callable[[Making], Recogniser]
    label: str
    source: str
    packages: tuple[str, ...]
    options: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    weights: Weights = no_weights


RECOGNISERS: Mapping[str, Hearing] = {
    "": Hearing(lambda m: Pocketsphinx(), "", "pocketsphinx, en-us", ("pocketsphinx",)),
    "closed": Hearing(
        lambda m: Pocketsphinx(closed=True), "closed", "pocketsphinx that knows the texts", ("pocketsphinx",),
        needs=("texts",),
    ),
    "whisper": Hearing(
        lambda m: Whisper(m.options.get("model", DEFAULT_SIZE), m.context.device, m.number("beam")), "Whisper",
        "arXiv 2212.04356", ("openai-whisper",), ("model", "beam"),
        weights=lambda options: whisper_file(options.get("model", DEFAULT_SIZE)),
    ),
    "hubert": Hearing(
        lambda m: Hubert(m.options.get("model", HUBERT), m.context.device), "HuBERT", VOICEBOX, ("transformers",),
        ("model",), weights=_cached(HUBERT),
    ),
}  # fmt: skip
"""What follows "wer-" and "cer-"."""


def _rate(key: str, unit: Unit) -> Entry:
    hearing, name = RECOGNISERS[key], f"{'wer' if unit == 'word' else 'cer'}-{key}".rstrip("-")

    def made(m: Making) -> Metric:
        transcripts = m.once(
            ("hearing", key, tuple(sorted(m.options.items()))),
            lambda: Transcripts(hearing.make(m), m.context.progress, m.context.texts),
        )
        return ErrorRate(name, transcripts, unit)

    label = name[:3].upper() + (f" ({hearing.label})" if hearing.label else "")
    return Entry(
        made, label, f"{hearing.source}; errors over {unit}s of the text", "%", rate=True,
        packages=("jiwer", *hearing.packages), options=hearing.options, needs=hearing.needs, weights=hearing.weights,
        shares=f"hearing {key}",
    )  # fmt: skip


def _resemblyzer(m: Making) -> SpeakerEncoder:
    return Resemblyzer(m.options.get("model"), m.context.device)


def _wavlm(m: Making) -> SpeakerEncoder:
    return WavLM(m.options.get("model", WAVLM), m.context.device)


def _wav2vec(m: Making) -> SpeakerEncoder:
    return Wav2Vec(m.options.get("model", WAV2VEC), m.context.device)


Encoder = tuple[Callable[[Making], SpeakerEncoder], str, Weights]

RESEMBLYZER: Encoder = _resemblyzer, "resemblyzer", _given
WAVLM_SV: Encoder = _wavlm, "transformers", _cached(WAVLM)
WAV2VEC2: Encoder = _wav2vec, "transformers", _cached(WAV2VEC)
"""How a space of voices or speech is made, its package, its weights."""


def _similarity(name: str, label: str, encoder: Encoder, again: bool) -> Entry:
    """SIM-o, or SIM-r if the prompt goes through the vocoder first."""
    make, package, weights = encoder

    def made(m: Making) -> Metric:
        return Similarity(name, make(m), again, m.context.resynthesise if again else None, m.context.progress)

    needs: tuple[Need, ...] = ("prompt", "vocoder") if again else ("prompt",)
    return Entry(
        made, label, VOICEBOX, "cosine", True, packages=(package,), options=("model",), needs=needs, weights=weights
    )  # fmt: skip


def _frechet(name: str, label: str, encoder: Encoder) -> Entry:
    make, package, weights = encoder

    def made(m: Making) -> Metric:
        return FrechetSpeechDistance(name, make(m), m.context.progress)

    return Entry(
        made, label, VOICEBOX, "", level="set", packages=(package,), options=("model",), needs=("reference",),
        weights=weights,
    )  # fmt: skip


DEFINITIONS: Mapping[str, Settings] = {"own": OWN, "versa": VERSA}


def _world(m: Making) -> World:
    said = m.options.get("definition", "own")
    if said not in DEFINITIONS:
        raise UserError(f"mcd has no definition {said!r}; there are {', '.join(DEFINITIONS)}")
    return m.once(("world", said), lambda: World(DEFINITIONS[said]))


def _pitch(name: str, label: str, unit: str, higher: bool = False, rate: bool = False) -> Entry:
    def made(m: Making) -> Metric:
        return PitchError(name, _world(m), m.context.progress)

    source = "ESPnet's and VERSA's F0 and voicing errors, after DTW"
    return Entry(
        made, label, source, unit, higher, rate, packages=("pyworld", "scipy"), needs=("reference",), shares="world"
    )


def _prosody(name: str, label: str, unit: str, rate: bool = False) -> Entry:
    """What speech does with time and level, or how far that is from the reference."""
    wrong = name.endswith("-error")

    def made(m: Making) -> Metric:
        return (ProsodyError if wrong else PlainProsody)(name, m.context.progress)

    higher = False if wrong else None
    return Entry(made, label, "ITU-T P.56 activity", unit, higher, rate, needs=("reference",) if wrong else ())


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
    "sim-o": _similarity("sim-o", "SIM-o", RESEMBLYZER, again=False),
    "sim-r": _similarity("sim-r", "SIM-r", RESEMBLYZER, again=True),
    "sim-wavlm": _similarity("sim-wavlm", "SIM-o (WavLM)", WAVLM_SV, again=False),
    "sim-r-wavlm": _similarity("sim-r-wavlm", "SIM-r (WavLM)", WAVLM_SV, again=True),
    "sim-pairs": Entry(
        lambda m: PairwiseSimilarity(_resemblyzer(m), m.context.progress), "similarity of voices", "flowtts: diversity",
        "cosine", level="set", packages=("resemblyzer",), options=("model",), weights=_given,
    ),
    "fsd": _frechet("fsd", "FSD (speaker)", RESEMBLYZER),
    "fsd-wav2vec2": _frechet("fsd-wav2vec2", "FSD", WAV2VEC2),
    "dnsmos": Entry(
        lambda m: Dnsmos(m.options.get("part", PARTS[0]), m.context.progress), "DNSMOS", "arXiv 2110.01763", "MOS",
        True, packages=("speechmos", "onnxruntime", "librosa"), options=("part",),
    ),
    "utmos": Entry(
        lambda m: Utmos(m.options.get("model"), m.context.device, m.context.progress), "UTMOS", "arXiv 2204.02152",
        "MOS", True, packages=("transformers",), options=("model",),
        weights=lambda options: utmos_file(options.get("model")),
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
    "mel": Entry(
        lambda m: MelDistance(m.context.progress), "mel distance", "flowtts: L1 of log-mels", "dB", needs=_TIMED
    ),
    "mel-dac": Entry(
        lambda m: MultiScaleMelDistance(m.context.progress), "mel distance (DAC)", "arXiv 2306.06546", "decades",
        needs=_TIMED,
    ),
    "nsim": Entry(
        lambda m: NeurogramSimilarity(m.context.progress), "NSIM", "Hines et al. 2015, mel bands", "", True,
        needs=_TIMED,
    ),
    "mcd": Entry(
        lambda m: MelCepstralDistortion(_world(m), m.context.progress), "MCD", "Kubichek 1993, with DTW", "dB",
        packages=("pyworld", "scipy"), options=("definition",), needs=("reference",), shares="world",
    ),
    "f0-rmse": _pitch("f0-rmse", "F0 error", "Hz"),
    "f0-cents": _pitch("f0-cents", "relative F0 error", "cents"),
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
