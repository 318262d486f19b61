"""Where and how two sounds are joined: the quiet place, the lag that brings them into phase, and the cross-fade."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowtts.edit.spectrum import Real, decibels

_LONG, _SHORT = 0.020, 0.008
"""Seconds of a cross-fade in silence or noise, and in speech, where a long one would sound like two voices."""

LAG = 0.008
"""Seconds by which made sound may be moved: a period of a low voice."""

RELATED = 0.4
"""Correlation from which on two sounds are taken to have a common phase."""

_CANDIDATES = 8
"""Places that are tried for a joint."""

_APART = 0.010
"""Seconds between them."""

_QUIET = 30.0
"""Decibels below speech at which phases no longer matter."""


@dataclass(frozen=True)
class Place:
    """A stretch of context to fade in.

    Attributes:
        start: its first sample, counted in the context.
        length: samples.
        quiet: whether there is nothing but silence.
        widest: first sample and length of the longest fade around the same place.
        cost: how much worse than the quietest place, dB.
    """

    start: int
    length: int
    quiet: bool
    widest: tuple[int, int]
    cost: float = 0.0


def places(original: Real, made: Real, sample_rate: int, *, near_end: bool) -> list[Place]:
    """Quiet places for a fade in a context that both sounds share, the quietest first, at least 10 ms apart.

    Args:
        original: (n,) the recording.
        made: (n,) the made sound of the same stretch.
        sample_rate: Hz.
        near_end: whether the new stretch follows (True) or comes before (False); of two places that are as quiet, the
            nearer one is taken.
    """
    size = len(original)
    if size == 0:
        return [Place(0, 0, True, (0, 0))]
    reach = min(round(0.12 * sample_rate) + round(_LONG * sample_rate), size)
    first = size - reach if near_end else 0
    longest = min(round(_LONG * sample_rate), reach)
    loudness = np.maximum(_moving(original**2, longest), _moving(made**2, longest))
    apart = np.abs(decibels(_moving(original**2, longest)) - decibels(_moving(made**2, longest)))
    starts = np.arange(first, first + reach - longest + 1)
    distance = (size - longest - starts if near_end else starts) / (0.12 * sample_rate)
    # 60 dB below the loudest all is silence.
    floor = 1e-6 * float(loudness.max()) + 1e-20
    cost = decibels(loudness[starts] + floor) + 0.25 * np.minimum(apart[starts], 20.0) + 3.0 * distance
    speech = float(np.quantile(loudness, 0.9))
    found: list[Place] = []
    for start in starts[cost.argsort(kind="stable")].tolist():
        if any(abs(start - other.widest[0]) < _APART * sample_rate for other in found):
            continue
        quiet = bool(loudness[start] <= speech * 10 ** (-_QUIET / 10) + 1e-12)
        length = longest if quiet else min(round(_SHORT * sample_rate), longest)
        found.append(
            Place(
                start + (longest - length) // 2,
                length,
                quiet,
                (start, longest),
                float(cost[start - first] - cost.min()),
            )
        )
        if len(found) == _CANDIDATES:
            break
    return found


def likeness(original: Real, made: Real, start: int, at: int, length: int, sample_rate: int) -> tuple[int, Real]:
    """How alike two sounds are at every lag of at most 8 ms: normalised cross-correlation.

    Args:
        original: (n,) the recording.
        made: (m,) the made sound.
        start: of the fade in ``original``.
        at: the sample of ``made`` that belongs to ``start``.
        length: of the fade.
        sample_rate: Hz.

    Returns:
        The first lag, at most zero, and the correlations from there on: ``made[at + lag + i]`` with
        ``original[start + i]``.
    """
    # At least 12 ms are compared: a few milliseconds fit many places.
    margin = max(0, round(0.012 * sample_rate) - length) // 2
    margin = min(margin, start, len(original) - start - length, at, max(0, len(made) - at - length))
    start, at, length = start - margin, at - margin, length + 2 * margin
    reach = round(LAG * sample_rate)
    low, high = -min(reach, at), min(reach, len(made) - at - length)
    if high < 0 or length == 0:
        return 0, np.zeros(1)
    wanted = original[start : start + length] - original[start : start + length].mean()
    heard = made[at + low : at + high + length]
    energies = _moving(heard**2, length) * length - (_moving(heard, length) ** 2) * length
    scale = np.sqrt(np.maximum(energies, 0.0) * (wanted @ wanted))
    products = np.correlate(heard, wanted, mode="valid")
    return low, np.divide(products, scale, out=np.zeros_like(products), where=scale > 1e-12)


def best(low: int, scores: Real, sample_rate: int) -> int:
    """The lag with the best score; of lags that fit almost as well, which voices have every period, the smallest.

    None if no score says that the sounds are related.
    """
    if scores.max() < RELATED:
        return 0
    lags = low + np.arange(len(scores))
    return int(lags[int((scores - 0.1 * np.abs(lags) / (LAG * sample_rate)).argmax())])


def crossfade(old: Real, new: Real) -> Real:
    """From one sound to another, (n, channels) each, at constant power whatever their correlation.

    With weights a and b the sum has power a² + b² + 2ρab: equal powers for unrelated sounds, equal gains for equal
    ones. Dividing by the root of it keeps the power in either case and between.
    """
    count = len(old)
    if count == 0:
        return new
    angle = (0.5 * np.pi * (np.arange(count) + 0.5) / count)[:, None]
    fall, rise = np.cos(angle), np.sin(angle)
    energy = np.sqrt((old**2).sum(axis=0) * (new**2).sum(axis=0))
    product = (old * new).sum(axis=0)
    alike = np.clip(np.divide(product, energy, out=np.zeros_like(product), where=energy > 1e-20), -0.5, 1.0)
    return np.asarray((fall * old + rise * new) / np.sqrt(1.0 + 2.0 * alike * fall * rise))


def resize(samples: Real, change: int, start: int, end: int, sample_rate: int) -> Real:
    """``change`` samples longer (or shorter), the repetition (or gap) hidden in the quietest place of [start, end).

    Args:
        samples: (n, channels).
        change: samples to add.
        start: first sample that may change.
        end: one past the last.
        sample_rate: Hz.
    """
    if change == 0:
        return samples
    total, size = len(samples), abs(change)
    if change < 0 and total <= size:
        return samples[:0]
    fade = min(round(0.010 * sample_rate), max(total - size, 0))
    # From ``cut`` on, the output continues with what lies ``change`` samples earlier.
    lowest, highest = max(0, change), min(total - fade, total - fade + change)
    if highest < lowest:
        return np.resize(samples, (total + change, samples.shape[1]))
    low, high = (min(max(value, lowest), highest) for value in (start, max(start, end - fade)))
    power = (samples**2).sum(axis=1)
    power = _moving(power, fade) if fade else np.append(power, power[-1])
    cuts = np.arange(low, max(high, low) + 1)
    cut = int(cuts[int(np.maximum(power[cuts], power[cuts - change]).argmin())])
    mixed = crossfade(samples[cut : cut + fade], samples[cut - change : cut - change + fade])
    return np.concatenate([samples[:cut], mixed, samples[cut - change + fade :]])


def _moving(values: Real, size: int) -> Real:
    """The mean of every ``size`` neighbours, (n,) -> (n - size + 1,)."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((sums[size:] - sums[:-size]) / size)
