"""What an accent classifier may hear: how long each phone of a known text lasts, and what it sounds like.

Two corpora differ in their microphones before they differ in their speakers' accents, so nothing here is a spectrum.
A recording becomes *tokens*: every phone of its text with its time (forced alignment), and the phones that a native
acoustic model hears there when it is free to hear any (pocketsphinx's phone loop, cepstra normalised by their mean over
the recording). Three views of tokens are compared with the same phones of everybody else, so that neither the text nor
the absolute speed counts: ``timing`` (durations, pauses), ``sound`` (what is heard in each phone) and ``errors`` (which
phone is heard instead, however often: noise and poor synthesis raise the number of errors, an accent chooses them).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowtts.alignment import PocketsphinxAligner
from flowtts.alignment.pocketsphinx import SAMPLE_RATE, to_arpabet
from flowtts.audio.io import resample
from flowtts.compat import require
from flowtts.sphinx import decode
from flowtts.text import FrontEnd
from flowtts.text.symbols import CONSONANTS, VOWELS
from flowtts.types import Audio

Vector = NDArray[np.float64]

FRAME = 0.01
PAUSE = 0.05
"""Seconds below which the gap between two words is no pause."""

PHONES = (*VOWELS, *CONSONANTS)
OTHER = "SIL"
HEARD = (*PHONES, OTHER)
"""What the phone loop can answer; silence and noises are one."""

_GROUPS = {
    "tense vowels": ("IY", "UW", "EY", "OW", "AY", "AW", "OY", "AA", "AO"),
    "lax vowels": ("IH", "UH", "EH", "AE"),
    "central vowels": ("AH", "ER"),
    "voiced stops": ("B", "D", "G"),
    "voiceless stops": ("P", "T", "K"),
    "voiced fricatives": ("V", "DH", "Z", "ZH", "JH"),
    "voiceless fricatives": ("F", "TH", "S", "SH", "CH", "HH"),
    "nasals": ("M", "N", "NG"),
    "liquids": ("L", "R"),
    "glides": ("W", "Y"),
}
TIMING = (*_GROUPS, "stressed vowels", "unstressed vowels", "final consonants", "short words",
          "vowel spread", "consonant spread", "neighbouring vowels", "pauses", "pause length")  # fmt: skip
_SHORT_WORD = 2


@dataclass(frozen=True)
class Token:
    """One phone that was to be said.

    Attributes:
        phone: ARPAbet without stress.
        stress: of vowels, primary or secondary.
        word: index in the text.
        final: last of its word.
        start: seconds.
        end: seconds.
        heard: seconds of each phone that the loop hears inside.
    """

    phone: str
    stress: bool
    word: int
    final: bool
    start: float
    end: float
    heard: dict[str, float]


@dataclass(frozen=True)
class Tokens:
    """A recording as the classifier knows it.

    Attributes:
        tokens: in order.
        pauses: what the loop hears where nothing is said, seconds.
    """

    tokens: tuple[Token, ...]
    pauses: dict[str, float]

    def pack(self) -> dict[str, Any]:
        """As JSON."""
        return {"tokens": [list(asdict(token).values()) for token in self.tokens], "pauses": self.pauses}

    @staticmethod
    def unpack(row: dict[str, Any]) -> Tokens:
        """The inverse of ``pack``."""
        return Tokens(tuple(Token(*fields) for fields in row["tokens"]), row["pauses"])

    @property
    def words(self) -> int:
        """How many words it covers."""
        return len({token.word for token in self.tokens})


class Listener:
    """Recordings to tokens; holds the models."""

    def __init__(self) -> None:
        pocketsphinx = require("pocketsphinx", "")
        self._front_end, self._aligner = FrontEnd(), PocketsphinxAligner()
        self._loop = pocketsphinx.Decoder(
            lm=None, dict=None, allphone=pocketsphinx.get_model_path("en-us/en-us-phone.lm.bin"), cmn="batch",
            beam=1e-20, pbeam=1e-20, lw=2.0, loglevel="FATAL",
        )  # fmt: skip

    def listen(self, audio: Audio, text: str) -> Tokens:
        """Align and listen.

        Raises:
            UserError: the text cannot be aligned with the recording.
        """
        # Text in capitals would be read letter by letter.
        aligned = self._aligner.align(audio, self._front_end.analyse(text.lower() if text.isupper() else text))
        heard = self._hear(audio)
        tokens, pauses = [], dict[str, float]()
        for index, phone in enumerate(aligned.phones):
            inside = within(heard, phone.start, phone.end)
            if phone.word < 0:
                for name, seconds in inside.items():
                    pauses[name] = round(pauses.get(name, 0.0) + seconds, 4)
                continue
            final = index + 1 == len(aligned.phones) or aligned.phones[index + 1].word != phone.word
            stress = any(digit in phone.symbol for digit in "12")
            times = round(phone.start, 4), round(phone.end, 4)
            tokens.append(Token(to_arpabet(phone.symbol), stress, phone.word, final, *times, inside))
        return Tokens(tuple(tokens), pauses)

    def _hear(self, audio: Audio) -> list[tuple[str, float, float]]:
        samples = resample(audio.mono(), SAMPLE_RATE).samples
        peak = max(float(np.abs(samples).max(initial=0.0)), 1e-6)
        decode(self._loop, np.round(samples * (0.7 * 32767 / peak)).astype("<i2").tobytes())
        found = ((str(s.word), s.start_frame * FRAME, (s.end_frame + 1) * FRAME) for s in self._loop.seg() or ())
        return [(name if name in PHONES else OTHER, start, end) for name, start, end in found]


def within(heard: Iterable[tuple[str, float, float]], start: float, end: float) -> dict[str, float]:
    """Seconds of each phone between two times; what is not covered is ``OTHER``."""
    found: dict[str, float] = {}
    for name, first, last in heard:
        overlap = min(last, end) - max(first, start)
        if overlap > 0:
            found[name] = found.get(name, 0.0) + overlap
    rest = end - start - sum(found.values())
    if rest > 1e-6:
        found[OTHER] = found.get(OTHER, 0.0) + rest
    return {name: round(seconds, 4) for name, seconds in found.items()}


def cut(tokens: Tokens, lengths: Sequence[int], rng: np.random.Generator) -> list[Tokens]:
    """Stretches of whole words, their lengths drawn from ``lengths``, one after the other; an incomplete last one goes.

    Makes utterances of two corpora equally long: statistics of few phones scatter more than those of many.
    """
    words = sorted({token.word for token in tokens.tokens})
    pieces, at = [], 0
    while at < len(words):
        size = int(rng.choice(np.asarray(lengths)))
        own = set(words[at : at + size])
        if len(own) == size:
            pieces.append(Tokens(tuple(t for t in tokens.tokens if t.word in own), tokens.pauses))
        at += size
    return pieces


@dataclass(frozen=True, eq=False)
class Norm:
    """What is usual: both accents weigh the same, so that the choice of texts tells nothing.

    Attributes:
        duration: mean log seconds of each phone of ``PHONES``.
        heard: (P, Q) share of ``HEARD`` in each phone of ``PHONES``.
        errors: (P, Q) the same over the time in which another phone is heard.
    """

    duration: Vector
    heard: Vector
    errors: Vector

    @staticmethod
    def measure(groups: Sequence[Sequence[Tokens]]) -> Norm:
        """Of some groups of recordings, each of the same weight."""
        durations, shares, errors = [], [], []
        for group in groups:
            length, count = np.zeros(len(PHONES)), np.zeros(len(PHONES))
            share, wrong = (np.zeros((len(PHONES), len(HEARD))) for _ in range(2))
            for token in (t for recording in group for t in recording.tokens):
                row = PHONES.index(token.phone)
                length[row] += _log_length(token)
                share[row] += _shares(token)
                wrong[row] += _errors(token)
                count[row] += 1
            overall = length.sum() / max(1.0, count.sum())
            # Phones that hardly occur borrow from the average: five tokens' worth.
            durations.append((length + 5 * overall) / (count + 5))
            shares.append((share + 5 * share.sum(0) / max(1.0, count.sum())) / (count + 5)[:, None])
            missed = wrong.sum(1, keepdims=True)
            errors.append((wrong + 2 * wrong.sum(0) / max(1e-6, missed.sum())) / (missed + 2))
        return Norm(*(np.mean(parts, axis=0) for parts in (durations, shares, errors)))

    def timing(self, tokens: Tokens) -> Vector:
        """(len(TIMING),) how durations depart from what is usual, beyond the recording's own speed."""
        # The last word before a pause is drawn out by everybody.
        last = max((t.word for t in tokens.tokens), default=0)
        kept = [t for t in tokens.tokens if t.word != last] or list(tokens.tokens)
        rest = np.array([_log_length(t) - self.duration[PHONES.index(t.phone)] for t in kept])
        rest = rest - rest.mean()
        vowel = np.array([t.phone in VOWELS for t in kept])
        stress, final = np.array([t.stress for t in kept]), np.array([t.final for t in kept])
        sizes: dict[int, int] = {}
        for token in kept:
            sizes[token.word] = sizes.get(token.word, 0) + 1
        short = np.array([sizes[t.word] <= _SHORT_WORD for t in kept])
        groups = [np.array([t.phone in phones for t in kept]) for phones in _GROUPS.values()]
        means = [_mean(rest[g]) for g in (*groups, vowel & stress, vowel & ~stress, ~vowel & final, short)]
        spreads = [float(rest[g].std()) if g.sum() > 1 else 0.0 for g in (vowel, ~vowel)]
        lengths = [t.end - t.start for t in kept if t.phone in VOWELS]
        steps = [abs(a - b) / (a + b) for a, b in pairwise(lengths)]
        gaps = [b.start - a.end for a, b in pairwise(tokens.tokens) if a.word != b.word]
        pauses = [gap for gap in gaps if gap >= PAUSE]
        held = float(np.mean(np.log(np.array(pauses) / PAUSE))) if pauses else 0.0
        return np.array([*means, *spreads, _mean(np.array(steps)), len(pauses) / max(1, len(gaps)), held])

    def sound(self, tokens: Tokens) -> Vector:
        """(P * Q,) what is heard in each phone beyond what is usual there, per phone of the recording."""
        found = np.zeros_like(self.heard)
        for token in tokens.tokens:
            row = PHONES.index(token.phone)
            found[row] += _shares(token) - self.heard[row]
        return (found / max(1, len(tokens.tokens))).reshape(-1)

    def wrong(self, tokens: Tokens) -> Vector:
        """(P * Q,) what is heard instead beyond the usual errors in that phone, per error of the recording."""
        found, missed = np.zeros_like(self.errors), 0.0
        for token in tokens.tokens:
            row, errors = PHONES.index(token.phone), _errors(token)
            found[row] += errors - errors.sum() * self.errors[row]
            missed += float(errors.sum())
        return (found / max(1.0, missed)).reshape(-1)


def heard_right(tokens: Tokens) -> float:
    """Share of the time in which the phone of the text is heard."""
    right = sum(token.heard.get(token.phone, 0.0) for token in tokens.tokens)
    return right / max(1e-6, sum(sum(token.heard.values()) for token in tokens.tokens))


def _log_length(token: Token) -> float:
    return float(np.log(max(token.end - token.start, FRAME)))


def _shares(token: Token) -> Vector:
    found = np.zeros(len(HEARD))
    for name, seconds in token.heard.items():
        found[HEARD.index(name)] += seconds
    return np.asarray(found / max(found.sum(), 1e-6))


def _errors(token: Token) -> Vector:
    shares = _shares(token)
    shares[HEARD.index(token.phone)] = shares[HEARD.index(OTHER)] = 0.0
    return shares


def _mean(values: Vector) -> float:
    return float(values.mean()) if len(values) else 0.0
