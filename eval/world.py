"""Speech as WORLD sees it, and recordings aligned with their references: for ``mcd`` and the errors of pitch.

The mel-cepstra, the limit of silence and the warping are those of VERSA and ESPnet (wavlab-speech/versa,
``versa/sequence_metrics/mcd_f0.py``), except that the best path is found exactly, not by FastDTW.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from types import ModuleType
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from flowtts.compat import require
from flowtts.types import Audio, Item, Samples

from .judging import JUDGED_RATE, Progress, UnjudgeableError, item_names, judged

Array = NDArray[np.float64]

FRAME = 0.005
"""Seconds between frames."""
N_FFT = 1024
SILENCE = -20.0
"""dB relative to the mean power of a recording: frames below are no speech."""
LONGEST = 60.0
"""Seconds; time and memory of the warping grow with the square."""
_CUTOFF, _TAPS = 70.0, 255
# VERSA's, whose c0 is that of 16-bit samples; differences do not depend on it.
_FULL_SCALE = 32_767.0


@dataclass(frozen=True)
class Settings:
    """How recordings are analysed, at 16 kHz every 5 ms.

    Attributes:
        pitch: "dio", refined by StoneMask, or "harvest".
        f0_min, f0_max: Hz between which pitch is looked for.
        order: of the mel-cepstrum.
        alpha: all-pass constant of its frequency scale.
        first: the lowest coefficient that is compared; 1 leaves out c0, which is the level.
    """

    pitch: str
    f0_min: float
    f0_max: float
    order: int
    alpha: float
    first: int


OWN = Settings("dio", 60.0, 500.0, 23, 0.42, 1)
"""Order and alpha that ESPnet uses at 16 kHz, c0 left out as in Kubichek (1993). Of the speech in the shipped voices
Harvest between 40 and 800 Hz calls 95 to 99 % voiced, and with noise added up to 9 % of that an octave off; DIO between
60 and 500 Hz calls 69 to 93 % voiced and at most 2 % an octave off, in a thirtieth of the time."""

VERSA = Settings("harvest", 40.0, 800.0, 39, 0.466, 0)
"""VERSA's defaults (with ``dtw: true``), whose distortion counts c0."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of speech.

    Attributes:
        cepstra: (T, order + 1) mel-cepstra.
        f0: (T,) Hz, 0 where unvoiced.
    """

    cepstra: Array
    f0: Array

    def at(self, places: NDArray[np.int64]) -> Frames:
        """Some of them, in the order asked for."""
        return Frames(self.cepstra[places], self.f0[places])


Pair = tuple[Frames, Frames]
"""What was made and its reference, frame by frame along the best path, so that both have T frames."""


class World:
    """Analyses recordings and aligns them; keeps both as long as the recordings live, so that metrics share them."""

    def __init__(self, settings: Settings = OWN) -> None:
        self.settings = settings
        self._frames: WeakKeyDictionary[Audio, Frames] = WeakKeyDictionary()
        self._pairs: WeakKeyDictionary[Audio, WeakKeyDictionary[Audio, Pair]] = WeakKeyDictionary()
        _pyworld()
        require("scipy.signal", "compare")

    @property
    def backend(self) -> str:
        """The program and how it analyses."""
        s = self.settings
        pitch = {"dio": "DIO", "harvest": "Harvest"}[s.pitch]
        cepstra = f"c{s.first} to c{s.order}, alpha {s.alpha}"
        return f"pyworld {version('pyworld')} ({pitch} {s.f0_min:.0f} to {s.f0_max:.0f} Hz; {cepstra}; exact DTW)"

    def pair(self, item: Item) -> Pair:
        """An item's speech and its reference's, aligned.

        Raises:
            UnjudgeableError: there is no reference, or one of them is too short, too long or silent.
        """
        if item.reference is None:
            raise UnjudgeableError("it has no reference")
        known = self._pairs.setdefault(item.audio, WeakKeyDictionary())
        if item.reference not in known:
            made, reference = self._analysed(item.audio), self._analysed(item.reference, "the reference")
            first = self.settings.first
            here, there = align(made.cepstra[:, first:], reference.cepstra[:, first:])
            known[item.reference] = made.at(here), reference.at(there)
        return known[item.reference]

    def _analysed(self, audio: Audio, what: str = "the audio") -> Frames:
        if audio not in self._frames:
            if audio.seconds > LONGEST:
                raise UnjudgeableError(f"{what} lasts {audio.seconds:.1f} s; at most {LONGEST:.0f} s can be aligned")
            self._frames[audio] = analyse(judged(audio, what), self.settings)
        return self._frames[audio]


def compare(
    world: World, items: Sequence[Item], measure: Callable[[Pair], float], name: str, progress: Progress
) -> tuple[dict[str, float], dict[str, str]]:
    """Values by item, and the reasons why others have none.

    Args:
        world: whose analysis is compared.
        items: what to judge.
        measure: a pair to its value; may raise ``UnjudgeableError``.
        name: of the metric.
        progress: called per item.
    """
    values: dict[str, float] = {}
    dropped: dict[str, str] = {}
    for done, (key, item) in enumerate(zip(item_names(items), items, strict=True)):
        progress(name, done, len(items))
        try:
            values[key] = measure(world.pair(item))
        except UnjudgeableError as error:
            dropped[key] = str(error)
    progress(name, len(items), len(items))
    return values, dropped


def analyse(samples: Samples, settings: Settings) -> Frames:
    """The frames of (N,) samples at 16 kHz that are louder than ``SILENCE``, of which there is always one.

    A high-pass at 70 Hz takes out hum before that.
    """
    pyworld, signal = _pyworld(), require("scipy.signal", "compare")
    high_pass = signal.firwin(_TAPS, _CUTOFF, pass_zero=False, fs=JUDGED_RATE)
    sound = signal.lfilter(high_pass, 1.0, samples.astype(np.float64) * _FULL_SCALE)
    asked = {"f0_floor": settings.f0_min, "f0_ceil": settings.f0_max, "frame_period": FRAME * 1000}
    find = pyworld.harvest if settings.pitch == "harvest" else pyworld.dio
    f0, times = find(sound, JUDGED_RATE, **asked)
    if settings.pitch == "dio":
        f0 = pyworld.stonemask(sound, f0, times, JUDGED_RATE)
    spectra = pyworld.cheaptrick(sound, f0, times, JUDGED_RATE, fft_size=N_FFT)
    power = spectra[:, 0] + spectra[:, -1] + 2 * spectra[:, 1:-1].sum(1)
    speech = 10 * np.log10(power / power.mean()) > SILENCE
    return Frames(mel_cepstra(spectra[speech], settings.order, settings.alpha), f0[speech])


def mel_cepstra(spectra: Array, order: int, alpha: float) -> Array:
    """(T, order + 1) mel-cepstra of (T, F) power spectra, as SPTK's ``mgcep -q 4`` makes them without iterating.

    They are the coefficients of the minimum phase log spectrum, log H = c0 + c1 z^-1 + ..., on the warped scale.
    """
    cepstra = np.fft.irfft(np.log(spectra))[:, : spectra.shape[1]]
    # The logarithm of a power is twice that of an amplitude, and all but c0 stand for two terms of the spectrum.
    cepstra[:, 0] /= 2
    warped: Array = cepstra @ frequency_transform(spectra.shape[1], order, alpha).T
    return warped


@lru_cache(maxsize=4)
def frequency_transform(length: int, order: int, alpha: float) -> Array:
    """(order + 1, length) matrix that takes a cepstrum to the frequency scale of the all-pass with ``alpha``.

    Warping is substituting z^-1 = (w + alpha) / (1 + alpha w), w the warped z^-1 (Oppenheim and Johnson 1972; SPTK's
    ``freqt``). So column m is the m-th power of the series alpha + (1 - alpha^2) (w - alpha w^2 + alpha^2 w^3 - ...).
    """
    powers = np.arange(order)
    series = np.concatenate([[alpha], (1 - alpha**2) * (-alpha) ** powers])
    times = np.zeros((order + 1, order + 1))
    for shift in range(order + 1):
        times[shift:, shift] = series[: order + 1 - shift]
    columns = np.zeros((length, order + 1))
    columns[0, 0] = 1.0
    for power in range(1, length):
        columns[power] = times @ columns[power - 1]
    return columns.T


def align(made: Array, reference: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Dynamic time warping: the path of least total Euclidean distance from both starts to both ends.

    A step goes forward by one frame on either side or on both; of equal ways it takes the one on both. All cells whose
    indices have one sum depend only on earlier sums and are computed at once.

    Args:
        made: (N, D), N at least 1.
        reference: (M, D), M at least 1.

    Returns:
        Indices into either side, (P,) each.
    """
    rows, columns = len(made), len(reference)
    # Totals of the last two diagonals, cell (i, j) at i + 1; the start is reached from a cell that costs nothing.
    before, last = np.full(rows + 1, np.inf), np.full(rows + 1, np.inf)
    before[0] = 0.0
    back: list[NDArray[np.int8]] = []
    for both in range(rows + columns - 1):
        low, high = max(0, both - columns + 1), min(rows, both + 1)
        distance = made[low:high] - reference[both - high + 1 : both - low + 1][::-1]
        ways = np.stack([before[low:high], last[low:high], last[low + 1 : high + 1]])
        current = np.full(rows + 1, np.inf)
        current[low + 1 : high + 1] = ways.min(0) + np.sqrt(np.einsum("td,td->t", distance, distance))
        back.append(ways.argmin(0).astype(np.int8))
        before, last = last, current
    row, column = rows - 1, columns - 1
    path = [(row, column)]
    while row or column:
        way = back[row + column][row - max(0, row + column - columns + 1)]
        row, column = row - (way != 2), column - (way != 1)
        path.append((row, column))
    here, there = np.array(path[::-1], dtype=np.int64).T
    return here, there


def _pyworld() -> ModuleType:
    with warnings.catch_warnings():
        # It asks pkg_resources for its version, which tells whoever does so to stop.
        warnings.simplefilter("ignore")
        return require("pyworld", "compare")
