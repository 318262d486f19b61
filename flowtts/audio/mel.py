"""Log-mel spectrograms: one definition, given by ``MelSpec``, for every model and vocoder.

Voicebox's (arXiv 2306.15687, section 5) is the magnitude STFT of HiFi-GAN (arXiv 2010.05646): reflect padding by
(n_fft - hop) / 2 without centring, Slaney mel bands, a floor, the natural logarithm, and a global mean and deviation.
Vocos' (arXiv 2306.00814) is torchaudio's default: centred frames, HTK bands of unit height.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flowtts.types import MelSpec

_BREAK_HZ = 1000.0
_BREAK_MEL = 15.0
_LINEAR_HZ = 200.0 / 3
_LOG_STEP = math.log(6.4) / 27


def hz_to_mel(hz: Tensor, scale: str) -> Tensor:
    """Hz to mel: "htk" 2595 lg(1 + f/700); "slaney" linear below 1 kHz and logarithmic above (Auditory Toolbox)."""
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + hz / 700.0)
    above = _BREAK_MEL + torch.log(hz.clamp(min=_BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return torch.where(hz < _BREAK_HZ, hz / _LINEAR_HZ, above)


def mel_to_hz(mel: Tensor, scale: str) -> Tensor:
    """The inverse of ``hz_to_mel``."""
    if scale == "htk":
        return 700.0 * (torch.pow(10.0, mel / 2595.0) - 1.0)
    above = _BREAK_HZ * torch.exp(_LOG_STEP * (mel - _BREAK_MEL).clamp(min=0.0))
    return torch.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, above)


def mel_edges(spec: MelSpec) -> Tensor:
    """(n_mels + 2,) float64 Hz: band m rises from edge m, peaks at m + 1 and ends at m + 2."""
    limits = hz_to_mel(torch.tensor([spec.f_min, spec.f_max], dtype=torch.float64), spec.scale)
    mels = torch.linspace(float(limits[0]), float(limits[1]), spec.n_mels + 2, dtype=torch.float64)
    return mel_to_hz(mels, spec.scale)


def mel_filterbank(spec: MelSpec) -> Tensor:
    """Triangular bands over the bins of the FFT.

    Returns:
        (n_fft // 2 + 1, n_mels) float32; unit peaks, or unit area in Hz (times two, as librosa does) for norm "slaney".
    """
    bins = torch.linspace(0.0, spec.sample_rate / 2, spec.n_fft // 2 + 1, dtype=torch.float64)[:, None]
    edges = mel_edges(spec)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bank = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp(min=0.0)
    if spec.norm == "slaney":
        bank = bank * (2.0 / (high - low))
    return bank.float()


def frames(spec: MelSpec, samples: int) -> int:
    """How many frames ``LogMel`` makes of that many samples."""
    return samples // spec.hop_length + (1 if spec.center else 0)


def reflect(samples: Tensor, left: int, right: int) -> Tensor:
    """(B, N) -> (B, left + N + right), mirrored without repeating the edges, as often as a short signal needs."""
    n = samples.shape[-1]
    if n == 0:
        return samples.new_zeros(samples.shape[0], left + right)
    if n > max(left, right):
        return torch.nn.functional.pad(samples, (left, right), mode="reflect")
    period = max(2 * (n - 1), 1)
    index = torch.arange(-left, n + right, device=samples.device) % period
    return samples[:, torch.where(index < n, index, period - index)]


class LogMel(nn.Module):
    """Samples to normalised log-mel frames, as a ``MelSpec`` says.

    Computes in float32 under autocast, since a magnitude of 1e-5 does not survive bfloat16 sums. Differentiable.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, spec: MelSpec) -> None:
        """Tables are buffers, so that ``.to(device)`` moves them; they are not part of a state dict."""
        super().__init__()
        self.spec = spec
        self.register_buffer("window", torch.hann_window(spec.win_length), persistent=False)
        self.register_buffer("filterbank", mel_filterbank(spec), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """(B, N) or (N,) samples -> (B, T, C), T = N // hop_length (one more if the spec is centred).

        Samples after the last whole frame count only as the last frames' right context. A signal too short for the
        padding is mirrored repeatedly; one shorter than a hop gives no frame unless the spec is centred.

        Raises:
            ValueError: the samples are neither one- nor two-dimensional.
        """
        if samples.ndim not in (1, 2):
            raise ValueError(f"LogMel needs (N,) or (B, N) samples, not {tuple(samples.shape)}")
        magnitude = self.magnitude(samples if samples.ndim == 2 else samples[None])
        with torch.autocast(samples.device.type, enabled=False):
            mel = (magnitude if self.spec.power == 1.0 else magnitude.square()) @ self.filterbank
            return (mel.clamp(min=self.spec.floor).log() - self.spec.mean) / self.spec.std

    def magnitude(self, samples: Tensor) -> Tensor:
        """(B, N) samples -> (B, T, n_fft // 2 + 1) STFT magnitudes on the spec's frames."""
        spec = self.spec
        count = frames(spec, samples.shape[-1])
        if count == 0:
            return self.window.new_zeros(samples.shape[0], 0, spec.n_fft // 2 + 1)
        total = spec.n_fft if spec.center else spec.n_fft - spec.hop_length
        padded = reflect(samples.to(self.window.dtype), total // 2, total - total // 2)
        with torch.autocast(samples.device.type, enabled=False):
            stft = torch.stft(
                padded, spec.n_fft, spec.hop_length, spec.win_length, self.window, center=False, return_complex=True
            )
        return stft.abs().transpose(1, 2)[:, :count]

    def denormalise(self, features: Tensor) -> Tensor:
        """Normalised features (…, C) -> natural logarithm of mel magnitudes (powers, if the spec says)."""
        return features * self.spec.std + self.spec.mean
