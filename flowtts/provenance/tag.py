"""A tag in the sound: magnitudes of its spectrum, a little up and down in a pattern that is known.

Spread spectrum by multiplication: tiles of 24 ms by 125 Hz become a decibel louder or softer as a pseudo-random pattern
of ±1 has it, which repeats every 1.25 s. The change is a share of what sounds there, so that the sound masks it, and it
survives what keeps spectra: other levels and rates, codecs, noise, cuts. Another tempo or pitch destroys it.

Each bit of the pattern is a chip up and a chip down, so that it leaves no trace in averages, and whatever is slower
than chips, as speech mostly is, can be filtered out before the pattern is looked for.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowtts.audio.io import resample
from flowtts.types import Audio, Samples

Array = NDArray[np.floating[Any]]

KEY = 1
"""Of the pattern that flowtts writes."""

STRENGTH = 1.0
"""dB up or down."""

CHIP, CHIPS = 0.024, 52
"""Seconds of a chip, and chips of a period, in pairs."""

LOWEST, BAND, BANDS = 250.0, 125.0, 60
"""Hz where the tag begins, Hz of a band, and how many there are."""

RATE = 16_000
"""Hz at which it is looked for."""

SHORTEST = 0.5
"""Seconds below which nothing can be told."""

MISTAKE = 1e-4
"""Probability of seeing a tag in a recording that has none."""

_STEP, _WINDOW = 0.006, 0.024
_PER_CHIP = round(CHIP / _STEP)
_PERIOD = CHIPS * _PER_CHIP
_BLOCK = 2000
"""Frames that are transformed at once."""

_DECOYS = range(1001, 1033)
"""Keys of patterns that nothing carries: what they find tells what chance finds."""

_LOOK, _EVERY = _PERIOD, _PERIOD // 4
"""Frames of a stretch in which a tag is looked for apart, and from one to the next."""


@dataclass(frozen=True)
class Found:
    """What was found in a recording.

    Attributes:
        score: how far the best match with the pattern stands above chance, in standard deviations.
        p: the probability that chance does as well anywhere in the recording.
        spans: stretches of 1.25 s and more that carry the tag, (start, end) in seconds.
        reason: why nothing can be told, or None.
    """

    score: float
    p: float
    spans: tuple[tuple[float, float], ...] = ()
    reason: str | None = None

    @property
    def present(self) -> bool:
        """Whether the recording carries the tag, or a part of it does."""
        return self.reason is None and self.p < MISTAKE

    def info(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "present": self.present, "score": round(self.score, 2), "p": self.p, "reason": self.reason,
            "spans": [[round(start, 3), round(end, 3)] for start, end in self.spans],
        }  # fmt: skip


def embed(audio: Audio, *, key: int = KEY, strength: float = STRENGTH) -> Audio:
    """The sound with the tag in it, as long as it was; silence stays silence. The same sound gives the same samples.

    What would pass full scale, and did not before, makes the whole softer by as much, so that nothing is clipped.

    Args:
        audio: of any rate of 8 kHz or more; each channel gets the same pattern.
        key: of the pattern; ``detect`` looks for ``KEY`` alone.
        strength: dB.
    """
    samples = audio.samples if audio.samples.ndim == 2 else audio.samples[:, None]
    tagged = np.stack([_tagged(channel, audio.sample_rate, key, strength) for channel in samples.T], 1)
    most, peak = max(1.0, float(np.abs(samples).max(initial=0.0))), float(np.abs(tagged).max(initial=0.0))
    if peak > most:
        # Rounding may land one step above.
        tagged = (tagged * (most / peak)).clip(-most, most).astype(np.float32)
    return replace(audio, samples=np.ascontiguousarray(tagged if audio.samples.ndim == 2 else tagged[:, 0]))


def detect(audio: Audio) -> Found:
    """Look for the tag in a whole recording and in stretches of 1.25 s of it.

    The pattern is tried at every offset. How well patterns that nothing carries do in the same sound tells how well
    chance does, and how often it is tried is counted in.

    Args:
        audio: of any rate, length and number of channels.
    """
    if audio.seconds < SHORTEST:
        return Found(0.0, 1.0, (), f"{audio.seconds:.2f} s are too short to tell, it takes {SHORTEST:g} s")
    samples = resample(audio.mono(), RATE).samples
    if not np.abs(samples).max(initial=0.0) > 0:
        return Found(0.0, 1.0, (), "the recording is silent")
    white = _whitened(_tiles(samples))
    stretches = list(_stretches(len(white)))
    tests = _PERIOD / 2 * (1 + len(stretches))
    best = _match(white)
    carrying = []
    for start, end in stretches:
        score = _match(white[start:end])
        best = max(best, score)
        if tests * _chance(score) < MISTAKE:
            carrying.append((start, end))
    p = min(1.0, tests * _chance(best))
    spans = _joined(carrying)
    if not spans and p < MISTAKE:
        # Only all of it together is enough.
        spans = [(0, len(white))]
    return Found(best, p, tuple((start * _STEP, min(audio.seconds, end * _STEP + _WINDOW)) for start, end in spans))


@lru_cache(maxsize=64)
def pattern(key: int = KEY) -> Array:
    """(CHIPS, BANDS) of ±1; every second chip is the one before turned over."""
    count = CHIPS // 2 * BANDS
    digest = hashlib.shake_256(f"flowtts tag {key}".encode()).digest((count + 7) // 8)
    bits = np.unpackbits(np.frombuffer(digest, np.uint8))[:count].reshape(CHIPS // 2, BANDS) * 2.0 - 1
    return np.stack([bits, -bits], 1).reshape(CHIPS, BANDS)


def _tagged(samples: Samples, rate: int, key: int, strength: float) -> Samples:
    """One channel: what the tag adds is made of frames that overlap by three quarters."""
    hop = round(_STEP * rate)
    parts = round(_WINDOW / _STEP)
    size = hop * parts
    window = np.sqrt(_hann(size))
    weight = np.square(window).reshape(parts, hop).sum(0)
    padded = np.pad(samples.astype(np.float64), (size, 2 * size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    hertz = np.fft.rfftfreq(size, 1 / rate)
    change = np.zeros((len(frames) + parts - 1, hop))
    for first in range(0, len(frames), _BLOCK):
        some = frames[first : first + _BLOCK]
        # Frames before the first sample stand for the padding.
        times = ((np.arange(first, first + len(some)) * hop) + size / 2 - size) / rate
        gains = _gains(times, hertz, key, strength)
        moved = np.fft.irfft(np.fft.rfft(some * window) * gains, n=size) * window
        for part in range(parts):
            change[first + part : first + part + len(some)] += moved[:, part * hop : (part + 1) * hop]
    added = (change / weight).ravel()[size : size + len(samples)]
    made: Samples = (samples + added).astype(np.float32)
    return made


def _gains(times: Array, hertz: Array, key: int, strength: float) -> Array:
    """(T, F) what magnitudes are changed by, as a share of them: the pattern, its chips joined smoothly."""
    bits = pattern(key)
    place = times / CHIP - 0.5
    first = np.floor(place).astype(int)
    share = (0.5 - 0.5 * np.cos(np.pi * np.clip((place - first - 0.5) * 2 + 0.5, 0, 1)))[:, None]
    smooth = bits[first % CHIPS] * (1 - share) + bits[(first + 1) % CHIPS] * share
    bands = _bands(hertz)
    inside = bands >= 0
    found = np.zeros((len(times), len(hertz)))
    found[:, inside] = 10 ** (strength * smooth[:, bands[inside]] / 20) - 1
    return found


def _bands(hertz: Array) -> NDArray[np.int64]:
    """The band of each frequency, or -1."""
    bands = np.floor((hertz - LOWEST) / BAND).astype(np.int64)
    return np.where((bands >= 0) & (bands < BANDS), bands, -1)


def _hann(size: int) -> Array:
    return 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)


def _tiles(samples: Samples) -> Array:
    """(T, BANDS) levels in dB of samples at ``RATE``."""
    hop, size = round(_STEP * RATE), round(_WINDOW * RATE)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), size)[::hop]
    # Zeros behind a frame until a band has two bins.
    whole = size * 2
    while RATE / whole > BAND / 2:
        whole *= 2
    bands = _bands(np.fft.rfftfreq(whole, 1 / RATE))
    inside = np.flatnonzero(bands >= 0)
    sums = np.zeros((len(inside), BANDS))
    sums[np.arange(len(inside)), bands[inside]] = 1
    window = _hann(size)
    powers = [
        np.square(np.abs(np.fft.rfft(frames[i : i + _BLOCK] * window, n=whole)[:, inside])) @ (sums / sums.sum(0))
        for i in range(0, len(frames), _BLOCK)
    ]
    levels: Array = 10 * np.log10(np.concatenate(powers) + 1e-12)
    return levels


def _whitened(levels: Array) -> Array:
    """What a tag could have done to (T, BANDS) levels, each tile in proportion to what it would tell.

    Changes at the pace of chips, less those of the neighbouring bands, over the variance that such changes have there;
    nothing where there is but background noise, which may have come later.
    """
    levels = np.maximum(levels, levels.max() - 70)
    wide, near = _bell(0.016), _bell(0.007)
    kernel = -wide
    middle = len(wide) // 2
    kernel[middle - len(near) // 2 : middle + len(near) // 2 + 1] += near
    changes = _filtered(_filtered(levels, kernel, 0), np.array([-0.1, -0.2, 0.6, -0.2, -0.1]), 1)
    variance = _filtered(_filtered(np.square(changes), _box(6 * _PER_CHIP + 1), 0), _box(5), 1)
    power = 10 ** (levels / 10)
    calm = np.quantile(_filtered(power, _box(17), 0), 0.1, axis=0)
    speech = np.clip(1 - 2 * calm / _filtered(power, _box(5), 0), 0, 1)
    limits = 2.5 * np.sqrt(variance)
    found: Array = speech * np.clip(changes, -limits, limits) / (variance + 0.05 * np.median(variance) + 1e-9)
    return found


def _bell(seconds: float) -> Array:
    half = math.ceil(3 * seconds / _STEP)
    made = np.exp(-np.square(np.arange(-half, half + 1) * _STEP / seconds) / 2)
    whole: Array = made / made.sum()
    return whole


def _box(size: int) -> Array:
    return np.full(size, 1 / size)


def _filtered(x: Array, kernel: Array, axis: int) -> Array:
    """A convolution with a symmetric kernel of odd size, the edges held."""
    half = len(kernel) // 2
    padded = np.pad(x, [(half, half) if one == axis else (0, 0) for one in (0, 1)], mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=axis)
    found: Array = views @ kernel
    return found


@lru_cache(maxsize=1)
def _patterns() -> NDArray[np.complex128]:
    """(1 + decoys, frequencies, BANDS) conjugate spectra over a period, the true one first."""
    whole = [np.repeat(pattern(key), _PER_CHIP, axis=0) for key in (KEY, *_DECOYS)]
    return np.conj(np.fft.rfft(np.stack(whole), axis=1))


def _match(white: Array) -> float:
    """How well the pattern fits at its best offset, in standard deviations of what decoys do at all of theirs."""
    periods = -(-len(white) // _PERIOD)
    folded = np.pad(white, ((0, periods * _PERIOD - len(white)), (0, 0))).reshape(periods, _PERIOD, BANDS).sum(0)
    found = np.fft.irfft((np.fft.rfft(folded, axis=0) * _patterns()).sum(-1), n=_PERIOD, axis=-1)
    chance = float(np.sqrt(np.mean(np.square(found[1:]))))
    return float(found[0].max()) / chance if chance > 0 else 0.0


def _chance(score: float) -> float:
    """That a normal variable passes a score."""
    return 0.5 * math.erfc(score / math.sqrt(2))


def _stretches(count: int) -> Iterator[tuple[int, int]]:
    """Stretches of a recording that is longer than one."""
    if count > _LOOK:
        starts = range(0, count - _LOOK + 1, _EVERY)
        yield from ((start, start + _LOOK) for start in starts)
        if starts[-1] + _LOOK < count:
            yield count - _LOOK, count


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found
