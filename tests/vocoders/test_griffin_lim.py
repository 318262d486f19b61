"""Griffin-Lim and the inversion of the mel filterbank."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flowtts.audio.mel import LogMel, mel_filterbank
from flowtts.types import VOCOS_MEL, VOICEBOX_MEL, MelSpec, Vocoder
from flowtts.vocoders.griffin_lim import GriffinLim, invert_mel

SMALL = MelSpec(sample_rate=8000, n_fft=256, win_length=160, hop_length=40, n_mels=40, f_max=4000.0)


def _voice(spec: MelSpec, hops: int) -> Tensor:
    """(1, hops * hop) a gliding harmonic sound with a little noise."""
    time = torch.arange(hops * spec.hop_length) / spec.sample_rate
    phase = 2 * math.pi * (150 * time + 40 * time.square())
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    sound = sum(torch.sin(k * phase) / k for k in range(1, 8))
    assert isinstance(sound, Tensor)
    return (0.15 * sound + 0.003 * noise)[None]


def _distance(spec: MelSpec, a: Tensor, b: Tensor) -> float:
    mel = LogMel(spec)
    return float((mel(a) - mel(b)).abs().mean())


@pytest.mark.parametrize(
    "spec", [SMALL, VOICEBOX_MEL, VOCOS_MEL, replace(SMALL, n_fft=160, hop_length=50, center=True)]
)
@pytest.mark.parametrize("frames", [1, 2, 17])
def test_length_is_frames_times_hop(spec: MelSpec, frames: int) -> None:
    vocoder = GriffinLim(spec, iterations=2)
    made = vocoder.decode(torch.randn(2, frames, spec.n_mels, generator=torch.Generator().manual_seed(0)))
    assert made.shape == (2, frames * spec.hop_length)
    assert made.isfinite().all() and made.abs().max() <= 1


def test_is_a_vocoder_and_takes_no_frames() -> None:
    vocoder = GriffinLim(SMALL)
    assert isinstance(vocoder, Vocoder) and vocoder.spec is SMALL
    assert vocoder.decode(torch.zeros(3, 0, 40)).shape == (3, 0)


def test_more_iterations_fit_the_mel_better() -> None:
    real = _voice(SMALL, 60)
    features = LogMel(SMALL)(real)
    distances = [_distance(SMALL, GriffinLim(SMALL, iterations=n).decode(features), real) for n in (0, 4, 60)]
    assert distances[2] < 0.7 * distances[1] < 0.7 * distances[0]
    plain = _distance(SMALL, GriffinLim(SMALL, iterations=30, momentum=0.0).decode(features), real)
    assert _distance(SMALL, GriffinLim(SMALL, iterations=30).decode(features), real) < plain


@pytest.mark.parametrize("spec", [VOICEBOX_MEL, VOCOS_MEL])
def test_pitch_survives(spec: MelSpec) -> None:
    time = torch.arange(spec.hop_length * 40) / spec.sample_rate
    made = GriffinLim(spec, iterations=20).decode(LogMel(spec)(0.5 * torch.sin(2 * math.pi * 440 * time))[:, :40])
    spectrum = torch.fft.rfft(made[0] * torch.hann_window(made.shape[1])).abs()
    assert abs(float(spectrum.argmax()) * spec.sample_rate / made.shape[1] - 440) < 5


def test_silence_stays_silence() -> None:
    features = LogMel(VOICEBOX_MEL)(torch.zeros(8000))
    assert GriffinLim(iterations=8).decode(features).abs().max() < 1e-3


def test_polishing_the_recording_itself_keeps_it() -> None:
    """Its phases are already consistent, so nothing but what the mel has lost can change."""
    real = _voice(SMALL, 60)
    features = LogMel(SMALL)(real)
    kept = GriffinLim(SMALL, iterations=8).polish(features, real)
    made = GriffinLim(SMALL, iterations=8).decode(features)
    assert kept.shape == real.shape

    def likeness(x: Tensor) -> float:
        return float((x * real).sum() / (x.norm() * real.norm()))

    assert likeness(kept) > 0.95 > likeness(made)


def test_same_seed_same_samples_and_another_seed_others() -> None:
    features = LogMel(SMALL)(_voice(SMALL, 20))
    first, again = (GriffinLim(SMALL, iterations=4, seed=1).decode(features) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, GriffinLim(SMALL, iterations=4, seed=2).decode(features))


def test_items_of_a_batch_do_not_meet() -> None:
    features = LogMel(SMALL)(torch.cat([_voice(SMALL, 20), 0.1 * _voice(SMALL, 20).flip(-1)]))
    vocoder = GriffinLim(SMALL, iterations=4)
    assert torch.allclose(vocoder.decode(features)[:1], vocoder.decode(features[:1]), atol=1e-5)


@pytest.mark.parametrize("spec", [SMALL, VOICEBOX_MEL, VOCOS_MEL])
def test_inverse_is_non_negative_solves_and_improves(spec: MelSpec) -> None:
    bank = mel_filterbank(spec)
    truth = torch.rand(1, 5, len(bank), generator=torch.Generator().manual_seed(0)).square()
    mel = truth @ bank
    errors = []
    for iterations in (0, 10, 100):
        solution = invert_mel(mel, bank, iterations)
        assert solution.min() >= 0 and solution.isfinite().all()
        errors.append(float((solution @ bank - mel).norm() / mel.norm()))
    assert errors[2] <= errors[1] <= errors[0] + 1e-6 and errors[2] < 0.02


def test_uncovered_bins_are_zero() -> None:
    spec = replace(SMALL, f_min=1000.0, f_max=2000.0, n_mels=8)
    bank = mel_filterbank(spec)
    solution = invert_mel(torch.ones(1, 1, 8), bank)
    assert (solution[0, 0][bank.sum(dim=1) == 0] == 0).all()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="iterations"):
        GriffinLim(SMALL, iterations=-1)
    with pytest.raises(ValueError, match="momentum"):
        GriffinLim(SMALL, momentum=1.0)
    with pytest.raises(ValueError, match=r"\(B, T, 40\)"):
        GriffinLim(SMALL).decode(torch.zeros(1, 5, 80))
    with pytest.raises(ValueError, match=r"\(B, 200\) samples"):
        GriffinLim(SMALL).polish(torch.zeros(1, 5, 40), torch.zeros(1, 199))


def test_powers_are_taken_for_powers() -> None:
    time = torch.arange(4000) / SMALL.sample_rate
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * time)[None]
    made = [GriffinLim(spec).decode(LogMel(spec)(tone)) for spec in (SMALL, replace(SMALL, power=2.0))]
    levels = [float(sound[:, 500:-500].std()) for sound in (tone, *made)]
    assert abs(levels[1] / levels[0] - 1) < 0.2 and abs(levels[2] / levels[0] - 1) < 0.2
