"""How abruptly a sound changes at a place, and whether a join is any worse than speech itself.

Speech changes all the time, and most of all between words, so that a difference across a join says nothing by itself.
Two things make it meaningful here. First, only what exceeds the change in the neighbourhood counts (``discontinuity``):
fades, glides and the randomness of noise are as fast a little earlier and later, a splice is not. Second, joins are
compared with the word boundaries of recordings nobody has cut, measured alike (``natural``, ``limits``, ``share``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from flowtts.audio.active import active_rms
from flowtts.audio.mel import mel_filterbank
from flowtts.types import Audio, MelSpec, Samples, Word

WINDOW = 0.025
"""Seconds compared on either side."""

TOLERANCE = 0.010
"""Seconds: the worst place this near counts. A cross-fade has no exact place, and neither has an aligner's boundary."""

REACH = WINDOW + TOLERANCE
"""Seconds of sound that a place needs on either side."""

QUANTILE = 0.95
"""Share of natural boundaries that lie within the limits."""

_STEP = 0.005
_AROUND = (0.035, 0.045, 0.055, 0.065)
"""Distances in seconds of the places that show the local change; nearer ones would see the join itself."""

_BANDS = 24
_LOWEST, _HIGHEST = 60.0, 12_000.0
"""Hz: hum and offsets below are not heard, and little of speech lies above."""

_FLOOR = 10 ** (-60 / 10)
"""Power relative to the speech below which differences are not heard; also keeps digital silence finite."""

_ORDER = 16
_CLICK_SIDE = 0.03

_Powers = NDArray[np.float64]


@dataclass(frozen=True)
class Discontinuity:
    """An abrupt change, in excess of the change in the neighbourhood; around 0 where there is none.

    Attributes:
        spectral: change of colour, dB: root mean square over bands of the log-spectral difference, levels left out.
        level: change of level, dB.
        click: how far the worst prediction error at the place exceeds the worst one beside it, dB.
    """

    spectral: float
    level: float
    click: float = 0.0


@dataclass(frozen=True)
class Limits:
    """The most that passes as natural, dB."""

    spectral: float
    level: float

    def allow(self, found: Discontinuity) -> bool:
        """Whether both colour and level change no more than that."""
        return found.spectral <= self.spectral and found.level <= self.level


def discontinuity(audio: Audio, at: float) -> Discontinuity:
    """How abruptly a sound changes at a place.

    With P-(t) and P+(t) the power spectra of the ``WINDOW`` seconds before and after t (Hann, 24 mel bands from 60 Hz
    to 12 kHz, floored 60 dB below the active level of ``audio``), L their levels in dB and S their band levels less the
    mean over bands:

        colour(t) = sqrt(mean over bands (S+(t) - S-(t))^2),    change of level(t) = |L+(t) - L-(t)|.

    The windows do not overlap, so that a step shows in full; each is what an ear fuses into one impression, and holds
    two periods of a low voice. Of either quantity, the result is the greatest value within ``TOLERANCE`` of ``at`` less
    the median of those 35 to 65 ms away on both sides. The median is what makes stationary noise (whose short spectra
    differ by several dB for no reason but chance) and steady fades come out near 0. Values scale neither with the
    gain of the recording nor with its length, but compare only at one sampling rate.

    A click is shorter than a window and hides in both quantities; it is what linear prediction cannot foresee. The
    greatest error of a predictor of order 16 near the place is compared with the greatest one within 30 ms beside it:
    voiced speech, which has a peak per period, gives about 0 dB.

    Args:
        audio: mono, or the mean of the channels is taken; a stretch with speech in it, for the floor.
        at: seconds.

    Raises:
        ValueError: there is less than ``REACH`` of sound on either side.
    """
    return _Sound(audio).at(at)


def natural(audio: Audio, words: Sequence[Word]) -> list[Discontinuity]:
    """The discontinuities where words begin and end, as far as there is ``REACH`` of sound on either side.

    Args:
        audio: a recording as it was made.
        words: its words with times.
    """
    sound = _Sound(audio)
    places = sorted({round(time, 4) for word in words for time in (word.start, word.end)})
    return [sound.at(place) for place in places if sound.reaches(place)]


def limits(boundaries: Iterable[Discontinuity], quantile: float = QUANTILE) -> Limits:
    """The quantile of each quantity over natural boundaries.

    Raises:
        ValueError: there are none.
    """
    found = list(boundaries)
    if not found:
        raise ValueError("limits need natural boundaries")
    spectral = np.quantile([d.spectral for d in found], quantile)
    return Limits(float(spectral), float(np.quantile([d.level for d in found], quantile)))


def share(joins: Sequence[Discontinuity], boundaries: Sequence[Discontinuity], quantile: float = QUANTILE) -> float:
    """Share of joins whose colour and level both stay within the quantile of natural boundaries; NaN without joins."""
    allowed = limits(boundaries, quantile)
    return float(np.mean([allowed.allow(join) for join in joins])) if joins else math.nan


class _Sound:
    """A recording with what every place in it shares."""

    def __init__(self, audio: Audio) -> None:
        audio = audio.mono()
        self.samples: Samples = audio.samples
        self.rate = audio.sample_rate
        self.size = round(WINDOW * self.rate)
        floor = float(active_rms(self.samples, self.rate)) ** 2 * _FLOOR
        # Per band, so that white noise at the floor is just at the floor in each.
        self.floor = max(floor, 1e-12)

    def reaches(self, at: float) -> bool:
        """Whether there is enough sound on either side."""
        reach = self.size + round(TOLERANCE * self.rate)
        return reach <= round(at * self.rate) <= len(self.samples) - reach

    def at(self, at: float) -> Discontinuity:
        """See ``discontinuity``."""
        if not self.reaches(at):
            raise ValueError(f"a discontinuity needs {REACH} s of sound on either side of {at:.3f} s")
        middle = round(at * self.rate)
        steps = round(TOLERANCE / _STEP)
        near = [middle + round(i * _STEP * self.rate) for i in range(-steps, steps + 1)]
        around = [middle + round(sign * far * self.rate) for far in _AROUND for sign in (-1, 1)]
        around = [place for place in around if self.size <= place <= len(self.samples) - self.size]
        colours, levels = self._changes([*near, *around])
        spectral = colours[: len(near)].max() - (np.median(colours[len(near) :]) if around else 0.0)
        level = levels[: len(near)].max() - (np.median(levels[len(near) :]) if around else 0.0)
        return Discontinuity(float(spectral), float(level), self._click(middle))

    def _changes(self, places: Sequence[int]) -> tuple[_Powers, _Powers]:
        """(P,) change of colour and of level at each place, dB."""
        starts = np.array([[place - self.size, place] for place in places])
        pieces = self.samples[starts[:, :, None] + np.arange(self.size)].astype(np.float64)
        window = np.hanning(self.size + 2)[1:-1]
        spectra = np.abs(np.fft.rfft(pieces * window, _fft_size(self.size))) ** 2 / np.square(window).sum()
        bands = 10 * np.log10(spectra @ _bank(self.rate, self.size) + self.floor)
        spectra = spectra[:, :, _lowest_bin(self.rate, self.size) :]
        levels = 10 * np.log10(spectra.mean(-1) + self.floor)
        colour = bands - bands.mean(-1, keepdims=True)
        return np.sqrt(np.square(colour[:, 1] - colour[:, 0]).mean(-1)), np.abs(levels[:, 1] - levels[:, 0])

    def _click(self, middle: int) -> float:
        near, side = round(TOLERANCE * self.rate), round((TOLERANCE + _CLICK_SIDE) * self.rate)
        first, last = max(0, middle - side), min(len(self.samples), middle + side)
        stretch = self.samples[first:last].astype(np.float64)
        error = np.abs(_prediction_error(stretch))
        inside = slice(middle - near - first, middle + near - first)
        # The first errors start from nothing and are no prediction.
        beside = np.concatenate([error[_ORDER : inside.start], error[inside.stop :]])
        quiet = math.sqrt(self.floor)
        return float(20 * np.log10((error[inside].max() + quiet) / (beside.max(initial=0.0) + quiet)))


def _prediction_error(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) errors of the linear predictor that fits the stretch best (autocorrelation method)."""
    windowed = samples * np.hanning(len(samples))
    full = np.correlate(windowed, windowed, "full")[len(samples) - 1 :][: _ORDER + 1]
    # A little white noise keeps silence and pure tones solvable.
    full[0] = full[0] * (1 + 1e-6) + 1e-12
    table = full[np.abs(np.subtract.outer(np.arange(_ORDER), np.arange(_ORDER)))]
    weights = np.linalg.solve(table, full[1:])
    return np.convolve(samples, np.concatenate([[1.0], -weights]))[: len(samples)]


def _fft_size(size: int) -> int:
    return 1 << (2 * size - 1).bit_length()


def _lowest_bin(rate: int, size: int) -> int:
    return math.ceil(_LOWEST * _fft_size(size) / rate)


@lru_cache(maxsize=8)
def _bank(rate: int, size: int) -> NDArray[np.float64]:
    """(bins, bands) weights that average power over each band."""
    spec = MelSpec(
        sample_rate=rate, n_fft=_fft_size(size), win_length=size, hop_length=size, n_mels=_BANDS,
        f_min=_LOWEST, f_max=min(_HIGHEST, rate / 2), scale="htk", norm="none",
    )  # fmt: skip
    bank = mel_filterbank(spec).numpy().astype(np.float64)
    return np.asarray(bank / np.maximum(bank.sum(0), 1e-9))
