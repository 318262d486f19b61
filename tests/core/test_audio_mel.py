"""Log-mels: frame counts, closed forms, and parity with the packages whose definitions they follow."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from flowtts.audio.mel import LogMel, frames, hz_to_mel, mel_edges, mel_filterbank, mel_to_hz, reflect
from flowtts.compat import require
from flowtts.types import VOCOS_MEL, VOICEBOX_MEL, MelSpec


def _sine(hz: float, seconds: float, rate: int) -> torch.Tensor:
    return torch.sin(2 * math.pi * hz * torch.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize("samples", [0, 1, 2, 159, 160, 161, 320, 432, 433, 864, 865, 1024, 16_000, 16_159])
def test_voicebox_frames_are_exactly_samples_over_hop(samples: int) -> None:
    noise = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(1))
    features = LogMel(VOICEBOX_MEL)(noise)
    assert features.shape == (2, samples // 160, 80)
    assert frames(VOICEBOX_MEL, samples) == samples // 160
    assert features.isfinite().all()


@pytest.mark.parametrize("samples", [0, 1, 255, 256, 512, 513, 24_000])
def test_centred_frames(samples: int) -> None:
    assert LogMel(VOCOS_MEL)(torch.zeros(samples)).shape == (1, samples // 256 + 1, 100)
    assert frames(VOCOS_MEL, samples) == samples // 256 + 1


def test_published_global_mean_and_deviation() -> None:
    silence = LogMel(VOICEBOX_MEL)(torch.zeros(1600))
    assert torch.allclose(silence, torch.tensor((math.log(1e-5) + 5.8843) / 2.2615))


def test_denormalise_inverts() -> None:
    mel, plain = LogMel(VOICEBOX_MEL), LogMel(replace(VOICEBOX_MEL, mean=0.0, std=1.0))
    noise = torch.randn(1, 8000, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(mel.denormalise(mel(noise)), plain(noise), atol=1e-5)


def test_stft_by_hand() -> None:
    """Frame 30 from the definition: 1024 samples about its centre, a 640-sample Hann window in their middle."""
    spec = replace(VOICEBOX_MEL, mean=0.0, std=1.0)
    noise = torch.randn(16_000, generator=torch.Generator().manual_seed(3)).double()
    first = 30 * 160 - (1024 - 160) // 2
    window = torch.zeros(1024).double()
    window[192:832] = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(640).double() / 640)
    magnitude = torch.fft.rfft(noise[first : first + 1024] * window).abs()
    expected = (magnitude @ mel_filterbank(spec).double()).clamp(min=1e-5).log()
    assert torch.allclose(LogMel(spec)(noise.float())[0, 30].double(), expected, atol=1e-4)


@pytest.mark.parametrize("spec", [VOICEBOX_MEL, VOCOS_MEL])
@pytest.mark.parametrize("hz", [220.0, 1000.0, 3150.0, 7000.0])
def test_sine_lands_in_its_band(spec: MelSpec, hz: float) -> None:
    features = LogMel(spec)(0.5 * _sine(hz, 0.5, spec.sample_rate))[0]
    loudest = int(features[5:-5].mean(dim=0).argmax())
    edges = mel_edges(spec)
    assert edges[loudest] < hz < edges[loudest + 2]


def test_amplitude_is_a_shift_of_the_logarithm() -> None:
    mel = LogMel(VOICEBOX_MEL)
    noise = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(4))
    assert torch.allclose(mel(2 * noise) - mel(noise), torch.tensor(math.log(2) / 2.2615), atol=1e-4)


def test_delay_by_a_hop_is_a_delay_by_a_frame() -> None:
    mel = LogMel(VOICEBOX_MEL)
    noise = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(5))
    assert torch.allclose(mel(noise)[0, 6:-6], mel(noise[160:])[0, 5:-6], atol=1e-3)


def test_powers_in_place_of_amplitudes() -> None:
    """A pure tone's energy lies in few bins: doubling it is four times the power, and the bands are of squares."""
    spec = replace(VOICEBOX_MEL, mean=0.0, std=1.0, power=2.0)
    noise = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(9))
    mel = LogMel(spec)
    assert torch.allclose(mel(2 * noise) - mel(noise), torch.tensor(math.log(4)), atol=1e-4)
    squares = mel.magnitude(noise) ** 2 @ mel_filterbank(spec)
    assert torch.allclose(mel(noise), squares.clamp(min=spec.floor).log(), atol=1e-5)
    with pytest.raises(ValueError, match="power of 1 or 2"):
        replace(spec, power=3.0)


def test_powers_equal_torchaudio() -> None:
    transforms = require("torchaudio.transforms", "")
    spec = MelSpec(
        sample_rate=22_050,
        n_fft=1024,
        win_length=1024,
        hop_length=256,
        f_max=8000.0,
        scale="htk",
        center=True,
        power=2.0,
    )
    theirs = transforms.MelSpectrogram(
        sample_rate=22_050, n_fft=1024, hop_length=256, win_length=1024, power=2, f_min=0, f_max=8000, n_mels=80,
        norm="slaney",
    )  # fmt: skip
    noise = 0.1 * torch.randn(2, 12_000, generator=torch.Generator().manual_seed(10))
    expected = theirs(noise).clamp(min=1e-5).log().transpose(1, 2)
    assert torch.allclose(LogMel(spec)(noise), expected, atol=1e-4)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_scales_invert(scale: str) -> None:
    hz = torch.tensor([0.0, 60.0, 999.0, 1000.0, 4000.0, 12_000.0], dtype=torch.float64)
    assert torch.allclose(mel_to_hz(hz_to_mel(hz, scale), scale), hz, atol=1e-6)


def test_mel_scale_landmarks() -> None:
    hz = torch.tensor([1000.0, 6400.0], dtype=torch.float64)
    assert torch.allclose(hz_to_mel(hz, "slaney"), torch.tensor([15.0, 42.0], dtype=torch.float64))
    assert float(hz_to_mel(hz, "htk")[0]) == pytest.approx(999.9855, abs=1e-3)


def test_filterbank_areas_and_peaks() -> None:
    spec = replace(VOICEBOX_MEL, n_fft=16_384, win_length=640)
    areas = mel_filterbank(spec).sum(dim=0) * spec.sample_rate / spec.n_fft
    assert torch.allclose(areas, torch.ones(80), atol=2e-3)
    peaks = mel_filterbank(replace(spec, norm="none")).amax(dim=0)
    assert peaks.max() <= 1 and peaks.min() > 0.95


def test_filterbank_equals_torchaudio() -> None:
    functional = require("torchaudio.functional", "")
    for spec in (VOICEBOX_MEL, VOCOS_MEL, replace(VOICEBOX_MEL, f_min=40.0, f_max=7600.0)):
        theirs = functional.melscale_fbanks(
            spec.n_fft // 2 + 1, spec.f_min, spec.f_max, spec.n_mels, spec.sample_rate,
            None if spec.norm == "none" else spec.norm, spec.scale,
        )  # fmt: skip
        assert torch.allclose(mel_filterbank(spec), theirs, atol=1e-5)


def test_equals_vocos_own_features() -> None:
    theirs = require("vocos.feature_extractors", "").MelSpectrogramFeatures()
    noise = 0.1 * torch.randn(2, 24_000, generator=torch.Generator().manual_seed(6))
    assert torch.allclose(LogMel(VOCOS_MEL)(noise), theirs(noise).transpose(1, 2), atol=2e-5)


def test_reflect_equals_torch_where_torch_can_and_goes_on_where_not() -> None:
    ramp = torch.arange(6.0)[None]
    assert torch.equal(reflect(ramp, 4, 3), torch.nn.functional.pad(ramp, (4, 3), mode="reflect"))
    assert reflect(torch.tensor([[0.0, 1.0, 2.0]]), 5, 4)[0].tolist() == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    assert reflect(torch.tensor([[7.0]]), 2, 1)[0].tolist() == [7, 7, 7, 7]


def test_gradient_reaches_the_samples() -> None:
    noise = (0.1 * torch.randn(1600, generator=torch.Generator().manual_seed(7))).requires_grad_()
    LogMel(VOICEBOX_MEL)(noise).sum().backward()
    assert noise.grad is not None and noise.grad.isfinite().all() and noise.grad.abs().sum() > 0


def test_autocast_does_not_cost_precision() -> None:
    noise = 0.1 * torch.randn(3200, generator=torch.Generator().manual_seed(8))
    mel = LogMel(VOICEBOX_MEL)
    with torch.autocast("cpu", torch.bfloat16):
        inside = mel(noise)
    assert inside.dtype == torch.float32 and torch.equal(inside, mel(noise))


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N,\) or \(B, N\)"):
        LogMel(VOICEBOX_MEL)(torch.zeros(1, 1, 1600))


def test_state_dict_is_empty() -> None:
    assert not LogMel(VOICEBOX_MEL).state_dict()
