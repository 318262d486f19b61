"""Transient noise made to order: bursts of seven kinds and their mixing into recordings at known places.

Used to fit and measure ``flowtts.edit.noise.find_noise`` (``find_noise.py``) and to measure denoising (``denoise.py``).
Everything is synthetic, or the speech of others, so that it needs no collection of sounds; parameters come from the
generator alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowtts.audio.active import active_rms
from flowtts.types import Audio, Samples

RATE = 16_000
"""Hz at which noise is made and mixed."""

Span = tuple[float, float]
"""Seconds."""

Rng = np.random.Generator
Wave = NDArray[np.float64]

_SHORTEST = 160
"""Samples of a burst."""

_DECAYED = 10 ** (-20 / 20)
"""Where the envelope of a sound that dies away has fallen to this part of its peak, the sound counts as over."""


@dataclass(frozen=True, eq=False)
class Mixed:
    """A recording with noise in known places.

    Attributes:
        audio: mono, at ``RATE``.
        spans: where the noise is, ordered, not touching.
    """

    audio: Audio
    spans: tuple[Span, ...]


def coloured(rng: Rng, count: int, slope: float) -> Wave:
    """Gaussian noise (count,) of unit power whose power falls with frequency as f ** slope."""
    size = max(count, 64)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / RATE), 20.0)
    return _unit(np.fft.irfft(spectrum * frequency ** (slope / 2), size)[:count])


def band(wave: NDArray[np.floating[Any]], low: float, high: float) -> Wave:
    """What lies between two frequencies, Hz, with skirts of a third of an octave or so."""
    spectrum = np.fft.rfft(wave)
    frequency = np.maximum(np.fft.rfftfreq(len(wave), 1 / RATE), 1.0)
    keep = 1 / (1 + (low / frequency) ** 8) / (1 + (frequency / high) ** 8)
    return np.asarray(np.fft.irfft(spectrum * keep, len(wave)))


def hiss(rng: Rng, count: int) -> Wave:
    """A burst of coloured, perhaps band-limited and fluttering noise: steam, wind, static, a fan."""
    wave = coloured(rng, count, rng.uniform(-2.0, 1.0))
    if rng.random() < 0.5:
        low = np.exp(rng.uniform(np.log(50), np.log(3000)))
        wave = band(wave, low, min(7900.0, low * rng.uniform(2, 10)))
    if rng.random() < 0.4:
        wave *= 1 + rng.uniform(0.3, 0.9) * np.sin(2 * np.pi * rng.uniform(2, 25) * _time(count) + rng.uniform(0, 6.28))
    return _shaped(rng, wave)


def impact(rng: Rng, count: int) -> Wave:
    """Blows that ring out: claps, knocks, slams, keys; one or several, at random distances below 0.25 s."""
    wave = np.zeros(count)
    decay = np.exp(rng.uniform(np.log(0.004), np.log(0.12)))
    centre = np.exp(rng.uniform(np.log(80), np.log(5000)))
    at = 0
    while at < count:
        size = min(count - at, max(32, int(decay * 7 * RATE)))
        age = _time(size)
        blow = band(rng.standard_normal(max(size, 64)), centre / rng.uniform(1.5, 6), min(7900.0, centre * 4))[:size]
        for _ in range(rng.integers(0, 4)):
            mode = centre * rng.uniform(0.5, 2.5)
            blow += rng.uniform(0, 0.7) * np.sin(2 * np.pi * mode * age) * np.exp(-age / (decay * rng.uniform(0.5, 2)))
        wave[at : at + size] += rng.uniform(0.5, 1.0) * blow * np.exp(-age / decay) * np.minimum(1, age / 0.0005)
        at += int((decay * rng.uniform(1.5, 2.3) + rng.uniform(0.0, 0.12)) * RATE)
    return wave


def tone(rng: Rng, count: int) -> Wave:
    """Beeps, horns, sirens and chirps: harmonics that hold, glide or warble."""
    start = np.exp(rng.uniform(np.log(150), np.log(3500)))
    end = start * rng.choice([1.0, rng.uniform(0.4, 2.0)])
    pitch = np.geomspace(start, end, count)
    if rng.random() < 0.4:
        pitch *= 1 + rng.uniform(0.01, 0.25) * np.sin(2 * np.pi * rng.uniform(1, 12) * _time(count))
    wave = _harmonics(rng, pitch, int(rng.integers(1, 12)), rng.uniform(0.3, 2.0))
    if rng.random() < 0.3:
        beat = rng.uniform(3, 12)
        wave *= (np.sin(2 * np.pi * beat * _time(count)) > -0.6).astype(float)
    return _shaped(rng, wave + rng.uniform(0, 0.05) * coloured(rng, count, 0.0))


def bark(rng: Rng, count: int) -> Wave:
    """Barks, one after another: short harmonic bursts with a falling pitch and hoarse noise."""
    wave = np.zeros(count)
    base, rough = np.exp(rng.uniform(np.log(180), np.log(900))), rng.uniform(0.2, 0.8)
    formant = rng.uniform(500, 1800)
    at = 0
    while at < count:
        size = min(count - at, int(rng.uniform(0.1, 0.35) * RATE))
        if size < 200:
            break
        place = np.linspace(0, 1, size)
        pitch = base * rng.uniform(0.9, 1.1) * (0.75 + 0.5 * np.sin(np.pi * place**0.6))
        cry = _harmonics(rng, pitch, 14, 0.8) + rough * coloured(rng, size, -0.5)
        cry = band(cry, formant / 2.5, formant * 2.5) * np.sin(np.pi * place**0.5) ** 0.7
        wave[at : at + size] += cry * rng.uniform(0.7, 1.0)
        at += size + int(rng.uniform(0.01, 0.09) * RATE)
    return wave


def hum(rng: Rng, count: int) -> Wave:
    """Engines, drills and shavers: a low buzz with an unsteady speed, and its rumble."""
    wander = np.cumsum(coloured(rng, count, -2.0)) / RATE
    pitch = np.exp(rng.uniform(np.log(25), np.log(220))) * (1 + rng.uniform(0.0, 0.15) * np.tanh(wander * 20))
    pitch *= np.geomspace(1.0, rng.uniform(0.6, 1.7), count)
    wave = _harmonics(rng, pitch, int(rng.integers(8, 40)), rng.uniform(0.2, 1.2))
    return _shaped(rng, wave + rng.uniform(0.1, 1.0) * coloured(rng, count, rng.uniform(-2.0, -0.5)))


def rustle(rng: Rng, count: int) -> Wave:
    """Paper, plastic, dishes, rain: many tiny crackles in strokes."""
    dense = rng.uniform(80, 1500)
    strokes = band(np.abs(coloured(rng, count, -1.0)), 0.1, rng.uniform(3, 15))
    clicks = (rng.random(count) < dense / RATE) * rng.standard_normal(count) * (0.2 + np.maximum(strokes, 0))
    low = np.exp(rng.uniform(np.log(300), np.log(3500)))
    length = int(rng.uniform(0.002, 0.012) * RATE)
    grain = band(rng.standard_normal(max(length, 64)), low, 7900.0)[:length]
    wave = np.convolve(clicks, grain * np.exp(-np.linspace(0, 5, length)))[:count]
    return _shaped(rng, _unit(wave) + rng.uniform(0, 0.3) * band(coloured(rng, count, 0.0), low, 7900.0))


def babble(rng: Rng, count: int, others: Sequence[Samples]) -> Wave:
    """Three to seven of the recordings ``others`` (RATE, longer ones preferred) talking at once."""
    wave = np.zeros(count)
    for chosen in rng.choice(len(others), min(len(others), int(rng.integers(3, 8))), replace=False):
        voice = others[chosen].astype(np.float64)
        level = active_rms(others[chosen], RATE)
        offset = int(rng.integers(0, max(1, len(voice) - count)))
        part = np.resize(voice[offset:], count) if len(voice) - offset < count else voice[offset : offset + count]
        wave += part / max(level, 1e-6) * rng.uniform(0.6, 1.0)
    return _shaped(rng, wave)


SYNTHETIC: Mapping[str, Callable[[Rng, int], Wave]] = {
    "hiss": hiss, "impact": impact, "tone": tone, "bark": bark, "hum": hum, "rustle": rustle,
}  # fmt: skip
KINDS: tuple[str, ...] = (*SYNTHETIC, "babble")


def burst(kind: str, rng: Rng, seconds: float, others: Sequence[Samples] = ()) -> Wave:
    """One burst of unit power (N,), N = ``seconds`` or a little less where it dies away earlier.

    Raises:
        ValueError: babble without other recordings, or an unknown kind.
    """
    count = max(_SHORTEST, round(seconds * RATE))
    if kind == "babble":
        if not others:
            raise ValueError("babble needs recordings of other speakers")
        return _unit(babble(rng, count, others))
    if kind not in SYNTHETIC:
        raise ValueError(f"no kind of noise {kind!r}; there are {', '.join(KINDS)}")
    wave = SYNTHETIC[kind](rng, count)
    loud = np.flatnonzero(np.abs(wave) >= _DECAYED * np.abs(wave).max())
    return _unit(wave[: max(_SHORTEST, int(loud[-1]) + 1)])


def places(rng: Rng, seconds: float, share: float, shortest: float = 0.3, longest: float = 2.0) -> list[Span]:
    """Random places that cover exactly ``share`` of a recording.

    As many stretches as their mean length asks for; what is left between and around them is shared out at random.

    Args:
        rng: numpy generator.
        seconds: length of the recording.
        share: of its time, inside (0, 1).
        shortest: of a place, seconds.
        longest: of a place, seconds.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be inside (0, 1), not {share}")
    covered = share * seconds
    count = max(1, round(covered / rng.uniform(shortest, longest)), int(np.ceil(covered / longest)))
    count = max(1, min(count, int(covered / shortest)))
    lengths = shortest + rng.dirichlet(np.full(count, 3.0)) * (covered - count * shortest)
    gaps = rng.dirichlet(np.full(count + 1, 1.5)) * (seconds - covered)
    starts = np.cumsum(gaps[:-1]) + np.concatenate([[0.0], np.cumsum(lengths[:-1])])
    return [(float(a), float(a + n)) for a, n in zip(starts, lengths, strict=True)]


def mix(
    speech: Audio,
    spans: Sequence[Span],
    kinds: Sequence[str],
    snr: float,
    rng: Rng,
    others: Sequence[Samples] = (),
    *,
    fill: bool = True,
) -> Mixed:
    """Noise over given places of a recording.

    The signal-to-noise ratio compares the recording's active speech level (pauses left out) with the mean power of
    each burst. A sum beyond full scale is scaled down as a whole, as an engineer would set the level; nothing clips.

    Args:
        speech: mono, at ``RATE``.
        spans: seconds.
        kinds: of ``KINDS``; each place gets one of them.
        snr: dB; -10 is noise 10 dB louder than the speech.
        rng: numpy generator.
        others: recordings for babble, at ``RATE``.
        fill: bursts that die away early are repeated until the place is full; otherwise it ends with them.
    """
    if speech.sample_rate != RATE or speech.samples.ndim != 1:
        raise ValueError(f"mixing needs mono audio at {RATE} Hz")
    level = active_rms(speech.samples, RATE) * 10 ** (-snr / 20)
    noise = np.zeros(len(speech.samples))
    covered: list[Span] = []
    for start, end in spans:
        kind = str(rng.choice(kinds))
        first, last = round(start * RATE), min(round(end * RATE), len(noise))
        at = first
        while at < last:
            wave = burst(kind, rng, (last - at) / RATE, others)[: last - at]
            noise[at : at + len(wave)] = level * wave
            at += len(wave)
            if not fill:
                break
            if last - at < _SHORTEST:
                at = last
        covered.append((first / RATE, at / RATE))
    total = speech.samples + noise
    total /= max(1.0, float(np.abs(total).max(initial=0.0)) / 0.999)
    return Mixed(Audio(total.astype(np.float32), RATE), tuple(covered))


def overlap(spans: Sequence[Span], frames: int, step: float) -> NDArray[np.bool_]:
    """(frames,) True where the middle of a frame of ``step`` seconds lies in a span."""
    middles = (np.arange(frames) + 0.5) * step
    inside = np.zeros(frames, dtype=bool)
    for start, end in spans:
        inside |= (middles >= start) & (middles < end)
    return inside


def _time(count: int) -> Wave:
    return np.arange(count) / RATE


def _unit(wave: Wave) -> Wave:
    return np.asarray(wave / max(float(np.sqrt(np.mean(np.square(wave)))), 1e-9))


def _shaped(rng: Rng, wave: Wave) -> Wave:
    """With an attack and a release of 2 to 60 ms."""
    for side in (wave, wave[::-1]):
        size = min(len(wave) // 3, int(rng.uniform(0.002, 0.06) * RATE))
        side[:size] *= np.linspace(0, 1, size)
    return wave


def _harmonics(rng: Rng, pitch: Wave, count: int, fall: float) -> Wave:
    """A stack of harmonics below Nyquist over a gliding pitch (N,) Hz; amplitudes fall as h ** -fall, with scatter."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    wave = np.zeros(len(pitch))
    for h in range(1, count + 1):
        audible = pitch * h < RATE / 2 * 0.98
        wave += rng.uniform(0.3, 1.0) * h**-fall * np.sin(h * phase + rng.uniform(0, 6.28)) * audible
    return _unit(wave)
