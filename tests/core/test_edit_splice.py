"""Made sound joined to recordings: closed forms, real voices, and everything that may be missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import flowtts
from flowtts import registry
from flowtts.audio import io
from flowtts.audio.mel import LogMel
from flowtts.edit.recording import Patch, Recording, mix, render
from flowtts.edit.spectrum import Stft
from flowtts.edit.splice import Made, join_cut, splice
from flowtts.types import VOICEBOX_MEL, Audio, Samples

VOICES = Path(flowtts.__file__).parent / "voices"
Signal = NDArray[np.float64]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def opened(samples: Signal, rate: int = 16_000) -> Recording:
    return Recording.open(Audio(samples.astype(np.float32), rate))


def made_of(samples: Signal, lead: float, tail: float, rate: int = 16_000) -> Made:
    return Made(Audio(samples.astype(np.float32), rate), lead, tail)


def level(samples: NDArray[np.float32] | Signal) -> float:
    """Decibels."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20))


def band(samples: NDArray[np.float32] | Signal, rate: int, low: float, high: float) -> float:
    """Decibels between two frequencies."""
    stft = Stft.at(rate)
    power = (np.abs(stft.valid(samples.astype(np.float64))) ** 2).mean(axis=0)
    inside = (stft.frequencies >= low) & (stft.frequencies < high)
    return float(10 * np.log10(power[inside].sum() / stft.size + 1e-20))


def untouched(recording: Recording, patch: Patch) -> bool:
    """Whether everything outside the patch is the recording's."""
    before = recording.read(0, recording.length)
    after = render(recording, [patch]).samples.reshape(-1, recording.channels)
    rest = after[patch.start + len(patch.samples) :]
    return np.array_equal(after[: patch.start], before[: patch.start]) and np.array_equal(rest, before[patch.end :])


@pytest.fixture(scope="module")
def voice() -> Callable[[str], tuple[Samples, Samples]]:
    """Name -> (a shipped recording, what the shipped vocoder makes of its mel), 16 kHz."""
    vocoder = registry.load_vocoder("vocos", VOICEBOX_MEL)
    known: dict[str, tuple[Samples, Samples]] = {}

    def make(name: str) -> tuple[Samples, Samples]:
        if name not in known:
            sound = io.resample(io.read(VOICES / f"{name}.flac").mono(), 16_000).samples
            sound = sound[: len(sound) // 160 * 160]
            with torch.inference_mode():
                again = vocoder.decode(LogMel(VOICEBOX_MEL)(torch.from_numpy(sound)[None]))[0].numpy()
            known[name] = sound, again
        return known[name]

    return make


def context(vocoded: Samples, before: float, after: float, around: float = 1.0) -> Made:
    """A stretch of vocoded sound with ``around`` seconds of context, or as many as there are."""
    total = len(vocoded) / 16_000
    low, high = max(0.0, before - around), min(total, after + around)
    return Made(Audio(vocoded[round(low * 16_000) : round(high * 16_000)], 16_000), before - low, high - after)


# --- closed forms ---


@pytest.mark.parametrize("phase", [0.0, 0.7, 2.0, np.pi, -1.5])
@pytest.mark.parametrize("keep", [True, False])
def test_a_shifted_sine_is_brought_into_phase(phase: float, keep: bool) -> None:
    turn = 2 * np.pi * 200 / 16_000
    recording = opened(0.3 * np.sin(turn * np.arange(48_000)))
    shifted = 0.3 * np.sin(turn * np.arange(16_000, 32_000) + phase)
    patch = splice(recording, 1.3, 1.7, made_of(shifted, 0.3, 0.3), keep_length=keep, rng=generator())
    assert patch.delta == 0 and patch.fade_in > 0 and patch.fade_out > 0 and untouched(recording, patch)
    sound = render(recording, [patch]).samples.astype(np.float64)
    # A sine is the only sound that does as this recursion says; a lag of whole samples leaves 2 % of the phase.
    residue = sound[2:] + sound[:-2] - 2 * np.cos(turn) * sound[1:-1]
    assert np.abs(residue).max() < 0.3 * 0.003
    assert level(sound[patch.start : patch.start + len(patch.samples)]) == pytest.approx(level(sound), abs=0.1)


def test_a_shift_of_the_new_stretch_changes_the_length_by_itself() -> None:
    turn = 2 * np.pi * 200 / 16_000
    recording = opened(0.3 * np.sin(turn * np.arange(48_000)))
    longer = 0.3 * np.sin(turn * np.arange(16_000, 32_000 + 160 + 25))
    patch = splice(recording, 1.3, 1.7, made_of(longer, 0.3, 0.3), keep_length=False, rng=generator())
    # 185 samples more are two periods of 80 and 25, which the lags of both joints take away.
    assert patch.delta % 80 in (0, 1, 79)
    kept = splice(recording, 1.3, 1.7, made_of(longer, 0.3, 0.3), keep_length=True, rng=generator())
    assert kept.delta == 0


def test_the_recording_itself_gives_the_recording(voice: Callable[[str], tuple[Samples, Samples]]) -> None:
    sound, _ = voice("slt")
    recording = opened(sound.astype(np.float64))
    patch = splice(recording, 1.5, 2.3, context(sound, 1.5, 2.3), keep_length=True, rng=generator())
    assert patch.delta == 0
    np.testing.assert_allclose(patch.samples[:, 0], sound[patch.start : patch.end], atol=2e-3)
    assert level(patch.samples[:, 0] - sound[patch.start : patch.end]) < level(sound) - 40


def test_noise_keeps_its_power_through_the_joints() -> None:
    rng, power = generator(), np.zeros(0)
    for _ in range(25):
        recording = opened(0.1 * rng.standard_normal(24_000))
        other = 0.1 * rng.standard_normal(16_000)
        patch = splice(recording, 0.6, 0.9, made_of(other, 0.35, 0.35), keep_length=True, rng=rng)
        power = np.append(power, [level(patch.samples[: patch.fade_in]), level(patch.samples[-patch.fade_out :])])
    assert patch.fade_in == patch.fade_out == 320
    assert 10 * np.log10(np.mean(10 ** (power / 10))) == pytest.approx(-20, abs=0.4)


# --- where the joint lies ---


def test_the_joint_lies_in_the_silence_near_by() -> None:
    rng = generator()
    sound = 0.2 * rng.standard_normal(48_000)
    sound[16_000 - 1200 : 16_000 - 700] *= 1e-4
    sound[24_000 + 900 : 24_000 + 1400] *= 1e-4
    recording = opened(sound)
    patch = splice(
        recording, 1.0, 1.5, made_of(sound[8000:32_000], 0.5, 0.5), keep_length=True, rng=rng
    )  # fmt: skip
    assert patch.start >= 16_000 - 1200 and patch.start + patch.fade_in <= 16_000 - 700
    assert patch.end - patch.fade_out >= 24_000 + 900 and patch.end <= 24_000 + 1400
    assert patch.fade_in == patch.fade_out == 320


# --- real voices ---


@pytest.mark.parametrize(("before", "after"), [(1.0, 1.8), (0.0, 0.5), (0.03, 0.4), (1.5, 1.5), (2.0, 3.1)])
@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("slt", 16_000, 1), ("slt", 48_000, 2), ("reader-m", 8000, 1), ("reader-m", 44_100, 1)],
)
def test_vocoded_speech_goes_back_unheard(
    voice: Callable[[str], tuple[Samples, Samples]], name: str, rate: int, channels: int, before: float, after: float
) -> None:
    sound, vocoded = voice(name)
    one = io.resample(Audio(sound, 16_000), rate).samples.astype(np.float64)
    recording = opened(one if channels == 1 else np.stack([one, -0.5 * one], axis=1), rate)
    # The model's sound comes at half the level and the recording's must come back.
    made = context(np.float32(0.6 if channels == 1 else 0.25 * 0.6) * vocoded, before, after)
    patch = splice(recording, before, after, made, keep_length=True, rng=generator())
    assert patch.delta == 0 and untouched(recording, patch)
    assert patch.start <= round(before * rate) and patch.end >= round(after * rate)
    assert (patch.fade_in > 0) == (before > 0) and 0 <= patch.fade_in <= round(0.02 * rate) >= patch.fade_out
    original = recording.read(patch.start, patch.end)
    for channel in range(channels):
        assert level(patch.samples[:, channel]) == pytest.approx(level(original[:, channel]), abs=1.0)
    out = render(recording, [patch]).samples.reshape(-1, channels)[:, 0]
    # No click: around the joints the sound bends about as fast as the recording does within a third of a second.
    limit, near, wide = np.abs(np.diff(one, 2)), round(0.012 * rate), round(0.35 * rate)
    for at in (patch.start, patch.start + patch.fade_in, patch.end - patch.fade_out, patch.end):
        if near < at < len(out) - near:
            bend = np.abs(np.diff(out[at - near : at + near], 2)).max()
            assert bend <= 1.1 * limit[max(0, at - wide) : at + wide].max()
    free = splice(recording, before, after, made, keep_length=False, rng=generator())
    assert abs(free.delta) <= 0.017 * rate and untouched(recording, free)


def test_the_colour_is_corrected(voice: Callable[[str], tuple[Samples, Samples]]) -> None:
    sound, _ = voice("slt")
    spectrum = np.fft.rfft(sound)
    # A shelf that takes up to 8 dB from what lies above 1 kHz.
    shelf = 10 ** (-8 / 20 * np.clip(np.log2(np.fft.rfftfreq(len(sound), 1 / 16_000)[1:] / 1000), 0, 1))
    spectrum[1:] *= shelf
    dull = np.fft.irfft(spectrum, len(sound)).astype(np.float32)
    recording = opened(sound.astype(np.float64))
    patch = splice(recording, 1.5, 2.5, context(dull, 1.5, 2.5), keep_length=True, rng=generator())
    inner = slice(24_000, 40_000)
    done = patch.samples[inner.start - patch.start : inner.stop - patch.start, 0]
    for low, high in ((300, 900), (2500, 4000), (4000, 7000)):
        wanted = band(sound[inner], 16_000, low, high)
        assert band(done, 16_000, low, high) == pytest.approx(wanted, abs=2.5)
    assert band(dull[inner], 16_000, 4000, 7000) < band(sound[inner], 16_000, 4000, 7000) - 7


def test_channels_stay_as_they_were(voice: Callable[[str], tuple[Samples, Samples]]) -> None:
    sound, vocoded = voice("slt")
    one = sound.astype(np.float64)
    for factors in ([1.0, 1.0], [1.0, -0.4], [0.0, 1.0], [0.9, 0.3, 0.0, -0.2], [1.0, -1.0]):
        recording = opened(np.outer(one, factors))
        mono = recording.mono(0, recording.length, 16_000).samples
        scale = float(mono @ sound / (sound @ sound))
        assert abs(scale) > 0.05
        made = context(np.float32(scale) * vocoded, 1.5, 2.3)
        patch = splice(recording, 1.5, 2.3, made, keep_length=True, rng=generator())
        loudest = int(np.argmax(np.abs(factors)))
        for channel, factor in enumerate(factors):
            got = patch.samples[:, channel]
            if factor == 0:
                assert not got.any()
            else:
                # Each channel gains its level, polarity and nothing that the others lack.
                expected = patch.samples[:, loudest] * (factor / factors[loudest])
                assert level(got - expected) < level(expected) - 30
    equal = splice(opened(np.stack([one, one], 1)), 1.5, 2.3, context(vocoded, 1.5, 2.3), keep_length=True,
                   rng=generator())  # fmt: skip
    np.testing.assert_array_equal(equal.samples[:, 0], equal.samples[:, 1])


def test_mix_does_not_cancel_channels_of_opposite_polarity() -> None:
    one = generator().standard_normal(1000).astype(np.float32)
    np.testing.assert_allclose(mix(np.stack([one, -one], 1)), one, atol=1e-6)
    np.testing.assert_allclose(mix(np.stack([one, -0.5 * one], 1)), 0.25 * one, atol=1e-6)
    np.testing.assert_array_equal(mix(np.zeros((5, 2), np.float32)), np.zeros(5))
    assert mix(np.zeros((0, 3), np.float32)).shape == (0,)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_sound_above_8_khz_comes_from_the_recording(
    voice: Callable[[str], tuple[Samples, Samples]], rate: int
) -> None:  # fmt: skip
    sound, vocoded = voice("slt")
    one = io.resample(Audio(sound, 16_000), rate).samples.astype(np.float64)
    # Hiss above 8.3 kHz that follows the loudness of the speech, over a steady one.
    spectrum = np.fft.rfft(generator(1).standard_normal(len(one)))
    spectrum[np.fft.rfftfreq(len(one), 1 / rate) < 8300] = 0
    loudness = np.convolve(np.abs(one), np.ones(rate // 50) / (rate // 50), "same")
    bright = one + np.fft.irfft(spectrum, len(one)) * (0.2 * loudness + 1e-4)
    made = context(vocoded, 1.5, 2.5)
    for recorded, missing in ((bright, False), (one, True)):
        recording = opened(recorded, rate)
        patch = splice(recording, 1.5, 2.5, made, keep_length=True, rng=generator())
        inner = slice(patch.fade_in, len(patch.samples) - patch.fade_out)
        got = band(patch.samples[inner, 0], rate, 8400, rate / 2)
        wanted = band(recorded[patch.start : patch.end][inner], rate, 8400, rate / 2)
        if missing:
            assert got < level(one) - 55
        else:
            assert got == pytest.approx(wanted, abs=3.0)


def test_room_tone_is_put_where_it_lacks_and_never_more() -> None:
    rng = generator()
    tone = np.convolve(rng.standard_normal(80_000), [0.5, 1.0, 0.5], "same")
    speech = np.zeros(80_000)
    bursts = np.concatenate([np.arange(at, at + 4000) for at in range(2000, 78_000, 9000)])
    speech[bursts] = 0.2 * np.sin(0.1 * bursts)
    recording = opened(speech + 1e-3 * tone)
    clean = speech[24_000:56_000]
    patch = splice(recording, 2.0, 3.0, made_of(clean, 0.5, 0.5), keep_length=True, rng=rng)
    middle = slice(34_000, 37_500)
    assert not speech[middle].any()
    got = patch.samples[middle.start - patch.start : middle.stop - patch.start, 0]
    for low, high in ((500, 1500), (1500, 4000)):
        wanted = band(1e-3 * tone[middle], 16_000, low, high)
        assert wanted - 4 < band(got, 16_000, low, high) < wanted + 1
    full = splice(recording, 2.0, 3.0, made_of((speech + 1e-3 * tone)[24_000:56_000], 0.5, 0.5), keep_length=True,
                  rng=rng)  # fmt: skip
    again = full.samples[middle.start - full.start : middle.stop - full.start, 0]
    assert level(again) == pytest.approx(level(1e-3 * tone[middle]), abs=0.5)


def test_the_same_seed_gives_the_same_patch(voice: Callable[[str], tuple[Samples, Samples]]) -> None:
    sound, vocoded = voice("reader-m")
    bright = io.resample(Audio(sound, 16_000), 32_000).samples + 1e-3 * generator().standard_normal(2 * len(sound))
    recording = opened(bright, 32_000)
    made = context(vocoded, 1.0, 1.5)
    one, again, other = (splice(recording, 1.0, 1.5, made, keep_length=True, rng=generator(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.samples, again.samples)
    assert not np.array_equal(one.samples, other.samples)


# --- what may be missing ---


@pytest.mark.parametrize("rate", [8000, 22_050])
@pytest.mark.parametrize(("lead", "tail"), [(0, 0), (0, 0.3), (0.3, 0), (0.001, 0.004), (0.006, 0.012), (0.03, 0.5)])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("new", [0.0, 0.003, 0.4])
def test_short_contexts(rate: int, lead: float, tail: float, keep: bool, new: float) -> None:
    rng = generator()
    recording = opened(0.1 * rng.standard_normal((rate, 2)), rate)
    sound = 0.1 * rng.standard_normal(round((lead + new + tail) * 16_000))
    for before, after in ((0.4, 0.6), (0.5, 0.5), (0.0, 0.2), (0.7, 1.0), (0.0, 1.0), (1.0, 1.0)):
        made = made_of(sound, lead, tail)
        patch = splice(recording, before, after, made, keep_length=keep, rng=rng)
        assert untouched(recording, patch) and np.isfinite(patch.samples).all()
        assert patch.start <= round(before * rate) and patch.end >= round(after * rate)
        if keep and new > 0:
            assert patch.delta == 0
        if before == 0:
            assert patch.start == 0 and patch.fade_in == 0
        if after == 1:
            assert patch.end == rate and patch.fade_out == 0


def test_silence_offsets_and_loud_sound() -> None:
    zero = opened(np.zeros((32_000, 2)))
    patch = splice(zero, 0.5, 1.0, made_of(np.zeros(24_000), 0.5, 0.5), keep_length=True, rng=generator())
    assert not patch.samples.any() and patch.delta == 0
    rng = generator()
    sound = 0.05 * rng.standard_normal(32_000)
    offset = opened(np.stack([sound + 0.2, sound - 0.1], 1))
    made = made_of(0.05 * rng.standard_normal(24_000), 0.5, 0.5)
    patch = splice(offset, 0.5, 1.0, made, keep_length=True, rng=rng)
    np.testing.assert_allclose(patch.samples.mean(axis=0), [0.2, -0.1], atol=0.01)
    square = np.sign(rng.standard_normal(24_000))
    loud = splice(opened(sound), 0.5, 1.0, made_of(square, 0.5, 0.5), keep_length=True, rng=rng)
    assert np.abs(loud.samples).max() <= 1.0
    nothing = splice(opened(sound), 0.5, 1.0, made_of(np.zeros(24_000), 0.5, 0.5), keep_length=True, rng=rng)
    assert np.isfinite(nothing.samples).all()


def test_wrong_times_are_refused() -> None:
    recording = opened(np.zeros(16_000))
    for before, after in ((0.5, 1.2), (-0.1, 0.5), (0.6, 0.5)):
        with pytest.raises(ValueError, match="inside"):
            splice(recording, before, after, made_of(np.zeros(16_000), 0.2, 0.2), keep_length=True, rng=generator())
        with pytest.raises(ValueError, match="inside"):
            join_cut(recording, before, after)
    with pytest.raises(ValueError, match="cannot hold"):
        splice(recording, 0.4, 0.6, made_of(np.zeros(1600), 0.2, 0.2), keep_length=True, rng=generator())


# --- cuts ---


def test_a_cut_of_a_sine_stays_in_phase() -> None:
    turn = 2 * np.pi * 200 / 16_000
    recording = opened(0.3 * np.sin(turn * np.arange(48_000)))
    for after in (1.5, 1.501, 1.5025, 1.504):
        patch = join_cut(recording, 1.0, after)
        assert untouched(recording, patch) and patch.fade_in == len(patch.samples) > 0 == patch.fade_out
        assert abs(-patch.delta - (after - 1.0) * 16_000) <= 0.038 * 16_000
        sound = render(recording, [patch]).samples.astype(np.float64)
        assert np.abs(sound[2:] + sound[:-2] - 2 * np.cos(turn) * sound[1:-1]).max() < 0.3 * 0.003


def test_a_cut_in_silence_keeps_the_power_and_its_place() -> None:
    power = []
    for seed in range(30):
        recording = opened(1e-3 * generator(seed).standard_normal((32_000, 2)))
        patch = join_cut(recording, 0.5, 1.25)
        assert untouched(recording, patch)
        assert abs(patch.delta + 12_000) <= 0.03 * 16_000 + 1
        power.append(level(patch.samples))
    assert np.mean(power) == pytest.approx(-60, abs=0.5)


def test_cuts_at_the_ends_and_of_nothing() -> None:
    recording = opened(0.1 * generator().standard_normal(16_000))
    for before, after in ((0.0, 0.4), (0.7, 1.0), (0.5, 0.5), (0.0, 1.0)):
        patch = join_cut(recording, before, after)
        assert untouched(recording, patch) and patch.delta == -round((after - before) * 16_000)
    for before, after in ((0.001, 0.4), (0.5, 0.501), (0.5, 0.9995), (0.5, 0.51)):
        patch = join_cut(recording, before, after)
        assert untouched(recording, patch) and patch.delta <= 0
