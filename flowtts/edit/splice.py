"""Made sound joined to a recording, and cuts without new sound.

Only what lies between the two cross-fades changes. They are put where they are least heard, in the kept context that
the vocoder made again beside the new stretch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flowtts.audio import io
from flowtts.edit import joint
from flowtts.edit.joins import discontinuity
from flowtts.edit.match import Side, matched
from flowtts.edit.recording import Patch, Recording, mix
from flowtts.edit.spectrum import Real
from flowtts.types import Audio, Samples

_NEAR = 6.0
"""Seconds on either side that tell how the recording sounds."""

_COMPARED = 1.5
"""Seconds of context on either side in which made sound and recording are compared."""

_HEARD = 0.12
"""Seconds on either side of a joint that decide how abrupt it is."""

_COLOUR, _LEVEL, _CLICK = 8.0, 20.0, -1.3
"""Decibels of discontinuity that 19 of 20 boundaries between words stay below (speechocean762)."""

_UNHEARD, _LOUDER = 0.5, 15.0
"""A joint half as abrupt as that is as good as none; beyond it, as much again is as bad as a place 15 dB louder."""

_DECLICK = 0.005
"""Seconds of cross-fade where there is no context to fade in."""


@dataclass(frozen=True, eq=False)
class Made:
    """What the vocoder made, context included.

    Attributes:
        audio: mono, at the model's rate: ``lead`` seconds of kept context, the new stretch, ``tail`` seconds of kept
            context.
        lead: seconds with the content and timing of the recording just before the edit.
        tail: seconds with those of the recording just after it.
    """

    audio: Audio
    lead: float
    tail: float


@dataclass(frozen=True, eq=False)
class _Edge:
    """One joint: where the fade lies in the recording and which sample of the made sound belongs to its first.

    ``lags`` are what the made sound may be moved by, from the first on, with the likeness of each.
    """

    at: int
    made: int
    length: int
    low: int
    lags: Real


def splice(
    recording: Recording, before: float, after: float, made: Made, *, keep_length: bool, rng: np.random.Generator
) -> Patch:
    """Replace [before, after) of a recording by made sound.

    Args:
        recording: the recording.
        before: seconds at which the kept sound before the edit ends.
        after: seconds at which the kept sound after it begins.
        made: the new sound with its context.
        keep_length: whether the output must be exactly as long as the recording.
        rng: of the noise that room tone and bandwidth need.

    Returns:
        The patch; its fades lie in the kept context. Without context on a side it begins at ``before`` or ends at
        ``after`` sharp, with a fade of 5 ms into the new sound unless the recording begins or ends there.

    Raises:
        ValueError: the times are not inside the recording, or the made sound is shorter than its context.
        UserError: the recording cannot be read there.
    """
    rate = recording.sample_rate
    start, end = _inside(recording, before, after)
    sound = io.resample(made.audio.mono(), rate).samples.astype(np.float64)
    lead, tail = round(made.lead * rate), round(made.tail * rate)
    if min(lead, tail) < 0 or lead + tail > len(sound) + round(0.02 * rate):
        raise ValueError(
            f"{made.audio.seconds:.3f} s cannot hold {made.lead:.3f} s of lead and {made.tail:.3f} s of tail"
        )
    # Context that the recording does not have is of no use; nor is what rounding left of none.
    first, last = max(0, lead - start), max(0, tail - (recording.length - end))
    sound = sound[first : len(sound) - last]
    lead, tail = lead - first, min(tail - last, max(0, len(sound) - lead + first))
    if keep_length:
        inner = len(sound) - lead - tail
        change = (end - start) - inner
        sound = joint.resize(sound[:, None], change, lead, lead + inner, rate)[:, 0]
    compared = round(_COMPARED * rate)
    left, right = recording.read(start - lead, start), recording.read(end, end + tail)
    sides = (
        Side(mix(left[-compared:]).astype(np.float64), sound[max(0, lead - compared) : lead]),
        Side(mix(right[:compared]).astype(np.float64), sound[len(sound) - tail :][:compared]),
    )
    pieces = _pieces(recording, start, end)
    ready = matched(sound, (lead, len(sound) - tail), *sides, pieces, rate, rng)
    return _joined(recording, start, end, ready, lead, tail, keep_length)


def join_cut(recording: Recording, before: float, after: float) -> Patch:
    """Drop [before, after) and join what remains, original to original.

    Either end may move by up to 15 ms to where it is quiet, and the end by up to 8 ms more to be in phase.

    Raises:
        ValueError: the times are not inside the recording.
        UserError: the recording cannot be read there.
    """
    rate = recording.sample_rate
    start, end = _inside(recording, before, after)
    if start == end or start == 0 or end == recording.length:
        return Patch(start, end, np.zeros((0, recording.channels), np.float32), 0, 0)
    half = min(round(0.008 * rate), start, recording.length - end)
    reach = min(round(0.015 * rate), max(0, (end - start) // 2 - half))
    start, end = (_calm(recording, at, reach, half) for at in (start, end))
    wide = round(0.016 * rate)
    low, high = max(0, end - half - wide), min(recording.length, end + half + wide)
    old, near = recording.read(start - half, start + half), recording.read(low, high)
    one, other = mix(old).astype(np.float64), mix(near).astype(np.float64)
    # Where nothing is heard nothing needs to be in phase.
    lag = 0
    if np.square(one).mean() > 1e-3 * np.square(other).max():
        lag = max(joint.best(*joint.likeness(one, other, 0, end - half - low, 2 * half, rate), rate), start - end)
    new = recording.read(end - half + lag, end + half + lag)
    samples = joint.crossfade(old.astype(np.float64), new.astype(np.float64)).astype(np.float32)
    return Patch(start - half, end + half + lag, samples, 2 * half, 0)


def _inside(recording: Recording, before: float, after: float) -> tuple[int, int]:
    start, end = round(before * recording.sample_rate), round(after * recording.sample_rate)
    # Times that were rounded to frames may lie a little beyond the end.
    limit = recording.length + round(0.02 * recording.sample_rate)
    if not 0 <= start <= end <= limit:
        raise ValueError(f"[{before:.3f} s, {after:.3f} s) is not inside a recording of {recording.seconds:.3f} s")
    return min(start, recording.length), min(end, recording.length)


def _calm(recording: Recording, at: int, reach: int, half: int) -> int:
    """The quietest place within ``reach`` of ``at``; ``at`` itself where all are alike."""
    low, high = max(half, at - reach), min(recording.length - half, at + reach)
    if high <= low:
        return at
    power = np.square(recording.read(low - half, high + half), dtype=np.float64).sum(axis=1)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    means = sums[2 * half :] - sums[: len(sums) - 2 * half]
    places = np.arange(low, high + 1)
    level = 10 * np.log10(means + 1e-3 * means.max() + 1e-20)
    return int(places[int((level + 2.0 * np.abs(places - at) / reach).argmin())])


def _pieces(recording: Recording, start: int, end: int) -> list[Samples]:
    """The recording near by; what is to be replaced only where there is little else, for it may be noise."""
    near = round(_NEAR * recording.sample_rate)
    pieces = [recording.read(max(0, start - near), start), recording.read(end, min(recording.length, end + near))]
    if sum(map(len, pieces)) < recording.sample_rate:
        middle = min(start + near, end)
        pieces += [recording.read(start, middle), recording.read(max(middle, end - near), end)]
    return pieces


def _joined(
    recording: Recording, start: int, end: int, ready: Real, lead: int, tail: int, keep_length: bool
) -> Patch:  # fmt: skip
    """Choose the joints and fade: ``ready`` is (n, channels), at the recording's rate and in its manner."""
    sound = mix(ready.astype(np.float32)).astype(np.float64)
    left = _left(recording, start, sound, lead)
    right = _right(recording, end, sound, tail)
    one, other = _lags(left, right, recording.sample_rate, keep_length)
    if keep_length and other != one:
        ready = joint.resize(ready, one - other, lead, len(ready) - tail, recording.sample_rate)
        # What follows the new stretch has moved by the difference, which takes the right joint back to its lag.
        right = _Edge(right.at, right.made + one - other, right.length, right.low, right.lags)
    first, last = left.made + one, right.made + right.length + other
    body = ready[max(0, first) : max(0, last)]
    fade_in, fade_out = left.length, right.length
    if fade_in + fade_out > len(body):
        fade_in, fade_out = min(fade_in, len(body) // 2), min(fade_out, len(body) // 2)
    close = right.at + right.length
    pieces = [
        joint.crossfade(recording.read(left.at, left.at + fade_in).astype(np.float64), body[:fade_in]),
        body[fade_in : len(body) - fade_out],
        joint.crossfade(
            body[len(body) - fade_out :], recording.read(close - fade_out, close).astype(np.float64)
        ),
    ]  # fmt: skip
    samples = np.clip(np.concatenate(pieces), -1.0, 1.0).astype(np.float32)
    return Patch(left.at, close, samples, fade_in, fade_out)


def _left(recording: Recording, start: int, sound: Real, lead: int) -> _Edge:
    """The joint before the new stretch."""
    least = round(_DECLICK * recording.sample_rate)
    if lead < least:
        length = 0 if start == 0 else min(least, recording.length - start, len(sound) - lead)
        return _Edge(start, lead, length, 0, np.zeros(1))
    original = mix(recording.read(start - lead, start)).astype(np.float64)
    return _edge(original, sound, (start - lead, 0), recording.sample_rate, near_end=True)


def _right(recording: Recording, end: int, sound: Real, tail: int) -> _Edge:
    """The joint after the new stretch."""
    least = round(_DECLICK * recording.sample_rate)
    after = len(sound) - tail
    if tail < least:
        length = 0 if end == recording.length else min(least, end, after)
        return _Edge(end - length, after - length, length, 0, np.zeros(1))
    original = mix(recording.read(end, end + tail)).astype(np.float64)
    return _edge(original, sound, (end, after), recording.sample_rate, near_end=False)


def _edge(original: Real, sound: Real, origins: tuple[int, int], sample_rate: int, *, near_end: bool) -> _Edge:
    """A joint inside a context, which begins at ``origins`` in the recording and in the made sound.

    Of the quiet places the one where the joined sound changes least abruptly: a joint right at the beginning of a
    word, say, would add its own change to that of the word.
    """
    shared = sound[origins[1] : origins[1] + len(original)]
    best, least = None, math.inf
    for found in joint.places(original, shared, sample_rate, near_end=near_end):
        edge = _edge_at(found, original, sound, origins, sample_rate)
        abrupt = _abrupt(edge, original, sound, origins, sample_rate, near_end=near_end)
        cost = max(0.0, abrupt - _UNHEARD) + found.cost / _LOUDER
        if cost < least:
            best, least = edge, cost
    assert best is not None
    return best


def _abrupt(
    edge: _Edge, original: Real, sound: Real, origins: tuple[int, int], sample_rate: int, *, near_end: bool
) -> float:
    """How abruptly the sound would change at a joint, in units of what is common between words."""
    at, made = edge.at - origins[0], edge.made + joint.best(edge.low, edge.lags, sample_rate)
    length, far = edge.length, round(_HEARD * sample_rate)
    sides = ((original, at), (sound, made))
    (first, end), (second, start) = sides if near_end else sides[::-1]
    old, new = first[max(0, end - far) : end + length], second[start : start + length + far]
    shared = len(old) - length
    fade = joint.crossfade(old[shared:, None], new[:length, None])[:, 0]
    heard = Audio(np.concatenate([old[:shared], fade, new[length:]]).astype(np.float32), sample_rate)
    middle = len(old) - length / 2
    try:
        found = discontinuity(heard, middle / sample_rate)
    except ValueError:
        # Too near the end of the recording to be compared with anything.
        return 0.0
    return max(found.spectral / _COLOUR, found.level / _LEVEL, 1 + (found.click - _CLICK) / 6)


def _edge_at(found: joint.Place, original: Real, sound: Real, origins: tuple[int, int], sample_rate: int) -> _Edge:
    """A joint at a place."""
    size = len(original)
    start, length, at = found.start, found.length, origins[1] + found.start
    low, lags = 0, np.zeros(0)
    if not found.quiet:
        low, lags = joint.likeness(original, sound, start, at, length, sample_rate)
    if found.quiet or lags.max() < joint.RELATED:
        # Silence and noise have no phase: a long fade, and free to move along with the other joint.
        start, length = found.widest
        at, reach = origins[1] + start, round(joint.LAG * sample_rate)
        back, forth = min(reach, start), min(reach, size - start - length)
        low, lags = -back, np.zeros(back + forth + 1)
    return _Edge(origins[0] + start, at, length, low, lags)


def _lags(left: _Edge, right: _Edge, sample_rate: int, keep_length: bool) -> tuple[int, int]:
    """By how much the made sound is moved at either joint.

    Both may move together without a change of length. If that suits them badly, and the length must stay, each goes
    its own way and the difference is hidden inside.
    """
    one, other = (joint.best(edge.low, edge.lags, sample_rate) for edge in (left, right))
    if not keep_length:
        return one, other
    low = max(left.low, right.low)
    count = min(left.low + len(left.lags), right.low + len(right.lags)) - low
    scores = left.lags[low - left.low :][:count] + right.lags[low - right.low :][:count]
    lag = joint.best(low, scores, sample_rate)
    apart = left.lags[one - left.low] + right.lags[other - right.low]
    return (lag, lag) if scores[lag - low] > apart - 0.4 else (one, other)
