"""Forced alignment with pocketsphinx and the English acoustic model inside its wheel."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowtts.alignment.base import SILENCE, Alignment, PhoneTime, gather_words, logistic
from flowtts.audio.io import resample
from flowtts.sphinx import decode
from flowtts.text.symbols import CONSONANTS, VOWELS
from flowtts.types import Audio, UserError

if TYPE_CHECKING:
    from flowtts.text import Analysis

SAMPLE_RATE = 16_000
FRAME_SECONDS = 0.01
# A frame is a window of 25.6 ms that starts with it, so its middle lies 12.8 ms in; the boundary
# between two frames is half a step before the middle of the second.
_BOUNDARY = 0.0128 - FRAME_SECONDS / 2
# Acoustic scores count in log base 1.0001, shifted right by 10 bits.
_NATS = math.log(1.0001) * 1024
_POSTFIX = re.compile(r"(?:\d?_[BIES]|\d)$")
_PHONES = frozenset((*CONSONANTS, *VOWELS))
_STATES = 3
_WORD_LIMIT, _WORD_SLOPE = 6.8, 0.85


def to_arpabet(symbol: str) -> str:
    """A vocabulary symbol without stress and word position: "AH0_B" -> "AH"."""
    return _POSTFIX.sub("", symbol)


@dataclass(frozen=True)
class _Piece:
    """A phone as the decoder timed it; frames, and its score in nats."""

    name: str
    start: int
    frames: int
    score: float


@dataclass(frozen=True)
class PocketsphinxAligner:
    """Aligns English phones by Viterbi decoding with pocketsphinx's shipped acoustic model.

    Every pronunciation of the analysis becomes a dictionary entry of its own name, so that the
    recording is aligned with exactly those phones, homographs included. Pauses between words are
    optional. A first pass finds words and pauses, a second one phones.

    Confidence: the decoder scores all its senones in every frame, so that a phone's score is the
    log-likelihood that it loses per frame against whatever senone fits best (``Alignment.deficits``).
    The numbers that make confidences of deficits were fitted on right and wrong transcripts of speech engines and of
    strongly accented people (``benchmarks/alignment.py``). The fit puts ``limit`` at 6.9;
    it is higher to spare accents.

    Attributes:
        limit: mean deficit of an utterance, nats per frame, at which right and wrong texts are equally likely.
        slope: how fast the logarithm of those odds falls, per nat.
        contrast: see ``Alignment``.
    """

    limit: float = 7.2
    slope: float = 2.2
    contrast: float = 4.0
    name: str = "pocketsphinx"

    def align(self, audio: Audio, analysis: Analysis) -> Alignment:
        """Align a recording of any rate with its analysed text.

        Raises:
            UserError: the text is longer than the recording, or has phones outside ARPAbet.
        """
        pronunciations = _pronunciations(analysis)
        samples = _samples(audio)
        pieces = self._decode(samples, list(pronunciations.values()))
        return self._timed(analysis, pieces, audio.seconds)

    def _decode(self, samples: np.ndarray, pronunciations: list[tuple[str, ...]]) -> list[_Piece]:
        need = sum(map(len, pronunciations)) * _STATES * FRAME_SECONDS
        seconds = len(samples) / SAMPLE_RATE
        too_short = UserError(
            f"the transcript does not fit the recording: {seconds:.2f} s cannot hold its "
            f"{sum(map(len, pronunciations))} phones; give the words that are said"
        )
        if seconds < need:
            raise too_short
        decoder = _decoder()
        names = [".".join(p) for p in pronunciations]
        for name, phones in dict(zip(names, pronunciations, strict=True)).items():
            decoder.add_word(name, " ".join(phones), False)
        decoder.set_align_text(" ".join(names))
        data = samples.tobytes()
        try:
            decode(decoder, data)
            decoder.set_alignment()
            decode(decoder, data)
            words = decoder.get_alignment()
        except RuntimeError as error:
            raise too_short from error
        if words is None:
            raise too_short
        pieces = []
        for word in words:
            pause = word.name.startswith(("<", "["))
            for phone in word:
                name = SILENCE if pause else str(phone.name)
                pieces.append(_Piece(name, phone.start, phone.duration, phone.score * _NATS))
        return pieces

    def _timed(self, analysis: Analysis, pieces: list[_Piece], seconds: float) -> Alignment:
        said = [p for p in pieces if p.name != SILENCE]
        if [p.name for p in said] != [to_arpabet(p.symbol) for p in analysis.phones if p.word >= 0]:
            raise RuntimeError("pocketsphinx returned other phones than it was given")
        phones: list[PhoneTime] = []
        deficits = []
        used, clock = 0, 0.0
        for place, phone in enumerate(analysis.phones):
            deficit = 0.0
            if phone.word >= 0:
                end = _seconds(said[used].start + said[used].frames, seconds)
                deficit = -said[used].score / said[used].frames
                used += 1
            else:
                end = _seconds(said[used].start, seconds) if used < len(said) else seconds
            if place + 1 == len(analysis.phones):
                end = seconds
            judged = word_confidence(deficit) if phone.word >= 0 else None
            phones.append(PhoneTime(phone.symbol, phone.word, clock, end, judged))
            deficits.append(deficit)
            clock = end
        words, losses = gather_words(analysis, phones, deficits, word_confidence)
        return Alignment(words, tuple(phones), losses, self.limit, self.slope, self.contrast)


def word_confidence(deficit: float) -> float:
    """Probability that a word with this deficit (nats per frame) was said."""
    return logistic(deficit, _WORD_LIMIT, _WORD_SLOPE)


def _seconds(frame: int, limit: float) -> float:
    return 0.0 if frame == 0 else min(frame * FRAME_SECONDS + _BOUNDARY, limit)


def _pronunciations(analysis: Analysis) -> dict[int, tuple[str, ...]]:
    words: dict[int, tuple[str, ...]] = {}
    for phone in analysis.phones:
        if phone.word >= 0:
            name = to_arpabet(phone.symbol)
            if name not in _PHONES:
                raise UserError(f"pocketsphinx aligns English only and does not know the phone '{phone.symbol}'")
            words[phone.word] = (*words.get(phone.word, ()), name)
    if not words:
        raise UserError("the transcript has no words to align; give the words that are said")
    return words


def _samples(audio: Audio) -> np.ndarray:
    samples = resample(audio.mono(), SAMPLE_RATE).samples
    if not np.isfinite(samples).all():
        raise UserError("the recording contains samples that are not numbers")
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0:
        raise UserError("the recording is silent: there is nothing to align")
    # The features follow the level only through rounding to 16 bit, so quiet recordings are raised.
    return np.asarray(np.round(samples * (0.7 * 32767 / peak)), dtype=np.int16)


def _decoder() -> Any:
    import pocketsphinx

    # Made anew for every recording, which costs milliseconds: its dictionary holds nothing but this text's phones.
    # Without beams nothing is pruned, so an alignment exists whenever the phones fit into the time.
    return pocketsphinx.Decoder(
        lm=None, dict=None, beam=0, wbeam=0, pbeam=0, cmn="batch", bestpath=False, fwdflat=False, compallsen=True,
        loglevel="FATAL",
    )  # fmt: skip
